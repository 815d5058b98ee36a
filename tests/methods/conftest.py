"""A run of seconds, as in the tests of training."""

from __future__ import annotations

from tests.training.conftest import backbone, data, make_recipe

__all__ = ["backbone", "data", "make_recipe"]
