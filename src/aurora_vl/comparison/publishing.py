"""Writes what a comparison found: results.json, tables, pictures and a report in one file.

All of it is made of results.json alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from aurora_vl.comparison import result_tables
from aurora_vl.comparison.plots import (
    WIDE,
    equal_data,
    mean_curve,
    score_by_media,
    score_by_memory,
    score_by_size,
    score_by_time,
    series,
    validation_curves,
)
from aurora_vl.reporting.charts import Drawing, page_svg, remove_pictures, save_pictures
from aurora_vl.reporting.html import render
from aurora_vl.reporting.tables import metric_label
from aurora_vl.utils.atomic import write_text


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture with its title and what it shows in words."""

    name: str
    title: str
    draw: Drawing
    words: str


def publish(results: Mapping[str, Any], out: Path) -> None:
    """Write results.json, table.md, table.tex, the pictures as PNG and SVG, and report.html.

    Args:
        results: of `gather_results`, with at least one row.
        out: a folder, made if absent.

    Raises:
        UserError: matplotlib is not installed; results.json and the tables are written before.
    """
    write_text(out / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_text(out / "table.md", result_tables.markdown(results))
    write_text(out / "table.tex", result_tables.latex(results))
    for picture in _pictures(results):
        if picture.words:
            save_pictures(picture.draw, WIDE, out / picture.name)
        else:  # one of an earlier comparison would be taken for this one's
            remove_pictures(out / picture.name)
    write_text(out / "report.html", comparison_report(results))


def comparison_report(results: Mapping[str, Any]) -> str:
    """The report as the text of an HTML file that needs no other file."""
    rows = equal_data(results)
    ours = [row for row in rows if row["method"] == "aurora"]
    full = [row for row in rows if row["method"] == "full"]
    return render(
        "compare.html",
        results=results,
        label=metric_label(results["primary"]),
        best=result_tables.by_score(results)[0],
        ours=max(ours, key=lambda row: row["score"]["mean"]) if ours else None,
        full=full[0] if full else None,
        reference=result_tables.reference_label(results),
        header=result_tables.header(results),
        sections=[
            (title, zip(chosen, result_tables.cells(results, chosen), strict=True))
            for title, chosen in result_tables.sections(results)
        ],
        notes=result_tables.notes(results),
        charts=[
            {"title": p.title, "svg": Markup(page_svg(p.draw, WIDE)), "description": p.words}
            for p in _pictures(results)
            if p.words
        ],
    )


def _pictures(results: Mapping[str, Any]) -> list[_Picture]:
    """All kinds of pictures; there is something to draw for those with words."""
    best_first = result_tables.by_score(results)

    def told(key: str, say: Callable[[Mapping[str, Any]], str]) -> str:
        rows = [row for row in best_first if row[key]]
        return "; ".join(f"{r['label']}: {r['score']['mean']:.1f} {say(r)}" for r in rows)

    sizes = told("parameters", lambda row: f"with {row['parameters']['own']:,} numbers")
    times = told("seconds", lambda row: f"after {row['seconds']:.0f} s")
    memories = told("peak_memory", lambda row: f"with {row['peak_memory'] / 2**20:.0f} MB")
    courses = "; ".join(
        f"{row['label']}: from {scores[0]:.1f} to {scores[-1]:.1f}"
        for row in equal_data(results)
        if (scores := mean_curve(row)[1])
    )
    media = "; ".join(
        f"{label}: {rows[0]['score']['mean']:.1f} of {rows[0]['training_media']:,} media to "
        f"{rows[-1]['score']['mean']:.1f} of {rows[-1]['training_media']:,}"
        for label, rows in series(results).items()
        if len(rows) > 1
    )
    return [
        _Picture("score-by-size", "Score and trained numbers", score_by_size(results), sizes),
        _Picture("score-by-time", "Score and time", score_by_time(results), times),
        _Picture("score-by-memory", "Score and memory", score_by_memory(results), memories),
        _Picture("curves", "The course of the tuning", validation_curves(results), courses),
        _Picture("score-by-media", "Score and training media", score_by_media(results), media),
    ]
