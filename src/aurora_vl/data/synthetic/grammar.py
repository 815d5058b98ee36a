"""Captions of generated scenes: one grammar, two ways of talking.

`plain` is what the foundation was taught; `terse` puts the background first and the noun before its
adjectives. Every caption names all objects with count, size, colour and kind, and at least one
place or relation where that is short to say, so that scenes with different objects get different
captions.
"""

from __future__ import annotations

import numpy as np

from aurora_vl.data.synthetic.pictograms import KINDS, plural
from aurora_vl.data.synthetic.scenes import (
    BACKGROUNDS,
    COLORS,
    MOTIONS,
    SIZES,
    Group,
    Scene,
    place,
    relations,
)

PHRASINGS: tuple[str, ...] = ("plain", "terse")
_OTHER_WORDS = """
top bottom left right middle above below of on at the a an and with in there is are picture
background that it where what which how many color yes no object objects does do has been size see
can you small big side video image photo show shows showing move grow shrink turn blink appear
disappear happens to happening direction kind thing count number
"""
COUNTS: tuple[str, ...] = ("zero", "one", "two", "three", "four")


def caption(scene: Scene, rng: np.random.Generator, phrasing: str = "plain") -> str:
    """One random true caption of a scene in one of `PHRASINGS`."""
    if phrasing == "terse":
        return _terse(scene, rng)
    return _plain(scene, rng)


def noun_phrase(group: Group) -> str:
    """A group in words: "a small red star", "three big blue fish"."""
    count = "a" if group.count == 1 else COUNTS[group.count]
    return f"{count} {group.size} {group.color} {noun(group)}"


def noun(group: Group) -> str:
    """The group's kind, in the plural where there are several."""
    return group.kind if group.count == 1 else plural(group.kind)


def with_article(words: str) -> str:
    """ "an orange cup", "a red star"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _plain(scene: Scene, rng: np.random.Generator) -> str:
    groups = [scene.groups[i] for i in rng.permutation(len(scene.groups))]
    ground = scene.background
    singles = all(g.count == 1 for g in groups)
    if len(groups) == 1 and singles:
        where = place(groups[0].cells[0])
        told = f"{_moving(groups[0])} at the {where}" if rng.random() < 0.7 else _moving(groups[0])
    elif len(groups) == 2 and singles and rng.random() < 0.7:
        relation = str(rng.choice(relations(groups[0].cells[0], groups[1].cells[0])))
        told = f"{_moving(groups[0])} {relation} {_moving(groups[1])}"
    else:
        told = _listed([_moving(g) for g in groups])
    be = "is" if groups[0].count == 1 else "are"
    choice = int(rng.integers(4))
    if choice == 0:
        return f"{told} on {ground}"
    if choice == 1:
        return f"there {be} {told} on {ground}"
    if choice == 2:
        return f"a picture of {told} with {ground} in the background"
    return f"on {ground} there {be} {told}"


def _moving(group: Group) -> str:
    phrase = noun_phrase(group)
    return f"{phrase} that {group.motion}" if group.motion else phrase


def _terse(scene: Scene, rng: np.random.Generator) -> str:
    groups = [scene.groups[i] for i in rng.permutation(len(scene.groups))]
    told = [_inverted(g) for g in groups]
    singles = all(g.count == 1 for g in groups)
    if len(groups) == 1 and singles and rng.random() < 0.7:
        told[0] = f"{place(groups[0].cells[0])}, {told[0]}"
    elif len(groups) == 2 and singles and rng.random() < 0.7:
        relation = str(rng.choice(relations(groups[0].cells[0], groups[1].cells[0])))
        told = [f"{told[0]}, {relation} {told[1]}"]
    separator = str(rng.choice([", ", ", and "]))
    if rng.random() < 0.5:
        return f"{scene.background}, {separator.join(told)}"
    return f"{separator.join(told)}, {scene.background}"


def _inverted(group: Group) -> str:
    count = f"{COUNTS[group.count]} " if group.count > 1 else ""
    motion = f" {group.motion}" if group.motion else ""
    return f"{count}{noun(group)} {group.color} {group.size}{motion}"


def _listed(phrases: list[str]) -> str:
    if len(phrases) == 1:
        return phrases[0]
    return ", ".join(phrases[:-1]) + " and " + phrases[-1]


def lexicon() -> tuple[str, ...]:
    """Every word the grammar and the questions can use, sorted; the tokenizer's whole words."""
    words: set[str] = set()
    for part in (*COLORS, *SIZES, *BACKGROUNDS, *MOTIONS, *KINDS, *COUNTS):
        words.update(part.split())
    words.update(plural(kind) for kind in KINDS)
    words.update(_OTHER_WORDS.split())
    return tuple(sorted(words))
