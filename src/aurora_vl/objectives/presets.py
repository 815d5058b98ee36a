"""The one place where a variant becomes switches.

"released" is the arithmetic of the research code (commit 1b189ae, proven by
scripts/check_golden.py); "mended" is the default: the paper's core, the code's faults put right.
What each switch does is said where it acts; docs/fidelity.md has a row for each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from aurora_vl.errors import UserError
from aurora_vl.objectives.answering import AnsweringSettings
from aurora_vl.objectives.matching import ContextEnhancement
from aurora_vl.objectives.momentum import shared_factors
from aurora_vl.objectives.retrieval import RetrievalSettings

Variant = Literal["mended", "released"]
AURORA_SWITCHES = (
    *("core", "mlp_core", "gqt", "gqt_start", "init", "dropout_at"),
    *("sharing", "scaling", "rank_stabilised"),
)
"""The switches that are arguments of `AuroraConfig`; no other method reads them."""


@dataclass(frozen=True, slots=True)
class Switches:
    """Everything in which variants and ablations differ; the defaults are the mended ones.

    Attributes:
        core, mlp_core, gqt, gqt_start, init, dropout_at, sharing, scaling, rank_stabilised: as in
            `AuroraConfig`.
        ice: informative context enhancement, as in `RetrievalSettings`.
        live_factors: the momentum copy reads the shared factors live.
        float32_targets, count_empty_slots, warm_momentum, frame_aware: as in `RetrievalSettings`.
        train_text_proj: the text projection is a trained head.
        train_temperature: so is the temperature.
        label_smoothing: as in `AnsweringSettings`.
        divide_by_frames: a video's loss is divided by its number of frames too.
        beams: of generation; 1 is greedy.
        max_tokens: generated at most; BLIP's maximum of 10 counts [DEC], which leaves 9.
        attend_padding: generation looks at the question's padding.
        frame_aware_evaluation: re-ranking scales the keys of videos as training does.
    """

    core: Literal["cp", "tucker"] = "cp"
    mlp_core: Literal["per_slice", "interleaved"] = "per_slice"
    gqt: Literal["released", "gated", "off"] = "released"
    gqt_start: Literal["zero", "normal"] = "zero"
    init: Literal["ours", "released"] = "ours"
    dropout_at: Literal["rank", "released"] = "rank"
    sharing: Literal["model", "modality", "layer"] = "model"
    scaling: float = 1.0
    rank_stabilised: bool = False
    ice: ContextEnhancement = "off"
    live_factors: bool = False
    float32_targets: bool = False
    count_empty_slots: bool = False
    warm_momentum: bool = True
    frame_aware: bool = True
    train_text_proj: bool = True
    train_temperature: bool = False
    label_smoothing: float = 0.1
    divide_by_frames: bool = False
    beams: int = 1
    max_tokens: int = 10
    attend_padding: bool = False
    frame_aware_evaluation: bool = True

    def adapter(self) -> dict[str, Any]:
        """The arguments of `AuroraConfig` among them."""
        return {name: getattr(self, name) for name in AURORA_SWITCHES}

    def retrieval(self, model: nn.Module, **constants: Any) -> RetrievalSettings:
        """Settings of the retrieval losses.

        Args:
            model: the model to be trained, adapter included; its parameter names are read.
            **constants: the settings that no variant fixes, such as `queue` and `alpha`.
        """
        return RetrievalSettings(
            ice=self.ice,
            live=shared_factors(model) if self.live_factors else (),
            float32_targets=self.float32_targets,
            count_empty_slots=self.count_empty_slots,
            warm_momentum=self.warm_momentum,
            frame_aware=self.frame_aware,
            **constants,
        )

    def answering(self, frames: int = 1) -> AnsweringSettings:
        """Settings of the question answering loss; `frames` of each medium."""
        return AnsweringSettings(self.label_smoothing, frames if self.divide_by_frames else 1)


_VARIANTS: dict[str, Switches] = {
    "mended": Switches(),
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
    """The switches of a variant.

    Args:
        variant: "mended" or "released".
        **changed: switches set otherwise; None leaves one as the variant has it. Choosing the cp
            core of the released variant gives up its interleaved MLP, which only tucker has.

    Raises:
        UserError: there is no such variant.
    """
    if variant not in _VARIANTS:
        known = ", ".join(sorted(_VARIANTS))
        raise UserError(f"variant {variant!r} is unknown; choose one of {known}.")
    given = {name: value for name, value in changed.items() if value is not None}
    if given.get("core") == "cp":
        given.setdefault("mlp_core", "per_slice")
    return replace(_VARIANTS[variant], **given)
