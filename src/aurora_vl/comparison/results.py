"""From finished runs to the contents of results.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from aurora_vl.comparison.bootstrap import paired_bootstrap
from aurora_vl.comparison.method_rows import Row
from aurora_vl.comparison.per_item_scores import item_scores
from aurora_vl.comparison.records import (
    Difference,
    Failure,
    ResultRow,
    Results,
    SeedRun,
    Sizes,
    Spread,
    Worlds,
)
from aurora_vl.comparison.study import Findings
from aurora_vl.comparison.trials import Trial
from aurora_vl.errors import UserError
from aurora_vl.methods.parameter_count import ParameterCount
from aurora_vl.training.building import trained_heads
from aurora_vl.training.tasks import kind_of

_LIMIT, _EPOCHS = "data.limit", "training.epochs"


def gather_results(findings: Findings, command: str) -> Results:
    """Everything that is published of a comparison.

    Args:
        findings: of `conduct`.
        command: gives them again.
    """
    study = findings.study
    primary = kind_of(study.base).primary
    rows = [_row(findings, row, primary) for row in study.rows if findings.trials[row.name]]
    reference = _reference(rows)
    if reference is not None:
        _compare(findings, rows, reference)
    _mark_front(rows)
    _name_series(findings, rows)
    done = [trial for trials in findings.trials.values() for trial in trials]
    worlds = study.worlds
    return Results(
        command=command,
        recipe=study.source,
        task=study.base.task,
        backbone=study.base.backbone,
        primary=primary,
        seeds=study.seeds,
        worlds=None if worlds is None else Worlds(tuned_on=worlds[0], final=worlds[1]),
        trials_per_method=study.plan.trials,
        search=study.plan.search,
        best_states=study.base.training.checkpoints,
        scored_split=done[0].kept.scored_split if done else None,
        chosen_on_scored=any(trial.kept.chosen_on_scored for trial in done),
        reference=None if reference is None else reference.name,
        rows=rows,
        failures=[Failure(run=name, reason=why) for name, why in findings.failures.items()],
        versions=_versions(done),
        machines=sorted({trial.kept.machine for trial in done}),
    )


def _row(findings: Findings, row: Row, primary: str) -> ResultRow:
    """One row without what depends on the others."""
    trials = findings.trials[row.name]
    kept = [trial.kept for trial in trials]
    searched = findings.study.searched(row)
    choice = None if searched is None else findings.choices.get(searched.name)
    whole = [k for k in kept if not k.interrupted]
    return ResultRow(
        name=row.name,
        label=row.label,
        method=row.method,
        settings=list(row.settings),
        few_shot=row.sets(_LIMIT),
        training_media=kept[0].training_media,
        learning_rate=None if row.method == "none" else trials[0].recipe.training.learning_rate,
        rates_tried={} if choice is None else {f"{r:g}": s for r, s in choice.scores.items()},
        rate_at_edge=choice is not None and choice.at_edge,
        rate_of=None if searched is None or choice is None else searched.name,
        parameters=_sizes(findings.counts[row.name].count, trials[0]),
        adapter_bytes=kept[0].adapter_bytes,
        score=_spread([k.metrics[primary] for k in kept]),
        metrics={name: _spread([k.metrics[name] for k in kept]) for name in kept[0].metrics},
        baselines={
            name: float(np.mean([k.baselines[name] for k in kept])) for name in kept[0].baselines
        },
        seconds=_mean([k.seconds for k in whole if not k.beside]),
        peak_memory=_mean([k.peak_memory for k in whole if k.peak_memory]),
        runs=[_run(trial) for trial in trials],
    )


def _sizes(count: ParameterCount, trial: Trial) -> Sizes:
    heads = count.heads if _has_heads(trial) else 0
    parts = asdict(count) | {"heads": heads}
    return Sizes(**parts, own=count.trainable - heads, trained=count.trainable)


def _has_heads(trial: Trial) -> bool:
    """Whether the task has heads, which all methods train: then they are no method's own."""
    return bool(trained_heads(trial.recipe))


