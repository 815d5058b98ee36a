"""Results on standard output: one JSON object, or tables for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from aurora_vl.utils.processes import is_main_process


def show_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object and nothing else."""
    if is_main_process():
        print(json.dumps(content, indent=1, ensure_ascii=False))


def show_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is set flush left, the others right."""
    if not is_main_process():
        return
    table = Table(box=box.SIMPLE_HEAD)
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if title:  # a line of its own: as the table's title it would be as narrow as the table
        console.print(title, style="bold", soft_wrap=True)
    console.print(table)


def show_metrics(content: Mapping[str, Any], title: str) -> None:
    """Print the metrics of a metrics.json, of questions also by type and what needs no picture."""
    from aurora_vl.reporting.metrics import metric_label

    split = content["config"]["scored_split"]
    if not content["metrics"]:
        if is_main_process():
            print(f"{title}: {split} has no answers; results.json is for the benchmark's server")
        return
    types = content.get("by_answer_type") or content.get("by_question_type", {})
    baselines = content.get("baselines", {})
    scores = {metric_label(name): value for name, value in content["metrics"].items()}
    scores |= {f"  of {name}": value for name, value in types.items()}
    scores |= {f"baseline: {name.replace('_', ' ')}": v for name, v in baselines.items()}
    show_table(title, ("metric", split), [[name, f"{value:.1f}"] for name, value in scores.items()])


def show_change(before: Mapping[str, Any], after: Mapping[str, Any], title: str) -> None:
    """Print the metrics of two metrics.json beside each other."""
    from aurora_vl.reporting.metrics import metric_rows

    rows = [
        [row.label, f"{row.before:.1f}", f"{row.after:.1f}", f"{row.change:+.1f}"]
        for row in metric_rows(before["metrics"], after["metrics"])
    ]
    show_table(title, ("metric", "zero-shot", "tuned", "change"), rows)
