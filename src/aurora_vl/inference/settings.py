"""How a tuned model is used: preprocessing, answers and what it was trained on.

These settings lie in the adapter's own folder, so that a copied or published adapter decodes, cuts
and answers as it was trained. An Aurora adapter has them in its adapter_config.json, which PEFT
saves and publishes with it; others have them in aurora.json. Folders of earlier versions have
neither; for them the recipe.yaml that train wrote beside the folder is read.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import yaml
from peft import PeftModel
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from aurora_vl.backbones.base import PreparationSettings, base_model
from aurora_vl.errors import UserError
from aurora_vl.tuner.config import AuroraConfig
from aurora_vl.utils.atomic import write_text

FILE = "aurora.json"
_EARLIER_TOKENS = 35  # of a text that earlier versions kept, whatever their recipes said
Score = Literal["itm", "itm+itc"]
Inference = Literal["rank", "generate"]


class TrainedOn(BaseModel):
    """What an adapter was trained on.

    Attributes:
        kind: the layout, `data.kind`.
        annotations: a digest of where the annotations lay, to tell data sets of one layout apart.
        questions: `data.train_on` of question answering.
        seed: of the run, which drew the validation media where a layout has none.
    """

    model_config = ConfigDict(frozen=True)

    kind: str | None = None
    annotations: str | None = None
    questions: str | None = None
    seed: int | None = None


class AdapterSettings(BaseModel):
    """Everything that using an adapter needs beside its weights; None leaves the usual value.

    Attributes:
        task: of the recipe.
        backbone: the name it was trained over.
        image_size: pixels along a side.
        frames: taken of a video.
        max_words, max_tokens: of a caption or question that are kept.
        score: what orders matched candidates: the matching logit alone or plus the cosine.
        frame_aware: whether matching weighs a video's frames by their likeness to the text.
        inference: whether answers are chosen from a list or written.
        answers: the list.
        top: candidates that are ranked, those whose first token is likeliest.
        beams: of generation; 1 is greedy.
        max_answer_tokens: generated at most, [SEP] included.
        attend_padding: generation looks at the question's padding, as released.
        trained_on: see there.
    """

    model_config = ConfigDict(frozen=True)

    task: str | None = None
    backbone: str | None = None
    image_size: int | None = None
    frames: int | None = None
    max_words: int | None = None
    max_tokens: int | None = None
    score: Score = "itm+itc"
    frame_aware: bool = True
    inference: Inference = "generate"
    answers: tuple[str, ...] = ()
    top: int = 128
    beams: int = 1
    max_answer_tokens: int = 10
    attend_padding: bool = False
    trained_on: TrainedOn = TrainedOn()

    @property
    def in_use(self) -> AdapterSettings:
        """Without where it comes from: equal for adapters that are used alike."""
        return self.model_copy(update={"backbone": None, "trained_on": TrainedOn()})

    def preparation(self, crop_scale: tuple[float, float] | None = None) -> PreparationSettings:
        """As a family's preprocessor takes them."""
        return PreparationSettings(
            image_size=self.image_size,
            frames=self.frames or PreparationSettings().frames,
            crop_scale=crop_scale,
            max_words=self.max_words,
            max_tokens=self.max_tokens,
        )


def place_digest(annotations: object) -> str:
    """A digest of where annotations lie, which tells nothing of the machine."""
    return hashlib.sha256(str(annotations).encode()).hexdigest()[:16]


def read_settings(folder: Path) -> AdapterSettings:
    """The settings of an adapter's folder, or of a fully tuned model's.

    Raises:
        UserError: a file that holds them cannot be read.
    """
    path = folder / FILE
    if path.is_file():
        return _validated(read_json(path), path)
    config = folder / "adapter_config.json"
    if config.is_file():
        usage = read_json(config).get("usage")
        if usage is not None:
            return _validated(usage, config)
    return _of_recipe(stored_recipe(folder.resolve().parent))


def attach_settings(model: nn.Module, settings: AdapterSettings) -> bool:
    """Let PEFT save the settings with an Aurora adapter.

    Returns:
        False where the adapter's configuration has no place for them.
    """
    config = model.peft_config["default"] if isinstance(model, PeftModel) else None
    if not isinstance(config, AuroraConfig):
        return False
    config.usage = settings.model_dump(mode="json", exclude_defaults=True)
    return True


def save_tuned(model: nn.Module, folder: Path, settings: AdapterSettings, tokenizer: Any) -> None:
    """Write what was trained with its settings: the adapter and heads, or the whole model.

    Args:
        model: a PEFT model, or a backbone that was tuned itself.
        folder: where to.
        settings: see `AdapterSettings`.
        tokenizer: the backbone's, saved beside a whole model.
    """
    attached = attach_settings(model, settings)
    if isinstance(model, PeftModel):
        model.peft_config["default"].base_model_name_or_path = settings.backbone
        model.save_pretrained(str(folder), save_embedding_layers=False)
    else:
        whole: Any = base_model(model)
        whole.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))
    if not attached:
        write_settings(folder, settings)


def write_settings(folder: Path, settings: AdapterSettings) -> None:
    """Write the settings into a folder that no adapter's configuration carries them in."""
    content = settings.model_dump(mode="json", exclude_defaults=True)
    write_text(folder / FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def stored_recipe(run: Path) -> dict[str, Any]:
    """What recipe.yaml in a run's folder holds, as plain values; nothing where there is none.

    Raises:
        UserError: it cannot be read.
    """
    path = run / "recipe.yaml"
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
    else:
        if isinstance(recipe, dict):
            return recipe
        reason = "it holds no keys and values"
    raise UserError(f"{path}, a run's recipe, cannot be read ({reason}); mend or remove it.")


def _of_recipe(recipe: dict[str, Any]) -> AdapterSettings:
    """What a run's recipe tells of its adapter; the usual values where it says something odd."""
    data, training = _section(recipe, "data"), _section(recipe, "training")
    annotations = data.get("annotations")
    given = {
        "image_size": recipe.get("image_size"),
        "frames": data.get("frames"),
        "max_words": data.get("max_words"),
        "max_tokens": data.get("max_tokens", _EARLIER_TOKENS) if data else None,
        "trained_on": {
            "kind": data.get("kind"),
            "annotations": None if annotations is None else place_digest(annotations),
            "questions": data.get("train_on"),
            "seed": training.get("seed"),
        },
    }
    try:
        return AdapterSettings.model_validate(given)
    except ValidationError:
        return AdapterSettings()


def _section(recipe: dict[str, Any], name: str) -> dict[str, Any]:
    found = recipe.get(name)
    return found if isinstance(found, dict) else {}


def read_json(path: Path) -> dict[str, Any]:
    """The keys and values of a file in an adapter's folder.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); give the folder that train wrote."
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no keys and values; give the folder that train wrote.")
    return content


def _validated(content: Any, path: Path) -> AdapterSettings:
    try:
        return AdapterSettings.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{path}: the setting {key!r} is of no use ({first['msg']}); give the folder that "
            "train wrote."
        ) from None
