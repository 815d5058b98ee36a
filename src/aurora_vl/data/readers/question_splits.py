"""Which questions are trained on, chosen on and scored.

Benchmarks keep the answers of their test questions to themselves. Their validation questions are
then what is scored, unless they are trained on: then the test questions are answered for the
benchmark's server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from aurora_vl.data.readers.splitting import complete_splits
from aurora_vl.data.records import QuestionRecord, Splits
from aurora_vl.errors import UserError

Questions = list[QuestionRecord]


@dataclass(frozen=True, slots=True)
class SplitChoice:
    """What a user chose; the defaults are the usual.

    Attributes:
        train_on: whether the validation questions are trained on too.
        scored: the split to score, such as "val" or "test-dev"; None for the usual one.
    """

    train_on: Literal["train", "train+val"] = "train"
    scored: str | None = None


def question_splits(
    train: Questions,
    val: Questions | None,
    tests: Mapping[str, Questions | None],
    *,
    choice: SplitChoice,
    seed: int,
    where: str,
) -> Splits[QuestionRecord]:
    """Divide the questions of a layout's files.

    Left to itself the scored split is the first of `tests` that has answers, else the validation
    file, else, where that is trained on, the first of `tests` there is. What chooses the best
    checkpoint is the validation file where it is neither trained on nor scored, else a seeded tenth
    of the training media.

    Args:
        train: of the training file.
        val: of the validation file, None where there is none.
        tests: of the test files by their names; None where there is none.
        choice: the user's.
        seed: of the run.
        where: the annotation folder, for messages.

    Raises:
        UserError: what was chosen is not there, or some questions of a test file have answers and
            others do not.
    """
    present = {name: records for name, records in tests.items() if records is not None}
    answered = [name for name, records in present.items() if _answered(records, name, where)]
    trained_on_val = choice.train_on == "train+val"
    if trained_on_val:
        if val is None:
            raise UserError(
                f"{where} has no validation file to train on: set data.train_on to train"
            )
        train, val = _joined(train, val), None
    scored = choice.scored
    if scored is None and answered:
        scored = answered[0]
    elif scored is None and trained_on_val and present:
        scored = next(iter(present))
    if scored is None:
        return complete_splits(train, val, None, seed=seed, where=where)
    if scored == "val":
        if val is None:
            why = "is trained on" if trained_on_val else "is not there"
            raise UserError(f"{where}: data.scored is val, but the validation file {why}")
        chosen = "data.scored is val"
        return complete_splits(train, val, None, seed=seed, where=where, no_test=chosen)
    if scored not in present:
        known = ", ".join([*present, *(["val"] if val is not None else [])]) or "none"
        raise UserError(f"{where}: data.scored is {scored}, which is not there; there is: {known}")
    splits = complete_splits(train, val, present[scored], seed=seed, where=where)
    notes = splits.notes
    if scored not in answered:
        notes = (*notes, f"{scored}: it has no answers, so there are only answers for its server")
    return replace(splits, scored=scored, notes=notes)


def _joined(train: Questions, val: Questions) -> Questions:
    """All questions; validation ids that the training file has too, as line numbers, are marked."""
    taken = {record.question_id for record in (*train, *val)}
    trained = {record.question_id for record in train}
    joined = list(train)
    for record in val:
        if record.question_id in trained:
            identity = f"val:{record.question_id}"
            while identity in taken:
                identity = f"val:{identity}"
            taken.add(identity)
            record = replace(record, question_id=identity)
        joined.append(record)
    return joined


def _answered(records: Questions, name: str, where: str) -> bool:
    """Whether all questions of a test file have answers; an error if only some have."""
    without = next((record for record in records if not record.answers), None)
    if without is None:
        return True
    if any(record.answers for record in records):
        raise UserError(
            f"{where}: question {without.question_id!r} of {name} has no answer where others have "
            "one: answer all questions or none"
        )
    return False
