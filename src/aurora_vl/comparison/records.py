"""The two files of a comparison as models: trial.json of a finished run, results.json of them all.

A trial.json is small, has no paths in it and is enough for tables and charts. Everything that is
published is made of results.json alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from aurora_vl.errors import UserError
from aurora_vl.utils.atomic import write_text


class Curve(BaseModel):
    """The course of a run's validation."""

    step: list[int]
    score: list[float]


class TrialRecord(BaseModel):
    """What is kept of a finished run.

    Attributes:
        name: for people.
        told: what the run computes, see `comparison.fingerprints`.
        metrics: as in metrics.json.
        baselines: of questions, what can be had without looking.
        versions: of Python and the packages.
        scored_split: the split that `metrics` is about.
        chosen_on_scored: whether its media chose the checkpoint, too.
        training_media: how many.
        items: the rank or the score of each test item, by group; None if the run only chooses a
            learning rate, as `media` and `queries` are then.
        media: the number of the medium that each item is about, by group.
        queries: a digest of what was asked.
        curve: validation scores.
        adapter_bytes: on disk.
        machine: what seconds depend on.
        seconds: of the whole process.
        peak_memory: of the process, in bytes, where the system tells it.
        interrupted: whether it was begun more than once.
        beside: how many other runs went on at the same time.
    """

    name: str
    told: dict[str, Any]
    metrics: dict[str, float]
    baselines: dict[str, float]
    versions: dict[str, str]
    scored_split: str
    chosen_on_scored: bool
    training_media: int
    items: dict[str, list[int] | list[float]] | None
    media: dict[str, list[int]] | None
    queries: str | None
    curve: Curve
    adapter_bytes: int
    machine: str
    seconds: float
    peak_memory: int | None
    interrupted: bool
    beside: int


class Spread(BaseModel):
    """A mean over seeds and its standard deviation, which one seed does not have."""

    mean: float
    sd: float | None


class Sizes(BaseModel):
    """Parameters by part, as in `ParameterCount`.

    Attributes:
        heads: trained heads that all methods share; 0 where a task has none.
        own: what a method trains beside them.
        trained: everything that is trained.
    """

    factors: int
    gates: int
    heads: int
    backbone: int
    total: int
    own: int
    trained: int


class SeedRun(BaseModel):
    """One seed of a row."""

    seed: int
    folder: str
    metrics: dict[str, float]
    curve: Curve
    seconds: float
    peak_memory: int | None
    interrupted: bool
    beside: int
    machine: str


class Difference(BaseModel):
    """Less another row, with the ends of the 95 % interval."""

    row: str
    mean: float
    low: float
    high: float


class ResultRow(BaseModel):
    """One line of the tables.

    Attributes:
        name, label, method, settings: as in `method_rows.Row`.
        few_shot: whether it was given fewer training media.
        rates_tried: validation score by learning rate; None for one that failed.
        rate_at_edge: whether the best was the smallest or the largest.
        rate_of: the row whose search chose the rate.
        seconds: mean over runs that went alone and were not interrupted.
        peak_memory: in bytes.
        against: the difference from the row that all are compared with.
        front: whether no row with as few or fewer parameters of its own scores higher.
        series: its few-shot curve.
    """

    name: str
    label: str
    method: str
    settings: list[str]
    few_shot: bool
    training_media: int
    learning_rate: float | None
    rates_tried: dict[str, float | None]
    rate_at_edge: bool
    rate_of: str | None
    parameters: Sizes
    adapter_bytes: int
    score: Spread
    metrics: dict[str, Spread]
    baselines: dict[str, float]
    seconds: float | None
    peak_memory: float | None
    runs: list[SeedRun]
    against: Difference | None = None
    front: bool = False
    series: str = ""


class Worlds(BaseModel):
    """Seeds of the generated worlds."""

    tuned_on: int
    final: int


class Failure(BaseModel):
    """A run that failed, and why."""

    run: str
    reason: str


class Results(BaseModel):
    """The contents of results.json.

    Attributes:
        command: gives them again.
        recipe: its name.
        primary: the metric that is compared.
        seeds: runs of each row.
        worlds: where data are generated.
        trials_per_method: learning rates tried.
        search: "method" or "row": what has a search of its own.
        best_states: whether runs are scored in the state that validation data chose.
        reference: the row that the others are compared with.
        versions: of Python and the packages, all that any run used.
    """

    command: str
    recipe: str
    task: str
    backbone: str
    primary: str
    seeds: int
    worlds: Worlds | None
    trials_per_method: int
    search: str
    best_states: bool
    scored_split: str | None
    chosen_on_scored: bool
    reference: str | None
    rows: list[ResultRow]
    failures: list[Failure]
    versions: dict[str, list[str]]
    machines: list[str]

    @property
    def all_media(self) -> list[ResultRow]:
        """The rows that were given all training media; where none was, all rows."""
        return [row for row in self.rows if not row.few_shot] or self.rows

    @property
    def few_shot_series(self) -> dict[str, list[ResultRow]]:
        """Few-shot rows and those that differ from them in the number of media alone, by series.

        Within a series the row with the fewest media comes first.
        """
        found: dict[str, list[ResultRow]] = {}
        for row in sorted(self.rows, key=lambda row: row.training_media):
            found.setdefault(row.series, []).append(row)
        return {name: rows for name, rows in found.items() if any(r.few_shot for r in rows)}


def read_trial(path: Path) -> TrialRecord:
    """A finished run's trial.json.

    Raises:
        UserError: the file is not what a run writes.
    """
    try:
        return TrialRecord.model_validate_json(path.read_bytes())
    except ValidationError:
        raise UserError(
            f"{path} is damaged; delete {path.parent}, and the run is done again."
        ) from None


def write_trial(path: Path, trial: TrialRecord) -> None:
    """Write trial.json whole or not at all."""
    write_text(path, json.dumps(trial.model_dump(), ensure_ascii=False) + "\n")


def read_results(path: Path) -> Results:
    """A comparison's results.json.

    Raises:
        UserError: the file is not what `aurora compare` writes.
    """
    try:
        return Results.model_validate_json(path.read_bytes())
    except ValidationError:
        raise UserError(
            f"{path} is damaged; delete it and run `aurora compare` again, which keeps its runs."
        ) from None


def write_results(path: Path, results: Results) -> None:
    """Write results.json whole or not at all."""
    content = json.dumps(results.model_dump(), indent=1, ensure_ascii=False)
    write_text(path, content + "\n")
