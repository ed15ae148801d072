-- The end of the load tests' scripts for wrk: what was answered, as text or as one line of JSON.
--
-- A script that loads this file calls `count_statuses` in its `init` to count answers by status,
-- and sets the global `as_json` there: wrk calls `done` outside of the threads, where it can only
-- read a thread's globals.

local threads = {}

function setup(thread)
   threads[#threads + 1] = thread
   thread:set("seed", #threads)
end

-- Runs once, at the end.
function done(summary, latency)
   local statuses = sum_of_statuses()
   if threads[1]:get("as_json") then
      print(json_line(summary, latency, statuses))
      return
   end
   local errors = summary.errors
   print(("answered %d, of these 400 or above: %d"):format(summary.requests, errors.status))
   for status, count in pairs(statuses) do
      print(("  status %s: %d"):format(status, count))
   end
   print(("socket errors: connect %d, read %d, write %d, timeout %d")
      :format(errors.connect, errors.read, errors.write, errors.timeout))
end

-- Slows wrk down, because it then passes every answer to the script.
function count_statuses()
   counts = {}
   response = count_status
end

function count_status(status)
   counts[status] = (counts[status] or 0) + 1
end

function sum_of_statuses()
   local sum = {}
   for _, thread in ipairs(threads) do
      for status, count in pairs(thread:get("counts") or {}) do
         local name = tostring(status)
         sum[name] = (sum[name] or 0) + count
      end
   end
   return sum
end

-- Times are in microseconds, as in wrk.
function json_line(summary, latency, statuses)
   local by_status = {}
   for status, count in pairs(statuses) do
      by_status[#by_status + 1] = ('"%s":%d'):format(status, count)
   end
   local errors = summary.errors
   return ('{"requests":%d,"duration_us":%d,"latency_us_p50":%d,"latency_us_p99":%d,'
      .. '"not_ok":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,"statuses":{%s}}')
      :format(summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
         errors.status, errors.connect, errors.read, errors.write, errors.timeout,
         table.concat(by_status, ","))
end
