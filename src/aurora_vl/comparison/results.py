"""From finished runs to results.json: everything that tables, pictures and report are made of.

Nothing here looks at a run's folder again later: a comparison can be redrawn from its results.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aurora_vl.comparison.bootstrap import paired_bootstrap
from aurora_vl.comparison.rows import Row
from aurora_vl.comparison.study import Findings
from aurora_vl.comparison.trials import Trial
from aurora_vl.evaluation.recall import query_recall
from aurora_vl.training.kinds import kind_of

_SIDES = ("media_to_text", "text_to_media")


def gather_results(findings: Findings, command: str) -> dict[str, Any]:
    """The contents of results.json.

    Args:
        findings: of `conduct`.
        command: gives them again.
    """
    study = findings.study
    primary = kind_of(study.base).primary
    rows = [_row(findings, row, primary) for row in study.rows if findings.trials[row.name]]
    _compare(findings, rows)
    _mark_front(rows)
    done = [trial for trials in findings.trials.values() for trial in trials]
    worlds = study.worlds
    return {
        "command": command,
        "recipe": study.source,
        "task": study.base.task,
        "backbone": study.base.backbone,
        "primary": primary,
        "seeds": study.seeds,
        "worlds": None if worlds is None else {"tuned_on": worlds[0], "final": worlds[1]},
        "trials_per_method": study.plan.trials,
        "runs_side_by_side": study.plan.parallel,
        "scored_split": done[0].read("metrics.json")["config"]["scored_split"] if done else None,
        "rows": rows,
        "failures": [{"run": name, "reason": why} for name, why in findings.failures.items()],
        "versions": done[0].read("metrics.json")["versions"] if done else {},
    }


def _row(findings: Findings, row: Row, primary: str) -> dict[str, Any]:
    """One row's numbers."""
    trials = findings.trials[row.name]
    metrics = [trial.read("metrics.json") for trial in trials]
    count = findings.counts[row.name].count
    searched = findings.study.searched(row)
    choice = None if searched is None else findings.choices.get(searched.name)
    told = [m["metrics"] for m in metrics]
    return {
        "name": row.name,
        "label": row.label,
        "method": row.method,
        "settings": list(row.settings),
        "learning_rate": None if row.method == "none" else trials[0].recipe.training.learning_rate,
        "rates_tried": {} if choice is None else {f"{r:g}": s for r, s in choice.scores.items()},
        "rate_at_edge": choice is not None and choice.at_edge,
        "rate_of": None if searched is None or choice is None else searched.name,
        "parameters": {
            **asdict(count),
            "own": count.factors + count.gates + count.backbone,
            "trained": count.trainable,
        },
        "adapter_bytes": _bytes(trials[0].run / "adapter"),
        "score": _spread([t[primary] for t in told]),
        "metrics": {name: _spread([t[name] for t in told]) for name in told[0]},
        "seconds": _mean([t.story["seconds"] for t in trials if not t.story["interrupted"]]),
        "peak_memory": _mean(
            [t.story["peak_memory"] or 0 for t in trials if not t.story["interrupted"]]
        ),
        "runs": [_run(trial, content, primary) for trial, content in zip(trials, metrics)],
        "against": None,
        "front": False,
    }


def _run(trial: Trial, content: Mapping[str, Any], primary: str) -> dict[str, Any]:
    """One seed's numbers and the course of its validation."""
    history = trial.read("history.json") if (trial.run / "history.json").is_file() else []
    key = f"eval_{primary}"
    points = {entry["step"]: entry[key] for entry in history if key in entry}
    return {
        "seed": trial.recipe.training.seed,
        "metrics": content["metrics"],
        "folder": trial.folder.name,
        "curve": {"step": list(points), "score": list(points.values())},
        **{name: trial.story[name] for name in ("seconds", "peak_memory", "interrupted")},
    }


def item_scores(predictions: Any) -> list[NDArray[np.float64]]:
    """The score of each test item in percent, by groups whose means count equally.

    Args:
        predictions: contents of predictions.json, of retrieval or of question answering.
    """
    if isinstance(predictions, dict):
        sides = ([query["rank"] for query in predictions[side]] for side in _SIDES)
        return [np.asarray(query_recall(np.array(ranks))) for ranks in sides]
    return [100.0 * np.array([answer["score"] for answer in predictions], dtype=np.float64)]


def _pooled(trials: Sequence[Trial]) -> list[NDArray[np.float64]]:
    """Each group as (seeds, items)."""
    found = [item_scores(trial.read("predictions.json")) for trial in trials]
    return [np.stack(group) for group in zip(*found, strict=True)]


def _compare(findings: Findings, rows: Sequence[dict[str, Any]]) -> None:
    """Each row less the first Aurora row, with its interval."""
    theirs = [row for row in rows if row["method"] == "aurora"]
    if not theirs:
        return
    reference = min(theirs, key=lambda row: len(row["settings"]))  # plain aurora if it is there
    base = _pooled(findings.trials[reference["name"]])
    for row in rows:
        ours = _pooled(findings.trials[row["name"]])
        same_items = [group.shape[1] for group in ours] == [group.shape[1] for group in base]
        if row is not reference and same_items:
            row["against"] = {"row": reference["name"], **asdict(paired_bootstrap(ours, base))}


def _mark_front(rows: Sequence[dict[str, Any]]) -> None:
    """Mark the rows that no other row with as few or fewer numbers of its own beats."""
    for row in rows:
        own, score = row["parameters"]["own"], row["score"]["mean"]
        row["front"] = not any(
            other["score"]["mean"] > score
            for other in rows
            if other is not row and other["parameters"]["own"] <= own
        )


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and standard deviation over seeds; of one seed there is none."""
    several = len(values) > 1
    return {
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if several else None,
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _bytes(folder: Path) -> int:
    """What is to be kept of a run, without its card."""
    if not folder.is_dir():
        return 0
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
