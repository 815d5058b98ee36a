"""Gated Query Transformation as a tuner layer on the backbone's parameter-free slots.

A gate adds what a text layer's self- and cross-attention found to the layer's output. It is no
linear map: it trains, saves, switches and mixes like one, but cannot be merged into weights.
"""

from __future__ import annotations

import warnings

import torch
from peft.tuners.tuners_utils import check_adapters_to_merge
from torch import Tensor, nn

import aurora_vl.tuner.functional as functional
import aurora_vl.tuner.initialization as initialization
from aurora_vl.tuner.config import AuroraConfig
from aurora_vl.tuner.layer import AuroraLayer
from aurora_vl.tuner.parameters import AdapterParameters
from aurora_vl.tuner.query_slot import QuerySlot

__all__ = ["GATE_NAMES", "AuroraQueryGate", "QuerySlot"]

_SELF_NAMES = ("aurora_gate_self_scale", "aurora_gate_self_shift")
_CROSS_NAMES = ("aurora_gate_cross_scale", "aurora_gate_cross_shift")
GATE_NAMES = {"released": _SELF_NAMES + _CROSS_NAMES, "gated": _SELF_NAMES, "off": ()}


class AuroraQueryGate(nn.Module, AuroraLayer):
    """A query slot with the gates of the active adapters.

    "released" has the vectors s1, b1, s2, b2: f + 0.1 (s1 * s + b1) + 0.1 (s2 * c + b2);
    "gated" has s1, b1 and is told by having no others. Several active adapters act one after the
    other.

    Args:
        base_layer: the slot.
    """

    adapter_layer_names = _SELF_NAMES + _CROSS_NAMES
    own_names = adapter_layer_names
    aurora_gate_self_shift: AdapterParameters
    aurora_gate_cross_shift: AdapterParameters

    def __init__(self, base_layer: QuerySlot) -> None:
        super().__init__()
        self._start_unmerged(base_layer)
        self.dim = base_layer.dim
        for name in self.own_names:
            setattr(self, name, AdapterParameters())

    @property
    def by_token(self) -> bool:
        """Whether a token's output depends on that token alone: of "released" gates only."""
        return set(self.aurora_gate_self_shift) == set(self.aurora_gate_cross_shift)

    def update_layer(
        self, adapter_name: str, config: AuroraConfig, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Give the gate one more adapter with vectors of the given device and dtype."""
        for name in GATE_NAMES[config.gqt]:
            vector = initialization.gate_vector(config, name, self.dim).to(device, dtype)
            getattr(self, name)[adapter_name] = nn.Parameter(vector)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Keep the given adapters' gates in force, and no others, while their maps are merged.

        An adapter without a gate here counts as well: merged, it puts the active ones out of force.
        """
        self.merged_adapters.extend(check_adapters_to_merge(self, adapter_names))

    def unmerge(self) -> None:
        """Go back to the gates of the active adapters."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
        self.merged_adapters.clear()

    def forward(
        self,
        layer_output: Tensor,
        self_states: Tensor,
        cross_states: Tensor,
        token_mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Return the gated output (B, L, dim); arguments as in `QuerySlot.forward`.

        Args:
            layer_output: f.
            self_states: s.
            cross_states: c.
            token_mask: (B, L), non-zero where a token is real.
            causal: sums run over the current and earlier positions only.
        """
        if self.disable_adapters:
            if self.merged:
                self.unmerge()
            return layer_output
        rows = self._named_rows()
        active = self.merged_adapters or self.active_adapters
        if rows is not None:
            if rows.only is None:
                result = layer_output.clone()
                for name, at in self._rows_by_adapter(rows, len(layer_output)).items():
                    mask = None if token_mask is None else token_mask[at]
                    picked = (layer_output[at], self_states[at], cross_states[at])
                    result[at] = self._gate(name, *picked, mask, causal)
                return result
            active = [rows.only]
        for name in active:
            if self.has_adapter(name):
                layer_output = self._gate(
                    name, layer_output, self_states, cross_states, token_mask, causal
                )
        return layer_output

    def _gate(
        self,
        adapter_name: str,
        layer_output: Tensor,
        self_states: Tensor,
        cross_states: Tensor,
        token_mask: Tensor | None,
        causal: bool,
    ) -> Tensor:
        vectors = [
            getattr(self, name)(adapter_name).to(layer_output)
            for name in self.own_names
            if adapter_name in getattr(self, name)
        ]
        if len(vectors) == len(_SELF_NAMES):
            scale, shift = vectors
            return functional.query_gate(
                layer_output, self_states, scale, shift, token_mask, causal
            )
        return functional.query_shift(layer_output, self_states, cross_states, *vectors)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """Tell PEFT that a gate is no linear map: none with this adapter can be converted."""
        return not self.has_adapter(adapter_name)

    def __repr__(self) -> str:
        return "aurora." + super().__repr__()
