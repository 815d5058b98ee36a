"""Chat models of transformers that see, as a family: questions about pictures and videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
from torch import nn
from transformers import AutoModelForImageTextToText
from transformers.modeling_layers import GradientCheckpointingLayer

from aurora_vl.backbones.base import Part, PreparationSettings, Role, Task
from aurora_vl.backbones.chat import loading
from aurora_vl.backbones.chat.answer_model import ChatAnswerModel
from aurora_vl.backbones.chat.preparation import ChatPreprocessor, padding_id, squeezed
from aurora_vl.backbones.chat.prompt import prompt_of
from aurora_vl.backbones.family import Family, ModuleNames
from aurora_vl.errors import UserError


class ChatFamily(Family):
    """SmolVLM, Qwen2.5-VL, Qwen3-VL, LLaVA-OneVision and InternVL, for questions."""

    name = "chat"
    model_types = frozenset({"smolvlm", "qwen2_5_vl", "qwen3_vl", "llava_onevision", "internvl"})
    heads = ()
    temperature = ()
    modules: ClassVar = ModuleNames(
        norms=(r".*norm\d?", r".*layernorm_\w+"),
        second_of_mlp=r".*\.(fc2|down_proj|linear_fc2)",
        all_maps=r"model\.(?!.*patch_embed).*\.(\w*proj|qkv|proj|fc1|fc2|linear_fc1|linear_fc2)",
        before_vocabulary=None,
    )

    def load(self, name: str, task: Task, image_size: int | None, dtype: torch.dtype) -> nn.Module:
        """As in `Family`."""
        _require(name, task, image_size)
        return loading.load_model(name, dtype)

    def load_config(self, name: str, image_size: int | None) -> Any:
        """As in `Family`."""
        _require(name, "vqa", image_size)
        return loading.load_config(name)

    def empty_model(self, task: Task, config: Any) -> nn.Module:
        """As in `Family`."""
        _require(config.name_or_path or config.model_type, task, None)
        model: nn.Module = AutoModelForImageTextToText.from_config(config)
        return model

    def tokenizer(self, name: str) -> Any:
        """The processor, which has the tokenizer in it."""
        return loading.load_processor(name)

    def preprocessor(
        self, model: nn.Module, tokenizer: Any, settings: PreparationSettings
    ) -> ChatPreprocessor:
        """As in `Family`."""
        config: Any = model.config
        return ChatPreprocessor(tokenizer, config, settings)

    def cleaned(self, text: str, role: Role, max_words: int | None) -> str:
        """As in `Family`; the text's words with single blanks."""
        return text if role == "answer" else squeezed(text, max_words)

    def image_size(self, config: Any) -> int:
        """The vision encoder's own; 0 where it takes any."""
        size = getattr(config.vision_config, "image_size", 0)
        return int(size if isinstance(size, int) else size[0])

    def width(self, config: Any) -> int:
        """The language model's hidden size."""
        return int(config.text_config.hidden_size)

    def trained_heads(self, task: Task, *, text_projection: bool, temperature: bool) -> list[str]:
        """None: the head is the vocabulary's."""
        return []

    def layers(self, model: nn.Module, part: Part) -> list[nn.Module]:
        """As in `Family`."""
        return [
            module
            for name, module in model.named_modules()
            if isinstance(module, GradientCheckpointingLayer)
            and (part == "vision") == ("vis" in name)
        ]

    def dual_encoder(self, model: nn.Module) -> NoReturn:
        """Refused: chat models have no features to compare.

        Raises:
            UserError: always.
        """
        raise _no_retrieval(type(model).__name__)

    def answer_model(self, model: nn.Module, tokenizer: Any) -> ChatAnswerModel:
        """As in `Family`."""
        return ChatAnswerModel(model, prompt_of(tokenizer, 1).end, padding_id(tokenizer))

    def save_merged(self, model: nn.Module, task: Task, name: str, folder: Path) -> str:
        """As in `Family`."""
        merged: Any = model
        merged.save_pretrained(folder)
        self.tokenizer(name).save_pretrained(folder)
        return type(model).__name__


def _require(name: str, task: Task, image_size: int | None) -> None:
    """Refuse what chat models cannot do, before anything is loaded.

    Raises:
        UserError: retrieval, or an image size.
    """
    if task == "retrieval":
        raise _no_retrieval(name)
    if image_size is not None:
        raise UserError(
            f"image_size is not for the chat model {name}, whose preprocessor_config.json sets "
            "the size of pictures; leave it out"
        )


def _no_retrieval(name: str) -> UserError:
    return UserError(
        f"{name} is a chat model, which answers questions and has no features to search by; give "
        "a BLIP for retrieval, or a task of questions (vqa, video-qa)"
    )
