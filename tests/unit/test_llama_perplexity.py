"""What llama-perplexity prints becomes figures, and what it stores is checked."""

import math
import os
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from support.ggufs import smollm2_gguf
from support.llama_cpp_folders import a_script, a_tools_folder
from tunesmith.llama_cpp import find_tools
from tunesmith.llama_cpp.tools import Build, Origin, tools_in
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.llama.perplexity import (
    Figure,
    LogitsHeader,
    Measuring,
    Perplexity,
    chunk_bytes,
    chunk_progress,
    compare_with_baseline,
    measure_perplexity,
    paired_increase,
    parse_divergence,
    parse_perplexity,
    read_logits_header,
    window_losses,
)

# Printed by llama.cpp b11312 for SmolLM2-135M-Instruct; the two streams run into one another as they do in a pipe.
PLAIN = """0.00.449.827 I perplexity: calculating perplexity over 3 chunks, n_ctx=512, batch_size=2048, n_seq=4
0.01.866.256 I perplexity: 1.40 seconds per pass - ETA 0.07 minutes
[1]2.1984,[2]4.2959,[3]5.9516,
0.05.550.483 I Final estimate: PPL = 5.9516 +/- 0.59497
"""
DIVERGENCE = """0.00.187.099 I kl_divergence: computing over 12 chunks, n_ctx=512, batch_size=2048, n_seq=4

chunk             PPL               ln(PPL(Q)/PPL(base))          KL Divergence              Δp RMS            Same top p
   1       2.2362 ±    0.2922       0.01704 ±    0.01615       0.03360 ±    0.00483     6.235 ±  0.612 %    96.863 ±  1.094 %
  12      10.9949 ±    0.6055       0.01692 ±    0.00490       0.02882 ±    0.00086     4.031 ±  0.143 %    90.686 ±  0.525 %

====== Perplexity statistics ======
Mean PPL(Q)                   :  10.994888 ±   0.605495
Mean PPL(base)                :  10.810448 ±   0.594972
Cor(ln(PPL(Q)), ln(PPL(base))):  99.60%
Mean ln(PPL(Q)/PPL(base))     :   0.016917 ±   0.004896
Mean PPL(Q)/PPL(base)         :   1.017061 ±   0.004979
Mean PPL(Q)-PPL(base)         :   0.184441 ±   0.054401

====== KL divergence statistics ======
Mean    KLD:   0.028816 ±   0.000859
Maximum KLD:   1.070098
99.9%   KLD:   0.580746
99.0%   KLD:   0.225268
Median  KLD:   0.017646

====== Token probability statistics ======
Mean    Δp: -0.352 ± 0.073 %
RMS Δp    :  4.031 ± 0.143 %
Same top p: 90.686 ± 0.525 %
"""  # noqa: E501  # printed so


def test_a_plain_run_gives_perplexity_windows_and_their_losses() -> None:
    """Value and error stand behind 'Final estimate'; the mean of the windows' losses is its logarithm."""
    result = parse_perplexity(PLAIN)

    assert result is not None
    assert (Figure(5.9516, 0.59497), 3) == (result.perplexity, result.chunks)
    assert math.log(5.9516) == pytest.approx(sum(result.losses) / 3)


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(PLAIN.replace("Final estimate", "Unexpected negative standard deviation"), id="no estimate"),
        pytest.param("perplexity: you need at least 1024 tokens\n", id="too short a text (exit code 0, P64)"),
    ],
)
def test_a_plain_run_without_a_result_is_none(output: str) -> None:
    """llama-perplexity exits with 0 on these."""
    assert parse_perplexity(output) is None


def test_a_paired_run_gives_every_figure_in_its_own_unit() -> None:
    """All lines are read whatever their spacing; percentages become fractions."""
    result = parse_divergence(DIVERGENCE)

    assert result is not None
    assert {
        "perplexity": {"value": 10.994888, "error": 0.605495},
        "baselinePerplexity": {"value": 10.810448, "error": 0.594972},
        "perplexityIncrease": {"value": 0.184441, "error": 0.054401},
        "logPerplexityIncrease": {"value": 0.016917, "error": 0.004896},
        "klDivergence": {"mean": 0.028816, "error": 0.000859, "median": 0.017646, "p99": 0.225268, "max": 1.070098},
        "sameTop": {"value": pytest.approx(0.90686), "error": pytest.approx(0.00525)},
        "gateChunks": 12,
    } == result.to_json_dict()


