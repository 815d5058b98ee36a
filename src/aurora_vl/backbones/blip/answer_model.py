"""BLIP behind the seam as a question answering model: encode, rank from a list, generate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from aurora_vl.backbones.base import (
    AnswerModel,
    MediaInputs,
    RankedAnswers,
    TextInputs,
    base_model,
)
from aurora_vl.backbones.blip.modeling import BlipForQuestionAnswering, CrossKeys
from aurora_vl.backbones.likelihood import answer_losses

_LOGITS_AT_ONCE = 2**26  # values held while candidates are scored: 256 MB of float32


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
        ids, mask = candidates["input_ids"], candidates["attention_mask"]
        return rank_answers(self.backbone, context, ids, mask, top)

    def generate(self, context: CrossKeys, beams: int, max_tokens: int) -> tuple[Tensor, Tensor]:
        """As in `AnswerModel`; the log-likelihoods include that of [SEP]."""
        config = self.backbone.config.text_config
        tokens = self.backbone.write_answers(context, max_tokens, beams)
        ends = tokens == config.sep_token_id
        behind = ends.cumsum(1) - ends.long() > 0  # after the first [SEP]
        told = (~behind).long()
        losses = answer_losses(self.backbone.answer_logits(tokens, told, context), tokens, told)
        return tokens.masked_fill(behind | ends, config.pad_token_id)[:, 1:], -losses


@torch.no_grad()
def rank_answers(
    backbone: BlipForQuestionAnswering,
    question_cross: CrossKeys,
    candidate_ids: Tensor,
    candidate_mask: Tensor,
    top: int,
) -> RankedAnswers:
    """Choose from a list of answers, as `AnswerModel.rank` says.

    Args:
        backbone: the model.
        question_cross: keys of N questions, from `question_keys`.
        candidate_ids, candidate_mask: (C, A), [DEC] first, [SEP] last.
        top: how many candidates reach the second step; C if there are fewer.

    Returns:
        K = min(top, C) candidates of each question.
    """
    first = backbone.answer_logits(
        candidate_ids[:1, :1].expand(question_cross.rows, 1), None, question_cross
    )[:, 0]  # (N, V)
    likely = first[:, candidate_ids[:, 1]].argsort(dim=1, descending=True, stable=True)[:, :top]
    scores = _log_likelihoods(backbone, question_cross, likely, candidate_ids, candidate_mask)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return RankedAnswers(likely.gather(1, order), scores)


def _log_likelihoods(
    backbone: BlipForQuestionAnswering,
    question_cross: CrossKeys,
    chosen: Tensor,
    candidate_ids: Tensor,
    candidate_mask: Tensor,
) -> Tensor:
    """Log-likelihoods (N, K) of the chosen candidates (N, K), a bounded number at a time."""
    vocabulary = backbone.config.text_config.vocab_size
    values = len(chosen) * candidate_ids.shape[1] * vocabulary
    parts = []
    for part in chosen.split(max(1, _LOGITS_AT_ONCE // values), dim=1):
        rows = part.flatten()  # each question's candidates behind each other
        longest = int(candidate_mask[rows].sum(1).max())
        ids, mask = candidate_ids[rows, :longest], candidate_mask[rows, :longest]
        logits = backbone.answer_logits(ids, mask, question_cross)
        parts.append(-answer_losses(logits, ids, mask).view(part.shape))
    return torch.cat(parts, dim=1)
