"""`python -m benchmarks`, from the root of a checkout."""

from __future__ import annotations

from aurora_vl.cli.options import start_logging
from benchmarks.command import app

if __name__ == "__main__":
    start_logging()
    app(prog_name="python -m benchmarks")
