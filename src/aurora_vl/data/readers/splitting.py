"""Which media are trained on, chosen on and scored, where a layout lacks a file."""

from __future__ import annotations

import os

import numpy as np

from aurora_vl.data.records import CaptionedMedia, R, Splits, Window
from aurora_vl.errors import UserError

HELD_OUT_SHARE = 0.1
SCORED_SEED = 42
"""Draws media that are scored: all runs of a data set, whatever their seed, score the same."""


def complete_splits(
    train: list[R],
    val: list[R] | None,
    test: list[R] | None,
    *,
    seed: int,
    where: str,
    no_test: str = "there is none with answers",
) -> Splits[R]:
    """Fill in the splits that a layout lacks.

    With a test split, a missing validation split is a tenth of the training media, drawn by the
    run's seed. Without one, the validation file is what is scored, and such a tenth serves for
    choosing; without either, a tenth that is the same for every seed serves for both, and the notes
    say so.

    Args:
        train: records of the training file.
        val: of the validation file, None where there is none.
        test: of the test file, None where there is none or it cannot be scored.
        seed: of the run.
        where: the annotation folder, for messages.
        no_test: why the validation file is scored where it is, for the notes.

    Raises:
        UserError: a split is empty, or too small for holding out.
    """
    for name, records in (("training", train), ("validation", val), ("test", test)):
        if records is not None and not records:
            raise UserError(f"{where}: the {name} split is empty: add entries or remove its file")
    if val is not None and test is not None:
        return Splits(train, val, test)
    drawn_by = SCORED_SEED if val is None and test is None else seed
    train, held_out = hold_out(train, drawn_by, where)
    notes = [
        f"val: a seeded tenth of the training media was held out ({media_count(held_out)} of "
        f"{media_count(train) + media_count(held_out)})"
    ]
    if test is not None:
        return Splits(train, held_out, test, notes=tuple(notes), val_seed=seed)
    if val is not None:
        notes.append(f"test: {no_test}, so the validation file is what is scored")
        return Splits(train, held_out, val, scored="val", notes=tuple(notes), val_seed=seed)
    notes.append(
        "test: there is none, so the held-out media that choose the checkpoint are scored, the "
        "same ones for every training.seed"
    )
    return Splits(train, held_out, held_out, scored="val", notes=tuple(notes))


def hold_out(records: list[R], seed: int, where: str) -> tuple[list[R], list[R]]:
    """Part a seeded tenth of the media, at least one, from a training split.

    The choice depends on the set of media and the seed, not on the order of the file; all records
    of a medium go to the same side.

    Raises:
        UserError: there is only one medium.
    """
    media = sorted({str(record.path) for record in records})  # parts of a video stay together
    if len(media) < 2:
        raise UserError(
            f"{where}: the training split has one medium, too few to hold out a tenth for "
            "validation: add media or a validation file"
        )
    count = max(1, round(len(media) * HELD_OUT_SHARE))
    chosen = np.random.default_rng(seed).permutation(len(media))[:count]
    held = {media[index] for index in chosen}
    kept = [record for record in records if str(record.path) not in held]
    return kept, [record for record in records if str(record.path) in held]


def media_count(records: list[R]) -> int:
    """Count the distinct media of a split."""
    return len({record.path for record in records})


def join_captions(records: list[CaptionedMedia]) -> list[CaptionedMedia]:
    """Join records of the same medium into one with all captions, in order of first mention.

    A medium is a file, however its path is written, and the window of it.
    """
    joined: dict[tuple[str, Window | None], list[CaptionedMedia]] = {}
    for record in records:
        medium = os.path.normpath(record.path), record.window
        joined.setdefault(medium, []).append(record)
    return [
        CaptionedMedia(
            group[0].media_id,
            group[0].path,
            group[0].kind,
            tuple(caption for record in group for caption in record.captions),
            group[0].window,
        )
        for group in joined.values()
    ]
