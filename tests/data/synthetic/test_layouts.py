"""Generated worlds in layouts: videos that browsers play, the same bytes for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from aurora_vl.data.readers import read_retrieval
from aurora_vl.data.synthetic.files import FRAMES, FRAMES_PER_SECOND, write_video
from aurora_vl.data.synthetic.scenes import Group, Scene
from aurora_vl.data.synthetic.writing import WorldSpec, ensure_world
from aurora_vl.data.video import read_frames
from aurora_vl.errors import UserError

MOVER = Scene("snow", (Group("box", "red", "big", ((1, 1),), "moves left"),), texture=1)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("layout", ["msrvtt", "didemo", "flickr30k", "vqav2", "msrvtt-qa"])
def test_one_seed_gives_the_same_bytes(tmp_path: Path, layout: str) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        spec = WorldSpec(layout=layout, seed=seed, train=8, val=2, test=3)
        ensure_world(tmp_path / name, spec)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    media = [name for name in a if name.endswith((".mp4", ".jpg"))]
    assert len(media) == (11 if layout == "msrvtt" else 13)
    assert not any(a[name] == c[name] for name in media)


def test_videos_are_what_browsers_play(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, MOVER, WorldSpec())
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # the index first
    with av.open(str(path)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (64, 64)
        assert float(stream.average_rate) == FRAMES_PER_SECOND
        assert sum(1 for _ in container.decode(video=0)) == FRAMES


@pytest.mark.parametrize("style", ["flat", "night"])
def test_what_moves_left_moves_left_in_the_file(tmp_path: Path, style: str) -> None:
    write_video(tmp_path / "a.mp4", MOVER, WorldSpec(style=style))
    columns = []
    for frame in read_frames(tmp_path / "a.mp4", 4):
        red, green, blue = np.asarray(frame, float).transpose(2, 0, 1)
        columns.append(
            np.average(np.arange(64), weights=(red - (green + blue) / 2).clip(20).sum(0))
        )
    assert columns == sorted(columns, reverse=True)
    assert columns[0] - columns[-1] > 2


def test_captions_tell_motions(tmp_path: Path) -> None:
    world = ensure_world(tmp_path / "w", WorldSpec(layout="msrvtt", train=12, val=1, test=5))
    splits = read_retrieval(world.kind, world.annotations, world.media, seed=0)
    verbs = {"moves", "grows", "shrinks", "turns", "blinks", "appears", "disappears"}
    for record in splits.train + splits.test:
        assert all(verbs & set(text.replace(",", "").split()) for text in record.captions)


def test_paragraphs_tell_all_objects(tmp_path: Path) -> None:
    """A description of each object; scenes of two splits share no paragraph."""
    ensure_world(tmp_path / "w", WorldSpec(layout="didemo", train=20, val=5, test=5))
    counts = set()
    for split in ("train", "val", "test"):
        rows = json.loads((tmp_path / f"w/annotations/{split}_data.json").read_text())
        videos = [row["video"] for row in rows]
        counts |= {videos.count(video) for video in videos}
    assert counts == {1, 2}


def test_flickr30k_is_read_back(tmp_path: Path) -> None:
    spec = WorldSpec(layout="flickr30k", train=6, val=2, test=3)
    world = ensure_world(tmp_path / "w", spec)
    splits = read_retrieval(world.kind, world.annotations, world.media, seed=0)
    assert [len(records) for records in splits.named().values()] == [6, 2, 3]
    assert all(record.path.is_file() for record in splits.train + splits.val + splits.test)


def test_vqav2_has_what_the_official_loader_asks_for(tmp_path: Path) -> None:
    """Its `VQA` class reads these keys of the questions and of the annotations."""
    ensure_world(tmp_path / "w", WorldSpec(layout="vqav2", train=2, val=2, test=2))
    folder = tmp_path / "w" / "annotations"
    for split in ("train2014", "val2014", "test2015", "test-dev2015"):
        asked = json.loads((folder / f"v2_OpenEnded_mscoco_{split}_questions.json").read_text())
        assert asked["task_type"] == "Open-Ended"
        assert {"info", "license"} < set(asked)
        told = [asked]
        if split in ("train2014", "val2014"):
            told.append(json.loads((folder / f"v2_mscoco_{split}_annotations.json").read_text()))
        for content in told:
            assert (content["data_type"], content["data_subtype"]) == ("mscoco", split)


def test_a_world_of_an_earlier_version_is_still_known(tmp_path: Path) -> None:
    """Its file lacks settings that are at their defaults."""
    spec = WorldSpec(train=2, val=1, test=1)
    ensure_world(tmp_path / "w", spec)
    path = tmp_path / "w" / "world.json"
    told = json.loads(path.read_text())
    del told["layout"]
    path.write_text(json.dumps(told))
    assert ensure_world(tmp_path / "w", spec).kind == "coco"
    with pytest.raises(UserError, match="made with other settings"):
        ensure_world(tmp_path / "w", WorldSpec(train=2, val=1, test=1, layout="msrvtt"))


def test_wrong_settings(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="layout 'imagenet' is unknown; choose one of coco, flickr"):
        ensure_world(tmp_path / "w", WorldSpec(layout="imagenet"))
    with pytest.raises(UserError, match="world size 63 is odd"):
        ensure_world(tmp_path / "w", WorldSpec(layout="msrvtt", size=63))
    assert list(tmp_path.iterdir()) == []
