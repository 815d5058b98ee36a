"""Log-likelihoods of answers from logits, the same for every family."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

_IGNORED = -100


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
