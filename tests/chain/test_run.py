"""``tunesmith run`` on the real model: from a manifest to measured files, once, and then only what changed."""

import copy
import hashlib
import json
import os
import re
import time
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from support.runs import Ran, all_cores, manifest, on_all_cores, run_command, run_job, tunesmith
from support.terminals import OnTerminal

DOCS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True)
class Finished:
    """One finished run, and what it said."""

    folder: Path
    job: dict[str, Any]
    ran: Ran

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def report(self) -> dict[str, Any]:
        return dict(json.loads((self.out / "report.json").read_text()))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The whole chain, once for this module."""
    folder = tmp_path_factory.mktemp("run")
    job = manifest()
    with on_all_cores():
        ran = run_job(folder, job)
    assert ran.code == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    return Finished(folder, job, ran)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and ".tunesmith" not in path.parts]


def test_the_folder_can_be_handed_over(finished: Finished) -> None:
    """GGUF, adapter in both forms, Modelfile, card, the base model's licence, report, log and its picture."""
    there = {str(path.relative_to(finished.out)) for path in files_below(finished.out)}

    assert there == {
        "small-Q4_K_M.gguf",
        "small-adapter.gguf",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "Modelfile.Q4_K_M",
        "README.md",
        "LICENSE",
        "report.json",
        "answers.jsonl",
        "training-log.jsonl",
        "training-loss.svg",
    }


def names_in(content: object) -> set[str]:
    """The names of all fields of a report, but for those that a job, a file or a package gives."""
    given = {"settings", "made", "tensorTypes", "versions", "texts", "labels"}
    if isinstance(content, list):
        return set().union(*map(names_in, content))
    if not isinstance(content, dict):
        return set()
    return set(content).union(*(names_in(value) for name, value in content.items() if name not in given))


def test_every_figure_is_explained(finished: Finished) -> None:
    """docs/report.md names each field of a real report."""
    explained = set(re.findall(r"`(\w+)`", (DOCS / "report.md").read_text()))

    assert names_in(finished.report()) - explained == set()


def test_the_report_keeps_its_schema_and_names_the_very_file(finished: Finished) -> None:
    """The digest in the report is that of the file that lies there: what was measured was not changed."""
    report = finished.report()
    jsonschema.validate(report, json.loads((DOCS / "report.schema.json").read_text()))
    (file,) = report["files"]

    assert hashlib.sha256((finished.out / file["name"]).read_bytes()).hexdigest() == file["sha256"]
    assert file["figures"]["perplexityIncrease"]["error"] > 0
    assert report["evaluation"]["tuned"]["loss"] is not None
    assert report["training"]["steps"] == 4


def test_every_stage_ran_once(finished: Finished) -> None:
    """Nothing twice, in an order that the plan allows."""
    started = finished.ran.started()

    assert sorted(started) == sorted(set(started))
    assert started[:3] == ["prepare", "train", "convert"]
    assert started[-1] == "publish"
    last = finished.ran.events[-1]
    assert (last["event"], last["phase"], last["failure"]) == ("finished", "Complete", None)
    assert sorted(last["files"]) == sorted(map(str, files_below(finished.out)))


@pytest.mark.skipif(len(all_cores()) < 2, reason="one core: one stage at a time")
def test_two_stages_run_side_by_side(finished: Finished) -> None:
    """And no more: each of llama.cpp's tools takes all cores."""
    changes = {"started": 1, "done": -1}
    under_way = list(accumulate(changes.get(event["event"], 0) for event in finished.ran.events))

    assert max(under_way) == 2
    assert under_way[-1] == 0


def test_run_again_it_only_checks(finished: Finished) -> None:
    """Unchanged: no stage is started."""
    again = run_job(finished.folder, finished.job)

    assert again.code == 0
    assert again.started() == []


