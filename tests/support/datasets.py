"""A prepared dataset for tests of what comes after prepare: messages become parquet files of token ids and masks."""

import json
from collections.abc import Sequence
from pathlib import Path

PAD_ID = 2  # SmolLM2's <|im_end|>, which is also its padding token

Conversation = Sequence[tuple[str, str]]  # (role, content)


def write_dataset(folder: Path, tokenizer: Path, parts: dict[str, Sequence[Conversation]]) -> Path:
    """Write `<part>.parquet` for each part and a figures.json; ChatML by hand, answers and their ends supervised."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from tokenizers import Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    encoder = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    rows = {name: [_row(encoder, messages) for messages in part] for name, part in parts.items()}
    for name, part in rows.items():
        ids = pa.array([ids for ids, _ in part], pa.list_(pa.int32()))
        mask = pa.array([mask for _, mask in part], pa.list_(pa.uint8()))
        pq.write_table(pa.table({"input_ids": ids, "mask": mask}), folder / f"{name}.parquet")
    longest = max(len(ids) for part in rows.values() for ids, _ in part)
    (folder / "figures.json").write_text(json.dumps({"padId": PAD_ID, "maxLength": longest, "chat": True}))
    return folder


def capitals(count: int, start: int = 0) -> list[Conversation]:
    """`count` short conversations of different lengths that a small model learns quickly."""
    facts = [("France", "Paris"), ("Peru", "Lima"), ("Japan", "Tokyo"), ("Kenya", "Nairobi"), ("Norway", "Oslo")]
    rows = []
    for index in range(start, start + count):
        country, city = facts[index % len(facts)]
        extra = " Please answer briefly and name nothing else." * (index % 4)
        rows.append(
            [
                ("user", f"Question {index}: what is the capital of {country}?{extra}"),
                ("assistant", f"Dear customer number {index}, it is {city}." + " Best regards." * (index % 3)),
            ]
        )
    return rows


def _row(encoder: object, messages: Conversation) -> tuple[list[int], list[int]]:
    ids: list[int] = []
    mask: list[int] = []
    for role, content in messages:
        head = encoder.encode(f"<|im_start|>{role}\n", add_special_tokens=False).ids
        body = encoder.encode(f"{content}<|im_end|>", add_special_tokens=False).ids
        tail = encoder.encode("\n", add_special_tokens=False).ids
        ids += [*head, *body, *tail]
        mask += [0] * len(head) + [int(role == "assistant")] * len(body) + [0] * len(tail)
    return ids, mask
