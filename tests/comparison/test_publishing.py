"""What is published of a comparison: every file is made of results.json and says the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from aurora_vl.comparison import result_tables
from aurora_vl.comparison.plots import (
    WIDE,
    mean_curve,
    score_by_size,
    score_by_time,
    validation_curves,
)
from aurora_vl.comparison.publishing import comparison_report, publish
from aurora_vl.comparison.records import ResultRow, Results, SeedRun
from aurora_vl.reporting.charts import PAPER, Drawing

PICTURES = ("score-by-size", "score-by-time", "score-by-memory", "curves", "score-by-media")


def sizes(own: int, heads: int) -> dict[str, int]:
    parts = {"factors": own, "gates": 0, "heads": heads, "backbone": 0, "total": 2_000_000}
    return {**parts, "own": own, "trained": own + heads}


def seed_run(seed: int, steps: list[int], scores: list[float]) -> dict[str, Any]:
    return {
        "seed": seed,
        "folder": "0123456789ab",
        "metrics": {"r_mean": 50.0},
        "curve": {"step": steps, "score": scores},
        "seconds": 100.0,
        "peak_memory": None,
        "interrupted": False,
        "beside": 0,
        "machine": "x86_64, 2 cores",
    }


def row(name: str, own: int, score: float, **changes: Any) -> dict[str, Any]:
    method, *settings = name.split("+")
    return {
        "name": name,
        "label": name,
        "method": method,
        "settings": settings,
        "few_shot": False,
        "series": name,
        "training_media": 1500,
        "learning_rate": 0.01,
        "rates_tried": {},
        "rate_at_edge": False,
        "rate_of": method,
        "parameters": sizes(own, 16_770),
        "adapter_bytes": 4 * own + 500,
        "score": {"mean": score, "sd": 0.4},
        "metrics": {"r_mean": {"mean": score, "sd": 0.4}},
        "seconds": 100.0 + own % 17,
        "peak_memory": 2**30 + 1000 * own,
        "baselines": {},
        "runs": [
            seed_run(seed, [10, 20], [score - 20 + lift, score]) for seed, lift in ((1, 0), (2, 2))
        ],
        "against": None
        if name == "aurora"
        else {"row": "aurora", "mean": -1.5, "low": -2.0, "high": -1.0},
        "front": False,
        **changes,
    }


def few(method: str, own: int, score: float, media: int) -> dict[str, Any]:
    changes = {"few_shot": True, "series": method, "training_media": media}
    return row(f"{method}+data.limit={media}", own, score, **changes)


@pytest.fixture
def results() -> dict[str, Any]:
    rows = [
        row(
            "none",
            0,
            3.8,
            seconds=None,
            peak_memory=None,
            runs=[seed_run(1, [], [])],
            parameters=sizes(0, 0),
        ),
        row("linear", 0, 40.0),
        row("aurora", 11_392, 93.3, front=True),
        row("lora", 55_000, 92.0, rate_at_edge=True),
        row("lora+rank=1", 13_750, 90.1),
        row("full", 1_990_000, 94.0, front=True),
        few("aurora", 11_392, 60.0, 50),
        few("aurora", 11_392, 80.0, 400),
        few("full", 1_990_000, 55.0, 50),
    ]
    return {
        "command": "aurora compare demo-retrieval --methods aurora,lora",
        "recipe": "demo-retrieval",
        "task": "retrieval",
        "backbone": "mini",
        "primary": "r_mean",
        "seeds": 2,
        "worlds": {"tuned_on": 0, "final": 1},
        "trials_per_method": 4,
        "search": "method",
        "scored_split": "test",
        "chosen_on_scored": False,
        "reference": "aurora",
        "rows": rows,
        "failures": [{"run": "c3a with seed 2", "reason": "<b>no</b> memory"}],
        "best_states": True,
        "versions": {"aurora-vl": ["0.1.0"], "torch": ["2.11.0", "2.13.0"]},
        "machines": ["x86_64, 2 cores"],
    }


def typed(results: dict[str, Any]) -> Results:
    return Results.model_validate(results)


def axes_with(drawing: Drawing) -> Axes:
    """The axes of a finished picture, in their final place."""
    figure = Figure(figsize=WIDE, layout="constrained", dpi=160)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    drawing(axes, PAPER)
    figure.canvas.draw()
    return axes


def names(rows: list[ResultRow]) -> list[str]:
    return [row.name for row in rows]


def test_the_tables(results: dict[str, Any]) -> None:
    found = dict(result_tables.sections(typed(results)))
    full = ["full", "aurora", "lora", "lora+rank=1", "linear", "none"]
    assert names(found["By score"]) == full
    by_size = ["linear", "none", "aurora", "lora+rank=1", "lora", "full"]
    assert names(found["By own parameters"]) == by_size
    equal = found["About as many parameters as aurora, by score"]
    assert names(equal) == ["aurora", "lora+rank=1"]
    assert names(found["With fewer training media"]) == [
        *("aurora+data.limit=50", "aurora+data.limit=400", "aurora"),
        *("full+data.limit=50", "full"),
    ]
    results["rows"] = results["rows"][:4]
    assert list(dict(result_tables.sections(typed(results)))) == ["By score", "By own parameters"]


def test_the_heads_are_stated_once_and_mixed_clocks_are_said(results: dict[str, Any]) -> None:
    said = " ".join(result_tables.notes(typed(results)))
    assert (
        "The heads, 16,770 parameters, are trained by every method except none and not counted"
        in said
    )
    assert said.count("16,770") == 1
    assert "machines" not in said
    results["machines"].append("arm64, 8 cores")
    results["versions"]["aurora-vl"].append("0.2.0")
    said = " ".join(result_tables.notes(typed(results)))
    assert "several machines: x86_64, 2 cores; arm64, 8 cores." in said
    assert "several releases of Aurora: 0.1.0, 0.2.0." in said


def test_notes_say_what_is_there_and_no_more(results: dict[str, Any]) -> None:
    said = result_tables.notes(typed(results))
    assert any(note.startswith("Peak memory") for note in said)
    assert any("the checkpoint with its best validation score" in note for note in said)
    assert any(
        line.startswith(r"\* The best")
        for line in result_tables.markdown(typed(results)).split("\n")
    )
    for row in results["rows"]:
        row.update(peak_memory=None, parameters=sizes(row["parameters"]["own"], 0))
    results |= {"best_states": False, "scored_split": "val"}
    said = result_tables.notes(typed(results))
    assert "no heads" in said[0]
    assert "on the benchmark's val split (rates and checkpoints are chosen on a part of" in said[0]
    assert not any("Peak memory" in note or "best validation score" in note for note in said)


def test_notes_tell_where_rates_and_scores_come_from(results: dict[str, Any]) -> None:
    assert any(
        note.endswith("a variant uses that of its method.")
        for note in result_tables.notes(typed(results))
    )
    results["rows"][3]["settings"] = ["training.learning_rate=0.1"]
    results["chosen_on_scored"] = True
    said = result_tables.notes(typed(results))
    assert any(
        note.endswith("a variant uses that of its method, or the one it sets.") for note in said
    )
    assert "media that was held out, which also chose rates and checkpoints (so" in said[0]


def test_differences_name_the_row_that_is_compared_with(results: dict[str, Any]) -> None:
    results["reference"] = "lora+rank=1"
    results["rows"][4]["label"] = "LoRA (rank=1)"
    assert "minus LoRA (rank=1) [95 %]" in result_tables.header(typed(results))
    assert "Full fine-tuning minus LoRA (rank=1)" in comparison_report(typed(results))


def test_few_shot_rows_are_told_with_and_without_a_partner(
    results: dict[str, Any], tmp_path: Path
) -> None:
    lone = few("lora", 55_000, 70.0, 50) | {"series": "lora (epochs=90)"}
    results["rows"].append(lone)
    told = dict(result_tables.sections(typed(results)))["With fewer training media"]
    assert lone["name"] in names(told)
    report = comparison_report(typed(results))
    assert "Full fine-tuning minus aurora" in report  # of all media, not of fifty
    results["rows"] = [lone, few("full", 1_990_000, 55.0, 50)]
    publish(typed(results), tmp_path)
    assert lone["name"] in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "score-by-media.png").exists()
    score = dict(result_tables.sections(typed(results)))["By score"]
    assert names(score) == [lone["name"], "full+data.limit=50"]


def test_a_curve_is_the_mean_over_seeds_whose_steps_differ_a_little() -> None:
    curves = [([10, 20], [50.0, 70.0]), ([12, 24], [60.0, 90.0]), ([10], [0.0])]
    runs = [SeedRun.model_validate(seed_run(1, *curve)) for curve in curves]
    assert mean_curve(runs) == ([11, 22], [55.0, 80.0])


def test_all_files_are_made_of_the_results(results: dict[str, Any], tmp_path: Path) -> None:
    publish(typed(results), tmp_path)
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored == results
    for name in PICTURES:
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.size == (1280, 896)
            assert len(image.convert("RGB").getcolors(1 << 20) or []) > 10
        assert "<svg" in (tmp_path / f"{name}.svg").read_text()
    assert "Pareto front" in (tmp_path / "score-by-size.svg").read_text()
    assert "MB" in (tmp_path / "score-by-memory.svg").read_text()
    markdown = (tmp_path / "table.md").read_text()
    line = next(line for line in markdown.splitlines() if line.startswith("| lora* "))
    assert "55,000" in line
    assert "-1.5 [-2.0, -1.0]" in line
    assert "220" in line  # adapter kB
    assert r"\toprule" in (tmp_path / "table.tex").read_text()
    report = (tmp_path / "report.html").read_text()
    assert report == comparison_report(typed(stored))
    assert "&lt;b&gt;no&lt;/b&gt; memory" in report
    assert len(re.findall("<svg", report)) == len(PICTURES)
    assert "aurora: 60.0 of 50 media to 93.3 of 1,500" in report
    assert not re.findall(r'(?:src|href)="(?!#|data:)', report.replace("xmlns", ""))


def test_few_shot_rows_are_in_their_own_picture_only(
    results: dict[str, Any], tmp_path: Path
) -> None:
    publish(typed(results), tmp_path)
    assert "data.limit" not in (tmp_path / "score-by-size.svg").read_text()
    assert "data.limit" not in (tmp_path / "curves.svg").read_text()
    results["rows"] = [row for row in results["rows"] if not row["few_shot"]]
    publish(typed(results), tmp_path / "again")
    assert not (tmp_path / "again" / "score-by-media.png").exists()


def test_a_picture_that_is_no_more_drawn_is_removed(
    results: dict[str, Any], tmp_path: Path
) -> None:
    """It would show an earlier comparison."""
    publish(typed(results), tmp_path)
    assert (tmp_path / "score-by-memory.png").is_file()
    unmeasured = [{**row, "peak_memory": None} for row in results["rows"]]
    publish(typed({**results, "rows": unmeasured}), tmp_path)
    assert not list(tmp_path.glob("score-by-memory.*"))
    assert (tmp_path / "score-by-time.png").is_file()


def test_no_name_lies_on_another_methods_error_bar(results: dict[str, Any]) -> None:
    """Two methods of nearly the same size, one of them with a wide spread, keep their own names."""
    results["rows"] = [
        row("lora", 57_344, 96.8) | {"score": {"mean": 96.8, "sd": 0.2}},
        row("dora", 65_024, 96.7) | {"score": {"mean": 96.7, "sd": 0.8}},
        row("aurora", 12_576, 96.3),
        row("full", 1_978_240, 97.0),
    ]
    axes = axes_with(score_by_size(typed(results)))
    places = {text.get_text(): text.get_window_extent() for text in axes.texts}
    for told in results["rows"]:
        mean, sd, own = told["score"]["mean"], told["score"]["sd"], told["parameters"]["own"]
        (x, low), (_, high) = axes.transData.transform([(own, mean - sd), (own, mean + sd)])
        for name, place in places.items():
            beside = x < place.x0 or x > place.x1
            assert beside or high < place.y0 or low > place.y1, (name, told["name"])


def test_a_long_label_leaves_the_axes_their_room(results: dict[str, Any]) -> None:
    """It goes on in further lines, whole, instead of pressing the picture together."""
    long = "Aurora (options={target_modules: '.*(qkv|projection|fc1|fc2)|text_decoder.*dense'})"
    results["rows"] = [row("aurora", 12_576, 96.3), row("lora", 57_344, 96.8, label=long)]
    for draw in (score_by_size(typed(results)), validation_curves(typed(results))):
        axes = axes_with(draw)
        legend = axes.get_legend()
        told = [*axes.texts, *(legend.get_texts() if legend is not None else [])]
        assert "".join(long.split()) in ["".join(text.get_text().split()) for text in told]
        whole = axes.figure.bbox.width
        assert axes.get_window_extent().width > 0.5 * whole
        for text in told:
            place = text.get_window_extent()
            assert place.x0 >= 0
            assert place.x1 <= whole


def test_names_stay_within_the_axes(results: dict[str, Any]) -> None:
    """Whole names of the outermost methods, free of the numbers and the name of the axis."""
    wide = "Aurora (core=tucker, rank=17)"
    sizes = {"lora+rank=1": 14_336, "vera": 17_920, "dora": 65_024, "vb-lora": 73_728}
    results["rows"] = [
        row("aurora", 12_576, 96.3, label=wide),
        row("lokr", 12_600, 95.4, label=wide[::-1]),
        *(row(name, own, 94.0 + own / 30_000) for name, own in sizes.items()),
        row("full", 1_978_240, 97.0, label="Full fine-tuning"),
    ]
    axes = axes_with(score_by_size(typed(results)))
    frame = axes.get_window_extent()
    for text in axes.texts:
        place = text.get_window_extent()
        assert frame.x0 <= place.x0, text.get_text()
        assert place.x1 <= frame.x1, text.get_text()


def test_a_name_without_a_line_is_nearest_to_its_own_point(results: dict[str, Any]) -> None:
    results["rows"] = [
        row("ia3", 9_216, 93.0),
        row("c3a", 9_216, 92.1),
        row("aurora", 12_576, 96.3),
        row("lora", 57_344, 84.0),
    ]
    axes = axes_with(score_by_size(typed(results)))
    points = {
        told["name"]: axes.transData.transform((told["parameters"]["own"], told["score"]["mean"]))
        for told in results["rows"]
    }
    for text in axes.texts:
        place = text.get_window_extent()
        if getattr(text, "arrow_patch", None) is None:
            far = {
                name: np.hypot(
                    max(place.x0 - x, x - place.x1, 0), max(place.y0 - y, y - place.y1, 0)
                )
                for name, (x, y) in points.items()
            }
            assert min(far, key=lambda name: far[name]) == text.get_text()


def test_no_line_to_a_name_runs_through_another_name(results: dict[str, Any]) -> None:
    crowd = {
        "LoRA": (57_344, 96.8, 0.2),
        "DoRA": (65_024, 96.7, 0.8),
        "LoKr": (14_848, 96.1, 0.2),
        "VeRA": (17_920, 96.1, 0.4),
        "VB-LoRA": (73_728, 96.0, 0.5),
        "RandLoRA": (25_600, 96.5, 0.5),
    }
    results["rows"] = [
        row("aurora", 12_576, 96.3),
        row("full", 1_978_240, 97.0),
        *(row(n, own, s) | {"score": {"mean": s, "sd": d}} for n, (own, s, d) in crowd.items()),
        row("bitfit", 11_264, 85.0),
    ]
    axes = axes_with(score_by_size(typed(results)))
    texts: list[Any] = list(axes.texts)
    lines = [text for text in texts if text.arrow_patch is not None]
    assert lines
    for text in lines:
        path = text.arrow_patch.get_path().interpolated(50)
        points = text.arrow_patch.get_transform().transform(path.vertices)
        for other in texts:
            place = other.get_window_extent()
            if other is not text:
                inside = [place.contains(x, y) for x, y in points]
                assert not any(inside), (text.get_text(), other.get_text())


def test_methods_far_below_are_told_and_leave_the_others_their_room(
    results: dict[str, Any],
) -> None:
    """Every method is in the picture, with its score; none presses the others together."""
    near = [("aurora", 96.3), ("lokr", 96.1), ("lora", 96.8), ("ia3", 93.0), ("full", 97.0)]
    results["rows"] = [row(name, 10_000 + 500 * n, s) for n, (name, s) in enumerate(near)]
    results["rows"] += [row("none", 0, 4.5), row("linear", 0, 20.8)]
    results["rows"] += [row("c3a", 9_000, 50.8), row("fourierft", 9_500, 48.1, front=True)]
    for drawn in (score_by_size, score_by_time):
        axes = axes_with(drawn(typed(results)))
        low, high = axes.get_ylim()
        assert 90.0 < low < 93.0 < 97.0 < high
        beside = {text.get_text() for text in axes.texts}
        assert {name for name, _ in near} <= beside
        legend = axes.get_legend()
        assert legend is not None
        below = {text.get_text() for text in legend.get_texts()}
        assert {"none: 4.5", "c3a: 50.8", "fourierft: 48.1"} <= below
        assert not {"c3a", "fourierft"} & beside
    results["rows"] = [row("aurora", 10_000, 72.0), row("linear", 9_000, 41.0)]
    axes = axes_with(score_by_size(typed(results)))
    assert {text.get_text() for text in axes.texts} == {"aurora", "linear"}
