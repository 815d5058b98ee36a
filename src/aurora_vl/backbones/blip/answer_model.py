"""BLIP behind the seam as a question answering model: encode, rank from a list, generate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from aurora_vl.backbones.base import AnswerModel, MediaInputs, RankedAnswers, TextInputs, base_model
from aurora_vl.backbones.blip.modeling import BlipForQuestionAnswering, CrossKeys
from aurora_vl.backbones.likelihood import answer_losses, rank_candidates


def answering_backbone(model: nn.Module) -> BlipForQuestionAnswering:
    """The backbone itself, or the one inside a PEFT model.

    Raises:
        TypeError: it is another kind of model.
    """
    inner = base_model(model)
    if not isinstance(inner, BlipForQuestionAnswering):
        raise TypeError(f"{type(inner).__name__} is no question answering backbone")
    return inner


class BlipAnswerModel(AnswerModel):
    """A BLIP that answers.

    Args:
        model: a `BlipForQuestionAnswering`, or a PEFT model around one.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.backbone = answering_backbone(model)

    def encode_media(self, media: MediaInputs) -> Tensor:
        """The vision encoder's states (B, n, d)."""
        return self.backbone.vision_model(media["pixel_values"])

    def select(self, media: Tensor, rows: Sequence[int]) -> Tensor:
        """As in `AnswerModel`."""
        return media[list(rows)]

    def prepare(
        self,
        media: Tensor,
        questions: TextInputs,
        owners: Sequence[int],
        *,
        attend_padding: bool = False,
    ) -> CrossKeys:
        """The decoder's keys and values of the question states."""
        ids, mask = questions["input_ids"], questions["attention_mask"]
        asked = media[owners[0] : owners[-1] + 1]
        rows = None
        if 1 < len(asked) < len(owners):
            rows = torch.tensor([owner - owners[0] for owner in owners], device=ids.device)
        states = self.backbone.encode_question(asked, ids, mask, image_rows=rows)
        return self.backbone.question_keys(states, None if attend_padding else mask)

    def answer_losses(
        self,
        media: MediaInputs,
        questions: TextInputs,
        question_owners: Tensor | None,
        answers: TextInputs,
        answer_owners: Tensor,
        label_smoothing: float,
    ) -> Tensor:
        """As in `AnswerModel`."""
        mask = questions["attention_mask"]
        states = self.backbone.encode_question(
            media["pixel_values"], questions["input_ids"], mask, image_rows=question_owners
        )
        keys = self.backbone.question_keys(states, mask).select(answer_owners)
        ids, answer_mask = answers["input_ids"], answers["attention_mask"]
        logits = self.backbone.answer_logits(ids, answer_mask, keys)
        return answer_losses(logits, ids, answer_mask, label_smoothing)

    def rank(self, context: CrossKeys, candidates: TextInputs, top: int) -> RankedAnswers:
        """As in `AnswerModel`."""
        start = candidates["input_ids"][:1, :1].expand(context.rows, 1)
        first = self.backbone.answer_logits(start, None, context)[:, 0]
        return rank_candidates(
            first,
            candidates,
            top,
            lambda texts: self.backbone.answer_logits(
                texts["input_ids"], texts["attention_mask"], context
            ),
        )

    def generate(self, context: CrossKeys, beams: int, max_tokens: int) -> tuple[Tensor, Tensor]:
        """As in `AnswerModel`; the log-likelihoods include that of [SEP]."""
        config = self.backbone.config.text_config
        tokens = self.backbone.write_answers(context, max_tokens, beams)
        ends = tokens == config.sep_token_id
        behind = ends.cumsum(1) - ends.long() > 0  # after the first [SEP]
        told = (~behind).long()
        losses = answer_losses(self.backbone.answer_logits(tokens, told, context), tokens, told)
        return tokens.masked_fill(behind | ends, config.pad_token_id)[:, 1:], -losses
