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

-- Runs in each thread. All requests are built here, so that a request costs at most a table
-- look-up. A single request is set as wrk's constant, so that wrk never calls `request`.
function init(args)
   local flags = parse(args)
   wrk.method = "PATCH"
   wrk.headers["Content-Type"] = "application/json"
   if flags.first_user == flags.last_user and #flags.amounts == 1 then
      wrk.body = body(flags.first_user, flags.amounts[1])
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
   math.randomseed(seed)
   return function()
      turn = turn % amounts + 1
      return requests[(turn - 1) * users + random(users)]
   end
end
