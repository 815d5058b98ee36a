"""Question answering as a training task, and its two ways to answer.

A question is read with its picture, an answer decoder reads the question's states (BLIP, section
5.4; Aurora, section 3). Answers are ranked from a list or generated; the score of an answer is the
sum of its tokens' log-probabilities in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor, nn

from aurora_vl.backbones.blip.modeling import BlipForQuestionAnswering, CrossKeys
from aurora_vl.errors import UserError
from aurora_vl.utils.distributed import gather

_IGNORED = -100
_LOGITS_AT_ONCE = 2**26  # numbers held while candidates are scored: 256 MB of float32


@dataclass(frozen=True, slots=True)
class AnsweringSettings:
    """The loss's constants.

    Attributes:
        label_smoothing: share of each target spread over the vocabulary; 0.1 in BLIP.
        divide_by_frames: divide a video's loss by its number of frames too, as released.
    """

    label_smoothing: float = 0.1
    divide_by_frames: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing < 1.0:
            raise UserError(
                f"label_smoothing is {self.label_smoothing}; it must be at least 0 and below 1."
            )


class QuestionAnsweringTask(nn.Module):
    """A question answering model with its loss.

    Args:
        model: a `BlipForQuestionAnswering`, or a PEFT model around one.
        settings: constants of the loss.
    """

    def __init__(self, model: nn.Module, settings: AnsweringSettings) -> None:
        super().__init__()
        self.model = model
        self.settings = settings

    @property
    def backbone(self) -> BlipForQuestionAnswering:
        """The backbone, with the adapter's layers in it."""
        return answering_backbone(self.model)

    def forward(
        self,
        pixel_values: Tensor,
        question_ids: Tensor,
        question_mask: Tensor,
        answer_ids: Tensor,
        answer_mask: Tensor,
        answer_counts: Tensor,
        answer_weights: Tensor,
        question_counts: Tensor | None = None,
        counted_media: int | None = None,
    ) -> dict[str, Tensor]:
        """The loss of one batch of questions.

        Args:
            pixel_values: (b, 3, H, W) normalised pictures or (b, T, 3, H, W) videos; each is
                encoded once for all its questions.
            question_ids, question_mask: (B, L), the questions about the first medium, about the
                second and so on.
            answer_ids, answer_mask: (S, A), the answers of the first question, of the second and
                so on; [DEC] first, [SEP] last.
            answer_counts: (B,) integers, how many answers each question has; their sum is S.
            answer_weights: (S,), such as each answer's share of the votes.
            question_counts: (b,) integers, how many questions each medium has; None for one each.
            counted_media: how many of the media count, from the first; the others fill a process's
                last batch of an epoch up. None for all.

        Returns:
            scalar `loss`: the weighted sum of the answers' negative log-likelihoods, per question.
        """
        backbone = self.backbone
        count = len(question_ids)
        media = None if count == len(pixel_values) else _owners(question_counts, count)
        states = backbone.encode_question(
            pixel_values, question_ids, question_mask, image_rows=media
        )
        owners = _owners(answer_counts, len(answer_ids))
        keys = backbone.question_keys(states, question_mask).select(owners)
        logits = backbone.answer_logits(answer_ids, answer_mask, keys)
        losses = answer_losses(logits, answer_ids, answer_mask, self.settings.label_smoothing)
        if counted_media is not None:
            each = torch.ones_like(answer_counts) if question_counts is None else question_counts
            count = int(each[:counted_media].sum())
            answer_weights = answer_weights.clone()
            answer_weights[int(answer_counts[:count].sum()) :] = 0
        # Of all processes: theirs may have more or fewer questions, and gradients are averaged.
        questions = gather(answer_weights.new_full((1,), count)).mean()
        if self.settings.divide_by_frames and pixel_values.ndim == 5:
            questions = questions * pixel_values.shape[1]
        return {"loss": (answer_weights * losses).sum() / questions}


def _owners(counts: Tensor | None, total: int) -> Tensor:
    """Which row each of `total` things belongs to, the first counts[0] of them to row 0."""
    assert counts is not None
    rows = torch.arange(len(counts), device=counts.device)
    return rows.repeat_interleave(counts, output_size=total)


class RankedAnswers(NamedTuple):
    """The top candidates of each question, the best first.

    Attributes:
        candidates: (B, K) indices into the answer list.
        log_likelihoods: (B, K), falling.
    """

    candidates: Tensor
    log_likelihoods: Tensor


def answer_losses(
    logits: Tensor, answer_ids: Tensor, answer_mask: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Negative log-likelihood of each answer, summed over its tokens.

    Args:
        logits: (S, A, V), of the token after each position.
        answer_ids: (S, A); the first token is given, not predicted.
        answer_mask: (S, A), true or 1 where not padding.
        label_smoothing: share of each target spread over the vocabulary.

    Returns:
        (S,)
    """
    targets = answer_ids[:, 1:].masked_fill(answer_mask[:, 1:] == 0, _IGNORED)
    losses = F.cross_entropy(
        logits[:, :-1].flatten(0, 1),
        targets.flatten(),
        ignore_index=_IGNORED,
        label_smoothing=label_smoothing,
        reduction="none",
    )
    return losses.view(targets.shape).sum(1)


@torch.no_grad()
def rank_answers(
    backbone: BlipForQuestionAnswering,
    question_cross: CrossKeys,
    candidate_ids: Tensor,
    candidate_mask: Tensor,
    top: int,
) -> RankedAnswers:
    """Choose from a list of answers.

    The `top` candidates whose first token is likeliest are ranked by the log-likelihood of the
    whole answer. Candidates with the same first token are taken in the order of the list.

    Args:
        backbone: the model.
        question_cross: keys of B questions, from `question_keys`.
        candidate_ids, candidate_mask: (C, A), [DEC] first, [SEP] last.
        top: how many candidates reach the second step; C if there are fewer.

    Returns:
        K = min(top, C) candidates of each question.
    """
    first = backbone.answer_logits(
        candidate_ids[:1, :1].expand(question_cross.rows, 1), None, question_cross
    )[:, 0]  # (B, V)
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
    """Log-likelihoods (B, K) of the chosen candidates (B, K), a bounded number at a time."""
    vocabulary = backbone.config.text_config.vocab_size
    numbers = len(chosen) * candidate_ids.shape[1] * vocabulary
    parts = []
    for part in chosen.split(max(1, _LOGITS_AT_ONCE // numbers), dim=1):
        rows = part.flatten()  # each question's candidates behind each other
        longest = int(candidate_mask[rows].sum(1).max())
        ids, mask = candidate_ids[rows, :longest], candidate_mask[rows, :longest]
        logits = backbone.answer_logits(ids, mask, question_cross)
        parts.append(-answer_losses(logits, ids, mask).view(part.shape))
    return torch.cat(parts, dim=1)


def answering_backbone(model: nn.Module) -> BlipForQuestionAnswering:
    """The backbone itself, or the one inside a PEFT model."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(inner, BlipForQuestionAnswering):
        raise TypeError(f"{type(inner).__name__} is no question answering backbone")
    return inner
