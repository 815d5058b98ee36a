"""The presets: what the recipe's key `variant` decides.

"released" is the arithmetic of the research code (commit 1b189ae, proven by
scripts/check_golden.py); "default" has the paper's core, and that code's faults are fixed.
docs/fidelity.md has a row for each switch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from aurora_vl.errors import UserError
from aurora_vl.objectives.answering import AnsweringSettings
from aurora_vl.objectives.retrieval import RetrievalSettings
from aurora_vl.objectives.switches import (
    AnsweringSwitches,
    EvaluationSwitches,
    HeadSwitches,
    RetrievalSwitches,
)
from aurora_vl.tuner.config import AuroraSwitches

Variant = Literal["default", "released"]


@dataclass
class Switches(
    AuroraSwitches, RetrievalSwitches, HeadSwitches, AnsweringSwitches, EvaluationSwitches
):
    """Every switch, in which presets and ablations differ; the defaults are the default preset."""

    def adapter(self) -> dict[str, Any]:
        """The arguments of `AuroraConfig` among them."""
        return self._of(AuroraSwitches)

    def retrieval(self, **constants: Any) -> RetrievalSettings:
        """Settings of the retrieval losses; `constants` are those that no preset decides."""
        return RetrievalSettings(**self._of(RetrievalSwitches), **constants)

    def answering(self, frames: int = 1) -> AnsweringSettings:
        """Settings of the question answering loss; `frames` of each medium."""
        return AnsweringSettings(**self._of(AnsweringSwitches), frames=frames)

    def _of(self, kind: type) -> dict[str, Any]:
        return {switch.name: getattr(self, switch.name) for switch in fields(kind)}


_PRESETS: dict[str, Switches] = {
    "default": Switches(),
    "released": Switches(
        core="tucker",
        mlp_core="interleaved",
        gqt_start="normal",
        init="released",
        dropout_at="released",
        ice="released",
        live_factors=True,
        float32_targets=True,
        count_empty_slots=True,
        warm_momentum=False,
        train_text_proj=False,
        label_smoothing=0.0,
        divide_by_frames=True,
        beams=3,
        max_tokens=9,
        attend_padding=True,
        frame_aware_evaluation=False,
    ),
}


def switches(variant: str, **changed: Any) -> Switches:
    """The switches of a preset.

    Args:
        variant: "default" or "released".
        **changed: switches set otherwise; None leaves one as the preset has it. Choosing the cp
            core of the released preset gives up its interleaved MLP, which only tucker has.

    Raises:
        UserError: there is no such preset.
    """
    if variant not in _PRESETS:
        known = ", ".join(sorted(_PRESETS))
        raise UserError(f"variant {variant!r} is unknown; choose one of {known}.")
    given = {name: value for name, value in changed.items() if value is not None}
    if given.get("core") == "cp":
        given.setdefault("mlp_core", "per_slice")
    return replace(_PRESETS[variant], **given)
