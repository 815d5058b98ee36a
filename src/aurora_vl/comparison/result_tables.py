"""results.json as Markdown and LaTeX tables, for pages and for papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aurora_vl.comparison.plots import equal_data, series
from aurora_vl.reporting.tables import latex_table, markdown_table, metric_label

_MORE_METRICS = ("i2t_r1", "t2i_r1", "v2t_r1", "t2v_r1")
_ABOUT = 1.5  # a factor
Cell = str | int | float


def by_score(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows with all training media, best first."""
    return sorted(equal_data(results), key=lambda row: -row["score"]["mean"])


def sections(results: Mapping[str, Any]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """The tables of a page: titles and rows; those that would say nothing are left out."""
    rows = equal_data(results)

    def by_size(chosen: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return sorted(chosen, key=lambda row: (row["parameters"]["own"], -row["score"]["mean"]))

    found = [("By score", by_score(results)), ("By numbers of their own", by_size(rows))]
    equal = _equal_budget(results, rows)
    if len(equal) > 1:
        ours = reference_label(results)
        found.append((f"About as many numbers as {ours}, by score", equal))
    fewer = [row for members in series(results).values() for row in members]
    if fewer:
        found.append(("With fewer training media", fewer))
    return found


def _equal_budget(
    results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Rows whose numbers are within a factor of those of the Aurora row compared with."""
    ours = [row["parameters"]["own"] for row in rows if row["name"] == results["reference"]]
    if not ours:
        return []
    low, high = ours[0] / _ABOUT, ours[0] * _ABOUT
    near = [row for row in rows if low <= row["parameters"]["own"] <= high]
    return sorted(near, key=lambda row: -row["score"]["mean"])


def header(results: Mapping[str, Any]) -> list[str]:
    """Names of the columns of `cells`."""
    more = [metric_label(name) for name in _more(results)]
    return [
        *("method", "own numbers", "media", "learning rate"),
        *(metric_label(results["primary"]), "sd", *more),
        *(f"less {reference_label(results)} [95 %]", "seconds", "peak MB", "adapter kB"),
    ]


def reference_label(results: Mapping[str, Any]) -> str:
    """What the row is called that others are compared with; Aurora where there is none."""
    return next(
        (r["label"] for r in results["rows"] if r["name"] == results["reference"]), "Aurora"
    )


def cells(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[list[Cell]]:
    """One line of cells a row; empty where there is nothing to say."""
    more = _more(results)
    return [
        [
            row["label"] + ("*" if row["rate_at_edge"] else ""),
            row["parameters"]["own"],
            row["training_media"],
            "" if row["learning_rate"] is None else f"{row['learning_rate']:g}",
            row["score"]["mean"],
            "" if row["score"]["sd"] is None else f"{row['score']['sd']:.1f}",
            *(row["metrics"][name]["mean"] for name in more),
            difference(row),
            "" if row["seconds"] is None else f"{row['seconds']:.0f}",
            "" if not row["peak_memory"] else f"{row['peak_memory'] / 2**20:.0f}",
            "" if not row["adapter_bytes"] else f"{row['adapter_bytes'] / 1000:.0f}",
        ]
        for row in rows
    ]


def difference(row: Mapping[str, Any]) -> str:
    """As in `+1.2 [-0.3, +2.7]`; empty for the row compared with."""
    found = row["against"]
    if found is None:
        return ""
    return f"{found['mean']:+.1f} [{found['low']:+.1f}, {found['high']:+.1f}]"


def notes(results: Mapping[str, Any]) -> list[str]:
    """What has to be said below a table, in sentences."""
    count, seeds = results["trials_per_method"], results["seeds"]
    said = [
        f"Scores are means over {seeds} seed{'s' * (seeds > 1)} on the {_scored(results)}, "
        f"scored once; sd is their standard deviation. {_heads(results)}"
    ]
    said += _without_looking(results["rows"])
    rates = f"Learning rates: the best of {count} on validation data, the same search for all"
    if count == 1:
        rates = "Learning rates: the one that was set, or each method's default"
    worlds = results["worlds"]
    if worlds is not None and count > 1:
        rates += (
            f" (generated world {worlds['tuned_on']}); results are on world {worlds['final']}, "
            "whose test data nothing was chosen on"
        )
    variants = "its own" if results["search"] == "row" and count > 1 else "its method's"
    own = any(_sets_rate(row) for row in results["rows"])
    said.append(f"{rates}; a variant has {variants}{', or the one it sets' * own}.")
    if any(row["rate_at_edge"] for row in results["rows"]):
        said.append(
            "* The best rate was the smallest or the largest tried: a better one may lie beyond."
        )
    validated = [run["curve"]["step"] for row in results["rows"] for run in row["runs"]]
    if results["best_states"] and any(len(steps) > 1 for steps in validated):
        said.append("Each run is scored in the state that its own validation data liked best.")
    if any(row["against"] for row in results["rows"]):
        said.append(
            "In brackets the 95 % interval of a paired bootstrap: test media drawn again, each "
            "with all its queries, the gallery fixed, seeds pooled. It says how far other test "
            "data could move the difference of these seeds; how far other seeds could, sd says."
        )
    said += _clocks(results)
    releases = results["versions"].get("aurora-vl", [])
    if len(releases) > 1:
        said.append(f"Runs are of several releases of Aurora: {', '.join(releases)}.")
    return said


def _sets_rate(row: Mapping[str, Any]) -> bool:
    return any(setting.startswith("training.learning_rate=") for setting in row["settings"])


def _clocks(results: Mapping[str, Any]) -> list[str]:
    """What seconds and memory are of, as far as there are any."""
    said = []
    if any(row["peak_memory"] for row in results["rows"]):
        said.append(
            "Peak memory is of whole runs, scoring included, that were not interrupted; seconds "
            "are of those among them that went alone."
        )
    if len(results["machines"]) > 1:
        said.append(f"Runs are of several machines: {'; '.join(results['machines'])}.")
    return said


def _scored(results: Mapping[str, Any]) -> str:
    """The split in words; val can be scored only where validation data are taken from train."""
    split = results["scored_split"]
    if results["chosen_on_scored"]:
        return (
            "tenth of the training media that was held out and chose rates and checkpoints too "
            "(this flatters them)"
        )
    if split != "val":
        return f"{split} split"
    return "benchmark's val split (rates and checkpoints are chosen on a part of train)"


def _heads(results: Mapping[str, Any]) -> str:
    """How large the heads are, once for all rows."""
    sizes = sorted({n for row in results["rows"] if (n := row["parameters"]["heads"])})
    if not sizes:
        return "There are no heads beside what a method trains."
    told = " or ".join(f"{size:,}" for size in sizes)
    without = [row["label"] for row in results["rows"] if not row["parameters"]["heads"]]
    but = f" but {' and '.join(without)}" if without else ""
    return (
        f"The heads, {told} numbers, are trained by all{but} and not counted as a method's own "
        "numbers."
    )


def _without_looking(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What questions give without a picture: the same for all rows, and each method blind."""
    asked = [row for row in rows if row.get("baselines")]
    if not asked:
        return []
    first = asked[0]["baselines"]
    blind = ", ".join(f"{row['label']} {row['baselines']['blind']:.1f}" for row in asked)
    return [
        f"Without looking: training's commonest answer {first['majority_answer']:.1f}, its "
        f"commonest answer to the same question {first['majority_answer_to_the_question']:.1f}; "
        f"before an even grey: {blind}."
    ]


def markdown(results: Mapping[str, Any]) -> str:
    """All tables, the notes and the failures."""
    names = header(results)
    parts = [
        *(
            part
            for title, rows in sections(results)
            for part in (f"{title}:", markdown_table(names, cells(results, rows)))
        ),
        *(note.replace("*", r"\*") for note in notes(results)),
        *(f"Failed: {failure['run']}: {failure['reason']}" for failure in results["failures"]),
        f"`{results['command']}`",
    ]
    return "\n\n".join(parts) + "\n"


def latex(results: Mapping[str, Any]) -> str:
    """The table by score, for the booktabs package, with the notes as comments."""
    table = latex_table(header(results), cells(results, by_score(results)))
    return "\n".join([*(f"% {note}" for note in notes(results)), table, ""])


def _more(results: Mapping[str, Any]) -> list[str]:
    """Further metrics worth a column."""
    rows = results["rows"]
    return [name for name in _MORE_METRICS if rows and all(name in r["metrics"] for r in rows)]
