"""A backbone with a trained adapter, or a fully tuned model, from their folders."""

from __future__ import annotations

import warnings
from pathlib import Path

from peft import PeftModel
from safetensors import SafetensorError
from torch import nn

from aurora_vl.backbones.blip.loading import Task, load
from aurora_vl.errors import UserError

# Of PEFT: fixed projections are drawn again from the seed; norms have no in and out sizes.
HARMLESS_WARNINGS = "Specified to not (save|load) .*|Unsupported layer type .*LayerNorm"
_ADAPTER_FAULTS = (
    RuntimeError,
    ValueError,
    KeyError,
    OSError,
    TypeError,
    SafetensorError,
    UserWarning,
)


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
            warnings.filterwarnings("ignore", HARMLESS_WARNINGS)
            return PeftModel.from_pretrained(backbone, str(folder)).eval()
    except _ADAPTER_FAULTS as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"the adapter {folder} does not fit the backbone {name}: {reason}"
        ) from None
