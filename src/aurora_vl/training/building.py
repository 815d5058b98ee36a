"""From a recipe to a model: the backbone with what the recipe's method trains.

What is trained is declared here and in the tuner, never found by matching names in a finished
model: the adapter's own parameters, the heads, or everything.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from safetensors import SafetensorError
from torch import nn

from aurora_vl.backbones.blip.loading import BlipModel, load, load_tokenizer
from aurora_vl.data.augment import Augment
from aurora_vl.errors import UserError
from aurora_vl.inference.loading import load_tuned
from aurora_vl.methods import METHODS, Request
from aurora_vl.methods.parameter_count import part_of
from aurora_vl.recipes.recipe import Recipe
from aurora_vl.training.tasks import kind_of

ADAPTER_PREFIXES = tuple(sorted(set(PEFT_TYPE_TO_PREFIX_MAPPING.values())))
"""What the names of adapters' own parameters begin with."""
_TEMPERATURE = "temperature"
# Of PEFT: fixed projections are drawn again from the seed; norms have no in and out sizes.
_HARMLESS = "Specified to not (save|load) .*|Unsupported layer type .*LayerNorm"
_MISFITS = (ValueError, TypeError, RuntimeError)
_ADAPTER_FAULTS = (
    RuntimeError,
    ValueError,
    KeyError,
    OSError,
    TypeError,
    SafetensorError,
    UserWarning,
)


def build_model(recipe: Recipe, *, seed: int | None = None) -> nn.Module:
    """The recipe's model with fresh adapter weights, what is trained set to require gradients.

    Args:
        recipe: resolved.
        seed: of the starting values; the recipe's if left out.
    """
    torch.manual_seed(recipe.training.seed if seed is None else seed)
    return prepare(load_backbone(recipe), recipe)


def load_backbone(recipe: Recipe) -> BlipModel:
    """The recipe's backbone as the task's model, untouched."""
    return load(recipe.backbone, task=kind_of(recipe).model, image_size=recipe.image_size)


def prepare(backbone: BlipModel, recipe: Recipe) -> nn.Module:
    """The backbone with what the recipe's method trains, set to require gradients."""
    section, switches = recipe.adapter, recipe.switches
    method = METHODS[section.method]
    if method.config is None:
        backbone.requires_grad_(section.method != "none")
        for name, module in backbone.named_children():
            if name == _TEMPERATURE and section.method != "none":
                module.requires_grad_(switches.train_temperature)
        return backbone
    asked = Request(
        method=section.method,
        backbone=backbone,
        rank=section.rank or 0,
        dropout=section.dropout,
        options=section.options or {},
        switches=switches,
        heads=kind_of(recipe).heads(switches),
        seed=recipe.training.seed,
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", _HARMLESS)
            return get_peft_model(backbone, method.config(asked))
    except _MISFITS as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"adapter.method {section.method} does not fit the backbone {recipe.backbone}: {reason}"
        ) from None


def load_adapter(recipe: Recipe, folder: Path | None) -> nn.Module:
    """The recipe's backbone with a trained adapter, or a fully tuned model, in evaluation mode.

    Args:
        recipe: names the backbone and the image size.
        folder: an adapter's folder, a fully tuned backbone's, or None for the backbone alone.

    Raises:
        UserError: the folder is absent, is neither, or does not fit the backbone.
    """
    return load_tuned(recipe.backbone, folder, kind_of(recipe).model, recipe.image_size)


def save_adapter(model: nn.Module, folder: Path, recipe: Recipe) -> None:
    """Write what was trained: the adapter and heads, or the whole model for method full."""
    if isinstance(model, PeftModel):
        model.peft_config["default"].base_model_name_or_path = recipe.backbone
        model.save_pretrained(str(folder), save_embedding_layers=False)
    else:
        inner_backbone(model).save_pretrained(str(folder))
        load_tokenizer(recipe.backbone).save_pretrained(str(folder))


def inner_backbone(model: nn.Module) -> BlipModel:
    """The backbone itself, or the one inside a PEFT model."""
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    backbone: BlipModel = inner
    return backbone


def own_rates(recipe: Recipe, model: nn.Module) -> list[tuple[list[nn.Parameter], float]]:
    """Parameters whose learning rate is not `training.learning_rate`, and theirs.

    The heads have `head_learning_rate`; factors on the output's side the rate of the others times
    `factor_rate_ratio`.
    """
    settings, method = recipe.training, METHODS[recipe.adapter.method]
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    found = []
    if settings.head_learning_rate is not None:
        heads = [p for name, p in trained if part_of(name) == "heads"]
        found.append((heads, settings.head_learning_rate))
    prefix = method.output_factors
    if settings.factor_rate_ratio != 1 and prefix and settings.learning_rate is not None:
        outputs = [
            p for name, p in trained if any(part.startswith(prefix) for part in name.split("."))
        ]
        found.append((outputs, settings.learning_rate * settings.factor_rate_ratio))
    return found


def build_tokenizer(recipe: Recipe) -> Any:
    """The backbone's tokenizer."""
    return load_tokenizer(recipe.backbone)


def build_augment(recipe: Recipe) -> Augment | None:
    """The training augmentation, or None."""
    level = recipe.data.augmentation
    return None if level == "none" else Augment(level)
