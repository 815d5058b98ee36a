"""From a recipe to a model: the backbone with what the recipe's method trains.

What is trained is declared here and in the tuner, never found by matching names in a finished
model: the adapter's own parameters, the heads, or everything.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from peft.tuners.ln_tuning.layer import LNTuningLayer
from safetensors import SafetensorError
from torch import nn

from aurora_vl.data.augment import Augment
from aurora_vl.errors import UserError
from aurora_vl.modeling.blip import HEADS
from aurora_vl.modeling.load import BlipModel, Task, load, load_tokenizer
from aurora_vl.training.kinds import kind_of
from aurora_vl.training.methods import METHODS, Request
from aurora_vl.training.recipe import Recipe

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


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Numbers of a model in use.

    Attributes:
        factors: the adapter's own numbers; of Aurora its shared factors, cores and modes.
        gates: query gates.
        heads: projections, matching head and temperature, where they are trained.
        backbone: trained numbers of the backbone itself (method full).
        total: all numbers of the model in use, adapter included.
    """

    factors: int
    gates: int
    heads: int
    backbone: int
    total: int

    @property
    def trainable(self) -> int:
        """Everything that is trained."""
        return self.factors + self.gates + self.heads + self.backbone


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


def load_tuned(
    backbone: str, folder: Path | None, task: Task, image_size: int | None = None
) -> nn.Module:
    """As `load_adapter`, without a recipe.

    Args:
        backbone: as for `modeling.load.load`.
        folder: as for `load_adapter`.
        task: which of the backbone's models.
        image_size: pixels along a side; None for the backbone's.
    """
    if folder is not None and not folder.is_dir():
        raise UserError(
            f"the adapter folder {folder} does not exist; give the folder that train wrote."
        )
    if folder is None:
        return load(backbone, task=task, image_size=image_size)
    if (folder / "adapter_config.json").is_file():
        model = load(backbone, task=task, image_size=image_size)
        return attach_adapter(model, folder, backbone)
    if (folder / "config.json").is_file():
        return load(str(folder), task=task, image_size=image_size)
    raise UserError(f"{folder} holds no adapter_config.json; give the folder that train wrote.")


def attach_adapter(backbone: nn.Module, folder: Path, name: str) -> nn.Module:
    """A backbone with a trained adapter over it, in evaluation mode.

    Args:
        backbone: the model; it is changed.
        folder: the adapter's.
        name: what the backbone is called in an error.

    Raises:
        UserError: the two do not fit.
    """
    try:
        with warnings.catch_warnings():  # PEFT only warns of lacking tensors
            warnings.filterwarnings("error", "Found missing adapter keys")
            warnings.filterwarnings("ignore", _HARMLESS)
            return PeftModel.from_pretrained(backbone, str(folder)).eval()
    except _ADAPTER_FAULTS as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"the adapter {folder} does not fit the backbone {name}: {reason}"
        ) from None


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


def count_parameters(model: nn.Module) -> ParameterCount:
    """Count what is trained, by part, and all numbers of the model in use.

    The frozen originals that PEFT keeps beside trained heads and norms are not in use and not
    counted.
    """
    counts = dict.fromkeys(("factors", "gates", "heads", "backbone"), 0)
    total = 0
    replaced = tuple(
        f"{name}.base_layer." for name, m in model.named_modules() if isinstance(m, LNTuningLayer)
    )
    for name, parameter in model.named_parameters():
        if ".original_module." in name or name.startswith(replaced):
            continue
        total += parameter.numel()
        if parameter.requires_grad:
            counts[part_of(name)] += parameter.numel()
    return ParameterCount(**counts, total=total)


def part_of(name: str, saved_whole: Sequence[str] = ()) -> str:
    """The part of `ParameterCount` that a trained parameter belongs to, by its name.

    Args:
        name: in the model, or in an adapter's file.
        saved_whole: the adapter's `modules_to_save`, which names in its file do not tell.
    """
    parts = name.split(".")
    if any(part.startswith("aurora_gate") for part in parts):
        return "gates"
    if any(part.startswith(ADAPTER_PREFIXES) for part in parts):
        return "factors"
    heads = ("modules_to_save", *HEADS, _TEMPERATURE, *saved_whole)
    return "heads" if any(f".{head}." in f".{name}." for head in heads) else "backbone"


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
