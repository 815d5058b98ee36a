"""Karpathy's layout of COCO and Flickr30k: one `dataset_*.json`, a split per image.

The splits are those of Karpathy and Li, "Deep Visual-Semantic Alignments for Generating Image
Descriptions" (CVPR 2015).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aurora_vl.data.readers.coco_blip import Files
from aurora_vl.data.readers.files import as_list, as_object, read_json, text_of, texts_of
from aurora_vl.data.readers.splitting import join_captions
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.errors import UserError

_SPLIT_OF = {"train": "train", "restval": "train", "val": "val", "test": "test"}
_FLICKR_FOLDER = "flickr30k-images"


def read(path: Path, media: Path) -> Files:
    """Read the file; train and restval together are the training split.

    Images are sought under `filepath` (COCO's `train2014` or `val2014`) where the file gives one,
    and under `flickr30k-images` where the media folder has such a folder.

    Raises:
        UserError: the file is not of this layout, or an entry is wrong (named by its index).
    """
    dataset = as_object(read_json(path), str(path))
    if "images" not in dataset:
        raise UserError(f"{path} has no key 'images': it is not of Karpathy's layout")
    flickr = (media / _FLICKR_FOLDER).is_dir()
    splits: dict[str, list[CaptionedMedia]] = {"train": [], "val": [], "test": []}
    for index, row in enumerate(as_list(dataset["images"], f"{path} 'images'")):
        place = f"{path} image {index}"
        entry = as_object(row, place)
        split = text_of(entry, "split", place)
        if split not in _SPLIT_OF:
            raise UserError(f"{place}: split {split!r} is none of {', '.join(_SPLIT_OF)}")
        name = _name(entry, place, flickr)
        record = CaptionedMedia(name, media / name, "image", _captions(entry, place))
        splits[_SPLIT_OF[split]].append(record)
    return (
        join_captions(splits["train"]),
        join_captions(splits["val"]) or None,
        join_captions(splits["test"]) or None,
    )


def _name(entry: dict[str, Any], place: str, flickr: bool) -> str:
    name = text_of(entry, "filename", place)
    if "filepath" in entry:
        return f"{text_of(entry, 'filepath', place)}/{name}"
    return f"{_FLICKR_FOLDER}/{name}" if flickr else name


def _captions(entry: dict[str, Any], place: str) -> tuple[str, ...]:
    if "sentences" not in entry:
        raise UserError(f"{place} has no key 'sentences'")
    sentences = as_list(entry["sentences"], f"{place} 'sentences'")
    if not sentences:
        raise UserError(f"{place}: 'sentences' is an empty list: write at least one, or drop it")
    return tuple(
        text
        for index, sentence in enumerate(sentences)
        for text in texts_of(
            as_object(sentence, f"{place} sentence {index}"), "raw", f"{place} sentence {index}"
        )
    )
