"""The generated world: what is drawn, said and asked is true, repeatable and disjoint by split."""

from __future__ import annotations

import hashlib
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aurora_vl.data.readers import read_retrieval
from aurora_vl.data.synthetic.drawing import STYLES, draw
from aurora_vl.data.synthetic.grammar import COUNTS, PHRASINGS, caption, lexicon
from aurora_vl.data.synthetic.pictograms import KINDS, plural, silhouette
from aurora_vl.data.synthetic.questions import questions
from aurora_vl.data.synthetic.scenes import (
    COLORS,
    Group,
    Scene,
    place,
    relations,
    sample_moving_scene,
    sample_scene,
)
from aurora_vl.data.synthetic.writing import WorldSpec, ensure_world
from aurora_vl.errors import UserError

SMALL = WorldSpec(seed=3, train=12, val=5, test=6)


def scenes(count: int, seed: int = 0) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [sample_scene(rng) for _ in range(count)]


def folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def test_the_world_is_as_rich_as_promised() -> None:
    assert len(KINDS) >= 24
    assert len(COLORS) == 8
    assert len(STYLES) >= 3
    assert {g.count for s in scenes(300) for g in s.groups} == {1, 2, 3, 4}
    assert max(sum(g.count for g in s.groups) for s in scenes(300)) <= 4


@pytest.mark.parametrize("size", [14, 21])
def test_silhouettes_of_different_objects_differ(size: int) -> None:
    for a, b in combinations(KINDS, 2):
        assert np.abs(silhouette(a, size) - silhouette(b, size)).mean() > 0.05, (a, b)


def test_styles_look_nothing_alike() -> None:
    for scene in scenes(10):
        pictures = [draw(scene, style).astype(float) for style in STYLES]
        for a, b in combinations(pictures, 2):
            assert np.abs(a - b).mean() > 15


def test_an_object_shows_its_colour_at_its_place() -> None:
    scene = Scene("snow", (Group("box", "red", "big", ((2, 0),)),), texture=1)
    picture = draw(scene, "flat").astype(int)
    red, green, _ = picture[11, 53]
    assert red > 180
    assert green < 60
    assert picture[53, 11].min() > 200


def test_a_moving_object_moves() -> None:
    scene = Scene("snow", (Group("box", "red", "big", ((1, 1),), "moves left"),), texture=1)
    columns = []
    for moment in (0.1, 0.9):
        picture = draw(scene, "flat", moment=moment).astype(int)
        solid = (picture[..., 0] > 180) & (picture[..., 1] < 60)
        columns.append(np.nonzero(solid)[1].mean())
    assert columns[1] < columns[0] - 10


def test_splits_share_no_scene_whatever_the_seeds() -> None:
    found = {
        split: {sample_scene(np.random.default_rng([seed, i]), split).signature for i in range(200)}
        for seed, split in enumerate(("train", "val", "test"))
    }
    for a, b in combinations(found.values(), 2):
        assert not a & b


@pytest.mark.parametrize("phrasing", PHRASINGS)
def test_captions_tell_every_object(phrasing: str) -> None:
    rng = np.random.default_rng(0)
    for scene in scenes(200):
        words = caption(scene, rng, phrasing).replace(",", "").split()
        assert scene.background in words
        for group in scene.groups:
            noun = group.kind if group.count == 1 else plural(group.kind)
            assert {noun, group.color, group.size} <= set(words)
            if group.count > 1:
                assert COUNTS[group.count] in words


def test_relations_and_places_in_captions_are_true() -> None:
    left = Group("star", "red", "big", ((0, 1),))
    right = Group("car", "blue", "small", ((2, 1),))
    scene = Scene("sky", (left, right), texture=0)
    rng = np.random.default_rng(0)
    said = {caption(scene, rng, p) for p in PHRASINGS for _ in range(60)}
    related = [text for text in said if "left of" in text or "right of" in text]
    assert related
    for text in related:
        star_first = text.index("star") < text.index("car")
        assert ("left of" in text) == star_first
    assert not any("above" in text or "below" in text for text in said)


def test_places_and_relations_by_hand() -> None:
    assert place((0, 0)) == "top left"
    assert place((1, 1)) == "middle"
    assert place((2, 1)) == "right"
    assert relations((0, 2), (1, 0)) == ("left of", "below")
    assert relations((1, 0), (1, 1)) == ("above",)


def test_questions_have_true_answers() -> None:
    rng = np.random.default_rng(0)
    kinds_asked = set()
    for scene in scenes(400):
        by_kind = {g.kind: g for g in scene.groups}
        for asked in questions(scene, rng, 3):
            kinds_asked.add(asked.question_type)
            words = asked.question.split()
            if asked.question_type == "color":
                names = {g.kind if g.count == 1 else plural(g.kind): g for g in scene.groups}
                assert names[words[-1]].color == asked.answer
            elif asked.question_type == "place":
                assert place(by_kind[words[-1]].cells[0]) == asked.answer
            elif asked.question_type == "relation":
                relation = " ".join(words[2:-2])
                right = [
                    g.kind
                    for g in scene.groups
                    if relation in relations(g.cells[0], by_kind[words[-1]].cells[0])
                ]
                assert right == [asked.answer]
    assert kinds_asked == {
        *("color", "kind", "count", "place", "relation", "background", "yes/no", "size"),
    }


