"""DiDeMo's original layout: `{train,val,test}_data.json`, a description a row, `videos/<name>.mp4`.

Each object of a video gets a description of its own; joined they are the paragraph that is
searched for.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from aurora_vl.data.synthetic.contents import SPLITS, described
from aurora_vl.data.synthetic.files import write_video
from aurora_vl.data.synthetic.grammar import caption
from aurora_vl.data.synthetic.scenes import Scene
from aurora_vl.data.synthetic.spec import WorldSpec

_ANNOTATORS = 4


def write(folder: Path, spec: WorldSpec) -> None:
    """Write videos and the rows about them; the moment is the whole (two seconds') video."""
    (folder / "annotations").mkdir()
    (folder / "videos").mkdir()

    def describe(scene: Scene, rng: np.random.Generator) -> list[str]:
        parts = [scene.groups[i] for i in rng.permutation(len(scene.groups))]
        return [caption(replace(scene, groups=(part,)), rng, spec.phrasing) for part in parts]

    for split in SPLITS:
        rows: list[dict[str, object]] = []
        for index, (scene, texts) in enumerate(described(spec, split, describe, moving=True)):
            name = f"{split}_{index:06d}.mp4"
            write_video(folder / "videos" / name, scene, spec)
            for text in texts:
                row = {"annotation_id": len(rows), "video": name, "description": text}
                rows.append({**row, "num_segments": 1, "times": [[0, 0]] * _ANNOTATORS})
        path = folder / "annotations" / f"{split}_data.json"
        path.write_text(json.dumps(rows, indent=0) + "\n")
