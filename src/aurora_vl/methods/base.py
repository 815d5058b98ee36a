"""What a method is, and what it is asked to adapt."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from peft import LoraConfig, PeftConfig
from peft.tuners.tuners_utils import _maybe_include_all_linear_layers, check_target_module_exists
from torch import nn

from aurora_vl.backbones.family import ModuleNames
from aurora_vl.errors import UserError
from aurora_vl.objectives.presets import Switches
from aurora_vl.tuner.targets import DEFAULT_TARGETS


@dataclass(frozen=True, slots=True)
class Request:
    """What a recipe asks of a method.

    Attributes:
        method: the method's name, for errors.
        backbone: the model to be adapted; only its modules' names and sizes are looked at.
        rank: the method's size where it has a rank.
        dropout: probability, for methods that have one.
        options: further arguments of the method's PEFT configuration; they win.
        switches: Aurora's.
        heads: modules that are trained whole and saved with the adapter.
        seed: of fixed random projections.
        modules: names in the family's models, for methods that act elsewhere than ours.
    """

    method: str
    backbone: nn.Module
    rank: int
    dropout: float
    options: Mapping[str, Any]
    switches: Switches
    heads: Sequence[str]
    seed: int
    modules: ModuleNames

    @property
    def targets(self) -> list[str] | str:
        """The maps that Aurora adapts in this backbone, those of `options` if given."""
        given: list[str] | str | None = self.options.get("target_modules")
        if given is not None:
            return given
        backbone: Any = self.backbone
        usual = DEFAULT_TARGETS.get(backbone.config.model_type)
        if usual is None:
            raise UserError(
                f"there are no usual targets for a model of type {backbone.config.model_type}; "
                "name its linear maps in adapter.options.target_modules."
            )
        return usual

    def divisor(self, limit: int) -> int:
        """The largest number up to `limit` that divides both sizes of every targeted map."""
        named = LoraConfig(
            target_modules=self.targets,
            exclude_modules=self.options.get("exclude_modules"),
            modules_to_save=list(self.heads) or None,
        )
        targets = _maybe_include_all_linear_layers(named, self.backbone)  # "all-linear" spelt out
        sizes = [
            size
            for name, module in self.backbone.named_modules()
            if isinstance(module, nn.Linear) and check_target_module_exists(targets, name)
            for size in (module.in_features, module.out_features)
        ]
        common = math.gcd(*sizes) or 1
        return max(n for n in range(1, min(limit, common) + 1) if common % n == 0)

    def config(self, kind: type[PeftConfig], **arguments: Any) -> PeftConfig:
        """A PEFT configuration with the targets, the heads and what `options` sets otherwise.

        Args:
            kind: its class.
            **arguments: the method's own; `target_modules` takes the place of the usual targets.

        Raises:
            UserError: an option that the class does not have.
            ValueError: of the class, for a value that does not fit.
        """
        known = {f.name for f in fields(kind)} - {f.name for f in fields(PeftConfig)}
        known -= {"modules_to_save"}  # objective.train_* decides about the heads
        for name in self.options:
            if name not in known:
                raise UserError(
                    f"adapter.options.{name} is no option of {self.method}; "
                    f"known: {', '.join(sorted(known))}."
                )
        given = {**arguments, **self.options}
        if "target_modules" not in given:
            given["target_modules"] = self.targets
        return kind(modules_to_save=list(self.heads) or None, **given)


@dataclass(frozen=True, slots=True)
class Method:
    """One entry.

    Attributes:
        name: in recipes.
        label: in tables and pictures.
        rates: the default learning rate on narrow backbones, such as the mini foundation, and on
            wide ones; None where nothing is trained.
        ranks: likewise the usual rank; None for a method without one.
        config: gives the PEFT configuration; None for a method that adds nothing to the backbone.
        same_start: a fresh model gives the frozen model's output.
        dropout: the recipe's is read.
        output_factors: what the names of the factors on the output's side begin with, of methods
            with two factors that start differently: these at zero.
        registered: of a type of adapter that PEFT does not know by itself, its name there; it is
            registered when `aurora_vl` is imported.
    """

    name: str
    label: str
    rates: tuple[float, float] | None
    ranks: tuple[int, int] | None = None
    config: Callable[[Request], PeftConfig] | None = None
    same_start: bool = True
    dropout: bool = True
    output_factors: str | None = None
    registered: str | None = None

    def rate(self, *, narrow: bool) -> float | None:
        """The default learning rate."""
        return None if self.rates is None else self.rates[0 if narrow else 1]

    def rank(self, *, narrow: bool) -> int | None:
        """The usual rank."""
        return None if self.ranks is None else self.ranks[0 if narrow else 1]
