"""The real annotation layouts that a generated world can be written in, one file each.

A layout is added by a file with `write(folder, spec)` and a line in `LAYOUTS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aurora_vl.data.synthetic.layouts import coco, didemo, flickr30k, msrvtt, msrvtt_qa, vqav2
from aurora_vl.data.synthetic.spec import WorldSpec
from aurora_vl.errors import UserError

__all__ = ["LAYOUTS", "Layout", "layout_named"]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a world lies on disk.

    Attributes:
        write: writes `annotations/` and the media into an empty folder.
        kind: the `data.kind` whose reader reads it back.
        media: the media's folder, beside `annotations`.
    """

    write: Callable[[Path, WorldSpec], None]
    kind: str
    media: str


LAYOUTS: dict[str, Layout] = {
    "coco": Layout(coco.write, "coco", "images"),
    "flickr30k": Layout(flickr30k.write, "flickr30k", "images"),
    "msrvtt": Layout(msrvtt.write, "msrvtt", "videos"),
    "didemo": Layout(didemo.write, "didemo", "videos"),
    "vqav2": Layout(vqav2.write, "vqav2", "images"),
    "msrvtt-qa": Layout(msrvtt_qa.write, "msrvtt-qa", "videos"),
}


def layout_named(name: str) -> Layout:
    """The layout of that name; a UserError lists the known ones."""
    if name not in LAYOUTS:
        raise UserError(f"world layout {name!r} is unknown; choose one of {', '.join(LAYOUTS)}.")
    return LAYOUTS[name]
