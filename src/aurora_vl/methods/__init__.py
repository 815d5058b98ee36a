"""What `adapter.method` can name: one entry a method, all on the same backbone and the same heads.

Adding a method is one entry in one of the lists below: a name, its usual size, its learning rates
and a function that gives its PEFT configuration. Training, saving, counting and comparing follow.
"""

from __future__ import annotations

from aurora_vl.methods.adapters import ADAPTERS
from aurora_vl.methods.base import Method, Request
from aurora_vl.methods.whole import WHOLE

__all__ = ["METHODS", "Method", "Request"]

METHODS: dict[str, Method] = {method.name: method for method in (*WHOLE, *ADAPTERS)}
