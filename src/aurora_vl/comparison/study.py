"""A whole comparison: rates chosen on validation data, then every method with every seed, once.

For a generated world the rates are chosen on the recipe's world and the results found on another
one. Other data has one training split for both; then only the test split is kept for the end.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from aurora_vl.comparison.fingerprints import short_digest
from aurora_vl.comparison.method_rows import Row
from aurora_vl.comparison.rate_search import Choice, best_rate, candidate_rates
from aurora_vl.comparison.trials import Runs, Trial, TrialRunner
from aurora_vl.errors import UserError
from aurora_vl.methods import METHODS
from aurora_vl.recipes.recipe import Recipe, load_recipe
from aurora_vl.recipes.sections import ComparisonSection
from aurora_vl.training.parameter_report import ParameterReport, parameter_report
from aurora_vl.training.recipe_data import read_data
from aurora_vl.training.tasks import KINDS, kind_of

log = logging.getLogger(__name__)

SEARCH_SEED = 0


@dataclass(frozen=True)
class Study:
    """What is to be compared.

    Attributes:
        source: a recipe's file or name.
        settings: `key=value` texts for every run.
        rows: at least one.
        seeds: how many; they are 1, 2, ...
        out: for the results.
    """

    source: str
    settings: tuple[str, ...]
    rows: tuple[Row, ...]
    seeds: int
    out: Path

    @cached_property
    def base(self) -> Recipe:
        """The recipe with the settings for all."""
        return load_recipe(self.source, self.settings)

    @property
    def plan(self) -> ComparisonSection:
        """How the comparison goes about it."""
        return self.base.comparison

    @property
    def folder(self) -> Path:
        """Where runs and worlds are kept."""
        return self.plan.runs or self.out / "runs"

    @cached_property
    def runs(self) -> Runs:
        """The runs in it."""
        return Runs(self.folder)

    @property
    def worlds(self) -> tuple[int, int] | None:
        """Seeds of the world that rates are chosen on and of the final one; None for other data."""
        if self.base.data.kind != "world":
            return None
        tuned, final = self.base.data.world.seed, self.plan.final_world
        return tuned, tuned + 1 if final is None else final

    def recipe(
        self, row: Row, *, final: bool, seed: int = SEARCH_SEED, rate: float | None = None
    ) -> Recipe:
        """The resolved recipe of one run."""
        told = [*self.settings]
        if row.method != self.base.adapter.method:
            told.append(f"adapter.method={row.method}")
            if METHODS[row.method].ranks is None:
                told.append("adapter.rank=null")  # where one was set for all rows
        if rate is not None:
            told.append(f"training.learning_rate={rate!r}")
        if not final:
            told.append("training.validations=1")  # the score at the end is what counts
        told += [*row.settings, f"training.seed={seed}"]
        told.append(f"evaluation.split={'test' if final else 'val'}")
        if self.worlds is not None:
            told.append(f"data.world.seed={self.worlds[final]}")
        recipe = load_recipe(self.source, told)
        if recipe.data.kind == "world":
            name = short_digest([recipe.task, recipe.data.world.model_dump()])
            folder = self.folder / "worlds" / name
            data = recipe.data.model_copy(update={"annotations": folder})
            recipe = recipe.model_copy(update={"data": data})
        return recipe

    def searched(self, row: Row) -> Row | None:
        """The row whose search a row's rate comes from; None for no search."""
        if row.method == "none" or row.sets("training.learning_rate"):
            return None
        return row if self.plan.search == "row" else Row(row.method, row.method)

    def final_seeds(self, row: Row) -> list[int]:
        """The row's seeds; a method that trains nothing needs one."""
        return [1] if row.method == "none" else list(range(1, self.seeds + 1))