def test_questions_about_videos_have_true_answers() -> None:
    rng = np.random.default_rng(1)
    kinds_asked = set()
    for _ in range(400):
        scene = sample_moving_scene(rng)
        by_kind = {g.kind: g for g in scene.groups}
        for asked in questions(scene, rng, 6):
            kinds_asked.add(asked.question_type)
            words = asked.question.split()
            if asked.question_type == "action":
                assert by_kind[words[-2]].motion == asked.answer
            elif asked.question_type == "actor":
                assert by_kind[asked.answer].motion == " ".join(words[1:])
            elif asked.question_type == "direction":
                assert by_kind[words[-2]].motion == f"moves {asked.answer}"
            elif asked.question_type == "order":
                second = words[words.index("number") + 1] == "two"
                assert (by_kind[asked.answer].motion == "appears") == second
    assert kinds_asked == {"action", "actor", "direction", "order", "color", "yes/no", "background"}


def test_what_appears_cannot_be_seen_at_first() -> None:
    """What questions of order rest on: drawn with and without it, the first frame is the same."""
    shown = Group("star", "red", "big", ((0, 0),), "turns")
    late = Group("box", "blue", "big", ((2, 2),), "appears")
    both, alone = Scene("snow", (shown, late), 1), Scene("snow", (shown,), 1)
    at = {moment: draw(both, moment=moment) for moment in (0.0, 1.0)}
    assert (at[0.0] == draw(alone, moment=0.0)).all()
    assert (at[1.0] != draw(alone, moment=1.0)).any()


def test_yes_and_no_are_about_equally_likely() -> None:
    rng = np.random.default_rng(0)
    answers = [
        q.answer for s in scenes(800) for q in questions(s, rng, 3) if q.question_type == "yes/no"
    ]
    assert 0.42 < answers.count("yes") / len(answers) < 0.58


def test_every_word_is_in_the_lexicon() -> None:
    rng = np.random.default_rng(0)
    known = set(lexicon())
    for index in range(400):
        scene = sample_moving_scene(rng) if index % 2 else sample_scene(rng)
        texts = [caption(scene, rng, p) for p in PHRASINGS]
        texts += [part for q in questions(scene, rng, 3) for part in q[:2]]
        assert {w for t in texts for w in t.replace(",", "").split()} <= known


def test_one_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for name, spec in (
        ("a", SMALL),
        ("b", SMALL),
        ("c", WorldSpec(seed=4, train=12, val=5, test=6)),
    ):
        ensure_world(tmp_path / name, spec)
    assert folder_hash(tmp_path / "a") == folder_hash(tmp_path / "b")
    assert folder_hash(tmp_path / "a") != folder_hash(tmp_path / "c")


def test_a_larger_world_begins_with_the_smaller_one(tmp_path: Path) -> None:
    ensure_world(tmp_path / "small", SMALL)
    ensure_world(tmp_path / "large", WorldSpec(seed=3, train=20, val=5, test=6))
    name = "images/train/000011.jpg"
    assert (tmp_path / "small" / name).read_bytes() == (tmp_path / "large" / name).read_bytes()


def test_the_coco_reader_reads_the_world(tmp_path: Path) -> None:
    ensure_world(tmp_path / "w", SMALL)
    splits = read_retrieval("coco", tmp_path / "w/annotations", tmp_path / "w/images", seed=0)
    assert [len(splits.train), len(splits.val), len(splits.test)] == [12, 5, 6]
    texts = [text for record in splits.test for text in record.captions]
    assert len(set(texts)) == 6
    with Image.open(splits.test[0].path) as picture:
        assert picture.format == "JPEG"
        assert picture.size == (64, 64)


def test_a_folder_is_a_whole_world_or_refused(tmp_path: Path) -> None:
    ensure_world(tmp_path / "w", SMALL)
    before = folder_hash(tmp_path / "w")
    ensure_world(tmp_path / "w", SMALL)
    assert folder_hash(tmp_path / "w") == before
    with pytest.raises(UserError, match="other settings"):
        ensure_world(tmp_path / "w", WorldSpec(seed=9))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(UserError, match="not empty"):
        ensure_world(tmp_path / "mine", SMALL)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me"
    assert json.loads((tmp_path / "w" / "world.json").read_text())["seed"] == 3


@pytest.mark.parametrize("empty", [True, False])
def test_two_that_write_one_world_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    """Both have seen that it is not there; both get it, and nothing else is left behind."""
    make, met = tempfile.mkdtemp, Barrier(2, timeout=60)

    def meet(*given: Any, **named: Any) -> str:
        met.wait()
        return make(*given, **named)

    folder = tmp_path / "w"
    if empty:
        folder.mkdir()
    monkeypatch.setattr(tempfile, "mkdtemp", meet)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: ensure_world(folder, SMALL), range(2)))
    assert found[0] == found[1]
    assert [path.name for path in tmp_path.iterdir()] == ["w"]
    monkeypatch.undo()
    alone = ensure_world(tmp_path / "alone", SMALL).annotations.parent
    assert folder_hash(folder) == folder_hash(alone)


def test_unknown_styles_are_named() -> None:
    with pytest.raises(UserError, match="flat, sketch, night"):
        WorldSpec(style="cubism")