def _versions(trials: Sequence[Trial]) -> dict[str, list[str]]:
    """Of Python and the packages, all that any run used."""
    found: dict[str, set[str]] = {}
    for trial in trials:
        for name, version in trial.kept.versions.items():
            found.setdefault(name, set()).add(version)
    return {name: sorted(versions) for name, versions in found.items()}


def _run(trial: Trial) -> SeedRun:
    kept = trial.kept
    return SeedRun(
        seed=trial.recipe.training.seed,
        folder=trial.folder.name,
        metrics=kept.metrics,
        curve=kept.curve,
        seconds=kept.seconds,
        peak_memory=kept.peak_memory,
        interrupted=kept.interrupted,
        beside=kept.beside,
        machine=kept.machine,
    )


def _pooled(trials: Sequence[Trial]) -> list[NDArray[np.float64]]:
    """Each group as (seeds, items).

    Raises:
        UserError: the runs were not asked the same, so that nothing can be paired.
    """
    found = [item_scores(trial.kept.items or {}) for trial in trials]
    sizes = {tuple(map(len, groups)) for groups in found}
    if len(sizes) > 1 or len(_queries(trials)) > 1:
        folders = ", ".join(str(trial.folder) for trial in trials)
        raise UserError(
            f"the runs {folders} were scored on different test items, so they cannot be averaged; "
            "delete them, and they are done anew."
        )
    return [np.stack(group) for group in zip(*found, strict=True)]


def _queries(trials: Sequence[Trial]) -> set[str | None]:
    """What was asked, by its digests."""
    return {trial.kept.queries for trial in trials}


def _reference(rows: Sequence[ResultRow]) -> ResultRow | None:
    """The Aurora row that others are compared with: with all media and the fewest settings."""
    theirs = [row for row in rows if row.method == "aurora"]
    return min(theirs, key=lambda row: (row.few_shot, len(row.settings)), default=None)


def _compare(findings: Findings, rows: Sequence[ResultRow], reference: ResultRow) -> None:
    """The difference of each row from the reference, with its interval."""
    theirs = findings.trials[reference.name]
    base = _pooled(theirs)
    media = theirs[0].kept.media or {}
    for row in rows:
        trials = findings.trials[row.name]
        ours = _pooled(trials)
        same_items = [group.shape[1] for group in ours] == [group.shape[1] for group in base]
        same_items &= len(_queries([*trials, *theirs])) < 2
        if row is not reference and same_items:
            interval = paired_bootstrap(ours, base, media=list(media.values()))
            row.against = Difference(row=reference.name, **asdict(interval))


def _mark_front(rows: Sequence[ResultRow]) -> None:
    """Mark the rows that no other row with as few or fewer parameters of its own beats.

    Rows with fewer training media are no part of it: they are beaten by their data.
    """
    equal = [row for row in rows if not row.few_shot]
    for row in equal:
        row.front = not any(
            other.score.mean > row.score.mean
            for other in equal
            if other is not row and other.parameters.own <= row.parameters.own
        )


def _name_series(findings: Findings, rows: Sequence[ResultRow]) -> None:
    """Name the few-shot curve of each row: its label without the number of media.

    Epochs may make up for fewer media and are no difference, unless rows differ in them alone.
    """
    asked = {row.name: row for row in findings.study.rows}
    for row in rows:
        leave = (_LIMIT, _EPOCHS) if row.few_shot else ()
        row.series = asked[row.name].without(*leave).label
    places = Counter((row.series, row.training_media) for row in rows)
    for row in rows:
        if row.few_shot and places[row.series, row.training_media] > 1:
            row.series = asked[row.name].without(_LIMIT).label


def _spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation over seeds; of one seed there is none."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(mean=float(np.mean(values)), sd=sd)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
