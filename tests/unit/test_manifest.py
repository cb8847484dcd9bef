"""Reading manifests: kubectl's YAML, every problem with its place, no word of the machinery."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.manifests import FOLDER, Case, cases
from tunesmith.kubernetes_yaml import read_documents, resolve
from tunesmith.manifest import ManifestInvalid, load_manifest, parse_manifest, read_manifest
from tunesmith_api.failures import FailureClass

SMALLEST = """\
apiVersion: tunesmith.dev/v1alpha1
kind: FineTuneJob
metadata: {name: support-bot}
spec:
  model: {source: hf://Qwen/Qwen2.5-1.5B-Instruct}
  datasets: [{source: s3://datasets/support.jsonl}]
"""
EXAMPLES = Path(__file__).parents[2] / "examples"
SCALARS: list[tuple[str, Any]] = json.loads((FOLDER / "scalars.json").read_text())


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_table_of_manifests(case: Case) -> None:
    """A good manifest is taken, a bad one is refused at exactly the places that are wrong."""
    if not case.problems:
        parse_manifest(case.text)
        return
    with pytest.raises(ManifestInvalid) as caught:
        parse_manifest(case.text)
    found = caught.value.problems
    assert sorted(path for path, _ in case.problems) == sorted(problem.path for problem in found)
    for path, piece in case.problems:
        assert any(piece in str(problem) for problem in found if problem.path == path), caught.value.message


@pytest.mark.parametrize("case", [case for case in cases() if case.problems], ids=lambda case: case.name)
def test_a_problem_is_told_in_our_own_words(case: Case) -> None:
    """The words of validators help nobody."""
    with pytest.raises(ManifestInvalid) as caught:
        parse_manifest(case.text)
    assert not {"pydantic", "validation error", "Input should", "type=", "http://errors"} & {
        piece for piece in ("pydantic", "validation error", "Input should", "type=") if piece in caught.value.message
    }
    assert all(problem.line or problem.path in ("spec", "metadata.name") for problem in caught.value.problems)


@pytest.mark.parametrize(("text", "expected"), SCALARS, ids=[text for text, _ in SCALARS])
def test_yaml_is_read_as_kubectl_does(text: str, expected: Any) -> None:
    """The table was made with sigs.k8s.io/yaml v1.6.0; null stands for a refusal."""
    if expected is None:
        with pytest.raises(ManifestInvalid):
            read_documents(text)
        return
    value = read_documents(text)[0].value
    assert expected == value
    assert {name: type(item) for name, item in expected.items()} == {name: type(item) for name, item in value.items()}


def test_a_learning_rate_without_a_dot_is_a_number() -> None:
    """PyYAML alone reads 2e-4 as a string."""
    job = parse_manifest(SMALLEST + "  training: {learningRate: 2e-4}\n")
    assert job.spec.training.learning_rate == 2e-4


@given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_number_that_was_written_is_the_number_that_is_read(number: float) -> None:
    """Every spelling that JSON gives a number is read as that number."""
    assert number == resolve(json.dumps(number))


@given(st.text(max_size=12))
def test_no_scalar_is_too_odd(text: str) -> None:
    """Whatever stands there, it is one of JSON's values or the text itself."""
    value = resolve(text)
    assert value is None or isinstance(value, bool | int | float) or text == value


def test_lines_are_those_of_the_fields() -> None:
    """An editor can jump there."""
    text = SMALLEST + "  training:\n    method: LoRA\n    epochs: 0\n  suspnd: true\n"
    with pytest.raises(ManifestInvalid) as caught:
        parse_manifest(text)
    assert [(p.path, p.line) for p in caught.value.problems] == [("spec.training.epochs", 9), ("spec.suspnd", 10)]


def test_the_message_names_file_place_and_cure(tmp_path: Path) -> None:
    """One line for one problem."""
    file = tmp_path / "job.yaml"
    file.write_text(SMALLEST + "  training: {method: lora}\n")
    with pytest.raises(ManifestInvalid) as caught:
        load_manifest(read_manifest(file))
    assert caught.value.failure == FailureClass.SPEC_INVALID
    assert caught.value.message == (
        f"{file}: spec.training.method (line 7): 'lora' is not one of the allowed words; "
        "did you mean LoRA? It must be LoRA, QLoRA, Full or None"
    )


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        ("capitals.jsonl", "file://capitals.jsonl"),
        ("data/capitals.jsonl", "file://data/capitals.jsonl"),
        ("/data/rows", "file:///data/rows"),
        ("org/name-2.5", "hf://org/name-2.5"),
        ("file:/data/rows.csv", "file:///data/rows.csv"),
        ("file:rows.csv", "file://rows.csv"),
        ("hf:/org/name", "hf://org/name"),
    ],
)
def test_a_source_without_a_scheme_is_shown_with_what_was_meant(source: str, meant: str) -> None:
    """The rule alone does not say which of the values it is about."""
    with pytest.raises(ManifestInvalid) as caught:
        parse_manifest(SMALLEST.replace("s3://datasets/support.jsonl", source))

    assert f"'{source}' has no scheme; did you mean {meant}? A source is hf://org/name" in caught.value.message


def test_a_file_that_is_not_there_asks_for_the_path(tmp_path: Path) -> None:
    """And not for a field to correct."""
    with pytest.raises(ManifestInvalid) as caught:
        read_manifest(tmp_path / "no.yaml")

    assert caught.value.hint == "Check the path."


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("", "empty"),
        ("---\n# nothing\n", "empty"),
        ("just words", "no Kubernetes object"),
        ("apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\n", "it must be FineTuneJob"),
        (SMALLEST.replace("v1alpha1", "v2"), "it must be tunesmith.dev/v1alpha1"),
        ("kind: FineTuneJob\n", "apiVersion: this is missing"),
        (f"{SMALLEST}---\nkind: ConfigMap\n", "2 objects (FineTuneJob, ConfigMap)"),
        (f"{SMALLEST}  suspend: true\n  suspend: false\n", "line 8: spec.suspend is there twice"),
        (f"{SMALLEST}  training: {{epochs: 1\n", "no valid YAML"),
        (f"{SMALLEST}  training:\n\tepochs: 1\n", "line 8"),
        (f"{SMALLEST}  training: {{epochs: .nan}}\n", "no number that JSON can hold"),
        (f"{SMALLEST}  training: *gone\n", "no valid YAML"),
        (f"{SMALLEST}  note: {{{{ question }}}}\n", "the name of a field must be a word; put Jinja in quotes"),
        (f"{SMALLEST}  note: {{{{ a }}}}: {{{{ b }}}}\n", 'put Jinja in quotes: "{{ question }}"'),
        ("a: &a [*a]\n", "unfolds into too much"),
        ("x" * 2_000_000, "too long"),
        (f"{SMALLEST}  training: {'[' * 1500}{']' * 1500}\n", "line 7: this unfolds into too much"),
        (f"{SMALLEST}  training:\n    {'- ' * 1500}x\n", "line 8: this unfolds into too much"),
    ],
)
def test_what_is_no_manifest_is_refused_in_one_sentence(text: str, piece: str) -> None:
    """Not a hundred problems, but the one that matters."""
    with pytest.raises(ManifestInvalid) as caught:
        parse_manifest(text)
    assert len([problem for problem in caught.value.problems if piece in str(problem)]) == 1, caught.value.message


