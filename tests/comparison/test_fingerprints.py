"""A run has the same name wherever it is done and whichever later version looks for it."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import OwnData, write_own_data
from tiny_blip import save_backbone

from aurora_vl.comparison.fingerprints import completed, name_of, tell
from aurora_vl.comparison.records import Curve, TrialRecord, write_trial
from aurora_vl.comparison.trials import Runs
from aurora_vl.recipes.recipe import Recipe, load_recipe


@pytest.fixture
def own(tmp_path: Path) -> OwnData:
    return write_own_data(tmp_path / "here", save_backbone(tmp_path / "backbone"))


def recipe(data: OwnData, *settings: str) -> Recipe:
    return load_recipe(str(data.recipe), settings)


def name(data: OwnData, *settings: str) -> str:
    return name_of(tell(recipe(data, *settings)))


def moved(data: OwnData, backbone: Path, folder: Path) -> Recipe:
    """The same data and backbone elsewhere."""
    there = folder / "far" / "away"
    shutil.copytree(data.folder, there)
    shutil.copytree(backbone, folder / "model")
    places = (f"data.annotations={there}", f"data.media={there}", f"backbone={folder / 'model'}")
    return load_recipe(str(there / "recipe.yaml"), (*places, f"training.output={folder / 'x'}"))


def test_the_place_does_not_matter(own: OwnData, tmp_path: Path) -> None:
    there = moved(own, tmp_path / "backbone", tmp_path / "other")
    told = tell(there)
    assert told == tell(recipe(own))
    assert str(tmp_path) not in json.dumps(told)
    assert name(own, "data.workers=2", "comparison.trials=9") == name(own)


def test_the_contents_do(own: OwnData, tmp_path: Path) -> None:
    before = name(own)
    assert name(own, "training.seed=1") != before
    assert name(own, "data.limit=3") != before
    there = moved(own, tmp_path / "backbone", tmp_path / "other")
    copied = OwnData(tmp_path / "other" / "far" / "away")
    copied.write("train", [{"image": "train0.png", "caption": "another caption"}])
    assert name_of(tell(there)) != before
    retouched = moved(own, tmp_path / "backbone", tmp_path / "third")
    with (tmp_path / "third" / "far" / "away" / "train0.png").open("ab") as picture:
        picture.write(b"more")
    assert name_of(tell(retouched)) != before
    place = save_backbone(tmp_path / "retrained", seed=3)
    assert name(own, f"backbone={place}") != before


def test_what_came_later_stands_at_its_default(tmp_path: Path) -> None:
    """Runs kept by an earlier version are found, those of another default are not."""
    now = load_recipe("demo-retrieval")
    told = tell(now)
    earlier = copy.deepcopy(told)
    for section, key in (("adapter", "gqt_start"), ("training", "warmup"), ("data", "limit")):
        del earlier["recipe"][section][key]
    assert completed(earlier) == told
    keep(tmp_path, "other-version", earlier)
    assert Runs(tmp_path).trial("a", now).folder == tmp_path / "other-version"
    other_default = copy.deepcopy(told)
    other_default["recipe"]["training"]["warmup"] = 0.5
    shutil.rmtree(tmp_path / "other-version")
    keep(tmp_path, "other-default", other_default)
    found = Runs(tmp_path).trial("a", now)
    assert found.folder == tmp_path / name_of(told)
    assert not found.finished


def test_auroras_switches_name_no_run_of_another_method(own: OwnData, tmp_path: Path) -> None:
    """Another default for Aurora costs no run of the others, those kept with it named included."""
    core = "adapter.core=tucker"
    assert name(own, "adapter.method=lora", core) == name(own, "adapter.method=lora")
    assert name(own, core) != name(own)
    full = recipe(own, "adapter.method=full")
    told = tell(full)
    earlier = copy.deepcopy(told)
    earlier["recipe"]["adapter"] |= {"core": "tucker", "gqt": "off", "scaling": 2.0}
    keep(tmp_path, "earlier", earlier)
    assert Runs(tmp_path).trial("a", full).folder == tmp_path / "earlier"


@pytest.mark.parametrize("told", [{}, {"recipe": {"depth": 3}, "digests": {}}])
def test_a_run_that_todays_recipes_cannot_say_is_left_alone(tmp_path: Path, told: Any) -> None:
    keep(tmp_path, "odd", told)
    trial = Runs(tmp_path).trial("a", load_recipe("demo-retrieval"))
    assert not trial.finished


def keep(runs: Path, folder: str, told: Any) -> None:
    (runs / folder).mkdir()
    record = TrialRecord(
        name="a run",
        told=told,
        metrics={"r_mean": 50.0},
        baselines={},
        versions={},
        scored_split="test",
        chosen_on_scored=False,
        training_media=3,
        items=None,
        media=None,
        queries=None,
        curve=Curve(step=[], score=[]),
        adapter_bytes=0,
        machine="x86_64, 2 cores",
        seconds=1.0,
        peak_memory=None,
        interrupted=False,
        beside=0,
    )
    write_trial(runs / folder / "trial.json", record)


def test_keys_of_generation_name_no_run_that_chooses_answers(own: OwnData, tmp_path: Path) -> None:
    """Kept runs of the released preset are found whatever was written in them of generation."""
    released, beams = "variant=released", "evaluation.beams=2"
    assert name(own, released, beams) == name(own, released)
    asking = ("task=vqa", "evaluation.inference=generate", released)
    recipes = (load_recipe("demo-vqa", [*asking, *more]) for more in ((), (beams,)))
    assert len({name_of(tell(recipe)) for recipe in recipes}) == 2
    kept = tell(recipe(own, released))
    earlier = copy.deepcopy(kept)
    earlier["recipe"]["evaluation"] |= {"beams": 1, "max_tokens": 10, "attend_padding": True}
    assert completed(earlier) == kept
