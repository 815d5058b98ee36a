"""A chat model behind the seam: pictures read once, questions and answers after them.

Answers branch off their question, questions off their medium: tokens attend to those before them
on their own branch alone, and positions count along the branch. So one pass in training reads a
medium once for all its questions, and ranking needs no copy of the cache for each candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from aurora_vl.backbones.base import AnswerModel, MediaInputs, RankedAnswers, TextInputs, base_model
from aurora_vl.backbones.chat.branches import (
    answer_tree,
    attention_bias,
    side_by_side,
    whole_bias,
)
from aurora_vl.backbones.likelihood import answer_losses, rank_candidates
from aurora_vl.errors import UserError


@dataclass(frozen=True)
class Context:
    """What was read of N rows.

    Attributes:
        cache: keys and values of P tokens; never changed.
        mask: (N, P), 0 on padding.
        position: (N,), of the token that comes next.
        start: (N, 1), that token, which begins an answer; None before a question was read.
    """

    cache: DynamicCache
    mask: Tensor
    position: Tensor
    start: Tensor | None = None

    def select(self, rows: Tensor) -> Context:
        """Some of the rows; one may come several times."""
        start = None if self.start is None else self.start[rows]
        return Context(_copied(self.cache, rows), self.mask[rows], self.position[rows], start)


class ChatAnswerModel(AnswerModel):
    """A chat model that answers questions.

    Args:
        model: of transformers, or a PEFT model around it.
        end: the id of the token behind an answer.
        padding: the id that fills rows up.
    """

    mixes_adapters = False

    def __init__(self, model: nn.Module, end: int, padding: int) -> None:
        self.model = model
        self.backbone: Any = base_model(model)
        self.end = end
        self.padding = padding
        self._rope_index = getattr(self.backbone.model, "get_rope_index", None)

    def encode_media(self, media: MediaInputs) -> Context:
        """Keys and values of the prompt with its pictures."""
        positions = self._media_positions(media)
        read = self.backbone(**media, position_ids=positions, use_cache=True, logits_to_keep=1)
        mask = media["attention_mask"]
        return Context(read.past_key_values, mask, _next_position(positions, mask))

    def select(self, media: Context, rows: Sequence[int]) -> Context:
        """As in `AnswerModel`."""
        return media.select(torch.tensor(list(rows), device=media.mask.device))

    def prepare(
        self,
        media: Context,
        questions: TextInputs,
        owners: Sequence[int],
        *,
        attend_padding: bool = False,
    ) -> Context:
        """Keys and values of pictures and questions.

        Raises:
            UserError: with `attend_padding`, which is BLIP's alone.
        """
        if attend_padding:
            raise UserError("evaluation.attend_padding is for BLIP; leave it out for a chat model")
        ids, mask = questions["input_ids"], questions["attention_mask"]
        last = mask.sum(1, keepdim=True) - 1
        asked = self.select(media, owners)
        _, read = self._read(asked, ids, _without_last(mask))
        return replace(read, start=ids.gather(1, last))

    def answer_losses(
        self,
        media: MediaInputs,
        questions: TextInputs,
        question_owners: Tensor | None,
        answers: TextInputs,
        answer_owners: Tensor,
        label_smoothing: float,
    ) -> Tensor:
        """As in `AnswerModel`; one pass in which every medium and question is read once.

        Without a cache, so that layers may be computed again in the backward pass.
        """
        rows, device = len(media["input_ids"]), answers["input_ids"].device
        if question_owners is None:
            question_owners = torch.arange(rows, device=device)
        asked = TextInputs(
            input_ids=questions["input_ids"],
            attention_mask=_without_last(questions["attention_mask"]),
        )
        tree = answer_tree(rows, asked, question_owners, answers, answer_owners)
        before, mask = self._media_positions(media), media["attention_mask"]
        behind = _next_position(before, mask)[:, None] + tree.branches.positions
        inputs = {
            **media,
            "input_ids": torch.cat([media["input_ids"], tree.branches.ids], dim=1),
            "attention_mask": whole_bias(mask, tree.branches.visible, self.backbone.dtype),
        }
        if "mm_token_type_ids" in inputs:  # those of texts are 0
            inputs["mm_token_type_ids"] = _extended(inputs["mm_token_type_ids"], behind)
        logits = self.backbone(
            **inputs,
            position_ids=torch.cat([before, self._shaped(behind)], dim=-1),
            use_cache=False,
            logits_to_keep=tree.answer_tokens,
        ).logits
        ids = answers["input_ids"]
        blocks = logits.unflatten(1, (-1, ids.shape[1]))[tree.row, tree.slot]
        return answer_losses(blocks, ids, answers["attention_mask"], label_smoothing)

    def rank(self, context: Context, candidates: TextInputs, top: int) -> RankedAnswers:
        """As in `AnswerModel`."""
        start = candidates["input_ids"][:1, :1].expand(len(context.mask), 1)
        first, _ = self._read(context, start, torch.ones_like(start))
        return rank_candidates(
            first[:, 0], candidates, top, lambda texts: self._answer_logits(context, texts)
        )

    def generate(self, context: Context, beams: int, max_tokens: int) -> tuple[Tensor, Tensor]:
        """As in `AnswerModel`; greedy.

        Raises:
            UserError: more than one beam is asked for.
        """
        if beams > 1:
            raise UserError("chat models write greedily; set evaluation.beams to 1")
        token = context.start
        assert token is not None  # from `prepare`
        scores = torch.zeros(len(token), device=token.device)
        ended = torch.zeros(len(token), dtype=torch.bool, device=token.device)
        told = []
        for _ in range(max_tokens):
            logits, context = self._read(context, token, torch.ones_like(token))
            best, token = logits[:, -1].float().log_softmax(-1).max(-1, keepdim=True)
            scores += best[:, 0].masked_fill(ended, 0.0)
            ended = ended | (token[:, 0] == self.end)
            told.append(token.masked_fill(ended[:, None], self.padding))
            if ended.all():
                break
        return torch.cat(told, dim=1), scores

    def _read(self, context: Context, ids: Tensor, mask: Tensor) -> tuple[Tensor, Context]:
        """Logits (N, L, V) of texts (N, L) that follow, and the context with them in it."""
        cache, whole = _copied(context.cache), torch.cat([context.mask, mask], dim=1)
        positions = context.position[:, None] + (mask.cumsum(1) - 1).clamp(min=0)
        logits = self.backbone(
            input_ids=ids,
            attention_mask=whole,
            position_ids=self._shaped(positions),
            past_key_values=cache,
            use_cache=True,
        ).logits
        return logits, Context(cache, whole, context.position + mask.sum(1))

    def _answer_logits(self, context: Context, texts: TextInputs) -> Tensor:
        """Logits (N * k, A, V) of k answers to each of N questions, off one cache."""
        branches = side_by_side(texts, len(context.mask))
        logits = self.backbone(
            input_ids=branches.ids,
            attention_mask=attention_bias(context.mask, branches.visible, self.backbone.dtype),
            position_ids=self._shaped(context.position[:, None] + branches.positions),
            past_key_values=_copied(context.cache),
            use_cache=True,
        ).logits
        return logits.unflatten(1, (-1, texts["input_ids"].shape[1])).flatten(0, 1)

    def _media_positions(self, media: MediaInputs) -> Tensor:
        """(B, P), or (3, B, P) where patches have places in time, height and width."""
        if self._rope_index is None:
            return (media["attention_mask"].cumsum(1) - 1).clamp(min=0)
        positions: Tensor = self._rope_index(
            media["input_ids"],
            media["mm_token_type_ids"],
            image_grid_thw=media["image_grid_thw"],
            attention_mask=media["attention_mask"],
        )[0]
        return positions

    def _shaped(self, positions: Tensor) -> Tensor:
        """Positions (N, L) of texts as the model takes them."""
        return positions if self._rope_index is None else positions.expand(3, -1, -1)


def _copied(cache: DynamicCache, rows: Tensor | None = None) -> DynamicCache:
    """A cache of its own, of some rows or all; reading on would change the one that is given."""
    copy = DynamicCache()
    for number, layer in enumerate(cache.layers):
        keys, values = layer.keys, layer.values
        if rows is not None:
            keys, values = keys[rows], values[rows]
        copy.update(keys, values, number)
    return copy


def _next_position(positions: Tensor, mask: Tensor) -> Tensor:
    """(B,), the one behind a row's largest; `positions` are (B, P) or (3, B, P)."""
    largest = positions.masked_fill(mask == 0, 0).amax(-1)
    return 1 + (largest if largest.ndim == 1 else largest.amax(0))


def _without_last(mask: Tensor) -> Tensor:
    """A mask (N, L) of texts padded at the end without each one's last token."""
    return torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)


def _extended(values: Tensor, tail: Tensor) -> Tensor:
    """Values (B, P) with zeros behind them for each of the tail's (B, T)."""
    return torch.cat([values, values.new_zeros(tail.shape)], dim=1)
