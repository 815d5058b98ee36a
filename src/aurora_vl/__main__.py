"""`python -m aurora_vl` is the command `aurora`, for torchrun and uninstalled checkouts."""

from __future__ import annotations

from aurora_vl.cli.main import run

if __name__ == "__main__":
    run()
