"""The sections of a recipe and their keys.

The switches of a section are declared by the dataclasses that `_with_switches` names. Left out, one
is decided by the recipe's variant.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator, model_validator

from aurora_vl.methods import METHODS
from aurora_vl.objectives.switches import (
    AnsweringSwitches,
    EvaluationSwitches,
    HeadSwitches,
    RetrievalSwitches,
)
from aurora_vl.tuner.config import AuroraSwitches

S = TypeVar("S", bound="Section")
_MOST = 1_000_000  # of what a machine has to hold or do: more is a mistake


class Section(BaseModel):
    """A mapping whose unknown keys are errors; paths that begin with ~ are in the home folder."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _home_is_spelt_out(cls, value: Any) -> Any:
        return Path(os.path.expanduser(value)) if isinstance(value, Path) else value


def _with_switches(*kinds: type, **ranges: dict[str, float]) -> Callable[[type[S]], type[S]]:
    """Add the switches of some dataclasses to a section, as keys that may be left out.

    Args:
        *kinds: the dataclasses; a switch's help becomes its key's description.
        **ranges: by switch, the range a recipe may choose from, as arguments of `Field`.
    """
    keys: dict[str, Any] = {}
    for kind in kinds:
        hints = get_type_hints(kind)
        for switch in fields(kind):
            limits: Any = ranges.get(switch.name, {})
            key = Field(None, description=switch.metadata["help"], **limits)
            keys[switch.name] = (hints[switch.name] | None, key)

    def add(section: type[S]) -> type[S]:
        return create_model(
            section.__name__,
            __base__=section,
            __module__=section.__module__,
            __doc__=section.__doc__,
            **keys,
        )

    return add


@_with_switches(AuroraSwitches, scaling={"gt": 0})
class AdapterSection(Section):
    """What is trained.

    `method` is one of `aurora_vl.methods.METHODS`; `rank` left out is its usual one.
    `options` are further arguments of the method's PEFT configuration, such as `target_modules`.
    """

    method: str = "aurora"
    rank: int | None = Field(None, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    options: dict[str, Any] | None = None

    @field_validator("method")
    @classmethod
    def _method_is_known(cls, name: str) -> str:
        if name not in METHODS:
            raise ValueError(f"must be one of {', '.join(METHODS)}")
        return name


@_with_switches(
    RetrievalSwitches, HeadSwitches, AnsweringSwitches, label_smoothing={"ge": 0, "lt": 1}
)
class ObjectiveSection(Section):
    """Constants of the training losses.

    `queue` counts features kept of earlier batches, at most as many as there are training pairs;
    left out it is BLIP's, and 0 on narrow backbones (hidden size up to 256, such as the mini
    foundation), whose large learning rates make features stale within a few steps. `momentum` is
    the decay of the moving average (null: none), reached after a warm-up; `alpha` the share of soft
    targets. `answer_weight` is the weight of an answer in question answering (times its share of
    the votes), `visual_genome_weight` that of Visual Genome's.
    """

    queue: int | None = Field(None, ge=0)
    momentum: float | None = Field(0.995, ge=0, lt=1)
    alpha: float = Field(0.4, ge=0, le=1)
    answer_weight: float = Field(1.0, gt=0)
    visual_genome_weight: float = Field(0.2, gt=0)


class WorldSection(Section):
    """The generated world of `data.kind: world`; see `aurora_vl.data.synthetic.spec.WorldSpec`.

    `layout` left out is the task's usual one.
    """

    layout: str | None = None

    seed: int = Field(0, ge=0)
    style: str = "night"
    phrasing: str = "terse"
    train: int = Field(1500, ge=1)
    val: int = Field(200, ge=1)
    test: int = Field(400, ge=1)
    captions: int = Field(2, ge=1)
    questions: int = Field(4, ge=1)


class DataSection(Section):
    """Where the data lies and how it is read.

    `annotations` and `media` are folders; for `kind: world` both are made under `annotations`.
    `augmentation` is none, safe (nothing that makes a caption false) or full (flip and
    RandAugment); `crop` is the smallest share of the area a random crop keeps, 1 for no crop;
    `frames` are taken of a video; `limit` media are trained on, drawn by the run's seed, all if
    left out; `on_error` says what is done about training media that are absent or damaged: stop, or
    skip them (others are drawn in their place), count them and list them at the end. What is scored
    is never skipped. `max_words` of a text are kept, by default 30 of a picture's caption, 40 of a
    video's, 50 of a question; `max_tokens` are, by default as many as the model has positions for.

    A medium that stands in a training batch is encoded once for all that is asked of it there:
    `captions_per_item` of its captions (filled up with its first ones where they run out), or up to
    `questions_per_item` of its questions. Encoding is most of a step's work; `training.batch_size`
    then counts such groups, and 1 is as published.

    For questions: `train_on` and `scored` choose splits, left out the benchmark's usual ones;
    `visual_genome` is the folder of its pictures, whose `vg_qa.json` is then trained on too.
    """

    kind: Literal["coco", "flickr30k", "msrvtt", "didemo", "vqav2", "msrvtt-qa", "jsonl", "world"]
    annotations: Path | None = None
    media: Path | None = None
    augmentation: Literal["none", "safe", "full"] = "safe"
    crop: float = Field(0.5, gt=0, le=1)
    max_words: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=3)
    workers: int = Field(0, ge=0, le=1024)
    frames: int = Field(8, ge=1, le=_MOST)
    limit: int | None = Field(None, ge=1)
    captions_per_item: int = Field(1, ge=1)
    questions_per_item: int = Field(1, ge=1)
    on_error: Literal["stop", "skip"] = "stop"
    train_on: Literal["train", "train+val"] = "train"
    scored: Literal["val", "test", "test-dev"] | None = None
    visual_genome: Path | None = None
    world: WorldSection = WorldSection()

    @model_validator(mode="after")
    def _folders_are_named(self) -> DataSection:
        if self.kind != "world" and (self.annotations is None or self.media is None):
            raise ValueError("needs `annotations` and `media`, both folders")
        return self

    @property
    def crop_scale(self) -> tuple[float, float] | None:
        """Smallest and largest share of the area that a random crop keeps; None for no crop."""
        return None if self.crop == 1 else (self.crop, 1.0)


