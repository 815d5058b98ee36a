"""Writing the generated world to disk in a real layout, to be read back by the real readers.

A world is fully told by its `WorldSpec`; the same spec gives the same bytes. It is written to a
temporary folder and renamed when complete, so a folder is a whole world or not there.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from aurora_vl.data.world.drawing import STYLES, draw
from aurora_vl.data.world.grammar import PHRASINGS, caption
from aurora_vl.data.world.scenes import Scene, Split, sample_scene
from aurora_vl.errors import UserError

_SPEC_FILE = "world.json"
_SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class WorldSpec:
    """What to generate.

    Attributes:
        seed: every picture depends on it.
        style: one of `drawing.STYLES`.
        phrasing: one of `grammar.PHRASINGS`.
        train, val, test: pictures of each split; their scenes are disjoint.
        captions: captions of a training picture; those of the other splits have one each, and no
            two of a split are equal.
        size: pixels of width and height.
    """

    seed: int = 0
    style: str = "night"
    phrasing: str = "terse"
    train: int = 1500
    val: int = 200
    test: int = 400
    captions: int = 2
    size: int = 64

    def __post_init__(self) -> None:
        for key, value, known in (
            ("style", self.style, STYLES),
            ("phrasing", self.phrasing, PHRASINGS),
        ):
            if value not in known:
                raise UserError(
                    f"world {key} {value!r} is unknown; choose one of {', '.join(known)}."
                )


def ensure_world(folder: Path, spec: WorldSpec) -> None:
    """Write the world of `spec` to `folder` in the COCO layout unless it is already there.

    The folder gets `annotations/coco_karpathy_{train,val,test}.json` and `images/<split>/*.jpg`.

    Raises:
        UserError: the folder holds something else.
    """
    spec_file = folder / _SPEC_FILE
    if spec_file.is_file():
        if json.loads(spec_file.read_text()) == asdict(spec):
            return
        raise UserError(f"{folder} holds a world made with other settings; give another folder.")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no generated world; give another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write_coco(staging, spec)
        (staging / _SPEC_FILE).write_text(json.dumps(asdict(spec), indent=1) + "\n")
        if folder.exists():
            folder.rmdir()
        staging.chmod(0o755)
        os.replace(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_coco(folder: Path, spec: WorldSpec) -> None:
    annotations = folder / "annotations"
    annotations.mkdir()
    for split in _SPLITS:
        (folder / "images" / split).mkdir(parents=True)
        rows: list[dict[str, object]] = []
        for index, (scene, texts) in enumerate(_scenes(spec, split)):
            name = f"{split}/{index:06d}.jpg"
            picture = Image.fromarray(draw(scene, spec.style, size=spec.size))
            picture.save(folder / "images" / name, quality=92, subsampling=0)
            if split == "train":
                rows += [{"image": name, "caption": t, "image_id": f"world_{index}"} for t in texts]
            else:
                rows.append({"image": name, "caption": texts})
        text = json.dumps(rows, indent=0)
        (annotations / f"coco_karpathy_{split}.json").write_text(text + "\n")


def _scenes(spec: WorldSpec, split: Split) -> list[tuple[Scene, list[str]]]:
    """The split's scenes with their captions; outside training no caption occurs twice."""
    wanted = {"train": spec.train, "val": spec.val, "test": spec.test}[split]
    found: list[tuple[Scene, list[str]]] = []
    said: set[str] = set()
    attempt = 0
    while len(found) < wanted:
        rng = np.random.default_rng([spec.seed, _SPLITS.index(split), attempt])
        attempt += 1
        scene = sample_scene(rng, split)
        if split == "train":
            found.append((scene, _captions(scene, rng, spec)))
            continue
        text = caption(scene, rng, spec.phrasing)
        if text not in said:
            said.add(text)
            found.append((scene, [text]))
    return found


def _captions(scene: Scene, rng: np.random.Generator, spec: WorldSpec) -> list[str]:
    """Up to `spec.captions` different captions."""
    texts = [caption(scene, rng, spec.phrasing) for _ in range(spec.captions)]
    return list(dict.fromkeys(texts))
