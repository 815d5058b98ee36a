"""A backbone with one or several adapters, or a fully tuned model, from their folders."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
from peft import PeftModel
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError, safe_open
from torch import nn

from aurora_vl.backbones.base import PreparationSettings, Preprocessor, Task, base_model
from aurora_vl.backbones.families import family_by_name, family_of_model, load
from aurora_vl.backbones.family import Family
from aurora_vl.backbones.folders import MINI
from aurora_vl.errors import UserError
from aurora_vl.inference.settings import AdapterSettings, read_json, read_settings

# Of PEFT: fixed projections are drawn again from the seed; norms have no in and out sizes.
HARMLESS_WARNINGS = "Specified to not (save|load) .*|Unsupported layer type .*LayerNorm"
_CONFIG = "adapter_config.json"
DEFAULT = "default"
"""The name of an adapter that was given without one."""
_ADAPTER_FAULTS = (
    RuntimeError,
    ValueError,
    KeyError,
    OSError,
    TypeError,
    SafetensorError,
    UserWarning,
)


@dataclass(frozen=True)
class TunedModel:
    """A model ready for use.

    Attributes:
        model: the backbone or a PEFT model around it, in evaluation mode.
        family: the backbone's.
        backbone: its name, as for `aurora_vl.load`.
        tokenizer: the backbone's.
        folders: the adapters by name, the first being the usual one; empty for a backbone alone.
        settings: of each adapter by name, or of the backbone alone under None.
    """

    model: nn.Module
    family: Family
    backbone: str
    tokenizer: Any
    folders: Mapping[str, Path]
    settings: Mapping[str | None, AdapterSettings]

    @property
    def usual(self) -> str | None:
        """The adapter that is used when none is named."""
        return next(iter(self.folders), None)

    @property
    def image_size(self) -> int:
        """Pixels along a side."""
        inner: Any = base_model(self.model)
        return self.family.image_size(inner.config)

    def preprocessor(self, settings: PreparationSettings) -> Preprocessor:
        """What prepares media and texts for the model."""
        return self.family.preprocessor(self.model, self.tokenizer, settings)


def load_named(
    task: Task,
    backbone: str | os.PathLike[str] | None,
    adapter: str | os.PathLike[str] | None,
    adapters: Mapping[str, str | os.PathLike[str]] | None,
    *,
    image_size: int | None,
    device: str | torch.device | None,
    dtype: torch.dtype | str,
) -> TunedModel:
    """Load what `Retriever.load` and `Answerer.load` are asked for.

    Raises:
        UserError: both `adapter` and `adapters` are given, or there is no such dtype; else as for
            `load_tuned`.
    """
    if adapter is not None and adapters:
        raise UserError("give one adapter, or several by name in adapters, but not both.")
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise UserError(f"there is no dtype {dtype!r}; give float32, bfloat16 or float16.")
    named = {DEFAULT: adapter} if adapter is not None else dict(adapters or {})
    return load_tuned(
        None if backbone is None else os.fspath(backbone),
        task,
        adapters={name: Path(folder) for name, folder in named.items()},
        image_size=image_size,
        device=device,
        dtype=found,
    )


def load_tuned(
    backbone: str | None,
    task: Task,
    *,
    adapters: Mapping[str, Path] | None = None,
    image_size: int | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> TunedModel:
    """Load a backbone with adapters.

    Args:
        backbone: as for `aurora_vl.load`; None for the one that the adapter was trained over, which
            is the adapter's folder itself if it holds a whole model, and without an adapter the
            bundled one.
        task: which of the backbone's models.
        adapters: folders that train wrote, by name. A fully tuned model's folder goes alone.
        image_size: pixels along a side; None for the adapter's, else the backbone's.
        device: where the model goes; None for a GPU if there is one.
        dtype: of the parameters.

    Raises:
        UserError: a folder is absent, is neither, or does not fit the backbone; the adapters were
            trained at different image sizes.
    """
    folders = {name: Path(folder).expanduser() for name, folder in (adapters or {}).items()}
    for folder in folders.values():
        require_tuned(folder)
    settings: dict[str | None, AdapterSettings] = {
        name: read_settings(folder) for name, folder in folders.items()
    }
    size = image_size or _common_size(folders, settings)
    name = backbone or trained_over(next(iter(folders.values()), None))
    whole = [folder for folder in folders.values() if not _is_adapter(folder)]
    if whole:
        if len(folders) > 1:
            raise UserError(
                f"{whole[0]} holds a whole model, which shares no backbone with other adapters; "
                "load it by itself."
            )
        model: nn.Module = load(str(whole[0]), task=task, image_size=size, dtype=dtype)
    else:
        model = load(name, task=task, image_size=size, dtype=dtype)
        for adapter, folder in folders.items():
            model = attach_adapter(model, folder, name, adapter=adapter)
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if not folders:
        settings = {None: AdapterSettings(image_size=image_size)}
    family = family_of_model(model) if whole else family_by_name(name)
    tokenizer = family.tokenizer(str(whole[0]) if whole else name)
    return TunedModel(model.eval(), family, name, tokenizer, folders, settings)


def require_tuned(folder: Path) -> None:
    """Refuse a folder that holds neither an adapter nor a whole model.

    Raises:
        UserError: names what is missing.
    """
    if not folder.is_dir():
        raise UserError(
            f"the adapter folder {folder} does not exist; give the folder that train wrote."
        )
    if _is_adapter(folder):
        _require_known_method(folder)
        _require_weights(folder)
    elif not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no adapter_config.json; give the folder that train wrote.")


def attach_adapter(
    backbone: nn.Module, folder: Path, name: str, *, adapter: str = DEFAULT
) -> PeftModel:
    """A backbone with a trained adapter over it, in evaluation mode.

    Args:
        backbone: the model, or a PEFT model that gets one more adapter; it is changed.
        folder: the adapter's.
        name: what the backbone is called in an error.
        adapter: the adapter's name.

    Raises:
        UserError: the folder lacks something, or the two do not fit.
    """
    require_tuned(folder)
    try:
        with warnings.catch_warnings():  # PEFT only warns of lacking tensors
            warnings.filterwarnings("error", "Found missing adapter keys")
            warnings.filterwarnings("ignore", HARMLESS_WARNINGS)
            if isinstance(backbone, PeftModel):
                backbone.load_adapter(str(folder), adapter_name=adapter)
                return backbone.eval()
            return PeftModel.from_pretrained(backbone, str(folder), adapter_name=adapter).eval()
    except _ADAPTER_FAULTS as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"the adapter {folder} does not fit the backbone {name}: {reason}"
        ) from None


def trained_over(folder: Path | None) -> str:
    """The backbone that an adapter's folder names or, tuned fully, is; the bundled one if none."""
    if folder is None:
        return MINI
    if not _is_adapter(folder):
        return str(folder)
    return read_json(folder / _CONFIG).get("base_model_name_or_path") or MINI


