"""`tunesmith plan` shows every setting of a job, and the value that really holds."""

from typing import Any

import pytest

from support.builders import a_spec, dimensions, resolved
from support.schemas import nodes
from tunesmith_api.generate.crd import job_schema
from tunesmith_api.origins import Setting, settings_table

ADAPTER = {"source": "hf://org/model", "adapter": "hf://org/adapter"}


def shown(manifest: dict[str, Any], **model: Any) -> dict[str, Setting]:
    """The rows of a spec with these fields, by path."""
    spec = a_spec(**manifest)
    table = settings_table({"spec": manifest}, spec, resolved(spec, family="smollm2", **model))
    rows = {setting.path: setting for setting in table}
    assert len(rows) == len(table)
    return rows


def test_every_setting_is_shown_with_where_it_came_from() -> None:
    """What is not set too: what then happens is what its description says."""
    rows = shown({"training": {"engine": "Auto", "lora": {"rank": 4}, "epochs": 2.0}})

    assert rows["training.epochs"].origin == "manifest"
    assert rows["training.learningRate"].origin == "family smollm2"
    assert (rows["training.engine"].value, rows["training.engine"].origin[:6]) == ("Transformers", "chosen")
    assert rows["training.lora.alpha"].origin.endswith("in its ratio to the rank")
    assert rows["training.evalEvery"].value is None
    assert rows["training.evalEvery"].origin.startswith("unset: up to ten times")
    assert rows["store"].origin.startswith("unset: the operator's default, locally a folder")


def test_no_field_is_left_out() -> None:
    """Each field of the schema has a row, or rows for what is in it."""
    rows = shown({"datasets": [{"source": "hf://a/b"}]}).keys()
    spec = job_schema()["properties"]["spec"]
    fields = [path.replace("datasets[]", "datasets[0]") for path, _ in nodes(spec) if path]
    optional = ("evaluation.dataset.", "publish.hub.", "stages[]", "store.", "training.gpu.", "training.earlyStopping.")

    def within(path: str) -> bool:
        return any(row == path or row.startswith((f"{path}.", f"{path}[")) for row in rows)

    entries = ("[]", ".secretRef.", ".columns.", "{}")
    expected = [path for path in fields if not path.startswith(optional) and not any(part in path for part in entries)]
    assert [path for path in expected if not within(path)] == []


@pytest.mark.parametrize(
    ("gates", "value", "origin"),
    [
        ({}, 0.1, "default"),
        ({"maxPerplexityIncrease": 0.05}, 0.05, "limited by maxPerplexityIncrease"),
        ({"idealPerplexityIncrease": 0.2}, 0.2, "manifest"),
    ],
)
def test_the_ideal_that_holds_is_shown(gates: dict[str, float], value: float, origin: str) -> None:
    """It follows a lower maxPerplexityIncrease."""
    row = shown({"gates": gates})["gates.idealPerplexityIncrease"]
    assert (row.value, row.origin) == (value, origin)


@pytest.mark.parametrize("training", [{}, {"lora": {}}, {"lora": {"rank": 8}}, {"method": "QLoRA"}])
def test_the_adapters_shape_is_shown_field_by_field(training: dict[str, Any]) -> None:
    """And not as an object that is unset beside the fields that it has all the same."""
    rows = shown({"training": training})

    lora = {path for path in rows if path.startswith("training.lora")}
    assert lora == {f"training.lora.{name}" for name in ("rank", "alpha", "dropout", "targetModules", "rsLora")}
    assert None not in [rows[path].value for path in lora]


def test_the_shape_of_an_adapter_that_training_goes_on_from_is_its_own() -> None:
    """The family's rank would be a value that nothing uses."""
    rows = shown({"model": ADAPTER, "training": {"lora": {"dropout": 0.1}}})

    for name in ("rank", "alpha", "targetModules", "rsLora"):
        setting = rows[f"training.lora.{name}"]
        assert (setting.value, setting.origin) == (None, "the adapter's own (model.adapter)")
    assert (rows["training.lora.dropout"].value, rows["training.lora.dropout"].origin) == (0.1, "manifest")
    assert shown({"model": ADAPTER})["training.lora.dropout"].origin == "family smollm2"


def test_nothing_is_chosen_for_a_training_that_does_not_take_place() -> None:
    """Method None."""
    rows = shown({"model": ADAPTER, "training": {"method": "None"}})

    for name in ("epochs", "learningRate"):
        assert rows[f"training.{name}"] == Setting(f"training.{name}", None, "unset: nothing is trained")
    assert rows["training.engine"] == Setting("training.engine", "Auto", "default")


def test_auto_that_is_written_came_from_the_manifest() -> None:
    """Unless something was chosen for it, and then the rule is more to the point."""
    rows = shown({"imatrix": {"mode": "Auto"}, "datasets": [{"source": "file://a", "format": "Auto"}]})

    assert rows["imatrix.mode"] == Setting("imatrix.mode", "Auto", "manifest")
    assert rows["datasets[0].format"] == Setting("datasets[0].format", "Auto", "manifest")
    assert shown({})["imatrix.mode"].origin == "default"


@pytest.mark.parametrize(
    ("training", "value", "origin"),
    [
        ({}, 64, "limited by what the model can read"),
        ({"maxSequenceLength": 65}, 64, "limited by what the model can read"),
        ({"maxSequenceLength": 64}, 64, "manifest"),
    ],
)
def test_rows_are_no_longer_than_the_model_reads(training: dict[str, int], value: int, origin: str) -> None:
    """The value is what training uses."""
    row = shown({"training": training}, dimensions=dimensions(maxPositionEmbeddings=64))["training.maxSequenceLength"]
    assert (row.value, row.origin) == (value, origin)
