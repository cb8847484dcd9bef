"""gc removes what nothing needs and is old, and nothing else."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from support.runs import tunesmith
from support.servers import S3Server
from tunesmith.store import FileEntry, InputReference, Manifest, StoredObject
from tunesmith.store.gc import sweep
from tunesmith.store.published import Source, publish
from tunesmith.store.reachable import Roots, published_prefixes, unreachable
from tunesmith.store.runs import Run, RunKey, new_run, refresh_run

from .conftest import Place, s3_place

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEYS = [f"{number:064x}" for number in range(6)]
KINDS = ["adapter", "gguf", "publication"]


def aged(name: str, days: float, size: int = 1) -> StoredObject:
    return StoredObject(name, size, NOW - timedelta(days=days))


def named(removed: list[StoredObject]) -> list[str]:
    return [item.name for item in removed]


def a_manifest(kind: str, key: str, inputs: list[tuple[str, str]] | None = None) -> Manifest:
    references = [InputReference(kind=kind, key=key, manifest_digest="") for kind, key in inputs or []]
    files = (FileEntry(path="f", sha256="", size=1),)
    return Manifest(kind=kind, key=key, attempt=f"{kind}-{key[-4:]}", files=files, inputs=tuple(references))


def objects_of(manifest: Manifest, days: float) -> list[StoredObject]:
    committed = aged(f"artifacts/{manifest.kind}/{manifest.key}/manifest.json", days)
    return [committed, *(aged(f"attempts/{manifest.attempt}/{entry.path}", days + 0.1) for entry in manifest.files)]


def a_run(days: float, keys: list[tuple[str, str]], uploads: tuple[str, ...] = ()) -> Run:
    run_keys = tuple(RunKey(kind=kind, key=key) for kind, key in keys)
    return Run(uid="u", job="j", keys=run_keys, uploads=uploads, refreshed=NOW - timedelta(days=days))


def test_an_artifact_that_nothing_names_goes_after_seven_days() -> None:
    """Manifest first, then its files; a younger one stays whole."""
    old, young = a_manifest("gguf", KEYS[0]), a_manifest("gguf", KEYS[1])
    objects = [*objects_of(old, 7.1), *objects_of(young, 6.9)]

    removed = unreachable(objects, {("gguf", m.key): m for m in (old, young)}, Roots(), NOW)

    assert [f"artifacts/gguf/{KEYS[0]}/manifest.json", "attempts/gguf-0000/f"] == named(removed)


def test_what_a_run_reaches_stays_for_thirty_days() -> None:
    """Through the inputs of manifests, however old they are; then the run's record goes with it."""
    base = a_manifest("base", KEYS[0])
    tuned = a_manifest("gguf", KEYS[1], [("base", KEYS[0])])
    manifests = {("base", KEYS[0]): base, ("gguf", KEYS[1]): tuned}
    objects = [*objects_of(base, 100), *objects_of(tuned, 100), aged("runs/u.json", 31)]

    alive = Roots(runs={"runs/u.json": a_run(29.9, [("gguf", KEYS[1])])})
    expired = Roots(runs={"runs/u.json": a_run(30.1, [("gguf", KEYS[1])])})

    assert unreachable(objects, manifests, alive, NOW) == []
    assert {item.name for item in objects} == set(named(unreachable(objects, manifests, expired, NOW)))


def test_what_is_published_stays_for_ever() -> None:
    """And keeps the publication and all it was made of."""
    gguf = a_manifest("quantized", KEYS[0])
    publication = a_manifest("publication", KEYS[1], [("quantized", KEYS[0])])
    manifests = {("quantized", KEYS[0]): gguf, ("publication", KEYS[1]): publication}
    objects = [
        *objects_of(gguf, 1000),
        *objects_of(publication, 1000),
        aged(f"published/bot/{KEYS[1][:12]}/bot-Q4_K_M.gguf", 1000),
        aged("published/bot/latest.json", 1000),
    ]

    assert unreachable(objects, manifests, Roots(published_prefixes(objects)), NOW) == []