@dataclass
class Findings:
    """What the runs found; the results are made of it.

    Attributes:
        study: what was asked.
        counts: numbers by row's name.
        choices: searches by the searched row's name.
        trials: finished final runs by row's name, in order of seeds.
        failures: failed runs' names and reasons.
    """

    study: Study
    counts: dict[str, ParameterReport]
    choices: dict[str, Choice] = field(default_factory=dict)
    trials: dict[str, list[Trial]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def conduct(study: Study) -> Findings:
    """Check every row, choose rates, run every row with every seed.

    Raises:
        UserError: a row does not fit the recipe or the backbone, or the data cannot be read or
            scored; then nothing has been run.
    """
    findings = Findings(study, _checked(study))
    searches = _searches(study)
    tries = [trial for trials in searches.values() for trial in trials.values()]
    results = [row.method for row in study.rows for _ in study.final_seeds(row)]
    planned = [trial.recipe.adapter.method for trial in tries] + results
    runner = TrialRunner(study.plan.parallel, planned)
    waiting = runner.take(tries)
    _make_ready(study, waiting)
    log.info(
        "%d runs, kept in %s: %d to choose learning rates (%d finished before), %d for the result; "
        "%s",
        *(len(planned), study.folder, len(tries), len(tries) - len(waiting), len(results)),
        runner.rest(),
    )
    runner.run(waiting)
    findings.choices = _chosen(study, searches)
    finals = {row.name: _finals(study, row, findings.choices) for row in study.rows}
    for name, trials in finals.items():
        if not trials:
            findings.failures[name] = "every learning rate failed, see those runs"
    # Seed by seed, so that an interrupted comparison has something of every method.
    longest = max(len(trials) for trials in finals.values())
    waiting = runner.take(
        trials[n] for n in range(longest) for trials in finals.values() if n < len(trials)
    )
    log.info(
        "%d of the runs for the result finished before; %s",
        len(results) - len(waiting),
        runner.rest(),
    )
    _make_ready(study, waiting)
    first = study.final_seeds(study.rows[0])[0]
    runner.run([t for t in waiting if t.recipe.training.seed == first], alone=True)
    runner.run([t for t in waiting if t.recipe.training.seed != first])
    findings.trials = {
        name: [trial for trial in trials if trial.finished] for name, trials in finals.items()
    }
    findings.failures |= runner.failures
    return findings


def _checked(study: Study) -> dict[str, ParameterReport]:
    """What can go wrong without data: recipes and methods; the counts by row."""
    worlds = study.worlds
    if worlds is not None and worlds[0] == worlds[1]:
        raise UserError(
            f"comparison.final_world is {worlds[1]}, the world that learning rates are chosen on; "
            "give another seed."
        )
    recipes = {row.name: study.recipe(row, final=True) for row in study.rows}
    return {name: parameter_report(recipe) for name, recipe in recipes.items()}


def _make_ready(study: Study, waiting: Sequence[Trial]) -> None:
    """Read the data of runs to be done, and of the results if a rate is yet to be chosen.

    A world is written before several runs need it, and what is missing is said before anything
    runs. Where every run is finished no data need be there.
    """
    recipes = [trial.recipe for trial in waiting]
    if any(trial.chooses for trial in waiting):
        recipes += [study.recipe(row, final=True) for row in study.rows]
    for recipe in {str(recipe.data): recipe for recipe in recipes}.values():
        splits = read_data(recipe)
        if not kind_of(recipe).can_score(splits.test):
            raise UserError(
                f"the {splits.scored} questions, which are to be scored, have no answers, so that "
                "there is nothing to compare; data.train_on=train has the validation questions "
                "scored."
            )


def _searches(study: Study) -> dict[str, dict[float, Trial]]:
    """For every method to be searched, its runs by learning rate."""
    found: dict[str, dict[float, Trial]] = {}
    if study.plan.trials == 1:
        return found
    for row in study.rows:
        method = study.searched(row)
        if method is None or method.name in found:
            continue
        default = study.recipe(method, final=False).training.learning_rate
        assert default is not None  # a searched method has one
        rates = candidate_rates(default, study.plan.trials, study.plan.spread)
        found[method.name] = {
            rate: study.runs.trial(
                f"{method.name} at {rate:g} on validation data",
                study.recipe(method, final=False, rate=rate),
            )
            for rate in rates
        }
    return found


def _chosen(study: Study, searches: dict[str, dict[float, Trial]]) -> dict[str, Choice]:
    """The best rate of every method that has one."""
    primary = kind_of(study.base).primary
    choices = {}
    for method, trials in searches.items():
        scores = {
            rate: trial.kept.metrics[primary] if trial.finished else None
            for rate, trial in trials.items()
        }
        choice = best_rate(scores)
        if choice is None:
            continue
        choices[method] = choice
        edge = ", the edge of what was tried" if choice.at_edge else ""
        log.info("%s: learning rate %g%s", method, choice.rate, edge)
    return choices


def _finals(study: Study, row: Row, choices: dict[str, Choice]) -> list[Trial]:
    """A row's runs for the result; none if its method has no rate that works."""
    method = study.searched(row)
    rate = None
    if method is not None and study.plan.trials > 1:
        if method.name not in choices:
            return []
        rate = choices[method.name].rate
    return [
        study.runs.trial(
            f"{row.name} with seed {seed}",
            study.recipe(row, final=True, seed=seed, rate=rate),
        )
        for seed in study.final_seeds(row)
    ]


def make_study(
    source: str, rows: Sequence[Row], *, seeds: int, out: Path, settings: Sequence[str] = ()
) -> Study:
    """A study of rows over a recipe.

    Raises:
        UserError: the recipe is of no use, or a row sets a key that its task does not read, so that
            the row would differ by its label alone.
    """
    study = Study(source, tuple(settings), tuple(rows), seeds, out)
    task = study.base.task
    unread = frozenset().union(*(kind.own_keys for kind in KINDS.values()))
    unread -= KINDS[task].own_keys
    for row in rows:
        for key in unread:
            if row.sets(key):
                raise UserError(
                    f"--methods: {row.name!r} sets {key}, which the task {task} does not read; "
                    "leave it out of this row."
                )
    return study
