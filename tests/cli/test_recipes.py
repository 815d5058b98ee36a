from __future__ import annotations

import pytest
from command_line import Aurora

from aurora_vl.recipes.recipe import bundled_recipes, load_recipe


def test_bare_names_one_a_line(aurora: Aurora) -> None:
    outcome = aurora("recipes")
    assert outcome.status == 0
    assert outcome.out.splitlines() == bundled_recipes()
    assert {"coco", "flickr30k", "demo-retrieval"} <= set(outcome.out.split())


@pytest.mark.parametrize("name", bundled_recipes())
def test_every_bundled_recipe_is_valid(name: str) -> None:
    assert load_recipe(name).output.name == name


@pytest.mark.parametrize(
    ("name", "learning_rate", "epochs", "rerank"),
    [("coco", 1e-5, 6, 256), ("flickr30k", 1e-4, 4, 128)],
)
def test_released_hyper_parameters(
    name: str, learning_rate: float, epochs: int, rerank: int
) -> None:
    recipe = load_recipe(name)
    assert recipe.training.learning_rate == learning_rate
    assert (recipe.training.epochs, recipe.training.batch_size) == (epochs, 16)
    assert (recipe.image_size, recipe.evaluation.rerank) == (384, rerank)
    assert (recipe.adapter.rank, recipe.adapter.core) == (32, "tucker")


@pytest.mark.parametrize("name", ["msrvtt", "didemo"])
def test_released_hyper_parameters_of_videos(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.task == "video-retrieval"
    training = recipe.training
    assert (training.learning_rate, training.epochs, training.batch_size) == (1e-4, 5, 8)
    assert (recipe.image_size, recipe.data.frames, recipe.evaluation.rerank) == (224, 8, 128)
    assert (recipe.adapter.rank, recipe.max_words) == (64, 40)


def test_released_hyper_parameters_of_questions() -> None:
    pictures, videos = load_recipe("vqav2"), load_recipe("msrvtt-qa")
    for recipe, batch, size in ((pictures, 16, 384), (videos, 12, 224)):
        training = recipe.training
        assert (training.learning_rate, training.epochs, training.batch_size) == (2e-5, 5, batch)
        assert (recipe.image_size, recipe.adapter.rank, recipe.max_words) == (size, 32, 50)
    assert (pictures.evaluation.inference, pictures.evaluation.rerank) == ("rank", 128)
    assert pictures.data.train_on == "train+val"
    assert (videos.evaluation.inference, videos.objective.answer_weight) == ("generate", 0.05)
    assert videos.data.frames == 8