def test_another_folder_takes_everything_from_the_store(finished: Finished, tmp_path: Path) -> None:
    """A second output folder over the same store only publishes under its own name, and gets the same files."""
    # Nothing is left to be made, so that llama.cpp's tools are neither looked for nor built.
    environment = {"STORE": str(finished.folder / "store"), "TUNESMITH_LLAMA_CPP": str(tmp_path)}
    again = run_job(tmp_path, finished.job, **environment)

    assert again.code == 0, again.stderr
    assert again.started() == ["publish"]
    assert (tmp_path / "out" / "small-Q4_K_M.gguf").read_bytes() == (finished.out / "small-Q4_K_M.gguf").read_bytes()


def test_without_a_terminal_a_person_reads_lines(finished: Finished, tmp_path: Path) -> None:
    """Each stage is done once, whether it ran or was in the store, and then comes the table of what was made."""
    ran = tunesmith(*run_command(tmp_path, finished.job, finished.folder / "store"))
    lines = ran.stdout.splitlines()

    assert ran.code == 0, ran.stderr
    done = [line.split(":")[0] for line in lines if re.match(r"[\w-]+: done, ", line)]
    assert sorted(done) == sorted(finished.ran.started())
    assert next(line for line in lines if line.startswith("publish: ")) == "publish: running [0s]"
    assert [line for line in lines if line.startswith("prepare: done, in the store already, ")] != []
    assert "\x1b" not in ran.stdout
    table = lines.index(f"small: gates {finished.report()['verdict']}")
    assert re.match(r"type +MB .* gates$", lines[table + 1])
    assert lines[table + 2].startswith("Q4_K_M ")


def test_on_a_terminal_a_person_sees_one_board_of_all_stages(finished: Finished) -> None:
    """Of a job that is done, too; the last drawing stays, with the table of what was made below it."""
    run = OnTerminal(*run_command(finished.folder, finished.job, finished.folder / "store"))
    assert run.end(timeout=300) == 0
    drawings = run.drawings(f"small -> {finished.out}")

    assert len(drawings) > 2
    for stage in finished.ran.started():
        assert re.search(rf"^{stage} .* done ", drawings[1], re.MULTILINE)
        assert re.search(rf"^{stage} .* done ", drawings[-1], re.MULTILINE)
    assert re.search(r"^type +MB .*\nQ4_K_M +", drawings[-1], re.MULTILINE)
    assert f"Chat:  tunesmith chat {finished.out}/" in drawings[-1]


def test_one_more_quantization_runs_only_that_and_publish(finished: Finished, tmp_path: Path) -> None:
    """It does not train again; taken out of the manifest again, its file goes too, and latest.json follows."""
    more = copy.deepcopy(finished.job)
    more["spec"]["quantizations"] = ["Q4_K_M", "Q8_0"]
    store = {"STORE": str(finished.folder / "store")}
    run_job(tmp_path, finished.job, **store)
    added = run_job(tmp_path, more, **store)
    assert added.code == 0, added.stdout[-2000:]
    assert added.started() == ["quantize-Q8_0", "publish"]
    assert (tmp_path / "out" / "small-Q8_0.gguf").exists()

    latest = finished.folder / "store" / "default" / "published" / "small" / "latest.json"
    assert "small-Q8_0.gguf" in latest.read_text()

    removed = run_job(tmp_path, finished.job, **store)
    assert removed.started() == ["publish"]
    assert not (tmp_path / "out" / "small-Q8_0.gguf").exists()
    assert "small-Q8_0.gguf" not in latest.read_text()


def test_what_would_change_the_weights_is_refused(finished: Finished) -> None:
    """Exit code 2, the field and the cure; nothing is lost."""
    other = copy.deepcopy(finished.job)
    other["spec"]["training"]["learningRate"] = 0.5
    refused = run_job(finished.folder, other)

    assert refused.code == 2
    assert "learningRate" in refused.stderr
    assert "--output" in refused.stderr
    assert (finished.out / "small-Q4_K_M.gguf").exists()


