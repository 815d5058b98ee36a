"""Backbones by name: bundled, a folder here, or fetched from the hub, each fault in a sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from huggingface_hub import snapshot_download

from aurora_vl.errors import UserError

MINI = "mini"
"""The name of the bundled foundation."""
_SMALL_FILES = ("*.json", "*.txt", "*.jinja", "*.model", "model*.safetensors")
_PICKLED = "pytorch_model*"


def find_backbone(name: str | os.PathLike[str]) -> Path:
    """The folder a backbone's name stands for, downloaded if it is a hub id.

    Raises:
        UserError: if the name leads nowhere.
    """
    text = os.fspath(name)
    way_out = "give a local folder with config.json and weights"
    if text == MINI:
        return Path(str(files("aurora_vl") / "assets" / "mini"))
    folder = find_folder(text, _SMALL_FILES, way_out)
    if not Path(text).expanduser().is_dir() and not any(folder.glob("model*.safetensors")):
        folder = find_folder(text, [*_SMALL_FILES, _PICKLED], way_out)
    return folder


def is_file(name: str | os.PathLike[str]) -> bool:
    """Whether a name stands for a file, as original checkpoints are."""
    return Path(name).expanduser().is_file()


def model_type_of(folder: Path) -> str:
    """The `model_type` in a folder's config.json.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    path = folder / "config.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("model_type"))
    except FileNotFoundError as error:
        raise UserError(f"there is no {path}; give a folder with config.json") from error
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be read as a configuration ({error})") from error


def find_folder(name: str, patterns: Sequence[str], way_out: str) -> Path:
    """The folder of that path, or else the hub repository of that id, downloaded.

    Args:
        name: a path or a hub id.
        patterns: the files that are wanted of a repository.
        way_out: what an error tells the user to do, such as "give a folder with config.json".

    Raises:
        UserError: if there is neither.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise UserError(f"{name} is not a folder; {way_out}")
    if name.count("/") > 1 or name.startswith((".", "/", "~")) or "\\" in name:
        raise UserError(f"there is no folder {name}; {way_out}")
    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{name!r} is no folder here and could not be downloaded from the hub ({reason}); "
            f"{way_out}, or check the id and the network"
        ) from error
