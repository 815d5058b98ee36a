"""COCO in BLIP's layout: `annotations/coco_karpathy_{train,val,test}.json`, `images/<split>/`."""

from __future__ import annotations

import json
from pathlib import Path

from aurora_vl.data.synthetic.contents import SPLITS, captioned
from aurora_vl.data.synthetic.files import write_picture
from aurora_vl.data.synthetic.spec import WorldSpec


def write(folder: Path, spec: WorldSpec) -> None:
    """Write pictures and captions: training rows have one caption each, the others a list."""
    annotations = folder / "annotations"
    annotations.mkdir()
    for split in SPLITS:
        (folder / "images" / split).mkdir(parents=True)
        rows: list[dict[str, object]] = []
        for index, (scene, texts) in enumerate(captioned(spec, split)):
            name = f"{split}/{index:06d}.jpg"
            write_picture(folder / "images" / name, scene, spec)
            if split == "train":
                rows += [{"image": name, "caption": t, "image_id": f"world_{index}"} for t in texts]
            else:
                rows.append({"image": name, "caption": texts})
        text = json.dumps(rows, indent=0)
        (annotations / f"coco_karpathy_{split}.json").write_text(text + "\n")
