"""``make bench-cluster``: what the operator costs, and the same job on this machine and in a cluster.

Without pods: how soon a new job has a status, and how many writes a stage takes, by the audit log of a real API server
and Job controller. With pods: seconds of a job in the cluster of ``make cluster``, its images pulled before, against
``tunesmith run`` here, by turns, and how much of a training pod's life trains. Prints tables; docs/benchmarks.md keeps
what was found.
"""

import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from support.builders import a_spec
from support.control_plane import ControlPlane, control_plane
from support.kubelet import Kubelet
from support.operator_process import applied, operator, phase_of
from support.real_cluster.installed import BUCKET, SECRET, install, minio, team
from support.real_cluster.jobs import RealJob, stage_of
from support.real_cluster.layout import Layout, layout
from support.real_cluster.lifecycle import up
from support.runs import ROWS, manifest, smollm2, tunesmith
from support.small_cluster import ROWS as ROWS_NOWHERE
from support.waiting import wait_until

JOBS = 100
FINISHED = 1000
SPEC = a_spec(datasets=ROWS_NOWHERE, quantizations=["Q8_0"])
# Enough of a training to be one; all else as in the quickstart's form.
TRAINING = {"maxSteps": 60, "effectiveBatchSize": 8, "maxSequenceLength": 128, "learningRate": 0.001}
# What a training takes beside its steps hardly grows with them: its share is that of a longer one.
LONGER = TRAINING | {"maxSteps": 300}
# Sides take turns, so that a machine that becomes faster or slower does so for both.
ROUNDS = 2


@contextmanager
def watched(plane: ControlPlane, namespace: str) -> Iterator[Any]:
    """A function that gives the moment when a job's first status was seen, by a watch."""
    path = f"/apis/tunesmith.dev/v1alpha1/namespaces/{namespace}/finetunejobs"
    version = plane.get(path)["metadata"]["resourceVersion"]
    query = {"watch": "true", "resourceVersion": version}
    with plane.client.stream("GET", path, params=query, timeout=None) as stream:
        lines = stream.iter_lines()

        def seen(name: str) -> float:
            for line in lines:
                body = json.loads(line)["object"]
                if body["metadata"]["name"] == name and body["status"]["observedGeneration"] > 0:
                    return time.monotonic()
            raise RuntimeError("the watch has ended")

        yield seen


def latencies(plane: ControlPlane, work: Path) -> list[float]:
    """Seconds from the create of a job to its first status, one job after another."""
    namespace = "latency"
    plane.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    found = []
    with operator(plane.kubeconfig, work, namespace), watched(plane, namespace) as seen:
        applied(plane, namespace, SPEC, "first")
        seen("first")
        for number in range(JOBS):
            began = time.monotonic()
            applied(plane, namespace, SPEC, f"job-{number}")
            found.append(seen(f"job-{number}") - began)
    return found


def completed(plane: ControlPlane, work: Path, namespace: str) -> str:
    """The path of a job, in a new namespace, that has gone well."""
    plane.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    kubelet, path = Kubelet(plane, namespace), applied(plane, namespace, SPEC)
    with operator(plane.kubeconfig, work, namespace):

        def over() -> bool:
            kubelet.carry_on("bot", SPEC)
            return phase_of(plane, path) == "Complete"

        wait_until(over, "the job to be complete")
    return path


def writes_per_stage(plane: ControlPlane, work: Path) -> float:
    """All writes of one job that goes well, by stage."""
    completed(plane, work, "writes")
    return len(plane.writes_of_operator("writes")) / len(plane.jobs_made("writes"))


def beside_finished(plane: ControlPlane, work: Path) -> tuple[float, float, float]:
    """Of an operator that starts where many jobs have ended: seconds until a new one has a status, and its memory.

    Before and after, in MB. Their Jobs are gone by then, as a day after their end.
    """
    namespace = "many"
    status = plane.get(completed(plane, work, namespace))["status"]
    few = memory_of_operator(plane, work, namespace, "few")[1]
    for number in range(FINISHED):
        path = applied(plane, namespace, SPEC, f"ended-{number}")
        plane.patch(f"{path}/status", {"status": status})
    seconds, many = memory_of_operator(plane, work, namespace, "many")
    return seconds, few, many


