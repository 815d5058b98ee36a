"""Bottleneck adapters beside the feed-forward blocks of BLIP's layers, and UniAdapter's sharing.

A vision layer's adapter reads what enters the MLP block (before its norm), a text layer's what
enters its feed-forward block: the self-attention's output s, or, where the layer looks at a
picture, the cross-attention's output c. With A(x) = U relu(D x) and an own D and U each:

    vision + s_a A_v(x),   text + s_a A_t(s),   fused text + s_a A_c(c)

In question answering every text layer is fused, and there is no A_t.

UniAdapter (Lu et al., 2023, arXiv:2302.06605) shares D, behind a norm, between the vision layer and
the text layer of the same depth, and lets fused text read its query and the text's U again:

    fused text + s_a (U_t h(s) + norm(U_c h(c) + U_t h(c))),   h(x) = relu(D norm(x))

Both start as the frozen model here: U = 0, and for the fused branch the norm's gain. Written from
the paper and the published sizes (4.78M at r = 128, 18.95M at r = 512 on BLIP-base).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn

from aurora_vl.backbones.blip.modeling import (
    BlipForQuestionAnswering,
    BlipTextLayer,
    BlipVisionLayer,
)
from aurora_vl.tuner.registry import register_kind

_PLACES = (
    r"vision_model\.encoder\.layers\.\d+\.mlp"
    r"|(text_encoder|text_decoder\.bert)\.encoder\.layer\.\d+\.output"
)


class BottleneckPeftType(str, Enum):  # noqa: UP042 (as AuroraPeftType)
    """The one-member type under which PEFT finds these adapters."""

    BOTTLENECK = "BOTTLENECK"


@dataclass
class BottleneckConfig(PeftConfig):
    """Configuration of bottleneck adapters.

    Args:
        r: width of the bottleneck.
        shared: UniAdapter's sharing and its fused branch.
        scaling: s_a; None: 1, or 0.1 if shared, as published.
        dropout: probability on the bottleneck in training.
        target_modules: None, all places; else a regular expression for some of them.
        modules_to_save: modules trained whole and saved with the adapters.
    """

    r: int = field(default=64, metadata={"help": "Width of the bottleneck."})
    shared: bool = field(default=False, metadata={"help": "Share D as UniAdapter does."})
    scaling: float | None = field(default=None, metadata={"help": "Factor of every update."})
    dropout: float = field(default=0.0, metadata={"help": "Dropout on the bottleneck."})
    target_modules: str | None = field(
        default=None, metadata={"help": "Regular expression for some of the places; None: all."}
    )
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Modules trained whole and saved beside the adapters."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = BottleneckPeftType.BOTTLENECK
        if self.scaling is None:
            self.scaling = 0.1 if self.shared else 1.0
        if self.r < 1:
            raise ValueError(f"`r` must be a positive whole number, but is {self.r!r}.")


class _Down(nn.Module):
    """h(x): an optional norm, D, relu, dropout."""

    def __init__(self, width: int, config: BottleneckConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if config.shared else nn.Identity()
        self.map = nn.Linear(width, config.r)
        nn.init.zeros_(self.map.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states: Tensor) -> Tensor:
        """(..., d) to (..., r)."""
        return self.dropout(self.map(self.norm(states)).relu())


def _up(width: int, config: BottleneckConfig, *, zero: bool = True) -> nn.Linear:
    layer = nn.Linear(config.r, width)
    if zero:
        nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class _Plain(nn.Module):
    """A_v of a vision layer, or A_t and A_c of a text layer.

    Args:
        width: d.
        config: of the adapter.
        alone: whether it has A_v or A_t; a layer that never runs without cross-attention has not.
        fused: whether it has A_c.
    """

    def __init__(
        self, width: int, config: BottleneckConfig, *, alone: bool = True, fused: bool = False
    ) -> None:
        super().__init__()
        self.down, self.up = _Down(width, config), _up(width, config)
        if fused:
            self.cross_down, self.cross_up = _Down(width, config), _up(width, config)
        if not alone:  # drawn all the same: a seed starts A_c as it did when A_t stood beside it
            del self.down, self.up

    def forward(self, states: Tensor, query: Tensor | None) -> Tensor:
        """The update; `query` is s where the states are c, else None."""
        if query is None:
            return self.up(self.down(states))
        return self.cross_up(self.cross_down(states))


class _SharedText(nn.Module):
    """U_t, U_c and the fused branch's norm; D is a vision layer's, or its own without one."""

    def __init__(self, width: int, config: BottleneckConfig, partner: _Plain | None) -> None:
        super().__init__()
        self.up, self.cross_up = _up(width, config), _up(width, config, zero=False)
        self.cross_norm = nn.LayerNorm(width)
        nn.init.zeros_(self.cross_norm.weight)
        if partner is None:
            self.down = _Down(width, config)
        else:  # not registered: it is the vision layer's in the file, too
            self.__dict__["down"] = partner.down

    def forward(self, states: Tensor, query: Tensor | None) -> Tensor:
        """The update; `query` is s where the states are c, else None."""
        hidden = self.down(states)
        if query is None:
            return self.up(hidden)
        fused = self.cross_norm(self.cross_up(hidden) + self.up(hidden))
        return self.up(self.down(query)) + fused


class _Keep:
    """A hook that hands a module's first input to the adapter of the block behind it."""

    def __init__(self, layer: BottleneckLayer) -> None:
        self.layer = layer

    def __call__(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.layer.kept = inputs[0]


class BottleneckLayer(nn.Module, BaseTunerLayer):
    """A feed-forward block with adapters beside it.

    Args:
        base_layer: the MLP of a vision layer, or the output block of a text layer.
        before: the module whose input is kept: a vision layer's norm before the MLP (x), a text
            layer's cross-attention (s).
        in_vision: which of the two it is.
    """

    adapter_layer_names = ("bottleneck_units",)

    def __init__(self, base_layer: nn.Module, before: nn.Module, *, in_vision: bool) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck_units = nn.ModuleDict()
        self.in_vision = in_vision
        self.scaling: dict[str, float] = {}
        self.kept: Tensor | None = None
        self.merged_adapters: list[str] = []
        before.register_forward_pre_hook(_Keep(self))

    def forward(self, states: Tensor, *rest: Tensor) -> Tensor:
        """The block's output with the active adapters' updates."""
        kept, self.kept = self.kept, None
        result = self.base_layer(states, *rest)
        if self.disable_adapters:
            return result
        names: Any = self.active_adapters
        for name in names:
            if name in self.bottleneck_units:
                unit = self.bottleneck_units[name]
                update = unit(kept, None) if self.in_vision else unit(rest[0], kept)
                result = result + self.scaling[name] * update
        return result


class BottleneckModel(BaseTuner):
    """A BLIP with bottleneck adapters; parameters are `<block>.bottleneck_units.<adapter>`."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping: dict[str, Any] = {}  # noqa: RUF012 (PEFT's form)

    def _prepare_adapter_config(
        self, peft_config: BottleneckConfig, model_config: dict[str, Any]
    ) -> BottleneckConfig:
        if peft_config.target_modules is None:
            peft_config.target_modules = _PLACES
        return peft_config

    def _create_and_replace(
        self,
        peft_config: BottleneckConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        weight = next(parent.parameters())
        unit: nn.Module
        before: nn.Module
        if isinstance(parent, BlipVisionLayer):
            before, width = parent.layer_norm2, parent.layer_norm1.normalized_shape[0]
            unit = _Plain(width, peft_config)
        elif isinstance(parent, BlipTextLayer):
            before, width = parent.crossattention, parent.query_slot.dim
            if peft_config.shared:
                partner = self._partner(adapter_name, current_key, width)
                unit = _SharedText(width, peft_config, partner)
            else:  # a question is read with its picture, an answer with its question
                alone = not isinstance(self.model, BlipForQuestionAnswering)
                unit = _Plain(width, peft_config, alone=alone, fused=True)
        else:
            raise ValueError(
                f"bottleneck adapters stand beside the feed-forward blocks of BLIP's layers, and "
                f"{current_key!r} is none."
            )
        layer = target
        if not isinstance(layer, BottleneckLayer):
            layer = BottleneckLayer(target, before, in_vision=isinstance(parent, BlipVisionLayer))
            self._replace_module(parent, target_name, layer, target)
        layer.bottleneck_units[adapter_name] = unit.to(weight.device, weight.dtype)
        layer.scaling[adapter_name] = peft_config.scaling or 0.0
        if adapter_name not in self.active_adapters:
            unit.requires_grad_(False)

    def _partner(self, adapter_name: str, key: str, width: int) -> _Plain | None:
        """The adapter of the vision layer that a text layer shares D with; a decoder has none."""
        depth = re.search(r"text_encoder\.encoder\.layer\.(\d+)\.", key)
        if depth is None:
            return None
        vision = self.model.vision_model.encoder.layers
        index = int(depth[1])
        if index >= len(vision):
            raise ValueError(
                f"UniAdapter shares each text layer's down-projection with a vision layer, and "
                f"there are only {len(vision)} of them."
            )
        block = vision[index].mlp
        if not isinstance(block, BottleneckLayer):
            raise ValueError(
                f"UniAdapter shares the down-projection of {key!r} with vision layer {index}, "
                "which `target_modules` leaves out."
            )
        partner: _Plain = block.bottleneck_units[adapter_name]  # type: ignore[assignment]
        theirs = partner.down.map.in_features
        if theirs != width:
            raise ValueError(
                f"UniAdapter shares down-projections between vision, of width "
                f"{theirs}, and text, of width {width}: they must be equal."
            )
        return partner


def register() -> None:
    """Make PEFT know "BOTTLENECK"; calling it again changes nothing.

    Raises:
        RuntimeError: another package holds the name.
    """
    register_kind(BottleneckPeftType.BOTTLENECK, BottleneckConfig, BottleneckModel)
