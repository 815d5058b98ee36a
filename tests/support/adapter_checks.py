"""What is asked of models with adapters again and again."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn


def flags(model: nn.Module, adapter: str) -> set[bool]:
    """The requires_grad of everything that belongs to an adapter."""
    found = {
        parameter.requires_grad
        for name, parameter in model.named_parameters()
        if name.endswith(f".{adapter}") or f".{adapter}." in name
    }
    assert found, adapter
    return found


def frozen_but(model: nn.Module, *adapters: str) -> bool:
    """Whether exactly the given adapters train."""
    endings = tuple(f".{adapter}" for adapter in adapters)
    return all(
        parameter.requires_grad == (name.endswith(endings) if endings else False)
        for name, parameter in model.named_parameters()
    )


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


assert_close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)


def differs(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() > 1e-4)
