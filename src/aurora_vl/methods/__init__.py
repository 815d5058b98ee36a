"""What `adapter.method` can name: one entry a method, all on the same backbone and the same heads.

Adding a method is one entry in one of the lists below: a name, its usual size, its learning rates
and a function that gives its PEFT configuration. Training, saving, counting and comparing follow.
"""

from __future__ import annotations

from aurora_vl.methods import bottleneck
from aurora_vl.methods.adapters import ADAPTERS
from aurora_vl.methods.base import Method, Request
from aurora_vl.methods.whole import WHOLE
from aurora_vl.tuner import registry

__all__ = ["METHODS", "Method", "Request", "register"]

METHODS: dict[str, Method] = {method.name: method for method in (*WHOLE, *ADAPTERS)}


def register() -> None:
    """Make PEFT know the types of adapters that are not its own; importing `aurora_vl` calls it.

    Raises:
        RuntimeError: another package holds one of the names.
    """
    registry.register()
    bottleneck.register()
