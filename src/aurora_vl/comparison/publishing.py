"""Writes what a comparison found: results.json, tables, pictures and a report in one file.

All of it is made of results.json alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from aurora_vl.comparison import result_tables
from aurora_vl.comparison.charts import Drawing, page_svg, save_pictures
from aurora_vl.comparison.pictures import WIDE, score_by_size, score_by_time, validation_curves
from aurora_vl.comparison.report import render
from aurora_vl.comparison.tables import metric_label
from aurora_vl.training.recipe import write_text


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
    pictures = _pictures(results)
    for picture in pictures:
        save_pictures(picture.draw, WIDE, out / picture.name)
    write_text(out / "report.html", comparison_report(results))


def comparison_report(results: Mapping[str, Any]) -> str:
    """The report as the text of an HTML file that needs no other file."""
    rows = results["rows"]
    ours = [row for row in rows if row["method"] == "aurora"]
    full = [row for row in rows if row["method"] == "full"]
    return render(
        "compare.html",
        results=results,
        label=metric_label(results["primary"]),
        best=result_tables.by_score(results)[0],
        ours=max(ours, key=lambda row: row["score"]["mean"]) if ours else None,
        full=full[0] if full else None,
        header=result_tables.header(results),
        by_score=result_tables.cells(results, result_tables.by_score(results)),
        by_size=result_tables.cells(results, result_tables.by_size(results)),
        front={row["label"] for row in rows if row["front"]},
        notes=result_tables.notes(results),
        charts=[
            {"title": p.title, "svg": Markup(page_svg(p.draw, WIDE)), "description": p.words}
            for p in _pictures(results)
        ],
    )


def _pictures(results: Mapping[str, Any]) -> list[_Picture]:
    """Those that there is something to draw for."""
    scores = "; ".join(
        f"{row['label']}: {row['score']['mean']:.1f} with {row['parameters']['own']:,} numbers"
        for row in result_tables.by_score(results)
    )
    times = "; ".join(
        f"{row['label']}: {row['score']['mean']:.1f} after {row['seconds']:.0f} s"
        for row in result_tables.by_score(results)
        if row["seconds"]
    )
    found = [
        _Picture("score-by-size", "Score and trained numbers", score_by_size(results), scores),
        _Picture("score-by-time", "Score and time", score_by_time(results), times),
    ]
    courses = [
        f"{row['label']}: from {curve['score'][0]:.1f} to {curve['score'][-1]:.1f}"
        for row in results["rows"]
        if (curve := row["runs"][0]["curve"])["step"]
    ]
    if courses:
        title, words = "The course of the tuning, first seed", "; ".join(courses)
        found.append(_Picture("curves", title, validation_curves(results), words))
    return found
