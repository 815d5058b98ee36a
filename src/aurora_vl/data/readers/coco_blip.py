"""BLIP's layout of COCO and Flickr30k: `<stem>_{train,val,test}.json`.

Training files have one row per caption, the others one row per image with a list of captions;
either form is taken in either file.
"""

from __future__ import annotations

from pathlib import Path

from aurora_vl.data.readers.files import as_list, as_object, is_there, read_json, text_of, texts_of
from aurora_vl.data.readers.splitting import join_captions
from aurora_vl.data.records import CaptionedMedia

Files = tuple[list[CaptionedMedia], list[CaptionedMedia] | None, list[CaptionedMedia] | None]
"""Training, validation and test records; None where there is no such file."""


def present(annotations: Path, stem: str) -> bool:
    """Say whether any file of this layout lies in the folder."""
    return any(is_there(annotations / f"{stem}_{split}.json") for split in _SPLITS)


def read(annotations: Path, media: Path, stem: str) -> Files:
    """Read the three files; rows of the same image become one record.

    Raises:
        UserError: the training file is absent, or an entry is wrong (named by its index).
    """
    train, val, test = (annotations / f"{stem}_{split}.json" for split in _SPLITS)
    return (
        _read_file(train, media),
        _read_file(val, media) if is_there(val) else None,
        _read_file(test, media) if is_there(test) else None,
    )


def _read_file(path: Path, media: Path) -> list[CaptionedMedia]:
    records = []
    for index, row in enumerate(as_list(read_json(path), str(path))):
        place = f"{path} entry {index}"
        entry = as_object(row, place)
        name = text_of(entry, "image", place)
        records.append(
            CaptionedMedia(name, media / name, "image", texts_of(entry, "caption", place))
        )
    return join_captions(records)


_SPLITS = ("train", "val", "test")