def test_a_gate_that_fails_withholds_the_file_and_ends_with_1(finished: Finished, tmp_path: Path) -> None:
    """Only publish runs again; the report names the gate (contract 9)."""
    strict = copy.deepcopy(finished.job)
    strict["spec"]["gates"] |= {"maxPerplexityIncrease": 0.0001, "idealPerplexityIncrease": 0.0001}
    failed = run_job(tmp_path, strict, STORE=str(finished.folder / "store"))

    assert failed.code == 1
    assert failed.started() == ["publish"]
    last = failed.events[-1]
    assert (last["phase"], last["failure"]["class"]) == ("Failed", "GateFailed")
    assert not (tmp_path / "out" / "small-Q4_K_M.gguf").exists()
    (file,) = json.loads((tmp_path / "out" / "report.json").read_text())["files"]
    assert (file["verdict"], file["published"]) == ("Failed", False)

    strict["spec"]["gates"]["onFailure"] = "Publish"
    published = run_job(tmp_path, strict, STORE=str(finished.folder / "store"))
    assert published.code == 0
    assert (tmp_path / "out" / "small-Q4_K_M.gguf").exists()


def test_show_compare_and_plan_read_what_was_made(finished: Finished) -> None:
    """Each as a table and as JSON."""
    shown = tunesmith("show", finished.out)
    assert "Q4_K_M" in shown.stdout
    assert json.loads(tunesmith("show", finished.out, "--json").stdout) == finished.report()
    compared = tunesmith("compare", finished.out, finished.out)
    assert "Q4_K_M: perplexity rise" in compared.stdout
    store = str(finished.folder / "store")
    run_job(finished.folder, finished.job)
    plan = json.loads(tunesmith("plan", finished.folder / "job.yaml", "--store", store, "--json").stdout)
    assert all(stage["inStore"] for stage in plan["stages"])


def test_chat_answers_from_the_file(finished: Finished) -> None:
    """One question through llama-server."""
    answered = tunesmith("chat", finished.out, "Q4_K_M", "--prompt", "Hello!")

    assert answered.code == 0, answered.stderr
    assert answered.stdout.strip()
    assert "<|im" not in answered.stdout
    told = json.loads(tunesmith("chat", finished.out, "Q4_K_M", "--prompt", "Hello!", "--json").stdout)
    assert told["answer"] == answered.stdout.removesuffix("\n")


def test_the_users_llama_options_do_not_reach_a_chat(finished: Finished) -> None:
    """LLAMA_ARG_* in the environment would change how the file answers: here, that it answers one token only."""
    ask = ("chat", finished.out, "Q4_K_M", "--prompt", "Hello!")

    assert tunesmith(*ask, LLAMA_ARG_N_PREDICT="1").stdout == tunesmith(*ask).stdout


def test_chat_says_why_there_is_no_answer(finished: Finished) -> None:
    """llama-server refuses what is longer than the model reads; that is the caller's mistake and no empty answer."""
    refused = tunesmith("chat", finished.out, "--prompt", "Hello! " * 9000)

    assert refused.code == 2
    assert "tokens, and the model reads 8192" in refused.stderr
    assert "Ask with fewer words" in refused.stderr


def test_gc_keeps_what_is_published(finished: Finished) -> None:
    """Forty days later, and with no run that names it: only what nothing refers to goes."""
    store = finished.folder / "store" / "default"
    lost = store / "attempts" / "of-a-killed-stage" / "model.gguf"
    lost.parent.mkdir()
    lost.write_bytes(b"GGUF")
    for run in (store / "runs").iterdir():
        run.unlink()
    then = time.time() - 40 * 86_400
    for path in store.rglob("*"):
        os.utime(path, (then, then))
    swept = tunesmith("gc", "--store", finished.folder / "store", "--json")

    assert swept.code == 0, swept.stderr
    removed = json.loads(swept.stdout)["removed"]
    assert "attempts/of-a-killed-stage/model.gguf" in removed
    assert not [name for name in removed if name.startswith("artifacts/")]
    assert run_job(finished.folder, finished.job).started() == []
