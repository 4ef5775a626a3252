-- The health of a ServiceProxyConfig: what to make of its conditions. The conditions themselves are documented in
-- api/v1alpha1/conditions.go.
local conditions = {}
local status = obj.status or {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local ready = conditions.Ready
if ready == nil or status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "the operator has not looked at this generation yet"}
end

local message = ready.reason .. ": " .. (ready.message or "")
if conditions.Stalled ~= nil and conditions.Stalled.status == "True" then
  return {status = "Degraded", message = message}
end
if ready.status == "True" then
  return {status = "Healthy", message = message}
end
if ready.reason == "RolloutPaused" then
  return {status = "Suspended", message = message}
end
return {status = "Progressing", message = message}
