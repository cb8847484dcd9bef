"""Rows of token ids and masks become the tensors of one micro-batch, with our own labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# What torch's cross entropy leaves out (its `ignore_index` default).
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Collator:
    """How micro-batches are laid out.

    `flatten`: all rows in one sequence without padding, kept apart by position ids alone; there must be no attention
    mask then, or rows see each other (P7). `select`: logits are computed only where a token is supervised
    (``logits_to_keep``), which saves most of the output layer's work and memory. `multiple`: pad widths up to it.
    """

    pad_id: int
    flatten: bool = False
    select: bool = False
    multiple: int = 1

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Tensors of shape (rows, width), or (1, total) where flattened; labels are ids where the mask is 1."""
        batch = self._flattened(rows) if self.flatten else self._padded(rows)
        return _selected(batch) if self.select else batch

    def _padded(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        import torch

        longest = max(len(row["input_ids"]) for row in rows)
        shape = (len(rows), -(-longest // self.multiple) * self.multiple)
        ids, labels = torch.full(shape, self.pad_id), torch.full(shape, IGNORED)
        attention = torch.zeros(shape, dtype=torch.long)
        for index, row in enumerate(rows):
            row_ids, row_labels = _row_tensors(row)
            ids[index, : len(row_ids)] = row_ids
            labels[index, : len(row_ids)] = row_labels
            attention[index, : len(row_ids)] = 1
        return {"input_ids": ids, "attention_mask": attention, "labels": labels}

    def _flattened(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        import torch

        parts = [_row_tensors(row) for row in rows]
        for _, labels in parts:
            # The first token of a row would else be predicted from the last one of the row before.
            labels[0] = IGNORED
        return {
            "input_ids": torch.cat([ids for ids, _ in parts]).unsqueeze(0),
            "position_ids": torch.cat([torch.arange(len(ids)) for ids, _ in parts]).unsqueeze(0),
            "labels": torch.cat([labels for _, labels in parts]).unsqueeze(0),
        }


def _row_tensors(row: dict[str, Any]) -> tuple[Any, Any]:
    import torch

    ids = torch.as_tensor(row["input_ids"], dtype=torch.long)
    mask = torch.as_tensor(row["mask"], dtype=torch.bool)
    return ids, torch.where(mask, ids, torch.full_like(ids, IGNORED))


def _selected(batch: dict[str, Any]) -> dict[str, Any]:
    import torch

    labels = batch["labels"]
    following = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    kept = (following != IGNORED).any(dim=0).nonzero().squeeze(-1)
    chosen = following[:, kept]
    # `labels` only has to be there for the model to compute a loss; `shift_labels` is what it computes it from.
    return {**batch, "labels": chosen, "shift_labels": chosen, "logits_to_keep": kept}