def _is_adapter(folder: Path) -> bool:
    return (folder / _CONFIG).is_file()


def _require_known_method(folder: Path) -> None:
    """Refuse an adapter of a method that PEFT does not have."""
    path = folder / _CONFIG
    method = read_json(path).get("peft_type")
    if method not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise UserError(
            f"{path} names the method {method!r}, which PEFT {peft.__version__} does not have; "
            "give the folder that train wrote, or install the PEFT it was trained with."
        )


def _require_weights(folder: Path) -> None:
    """Refuse an adapter whose weights are absent or cut.

    PEFT takes a folder without weights for the id of a repository and would ask the hub.
    """
    path = folder / SAFETENSORS_WEIGHTS_NAME
    if not path.is_file():
        raise UserError(
            f"{folder} has an adapter_config.json but no {SAFETENSORS_WEIGHTS_NAME}; copy the "
            "folder that train wrote as a whole."
        )
    try:
        with safe_open(path, "pt"):
            pass
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} is damaged ({error}); copy the folder that train wrote again."
        ) from None


def _common_size(
    folders: Mapping[str, Path], settings: Mapping[str | None, AdapterSettings]
) -> int | None:
    """The image size that adapters were trained at, which one backbone has once."""
    sizes = {settings[name].image_size: folder for name, folder in folders.items()}
    if len(sizes) > 1:
        (size, folder), (other, second) = list(sizes.items())[:2]
        raise UserError(
            f"{folder} was trained at image size {size or 'of its backbone'} and {second} at "
            f"{other or 'that of its backbone'}; adapters over one backbone need one size."
        )
    return next(iter(sizes), None)
