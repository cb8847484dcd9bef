"""Which files of a source are rows: one file as it is, of several those that the manifest, the card or names choose."""

from pathlib import Path

import pytest

from support.servers import minio_server
from tunesmith.resolve import Access, resolve_dataset
from tunesmith.resolve.datasets import row_files
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.resolved import ResolvedFile
from tunesmith_api.spec import Dataset


def chosen(
    *paths: str, config: str | None = None, split: str | None = None, card: str | None = None
) -> tuple[str, ...]:
    """The paths of those files that hold the rows."""
    files = [ResolvedFile(path=path, size=1, digest="sha256:0") for path in paths]
    return tuple(file.path for file in row_files("hf://org/rows", files, (config, split), card))


def test_a_folder_of_links_has_what_they_lead_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To files and to folders; one that leads back is no way on, and what is hidden stays so."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    rows, folder = tmp_path / "elsewhere" / "more", tmp_path / "rows"
    for place in (rows, folder / ".hidden"):
        place.mkdir(parents=True)
        (place / "train.jsonl").write_text('{"text": "a"}\n')
    (folder / "a.jsonl").symlink_to(rows / "train.jsonl")
    (folder / "linked").symlink_to(rows)
    (rows / "back").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "other").mkdir()
    (rows / "other").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "round").symlink_to(rows)
    found = resolve_dataset(Dataset(source=f"file://{folder}"), Access(tmp_path)).resolved

    assert [file.path for file in found.files] == ["linked/train.jsonl"]
    (folder / "linked").unlink()
    found = resolve_dataset(Dataset(source=f"file://{folder}"), Access(tmp_path)).resolved
    assert [file.path for file in found.files] == ["a.jsonl"]


@pytest.mark.parametrize(
    "name", ["latest.jsonl", "devices.csv", "contest.csv", "invalid-tickets.jsonl", "test.jsonl", "val.json", "export"]
)
def test_a_source_of_one_file_is_taken_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Who names a file means it."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    (tmp_path / name).write_text("{}\n")

    found = resolve_dataset(Dataset(source=f"file://{name}"), Access(tmp_path))
    assert [file.path for file in found.resolved.files] == [name]


def test_an_object_is_one_file_and_a_prefix_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object without an extension is taken as it is; below a prefix the names say what is what."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    with minio_server(tmp_path / "minio") as server:
        server.write_secret(tmp_path / "secrets" / "own")
        (tmp_path / "rows").write_text("{}\n")
        for name in ("export", "below/latest.jsonl", "below/test.jsonl"):
            server.client().fput_object(server.bucket, name, str(tmp_path / "rows"))
        access = Access(tmp_path, tmp_path / "secrets", secret="own", endpoint=server.endpoint)
        found = {
            key: resolve_dataset(Dataset(source=f"s3://{server.bucket}/{key}"), access).resolved.files
            for key in ("export", "below")
        }

    assert {key: [file.path for file in files] for key, files in found.items()} == {
        "export": ["export"],
        "below": ["latest.jsonl"],
    }


def test_an_object_of_the_store_s_service_is_read_with_the_store_s_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest names it once; another service never gets to see its keys."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    with minio_server(tmp_path / "minio") as server, minio_server(tmp_path / "other") as other:
        server.write_secret(tmp_path / "secrets" / "store")
        (tmp_path / "rows.jsonl").write_text("{}\n")
        for each in (server, other):
            each.client().fput_object(each.bucket, "rows.jsonl", str(tmp_path / "rows.jsonl"))
        access = Access(tmp_path, tmp_path / "secrets", endpoint=server.endpoint, store_secret="store")
        source = f"s3://{server.bucket}/rows.jsonl"
        assert resolve_dataset(Dataset(source=source), access).resolved.size == 3
        with pytest.raises(StageFailure) as caught:
            resolve_dataset(Dataset(source=source, endpoint=other.endpoint), access)

    assert caught.value.failure is FailureClass.SECRET_MISSING


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        pytest.param(["latest.jsonl", "devices.csv"], ["devices.csv", "latest.jsonl"], id="words are whole"),
        pytest.param(["rows.jsonl", "test.jsonl", "dev.jsonl"], ["rows.jsonl"], id="what names no split is trained on"),
        pytest.param(["train-0.parquet", "rows.jsonl"], ["train-0.parquet"], id="unless a file is called train"),
        pytest.param(["a/training/x.json", "a/valid/x.json"], ["a/training/x.json"], id="folders count"),
        pytest.param(["train/test-a.csv", "test/train-a.csv"], ["train/test-a.csv"], id="before the file's name"),
        pytest.param(["training-data/train.csv", "training-data/eval.csv"], ["training-data/train.csv"], id="held out"),
        pytest.param(["test-project/train.csv", "test-project/dev.csv"], ["test-project/train.csv"], id="called so"),
        pytest.param(["data/test-0.parquet", "data/test-1.parquet", "README.md"], None, id="the only split"),
        pytest.param(["A.JSONL", "picture.png"], ["A.JSONL"], id="endings of either case"),
    ],
)
def test_without_a_split_it_is_train_or_the_only_one(paths: list[str], expected: list[str] | None) -> None:
    """spec.datasets[].split; `expected` None stands for all files with rows."""
    assert list(chosen(*paths)) == (expected or [path for path in paths if path != "README.md"])


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("validation", ["data/dev.csv"]),
        ("test", ["data/test.csv"]),
        ("test_sft", ["data/test_sft-0.csv"]),
        ("train", ["data/train.csv"]),
    ],
)
def test_a_split_is_found_by_whole_words(split: str, expected: list[str]) -> None:
    """By another word for it too."""
    paths = ["data/dev.csv", "data/train.csv", "data/test.csv" if split != "test_sft" else "data/test_sft-0.csv"]

    assert list(chosen(*paths, "data/latest.csv", split=split)) == expected