def test_a_paired_run_of_too_few_tokens_is_none() -> None:
    """Below 100 tokens the statistics are not printed at all (P64)."""
    assert parse_divergence(DIVERGENCE.split("====== KL", maxsplit=1)[0]) is None


def test_a_paired_run_that_computes_no_numbers_is_read_as_such() -> None:
    """nan is a figure, not an absent one."""
    result = parse_divergence(DIVERGENCE.replace("10.994888 ±   0.605495", "nan ± -nan"))

    assert result is not None
    assert math.isnan(result.perplexity.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[1]2.1984,[2]4.2959,[3]5.9", 2),
        ("  12      10.9949 ±    0.6055       0.01692 ±    0.00490", 12),
        ("Mean PPL(Q)                   :  10.994888 ±   0.605495", None),
    ],
)
def test_the_newest_line_says_how_many_windows_are_done(line: str, expected: int | None) -> None:
    """Both kinds of run count their windows."""
    assert expected == chunk_progress(line)


def test_the_size_of_stored_logits_is_that_of_a_real_file(tmp_path: Path) -> None:
    """12 windows of 512 tokens of a vocabulary of 49,152 took 300,859,316 bytes (P65)."""
    path = tmp_path / "logits.kld"
    path.write_bytes(b"_logits_" + struct.pack("<3i", 512, 49152, 12))
    with path.open("r+b") as file:
        file.truncate(300_859_316)

    assert read_logits_header(path).chunks == 12
    assert chunk_bytes(512, 49152) == 25_069_560


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"GGUF" * 8, id="another file"),
        pytest.param(b"_logits_", id="no header"),
        pytest.param(b"_logits_" + struct.pack("<3i", 512, 49152, 12), id="torn"),
    ],
)
def test_what_is_no_whole_file_of_logits_is_refused(tmp_path: Path, content: bytes) -> None:
    """A run that was cut off leaves a file with a good header."""
    (tmp_path / "logits.kld").write_bytes(content)

    with pytest.raises(ValueError, match=r"logits\.kld"):
        read_logits_header(tmp_path / "logits.kld")


def test_a_rise_on_the_same_windows_has_the_error_of_their_differences() -> None:
    """P66: windows of very different difficulty that all rise by the same share leave no doubt about the rise."""
    before = Perplexity(Figure(10.0, 5.0), 3, (1.0, 2.0, 3.9))
    after = Perplexity(Figure(11.05, 5.5), 3, (1.1, 2.1, 4.0))

    rise = paired_increase(before, after)

    assert pytest.approx(rise["logIncrease"]["value"]) == 0.1
    assert pytest.approx(rise["logIncrease"]["error"], abs=1e-9) == 0.0
    assert pytest.approx(rise["increase"]["value"]) == 1.05


def test_runs_over_different_windows_are_not_compared() -> None:
    """P67: a perplexity says something only beside another of the same text in windows of the same length."""
    before = Perplexity(Figure(10.0, 5.0), 3, (1.0, 2.0, 3.9))

    with pytest.raises(ValueError, match="shorter"):
        paired_increase(before, Perplexity(Figure(10.0, 5.0), 2, (1.0, 2.0)))


def test_a_comparison_is_over_all_windows_that_were_stored(tmp_path: Path) -> None:
    """P67: a run over fewer windows than the baseline's is no result, though the tool is content (P64)."""
    tools = tools_in(a_tools_folder(tmp_path / "tools"), Origin.ENVIRONMENT, Build(1, "0"))
    (tmp_path / "said").write_text(DIVERGENCE)
    a_script(tools.perplexity, f"cat {tmp_path}/said")
    how = Measuring(tools, tmp_path, threading.Event(), 64, 12, lambda _: None)

    assert compare_with_baseline(how, tmp_path / "q.gguf", stored_logits(tmp_path / "12.kld", 12)).chunks == 12
    with pytest.raises(StageFailure, match="came to no result"):
        compare_with_baseline(how, tmp_path / "q.gguf", stored_logits(tmp_path / "13.kld", 13))


