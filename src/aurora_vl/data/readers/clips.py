"""What the video layouts share: joined lines of captions, and clips' names as files.

Video mirrors convert clips from one container to another and keep the names, so a clip that does
not lie there as it is written, or as .mp4, is looked for under its name with any other ending.
"""

from __future__ import annotations

import os
from pathlib import Path

from aurora_vl.data.paths import VIDEO_ENDINGS
from aurora_vl.data.readers.coco_blip import Files
from aurora_vl.data.readers.files import is_there, read_json_lines, text_of, texts_of
from aurora_vl.data.readers.splitting import join_captions
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.errors import UserError

_USUAL = ".mp4"
_SPLITS = ("train", "val", "test")


class Clips:
    """The files of a media folder, by clip.

    Args:
        media: the folder; it is listed when the first clip is not there as written.
    """

    def __init__(self, media: Path) -> None:
        self.media = media
        self._found: dict[str, str] = {}
        self._by_stem: dict[str, str] | None = None

    def record(self, name: str, captions: tuple[str, ...]) -> CaptionedMedia:
        """The record of a clip, whose name may have an ending or not."""
        file = self.file(name)
        return CaptionedMedia(file, self.media / file, "video", captions)

    def file(self, name: str) -> str:
        """The name of a clip's file, relative to the folder."""
        if name not in self._found:
            self._found[name] = self._look_for(name)
        return self._found[name]

    def _look_for(self, name: str) -> str:
        stem, ending = os.path.splitext(name)
        if ending.lower() not in VIDEO_ENDINGS:
            stem, ending = name, _USUAL
        written = stem + ending
        for file in (name, written):
            if os.path.isfile(self.media / file):  # no error of a name too long
                return file
        if self._by_stem is None:
            found = sorted(entry.name for entry in os.scandir(self.media))
            listed = [os.path.splitext(file) for file in found]
            self._by_stem = {s: s + e for s, e in reversed(listed) if e.lower() in VIDEO_ENDINGS}
        return self._by_stem.get(stem, written)


def read_lines(annotations: Path, clips: Clips, other: str) -> Files:
    """Read `train.jsonl` and, where they are there, `val.jsonl` and `test.jsonl`.

    Lines are `{"clip_name": ..., "caption": ...}`; those of one clip become one record.

    Args:
        annotations: the folder.
        clips: of the media folder.
        other: what could lie there instead, for the message.

    Raises:
        UserError: there is no `train.jsonl`, or a line is wrong.
    """
    train, val, test = (annotations / f"{split}.jsonl" for split in _SPLITS)
    if not is_there(train):
        raise UserError(
            f"{annotations} holds neither {other} nor train.jsonl: put one of them there or "
            "correct data.annotations"
        )
    return (
        _read_file(train, clips),
        _read_file(val, clips) if is_there(val) else None,
        _read_file(test, clips) if is_there(test) else None,
    )


def _read_file(path: Path, clips: Clips) -> list[CaptionedMedia]:
    return join_captions(
        [
            clips.record(text_of(entry, "clip_name", place), texts_of(entry, "caption", place))
            for place, entry in read_json_lines(path)
        ]
    )
