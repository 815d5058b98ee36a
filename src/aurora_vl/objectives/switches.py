"""The switches of losses, heads and scoring, with their defaults and their documentation.

Those of the adapter are in `aurora_vl.tuner.config.AuroraSwitches`. The help of a switch is what
docs/recipes.md says about its key.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aurora_vl.objectives.matching import ContextEnhancement


@dataclass
class RetrievalSwitches:
    """Switches of the retrieval losses."""

    ice: ContextEnhancement = field(
        default="off",
        metadata={
            "help": "retrieval: informative context enhancement, `off`, `released`, `symmetric` or "
            "`adaptive`"
        },
    )
    live_factors: bool = field(
        default=False,
        metadata={"help": "retrieval: the moving average uses the current shared factors"},
    )
    float32_targets: bool = field(
        default=False, metadata={"help": "retrieval: hard targets are rounded to float32"}
    )
    count_empty_slots: bool = field(
        default=False, metadata={"help": "retrieval: empty slots of the queue count as negatives"}
    )
    warm_momentum: bool = field(
        default=True, metadata={"help": "retrieval: the moving average follows faster at first"}
    )
    frame_aware: bool = field(
        default=True,
        metadata={"help": "video retrieval: frames that match the text get more attention"},
    )


@dataclass
class HeadSwitches:
    """Which parts of a retrieval backbone are trained whole."""

    train_text_proj: bool = field(
        default=True, metadata={"help": "retrieval: whether the text projection is trained"}
    )
    train_temperature: bool = field(
        default=False, metadata={"help": "retrieval: whether the temperature is trained"}
    )


@dataclass
class AnsweringSwitches:
    """Switches of the question answering loss."""

    label_smoothing: float = field(
        default=0.1,
        metadata={"help": "questions: share of each target spread over the vocabulary"},
    )
    divide_by_frames: bool = field(
        default=False,
        metadata={
            "help": "questions about videos: the loss is also divided by the number of frames"
        },
    )


@dataclass
class EvaluationSwitches:
    """Switches of scoring."""

    beams: int = field(default=1, metadata={"help": "beams of `generate`; 1: greedy"})
    max_tokens: int = field(
        default=10,  # BLIP's maximum of 10 counts [DEC], which leaves 9
        metadata={"help": "tokens that `generate` writes at most, including the end token"},
    )
    attend_padding: bool = field(
        default=False, metadata={"help": "`generate` attends to the padding of the question"}
    )
    frame_aware_evaluation: bool = field(
        default=True,
        metadata={"help": "re-ranking uses frame-aware attention, as training does"},
    )
