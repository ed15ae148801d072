-- Requests for wrk beyond the change of one balance. The first word after `--` says which:
--
--   bulk      items=1000 user=1 amount=-2    POST /changes, each change decided for itself
--   transfer  from=1-99999 to=100000         POST /transfers
--   reserve   user=1-100000                  a hold, and then its capture
--   moment    user=1 first=… last=…          GET …/balance?at=, between these seconds since 1970
--
-- A range such as 1-100000 is one of these users, at random. Further words are those of
-- patch_request.lua: `statuses`, `json`. Of bulks, `statuses` also counts those in which a change
-- was refused, as "refused".
--
--   wrk -t2 -c256 -d10s -s loadtest/operation_request.lua http://127.0.0.1:3000 -- \
--       transfer from=1-99999 to=100000

-- Defines `setup` and `done`.
dofile((debug.getinfo(1, "S").source:match("^@(.*/)") or "./") .. "wrk_report.lua")

-- How many different requests are built. All are built in advance, so that a request costs at most
-- a table look-up.
local VARIETY = { bulk = 200, transfer = 200000, reserve = 100000, moment = 10000 }

function init(args)
   local flags = parse(args)
   math.randomseed(seed)
   wrk.method = "POST"
   wrk.headers["Content-Type"] = "application/json"
   local requests = {}
   for number = 1, VARIETY[flags.kind] do
      requests[number] = build[flags.kind](flags)
   end
   local random, variety = math.random, #requests
   request = function()
      return requests[random(variety)]
   end
   if flags.statuses then
      count_statuses()
   end
   if flags.kind == "bulk" and flags.statuses then
      response = function(status, _, body)
         count_status(body:find('"status"', 1, true) and "refused" or status)
      end
   elseif flags.kind == "reserve" then
      capture_each_hold()
   end
   as_json = flags.json or false
end

build = {}

function build.bulk(flags)
   local changes = {}
   for item = 1, flags.items do
      changes[item] = ('{"userId":%d,"amount":%d}'):format(one_of(flags.user), flags.amount)
   end
   local body = ('{"mode":"each","changes":[%s]}'):format(table.concat(changes, ","))
   return wrk.format(nil, "/changes", nil, body)
end

function build.transfer(flags)
   local from, to = one_of(flags.from), one_of(flags.to)
   while from == to do
      from, to = one_of(flags.from), one_of(flags.to)
   end
   local body = ('{"from":%d,"to":%d,"amount":1}'):format(from, to)
   return wrk.format(nil, "/transfers", nil, body)
end

function build.reserve(flags)
   return wrk.format(nil, ("/users/%d/holds"):format(one_of(flags.user)), nil, '{"amount":1}')
end

function build.moment(flags)
   local at = os.date("!%Y-%m-%dT%H:%M:%SZ", math.random(flags.first, flags.last))
   return wrk.format("GET", ("/users/%d/balance?at=%s"):format(one_of(flags.user), at))
end

-- Each connection of a thread sends what is due next: the capture of a hold, or a new hold.
function capture_each_hold()
   local held, reserve, count = {}, request, response
   response = function(status, headers)
      if status == 201 then
         held[#held + 1] = headers["location"]
      end
      if count then
         count(status)
      end
   end
   request = function()
      local hold = table.remove(held)
      return hold and wrk.format(nil, hold .. "/capture", nil, "{}") or reserve()
   end
end

function one_of(range)
   return math.random(range.first, range.last)
end

function parse(args)
   local flags = { kind = args[1], items = 1000, amount = -2 }
   flags.user = { first = 1, last = 1 }
   flags.from, flags.to = flags.user, flags.user
   local known = build[flags.kind or ""] ~= nil
   for position = 2, #args do
      local word = args[position]
      local name, value = word:match("^(%l+)=?(.*)$")
      local first, last = (value or ""):match("^(%d+)%-?(%d*)$")
      if (name == "user" or name == "from" or name == "to") and first then
         flags[name] = { first = tonumber(first), last = tonumber(last) or tonumber(first) }
      elseif (name == "items" or name == "first" or name == "last") and first then
         flags[name] = tonumber(value)
      elseif name == "amount" and tonumber(value) then
         flags.amount = tonumber(value)
      elseif word == "statuses" or word == "json" then
         flags[word] = true
      else
         known = false
      end
   end
   if not known then
      -- After an error raised in here, wrk would continue with another request.
      io.stderr:write(("operation_request.lua does not know %q\n"):format(table.concat(args, " ")))
      os.exit(2)
   end
   return flags
end
