"""A moving average of the trained parameters, applied without a second model.

Only what is trained has a moving average: with a frozen backbone that is the adapter and the heads.
It is kept as buffers and put in place for one call with `torch.func.functional_call`, so nothing
about the live model changes: no flag, no saved file.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

_SHARED = re.compile(r"(^|\.)aurora_(core|[UV]_\w+)\.")


class MomentumCopy(nn.Module):
    """Shadow values of a model's trainable parameters.

    Args:
        model: the live model; its trainable parameters are copied now.
        decay: the average keeps this share of its value at each update (0.995 in BLIP).
        live: names of parameters whose live values are used instead (the released code's shared
            factors).
        warm: the n-th update, from 0, keeps at most (1 + n) / (10 + n), so that a short run's
            average leaves its start behind; after 1,800 updates that is 0.995.
    """

    updates: Tensor

    def __init__(
        self, model: nn.Module, decay: float, live: Collection[str] = (), *, warm: bool = True
    ) -> None:
        super().__init__()
        self.decay = decay
        self.warm = warm
        device = next(model.parameters()).device
        self.register_buffer("updates", torch.zeros((), dtype=torch.long, device=device))
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad and n not in live}
        self._names = {name: name.replace(".", "/") for name in trained}
        for name, parameter in trained.items():
            self.register_buffer(self._names[name], parameter.detach().clone())
        self._first = _first_names(model)

    def values(self) -> dict[str, Tensor]:
        """The averages by the model's parameter names."""
        return {name: self.get_buffer(key) for name, key in self._names.items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move every average towards the live value: m <- decay * m + (1 - decay) * live.

        The decay stays on the device, so that nothing waits for it.
        """
        live = dict(model.named_parameters())
        averages = list(self.values().values())
        current = [live[name].detach() for name in self._names]
        done = self.updates.double()
        decay = torch.full_like(done, self.decay)
        if self.warm:
            decay = torch.minimum(decay, (1.0 + done) / (10.0 + done))
        self.updates += 1
        for average, value in zip(averages, current, strict=True):
            average.lerp_(value, (1.0 - decay).to(value.dtype))

    @torch.no_grad()
    def call(self, model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """The model's output with the averages in place of the live values, without gradient."""
        averages = self.values()
        replaced = {n: averages[first] for n, first in self._first.items() if first in averages}
        # Every place is named once: torch's own tying would swap a module that is registered
        # several times as often, and leave the average in it.
        return torch.func.functional_call(model, replaced, args, kwargs, tie_weights=False)


def _first_names(model: nn.Module) -> dict[str, str]:
    """For every place that holds a parameter, the name under which the model lists it."""
    listed = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{path}.{name}" if path else name: listed[id(parameter)]
        for path, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
    }


def shared_factors(model: nn.Module) -> list[str]:
    """Names of an adapted model's shared factors: its core, every U and every V.

    The released code's momentum copy has its own modes and gates but reads these live.
    """
    return [name for name, _ in model.named_parameters() if _SHARED.search(name)]
