"""Which scenes a split of a generated world holds, and what is said about them.

Layouts choose files and forms; the scenes come from here, so that worlds of one seed show the same
things in whatever layout they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from aurora_vl.data.synthetic.grammar import caption
from aurora_vl.data.synthetic.questions import Question, questions
from aurora_vl.data.synthetic.scenes import Scene, Split, sample_moving_scene, sample_scene
from aurora_vl.data.synthetic.spec import WorldSpec

SPLITS: tuple[Split, ...] = ("train", "val", "test")
Describe = Callable[[Scene, np.random.Generator], list[str]]
Described = tuple[Scene, list[str]]


def scenes(
    spec: WorldSpec, split: Split, *, moving: bool = False
) -> Iterator[tuple[Scene, np.random.Generator]]:
    """Scenes of a split without end, each with the generator for what is said about it.

    Args:
        spec: its seed is read; a larger world begins with the smaller one's scenes.
        split: scenes of different splits are disjoint.
        moving: scenes of videos.
    """
    sample = sample_moving_scene if moving else sample_scene
    attempt = 0
    while True:
        rng = np.random.default_rng([spec.seed, SPLITS.index(split), attempt])
        yield sample(rng, split), rng
        attempt += 1


def captioned(spec: WorldSpec, split: Split, *, moving: bool = False) -> list[Described]:
    """A split's scenes with their captions; outside training one each, none twice."""

    def describe(scene: Scene, rng: np.random.Generator) -> list[str]:
        several = spec.captions if split == "train" else 1
        texts = [caption(scene, rng, spec.phrasing) for _ in range(several)]
        return list(dict.fromkeys(texts))

    return described(spec, split, describe, moving=moving)


def asked(
    spec: WorldSpec, split: Split, *, moving: bool = False
) -> Iterator[tuple[Scene, list[Question]]]:
    """A split's scenes with their questions, each of another type, so that few can be guessed."""
    for number, (scene, rng) in enumerate(scenes(spec, split, moving=moving)):
        if number == spec.count(split):
            return
        found: dict[str, Question] = {}
        for question in questions(scene, rng, 4 * spec.questions, spec.phrasing):
            found.setdefault(question.question_type, question)
        yield scene, list(found.values())[: spec.questions]


def described(
    spec: WorldSpec, split: Split, describe: Describe, *, moving: bool = False
) -> list[Described]:
    """A split's scenes with what `describe` says; outside training no two are told alike."""
    found: list[Described] = []
    said: set[tuple[str, ...]] = set()
    for scene, rng in scenes(spec, split, moving=moving):
        if len(found) == spec.count(split):
            break
        texts = describe(scene, rng)
        if split == "train" or tuple(texts) not in said:
            said.add(tuple(texts))
            found.append((scene, texts))
    return found
