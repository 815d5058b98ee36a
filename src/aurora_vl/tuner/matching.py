"""Which modules an adapter is put on: by name or the model's type, query slots by their kind."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from peft import NoMatchingPeftModuleError
from peft.tuners.tuners_utils import BaseTuner
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import nn

from aurora_vl.tuner.config import AuroraConfig
from aurora_vl.tuner.layer import AuroraLayer
from aurora_vl.tuner.query_slot import QuerySlot
from aurora_vl.tuner.targets import CONV1D_MODELS, DEFAULT_TARGETS, config_widths, square_widths

_PACKED = nn.MultiheadAttention


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module that was there before any adapter."""
    return module.get_base_layer() if isinstance(module, AuroraLayer) else module


class TargetMatching(BaseTuner):
    """The part of the tuner that finds the modules to adapt."""

    target_module_mapping = DEFAULT_TARGETS
    _by_name = True  # else the keys of given weights decide

    def _prepare_adapter_config(
        self, peft_config: AuroraConfig, model_config: dict[str, Any]
    ) -> AuroraConfig:
        """Return a copy with targets: what this model resolves goes into the copy first."""
        known = self.target_module_mapping
        model_type = model_config.get("model_type")
        if peft_config.target_modules is None and model_type in CONV1D_MODELS:
            raise ValueError(
                f"Aurora adapts nn.Linear only, and a model of type {model_type!r} is made of "
                "Conv1D: name its nn.Linear maps, if it has any, in `target_modules`, or take "
                "another model."
            )
        if peft_config.target_modules is None and model_type not in known:
            raise ValueError(
                f"Aurora has no default targets for model type {model_type!r}: set "
                "`target_modules` in AuroraConfig, for example to 'all-linear'. Known: "
                f"{', '.join(sorted(known))}."
            )
        own = super()._prepare_adapter_config(copy.deepcopy(peft_config), model_config)
        self._own_config: AuroraConfig = own
        return own

    def _check_target_module_exists(self, peft_config: AuroraConfig, key: str) -> Any:
        """Match a module: slots by their kind (where gates are on), other modules by name.

        What is excluded and which layers are chosen holds for both.
        """
        if isinstance(unwrapped(self.model.get_submodule(key)), QuerySlot):
            by_kind = copy.copy(peft_config)
            by_kind.target_modules = {key.rpartition(".")[2]}
            found = super()._check_target_module_exists(by_kind, key)
            return found and peft_config.gqt != "off"
        found = super()._check_target_module_exists(peft_config, key)
        if found and isinstance(self.model.get_submodule(key.rpartition(".")[0]), _PACKED):
            return False  # nn.MultiheadAttention reads its projections' weights, never calls them
        return found

    def _prepare_model(self, peft_config: AuroraConfig, model: nn.Module) -> None:
        """Refuse targets that no module has: beside query gates, PEFT's own check is content."""
        targets = peft_config.target_modules
        asked = targets and targets != DUMMY_TARGET_MODULES and self._by_name
        gated = peft_config.gqt != "off" and any(
            isinstance(unwrapped(module), QuerySlot) for module in model.modules()
        )
        if asked and gated and not self._targets_any_module(peft_config):
            excluded = peft_config.exclude_modules
            fault = f", or all of them excluded by {excluded}" if excluded else ""
            raise NoMatchingPeftModuleError(
                f"Target modules {targets} not found in the base model{fault}. Check "
                "`target_modules`, `exclude_modules` and `layers_to_transform`; to train the query "
                "gates alone, set `target_modules=[]`."
            )

    def _targets_any_module(self, config: AuroraConfig) -> bool:
        kind: type[nn.Module] = nn.Module
        if config.target_modules == "all-linear":  # PEFT writes their names into it later
            config, kind = copy.copy(config), nn.Linear
            config.target_modules = ".*"
        return any(
            isinstance(inner := unwrapped(module), kind)
            and not isinstance(inner, QuerySlot)
            and self._check_target_module_exists(config, key)
            for key, module in self.model.named_modules()
            if key
        )

    def _targeted_sizes(self, config: AuroraConfig) -> Iterator[tuple[int, int]]:
        for key, module in self.model.named_modules():
            inner = unwrapped(module)
            if not key or not isinstance(inner, nn.Linear):
                continue
            if self._check_target_module_exists(config, key):
                yield inner.in_features, inner.out_features

    def _resolve_widths(self, config: AuroraConfig) -> list[int]:
        model_config = getattr(self.model, "config", None)
        if isinstance(model_config, dict) or hasattr(model_config, "to_dict"):
            widths = config_widths(model_config)
            if widths:
                return widths
        return square_widths(self._targeted_sizes(config))
