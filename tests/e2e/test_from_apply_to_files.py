"""``kubectl apply`` of a job in a real cluster ends with measured files in MinIO."""

import hashlib
import json

from support.real_cluster.installed import BUCKET, minio
from support.real_cluster.jobs import RealJob, stage_of
from tunesmith.store.published import KEY_DIGITS


def read(name: str) -> bytes:
    """An object of the store's bucket."""
    return bytes(minio().client().get_object(BUCKET, name).data)


def published(job: RealJob) -> dict[str, str]:
    """The published files with the digests of their bytes, each as `latest.json` names it."""
    at = f"{job.namespace}/published/{job.name}"
    latest = json.loads(read(f"{at}/latest.json"))
    named = {entry["path"]: entry["sha256"] for entry in latest["files"]}
    folder = f"{at}/{latest['key'][:KEY_DIGITS]}"
    assert {path: hashlib.sha256(read(f"{folder}/{path}")).hexdigest() for path in named} == named
    [report] = [json.loads(read(f"{folder}/report.json"))]
    for file in report["files"]:
        assert named[file["name"]] == file["sha256"]
    return named


def test_a_job_ends_with_measured_files(small: RealJob) -> None:
    """The published file is the one that was measured; the status says where, and what it took."""
    files = published(small)
    status = small.status()

    assert "small-Q4_K_M.gguf" in files
    [quantized] = status["artifacts"]
    assert quantized["sha256"] == files["small-Q4_K_M.gguf"]
    assert status["store"]["uri"] == f"s3://{BUCKET}"
    assert status["cpuSeconds"] > 0
    assert (status["progress"]["percent"], "stage" in status["progress"]) == (100, False)
    assert status["progress"]["loss"] > 0
    assert {stage["state"] for stage in status["stages"]} == {"Done"}


def test_one_more_quantization_costs_one_quantize_and_one_publish(small: RealJob) -> None:
    """Of a job that is complete; nothing else is run."""
    before = set(small.kubectl("get", "jobs", "--output=name").split())
    small.edit(quantizations=["Q4_K_M", "Q8_0"])
    status = small.ended()

    made = set(small.kubectl("get", "jobs", "--output=name").split()) - before
    assert sorted(name.removeprefix("job.batch/small-").rpartition("-")[0] for name in made) == ["publish", "quantize"]
    assert {"small-Q4_K_M.gguf", "small-Q8_0.gguf"} <= published(small).keys()
    assert stage_of(status, "quantize-Q8_0")["state"] == "Done"
