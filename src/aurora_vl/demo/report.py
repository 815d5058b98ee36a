"""The demo's report: one HTML file that needs no network and no other file.

It shows what tuning changed: the scores, the curves, and the pictures that the same sentences found
before and after. Thumbnails and charts are inside the file; a content policy in its head forbids
the browser to load anything else.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from aurora_vl.data.images import open_picture
from aurora_vl.reporting.charts import Curve, line_chart
from aurora_vl.reporting.html import render
from aurora_vl.reporting.metrics import metric_rows

THUMBNAIL_PIXELS = 144


@dataclass(frozen=True, slots=True)
class Hit:
    """A picture that a query found.

    Attributes:
        picture: a file, or the picture itself (frames of a video).
        correct: whether it is a right answer.
    """

    picture: Path | Image.Image
    correct: bool


@dataclass(frozen=True, slots=True)
class QueryExample:
    """A query with the pictures it finds, best first, before and after tuning."""

    text: str
    before: Sequence[Hit]
    after: Sequence[Hit]


@dataclass(frozen=True, slots=True)
class Said:
    """An answer that was given, and whether it is right."""

    answer: str
    correct: bool


@dataclass(frozen=True, slots=True)
class AnswerExample:
    """A question about a picture, the right answer, and those given before and after tuning."""

    question: str
    picture: Path | Image.Image
    right: str
    before: Said
    after: Said


@dataclass(frozen=True, slots=True)
class TrainedPart:
    """A part of what was trained, such as factors, gates or heads, and its parameters."""

    name: str
    parameters: int


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Everything the report shows.

    Attributes:
        title: the headline.
        summary: one or two sentences below it: what was tuned on what.
        before: metrics without tuning, named as in metrics.json.
        after: metrics with tuning.
        parts: what was trained.
        total_parameters: all parameters of the model in use, adapter included.
        loss: up to four curves over steps.
        recall: up to four curves over steps, in percent; measured on the validation data.
        examples: queries of the test data.
        command: gives this report again.
        seconds: time the tuning took.
        seed: of the run.
        versions: of Python and the packages used.
        primary: the metric that is shown large.
        x_label: what the curves' x counts.
        thing: the word for what is found or asked about.
        answers: questions about the test data.
        measure: the word for what `recall` shows, "Recall" or "Accuracy".
        baselines: scores that need no picture, by name.
    """

    title: str
    summary: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    parts: Sequence[TrainedPart]
    total_parameters: int
    command: str
    seconds: float
    seed: int
    versions: Mapping[str, str]
    examples: Sequence[QueryExample] = ()
    loss: Sequence[Curve] = ()
    recall: Sequence[Curve] = ()
    primary: str = "r_mean"
    x_label: str = "step"
    thing: str = "picture"
    answers: Sequence[AnswerExample] = ()
    measure: str = "Recall"
    baselines: Mapping[str, float] = field(default_factory=dict)

    @property
    def trained_parameters(self) -> int:
        """The sum of the parts."""
        return sum(part.parameters for part in self.parts)


def demo_report(content: DemoReport) -> str:
    """The report as the text of an HTML file, to be written as UTF-8.

    Raises:
        UserError: a picture cannot be read, or matplotlib is not installed.
        KeyError: `content.primary` is not among the metrics.
    """
    rows = metric_rows(content.before, content.after)
    return render(
        __package__,
        "demo.html",
        report=content,
        rows=rows,
        headline={row.name: row for row in rows}[content.primary],
        charts=_charts(content),
        thumbnail=_Thumbnails(),
        place=_place,
    )


@dataclass(frozen=True, slots=True)
class _Chart:
    title: str
    svg: Markup
    description: str


def _charts(content: DemoReport) -> list[_Chart]:
    wanted = [("Loss in training", "loss", content.loss)]
    wanted += [(f"{content.measure} on validation data", "%", content.recall)]
    return [
        _Chart(
            title,
            Markup(line_chart(curves, x_label=content.x_label, y_label=unit)),
            "; ".join(curve.describe() for curve in curves),
        )
        for title, unit, curves in wanted
        if curves
    ]


class _Thumbnails:
    """Pictures as data URIs; each file is read once, however many queries find it."""

    def __init__(self) -> None:
        self._made: dict[Path, str] = {}

    def __call__(self, picture: Path | Image.Image) -> str:
        if isinstance(picture, Image.Image):
            return _data_uri(picture)
        if picture not in self._made:
            self._made[picture] = _data_uri(open_picture(picture))
        return self._made[picture]


def _data_uri(image: Image.Image) -> str:
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _place(hits: Sequence[Hit]) -> str:
    """Where the first right picture stands, in words."""
    place = next((number for number, hit in enumerate(hits, start=1) if hit.correct), None)
    if place is None:
        return "not among them"
    return "found first" if place == 1 else f"in place {place}"
