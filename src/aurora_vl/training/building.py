"""From a recipe to a model: the backbone with what the recipe's method trains.

What is trained is declared here and in the tuner, never found by matching names in a finished
model: the adapter's own parameters, the heads, or everything.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import torch
from peft import get_peft_model
from torch import nn

from aurora_vl.backbones.base import Preprocessor
from aurora_vl.backbones.families import family_by_name, family_of_model, load
from aurora_vl.backbones.family import Family
from aurora_vl.data.augment import Augment
from aurora_vl.errors import UserError
from aurora_vl.inference.loading import DEFAULT, HARMLESS_WARNINGS, TunedModel, load_tuned
from aurora_vl.inference.settings import AdapterSettings
from aurora_vl.methods import METHODS, Request
from aurora_vl.methods.parameter_count import part_of
from aurora_vl.recipes.recipe import Recipe
from aurora_vl.training.tasks import kind_of

_MISFITS = (ValueError, TypeError, RuntimeError)


def build_model(recipe: Recipe, *, seed: int | None = None) -> nn.Module:
    """The recipe's model with fresh adapter weights, what is trained set to require gradients.

    Args:
        recipe: resolved.
        seed: of the starting values; the recipe's if left out.
    """
    torch.manual_seed(recipe.training.seed if seed is None else seed)
    return prepare(load_backbone(recipe), recipe)


def load_backbone(recipe: Recipe) -> nn.Module:
    """The recipe's backbone as the task's model, untouched."""
    model: nn.Module = load(
        recipe.backbone, task=kind_of(recipe).model, image_size=recipe.image_size
    )
    return model


def prepare(backbone: nn.Module, recipe: Recipe) -> nn.Module:
    """The backbone with what the recipe's method trains, set to require gradients."""
    section, switches = recipe.adapter, recipe.switches
    method, family = METHODS[section.method], family_of_model(backbone)
    if method.config is None:
        backbone.requires_grad_(section.method != "none")
        if section.method != "none":
            for name, parameter in backbone.named_parameters():
                if name.partition(".")[0] in family.temperature:
                    parameter.requires_grad_(switches.train_temperature)
        return backbone
    asked = Request(
        method=section.method,
        backbone=backbone,
        rank=section.rank or 0,
        dropout=section.dropout,
        options=section.options or {},
        switches=switches,
        heads=trained_heads(recipe, family),
        seed=recipe.training.seed,
        modules=family.modules,
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", HARMLESS_WARNINGS)
            return get_peft_model(backbone, method.config(asked))
    except _MISFITS as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"adapter.method {section.method} does not fit the backbone {recipe.backbone}: {reason}"
        ) from None


def trained_heads(recipe: Recipe, family: Family | None = None) -> list[str]:
    """Names of the heads that the recipe trains beside an adapter; none in question answering."""
    switches = recipe.switches
    return (family or family_by_name(recipe.backbone)).trained_heads(
        kind_of(recipe).model,
        text_projection=switches.train_text_proj,
        temperature=switches.train_temperature,
    )


def in_use(recipe: Recipe, model: nn.Module, settings: AdapterSettings) -> TunedModel:
    """A model that is being trained, as inference takes one."""
    family = family_by_name(recipe.backbone)
    tokenizer = family.tokenizer(recipe.backbone)
    return TunedModel(model, family, recipe.backbone, tokenizer, {}, {None: settings})


def load_trained(
    recipe: Recipe, folder: Path | None, settings: AdapterSettings, device: torch.device
) -> TunedModel:
    """The recipe's backbone with a trained adapter, or a fully tuned model, to be scored.

    Args:
        recipe: names the backbone and the image size.
        folder: an adapter's folder, a fully tuned backbone's, or None for the backbone alone.
        settings: what it is scored with; those of the folder are left aside.
        device: where it goes.

    Raises:
        UserError: the folder is absent, is neither, or does not fit the backbone.
    """
    tuned = load_tuned(
        recipe.backbone,
        kind_of(recipe).model,
        adapters={} if folder is None else {DEFAULT: folder},
        image_size=recipe.image_size,
        device=device,
    )
    return replace(tuned, folders={}, settings={None: settings})


def own_rates(recipe: Recipe, model: nn.Module) -> list[tuple[list[nn.Parameter], float]]:
    """Parameters whose learning rate is not `training.learning_rate`, and theirs.

    The heads have `head_learning_rate`; factors on the output's side the rate of the others times
    `factor_rate_ratio`.
    """
    settings, method = recipe.training, METHODS[recipe.adapter.method]
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    found = []
    if settings.head_learning_rate is not None:
        names = family_of_model(model).heads
        heads = [p for name, p in trained if part_of(name, names) == "heads"]
        found.append((heads, settings.head_learning_rate))
    prefix = method.output_factors
    if settings.factor_rate_ratio != 1 and prefix and settings.learning_rate is not None:
        outputs = [
            p for name, p in trained if any(part.startswith(prefix) for part in name.split("."))
        ]
        found.append((outputs, settings.learning_rate * settings.factor_rate_ratio))
    return found


def training_preprocessor(recipe: Recipe, tuned: TunedModel) -> Preprocessor:
    """What prepares training batches: as in use, with random crops."""
    settings = tuned.settings[None].preparation(recipe.data.crop_scale)
    return tuned.preprocessor(settings)


def build_augment(recipe: Recipe, preprocessor: Preprocessor) -> Augment | None:
    """The training augmentation, or None.

    Raises:
        UserError: one is asked for, and the preprocessor cannot augment.
    """
    level = recipe.data.augmentation
    if level == "none":
        return None
    if not preprocessor.augments:
        raise UserError(
            f"data.augmentation is {level}, and the processor of {recipe.backbone} normalises "
            "pictures before they could be augmented; set data.augmentation to none"
        )
    return Augment(level)
