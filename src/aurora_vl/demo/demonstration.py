"""The demo: a generated world on disk, a score without tuning, the tuning, a score with it.

Its folder is the run's own folder (`aurora train` could go on in it), with the world, the zero-shot
score and the report beside the run's files. A marker tells it from anybody else's folder, so that
the demo can be begun anew without asking and never deletes what it did not make.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aurora_vl.data.records import Record
from aurora_vl.demo.report import DemoReport, TrainedPart, demo_report
from aurora_vl.demo.shown_results import examples
from aurora_vl.errors import UserError
from aurora_vl.recipes.recipe import Recipe, load_recipe
from aurora_vl.reporting.charts import Curve
from aurora_vl.training.recipe_data import read_data
from aurora_vl.training.run import evaluate, train
from aurora_vl.training.tasks import kind_of
from aurora_vl.utils.atomic import UNFINISHED, remove_unfinished, write_text
from aurora_vl.utils.claims import LOCK_FILE, claimed

log = logging.getLogger(__name__)

RECIPES = {
    "retrieval": "demo-retrieval",
    "video-retrieval": "demo-video-retrieval",
    "vqa": "demo-vqa",
    "video-qa": "demo-video-qa",
}
MARKER = ".aurora-demo"
_ZERO_SHOT = "evaluation-zero-shot"
_OURS = {
    *("adapter", "checkpoints", "logs", "world", _ZERO_SHOT),
    *("history.json", "metrics.json", "predictions.json", "results.json", "recipe.yaml"),
    *("report.html", "zero_shot.json", MARKER, LOCK_FILE),
}
_THINGS = {"image": "picture", "video": "video"}
_PART_NAMES = {
    "factors": "Shared factors, core and modes",
    "gates": "Query gates",
    "heads": "Heads (projections, matching)",
    "backbone": "Backbone",
}


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What a demo found.

    Attributes:
        before: contents of zero_shot.json.
        after: contents of metrics.json.
        report: the HTML file.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    report: Path


def demonstrate(
    out: Path, *, task: str = "retrieval", seed: int | None = None, settings: Sequence[str] = ()
) -> Demonstration:
    """Generate, score, tune, score again and report, all in one folder.

    Args:
        out: made if absent; an earlier demo's folder is begun anew.
        task: a key of `RECIPES`.
        seed: of the world and of the tuning; the recipe's own if left out.
        settings: further recipe keys, as on the command line.

    Raises:
        UserError: the folder holds what no demo made.
    """
    _require_ours(out)
    with claimed(out, "give another --out"):
        _clear(out)
        return _demonstrated(out, task, seed, settings)


def _demonstrated(out: Path, task: str, seed: int | None, settings: Sequence[str]) -> Demonstration:
    seeds = [] if seed is None else [f"training.seed={seed}", f"data.world.seed={seed}"]
    command = f"aurora demo --task {task} --out {out}" + ("" if seed is None else f" --seed {seed}")
    recipe = load_recipe(
        RECIPES[task],
        [
            *settings,
            *seeds,
            f"training.output={out}",
            f"data.annotations={out / 'world'}",
        ],
    )
    task_kind = kind_of(recipe)
    things = f"{_THINGS[task_kind.media]}s"
    log.info("generating %s and %s in %s", things, task_kind.texts, out / "world")
    test = read_data(recipe).test
    shown = len({record.path for record in test})
    log.info("scoring the model as it is on %d test %s", shown, things)
    before = evaluate(recipe, out=out / _ZERO_SHOT)
    write_text(out / "zero_shot.json", json.dumps(before, indent=1) + "\n")
    primary = task_kind.primary
    log.info("tuning; zero-shot %s is %.1f", primary, before["metrics"][primary])
    after = train(recipe)
    report = out / "report.html"
    content = _content(recipe, before, after, test, command)
    write_text(report, demo_report(content))
    return Demonstration(before, after, report)


def _require_ours(out: Path) -> None:
    """Refuse a folder that holds what no demo made."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give --out a folder.")
    held = {path.name for path in out.iterdir()} if out.is_dir() else set()
    held = {name for name in held if not name.startswith(UNFINISHED)}
    foreign = sorted(held - _OURS)
    if foreign or (held and MARKER not in held):
        what = foreign[0] if foreign else sorted(held)[0]
        raise UserError(
            f"{out} holds {what}, which no demo made; give --out a new folder or an earlier demo's."
        )


def _clear(out: Path) -> None:
    """Empty the folder of an earlier demo."""
    remove_unfinished(out)
    for path in out.iterdir():
        if path.name in (MARKER, LOCK_FILE):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (out / MARKER).write_text("Made by aurora demo, which may delete and remake this folder.\n")


def _content(
    recipe: Recipe,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    test: Sequence[Record],
    command: str,
) -> DemoReport:
    world, adapter, task = recipe.data.world, recipe.adapter, kind_of(recipe)
    thing = _THINGS[task.media]
    shown = len({record.path for record in test})
    history = json.loads((recipe.output / "history.json").read_text())
    return DemoReport(
        title=f"A frozen model learns a new kind of {thing}",
        summary=(
            f"Aurora (rank {adapter.rank}, {recipe.switches.core} core) tuned the bundled model on "
            f"{world.train:,} generated {thing}s of the style “{world.style}” with "
            f"“{world.phrasing}” {task.texts}; the scores are for {shown:,} other {thing}s, "
            "whose scenes do not occur in training."
        ),
        before=before["metrics"],
        after=after["metrics"],
        parts=[
            TrainedPart(label, after["parameters"][part])
            for part, label in _PART_NAMES.items()
            if after["parameters"][part]
        ],
        total_parameters=after["total_parameters"],
        **examples(
            test,
            recipe.output / _ZERO_SHOT / "predictions.json",
            recipe.output / "predictions.json",
        ),
        command=command,
        seconds=after["seconds"],
        seed=after["seed"],
        versions=after["versions"],
        loss=curves(history, {k: n for k, n in task.curves.items() if not k.startswith("eval_")}),
        recall=curves(history, {k: n for k, n in task.curves.items() if k.startswith("eval_")}),
        primary=task.primary,
        thing=thing,
        measure=task.measure,
        baselines=after.get("baselines", {}),
    )


def curves(history: Sequence[Mapping[str, float]], names: Mapping[str, str]) -> list[Curve]:
    """The lines of a training log, those that it has.

    Args:
        history: entries with `step` and some values.
        names: key of a value to the name of its line.
    """
    lines = []
    for key, name in names.items():
        points = [(entry["step"], entry[key]) for entry in history if key in entry]
        if points:
            steps, values = zip(*points, strict=True)
            lines.append(Curve(name, steps, values))
    return lines
