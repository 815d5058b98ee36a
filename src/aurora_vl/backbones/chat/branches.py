"""Texts that branch off a row of tokens: one sequence whose attention is a tree.

Questions branch off their medium and answers off their question. All lie behind each other in the
medium's row; a token attends to those before it on its own branch, and its position counts along
the branch, so that each answer gets the logits it would get in a sequence of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aurora_vl.backbones.base import TextInputs


@dataclass(frozen=True, slots=True)
class Branches:
    """B rows of T tokens.

    Attributes:
        ids: (B, T).
        positions: (B, T), from 0 where the first branch begins.
        visible: bool (B, T, T), which tokens (last dimension) each attends to.
    """

    ids: Tensor
    positions: Tensor
    visible: Tensor


def side_by_side(texts: TextInputs, rows: int) -> Branches:
    """Texts of equal number in each row, none of which sees another.

    Args:
        texts: rows * k of them, the first k being the first row's.
        rows: B.
    """
    ids, mask = (part.view(rows, -1) for part in (texts["input_ids"], texts["attention_mask"]))
    length = texts["input_ids"].shape[1]
    offsets = torch.arange(ids.shape[1], device=ids.device)
    branch = (offsets // length).expand_as(ids)
    return Branches(
        ids, (offsets % length).expand_as(ids), _visible(branch, branch.new_full((1, 1), -1), mask)
    )


@dataclass(frozen=True, slots=True)
class AnswerTree:
    """Questions and answers behind their media.

    Attributes:
        branches: the questions of each row, behind them the answers.
        answer_tokens: of a row, padding and all.
        row, slot: (S,), where each answer lies: its row and its place among the row's answers.
    """

    branches: Branches
    answer_tokens: int
    row: Tensor
    slot: Tensor


def answer_tree(
    rows: int,
    questions: TextInputs,
    question_owners: Tensor,
    answers: TextInputs,
    answer_owners: Tensor,
) -> AnswerTree:
    """Lay questions and answers out.

    Args:
        rows: B media.
        questions: N questions.
        question_owners: (N,) the medium of each.
        answers: S answers of A tokens.
        answer_owners: (S,) the question of each.
    """
    asked = _Blocks(rows, question_owners, _places(question_owners))
    owners = question_owners[answer_owners]
    told = _Blocks(rows, owners, _places(owners))
    lengths = questions["attention_mask"].sum(1)
    first = told.scattered(lengths[answer_owners][:, None])  # (B, answers)
    parents = told.scattered(asked.slot[answer_owners][:, None])
    question_ids = asked.scattered(questions["input_ids"])
    answer_ids = told.scattered(answers["input_ids"])
    per_question, per_answer = (text["input_ids"].shape[1] for text in (questions, answers))
    steps = torch.arange(per_answer, device=owners.device)
    branch = torch.cat(
        [
            torch.arange(asked.count, device=owners.device).repeat_interleave(per_question),
            torch.arange(told.count, device=owners.device).repeat_interleave(per_answer)
            + asked.count,
        ]
    ).expand(rows, -1)
    parent = torch.cat(
        [torch.full_like(question_ids, -1), parents.repeat_interleave(per_answer, dim=1)], dim=1
    )
    mask = torch.cat(
        [
            asked.scattered(questions["attention_mask"]),
            told.scattered(answers["attention_mask"]),
        ],
        dim=1,
    )
    positions = torch.cat(
        [
            torch.arange(per_question, device=owners.device).repeat(rows, asked.count),
            (first[:, :, None] + steps).flatten(1),
        ],
        dim=1,
    )
    ids = torch.cat([question_ids, answer_ids], dim=1)
    branches = Branches(ids, positions, _visible(branch, parent, mask))
    return AnswerTree(branches, answer_ids.shape[1], owners, told.slot)


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Texts as blocks of equal length in rows: block `slot` of row `owner`."""

    rows: int
    owner: Tensor
    slot: Tensor

    @property
    def count(self) -> int:
        """Blocks of a row."""
        return int(self.slot.max()) + 1

    def scattered(self, values: Tensor) -> Tensor:
        """(N, L) as (B, count * L), 0 where a row has fewer texts."""
        room = values.new_zeros(self.rows, self.count, values.shape[1])
        room[self.owner, self.slot] = values
        return room.flatten(1)


def _places(owners: Tensor) -> Tensor:
    """Each one's place among those with the same owner."""
    return (owners[:, None] == owners).tril(-1).sum(1)


def _visible(branch: Tensor, parent: Tensor, mask: Tensor) -> Tensor:
    """Which tokens each of a row's sees: bool (B, T, T).

    Args:
        branch: (B, T), the branch of each token.
        parent: (B, T) or (1, 1), the one that its branch grows from; -1 for the row itself.
        mask: (B, T), 0 on padding.
    """
    own = branch[:, :, None] == branch[:, None]
    above = parent[:, :, None] == branch[:, None]
    return (own | above).tril() & mask[:, None].bool()


def attention_bias(read: Tensor, visible: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to attention scores of T tokens that follow P which all of them see.

    Args:
        read: (B, P), 0 on padding.
        visible: bool (B, T, T).
        dtype: of the scores.

    Returns:
        (B, 1, T, P + T)
    """
    before = read.bool()[:, None].expand(-1, visible.shape[1], -1)
    return _bias(torch.cat([before, visible], dim=2), dtype)


def whole_bias(read: Tensor, visible: Tensor, dtype: torch.dtype) -> Tensor:
    """The same for both together, the P seeing those before them: (B, 1, P + T, P + T)."""
    rows, count = read.shape
    causal = torch.ones(count, count, dtype=torch.bool, device=read.device).tril()
    first = causal & read.bool()[:, None]
    first = torch.cat([first, first.new_zeros(rows, count, visible.shape[1])], dim=2)
    before = read.bool()[:, None].expand(-1, visible.shape[1], -1)
    return _bias(torch.cat([first, torch.cat([before, visible], dim=2)], dim=1), dtype)


def _bias(visible: Tensor, dtype: torch.dtype) -> Tensor:
    bias = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return bias.masked_fill(~visible, torch.finfo(dtype).min)[:, None]
