-- What wrk sends: 1,000 requests drawn once, before the clock runs, and repeated in turn, so that the generator costs little.
--
--     wrk ... -s load.lua http://127.0.0.1:PORT -- DIALECT OP N KEYS SEED [TOKEN]
--
-- DIALECT is "json" (gkv, plain) or "webdis", OP is "get" or "set", N the keys in a request, all different, out of KEYS.
-- Keys and values are those of systems.py. There is no response(): with one, wrk would hand every answer to Lua.

local REQUESTS = 1000

local requests = {}
local at = 0
local token

local function key(i)
  return string.format("key:%08d", i) .. string.rep("-", i % 16)
end

local function value(i)
  return string.rep(string.format("value-%08d-", i), 7):sub(1, 100)
end

local function draw(n, keys)
  local drawn, seen = {}, {}
  while #drawn < n do
    local i = math.random(0, keys - 1)
    if not seen[i] then
      seen[i] = true
      drawn[#drawn + 1] = i
    end
  end
  return drawn
end

local function json_request(op, drawn)
  local items = {}
  for at, i in ipairs(drawn) do
    if op == "get" then
      items[at] = string.format('{"key":"%s"}', key(i))
    else
      items[at] = string.format('{"key":"%s","value":"%s"}', key(i), value(i))
    end
  end
  local headers = { ["Content-Type"] = "application/json" }
  if token then
    headers["Authorization"] = "Bearer " .. token
  end
  return wrk.format("POST", "/" .. op, headers, "[" .. table.concat(items, ",") .. "]")
end

local function webdis_request(op, drawn)
  local parts = { (#drawn > 1 and "/M" or "/") .. op:upper() }
  for _, i in ipairs(drawn) do
    parts[#parts + 1] = key(i)
    if op == "set" then
      parts[#parts + 1] = value(i)
    end
  end
  return wrk.format("GET", table.concat(parts, "/"))
end

function init(args)
  local dialect, op, n, keys, seed = args[1], args[2], tonumber(args[3]), tonumber(args[4]), tonumber(args[5])
  local build = dialect == "webdis" and webdis_request or json_request
  token = args[6]
  math.randomseed(seed)
  for i = 1, REQUESTS do
    requests[i] = build(op, draw(n, keys))
  end
end

function request()
  at = at % REQUESTS + 1
  return requests[at]
end

-- One line for run.py, with the figures that wrk prints rounded for people; times in microseconds.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\nsummary {"requests":%d,"duration":%d,"bytes":%d,"p50":%d,"p99":%d,"non_2xx":%d,"socket_errors":%d}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