class TrainingSection(Section):
    """The optimisation.

    `learning_rate` left out takes the method's tuned default; `head_learning_rate`, of the heads
    beside an adapter, left out is 0.001 for narrow backbones, else `learning_rate`, for methods
    other than Aurora 0.0001 at most; `factor_rate_ratio` is the learning rate of the factors on the
    output's side (Aurora's V, LoRA's B) over that of the others. They start at zero, so at first
    they alone move, and in wide models equal rates leave the input's side behind or this one slow
    (the argument of LoRA+, arXiv 2402.12354, which takes 16 for LoRA). `warmup` is the share of all
    steps over which the learning rate rises: all maps read the same factors, whose first large
    steps otherwise move every layer the same way at once, and some seeds never recover;
    gradients are shortened to `max_gradient_norm`, a norm over all that is trained;
    `validations` counts how often a run is validated and checkpointed, the last step included;
    without `checkpoints` the last state is kept instead of the best one. `recompute` names parts
    (vision, text) whose layers are computed again in the backward pass (gradient checkpointing):
    less memory, more time, the same result.
    """

    epochs: int = Field(6, ge=1, le=_MOST)
    batch_size: int = Field(32, ge=1, le=_MOST)
    learning_rate: float | None = Field(None, gt=0)
    head_learning_rate: float | None = Field(None, gt=0)
    factor_rate_ratio: float = Field(1.0, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1)
    max_gradient_norm: float | None = Field(1.0, gt=0)
    seed: int = Field(42, ge=0, lt=2**32)  # as much as NumPy takes
    precision: Literal["float32", "bfloat16"] = "float32"
    validations: int = Field(10, ge=1)
    checkpoints: bool = True
    recompute: tuple[Literal["vision", "text"], ...] = ()
    output: Path | None = None


@_with_switches(EvaluationSwitches, beams={"ge": 1, "le": _MOST}, max_tokens={"ge": 2})
class EvaluationSection(Section):
    """`rerank` candidates go from the first stage (features) to the second (matching).

    `score` is what orders them there: itm, the matching logit alone, or itm+itc, plus the cosine.
    Between the stages the media's states wait in a temporary file (TMPDIR says where), with
    `half_states` in float16: half its size, but then near-ties may be ranked otherwise.

    Questions are answered by `inference`: rank chooses among the `rerank` answers whose first token
    is likeliest, of a list: `answer_list` (a JSON list of texts), else the data set's own, else the
    `answers` commonest of training; generate writes with `beams` (1: greedy) up to `max_tokens`.
    `metric` is vqa (the official score of ten answers) or exact; left out the data set's own.
    `split: val` scores the validation split in the test split's place, which is then not looked at.
    """

    split: Literal["test", "val"] = "test"
    rerank: int = Field(128, ge=0)
    score: Literal["itm", "itm+itc"] = "itm+itc"
    batch_size: int = Field(64, ge=1, le=_MOST)
    half_states: bool = False
    inference: Literal["rank", "generate"] = "rank"
    answer_list: Path | None = None
    answers: int = Field(3128, ge=1)
    metric: Literal["vqa", "exact"] | None = None


class ComparisonSection(Section):
    """How `aurora compare` goes about it; a single run does not look at it.

    Each method's learning rate is chosen among `trials` on validation data, each `spread` times the
    one below it, around the method's default; 1 takes the default. `search: row` chooses one for
    every row, variants too, which have their method's otherwise. `parallel` runs go side by side,
    each on one thread, but for those of the first seed, whose time is reported. On a generated
    world rates are chosen on the recipe's world seed and the result is found on `final_world`, by
    default the seed after it. Runs are kept in `runs`, by default beside the results.
    """

    trials: int = Field(4, ge=1)
    spread: float = Field(3.2, ge=1.2)  # closer rates may be the same in two digits
    search: Literal["method", "row"] = "method"
    parallel: int = Field(1, ge=1)
    final_world: int | None = Field(None, ge=0)
    runs: Path | None = None
