-- The health of a ServiceProxyNode: what to make of its conditions. The conditions themselves are documented in
-- api/v1alpha1/conditions.go.
local conditions = {}
local status = obj.status or {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local ready = conditions.Ready
if ready == nil or status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "the agent of this node has not looked at this generation yet"}
end

local message = ready.reason .. ": " .. (ready.message or "")
if ready.status == "True" then
  return {status = "Healthy", message = message}
end
-- Ready is Unknown before the first sync, and False when something is wrong.
if ready.status == "False" then
  return {status = "Degraded", message = message}
end
return {status = "Progressing", message = message}
