"""DiDeMo: descriptions of moments, joined to one paragraph a video.

The original layout is `{train,val,test}_data.json`, a description a row; the other one has joined
lines in `{train,val,test}.jsonl`. What is searched for is the whole video: the moments (`times`)
that annotators gave would tell the model where to look, so they are not read.
"""

from __future__ import annotations

from pathlib import Path

from aurora_vl.data.readers.clips import Clips, read_lines
from aurora_vl.data.readers.coco_blip import Files
from aurora_vl.data.readers.files import (
    as_list,
    as_object,
    is_there,
    read_json,
    require_words,
    text_of,
)
from aurora_vl.data.readers.splitting import complete_splits
from aurora_vl.data.records import CaptionedMedia, Splits
from aurora_vl.errors import UserError

_SPLITS = ("train", "val", "test")


def read_didemo(annotations: Path, media: Path, seed: int) -> Splits[CaptionedMedia]:
    """Read the original layout if any of its files is there, else the joined lines.

    Raises:
        UserError: neither is there, or an entry is wrong.
    """
    clips = Clips(media)
    train, val, test = (annotations / f"{split}_data.json" for split in _SPLITS)
    if is_there(train):
        files: Files = (
            _paragraphs(train, clips),
            _paragraphs(val, clips) if is_there(val) else None,
            _paragraphs(test, clips) if is_there(test) else None,
        )
    elif is_there(val) or is_there(test):
        raise UserError(f"{train} does not exist beside the other splits: put it there")
    else:
        files = read_lines(annotations, clips, train.name)
    return complete_splits(*files, seed=seed, where=str(annotations))


def _paragraphs(path: Path, clips: Clips) -> list[CaptionedMedia]:
    """One record a video, its descriptions joined by spaces in the order of the rows."""
    told: dict[str, list[str]] = {}
    for index, row in enumerate(as_list(read_json(path), str(path))):
        place = f"{path} entry {index}"
        entry = as_object(row, place)
        description = text_of(entry, "description", place)
        told.setdefault(text_of(entry, "video", place), []).append(description.strip())
    paragraphs = {name: " ".join(texts) for name, texts in told.items()}
    for name, paragraph in paragraphs.items():
        require_words(paragraph, "description", f"{path} video {name}")
    return [clips.record(name, (paragraph,)) for name, paragraph in paragraphs.items()]
