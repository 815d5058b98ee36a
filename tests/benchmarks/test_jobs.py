"""Re-ranking, inference and data on the bundled model; what the command prints and writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import run_in_process

from aurora_vl.backbones.blip import dual_encoder
from aurora_vl.backbones.blip.dual_encoder import BlipDualEncoder
from aurora_vl.data.video import read_frames
from benchmarks import data, growth, inference, rerank
from benchmarks.clips import RATE, decode_everything, write_clip
from benchmarks.setup import Setup

MINI = Setup(backbone="mini")


@pytest.mark.parametrize("frames", [0, 3])
def test_re_ranking_gives_the_reference_loops_scores_and_order(frames: int) -> None:
    setup = replace(MINI, frames=frames)
    forms = rerank.contenders(setup, candidates=20, media=2, reference_candidates=12)
    ours, theirs = forms["aurora"](), forms["reference"]()
    assert ours.shape == (2, 20)
    assert theirs.shape == (2, 12)
    worst, turned = rerank.difference(ours[:, :12], theirs)
    assert worst < 1e-4
    assert turned == 0
    assert theirs.std() > 0.01  # an order to get wrong
    with pytest.raises(RuntimeError, match="differs from the reference loop"):
        rerank.difference(ours[:, :12].flip(1), theirs)


def test_frame_aware_pairs_are_other_pairs() -> None:
    setup = replace(MINI, frames=3)
    encoder = BlipDualEncoder(setup.with_aurora(start=False))
    texts = setup.pairs(4)["texts"]
    with torch.inference_mode():
        states = encoder.encode_media(setup.pairs(1)["media"]).states
        given = states, texts, texts["attention_mask"].sum(1)
        aware, unaware = (encoder.matcher.match(*given, s) for s in (torch.rand(4, 3), None))
    assert not torch.allclose(aware, unaware, atol=1e-3)


def test_re_ranking_counts_fewer_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerank, "CANDIDATES", 32)
    rows = {row.name.split(": ")[1]: row for row in rerank.pictures(MINI, 1)}
    assert rows["aurora"].gflop < 0.5 * rows["reference"].gflop
    assert rows["aurora"].difference < 1e-4
    assert rows["aurora"].remark == "same ranking"


def test_texts_matched_in_parts_score_as_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dual_encoder, "TEXTS_AT_ONCE", 3)
    encoder = BlipDualEncoder(MINI.with_aurora(start=False))
    backbone, texts = encoder.backbone, MINI.pairs(8)["texts"]
    with torch.inference_mode():
        states = encoder.encode_media(MINI.pairs(1)["media"]).states
        cross = backbone.cross_keys(states)
        together = backbone.match(*texts.values(), cross)[:, 1].double()
        parts = encoder.matcher.match(states, texts, texts["attention_mask"].sum(1))
    assert torch.allclose(parts, together, atol=1e-5)


def test_both_forms_score_a_gallery() -> None:
    """The reference loop gives the logit of each picture's own caption, ours a whole result."""
    setup = replace(MINI, items=9)  # more than a batch
    theirs = rerank.contender("reference", setup)()
    assert theirs.shape == (9, 1)
    assert theirs.isfinite().all()
    assert rerank.contender("aurora", setup)().media_to_text.shape == (9, 9)


def test_merged_scores_are_the_unmerged_ones() -> None:
    scores = {name: inference.contender(name, MINI)() for name in inference.CONTENDERS}
    assert torch.allclose(scores["frozen"], scores["transformers"], atol=1e-4)
    assert torch.allclose(scores["merged"], scores["unmerged"], atol=1e-4)
    assert not torch.allclose(scores["merged"], scores["frozen"], atol=1e-2)
    gated, mixed = scores["unmerged with query gates"], scores["mixed adapters"]
    assert torch.allclose(mixed[0], gated[0], atol=1e-4)
    assert torch.allclose(mixed[2], scores["frozen"][2], atol=1e-4)  # the row without an adapter


def test_the_command_writes_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "inference.json"
    done = run_in_process(
        "bench", "inference", "--backbone", "mini", "--repeats", "1", "--no-memory", "--json", file
    )
    assert done.status == 0, done.err
    assert "merged" in done.out
    written = json.loads(file.read_text())
    assert {"device", "threads", "load_before"} <= written["machine"].keys()
    rows = {row["name"]: row for row in written["rows"]}
    assert {"median_s", "min_s", "max_s", "peak_mb", "ratio"} <= rows["inference: merged"].keys()
    assert rows["inference: frozen"]["ratio"] == 1.0
    assert len(rows["inference: merged"]["seconds"]) == 1
    assert all(rate > 0 for rate in written["machine"]["gflop_per_second"].values())
    assert written["goals"] == []  # they are BLIP-base's


def test_a_folder_is_encoded_as_by_the_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_FOLDER", 70)  # more than a batch
    forward, ours = data.encoding(MINI, 1)
    assert (forward.name, ours.name) == (f"data: {data.FORWARD}", f"data: {data.ENCODING}")
    assert forward.ratio == 1.0
    assert ours.difference < 1e-5
    assert ours.per_second == pytest.approx(1 / ours.median_s)


def test_pictures_are_decoded_and_augmented() -> None:
    names = [row.name for row in data.pictures(replace(MINI, queue=64), 1)]
    assert names == [f"data: {name}" for name in (data.STEP, data.DECODING, "augmentation")]


def test_videos_are_read_by_seeking_and_by_decoding_all() -> None:
    rows = {row.name: row for row in data.videos(MINI, 1)}
    assert len(rows) == 4
    for gap in data.KEY_EVERY:
        assert rows[f"data: all, key frame every {gap} s"].ratio == 1.0
        seeking = rows[f"data: seeking, key frame every {gap} s"]
        assert seeking.per_second == pytest.approx(1 / seeking.median_s)  # of one frame


def test_both_ways_to_read_a_video_give_its_frames(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", 4, RATE)
    pictures = decode_everything(tmp_path / "clip.mp4", 4)
    for picture, same in zip(pictures, read_frames(tmp_path / "clip.mp4", 4), strict=True):
        assert np.abs(picture.astype(int) - np.asarray(same).astype(int)).mean() < 12


def test_growth_is_measured_and_drawn(tmp_path: Path) -> None:
    rows = growth.along("frames", (1, 2), replace(MINI, queue=64), 1)
    assert [row.name for row in rows] == ["frames: 1", "frames: 2"]
    assert all(row.peak_mb and row.peak_mb > 100 for row in rows)
    assert rows[0].per_second == pytest.approx(2 / rows[0].median_s)  # two videos of one frame
    (drawn,) = growth.draw_growth([row.to_dict() for row in rows], tmp_path / "growth")
    assert drawn == tmp_path / "growth-frames"
    assert "frames of a video" in drawn.with_suffix(".svg").read_text()
    assert drawn.with_suffix(".png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rest"], "there is no job 'rest'"),
        (["rerank", "--part", "films"], "no part 'films'; choose one of pictures, videos, galler"),
        (["data", "--json", "no-such-folder/x.json"], "no-such-folder does not exist"),
        (["data", "--backbone", "./nowhere"], "nowhere"),
    ],
)
def test_wrong_usage_is_a_sentence(arguments: list[str], said: str) -> None:
    done = run_in_process("bench", *arguments)
    assert done.status == 2
    assert said in " ".join(done.err.split())
