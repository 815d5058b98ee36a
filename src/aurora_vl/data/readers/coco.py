"""COCO and Flickr30k: which of their two annotation layouts lies in the folder, and its reading."""

from __future__ import annotations

from pathlib import Path

import aurora_vl.data.readers.coco_blip as coco_blip
import aurora_vl.data.readers.coco_karpathy as coco_karpathy
from aurora_vl.data.readers.files import is_there
from aurora_vl.data.readers.splitting import complete_splits
from aurora_vl.data.records import CaptionedMedia, Splits
from aurora_vl.errors import UserError


def read_coco(annotations: Path, media: Path, seed: int) -> Splits[CaptionedMedia]:
    """Read `coco_karpathy_{train,val,test}.json` (BLIP) or `dataset_coco.json` (Karpathy)."""
    return _read(annotations, media, seed, "coco_karpathy", "dataset_coco.json")


def read_flickr30k(annotations: Path, media: Path, seed: int) -> Splits[CaptionedMedia]:
    """Read `flickr30k_{train,val,test}.json` (BLIP) or `dataset_flickr30k.json` (Karpathy)."""
    return _read(annotations, media, seed, "flickr30k", "dataset_flickr30k.json")


def _read(
    annotations: Path, media: Path, seed: int, stem: str, karpathy_name: str
) -> Splits[CaptionedMedia]:
    """Read BLIP's layout if any of its files is there, else Karpathy's."""
    karpathy = annotations / karpathy_name
    if coco_blip.present(annotations, stem):
        train, val, test = coco_blip.read(annotations, media, stem)
    elif is_there(karpathy):
        train, val, test = coco_karpathy.read(karpathy, media)
    else:
        raise UserError(
            f"{annotations} holds neither {stem}_train.json (BLIP's layout) nor {karpathy_name} "
            "(Karpathy's): put one of them there or correct data.annotations"
        )
    return complete_splits(train, val, test, seed=seed, where=str(annotations))
