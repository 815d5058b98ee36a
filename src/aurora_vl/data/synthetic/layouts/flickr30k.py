"""Flickr30k in Karpathy's layout: `dataset_flickr30k.json`, all pictures in one folder."""

from __future__ import annotations

import json
from pathlib import Path

from aurora_vl.data.synthetic.contents import SPLITS, captioned
from aurora_vl.data.synthetic.files import write_picture
from aurora_vl.data.synthetic.spec import WorldSpec

_FOLDER = "flickr30k-images"
_FIRST = {"train": 1_000_000, "val": 2_000_000, "test": 3_000_000}


def write(folder: Path, spec: WorldSpec) -> None:
    """Write pictures and one annotation file that gives each its split."""
    (folder / "annotations").mkdir()
    (folder / "images" / _FOLDER).mkdir(parents=True)
    images: list[dict[str, object]] = []
    for split in SPLITS:
        for index, (scene, texts) in enumerate(captioned(spec, split)):
            name = f"{_FIRST[split] + index}.jpg"
            write_picture(folder / "images" / _FOLDER / name, scene, spec)
            sentences = [{"raw": text, "tokens": text.split()} for text in texts]
            entry = {"filename": name, "split": split, "sentences": sentences}
            images.append({**entry, "imgid": len(images)})
    content = {"images": images, "dataset": "flickr30k"}
    path = folder / "annotations" / "dataset_flickr30k.json"
    path.write_text(json.dumps(content, indent=0) + "\n")
