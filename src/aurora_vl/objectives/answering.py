"""Question answering as a training task: the likelihood of the answers.

A question is read with its medium, and the answer's tokens are predicted from that (BLIP, section
5.4; Aurora, section 3). An answer weighs by its votes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aurora_vl.backbones.base import AnswerModel, MediaInputs, TextInputs
from aurora_vl.errors import UserError
from aurora_vl.objectives.switches import AnsweringSwitches
from aurora_vl.utils.distributed import gather


@dataclass
class AnsweringSettings(AnsweringSwitches):
    """The loss's switches, and the `frames` of each medium."""

    frames: int = 1

    def __post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing < 1.0:
            raise UserError(
                f"label_smoothing is {self.label_smoothing}; it must be at least 0 and below 1."
            )

    @property
    def divisor(self) -> int:
        """What the loss per question is divided by."""
        return self.frames if self.divide_by_frames else 1


class QuestionAnsweringTask(nn.Module):
    """A question answering model with its loss.

    Args:
        answering: the model behind the seam; it may have an adapter.
        settings: constants of the loss.
    """

    def __init__(self, answering: AnswerModel, settings: AnsweringSettings) -> None:
        super().__init__()
        self.model = answering.model
        self.answering = answering
        self.settings = settings

    def forward(
        self,
        media: MediaInputs,
        questions: TextInputs,
        answers: TextInputs,
        answer_counts: Tensor,
        answer_weights: Tensor,
        question_counts: Tensor | None = None,
        counted_media: int | None = None,
    ) -> dict[str, Tensor]:
        """The loss of one batch of questions.

        Args:
            media: b pictures or videos; each is encoded once for all its questions.
            questions: B of them, those about the first medium, about the second and so on.
            answers: S of them, those of the first question, of the second and so on.
            answer_counts: (B,) integers, how many answers each question has; their sum is S.
            answer_weights: (S,), such as each answer's share of the votes.
            question_counts: (b,) integers, how many questions each medium has; None for one each.
            counted_media: how many of the media count, from the first; the others fill a process's
                last batch of an epoch up. None for all.

        Returns:
            scalar `loss`: the weighted sum of the answers' negative log-likelihoods, per question.
        """
        count = len(answer_counts)
        several = question_counts is not None and len(question_counts) != count
        losses = self.answering.answer_losses(
            media,
            questions,
            _owners(question_counts, count) if several else None,
            answers,
            _owners(answer_counts, len(answer_weights)),
            self.settings.label_smoothing,
        )
        if counted_media is not None:
            each = torch.ones_like(answer_counts) if question_counts is None else question_counts
            count = int(each[:counted_media].sum())
            answer_weights = answer_weights.clone()
            answer_weights[int(answer_counts[:count].sum()) :] = 0
        # Of all processes: theirs may have more or fewer questions, and gradients are averaged.
        asked = gather(answer_weights.new_full((1,), count)).mean()
        return {"loss": (answer_weights * losses).sum() / (asked * self.settings.divisor)}


def _owners(counts: Tensor | None, total: int) -> Tensor:
    """Which row each of `total` things belongs to, the first counts[0] of them to row 0."""
    assert counts is not None
    rows = torch.arange(len(counts), device=counts.device)
    return rows.repeat_interleave(counts, output_size=total)
