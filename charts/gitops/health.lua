-- Argo CD: the health of a FineTuneJob, for resource.customizations.health.tunesmith.dev_FineTuneJob in argocd-cm.
-- It reads the conditions as kstatus does (docs/gitops.md).
local health = {status = "Progressing", message = "no operator has seen this job yet"}
local status = obj.status
if status == nil or status.observedGeneration == nil or status.conditions == nil then
  return health
end
if status.observedGeneration ~= obj.metadata.generation then
  health.message = "the operator has not seen the newest change yet"
  return health
end
local known = {}
for _, condition in ipairs(status.conditions) do
  known[condition.type] = condition.status
end
health.message = status.message
if known.Stalled == "True" then
  health.status = "Degraded"
elseif known.Suspended == "True" then
  health.status = "Suspended"
elseif known.Reconciling ~= "True" and known.Ready == "True" then
  health.status = "Healthy"
end
return health
