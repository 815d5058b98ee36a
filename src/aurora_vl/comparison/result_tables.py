"""results.json as Markdown and LaTeX tables, for pages and for papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aurora_vl.comparison.tables import latex_table, markdown_table, metric_label

_MORE_METRICS = ("i2t_r1", "t2i_r1", "v2t_r1", "t2v_r1")
Cell = str | int | float


def by_score(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows, best first."""
    rows: list[dict[str, Any]] = sorted(results["rows"], key=lambda row: -row["score"]["mean"])
    return rows


def by_size(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows, those with the fewest numbers of their own first."""
    rows: list[dict[str, Any]] = sorted(
        results["rows"], key=lambda row: (row["parameters"]["own"], -row["score"]["mean"])
    )
    return rows


def header(results: Mapping[str, Any]) -> list[str]:
    """Names of the columns of `cells`."""
    more = [metric_label(name) for name in _more(results)]
    return [
        *("method", "own numbers", "heads", "learning rate"),
        *(metric_label(results["primary"]), "sd", *more),
        *("less Aurora [95 %]", "seconds", "peak MB", "adapter kB"),
    ]


def cells(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[list[Cell]]:
    """One line of cells a row; empty where there is nothing to say."""
    more = _more(results)
    return [
        [
            row["label"] + ("*" if row["rate_at_edge"] else ""),
            row["parameters"]["own"],
            row["parameters"]["heads"],
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
    """As in `+1.2 [-0.3, +2.7]`; empty for Aurora itself."""
    found = row["against"]
    if found is None:
        return ""
    return f"{found['mean']:+.1f} [{found['low']:+.1f}, {found['high']:+.1f}]"


def notes(results: Mapping[str, Any]) -> list[str]:
    """What has to be said below a table, in sentences."""
    count, seeds = results["trials_per_method"], results["seeds"]
    said = [
        f"Scores are means over {seeds} seed{'s' * (seeds > 1)} on the {results['scored_split']} "
        "split, scored once; sd is their standard deviation. The heads are trained by all and not "
        "counted as a method's own numbers."
    ]
    rates = f"Learning rates: the best of {count} on validation data, the same search for all"
    if count == 1:
        rates = "Learning rates: each method's default"
    worlds = results["worlds"]
    if worlds is not None and count > 1:
        rates += (
            f" (generated world {worlds['tuned_on']}); results are on world {worlds['final']}, "
            "which nothing was chosen on"
        )
    said.append(f"{rates}; a variant has its method's.")
    if any(row["rate_at_edge"] for row in results["rows"]):
        said.append(
            "* The best rate was the smallest or the largest tried: a better one may lie beyond."
        )
    if any(row["against"] for row in results["rows"]):
        said.append(
            "In brackets the 95 % interval of a paired bootstrap: test queries drawn again, the "
            "gallery fixed, seeds pooled."
        )
    beside = results["runs_side_by_side"]
    clocks = "Seconds and peak memory are of whole runs, scoring included"
    if beside > 1:
        clocks += f", {beside} side by side with one thread each"
    said.append(f"{clocks}; interrupted runs are left out of them.")
    return said


def markdown(results: Mapping[str, Any]) -> str:
    """The table by score, the same by size, the notes and the failures."""
    names = header(results)
    parts = [
        "By score:",
        markdown_table(names, cells(results, by_score(results))),
        "By numbers of their own:",
        markdown_table(names, cells(results, by_size(results))),
        *notes(results),
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
