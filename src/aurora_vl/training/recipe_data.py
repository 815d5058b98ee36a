"""A recipe's records: what train, evaluate, compare and check-data have in common."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from aurora_vl.data.media import probe_media, require_kind, require_media, without_missing
from aurora_vl.data.records import R, Splits
from aurora_vl.data.synthetic.writing import WorldSpec, ensure_world
from aurora_vl.data.threads import mapped
from aurora_vl.recipes.recipe import Recipe
from aurora_vl.training.tasks import kind_of
from aurora_vl.utils.progress import progress_bar

log = logging.getLogger(__name__)
_DECODING_SECONDS = 30.0
_NAMED = 10  # files in a line of the log; metrics.json has all


def read_data(recipe: Recipe) -> Splits[Any]:
    """The recipe's records as `read_trained_on` gives them, all media present.

    Raises:
        UserError: a medium is absent; else as for `read_splits`.
    """
    splits = read_trained_on(recipe)
    require_media(splits)
    return splits


def require_decodable(recipe: Recipe, splits: Splits[Any]) -> None:
    """Decode what will be scored, before time is spent on training; for half a minute at most.

    Raises:
        UserError: names a damaged file.
    """
    scored = {(r.path, getattr(r, "window", None)): r for r in [*splits.val, *splits.test]}
    deadline = time.monotonic() + _DECODING_SECONDS
    probe = partial(probe_media, frames=recipe.data.frames)
    with progress_bar("decoding what will be scored") as advance:
        for done, _ in enumerate(mapped(probe, scored.values(), os.cpu_count() or 1), 1):
            advance(done, len(scored))
            if time.monotonic() > deadline:
                break


def read_trained_on(recipe: Recipe) -> Splits[Any]:
    """As `read_splits`, but of training only what is trained on, for what scoring takes from it.

    With `data.on_error: skip` training records whose media are absent are left out, and the notes
    say so. Where none is there, none is left out: then they lie on another machine, which says
    nothing of what was trained on.
    """
    splits = read_splits(recipe)
    if recipe.data.on_error != "skip":
        return splits
    present, missing = without_missing(splits)
    if not missing or not present.train:
        return splits
    note = f"train: {len(missing)} media are absent and left out: {', '.join(missing)}"
    log.warning(shortened(note, missing))
    return replace(present, notes=(*splits.notes, note))


def read_splits(recipe: Recipe) -> Splits[Any]:
    """The recipe's records, media there or not; a generated world is written first.

    Raises:
        UserError: the annotations are absent, wrong or of another kind of media.
    """
    data, task = recipe.data, kind_of(recipe)
    if data.kind == "world":
        assert data.annotations is not None  # a resolved recipe has one
        told = data.world.model_dump()
        told["layout"] = data.world.layout or task.world
        world = ensure_world(data.annotations, WorldSpec(**told))
        layout, annotations, media = world.kind, world.annotations, world.media
    else:
        assert data.annotations is not None
        assert data.media is not None
        layout, annotations, media = data.kind, data.annotations, data.media
    splits = task.read(recipe, layout, annotations, media)
    require_kind(splits, task.media)
    for note in splits.notes:
        log.info(note)
    if data.limit is not None:
        splits = replace(splits, train=_part(splits.train, data.limit, recipe.training.seed))
    if recipe.evaluation.split == "val":
        return replace(splits, test=splits.val, scored="val")
    return splits


def _part(records: Sequence[R], limit: int, seed: int) -> list[R]:
    """The records of so many media, drawn by a seed; fewer media are among more."""
    media = sorted({record.media_id for record in records})
    random.Random(seed).shuffle(media)
    kept = set(media[:limit])
    return [record for record in records if record.media_id in kept]


def shortened(sentence: str, names: list[str]) -> str:
    """The sentence with the first ten of the names it ends with."""
    rest = names[_NAMED:]
    if not rest:
        return sentence
    return sentence.removesuffix(", ".join(["", *rest])) + f" and {len(rest)} more"
