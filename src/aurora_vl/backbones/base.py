"""The seam: what a family of backbones must be able to do, and nothing a single one happens to do.

A family (`family.py`) loads a model, prepares media and texts for it, and wraps it as a
`DualEncoder` (retrieval) or an `AnswerModel` (questions). Training, inference and evaluation know
these classes alone.

Shapes: B media of a batch, N texts, L tokens, D features, d states, T frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, TypedDict

import numpy as np
import torch
from peft import PeftModel
from PIL import Image
from torch import Tensor, nn

from aurora_vl.data.augment import Augment

Task = Literal["retrieval", "vqa"]
Role = Literal["caption", "question", "answer"]
Part = Literal["vision", "text"]

MediaInputs = Mapping[str, Tensor]
"""What a model takes of a batch of media, as `Preprocessor.collate` gives it."""


class TextInputs(TypedDict):
    """Token ids and their mask, int64 (N, L); the mask is 0 on padding."""

    input_ids: Tensor
    attention_mask: Tensor


@dataclass(frozen=True, slots=True)
class MediaEncoding:
    """A batch of media, encoded.

    Attributes:
        features: (B, D), of unit length.
        states: (B, n, d), what a matcher reads; None where there is none.
        frame_features: (B, T, D) of videos, of unit length; None for pictures.
    """

    features: Tensor
    states: Tensor | None = None
    frame_features: Tensor | None = None


@dataclass(frozen=True, slots=True)
class TextEncoding:
    """A batch of texts, encoded.

    Attributes:
        features: (N, D), of unit length.
        states: (N, d), each text's first state; None where the family has no use for it.
    """

    features: Tensor
    states: Tensor | None = None


@dataclass(frozen=True, slots=True)
class PreparationSettings:
    """How media and texts become a model's inputs. An adapter keeps the ones it was trained with.

    Attributes:
        image_size: pixels along a side; None for the backbone's own.
        frames: taken of a video.
        crop_scale: smallest and largest share of the area that a random crop keeps in training;
            None for no crop.
        max_words: of a caption or question that are kept; None for all.
        max_tokens: of a text that are kept; None for as many as the model has positions for.
    """

    image_size: int | None = None
    frames: int = 8
    crop_scale: tuple[float, float] | None = None
    max_words: int | None = None
    max_tokens: int | None = None


class Preprocessor(ABC):
    """Turns pictures, frames and texts into a model's inputs.

    Decoding workers call `image` and `video` and hand over small items of bytes; `finish` scales
    and normalises a whole batch on the device.

    Attributes:
        frames: taken of a video.
        augments: whether `finish` can augment pixels.
    """

    frames: int
    augments: ClassVar[bool] = True

    @abstractmethod
    def image(self, picture: Image.Image, rng: np.random.Generator | None = None) -> Any:
        """An item of one RGB picture; randomly cropped if there is a generator."""

    @abstractmethod
    def video(self, frames: Iterable[Image.Image], rng: np.random.Generator | None = None) -> Any:
        """An item of a video's T frames, which share one random crop."""

    @abstractmethod
    def collate(self, items: Sequence[Any]) -> dict[str, Tensor]:
        """Items of one kind as one batch, on the host."""

    @abstractmethod
    def finish(
        self,
        media: MediaInputs,
        device: torch.device,
        dtype: torch.dtype,
        augment: Augment | None = None,
        seeds: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """A collated batch as the model takes it.

        Args:
            media: from `collate` or `blank`.
            device: where it goes.
            dtype: of the pixels.
            augment: applied to pixels in [0, 1]; training only.
            seeds: int64 (B,), one an item; needed with `augment`.
        """

    @abstractmethod
    def blank(self) -> dict[str, Tensor]:
        """A batch of one picture of the average colour, as from `collate`."""

    @abstractmethod
    def texts(self, texts: Sequence[str], role: Role) -> TextInputs:
        """Texts cleaned, cut and tokenised, padded to the longest of them."""

    @abstractmethod
    def cut(self, text: str, role: Role) -> bool:
        """Whether something of the text is cut off."""


class Matcher(ABC):
    """Reads texts together with media, whose keys are computed once for many texts."""

    @abstractmethod
    def keys(self, states: Tensor) -> Any:
        """Keys of media states (B, n, d)."""

    @abstractmethod
    def fuse(self, texts: TextInputs, runs: Sequence[tuple[int, Any]]) -> Tensor:
        """The first fused state (N, d) of each text.

        Args:
            texts: N texts.
            runs: the number of texts and their keys, run by run; each row of a run's keys serves
                as many consecutive texts as the others.
        """

    @abstractmethod
    def classify(self, fused: Tensor) -> Tensor:
        """Matching logits (N, 2) of fused states; index 1 is a match."""

    @abstractmethod
    def scaled(self, keys: Any, similarity: Tensor) -> Any:
        """Keys of videos whose frames weigh by their likeness to a text.

        Args:
            keys: of R videos.
            similarity: (R, T), of each row's text with the frames.
        """

    @abstractmethod
    def match(
        self,
        states: Tensor,
        texts: TextInputs,
        lengths: Tensor,
        similarity: Tensor | None = None,
    ) -> Tensor:
        """Matching logits of one medium with N texts, (N,) in float64 on the host.

        Args:
            states: (1, n, d).
            texts: N texts, on the model's device.
            lengths: (N,), tokens of each text, on the host.
            similarity: (N, T) of each text with the video's frames, where they weigh the frames.
        """


class DualEncoder(ABC):
    """A retrieval model: media and texts as features that are compared by their cosine.

    Attributes:
        model: the backbone, or a PEFT model around it.
        matcher: the second stage; None for a family without one.
        width: D, of the features.
        contrastive: the loss that the model was trained by, and is tuned by.
    """

    model: nn.Module
    matcher: Matcher | None
    width: int
    contrastive: Literal["softmax", "sigmoid"] = "softmax"

    @abstractmethod
    def encode_media(self, media: MediaInputs, *, features_only: bool = False) -> MediaEncoding:
        """Encode a batch of pictures or videos; with `features_only` without states."""

    @abstractmethod
    def encode_texts(self, texts: TextInputs) -> TextEncoding:
        """Encode a batch of texts."""

    @abstractmethod
    def encode_pairs(
        self,
        media: MediaInputs,
        texts: TextInputs,
        *,
        features_only: bool = False,
        call: Callable[..., Any] | None = None,
    ) -> tuple[MediaEncoding, TextEncoding]:
        """Encode both in one call of the model, as training does.

        Args:
            media: of a batch.
            texts: of the same batch.
            features_only: as in `encode_media`.
            call: what is called in place of the model, with the model's arguments.
        """

    @abstractmethod
    def frame_features(self, states: Tensor, frames: int) -> Tensor:
        """Each frame's features (B, T, D) of the states of videos of T frames."""

    @abstractmethod
    def logit_scale(self) -> tuple[Tensor, ...]:
        """The tensors that turn cosines into logits: a temperature, or scale and bias."""

    @abstractmethod
    def logits(self, queries: Tensor, candidates: Tensor, scale: Sequence[Tensor]) -> Tensor:
        """Logits of the cosines of (Q, D) and (C, D), by what `logit_scale` gave."""


class RankedAnswers(NamedTuple):
    """The top candidates of each question, the best first.

    Attributes:
        candidates: (N, K) indices into the answer list.
        log_likelihoods: (N, K), falling.
    """

    candidates: Tensor
    log_likelihoods: Tensor


class AnswerModel(ABC):
    """A model that answers questions about media.

    Attributes:
        model: the backbone, or a PEFT model around it.
        mixes_adapters: whether each medium of a batch may have an adapter of its own, which needs
            as many rows of each in every layer.
    """

    model: nn.Module
    mixes_adapters: ClassVar[bool] = True

    @abstractmethod
    def encode_media(self, media: MediaInputs) -> Any:
        """What is read of B media, computed once for all questions about them."""

    @abstractmethod
    def select(self, media: Any, rows: Sequence[int]) -> Any:
        """Some of the encoded media, in that order; one may come several times."""

    @abstractmethod
    def prepare(
        self,
        media: Any,
        questions: TextInputs,
        owners: Sequence[int],
        *,
        attend_padding: bool = False,
    ) -> Any:
        """Questions read with their media: what answers are conditioned on.

        Args:
            media: from `encode_media`.
            questions: N questions.
            owners: the medium of each question, ascending.
            attend_padding: answers look at the questions' padding too.
        """

    @abstractmethod
    def answer_losses(
        self,
        media: MediaInputs,
        questions: TextInputs,
        question_owners: Tensor | None,
        answers: TextInputs,
        answer_owners: Tensor,
        label_smoothing: float,
    ) -> Tensor:
        """Negative log-likelihood of each of S answers, summed over its tokens, with a gradient.

        Args:
            media: B media.
            questions: N questions.
            question_owners: (N,) the medium of each; None where they are as many.
            answers: S answers.
            answer_owners: (S,) the question of each.
            label_smoothing: share of each target spread over the vocabulary.
        """

    @abstractmethod
    def rank(self, context: Any, candidates: TextInputs, top: int) -> RankedAnswers:
        """Choose from a list of answers.

        The `top` candidates whose first token is likeliest are ranked by the log-likelihood of the
        whole answer; those with the same first token are taken in the order of the list.
        """

    @abstractmethod
    def generate(self, context: Any, beams: int, max_tokens: int) -> tuple[Tensor, Tensor]:
        """Write an answer to each question.

        Returns:
            ids (N, A) of the words alone, padded, and their log-likelihoods (N,).
        """


def base_model(model: nn.Module) -> nn.Module:
    """The backbone itself, or the one inside a PEFT model, with the adapter's layers in it."""
    inner: nn.Module = model.get_base_model() if isinstance(model, PeftModel) else model
    return inner
