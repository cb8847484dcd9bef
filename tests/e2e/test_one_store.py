"""The same manifest on a laptop, in the cluster and on a laptop again, over one store: nothing is made twice."""

from pathlib import Path

import pytest
import yaml

from support.real_cluster.installed import BUCKET, SECRET, minio
from support.real_cluster.jobs import RealJob, stage_of
from support.runs import Ran, tunesmith

pytestmark = pytest.mark.slow

TRAINING = {"maxSteps": 4, "effectiveBatchSize": 8, "maxSequenceLength": 128, "seed": 31}


def test_from_a_laptop_to_the_cluster_and_back_nothing_is_made_twice(small: RealJob, tmp_path: Path) -> None:
    """The laptop trains, the cluster adds a quantization, and the laptop delivers both without running a stage."""
    # An address that pods and this machine both know.
    endpoint = small.cluster.minio_here
    store = {"uri": f"s3://{BUCKET}/shared", "endpoint": endpoint, "secretRef": {"name": SECRET}}
    minio().write_secret(tmp_path / "secrets" / SECRET)

    def on_a_laptop(job: RealJob) -> Ran:
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(dict(job.manifest)))
        words = ["run", tmp_path / "job.yaml", "--output", tmp_path / "out", "--namespace", job.namespace, "--json"]
        ran = tunesmith(*words, TUNESMITH_SECRETS=str(tmp_path / "secrets"))
        assert ran.code == 0, ran.stderr
        return ran

    job = small.named("shared", store=store, training=TRAINING)
    assert {"prepare", "train", "quantize-Q4_K_M"} <= set(on_a_laptop(job).started())
    job.apply().ended()
    assert stages(job) == {"prepare": True, "evaluate": True, "quantize-Q4_K_M": True, "publish": True}

    job = small.named("shared", store=store, training=TRAINING, quantizations=["Q4_K_M", "Q8_0"])
    job.apply().ended()
    assert stages(job)["quantize-Q8_0"] is False
    assert stages(job).keys() & {"train", "convert", "baseline"} == set()
    # publish is asked in any case, and has nothing to do.
    assert on_a_laptop(job).started() == ["publish"]
    assert {path.name for path in (tmp_path / "out").glob("*.gguf")} >= {"shared-Q4_K_M.gguf", "shared-Q8_0.gguf"}


def stages(job: RealJob) -> dict[str, bool]:
    """The stages that had a Job, and whether it found in the store what it was asked for (contract 5)."""
    column = r"--output=jsonpath={range .items[*]}{.metadata.labels.tunesmith\.dev/stage}{'\n'}{end}"
    had = job.kubectl("get", "jobs", f"--selector=tunesmith.dev/job={job.name}", column).split()
    return {name: stage_of(job.status(), name)["result"].get("reused", False) for name in had}
