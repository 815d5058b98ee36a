"""What is peculiar to video retrieval through the command line: frames, and spoilt media."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import Aurora, Outcome
from videos import write_numbered

from aurora_vl.backbones.blip.modeling import CrossKeys
from aurora_vl.data.synthetic.writing import WorldFiles, WorldSpec, ensure_world

SMOKE = [
    "image_size=16",
    "adapter.rank=4",
    "data.frames=2",
    "data.augmentation=none",
    "objective.queue=8",
    "training.epochs=1",
    "training.batch_size=4",
    "training.validations=1",
    "evaluation.rerank=3",
]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> WorldFiles:
    spec = WorldSpec(layout="msrvtt", train=8, val=3, test=4, captions=1)
    return ensure_world(tmp_path_factory.mktemp("world") / "msrvtt", spec)


class Run:
    """The recipe `msrvtt` over files of its layout, made small."""

    def __init__(self, aurora: Aurora, world: WorldFiles, folder: Path, backbone: Path) -> None:
        self.aurora, self.output = aurora, folder / "run"
        self.settings = [
            *SMOKE,
            f"data.annotations={world.annotations}",
            f"data.media={world.media}",
            f"backbone={backbone}",
            f"training.output={self.output}",
        ]

    def __call__(self, command: str, *more: object) -> Outcome:
        return self.aurora(command, "msrvtt", *self.settings, *more)

    @property
    def metrics(self) -> Any:
        """What the run wrote."""
        return json.loads((self.output / "metrics.json").read_text())


@pytest.fixture
def run(aurora: Aurora, world: WorldFiles, tmp_path: Path, backbone: Path) -> Run:
    return Run(aurora, world, tmp_path, backbone)


def test_frame_awareness_is_a_switch(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    scaled: list[bool] = []
    scale = CrossKeys.scaled
    monkeypatch.setattr(
        CrossKeys, "scaled", lambda keys, by: (scaled.append(True), scale(keys, by))[1]
    )
    assert run("evaluate", "evaluation.frame_aware_evaluation=false").status == 0
    assert not scaled
    assert run("evaluate").status == 0
    assert scaled


@pytest.fixture
def spoilt(run: Run, tmp_path: Path, world: WorldFiles) -> Run:
    """A training video is cut off, another one is gone; neither is among those held out."""
    folder = tmp_path / "spoilt"
    shutil.copytree(world.media, folder)
    path = folder / "video3.mp4"
    path.write_bytes(path.read_bytes()[:2000])
    (folder / "video5.mp4").unlink()
    run.settings.append(f"data.media={folder}")
    run.settings.append("training.seed=2")
    return run


def test_spoilt_training_media_stop_a_run_and_are_named(spoilt: Run) -> None:
    checked = spoilt("check-data", "--full")
    assert checked.status == 1
    assert "video3.mp4 is cut off or damaged" in checked.out
    assert "missing" in checked.out
    assert "video5.mp4" in checked.out
    stopped = spoilt("train")
    assert stopped.status == 2
    assert "1 of 12 listed media are absent, the first is" in stopped.err


def test_spoilt_training_media_are_skipped_and_listed(
    spoilt: Run, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = spoilt("train", "data.on_error=skip")
    assert outcome.status == 0, outcome.err
    (skipped,) = spoilt.metrics["skipped_media"]
    assert skipped.endswith("video3.mp4")
    assert "1 damaged training media were skipped" in caplog.text
    (note,) = [n for n in spoilt.metrics["config"]["data_notes"] if "absent" in n]
    assert note.startswith("train: 1 media are absent and left out: ")
    assert note.endswith("video5.mp4")


def test_spoilt_test_media_are_never_skipped(spoilt: Run) -> None:
    broken = spoilt.output.with_name("spoilt") / "video1000001.mp4"
    broken.write_bytes(broken.read_bytes()[:2000])
    for workers in (0, 1):
        outcome = spoilt("evaluate", "data.on_error=skip", f"data.workers={workers}")
        assert outcome.status == 2
        assert "video1000001.mp4 is cut off or damaged" in outcome.err
        assert "Traceback" not in outcome.err


def test_scoring_needs_no_training_media(spoilt: Run) -> None:
    assert spoilt("evaluate").status == 0


def test_pictures_and_videos_are_told_apart(aurora: Aurora, tmp_path: Path, backbone: Path) -> None:
    names = [write_numbered(tmp_path / f"{i}.mp4", 4).name for i in range(4)]
    lines = [json.dumps({"video": name, "caption": f"a {name}"}) for name in names]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    recipe = tmp_path / "own.yaml"
    content = {
        "task": "retrieval",
        "backbone": str(backbone),
        "data": {"kind": "jsonl", "annotations": str(tmp_path), "media": str(tmp_path)},
        "training": {"output": str(tmp_path / "run")},
    }
    recipe.write_text(json.dumps(content))
    wrong = aurora("evaluate", recipe)
    assert wrong.status == 2
    assert "is listed as a video where pictures are read" in wrong.err
    right = aurora("evaluate", recipe, "task=video-retrieval", "data.frames=2", "--json")
    assert right.status == 0
    assert "t2v_r1" in right.json["metrics"]
