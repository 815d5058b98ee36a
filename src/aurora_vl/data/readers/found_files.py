"""Records whose file is spelled otherwise on the disk than in the list are led to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from aurora_vl.data.names import Names
from aurora_vl.data.readers.splitting import join_captions
from aurora_vl.data.records import CaptionedMedia, R, Splits


def find_files(splits: Splits[R], *folders: Path) -> Splits[R]:
    """Replace paths that no file has by those of the files that they can mean; a note says so.

    Args:
        splits: of a reader.
        folders: which the listed names are relative to.
    """
    names, found = Names(), {}
    paths = {record.path: None for records in splits.named().values() for record in records}
    for path in paths:
        if not names.holds(path):
            folder = next(
                (each for each in folders if path.is_relative_to(each)), Path(path.anchor)
            )
            other = names.find(folder, str(path.relative_to(folder)))
            if other is not None:
                found[path] = other
    if not found:
        return splits
    first, file = next(iter(found.items()))
    note = (
        f"names: {len(found)} listed files were found under names of another Unicode form, letter "
        f"case or slash, such as {file.name!r} for {first.name!r}"
    )
    moved = splits.changed(lambda records: _moved(records, found))
    return replace(moved, notes=(*splits.notes, note))


def _moved(records: list[R], found: dict[Path, Path]) -> list[R]:
    moved: list[Any] = [replace(r, path=found.get(r.path, r.path)) for r in records]
    if all(isinstance(record, CaptionedMedia) for record in moved):
        moved = join_captions(moved)  # two spellings, one medium
    return moved
