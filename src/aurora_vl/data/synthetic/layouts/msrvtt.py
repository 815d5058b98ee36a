"""MSRVTT: `MSRVTT_data.json`, the 9k training list, the 1k-A test list, `videos/video<n>.mp4`.

As in the original there is no validation list: readers hold out a tenth of the training videos, so
the spec's `val` is not used.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from aurora_vl.data.synthetic.contents import captioned
from aurora_vl.data.synthetic.files import write_video
from aurora_vl.data.synthetic.scenes import Split
from aurora_vl.data.synthetic.spec import WorldSpec

_SPLITS: tuple[Split, ...] = ("train", "test")
_FIRST = {"train": 0, "test": 1_000_000}


def write(folder: Path, spec: WorldSpec) -> None:
    """Write videos, all sentences, and which videos (and test sentences) belong to which split."""
    annotations = folder / "annotations"
    annotations.mkdir()
    (folder / "videos").mkdir()
    sentences: list[dict[str, object]] = []
    videos: list[dict[str, object]] = []
    tested: list[tuple[str, str]] = []
    for split in _SPLITS:
        for index, (scene, texts) in enumerate(captioned(spec, split, moving=True)):
            number = _FIRST[split] + index
            name = f"video{number}"
            write_video(folder / "videos" / f"{name}.mp4", scene, spec)
            videos.append({"video_id": name, "id": number, "split": split})
            for text in texts:
                entry = {"video_id": name, "sen_id": len(sentences), "caption": text}
                sentences.append(entry)
            if split == "test":
                tested.append((name, texts[0]))
    content = {"videos": videos, "sentences": sentences}
    (annotations / "MSRVTT_data.json").write_text(json.dumps(content, indent=0) + "\n")
    trained = [(video["video_id"],) for video in videos if video["split"] == "train"]
    _write_csv(annotations / "MSRVTT_train.9k.csv", ("video_id",), trained)
    rows = [
        (f"ret{number}", f"msr{name.removeprefix('video')}", name, text)
        for number, (name, text) in enumerate(tested)
    ]
    header = ("key", "vid_key", "video_id", "sentence")
    _write_csv(annotations / "MSRVTT_JSFUSION_test.csv", header, rows)


def _write_csv(path: Path, header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
