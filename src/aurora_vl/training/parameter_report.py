"""What a recipe trains, by module, counted on a model without memory: no checkpoint is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from aurora_vl.backbones.families import family_by_name, family_of_model, load_config
from aurora_vl.methods.parameter_count import (
    ADAPTER_PREFIXES,
    ParameterCount,
    count_parameters,
    part_of,
)
from aurora_vl.recipes.recipe import Recipe
from aurora_vl.training.building import prepare
from aurora_vl.training.tasks import kind_of


@dataclass(frozen=True, slots=True)
class TrainedModule:
    """A module, or all the modules of one kind in it, whose parameters are trained.

    Attributes:
        module: its name; an adapter's rows and gates are summed over the part of the backbone they
            lie in.
        part: factors, gates, heads or backbone, as in `ParameterCount`.
        numbers: how many.
        share: of all numbers of the model in use, in percent.
    """

    module: str
    part: str
    numbers: int
    share: float


@dataclass(frozen=True, slots=True)
class ParameterReport:
    """What a recipe trains.

    Attributes:
        recipe: resolved.
        count: numbers by part.
        modules: what is trained, shared factors first.
    """

    recipe: Recipe
    count: ParameterCount
    modules: tuple[TrainedModule, ...]

    @property
    def adapter(self) -> int:
        """Numbers of the adapter, heads not included."""
        return self.count.factors + self.count.gates

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON; shares in percent."""
        total = self.count.total
        return {
            "backbone": self.recipe.backbone,
            "adapter": self.recipe.adapter.model_dump(mode="json"),
            "modules": [asdict(module) for module in self.modules],
            "parameters": asdict(self.count),
            "adapter_parameters": self.adapter,
            "adapter_share": 100 * self.adapter / total,
            "trainable_parameters": self.count.trainable,
            "trainable_share": 100 * self.count.trainable / total,
            "total_parameters": total,
        }


def parameter_report(recipe: Recipe) -> ParameterReport:
    """Build the recipe's model on the meta device and count.

    Args:
        recipe: resolved; its data is not looked at, and of its backbone only the configuration.

    Raises:
        UserError: the backbone's name leads to no configuration.
    """
    config = load_config(recipe.backbone, image_size=recipe.image_size)
    with torch.device("meta"):
        backbone = family_by_name(recipe.backbone).empty_model(kind_of(recipe).model, config)
    model = prepare(backbone, recipe)
    count = count_parameters(model)
    return ParameterReport(recipe, count, tuple(_trained_modules(model, count.total)))


def _trained_modules(model: nn.Module, total: int) -> list[TrainedModule]:
    numbers: dict[tuple[str, str], int] = {}
    heads = family_of_model(model).heads
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (part_of(name, heads), _module_of(name))
            numbers[key] = numbers.get(key, 0) + parameter.numel()
    order = ("factors", "gates", "heads", "backbone")
    return [
        TrainedModule(module, part, n, 100 * n / total)
        for (part, module), n in sorted(
            numbers.items(), key=lambda item: (order.index(item[0][0]), "." in item[0][1])
        )
    ]


def _module_of(name: str) -> str:
    """As in `aurora_U_768`, `text_encoder.*.aurora_P`, `text_encoder.*.aurora_gate`, `itm_head`."""
    names = [n for n in name.split(".") if n not in ("base_model", "model", "default")]
    own = next((n for n in names if n.startswith(ADAPTER_PREFIXES)), None)
    if own is None:
        return names[0]
    if names[0] == own:
        part, of_one_map, _ = own.partition("__")  # `adapter.sharing: layer`
        return f"{part}.*" if of_one_map else own
    return f"{names[0]}.*.{'aurora_gate' if own.startswith('aurora_gate') else own}"
