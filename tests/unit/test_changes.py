"""Contract 8 as a property: a change that the rules let pass leaves the key of train, and those of its inputs.

tests/manifests/changes.yaml has one row per field; here fields meet each other, for example a GPU with a method.
"""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.manifests import manifest
from support.spec_fields import FIXED, FREE, drawn, plan_of, spec_of
from tunesmith.cel import violations
from tunesmith_api.generate.crd import job_schema

# Mostly nothing of what is fixed: a single such field has a row of its own in the table of changes.
NOTHING: dict[str, Any] = {}
ONE_FIXED = st.sampled_from(sorted(FIXED)).flatmap(lambda path: drawn({path: FIXED[path]}))
FIXED_CHANGE = st.one_of(st.just(NOTHING), st.just(NOTHING), st.just(NOTHING), ONE_FIXED)


def made_of(fields: dict[str, Any]) -> dict[str, str]:
    """The keys of training, of its inputs, and of the conversion of its weights."""
    plan = plan_of(fields)
    return {out.kind: out.key for name in ("prepare", "train", "convert") for out in plan.stage(name).outputs}


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """cel-python sets Python's recursion limit when it is first used, which Hypothesis would warn of."""
    violations(manifest({}))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(drawn(FIXED), FIXED_CHANGE, drawn(FREE), drawn(FREE))
def test_a_change_that_is_let_pass_trains_nothing_again(
    fixed: dict[str, Any], change: dict[str, Any], before: dict[str, Any], after: dict[str, Any]
) -> None:
    """What is recorded for train must be what the changed spec asks for (contract 2 keeps such a key always)."""
    old, new = fixed | before, fixed | change | after
    if made_of(old) != made_of(new):
        assert violations(manifest(spec_of(new)), manifest(spec_of(old)))


def test_every_field_takes_part() -> None:
    """A new field must be put on one side."""
    spec = job_schema()["properties"]["spec"]["properties"]
    sections = ("model", "evaluation", "training")
    paths = {f"{section}.{name}" for section in sections for name in spec[section]["properties"]}
    assert paths | (spec.keys() - set(sections)) == FIXED.keys() | FREE.keys()
