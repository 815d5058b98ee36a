"""Losses whose gradient is taken at once, so that what lies between is let go."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def leaf(tensor: Tensor) -> Tensor:
    """The same numbers without their past, to take a gradient at."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


def settled(loss: Tensor, inputs: Sequence[Tensor], leaves: Sequence[Tensor]) -> Tensor:
    """A loss whose gradient at its inputs is taken now, so that all between them is let go.

    A contrastive loss reads many features, which the backward pass would keep with all their
    logits, but depends on few.

    Args:
        loss: a scalar computed from the leaves.
        inputs: what it is a function of.
        leaves: `leaf` of each input.
    """
    if not loss.requires_grad:
        return loss
    wanted = [
        (given, start) for given, start in zip(inputs, leaves, strict=True) if start.requires_grad
    ]
    gradients = torch.autograd.grad(loss, [start for _, start in wanted])
    settled_loss = loss.detach()
    for (given, _), gradient in zip(wanted, gradients, strict=True):
        settled_loss = settled_loss + ((given - given.detach()) * gradient).sum()
    return settled_loss
