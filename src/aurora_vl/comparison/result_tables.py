"""results.json as Markdown and LaTeX tables, for pages and for papers."""

from __future__ import annotations

from collections.abc import Sequence

from aurora_vl.comparison.records import ResultRow, Results
from aurora_vl.reporting.metrics import metric_label
from aurora_vl.reporting.tables import Cell, latex_table, markdown_table

_MORE_METRICS = ("i2t_r1", "t2i_r1", "v2t_r1", "t2v_r1")
_ABOUT = 1.5  # a factor


def by_score(results: Results) -> list[ResultRow]:
    """The rows with all training media, best first."""
    return sorted(results.all_media, key=lambda row: -row.score.mean)


def sections(results: Results) -> list[tuple[str, list[ResultRow]]]:
    """The tables of a page: titles and rows; those that would say nothing are left out."""
    rows = results.all_media

    def by_size(chosen: Sequence[ResultRow]) -> list[ResultRow]:
        return sorted(chosen, key=lambda row: (row.parameters.own, -row.score.mean))

    found = [("By score", by_score(results)), ("By own parameters", by_size(rows))]
    equal = _equal_budget(results, rows)
    if len(equal) > 1:
        ours = reference_label(results)
        found.append((f"About as many parameters as {ours}, by score", equal))
    fewer = [row for members in results.few_shot_series.values() for row in members]
    if fewer:
        found.append(("With fewer training media", fewer))
    return found


