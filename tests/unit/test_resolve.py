"""Sources are pinned by what they hold, from a hub, an address or a disk; what cannot be used says so."""

import errno
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hub import Hub, serving_hub
from tunesmith.resolve import Access, resolve_dataset, resolve_model
from tunesmith.resolve.failures import disk_full_is_told
from tunesmith.resolve.hub import told
from tunesmith.resolve.uri import local_path, parse_source
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.placement import SecretReference
from tunesmith_api.spec import Dataset, Model

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 32,
    "torch_dtype": "bfloat16",
}
ROW = b'{"messages": []}\n'


def weights() -> bytes:
    header = json.dumps({"w": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


def model_files(**changes: bytes | None) -> dict[str, bytes]:
    files: dict[str, bytes | None] = {
        "config.json": json.dumps(CONFIG).encode(),
        "model.safetensors": weights(),
        "tokenizer.json": b"{}",
        "tokenizer_config.json": json.dumps({"chat_template": "{{ messages }}"}).encode(),
        "README.md": b"a card",
        "onnx/model.onnx": b"other weights",
    }
    return {name: data for name, data in (files | changes).items() if data is not None}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """One hub for the tests of this module; huggingface_hub reads HF_ENDPOINT when it is first imported."""
    with serving_hub() as served:
        yield served


def in_process(hub: Hub, code: str, tmp_path: Path, **environment: str) -> str:
    """Run code in a process of its own whose hub is ours; returns what it prints."""
    known = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    told = {
        **os.environ,
        **known,
        "HF_HUB_DISABLE_XET": "1",
        # Tests of training, in the same worker, keep this process off every hub.
        "HF_HUB_OFFLINE": "0",
        "TUNESMITH_SECRETS": str(tmp_path / "secrets"),
        **environment,
    }
    head = (
        "from pathlib import Path\nfrom tunesmith.resolve import *\nfrom tunesmith_api.spec import *\n"
        "from tunesmith_api.failures import StageFailure\n"
        f"access = Access(Path('.'), Path({str(tmp_path / 'secrets')!r}))\n"
    )
    guarded = "try:\n" + "\n".join(f"    {line}" for line in code.splitlines())
    guarded += "\nexcept StageFailure as error:\n    print(error.failure.value, '|', error.message, '|', error.hint)\n"
    done = subprocess.run(
        [sys.executable, "-c", head + guarded], env=told, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


RESOLVE = "print(resolve_model(Model(source='hf://{name}'{more}), access).to_json_dict())"


def test_a_branch_is_pinned_to_its_commit(hub: Hub, tmp_path: Path) -> None:
    """A moved branch is another model; an old commit can still be named."""
    repository = hub.create("org/moving", model_files())
    first = repository.branches["main"]
    before = eval(in_process(hub, RESOLVE.format(name="org/moving", more=""), tmp_path))  # noqa: S307  # our own print
    repository.push({"tokenizer.json": b'{"new": 1}'})
    after = eval(in_process(hub, RESOLVE.format(name="org/moving", more=""), tmp_path))  # noqa: S307
    again = eval(in_process(hub, RESOLVE.format(name="org/moving", more=f", revision='{first}'"), tmp_path))  # noqa: S307

    assert before["revision"] == first
    assert after["digest"] != before["digest"]
    assert again["digest"] == before["digest"]
    assert "onnx/model.onnx" not in [file["path"] for file in before["files"]]
    assert before["chat"] is True


def test_only_the_small_files_are_read_to_resolve(hub: Hub, tmp_path: Path) -> None:
    """No weights pass before the job runs."""
    hub.create("org/lazy", model_files())
    hub.requests.clear()
    in_process(hub, RESOLVE.format(name="org/lazy", more=""), tmp_path)

    assert [path for _, path in hub.requests if "config.json" in path]
    assert not [path for _, path in hub.requests if "safetensors" in path]


@pytest.mark.parametrize(
    ("name", "facts", "files", "more", "expected"),
    [
        ("org/absent", None, None, "", "SourceAbsent | hf://org/absent does not exist or is private"),
        (
            "org/there",
            {},
            model_files(),
            ", revision='nope'",
            "SourceAbsent | hf://org/there has no revision 'nope'",
        ),
        ("org/a..b", None, None, "", "SpecInvalid | hf://org/a..b is no repository: "),
        ("org/gated", {"gated": True}, model_files(), "", "AccessDenied | hf://org/gated is gated"),
        (
            "org/pickles",
            {},
            model_files(**{"model.safetensors": None, "pytorch_model.bin": b"x"}),
            "",
            "ModelInvalid | hf://org/pickles has its weights in pickle files only",
        ),
        ("org/empty", {}, {"README.md": b""}, "", "ModelInvalid | hf://org/empty has no config.json"),
        (
            "org/vision",
            {},
            model_files(**{"config.json": b'{"model_type": "clip"}'}),
            "",
            "ModelInvalid | hf://org/vision/config.json lacks or misstates",
        ),
    ],
)
def test_a_model_that_cannot_be_used_says_why(  # noqa: PLR0913, PLR0917  # a table's columns
    hub: Hub,
    tmp_path: Path,
    name: str,
    facts: dict[str, object] | None,
    files: dict[str, bytes],
    more: str,
    expected: str,
) -> None:
    """Each with its class, its place and a hint."""
    if facts is not None:
        hub.create(name, files, **facts)

    said = in_process(hub, RESOLVE.format(name=name, more=more), tmp_path)
    assert said.startswith(expected)
    assert len(said.split(" | ")[2]) > 10


def test_a_hub_that_is_away_is_told_apart(hub: Hub, tmp_path: Path) -> None:
    """An unreachable address is no missing model. It is named, and no password in it."""
    away = "http://me:pass@127.0.0.1:9"
    said = in_process(hub, RESOLVE.format(name="org/any", more=""), tmp_path, HF_ENDPOINT=away)

    assert said.startswith("SourceUnavailable | hf://org/any: the hub 127.0.0.1:9 cannot be reached")
    assert "pass@" not in said


RESOLVE_ALL = (
    "resolve(JobSpec.model_validate({'model': {'source': 'hf://%s'}, 'datasets': [{'source': 'hf://a/b'}]}), access)"
)


@pytest.mark.parametrize(
    ("name", "environment", "expected"),
    [
        (
            "org/any",
            {"HF_ENDPOINT": "http://127.0.0.1:9"},
            "SourceUnavailable | spec.model.source: hf://org/any: the hub",
        ),
        ("org/nowhere", {}, "SourceAbsent | spec.model.source: hf://org/nowhere does not exist"),
        ("org/shut", {}, "AccessDenied | spec.model.source: hf://org/shut is gated"),
        ("org/void", {}, "ModelInvalid | spec.model.source: hf://org/void has no config.json"),
    ],
)
def test_whatever_is_wrong_with_a_source_is_said_with_its_field(
    hub: Hub, tmp_path: Path, name: str, environment: dict[str, str], expected: str
) -> None:
    """A hub that is away too: of several sources, the address alone does not say which to correct."""
    hub.create("org/shut", model_files(), gated=True)
    hub.create("org/void", {"README.md": b""})

    assert in_process(hub, RESOLVE_ALL % name, tmp_path, **environment).startswith(expected)


def test_a_token_from_the_secret_opens_a_gated_model(hub: Hub, tmp_path: Path) -> None:
    """The token is a file of the Secret, and is in nothing that is said."""
    hub.create("org/locked", model_files(), gated=True)
    (tmp_path / "secrets" / "hub").mkdir(parents=True)
    (tmp_path / "secrets" / "hub" / "token").write_text(hub.token + "\n")
    more = ", secret_ref=SecretReference(name='hub')"
    said = in_process(
        hub,
        "from tunesmith_api.placement import SecretReference\n" + RESOLVE.format(name="org/locked", more=more),
        tmp_path,
    )

    assert "'revision'" in said
    assert hub.token not in said


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (None, "the Secret 'hub' is not there"),
        ({}, "is not there, or empty: it needs the key 'token'"),
        ({"token": "\n"}, "has no key 'token'"),
    ],
)
@pytest.mark.parametrize("source", ["hf://org/open", "https://127.0.0.1:9/model.zip"])
def test_a_secret_that_is_named_must_be_there(
    hub: Hub, tmp_path: Path, source: str, keys: dict[str, str] | None, said: str
) -> None:
    """Contract 7: SecretMissing, and never the rights of an anonymous caller or of whoever runs this."""
    hub.create("org/open", model_files())
    if keys is not None:
        (tmp_path / "secrets" / "hub").mkdir(parents=True)
        for name, value in keys.items():
            (tmp_path / "secrets" / "hub" / name).write_text(value)
    hub.requests.clear()
    access = Access(tmp_path, tmp_path / "secrets")
    with pytest.raises(StageFailure, match=said) as caught:
        resolve_model(Model(source=source, secret_ref=SecretReference(name="hub")), access)

    assert caught.value.failure is FailureClass.SECRET_MISSING
    assert hub.requests == []


@pytest.mark.parametrize(
    ("number", "failure"),
    [(errno.ENOSPC, FailureClass.DISK_FULL), (errno.EDQUOT, FailureClass.DISK_FULL), (errno.ECONNREFUSED, None)],
)
def test_a_full_disk_is_no_absent_hub(tmp_path: Path, number: int, failure: FailureClass | None) -> None:
    """What the library raises while it writes (OSError by its number) is told apart from what it raises on the way."""

    def ask() -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(StageFailure) as caught, disk_full_is_told(tmp_path):
        told("hf://org/name", None, ask)
    assert caught.value.failure is (failure or FailureClass.SOURCE_UNAVAILABLE)


def test_what_a_bucket_says_is_told_of_the_source(tmp_path: Path) -> None:
    """A service that is away is the source's absence: no word of the store, whose address may be right."""
    (tmp_path / "secrets" / "rows").mkdir(parents=True)
    dataset = Dataset(
        source="s3://bucket/rows.jsonl", endpoint="http://127.0.0.1:9", secret_ref=SecretReference(name="rows")
    )
    for keys, failure in (
        ((), FailureClass.SECRET_MISSING),
        (("accessKey", "secretKey"), FailureClass.SOURCE_UNAVAILABLE),
    ):
        for key in keys:
            (tmp_path / "secrets" / "rows" / key).write_text("x")
        with pytest.raises(StageFailure) as caught:
            resolve_dataset(dataset, Access(tmp_path, tmp_path / "secrets"))
        assert caught.value.failure is failure
        assert "s3://bucket/rows.jsonl" in caught.value.message
        assert "store" not in caught.value.message + caught.value.hint


def test_a_hub_dataset_is_read_by_config_and_split(hub: Hub, tmp_path: Path) -> None:
    """The card says which files are which; test rows are not trained on."""
    card = b"---\nconfigs:\n- config_name: small\n  data_files:\n  - {split: train, path: data/tr-*.jsonl}\n---\n"
    files = {"README.md": card, "data/tr-0.jsonl": ROW, "data/tr-1.jsonl": ROW * 2, "data/te-0.jsonl": ROW * 3}
    hub.create("org/rows", files, kind="dataset")
    code = "found = resolve_dataset(Dataset(source='hf://org/rows', config='small'), access)\n"
    code += "print([file.path for file in found.resolved.files])"

    assert in_process(hub, code, tmp_path) == "['data/tr-0.jsonl', 'data/tr-1.jsonl']"


def test_a_local_model_is_pinned_by_its_bytes(tmp_path: Path) -> None:
    """The same bytes elsewhere are the same model."""
    digests = []
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        for name, data in model_files(**{"onnx/model.onnx": None}).items():
            (tmp_path / place / name).write_bytes(data)
        digests.append(resolve_model(Model(source=f"file://{place}"), Access(tmp_path)).digest)
    (tmp_path / "b" / "model.safetensors").write_bytes(weights() + b"\0")

    assert digests[0] == digests[1]
    assert resolve_model(Model(source="file://b"), Access(tmp_path)).digest != digests[0]


def test_digests_are_known_without_a_cache_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be written (here: it is a file) a model is hashed anew each time."""
    (tmp_path / "model").mkdir()
    for name, data in model_files(**{"onnx/model.onnx": None}).items():
        (tmp_path / "model" / name).write_bytes(data)
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))

    assert resolve_model(Model(source="file://model"), Access(tmp_path)).digest.startswith("sha256:")


@pytest.mark.parametrize(
    ("source", "failure"),
    [
        ("file://nowhere.jsonl", FailureClass.SOURCE_ABSENT),
        ("pvc://claim/rows.jsonl", FailureClass.SPEC_INVALID),
        ("s3://b/rows.jsonl", FailureClass.SPEC_INVALID),
        ("s3://bucket/", FailureClass.SPEC_INVALID),
        ("https://127.0.0.1:9/rows.jsonl", FailureClass.SOURCE_UNAVAILABLE),
        ("file://pictures", FailureClass.DATASET_INVALID),
    ],
)
def test_rows_that_cannot_be_had_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, failure: FailureClass
) -> None:
    """Absent, of another world, unreachable, or no rows at all."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "one.png").write_bytes(b"png")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")

    with pytest.raises(StageFailure) as caught:
        resolve_dataset(Dataset(source=source), Access(tmp_path))
    assert caught.value.failure is failure
    assert caught.value.hint


def test_a_path_may_start_from_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/sources.md says so; any other relative path is taken from the manifest's folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    assert local_path(parse_source("file://~/rows.csv"), tmp_path / "jobs") == tmp_path / "home" / "rows.csv"
    assert local_path(parse_source("file://rows.csv"), tmp_path / "jobs") == tmp_path / "jobs" / "rows.csv"
