"""Which family a backbone belongs to, and loading by name whatever the family.

A family is found by the `model_type` of a folder's config.json. Adding one is an entry in
`_FAMILIES`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import nn

from aurora_vl.backbones.base import Task, base_model
from aurora_vl.backbones.blip.convert import convert
from aurora_vl.backbones.blip.family import BlipFamily
from aurora_vl.backbones.blip.loading import named_blip
from aurora_vl.backbones.chat.family import ChatFamily
from aurora_vl.backbones.clip.family import CLIP_FAMILIES
from aurora_vl.backbones.family import Family
from aurora_vl.backbones.folders import find_backbone, is_file, model_type_of
from aurora_vl.errors import UserError

if TYPE_CHECKING:
    from aurora_vl.backbones.blip.modeling import BlipForQuestionAnswering, BlipForRetrieval

__all__ = [
    "convert",
    "family_by_name",
    "family_of",
    "family_of_model",
    "load",
    "load_config",
    "load_tokenizer",
    "register_family",
]

_FAMILIES: list[Family] = [BlipFamily(), *CLIP_FAMILIES, ChatFamily()]


def register_family(family: Family) -> None:
    """Make one more family known; the first that names a model type has it."""
    _FAMILIES.append(family)


def family_of(model_type: str, where: str) -> Family:
    """The family of a model type.

    Args:
        model_type: as config.json has it.
        where: what it was read from, for the error.

    Raises:
        UserError: no family knows it.
    """
    for family in _FAMILIES:
        if model_type in family.model_types:
            return family
    known = ", ".join(sorted(kind for family in _FAMILIES for kind in family.model_types))
    raise UserError(f"{where} describes a model of type {model_type!r}; give one of type {known}")


def family_by_name(name: str | os.PathLike[str]) -> Family:
    """The family of the backbone that a name stands for; only its config.json is read.

    Args:
        name: as for `load`.

    Raises:
        UserError: the name leads nowhere, or to a model of another kind.
    """
    if is_file(name) or named_blip(name):
        return family_of("blip", os.fspath(name))
    folder = find_backbone(name)
    return family_of(model_type_of(folder), str(folder / "config.json"))


def family_of_model(model: nn.Module) -> Family:
    """The family of a loaded model, or of the one inside a PEFT model."""
    inner: Any = base_model(model)
    return family_of(inner.config.model_type, f"the {type(inner).__name__}")


@overload
def load(
    name: str | os.PathLike[str],
    *,
    task: Literal["retrieval"] = "retrieval",
    image_size: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> BlipForRetrieval: ...


@overload
def load(
    name: str | os.PathLike[str],
    *,
    task: Literal["vqa"],
    image_size: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> BlipForQuestionAnswering: ...


@overload
def load(
    name: str | os.PathLike[str],
    *,
    task: Task,
    image_size: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Any: ...


def load(
    name: str | os.PathLike[str],
    *,
    task: Task = "retrieval",
    image_size: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """A pre-trained backbone, in evaluation mode on the CPU.

    Args:
        name: ``"mini"`` (bundled), a folder in transformers' layout, a hub id or one of the
            ``.pth`` files of BLIP's authors.
        task: ``"retrieval"`` or ``"vqa"``; the checkpoint's parts that the task does not use
            are left out.
        image_size: pixels along a side; another than the checkpoint's interpolates the
            position embeddings. None keeps the checkpoint's.
        dtype: type of the parameters, whatever the file's.

    Raises:
        UserError: if the name leads nowhere, the files cannot be read, the checkpoint lacks
            or has other parameters than the task's model, or the size does not fit.
    """
    return family_by_name(name).load(os.fspath(name), task, image_size, dtype)


def load_config(name: str | os.PathLike[str], *, image_size: int | None = None) -> Any:
    """A backbone's configuration; its weights are not looked at.

    Args:
        name: as for `load`, or ``"blip-base"`` and ``"blip-large"``, the published shapes.
        image_size: pixels along a side instead of the configuration's.

    Raises:
        UserError: if the name leads nowhere or the size does not fit.
    """
    return family_by_name(name).load_config(os.fspath(name), image_size)


def load_tokenizer(name: str | os.PathLike[str]) -> Any:
    """The tokenizer that stands beside a backbone's weights, for the same names as `load`.

    A ``.pth`` file has none beside it: bert-base-uncased's is fetched from the hub.

    Raises:
        UserError: if the name leads nowhere or there is no tokenizer.
    """
    return family_by_name(name).tokenizer(os.fspath(name))
