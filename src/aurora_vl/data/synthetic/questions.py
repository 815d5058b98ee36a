"""Questions about generated scenes, each with the one answer that the scene makes true.

As with captions there are two ways of talking: `plain` is what the foundation was taught, `terse`
names the topic in question and answer ("star color", "color red").

Pictures: colour, kind, count, place, relation, size, background, yes/no. Videos: what an object
does, which object does something, in which direction it goes, which comes first (the one thing the
foundation was never asked). Questions are only asked where the answer is unambiguous; yes and no
are equally likely.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from aurora_vl.data.synthetic.grammar import COUNTS, with_article
from aurora_vl.data.synthetic.pictograms import KINDS, plural
from aurora_vl.data.synthetic.scenes import BACKGROUNDS, COLORS, Group, Scene, place, relations


class Question(NamedTuple):
    """A question, its answer and what it asks about (`question_type`)."""

    question: str
    answer: str
    question_type: str


class _Asked(NamedTuple):
    """A question in both phrasings; terse answers are the plain ones behind a topic."""

    question_type: str
    plain: str
    terse: str
    topic: str
    answer: str

    def phrased(self, phrasing: str) -> Question:
        if phrasing == "terse":
            return Question(self.terse, f"{self.topic} {self.answer}", self.question_type)
        return Question(self.plain, self.answer, self.question_type)


def questions(
    scene: Scene, rng: np.random.Generator, count: int, phrasing: str = "plain"
) -> list[Question]:
    """Up to `count` different random questions about a scene in one of `grammar.PHRASINGS`."""
    makers = _MOVING if scene.groups[0].motion else _STILL
    found: dict[str, _Asked] = {}
    for _ in range(6 * count):
        maker = makers[int(rng.integers(len(makers)))]
        asked = maker(scene, rng)
        if asked is not None:
            found.setdefault(asked.plain, asked)
        if len(found) == count:
            break
    return [asked.phrased(phrasing) for asked in found.values()]


def _pick(scene: Scene, rng: np.random.Generator) -> Group:
    return scene.groups[int(rng.integers(len(scene.groups)))]


def _verb(group: Group) -> tuple[str, str]:
    """("is", "star") or ("are", "stars")."""
    return ("is", group.kind) if group.count == 1 else ("are", plural(group.kind))


def _color(scene: Scene, rng: np.random.Generator) -> _Asked:
    group = _pick(scene, rng)
    verb, name = _verb(group)
    return _Asked("color", f"what color {verb} the {name}", f"{name} color", "color", group.color)


def _size(scene: Scene, rng: np.random.Generator) -> _Asked:
    group = _pick(scene, rng)
    verb, name = _verb(group)
    return _Asked("size", f"what size {verb} the {name}", f"{name} size", "size", group.size)


def _kind(scene: Scene, rng: np.random.Generator) -> _Asked | None:
    group = _pick(scene, rng)
    alike = [g for g in scene.groups if (g.color, g.size) == (group.color, group.size)]
    if len(alike) > 1:
        return None
    plain, terse = f"what is {group.size} and {group.color}", f"kind of {group.color} {group.size}"
    return _Asked("kind", plain, terse, "kind", group.kind)


def _count(scene: Scene, rng: np.random.Generator) -> _Asked:
    group = _pick(scene, rng)
    several, answer = plural(group.kind), COUNTS[group.count]
    return _Asked("count", f"how many {several} are there", f"{several} count", "count", answer)


def _total(scene: Scene, rng: np.random.Generator) -> _Asked:
    total = sum(g.count for g in scene.groups)
    return _Asked("count", "how many objects are there", "objects count", "count", COUNTS[total])


def _place(scene: Scene, rng: np.random.Generator) -> _Asked | None:
    group = _pick(scene, rng)
    if group.count > 1:
        return None
    answer = place(group.cells[0])
    return _Asked("place", f"where is the {group.kind}", f"{group.kind} where", "at", answer)


def _relation(scene: Scene, rng: np.random.Generator) -> _Asked | None:
    group = _pick(scene, rng)
    others = [g for g in scene.groups if g is not group]
    if group.count > 1 or not others or any(g.count > 1 for g in others):
        return None
    by_relation: dict[str, list[Group]] = {}
    for other in others:
        for relation in relations(other.cells[0], group.cells[0]):
            by_relation.setdefault(relation, []).append(other)
    unique = sorted(r for r, found in by_relation.items() if len(found) == 1)
    if not unique:
        return None
    relation = unique[int(rng.integers(len(unique)))]
    answer = by_relation[relation][0].kind
    plain, terse = f"what is {relation} the {group.kind}", f"kind {relation} {group.kind}"
    return _Asked("relation", plain, terse, "kind", answer)


def _ground(scene: Scene, rng: np.random.Generator) -> _Asked:
    plain, terse = "what is in the background", "background kind"
    return _Asked("background", plain, terse, "background", scene.background)


def _is_there(scene: Scene, rng: np.random.Generator) -> _Asked:
    group = _pick(scene, rng)
    color, kind, answer = group.color, group.kind, "yes"
    if rng.random() < 0.5:
        answer = "no"
        present = {(g.color, g.kind) for g in scene.groups}
        while (color, kind) in present:
            if rng.random() < 0.5:
                color = str(rng.choice(COLORS))
            else:
                kind = str(rng.choice(KINDS))
    plain, terse = f"is there {with_article(f'{color} {kind}')}", f"see {kind} {color}"
    return _Asked("yes/no", plain, terse, "see", answer)


def _is_ground(scene: Scene, rng: np.random.Generator) -> _Asked:
    ground, answer = scene.background, "yes"
    if rng.random() >= 0.5:
        others = [b for b in BACKGROUNDS if b != scene.background]
        ground, answer = str(rng.choice(others)), "no"
    plain, terse = f"is the background {ground}", f"see background {ground}"
    return _Asked("yes/no", plain, terse, "see", answer)


def _action(scene: Scene, rng: np.random.Generator) -> _Asked:
    group = _pick(scene, rng)
    plain, terse = f"what does the {group.kind} do", f"{group.kind} happening"
    return _Asked("action", plain, terse, "it", group.motion)


def _actor(scene: Scene, rng: np.random.Generator) -> _Asked:
    group = _pick(scene, rng)
    return _Asked("actor", f"what {group.motion}", f"kind that {group.motion}", "kind", group.kind)


def _direction(scene: Scene, rng: np.random.Generator) -> _Asked | None:
    movers = [g for g in scene.groups if g.motion.startswith("moves")]
    if not movers:
        return None
    group = movers[int(rng.integers(len(movers)))]
    plain = f"in which direction does the {group.kind} move"
    terse, answer = f"{group.kind} direction", group.motion.removeprefix("moves ")
    return _Asked("direction", plain, terse, "direction", answer)


def _order(scene: Scene, rng: np.random.Generator) -> _Asked | None:
    late = [g for g in scene.groups if g.motion == "appears"]
    early = [g for g in scene.groups if g.motion not in ("appears", "blinks")]  # seen at once
    if len(late) != 1 or len(early) != 1:
        return None
    number, group = (("one", early[0]), ("two", late[0]))[int(rng.integers(2))]
    plain, terse = f"which object is number {number} in the video", f"object number {number}"
    return _Asked("order", plain, terse, "kind", group.kind)


_Maker = Callable[[Scene, np.random.Generator], _Asked | None]
_STILL: tuple[_Maker, ...] = (
    _color,
    _kind,
    _count,
    _place,
    _relation,
    _is_there,
    _is_there,
    _size,
    _total,
    _ground,
    _is_ground,
)
_MOVING: tuple[_Maker, ...] = (_action, _actor, _direction, _order, _color, _is_there, _ground)
