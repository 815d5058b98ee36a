"""Questions about generated scenes, each with the one answer that the scene makes true.

Pictures: colour, kind, count, place, relation, size, background, yes/no. Videos: what an object
does, which object does something, in which direction it goes. Questions are only asked where the
answer is unambiguous; yes and no are equally likely.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from aurora_vl.data.world.grammar import COUNTS, with_article
from aurora_vl.data.world.pictograms import KINDS, plural
from aurora_vl.data.world.scenes import BACKGROUNDS, COLORS, Group, Scene, place, relations


class Question(NamedTuple):
    """A question, its answer and what it asks about (`question_type`)."""

    question: str
    answer: str
    question_type: str


def questions(scene: Scene, rng: np.random.Generator, count: int) -> list[Question]:
    """Up to `count` different random questions about a scene."""
    makers = _MOVING if scene.groups[0].motion else _STILL
    found: dict[str, Question] = {}
    for _ in range(6 * count):
        maker = makers[int(rng.integers(len(makers)))]
        asked = maker(scene, rng)
        if asked is not None:
            found.setdefault(asked.question, asked)
        if len(found) == count:
            break
    return list(found.values())


def _pick(scene: Scene, rng: np.random.Generator) -> Group:
    return scene.groups[int(rng.integers(len(scene.groups)))]


def _verb(group: Group) -> tuple[str, str]:
    """("is", "star") or ("are", "stars")."""
    return ("is", group.kind) if group.count == 1 else ("are", plural(group.kind))


def _color(scene: Scene, rng: np.random.Generator) -> Question:
    group = _pick(scene, rng)
    verb, name = _verb(group)
    return Question(f"what color {verb} the {name}", group.color, "color")


def _size(scene: Scene, rng: np.random.Generator) -> Question:
    group = _pick(scene, rng)
    verb, name = _verb(group)
    return Question(f"what size {verb} the {name}", group.size, "size")


def _kind(scene: Scene, rng: np.random.Generator) -> Question | None:
    group = _pick(scene, rng)
    alike = [g for g in scene.groups if (g.color, g.size) == (group.color, group.size)]
    if len(alike) > 1:
        return None
    return Question(f"what is {group.size} and {group.color}", group.kind, "kind")


def _count(scene: Scene, rng: np.random.Generator) -> Question:
    group = _pick(scene, rng)
    return Question(f"how many {plural(group.kind)} are there", COUNTS[group.count], "count")


def _total(scene: Scene, rng: np.random.Generator) -> Question:
    total = sum(g.count for g in scene.groups)
    return Question("how many objects are there", COUNTS[total], "count")


def _place(scene: Scene, rng: np.random.Generator) -> Question | None:
    group = _pick(scene, rng)
    if group.count > 1:
        return None
    return Question(f"where is the {group.kind}", place(group.cells[0]), "place")


def _relation(scene: Scene, rng: np.random.Generator) -> Question | None:
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
    return Question(
        f"what is {relation} the {group.kind}", by_relation[relation][0].kind, "relation"
    )


def _ground(scene: Scene, rng: np.random.Generator) -> Question:
    return Question("what is in the background", scene.background, "background")


def _is_there(scene: Scene, rng: np.random.Generator) -> Question:
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
    return Question(f"is there {with_article(f'{color} {kind}')}", answer, "yes/no")


def _is_ground(scene: Scene, rng: np.random.Generator) -> Question:
    if rng.random() < 0.5:
        return Question(f"is the background {scene.background}", "yes", "yes/no")
    others = [b for b in BACKGROUNDS if b != scene.background]
    return Question(f"is the background {rng.choice(others)}", "no", "yes/no")


def _action(scene: Scene, rng: np.random.Generator) -> Question:
    group = _pick(scene, rng)
    return Question(f"what does the {group.kind} do", group.motion, "action")


def _actor(scene: Scene, rng: np.random.Generator) -> Question:
    group = _pick(scene, rng)
    return Question(f"what {group.motion}", group.kind, "actor")


def _direction(scene: Scene, rng: np.random.Generator) -> Question | None:
    movers = [g for g in scene.groups if g.motion.startswith("moves")]
    if not movers:
        return None
    group = movers[int(rng.integers(len(movers)))]
    question = f"in which direction does the {group.kind} move"
    return Question(question, group.motion.removeprefix("moves "), "direction")


_Maker = Callable[[Scene, np.random.Generator], Question | None]
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
_MOVING: tuple[_Maker, ...] = (_action, _actor, _direction, _color, _is_there, _ground)