CARD = """---
configs:
- config_name: one
  data_files: [{split: test, path: [a/x-*.jsonl, a/y.jsonl]}]
- config_name: two
  data_files: [{split: validation, path: b/1.jsonl}, {split: test, path: b/2.jsonl}]
- config_name: three
  data_files: [{split: train, path: c/1.jsonl}, {split: test, path: c/2.jsonl}, {split: train, path: c/3.jsonl}]
---
"""


@pytest.mark.parametrize(
    ("config", "split", "expected"),
    [
        (None, None, ["a/x-0.jsonl", "a/y.jsonl"]),
        ("one", None, ["a/x-0.jsonl", "a/y.jsonl"]),
        ("two", "validation", ["b/1.jsonl"]),
        ("three", None, ["c/1.jsonl", "c/3.jsonl"]),
    ],
)
def test_the_card_counts_before_names(config: str | None, split: str | None, expected: list[str]) -> None:
    """The only split of a config, or train."""
    paths = ["a/x-0.jsonl", "a/y.jsonl", *(f"{place}/{n}.jsonl" for place in "bc" for n in (1, 2, 3))]

    assert list(chosen(*paths, config=config, split=split, card=CARD)) == expected


@pytest.mark.parametrize(
    ("paths", "choice", "card"),
    [
        pytest.param(["a/y.jsonl", "b/1.jsonl"], {"split": "validation"}, CARD, id="a split of another config"),
        (["dev.jsonl", "test.jsonl"], {}, None),
        (["rows.jsonl"], {"split": "validation"}, None),
        (["README.md"], {}, None),
        (["b/validation.jsonl", "b/test.jsonl"], {"config": "two"}, CARD),
        (["dev.jsonl", "test.jsonl"], {}, "---\nconfigs: {a: [1], data_files: x}\n---\n"),
        (["dev.jsonl", "test.jsonl"], {}, "---\nconfigs: [1, {data_files: [{split: [], path: x}, 3]}]\n---\n"),
    ],
)
def test_what_cannot_be_chosen_says_what_there_is(paths: list[str], choice: dict[str, str], card: str | None) -> None:
    """Several splits and none of them train, no such split, no rows; whatever a stranger wrote into the card."""
    with pytest.raises(StageFailure, match=paths[-1]) as caught:
        chosen(*paths, **choice, card=card)

    assert caught.value.failure is FailureClass.DATASET_INVALID
    assert caught.value.hint


def test_a_claim_is_read_where_the_pod_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One folder for each claim; what lies in it is pinned by its bytes, wherever it is mounted."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TUNESMITH_CLAIMS", str(tmp_path / "claims"))
    (tmp_path / "claims" / "data" / "team").mkdir(parents=True)
    (tmp_path / "claims" / "data" / "team" / "rows.jsonl").write_text("{}\n")
    (tmp_path / "rows.jsonl").write_text("{}\n")

    found = resolve_dataset(Dataset(source="pvc://data/team/rows.jsonl"), Access(tmp_path)).resolved
    here = resolve_dataset(Dataset(source="file://rows.jsonl"), Access(tmp_path)).resolved
    assert [file.path for file in found.files] == ["rows.jsonl"]
    assert found.digest == here.digest


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("pvc://other/rows.jsonl", "which is not mounted here"),
        ("pvc://data/linked.jsonl", "leads out of its claim"),
        ("pvc://data/absent.jsonl", "there is no file or folder"),
    ],
)
def test_a_claim_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    """Nothing outside of a claim is reached through it: a link is made by whoever may write there."""
    monkeypatch.setenv("TUNESMITH_CLAIMS", str(tmp_path / "claims"))
    (tmp_path / "claims" / "data").mkdir(parents=True)
    (tmp_path / "secret.jsonl").write_text("{}\n")
    (tmp_path / "claims" / "data" / "linked.jsonl").symlink_to(tmp_path / "secret.jsonl")

    with pytest.raises(StageFailure, match=said):
        resolve_dataset(Dataset(source=source), Access(tmp_path))
