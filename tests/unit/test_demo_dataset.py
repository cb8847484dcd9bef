"""The demo's dataset keeps the promises of examples/data/README.md: size, schema, labels, balance, variety."""

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from support.preparing import prepare_settings
from tunesmith.manifest import load_manifest, read_manifest
from tunesmith_trainer.data.gather import gather
from tunesmith_trainer.data.split import Part, split

EXAMPLES = Path(__file__).parents[2] / "examples"
DATASET = EXAMPLES / "data" / "street-reports.jsonl"
NUMBERS = (
    r"\d+|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|hundred"
)
# What stands for a name and for a number.
NAME, NUMBER = "@", "#"
ANSWER = re.compile(r"Department: (Roads|Lighting|Waste|Parks|Water|Noise)\nUrgency: (low|high)")


@pytest.fixture(scope="module")
def rows():
    return [json.loads(line) for line in DATASET.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def prompts(rows):
    return [row["messages"][0]["content"] for row in rows]


@pytest.fixture(scope="module")
def labels(rows):
    return [ANSWER.fullmatch(row["messages"][1]["content"]).groups() for row in rows]


def words(text):
    """Lower-case words without punctuation, so that a comma makes no prompt new."""
    return tuple(re.findall(r"\w+", text.lower()))


def shingles(prompt):
    """All runs of five words."""
    found = words(prompt)
    return {found[i : i + 5] for i in range(len(found) - 4)}


def near_duplicates(prompts):
    """Prompts that share more than half of their five-word shingles with another one."""
    sets = {prompt: shingles(prompt) for prompt in prompts}
    pairs = [(a, b) for a, b in combinations(sets, 2) if len(sets[a] & sets[b]) > 0.5 * len(sets[a] | sets[b])]
    return {prompt for pair in pairs for prompt in pair}


def test_has_at_least_440_rows(rows):
    """Enough rows to train on and to hold 60 out."""
    assert len(rows) >= 440


def test_every_row_is_one_question_and_one_answer(rows):
    """Only the fields of the messages format, so that its reader finds the format out by itself."""
    assert {tuple(row) for row in rows} == {("messages",)}
    assert {tuple(message["role"] for message in row["messages"]) for row in rows} == {("user", "assistant")}


def test_every_answer_is_exactly_two_lines(rows):
    """A department and an urgency out of the documented words and nothing else."""
    wrong = [row for row in rows if not ANSWER.fullmatch(row["messages"][1]["content"])]
    assert wrong == []


def test_departments_and_urgencies_are_balanced(labels):
    """No guess of the commonest label gets far: 70 rows and more a department, 40 to 60 % urgent, in each both."""
    departments = Counter(department for department, _ in labels)
    urgent = Counter(department for department, urgency in labels if urgency == "high")
    assert len(departments) == 6
    assert min(departments.values()) >= 70
    assert 0.4 <= urgent.total() / len(labels) <= 0.6
    assert all(0.3 <= urgent[name] / count <= 0.7 for name, count in departments.items())


def test_prompts_are_short_and_of_different_length(prompts):
    """6 to 35 words, so that a row stays below some 70 tokens."""
    lengths = [len(prompt.split()) for prompt in prompts]
    assert min(lengths) >= 6
    assert max(lengths) <= 35
    assert len(set(lengths)) >= 15


def test_no_prompt_is_there_twice(prompts):
    """Not in another spelling of case and punctuation either."""
    twice = [found for found, count in Counter(map(words, prompts)).items() if count > 1]
    assert twice == []


def test_near_duplicates_are_below_five_percent(prompts):
    """Otherwise a held-out prompt would be known from training."""
    assert len(near_duplicates(prompts)) < 0.05 * len(prompts)


def test_near_duplicates_are_found():
    """The search above can fail: one changed word at the end of ten is a near duplicate, another sentence is none."""
    first = "the lamp in front of our house went out yesterday evening"
    other = "somebody left a sofa in front of the school gate again"
    changed = first.replace("evening", "night")
    assert near_duplicates([first, changed, other]) == {first, changed}


def test_no_two_prompts_begin_alike(prompts):
    """The first five words are nobody else's."""
    alike = [start for start, count in Counter(words(prompt)[:5] for prompt in prompts).items() if count > 1]
    assert alike == []


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The prompts of each part, as the quickstart splits them."""
    folder = tmp_path_factory.mktemp("split")
    (folder / "0").mkdir()
    (folder / "0" / DATASET.name).symlink_to(DATASET)
    spec = load_manifest(read_manifest(EXAMPLES / "quickstart.yaml")).spec
    told = prepare_settings(evaluation_percent=spec.evaluation.percent, seed=spec.training.seed)
    gathered = gather(folder, folder / "spool", told, lambda example: example)
    found = split(gathered.index, told)
    prompts = {part: [] for part in Part}
    for place, row in enumerate(gathered):
        prompts[found.of(place)].append(row.example[0]["content"])
    return prompts


def masked(prompt):
    """The words with one mark for every name (what has a capital inside a sentence) and one for every number."""
    text = re.sub(r"(?<!^)(?<![.!?] )\b[A-Z][\w'-]+( [A-Z][\w'-]+)*", NAME, prompt)
    text = re.sub(rf"\b({NUMBERS})\b", NUMBER, text, flags=re.IGNORECASE)
    return frozenset(re.findall(rf"\w+|{NAME}|{NUMBER}", text.lower()))


def with_another_name(held_out, trained):
    """The held-out prompts that share more than half of their masked words with a training prompt."""
    known = [masked(prompt) for prompt in trained]
    asked = [(prompt, masked(prompt)) for prompt in held_out]
    return [prompt for prompt, words in asked if any(len(words & other) > 0.5 * len(words | other) for other in known)]


def test_no_held_out_prompt_is_a_training_prompt_with_another_name(parts):
    """Nor with another number or place: an answer cannot be known by heart."""
    held_out = parts[Part.EVAL] + parts[Part.GATE]

    assert (len(parts[Part.EVAL]), len(parts[Part.GATE])) == (65, 33)
    assert with_another_name(held_out, parts[Part.TRAIN]) == []


def test_a_prompt_with_another_name_is_found():
    """The search above can fail: what differs in street, number and place alone is found, another sentence is not."""
    trained = ["Lamp 12 is out on Grove Road. Everybody stumbles near the school."]
    same = "Lamp seven is out on St Mary's Lane. Everybody stumbles near the station."
    other = "Somebody left a sofa on Grove Road near the school gate again."
    assert with_another_name([same, other], trained) == [same]
