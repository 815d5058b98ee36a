"""One configuration for several models.

What a model resolves (targets, widths, blocks) is written into the configuration it was given, as
PEFT does. A model that is given the same configuration later starts from what was given, and the
one before keeps a copy.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from aurora_vl.tuner.config import AuroraConfig

_RESOLVED = ("target_modules", "listed_widths", "target_blocks")
_USE = "_aurora_use"


@dataclass
class ConfigUse:
    """One model's use of a configuration.

    Attributes:
        given: the configuration.
        own: as this model resolved it.
        before: the resolved fields as they were given.
        over: another model uses the configuration now.
    """

    given: AuroraConfig
    own: AuroraConfig
    before: dict[str, Any] = field(default_factory=dict)
    over: bool = False

    def __post_init__(self) -> None:
        self.before = {name: getattr(self.given, name) for name in _RESOLVED}
        for name in _RESOLVED:
            setattr(self.given, name, getattr(self.own, name))
        self.given.__dict__[_USE] = self

    @property
    def config(self) -> AuroraConfig:
        """The configuration with this model's values."""
        return self.own if self.over else self.given


def release(config: AuroraConfig) -> None:
    """Undo what a model resolved in a configuration; fields changed since stay as they are."""
    use: ConfigUse | None = config.__dict__.pop(_USE, None)
    if use is None or use.given is not config:  # a copy is nobody's
        return
    use.over = True
    use.own.modules_to_save = copy.copy(config.modules_to_save)  # PEFT adds a task's head later
    for name, value in use.before.items():
        if getattr(config, name) == getattr(use.own, name):
            setattr(config, name, value)
