"""The scale and bias of logits as a module, which is what PEFT trains and saves."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

NAMES = ("logit_scale", "logit_bias")
"""What transformers calls the two; CLIP has no bias."""


class LogitScale(nn.Module):
    """Shows a model's own `logit_scale` and `logit_bias`, which are parameters of no submodule.

    The model keeps its parameters, and its state dict has the names that transformers gives. A copy
    that is made of this module alone, as PEFT makes one to train it, has parameters of its own.

    Args:
        model: a CLIP or SigLIP of transformers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._shown = (model,)  # in a tuple, since a module would become a submodule

    def forward(self) -> tuple[Tensor, ...]:
        """The logarithm of the scale and, where there is one, the bias."""
        holder = self if self._parameters else self._shown[0]
        return tuple(
            parameter for name in NAMES if (parameter := getattr(holder, name, None)) is not None
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> LogitScale:
        (model,) = self._shown
        if not self._parameters and id(model) in memo:  # the whole model is being copied
            return LogitScale(memo[id(model)])
        made = LogitScale(model)
        for name, tensor in zip(NAMES, self(), strict=False):
            parameter = nn.Parameter(tensor.detach().clone(), tensor.requires_grad)
            made.register_parameter(name, parameter)
        return made
