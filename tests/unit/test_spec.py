"""The models of the spec: what is bounded, described and defaulted."""

import re
from typing import Any

import pytest

from support.manifests import cases, manifest
from support.schemas import nodes
from tunesmith.cel import with_defaults
from tunesmith_api.generate.crd import job_schema
from tunesmith_api.quantizations import ALIASES, QUANTIZATIONS, QuantizationType
from tunesmith_api.spec import FineTuneJob
from tunesmith_api.training import MUTABLE, Training

SCHEMA = job_schema()
SPEC = SCHEMA["properties"]["spec"]


def test_every_field_of_the_spec_says_what_it_is() -> None:
    """A field without a description would be an empty row of the reference page."""
    silent = [
        f"{path}.{name}"
        for path, node in nodes(SPEC, "spec")
        for name, field in node.get("properties", {}).items()
        if not field.get("description", "").endswith(".")
    ]
    assert silent == []


def test_every_string_list_and_map_is_bounded() -> None:
    """Of spec and status: the API server keeps what it is given, and a runaway message must not fill it."""
    unbounded = []
    for path, node in nodes(SCHEMA):
        is_map = "additionalProperties" in node or "x-kubernetes-preserve-unknown-fields" in node
        kind = "map" if is_map else "string" if "anyOf" in node else node.get("type")
        bound = {"string": "maxLength", "array": "maxItems", "map": "maxProperties"}.get(str(kind))
        if bound and not {bound, "enum", "format"} & node.keys():
            unbounded.append(path)
    assert unbounded == []


def test_every_number_of_the_spec_is_bounded() -> None:
    """A mistyped one is refused and not tried."""
    numbers = [(path, node) for path, node in nodes(SPEC) if node.get("type") in ("integer", "number")]
    assert [path for path, node in numbers if "maximum" not in node] == []


def test_the_status_has_no_defaults() -> None:
    """The API server must not write into a status what nobody observed; but that nobody has observed it, it does."""
    status = SCHEMA["properties"]["status"]
    inner = [path for path, node in nodes(status) if node is not status and "default" in node]
    assert (inner, status["default"]) == ([], {"observedGeneration": -1})


def test_the_crd_and_the_models_have_the_same_defaults() -> None:
    """What the API server fills in is what a local run takes."""
    written = manifest({})
    filled = with_defaults(SCHEMA, written)
    job = FineTuneJob.model_validate(written)
    del filled["status"]
    assert FineTuneJob.model_validate(filled) == job
    assert filled["spec"] == _without_empty(job.to_json_dict()["spec"])


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_empty(item) for name, item in value.items() if item not in ({}, [])}
    return value


def test_what_the_family_decides_is_unset() -> None:
    """A default in the CRD would hide that the user said nothing."""
    training = Training()
    unset = (training.learning_rate, training.epochs, training.lora, training.batch_size, training.max_steps)
    assert unset == (None,) * 5


def test_every_field_of_training_is_either_fixed_or_named_as_mutable() -> None:
    """A new field must be put on one side (contract 8)."""
    training = SPEC["properties"]["training"]
    fixed = {
        rule["fieldPath"].removeprefix(".")
        for rule in training["x-kubernetes-validations"]
        if "oldSelf" in rule["rule"] and rule["fieldPath"] != ".gpu"
    }
    assert set(training["properties"]) == fixed | set(MUTABLE)
    assert set() == fixed & set(MUTABLE)


@pytest.mark.parametrize("case", [case for case in cases() if not case.problems], ids=lambda case: case.name)
def test_a_job_survives_the_way_through_json(case: Any) -> None:
    """What is written to a file or an object is read back as the same job."""
    job = FineTuneJob.model_validate({**case.manifest, "spec": _without_null(case.manifest["spec"])})
    assert job == FineTuneJob.model_validate(job.to_json_dict())


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_null(item) for name, item in value.items() if item is not None}
    return value


def test_quantizations_are_known_one_by_one() -> None:
    """Every type has its own number, and names for something else are no types."""
    assert set(QuantizationType) == set(QUANTIZATIONS)
    assert len(QUANTIZATIONS) == len({known.ftype for known in QUANTIZATIONS.values()})
    assert set() == set(ALIASES) & {name.value for name in QuantizationType}


def test_what_needs_a_matrix_gains_from_it() -> None:
    """Otherwise Auto would leave out what llama-quantize asks for."""
    assert [name for name, known in QUANTIZATIONS.items() if known.needs_imatrix and not known.gains_from_imatrix] == []


def test_p56_only_types_of_five_bits_and_fewer_gain_from_a_matrix() -> None:
    """P56: at 6 bits and more the gain is lost in the noise, so Auto does not spend time on it."""
    gaining = {name for name, known in QUANTIZATIONS.items() if known.gains_from_imatrix}
    named_bits = {name: int(re.sub(r"\D*(\d).*", r"\1", name.value)) for name in gaining}
    assert {QuantizationType.Q4_K_M, QuantizationType.IQ4_XS, QuantizationType.Q3_K_M} <= gaining
    assert [name for name, bits in named_bits.items() if bits > 5] == []
