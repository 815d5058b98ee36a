"""Aurora: parameter-efficient tuning of vision-language models by mode approximation."""

from __future__ import annotations

from aurora_vl._version import __version__

__all__ = ["__version__"]