def test_aliases_cannot_unfold_into_a_flood() -> None:
    """Nine levels of nine would be 400 million values."""
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 9)
    )
    with pytest.raises(ManifestInvalid, match="unfolds into too much"):
        read_documents(bomb)


def test_empty_documents_around_a_job_do_not_count() -> None:
    """kubectl passes over them too."""
    assert parse_manifest(f"---\n{SMALLEST}---\n").metadata.name == "support-bot"


def test_json_is_yaml() -> None:
    """What 'kubectl get -o json' prints can be run."""
    written = parse_manifest(SMALLEST).to_json_dict() | {"status": {"phase": "Running", "unknown": 1}}
    assert parse_manifest(SMALLEST) == parse_manifest(json.dumps(written))


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"], ids=["absent", "binary"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    """With its path."""
    file = tmp_path / "job.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ManifestInvalid, match=r"job\.yaml"):
        load_manifest(read_manifest(file))


@pytest.mark.parametrize(("text", "hint"), [("spec: [", "the file"), (f"{SMALLEST}  typo: 1\n", "the named field")])
def test_what_helps_names_a_field_only_where_one_is_named(text: str, hint: str) -> None:
    """YAML that cannot be read has no fields."""
    with pytest.raises(ManifestInvalid) as caught:
        parse_manifest(text)

    assert caught.value.hint.startswith(f"Correct {hint}")


def test_the_quickstart_for_a_cluster_is_the_quickstart() -> None:
    """With its sources in a store: nothing else is another there."""
    texts = ((EXAMPLES / name).read_text() for name in ("quickstart.yaml", "quickstart-s3.yaml"))
    here, there = (parse_manifest(text, "quickstart") for text in texts)

    assert {source.partition("://")[0] for source in there.spec.sources().values()} == {"s3"}
    assert there.metadata == here.metadata
    same = {"model": here.spec.model, "datasets": here.spec.datasets}
    assert there.spec.model_copy(update=same) == here.spec