def _equal_budget(results: Results, rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Rows whose own parameters are within a factor of those of the reference."""
    ours = [row.parameters.own for row in rows if row.name == results.reference]
    if not ours:
        return []
    low, high = ours[0] / _ABOUT, ours[0] * _ABOUT
    near = [row for row in rows if low <= row.parameters.own <= high]
    return sorted(near, key=lambda row: -row.score.mean)


def header(results: Results) -> list[str]:
    """Names of the columns of `cells`."""
    more = [metric_label(name) for name in _more(results)]
    return [
        *("method", "own parameters", "media", "learning rate"),
        *(metric_label(results.primary), "sd", *more),
        *(f"minus {reference_label(results)} [95 %]", "seconds", "peak MB", "adapter kB"),
    ]


def reference_label(results: Results) -> str:
    """The label of the row that others are compared with; Aurora where there is none."""
    return next((r.label for r in results.rows if r.name == results.reference), "Aurora")


def cells(results: Results, rows: Sequence[ResultRow]) -> list[list[Cell]]:
    """One line of cells a row; empty where there is nothing to say."""
    more = _more(results)
    return [
        [
            row.label + ("*" if row.rate_at_edge else ""),
            row.parameters.own,
            row.training_media,
            "" if row.learning_rate is None else f"{row.learning_rate:g}",
            row.score.mean,
            "" if row.score.sd is None else f"{row.score.sd:.1f}",
            *(row.metrics[name].mean for name in more),
            difference(row),
            "" if row.seconds is None else f"{row.seconds:.0f}",
            "" if not row.peak_memory else f"{row.peak_memory / 2**20:.0f}",
            "" if not row.adapter_bytes else f"{row.adapter_bytes / 1000:.0f}",
        ]
        for row in rows
    ]


def difference(row: ResultRow) -> str:
    """As in `+1.2 [-0.3, +2.7]`; empty for the row compared with."""
    found = row.against
    if found is None:
        return ""
    return f"{found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"


def notes(results: Results) -> list[str]:
    """The notes below a table, in sentences."""
    count, seeds = results.trials_per_method, results.seeds
    said = [
        f"Scores are means over {seeds} seed{'s' * (seeds > 1)} on the {_scored(results)}, "
        f"scored once; sd is their standard deviation. {_heads(results)}"
    ]
    said += _without_looking(results.rows)
    rates = (
        f"Learning rates: the best of {count} on validation data, the same search for every method"
    )
    if count == 1:
        rates = "Learning rates: the one that was set, or the default of each method"
    worlds = results.worlds
    if worlds is not None and count > 1:
        rates += (
            f" (on generated world {worlds.tuned_on}); results are on world {worlds.final}, whose "
            "test data were not used to choose anything"
        )
    variants = "its own" if results.search == "row" and count > 1 else "that of its method"
    own = any(_sets_rate(row) for row in results.rows)
    said.append(f"{rates}; a variant uses {variants}{', or the one it sets' * own}.")
    if any(row.rate_at_edge for row in results.rows):
        said.append(
            "* The best rate was the smallest or the largest tried; a better one may lie beyond it."
        )
    validated = [run.curve.step for row in results.rows for run in row.runs]
    if results.best_states and any(len(steps) > 1 for steps in validated):
        said.append("Each run is scored at the checkpoint with its best validation score.")
    if any(row.against for row in results.rows):
        said.append(
            "Brackets hold the 95 % interval of a paired bootstrap over test media, each drawn "
            "with all its queries; the gallery is fixed and the seeds are pooled. The interval "
            "shows how far other test data could move the difference, sd how far other seeds could."
        )
    said += _clocks(results)
    releases = results.versions.get("aurora-vl", [])
    if len(releases) > 1:
        said.append(f"The runs come from several releases of Aurora: {', '.join(releases)}.")
    return said


def _sets_rate(row: ResultRow) -> bool:
    return any(setting.startswith("training.learning_rate=") for setting in row.settings)


def _clocks(results: Results) -> list[str]:
    """Which runs seconds and memory are from, as far as there are any."""
    said = []
    if any(row.peak_memory for row in results.rows):
        said.append(
            "Peak memory is that of whole runs, scoring included, that were not interrupted; "
            "seconds are from those that had the machine to themselves."
        )
    if len(results.machines) > 1:
        said.append(f"The runs come from several machines: {'; '.join(results.machines)}.")
    return said


def _scored(results: Results) -> str:
    """The split in words; val is scored only where validation data are taken from train."""
    split = results.scored_split
    if results.chosen_on_scored:
        return (
            "tenth of the training media that was held out, which also chose rates and checkpoints "
            "(so the scores are optimistic)"
        )
    if split != "val":
        return f"{split} split"
    return "benchmark's val split (rates and checkpoints are chosen on a part of train)"


def _heads(results: Results) -> str:
    """How large the heads are, once for all rows."""
    sizes = sorted({n for row in results.rows if (n := row.parameters.heads)})
    if not sizes:
        return "There are no heads besides what a method trains."
    told = " or ".join(f"{size:,}" for size in sizes)
    without = [row.label for row in results.rows if not row.parameters.heads]
    but = f" except {' and '.join(without)}" if without else ""
    return (
        f"The heads, {told} parameters, are trained by every method{but} and not counted as its "
        "own."
    )


def _without_looking(rows: Sequence[ResultRow]) -> list[str]:
    """What can be had without a picture: the same for all rows, and each method blind."""
    asked = [row for row in rows if row.baselines]
    if not asked:
        return []
    first = asked[0].baselines
    blind = ", ".join(f"{row.label} {row.baselines['blind']:.1f}" for row in asked)
    return [
        f"Baselines without a picture: the most common answer {first['majority_answer']:.1f}, the "
        "most common answer to the same question "
        f"{first['majority_answer_to_the_question']:.1f}; with a grey picture: {blind}."
    ]


def markdown(results: Results) -> str:
    """All tables, the notes and the failures."""
    names = header(results)
    parts = [
        *(
            part
            for title, rows in sections(results)
            for part in (f"{title}:", markdown_table(names, cells(results, rows)))
        ),
        *(note.replace("*", r"\*") for note in notes(results)),
        *(f"Failed: {failure.run}: {failure.reason}" for failure in results.failures),
        f"`{results.command}`",
    ]
    return "\n\n".join(parts) + "\n"


def latex(results: Results) -> str:
    """The table by score, for the booktabs package, with the notes as comments."""
    table = latex_table(header(results), cells(results, by_score(results)))
    return "\n".join([*(f"% {note}" for note in notes(results)), table, ""])


def _more(results: Results) -> list[str]:
    """Further metrics worth a column."""
    rows = results.rows
    return [name for name in _MORE_METRICS if rows and all(name in r.metrics for r in rows)]
