"""What all contenders of a job get alike: backbone, batch, rank, device.

Speed does not depend on what the weights are, so `base` has BLIP-base's shapes with random ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate.utils import send_to_device
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import BlipConfig

from aurora_vl.backbones.base import PreparationSettings
from aurora_vl.backbones.blip.modeling import HEADS, BlipForRetrieval
from aurora_vl.backbones.families import family_of_model, load, load_config, load_tokenizer
from aurora_vl.backbones.folders import MINI
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.inference.loading import TunedModel
from aurora_vl.inference.media import Batch, batches, item_of_record
from aurora_vl.inference.settings import AdapterSettings
from aurora_vl.tuner.config import AuroraConfig
from aurora_vl.tuner.targets import DEFAULT_TARGETS

BASE = "base"
_BASE_SIZE = 224
_LENGTHS = (9, 12, 14, 11, 13, 10, 15, 12)  # tokens of captions in turn, 12 in the mean
_CLS, _SEP, _FIRST_WORD = 101, 102, 999  # as in bert-base-uncased


@dataclass(frozen=True, slots=True)
class Setup:
    """A job's size.

    Attributes:
        backbone: "base" (BLIP-base's shapes, random weights), "mini" or a folder.
        image_size: pixels along a side; None for 224 of "base", else for the backbone's own.
        batch: pairs of a step.
        frames: of videos in the pictures' place; 0 for pictures.
        rank: of Aurora and of LoRA.
        queue: features kept of earlier batches.
        items: size of a job that has one, such as pictures of a gallery.
        device: as torch names it.
    """

    backbone: str = BASE
    image_size: int | None = None
    batch: int = 4
    frames: int = 0
    rank: int = 32
    queue: int = 57_600
    items: int = 0
    device: str = "cpu"

    @property
    def torch_device(self) -> torch.device:
        """The device itself."""
        return torch.device(self.device)

    def config(self) -> BlipConfig:
        """The backbone's configuration at the job's image size."""
        if self.backbone == BASE:
            return load_config("blip-base", image_size=self.image_size or _BASE_SIZE)
        return load_config(self.backbone, image_size=self.image_size)

    def model(self) -> BlipForRetrieval:
        """A frozen backbone in evaluation mode, the same at every call."""
        torch.manual_seed(0)
        if self.backbone == BASE:
            with torch.device("meta" if self.device == "meta" else "cpu"):
                model = BlipForRetrieval(self.config())
        else:
            model = load(self.backbone, image_size=self.image_size)
        return model.to(self.torch_device).requires_grad_(False).eval()

    def with_aurora(
        self,
        *,
        gqt: Literal["released", "gated", "off"] = "released",
        heads: bool = True,
        start: bool = True,
    ) -> PeftModel:
        """The backbone with an Aurora adapter.

        Args:
            gqt: the query gate.
            heads: whether the heads are trained too.
            start: start as the frozen model; False changes it, for comparisons of outputs.
        """
        saved = list(HEADS) if heads else None
        config = AuroraConfig(r=self.rank, gqt=gqt, modules_to_save=saved, init_weights=start)
        return self._placed(get_peft_model(self.model(), config))

    def with_lora(self) -> PeftModel:
        """The backbone with PEFT's LoRA of the same rank on the same maps."""
        targets = list(DEFAULT_TARGETS["blip"])
        config = LoraConfig(r=self.rank, target_modules=targets, modules_to_save=list(HEADS))
        return self._placed(get_peft_model(self.model(), config))

    def _placed(self, model: PeftModel) -> PeftModel:
        return model.to(self.torch_device).eval()

    def pairs(self, count: int | None = None) -> dict[str, Any]:
        """Random pictures or videos with captions of natural length, for a `RetrievalTask`."""
        count = count or self.batch
        config = self.config()
        size = config.vision_config.image_size
        generator = torch.Generator().manual_seed(1)
        ids, mask = captions(count, config.text_config.vocab_size, generator)
        shape = (count, self.frames, 3, size, size) if self.frames else (count, 3, size, size)
        made: dict[str, Any] = {
            "media": {"pixel_values": torch.randn(shape, generator=generator)},
            "texts": {"input_ids": ids, "attention_mask": mask},
            "media_index": torch.arange(count),
        }
        return moved(made, self.torch_device)


def in_use(model: nn.Module) -> TunedModel:
    """A model as inference takes one, with the bundled tokenizer."""
    family = family_of_model(model)
    return TunedModel(model, family, MINI, load_tokenizer(MINI), {}, {None: AdapterSettings()})


def prepared(
    tuned: TunedModel, records: Sequence[CaptionedMedia], batch_size: int, device: torch.device
) -> Iterator[dict[str, Tensor]]:
    """The records' media as the model takes them, batch by batch."""
    preprocessor = tuned.preprocessor(PreparationSettings())
    for batch in batches(map(item_of_record, records), preprocessor, batch_size):
        assert isinstance(batch, Batch)  # errors are raised
        yield preprocessor.finish(batch.media, device, torch.float32)


def moved(batch: dict[str, Any], device: str | torch.device) -> dict[str, Any]:
    """A batch on a device, its media and texts too."""
    found: dict[str, Any] = send_to_device(batch, device)
    return found


def captions(count: int, vocabulary: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random captions of natural length: ids and mask (count, longest)."""
    lengths = torch.tensor([_LENGTHS[i % len(_LENGTHS)] for i in range(count)])
    first = min(_FIRST_WORD, vocabulary // 2)
    ids = torch.randint(first, vocabulary - 2, (count, int(lengths.max())), generator=generator)
    places = torch.arange(ids.shape[1])[None]
    ids[:, 0] = min(_CLS, first)
    ids[places == lengths[:, None] - 1] = min(_SEP, first)
    mask = (places < lengths[:, None]).long()
    return ids * mask, mask
