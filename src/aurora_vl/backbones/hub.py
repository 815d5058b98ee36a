"""Folders by name: here, or fetched from the hub, with a sentence when neither can be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download

from aurora_vl.errors import UserError


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
