"""Writing the generated world to disk in a real layout, to be read back by the real readers.

A world is fully told by its `WorldSpec`; the same spec gives the same bytes. It is written to a
temporary folder and renamed when complete, so a folder is a whole world or not there. Several
processes may ask for one at once: the first to finish leaves it, and the others take that.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from aurora_vl.data.synthetic.layouts import layout_named
from aurora_vl.data.synthetic.spec import WorldSpec
from aurora_vl.errors import UserError
from aurora_vl.utils.atomic import whole_folder

__all__ = ["WorldFiles", "WorldSpec", "ensure_world"]

_SPEC_FILE = "world.json"


@dataclass(frozen=True, slots=True)
class WorldFiles:
    """Where a world lies and which reader reads it.

    Attributes:
        kind: the reader's `data.kind`.
        annotations: the folder with the layout's annotation files.
        media: the folder that the listed paths are relative to.
    """

    kind: str
    annotations: Path
    media: Path


def ensure_world(folder: Path, spec: WorldSpec) -> WorldFiles:
    """Write the world of `spec` to `folder` in its layout unless it is already there.

    Raises:
        UserError: the folder holds something else, or the spec's layout is unknown.
    """
    layout = layout_named(spec.layout)
    found = WorldFiles(layout.kind, folder / "annotations", folder / layout.media)
    if _holds(folder, spec):
        return found
    # Another process may have written it between the two looks.
    if folder.exists() and any(folder.iterdir()) and not _holds(folder, spec):
        raise UserError(f"{folder} is not empty and holds no generated world; give another folder.")
    try:
        with whole_folder(folder) as staging:
            layout.write(staging, spec)
            (staging / _SPEC_FILE).write_text(json.dumps(asdict(spec), indent=1) + "\n")
    except (OSError, UserError):
        if not _holds(folder, spec):  # another process may have put the same one there meanwhile
            raise
    return found


def _holds(folder: Path, spec: WorldSpec) -> bool:
    """Whether the folder holds the world of `spec`; refuses one of other settings."""
    spec_file = folder / _SPEC_FILE
    if not spec_file.is_file():
        return False
    if _stored(spec_file) == asdict(spec):
        return True
    raise UserError(f"{folder} holds a world made with other settings; give another folder.")


def _stored(spec_file: Path) -> dict[str, object]:
    """The stored settings; those that an earlier version did not have stand at their defaults."""
    return {**asdict(WorldSpec()), **json.loads(spec_file.read_text())}
