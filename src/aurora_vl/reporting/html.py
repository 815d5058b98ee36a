"""Pages from templates: one HTML file that needs no network and no other file.

A package keeps its page in its own `templates` folder; the style sheet that pages include is here.
"""

from __future__ import annotations

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def render(package: str, template: str, **content: Any) -> str:
    """The text of a page, to be written as UTF-8.

    Args:
        package: the name of the package whose `templates` folder holds it.
        template: its file.
        content: what it names. The filters `duration` (seconds), `share` (of a whole) and `signed`
            are there for all.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("aurora_vl.reporting")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": _duration, "share": _share, "signed": _signed}
    return environment.get_template(template).render(**content)


def _duration(seconds: float) -> str:
    """As in `2 min 13 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _share(part: float, whole: float) -> str:
    """A percentage with two significant digits below ten, as in `0.37 %`."""
    percent = 100.0 * part / whole
    return f"{percent:.1f} %" if percent >= 10 else f"{percent:.2g} %"


def _signed(value: float) -> str:
    """With a sign that is as wide as the plus, for columns."""
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")
