"""Log-likelihoods of answers from logits, the same for every family."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from aurora_vl.backbones.base import RankedAnswers, TextInputs

_IGNORED = -100
_LOGITS_AT_ONCE = 2**26  # values held while candidates are scored: 256 MB of float32


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
def rank_candidates(
    first: Tensor,
    candidates: TextInputs,
    top: int,
    answer_logits: Callable[[TextInputs], Tensor],
) -> RankedAnswers:
    """Choose from a list of answers, as `AnswerModel.rank` says.

    Args:
        first: (N, V), logits of each question's first answer token.
        candidates: C answers of A tokens.
        top: how many candidates reach the second step; C if there are fewer.
        answer_logits: gives the logits (N * k, A, V) of k candidates of each question, which lie
            behind each other.

    Returns:
        K = min(top, C) candidates of each question.
    """
    ids, mask = candidates["input_ids"], candidates["attention_mask"]
    likely = first[:, ids[:, 1]].argsort(dim=1, descending=True, stable=True)[:, :top]
    values = len(first) * ids.shape[1] * first.shape[1]
    parts = []
    for part in likely.split(max(1, _LOGITS_AT_ONCE // values), dim=1):
        rows = part.flatten()
        longest = int(mask[rows].sum(1).max())
        chosen = TextInputs(input_ids=ids[rows, :longest], attention_mask=mask[rows, :longest])
        losses = answer_losses(answer_logits(chosen), chosen["input_ids"], chosen["attention_mask"])
        parts.append(-losses.view(part.shape))
    scores, order = torch.cat(parts, dim=1).sort(dim=1, descending=True, stable=True)
    return RankedAnswers(likely.gather(1, order), scores)
