"""Which adapter a call uses: names checked, settings looked up, rows told to the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from peft import PeftModel

from aurora_vl.backbones.base import PreparationSettings
from aurora_vl.errors import UserError
from aurora_vl.inference.loading import TunedModel
from aurora_vl.inference.settings import AdapterSettings
from aurora_vl.tuner.layer import BASE_ROWS
from aurora_vl.tuner.rows import adapter_rows

BASE = "base"
"""The name under which a call asks for the frozen backbone."""
AdapterChoice = str | Sequence[str | None] | None
"""One adapter for all rows, or one for each; None for the usual one."""


class Adapters:
    """The adapters over one model, of which every call names its own.

    Args:
        tuned: the model.
    """

    def __init__(self, tuned: TunedModel) -> None:
        self._tuned = tuned

    def resolved(self, choice: AdapterChoice, rows: int) -> list[str | None]:
        """The adapter of each row; None only where there are no adapters.

        Raises:
            UserError: there is no such adapter, or not one name for each row.
        """
        if choice is None or isinstance(choice, str):
            return [self.named(choice)] * rows
        if len(choice) != rows:
            raise UserError(
                f"{len(choice)} adapters are named for {rows} items; name one for each."
            )
        return [self.named(name) for name in choice]

    def named(self, name: str | None) -> str | None:
        """A name that exists: the usual adapter's for None.

        Raises:
            UserError: there is no such adapter.
        """
        if name is None:
            return self._tuned.usual
        if name == BASE or name in self._tuned.folders:
            return name
        known = ", ".join([*self._tuned.folders, BASE])
        raise UserError(f"there is no adapter {name!r}; known: {known}.")

    def settings(self, name: str | None) -> AdapterSettings:
        """An adapter's settings; the usual one's for the frozen backbone."""
        found = self.named(name)
        return self._tuned.settings[self._tuned.usual if found == BASE else found]

    def preparation(
        self, names: Iterable[str | None], frames: int | None = None
    ) -> PreparationSettings:
        """How media and texts are prepared for several adapters at once.

        Args:
            names: the adapters'.
            frames: taken of a video; None for as many as the adapters were trained with.

        Raises:
            UserError: they were trained with different preparations.
        """
        different = {self.settings(name).preparation(): name for name in names}
        if len(different) > 1:
            (one, first), (other, second) = list(different.items())[:2]
            raise UserError(
                f"the adapters {first} and {second} prepare media and texts differently ({one} and "
                f"{other}); use them in calls of their own."
            )
        found = next(iter(different), self.settings(None).preparation())
        return found if frames is None else replace(found, frames=frames)

    def using(self, names: Sequence[str | None]) -> AbstractContextManager[None]:
        """Let the rows of the batches computed inside use these adapters.

        Args:
            names: from `resolved`; where a layer meets k times as many rows, each serves k.
        """
        model = self._tuned.model
        active = self._tuned.usual
        if not isinstance(model, PeftModel) or all(name == active for name in names):
            return nullcontext()
        rows = [BASE_ROWS if name == BASE else str(name) for name in names]
        try:
            return adapter_rows(model, rows)
        except ValueError as error:
            raise UserError(str(error)) from None