def memory_of_operator(plane: ControlPlane, work: Path, namespace: str, name: str) -> tuple[float, float]:
    """Seconds from an operator's start to the first status of a new job, and the memory that it then has, in MB."""
    with watched(plane, namespace) as seen:
        began = time.monotonic()
        applied(plane, namespace, SPEC, name)
        with operator(plane.kubeconfig, work, namespace) as process:
            seconds = seen(name) - began
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    [resident] = [int(line.split()[1]) for line in lines if line.startswith("VmRSS:")]
    return seconds, resident / 1000


def without_pods(work: Path) -> None:
    """The operator alone."""
    with control_plane(work / "plane") as plane:
        (work / "operator").mkdir()
        found = sorted(latencies(plane, work / "operator"))
        writes = writes_per_stage(plane, work / "operator")
        seconds, few, many = beside_finished(plane, work / "operator")
    print("| what | figure | goal |\n|---|---|---|")
    print(f"| create to first status, {JOBS} jobs one by one, median | {statistics.median(found):.3f} s | |")
    print(f"| the slowest of a hundred | {found[-1]:.3f} s | 0.2 s |")
    print(f"| writes per stage | {writes:.1f} | 4 |")
    print(f"| an operator's start beside {FINISHED} finished jobs, to a new one's first status | {seconds:.1f} s | |")
    print(f"| its memory before and after | {few:.0f} MB, {many:.0f} MB | |")


def with_pods(work: Path) -> None:
    """The same job here and there, by turns; then a longer training there."""
    here = layout()
    up(here)
    install(here)
    upload_sources()
    # What either reads, images too, has been read once before it is timed.
    turns = [(here_timed(work / str(number)), there_timed(here, TRAINING)[0]) for number in range(1 + ROUNDS)]
    print("\n| `tunesmith run` | in the cluster | ratio |\n|---|---|---|")
    for local, there in turns[1:]:
        print(f"| {local:.0f} s | {there:.0f} s | {there / local:.2f} |")
    print_share(there_timed(here, LONGER)[1])


def upload_sources() -> None:
    """Model and rows into the cluster's MinIO."""
    client = minio().client()
    for path in smollm2().iterdir():
        client.fput_object(BUCKET, f"sources/smollm2/{path.name}", str(path))
    client.fput_object(BUCKET, "sources/reports.jsonl", str(ROWS))


def print_share(status: dict[str, Any]) -> None:
    """How much of the training pod's life trains."""
    train = stage_of(status, "train")
    life = (datetime.fromisoformat(train["finished"]) - datetime.fromisoformat(train["started"])).total_seconds()
    stage, steps = train["result"]["seconds"], train["result"]["figures"]["seconds"]
    print("\n| what | seconds | of the stage |\n|---|---|---|")
    print(f"| the training pod's life | {life:.0f} | |")
    print(f"| of it the stage, without its process's start | {stage:.0f} | |")
    print(f"| of that training (goal 0.95) | {steps:.0f} | {steps / stage:.2f} |")


def here_timed(work: Path) -> float:
    """Seconds of `tunesmith run` from an empty store."""
    work.mkdir()
    (work / "job.yaml").write_text(yaml.safe_dump(manifest(training=TRAINING)))
    began = time.monotonic()
    ran = tunesmith("run", work / "job.yaml", "--output", work / "out", "--store", work / "store")
    if ran.code not in (0, 1):
        raise RuntimeError(ran.stderr)
    return time.monotonic() - began


def there_timed(here: Layout, training: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Seconds of the same job from `kubectl apply` to its end in a new namespace, whose store is empty; its status."""
    secret = {"secretRef": {"name": SECRET}}
    model = {"source": f"s3://{BUCKET}/sources/smollm2", **secret}
    datasets = [{"source": f"s3://{BUCKET}/sources/reports.jsonl", **secret}]
    asked = manifest(model=model, datasets=datasets, training=training)
    job = RealJob(here, team(here, f"bench-{uuid.uuid4().hex[:8]}"), asked)
    began = time.monotonic()
    status = job.apply().ended()
    return time.monotonic() - began, status


def main() -> None:
    """Everything once."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as work:
        without_pods(Path(work))
        with_pods(Path(work))


if __name__ == "__main__":
    main()
