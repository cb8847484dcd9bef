"""prepare in a cluster begins where a laptop has ended already: with sources that nobody has pinned and no plan.

The request then holds the spec. The sources are resolved, the plan is made, and the request becomes the one that a
laptop would have written; what was found goes into the result.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.resolve import Access, resolve
from tunesmith.secrets import refuse_push_without_token
from tunesmith.store import Artifacts
from tunesmith_api.execution import Reach, prepare_execution
from tunesmith_api.plan import Plan, make_plan
from tunesmith_api.resolved import Resolved, brief
from tunesmith_api.spec import JobSpec
from tunesmith_api.stages import Stage, StageRequest

_SPEC = "spec"


def is_open(request: StageRequest) -> bool:
    """Whether this prepare has to resolve its sources."""
    return request.stage is Stage.PREPARE and _SPEC in request.execution


def resolved_request(request: StageRequest) -> tuple[StageRequest, Plan, Resolved]:
    """The request as a laptop would write it, the plan that its outputs are of, and the pinned sources.

    Raises what `resolve` raises, and `SecretMissing` for the token that publish will need.
    """
    told = request.execution
    spec = JobSpec.model_validate(told[_SPEC])
    secrets = None if request.secrets is None else Path(request.secrets)
    refuse_push_without_token(spec.publish, secrets)
    store = request.store
    access = Access(
        Path(told["folder"]),
        secrets,
        endpoint=store.endpoint,
        region=store.region,
        ca_secret=store.ca_secret,
        store_secret=store.secret,
    )
    resolved = resolve(spec, access)
    plan = make_plan(request.job.name, spec, resolved)
    stage = plan.stage(Stage.PREPARE)
    reach = Reach(told["folder"], store.endpoint, store.region, store.ca_secret, store.secret)
    execution = prepare_execution(request.job.name, spec, resolved, reach).to_json_dict()
    asked = {"outputs": stage.outputs, "settings": stage.settings, "execution": execution}
    return request.model_copy(update=asked), plan, resolved


def found(plan: Plan, resolved: Resolved, artifacts: Artifacts) -> Mapping[str, Any]:
    """What the operator goes on from: the pinned sources, and the stages whose artifacts are all in the store."""
    there = [stage.name for stage in plan.stages if all(artifacts.holds(each.kind, each.key) for each in stage.outputs)]
    return {"resolved": brief(resolved)} | ({"present": there} if there else {})