def test_an_output_that_breaks_off_is_no_fault_of_the_model(tmp_path: Path) -> None:
    """llama.cpp loses the end of its log as it exits, with 0 (its issue 22142): the stage is tried again."""
    tools = tools_in(a_tools_folder(tmp_path / "tools"), Origin.ENVIRONMENT, Build(1, "0"))
    (tmp_path / "said").write_text(PLAIN[: PLAIN.index("[3]")])
    a_script(tools.perplexity, f"cat {tmp_path}/said")
    how = Measuring(tools, tmp_path, threading.Event(), 64, 3, lambda _: None)

    with pytest.raises(StageFailure, match="breaks off") as caught:
        measure_perplexity(how, tmp_path / "q.gguf", tmp_path / "gate.txt")
    assert caught.value.failure is FailureClass.INTERNAL


def test_our_tools_lose_nothing_of_what_they_say(tmp_path: Path) -> None:
    """However slow the thread that writes it is: without flush_log_at_exit.h the figure itself is lost."""
    (tmp_path / "slow.c").write_text(
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <stdio.h>\n#include <unistd.h>\n"
        'int fflush(FILE *file) { usleep(600000); return ((int (*)(FILE *))dlsym(RTLD_NEXT, "fflush"))(file); }\n'
    )
    slow, text = tmp_path / "slow.so", tmp_path / "text.txt"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", slow, tmp_path / "slow.c"], check=True)
    text.write_text("What is said once is said again, and the words are the same. " * 40)
    command = [find_tools().perplexity, "-m", smollm2_gguf(), "-f", text, "-c", "64", "-b", "256", "--chunks", "4"]
    done = subprocess.run(
        command, env=os.environ | {"LD_PRELOAD": str(slow)}, capture_output=True, text=True, check=True
    )

    assert parse_perplexity(done.stdout + done.stderr) is not None


@pytest.mark.parametrize("length", [64, 512, 1000, 4096])
def test_a_batch_is_a_whole_number_of_windows(tmp_path: Path, length: int) -> None:
    """P52: in both kinds of run; llama-perplexity aborts a plain one where a batch ends within a window."""
    tools = tools_in(a_tools_folder(tmp_path / "tools"), Origin.ENVIRONMENT, Build(1, "0"))
    a_script(tools.perplexity, f'echo "$@" >> {tmp_path}/arguments; echo "the data tokenizes to only 7 tokens"')
    how = Measuring(tools, tmp_path, threading.Event(), length, 12, lambda _: None)

    with pytest.raises(StageFailure, match="has 7 tokens, too few") as failure:
        measure_perplexity(how, tmp_path / "m.gguf", tmp_path / "gate.txt")
    with pytest.raises(StageFailure, match="has 7 tokens, too few"):
        compare_with_baseline(how, tmp_path / "q.gguf", stored_logits(tmp_path / "base.kld", 12))

    assert failure.value.failure == FailureClass.DATASET_TOO_SMALL
    calls = [call.split() for call in (tmp_path / "arguments").read_text().splitlines()]
    told = [[int(call[call.index(option) + 1]) for option in ("-c", "-b")] for call in calls]
    assert [window for window, _ in told] == [length, length]
    assert [batch % window for window, batch in told] == [0, 0]
    assert all(batch >= window for window, batch in told)


def stored_logits(path: Path, chunks: int) -> Path:
    """As many windows of 64 tokens of a vocabulary of 10 as its header says."""
    header = LogitsHeader(64, 10, chunks)
    path.write_bytes(b"_logits_" + struct.pack("<3i", 64, 10, chunks) + bytes(header.file_bytes - 20))
    return path


def test_losses_of_windows_come_out_of_running_perplexities() -> None:
    """The tool prints the perplexity of all windows so far."""
    running = [math.exp(1.0), math.exp(1.5), math.exp(2.0)]

    assert pytest.approx(window_losses(running)) == (1.0, 2.0, 3.0)
