-- The request of the load tests, for wrk: one change of one balance.
--
--   wrk -t12 -c10000 -d10m -s loadtest/patch_request.lua \
--       http://127.0.0.1:3000/approach/self/balance
--   wrk -t12 -c10000 -d10m -s loadtest/patch_request.lua \
--       http://127.0.0.1:3000/approach/transaction-pessimistic-locking/balance
--
-- By default it sends {"userId": 1, "amount": -2}. Words after `--` change that:
--
--   user=7          another user
--   user=1-100000   one of these users, at random, for each request
--   zipf=1.0        the second user half as often as the first, the third a third as often, and so
--                   on (the exponent is 1.0); not for more than 200,000 users
--   amount=5        another amount
--   amount=1,-2     these amounts in turn
--   statuses        count the answers by status; slows wrk down, because it then passes every
--                   answer to this script
--   json            end with one line of JSON, for a program
--
--   wrk -t2 -c256 -d10s -s loadtest/patch_request.lua \
--       http://127.0.0.1:3000/approach/self/balance -- user=1-100 amount=1,-2 statuses
--
-- wrk's figures include refusals (400) like any other answer, and its line "Non-2xx or 3xx
-- responses" counts them. At 10,000 connections on one slow row, give wrk `--timeout 30s`: slower
-- answers only count as a "timeout". The default is 2 s.

-- Defines `setup` and `done`.
dofile((debug.getinfo(1, "S").source:match("^@(.*/)") or "./") .. "wrk_report.lua")

-- With more users than these, a request is put together when it is sent: tables of millions of
-- requests do not fit into LuaJIT's memory.
local USERS_IN_TABLES = 200000
-- How many requests are drawn in advance where users are not equally likely.
local DRAWN = 500000

-- Runs in each thread. All requests are built here, so that a request costs at most a table
-- look-up. A single request is set as wrk's constant, so that wrk never calls `request`.
function init(args)
   local flags = parse(args)
   wrk.method = "PATCH"
   wrk.headers["Content-Type"] = "application/json"
   math.randomseed(seed)
   if flags.first_user == flags.last_user and #flags.amounts == 1 then
      wrk.body = body(flags.first_user, flags.amounts[1])
   elseif flags.last_user - flags.first_user >= USERS_IN_TABLES then
      request = put_together(flags)
   elseif flags.zipf then
      request = drawn(flags)
   else
      request = one_of(all_requests(flags), flags)
   end
   if flags.statuses then
      count_statuses()
   end
   -- wrk calls `done` outside of the threads, where it can only read a thread's globals.
   as_json = flags.json or false
end

function parse(args)
   local flags = { first_user = 1, last_user = 1, amounts = { "-2" } }
   for _, word in ipairs(args) do
      local name, value = word:match("^(%l+)=?(.*)$")
      if name == "user" and value:match("^%d+$") then
         flags.first_user, flags.last_user = tonumber(value), tonumber(value)
      elseif name == "user" and value:match("^%d+%-%d+$") then
         local first, last = value:match("^(%d+)%-(%d+)$")
         flags.first_user, flags.last_user = tonumber(first), tonumber(last)
      elseif name == "amount" and value:match("^[%d,-]+$") then
         flags.amounts = {}
         for amount in value:gmatch("[^,]+") do
            flags.amounts[#flags.amounts + 1] = amount
         end
      elseif name == "zipf" and tonumber(value) then
         flags.zipf = tonumber(value)
      elseif word == "statuses" or word == "json" then
         flags[word] = true
      else
         -- After an error raised in here, wrk would continue with another request.
         io.stderr:write(("patch_request.lua does not know %q\n"):format(word))
         os.exit(2)
      end
   end
   return flags
end

function body(user, amount)
   return ('{"userId": %d, "amount": %s}'):format(user, amount)
end

-- Every user with the first amount, then every user with the second, and so on.
function all_requests(flags)
   local requests = {}
   for _, amount in ipairs(flags.amounts) do
      for user = flags.first_user, flags.last_user do
         requests[#requests + 1] = wrk.format(nil, nil, nil, body(user, amount))
      end
   end
   return requests
end

function one_of(requests, flags)
   local users, amounts = flags.last_user - flags.first_user + 1, #flags.amounts
   local random, turn = math.random, 0
   return function()
      turn = turn % amounts + 1
      return requests[(turn - 1) * users + random(users)]
   end
end

-- Requests of one amount, drawn in advance by Zipf's law.
function drawn(flags)
   local users = flags.last_user - flags.first_user + 1
   local up_to, sum = {}, 0
   for rank = 1, users do
      sum = sum + rank ^ -flags.zipf
      up_to[rank] = sum
   end
   local of_user, picks = {}, {}
   for number = 1, DRAWN do
      local rank = first_at_least(up_to, math.random() * sum)
      of_user[rank] = of_user[rank]
         or wrk.format(nil, nil, nil, body(flags.first_user + rank - 1, flags.amounts[1]))
      picks[number] = of_user[rank]
   end
   local random = math.random
   return function()
      return picks[random(DRAWN)]
   end
end

-- The place of the first number in an ascending list that is not below the wanted one.
function first_at_least(list, wanted)
   local low, high = 1, #list
   while low < high do
      local middle = math.floor((low + high) / 2)
      if list[middle] < wanted then
         low = middle + 1
      else
         high = middle
      end
   end
   return low
end

-- JSON may have spaces before a number, so the length is the same for every user.
function put_together(flags)
   local digits = "%" .. #tostring(flags.last_user) .. "d"
   local mark = ("#"):rep(#tostring(flags.last_user))
   local whole = wrk.format(nil, nil, nil, ('{"userId": %s, "amount": %s}'):format(mark, flags.amounts[1]))
   local at = whole:find(mark, 1, true)
   local head, tail = whole:sub(1, at - 1), whole:sub(at + #mark)
   local random, format = math.random, string.format
   return function()
      return head .. format(digits, random(flags.first_user, flags.last_user)) .. tail
   end
end