def test_a_lost_attempt_goes_when_its_newest_file_is_old() -> None:
    """An upload that has been going on for days is not torn apart."""
    objects = [aged("attempts/a/1", 20), aged("attempts/a/2", 1), aged("attempts/b/1", 20), aged("attempts/b/2", 8)]

    assert named(unreachable(objects, {}, Roots(), NOW)) == ["attempts/b/1", "attempts/b/2"]


def test_checkpoints_stay_while_their_training_may_go_on() -> None:
    """Kept: named by a run and without a result. Gone when old: with a result, or named by nobody."""
    done = a_manifest("adapter", KEYS[1])
    objects = [*objects_of(done, 9), *(aged(f"checkpoints/{key}/10/x/model", 9) for key in KEYS[:3])]
    roots = Roots(runs={"runs/u.json": a_run(1, [("adapter", KEYS[0]), ("adapter", KEYS[1])])})

    removed = unreachable(objects, {("adapter", KEYS[1]): done}, roots, NOW)

    assert [f"checkpoints/{KEYS[1]}/10/x/model", f"checkpoints/{KEYS[2]}/10/x/model"] == named(removed)


def test_logs_and_uploads_stay_with_their_run() -> None:
    """Others go when old; what gc does not know stays."""
    objects = [aged(f"logs/train/{key}/a.log", 9) for key in KEYS[:2]]
    objects += [aged("uploads/aa", 9), aged("uploads/bb", 9), aged("something/else", 900), aged(".verified.jsonl", 900)]
    roots = Roots(runs={"runs/u.json": a_run(1, [("adapter", KEYS[0])], ("aa",))})

    assert [f"logs/train/{KEYS[1]}/a.log", "uploads/bb"] == named(unreachable(objects, {}, roots, NOW))


def test_gc_reaches_the_store_of_a_manifest(minio: S3Server, tmp_path: Path) -> None:
    """With its endpoint and Secret, in its namespace, none of which the call has to repeat."""
    place = s3_place(minio, tmp_path / "secrets")
    expired = new_run("u", "bot", [], datetime.now(UTC) - timedelta(days=31))
    refresh_run(place.open(), "team", expired)
    refresh_run(place.open(), "default", expired)
    job = {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "bot", "namespace": "team"},
        "spec": {
            "model": {"source": "hf://org/model"},
            "datasets": [{"source": "file://rows.jsonl"}],
            "store": {"uri": place.location.uri, "endpoint": minio.endpoint, "secretRef": {"name": "store"}},
        },
    }
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    environment = {"TUNESMITH_SECRETS": str(place.secrets), "TUNESMITH_CACHE": str(tmp_path / "cache")}
    swept = tunesmith("gc", "--manifest", tmp_path / "job.yaml", "--json", **environment)

    assert swept.code == 0, swept.stderr
    told = json.loads(swept.stdout)
    assert (told["store"], told["removed"]) == (place.location.uri, ["runs/u.json"])
    assert place.open().stat("team/runs/u.json") is None
    assert place.open().stat("default/runs/u.json") is not None


@st.composite
def stores(draw: st.DrawFn) -> tuple[list[StoredObject], dict[tuple[str, str], Manifest], Roots]:
    """Namespaces with artifacts that refer to each other, lost attempts, runs and published folders of any age."""
    ages = st.floats(0, 60)
    artifacts = draw(st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(KEYS)), unique=True))
    some = st.lists(st.sampled_from(artifacts), max_size=3) if artifacts else st.just([])
    manifests = {(kind, key): a_manifest(kind, key, draw(some)) for kind, key in artifacts}
    objects = [item for manifest in manifests.values() for item in objects_of(manifest, draw(ages))]
    objects += [aged(f"attempts/lost-{number}/f", draw(ages)) for number in range(draw(st.integers(0, 3)))]
    objects += [aged(f"checkpoints/{key}/1/a/f", draw(ages)) for key in draw(st.sets(st.sampled_from(KEYS)))]
    for key in draw(st.sets(st.sampled_from(KEYS), max_size=2)):
        objects.append(aged(f"published/job/{key[:12]}/file", draw(ages)))
    runs = {f"runs/{number}.json": a_run(draw(ages), draw(some)) for number in range(draw(st.integers(0, 3)))}
    objects += [aged(name, 0) for name in runs]
    return objects, manifests, Roots(published_prefixes(objects), runs)


