"""The same run over an S3 store, and its files in a real Ollama; each takes minutes, so 'make test-all' runs them."""

import json
import threading
from pathlib import Path

import pytest
import yaml

from support.models import smollm2
from support.ollama import ollama_server
from support.runs import ROWS, manifest, run_job, tunesmith
from support.servers import minio_server
from tunesmith.llama_cpp import find_tools
from tunesmith_trainer.llama.server import Serving, serve

pytestmark = pytest.mark.slow

EXAMPLES = ROWS.parents[1]


def test_rows_and_store_in_minio(tmp_path: Path) -> None:
    """Rows from a bucket, artifacts into it, the published folder readable there; a second machine only publishes."""
    with minio_server(tmp_path / "minio") as server:
        server.client().fput_object(server.bucket, "rows/street.jsonl", str(ROWS))
        server.write_secret(tmp_path / "secrets" / "minio")
        reference = {"secretRef": {"name": "minio"}}
        job = manifest(
            datasets=[{"source": f"s3://{server.bucket}/rows/street.jsonl", **reference}],
            store={"uri": f"s3://{server.bucket}/models", "endpoint": server.endpoint, **reference},
        )
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
        environment = {"TUNESMITH_SECRETS": str(tmp_path / "secrets")}
        command = ("run", tmp_path / "job.yaml", "--json", "--output")
        first = tunesmith(*command, tmp_path / "out", **environment)
        assert first.code == 0, first.stdout[-2000:] + first.stderr[-2000:]
        published = {
            item.object_name.rsplit("/", 1)[-1]
            for item in server.client().list_objects(server.bucket, "models/default/published/small/", recursive=True)
        }
        assert {"small-Q4_K_M.gguf", "report.json", "latest.json"} <= published

        second = tunesmith(*command, tmp_path / "elsewhere", **environment)
        assert second.code == 0, second.stderr
        assert second.started() == ["publish"]
        files = [folder / "small-Q4_K_M.gguf" for folder in (tmp_path / "out", tmp_path / "elsewhere")]
        assert files[0].read_bytes() == files[1].read_bytes()
        said = first.stdout + first.stderr
        assert server.secret_key not in said
        assert server.secret_key not in "".join(path.read_text() for path in (tmp_path / "out").rglob("*.log"))


def test_the_demos_models_are_better_than_the_base_pass_their_gates_and_answer_in_ollama(tmp_path: Path) -> None:
    """The quickstart as it is, over the user's own store: after `make demo` nothing is trained again.

    From our Modelfile a real Ollama takes the template of the file and our stops: the same greedy answer, to its end.
    """
    job = yaml.safe_load((EXAMPLES / "quickstart.yaml").read_text())
    job["spec"]["model"]["source"] = f"file://{smollm2()}"
    job["spec"]["datasets"][0]["source"] = f"file://{ROWS}"
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    out = tmp_path / "out"
    ran = tunesmith("run", tmp_path / "job.yaml", "--output", out, "--json")
    assert ran.code == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    report = json.loads((out / "report.json").read_text())
    assert report["evaluation"]["prompts"] >= 40
    assert report["evaluation"]["gain"]["value"] >= 0.3
    assert report["evaluation"]["gain"]["low"] > 0
    assert {file["type"]: file["verdict"] for file in report["files"]} == dict.fromkeys(
        job["spec"]["quantizations"], "Passed"
    )

    question = [{"role": "user", "content": "The street lamp outside number 12 has been dark for a week."}]
    with ollama_server(tmp_path / "ollama") as ollama:
        for file in report["files"]:
            name = f"demo-{file['type'].lower()}"
            ollama.create(name, out / f"Modelfile.{file['type']}")
            answer = ollama.chat(name, question, temperature=0, seed=1)
            with serve(find_tools(), out / file["name"], Serving(512), threading.Event()) as server:
                expected = server.chat(question, max_tokens=64)
            assert (answer["done_reason"], expected.stopped) == ("stop", True)
            # Our llama-server spells the token that ended the answer out.
            assert answer["message"]["content"] == expected.text.removesuffix("<|im_end|>")
            assert "Lighting" in answer["message"]["content"]


@pytest.mark.parametrize(
    ("method", "engine"),
    [
        ("QLoRA", "Transformers"),
        ("Full", "Transformers"),
        ("LoRA", "Unsloth"),
        ("QLoRA", "Unsloth"),
        ("Full", "Unsloth"),
    ],
)
def test_every_method_and_engine_through_the_whole_chain(tmp_path: Path, method: str, engine: str) -> None:
    """LoRA with Transformers is test_run.py's; the others end in a measured file too."""
    job = manifest(quantizations=["Q8_0"])
    job["spec"]["training"] |= {"method": method, "engine": engine, "maxSteps": 3}
    if method == "Full":
        job["spec"]["training"]["learningRate"] = 1e-5
    ran = run_job(tmp_path, job)

    assert ran.code == 0, ran.stdout[-3000:] + ran.stderr[-2000:]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["training"]["method"], report["training"]["engine"]) == (method, engine)
    assert (tmp_path / "out" / "adapter").exists() == (method != "Full")


def test_somebody_elses_adapter_is_merged_and_measured(tmp_path: Path) -> None:
    """training.method None with model.adapter: no training, an adapter of another run in the result."""
    first = run_job(tmp_path / "first", manifest(quantizations=["Q8_0"]))
    assert first.code == 0, first.stdout[-2000:]
    adapter = tmp_path / "first" / "out" / "adapter"
    job = manifest(
        model={"source": f"file://{smollm2()}", "adapter": f"file://{adapter}"},
        training={"method": "None", "maxSequenceLength": 128},
        quantizations=["Q8_0"],
    )
    second = run_job(tmp_path / "second", job)

    assert second.code == 0, second.stdout[-3000:] + second.stderr[-2000:]
    assert "train" not in second.started()
    assert (tmp_path / "second" / "out" / "small-Q8_0.gguf").stat().st_size > 100_000_000
