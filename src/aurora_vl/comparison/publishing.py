"""Writes what a comparison found: results.json, tables, charts and a report in one file.

All of it is made of results.json alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from aurora_vl.comparison import result_tables
from aurora_vl.comparison.plots import (
    WIDE,
    mean_curve,
    score_by_media,
    score_by_memory,
    score_by_size,
    score_by_time,
    validation_curves,
)
from aurora_vl.comparison.records import ResultRow, Results, write_results
from aurora_vl.reporting.charts import Drawing, page_svg, remove_pictures, save_pictures
from aurora_vl.reporting.html import render
from aurora_vl.reporting.metrics import metric_label
from aurora_vl.utils.atomic import write_text


@dataclass(frozen=True, slots=True)
class _Chart:
    """A chart with its title and what it shows in words."""

    name: str
    title: str
    draw: Drawing
    words: str


def publish(results: Results, out: Path) -> None:
    """Write results.json, table.md, table.tex, the charts as PNG and SVG, and report.html.

    Args:
        results: of `gather_results`, with at least one row.
        out: a folder, made if absent.

    Raises:
        UserError: matplotlib is not installed; results.json and the tables are written before.
    """
    write_results(out / "results.json", results)
    write_text(out / "table.md", result_tables.markdown(results))
    write_text(out / "table.tex", result_tables.latex(results))
    for chart in _charts(results):
        if chart.words:
            save_pictures(chart.draw, WIDE, out / chart.name)
        else:  # one of an earlier comparison would be taken for this one's
            remove_pictures(out / chart.name)
    write_text(out / "report.html", comparison_report(results))


def comparison_report(results: Results) -> str:
    """The report as the text of an HTML file that needs no other file."""
    rows = results.all_media
    ours = [row for row in rows if row.method == "aurora"]
    full = [row for row in rows if row.method == "full"]
    return render(
        __package__,
        "compare.html",
        results=results,
        label=metric_label(results.primary),
        best=result_tables.by_score(results)[0],
        ours=max(ours, key=lambda row: row.score.mean) if ours else None,
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
            for p in _charts(results)
            if p.words
        ],
    )


def _charts(results: Results) -> list[_Chart]:
    """All charts; those without words have nothing to draw."""
    best_first = result_tables.by_score(results)

    def told(rows: Iterable[tuple[ResultRow, str]]) -> str:
        return "; ".join(f"{row.label}: {row.score.mean:.1f} {words}" for row, words in rows)

    sizes = told((row, f"with {row.parameters.own:,} parameters") for row in best_first)
    times = told((row, f"after {row.seconds:.0f} s") for row in best_first if row.seconds)
    memories = told(
        (row, f"with {row.peak_memory / 2**20:.0f} MB") for row in best_first if row.peak_memory
    )
    courses = "; ".join(
        f"{row.label}: from {scores[0]:.1f} to {scores[-1]:.1f}"
        for row in results.all_media
        if (scores := mean_curve(row.runs)[1])
    )
    media = "; ".join(
        f"{label}: {rows[0].score.mean:.1f} of {rows[0].training_media:,} media to "
        f"{rows[-1].score.mean:.1f} of {rows[-1].training_media:,}"
        for label, rows in results.few_shot_series.items()
        if len(rows) > 1
    )
    return [
        _Chart("score-by-size", "Score and trainable parameters", score_by_size(results), sizes),
        _Chart("score-by-time", "Score and time", score_by_time(results), times),
        _Chart("score-by-memory", "Score and memory", score_by_memory(results), memories),
        _Chart("curves", "Validation scores in training", validation_curves(results), courses),
        _Chart("score-by-media", "Score and training media", score_by_media(results), media),
    ]