@given(stores())
def test_properties_of_gc(store: tuple[list[StoredObject], dict[tuple[str, str], Manifest], Roots]) -> None:
    """Nothing young, published or reachable goes; what stays is whole; a second sweep finds nothing."""
    objects, manifests, roots = store
    removed = unreachable(objects, manifests, roots, NOW)
    gone = set(named(removed))
    left = [item for item in objects if item.name not in gone]
    kept = {
        artifact: m for artifact, m in manifests.items() if f"artifacts/{'/'.join(artifact)}/manifest.json" not in gone
    }

    assert not [item for item in removed if item.modified > NOW - timedelta(days=7) and "runs/" not in item.name]
    assert not [name for name in gone if name.startswith("published/")]
    for run in roots.runs.values():
        if not run.expired(NOW):
            assert all((item.kind, item.key) in kept for item in run.keys)
    for manifest in kept.values():
        assert f"attempts/{manifest.attempt}/f" not in gone
    alive = {name: run for name, run in roots.runs.items() if name not in gone}
    assert unreachable(left, kept, replace(roots, runs=alive), NOW) == []


def test_sweep_removes_from_a_real_store(place: Place, work: Path, tmp_path: Path) -> None:
    """A month later: what is published is still whole, the rest is gone, and a dry run removed nothing."""
    artifacts, now = place.artifacts(), datetime.now(UTC)
    base = artifacts.commit("gguf", "a" * 64, work)
    publication = artifacts.commit("publication", "b" * 64, work, inputs=[base])
    artifacts.commit("gguf", "c" * 64, work)
    artifacts.commit("gguf", "a" * 64, work, replace=True)
    publish(artifacts, "bot", "b" * 64, {"w.gguf": Source(publication, "weights.bin")})
    refresh_run(artifacts.store, "default", new_run("u", "bot", [("gguf", "c" * 64)]))
    refresh_run(artifacts.store, "default", new_run("u", "bot", [("gguf", "a" * 64)]))
    before = {item.name for item in artifacts.store.list("default")}

    assert sweep(artifacts.store, "default", now, dry_run=False).removed[1:] == ()
    within = sweep(artifacts.store, "default", now + timedelta(days=20), dry_run=True)
    assert [f"attempts/{base.attempt}/{e.path}" for e in base.files] == sorted(item.name for item in within.removed)
    later = now + timedelta(days=31)
    listed = sweep(artifacts.store, "default", later, dry_run=True)
    assert before == {item.name for item in artifacts.store.list("default")}

    swept = sweep(artifacts.store, "default", later, dry_run=False)

    assert {item.name for item in listed.removed} == {item.name for item in swept.removed}
    assert swept.removed_bytes == 2 * base.size + sum(i.size for i in swept.removed if i.name.endswith("json"))
    assert artifacts.find("gguf", "c" * 64) is None
    artifacts.open("gguf", "a" * 64, tmp_path / "scratch")
    artifacts.open("publication", "b" * 64, tmp_path / "scratch")
    assert artifacts.store.stat(f"default/published/bot/{'b' * 12}/w.gguf") is not None
    assert artifacts.store.stat("default/runs/u.json") is None
    assert sweep(artifacts.store, "default", later, dry_run=False).removed == ()
