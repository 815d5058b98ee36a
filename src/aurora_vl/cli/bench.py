"""`aurora bench`: a way into the benchmarks, which lie in the repository and in no package."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from aurora_vl.errors import UserError

_CHECKOUT = Path(__file__).resolve().parents[3]


def bench(context: typer.Context) -> None:
    """Measure speed and memory, as `python -m benchmarks` does; from a checkout only."""
    if not (_CHECKOUT / "benchmarks" / "command.py").is_file():
        raise UserError(
            "aurora bench needs the benchmarks, which are not part of the installed package; "
            "clone the repository and run `make bench` there."
        )
    sys.path.insert(0, str(_CHECKOUT))
    from benchmarks.command import app

    app(context.args, prog_name="aurora bench")
