"""Which recipes a comparison runs; nothing is run here."""

from __future__ import annotations

from pathlib import Path

import pytest

from aurora_vl.comparison.method_rows import parse_rows
from aurora_vl.comparison.study import Study, conduct, make_study
from aurora_vl.errors import UserError
from aurora_vl.recipes.recipe import Recipe
from aurora_vl.training.tasks import KINDS


def study(methods: str, *settings: str, out: Path = Path("out")) -> Study:
    return make_study("demo-retrieval", parse_rows(methods), seeds=2, out=out, settings=settings)


def test_rates_are_chosen_on_other_data_than_the_result() -> None:
    made = study("lora")
    search = made.recipe(made.rows[0], final=False, rate=0.5)
    final = made.recipe(made.rows[0], final=True, seed=2, rate=0.5)
    assert (search.data.world.seed, search.evaluation.split, search.training.seed) == (0, "val", 0)
    assert (final.data.world.seed, final.evaluation.split, final.training.seed) == (1, "test", 2)
    assert search.data.annotations != final.data.annotations
    kept = made.base.training.validations
    assert (search.training.validations, final.training.validations) == (1, kept)
    assert search.training.learning_rate == final.training.learning_rate == 0.5
    other = study("lora", "data.world.seed=7", "comparison.final_world=3")
    assert other.recipe(other.rows[0], final=True).data.world.seed == 3
    assert other.recipe(other.rows[0], final=False).data.world.seed == 7


def test_the_recipes_own_method_keeps_its_settings_and_others_their_usual_ones() -> None:
    made = study("aurora,lora,lora+rank=1", "adapter.dropout=0.2")
    aurora, lora, small = (made.recipe(row, final=True) for row in made.rows)
    assert (aurora.adapter.rank, aurora.adapter.core) == (32, "cp")
    assert aurora.training.learning_rate == 1e-2
    assert (lora.adapter.rank, small.adapter.rank) == (4, 1)
    assert lora.training.learning_rate == 5e-3
    assert {r.adapter.dropout for r in (aurora, lora, small)} == {0.2}
    assert {r.training.epochs for r in (aurora, lora, small)} == {6}
    assert {r.training.head_learning_rate for r in (aurora, lora, small)} == {1e-3}
    assert aurora.data == lora.data == small.data


def test_what_is_set_for_all_rows_holds_for_every_method() -> None:
    made = study("aurora,lora,ia3", "adapter.rank=8", "training.head_learning_rate=1e-4")
    aurora, lora, ia3 = (made.recipe(row, final=True) for row in made.rows)
    assert (aurora.adapter.rank, lora.adapter.rank, ia3.adapter.rank) == (8, 8, None)
    assert {r.training.head_learning_rate for r in (aurora, lora, ia3)} == {1e-4}
    assert lora.training.learning_rate == 5e-3


def test_variants_use_their_methods_search() -> None:
    made = study("aurora+gqt=off,lora,lora+learning_rate=0.1,none")
    names = [found and found.name for found in map(made.searched, made.rows)]
    assert names == ["aurora", "lora", None, None]
    assert [made.final_seeds(row) for row in made.rows] == [[1, 2], [1, 2], [1, 2], [1]]
    each = study("aurora+gqt=off,lora,none", "comparison.search=row")
    names = [found and found.name for found in map(each.searched, each.rows)]
    assert names == ["aurora+gqt=off", "lora", None]
    fixed = made.recipe(made.rows[2], final=True, rate=0.7)
    assert fixed.training.learning_rate == 0.1


def test_a_run_is_named_by_what_it_computes(tmp_path: Path) -> None:
    """Neither where it lies nor how the comparison goes about it changes its name."""
    made = study("aurora,lora")
    again = study("lora", "comparison.parallel=2", "comparison.trials=1", out=tmp_path)
    one = made.runs.trial("a", made.recipe(made.rows[1], final=True, seed=1))
    same = again.runs.trial("b", again.recipe(again.rows[0], final=True, seed=1))
    assert one.folder.name == same.folder.name
    assert one.folder.parent == Path("out/runs")
    assert one.recipe.output == one.folder / "run"
    others = [
        made.runs.trial("c", made.recipe(made.rows[1], final=True, seed=2)),
        made.runs.trial("d", made.recipe(made.rows[1], final=False, seed=1)),
        made.runs.trial("e", made.recipe(made.rows[0], final=True, seed=1)),
    ]
    assert len({trial.folder for trial in (one, *others)}) == 4


@pytest.mark.parametrize(
    ("methods", "settings", "words"),
    [
        ("lora,c3a+options={block_size: 100}", [], "adapter.method c3a does not fit the backbone"),
        ("aurora+core=maybe", [], "adapter.core"),
        ("aurora", ["comparison.final_world=0"], "comparison.final_world is 0, the world that"),
        ("aurora", ["comparison.trails=3"], "unknown key 'comparison.trails'"),
    ],
)
def test_what_cannot_work_is_said_before_anything_runs(
    tmp_path: Path, methods: str, settings: list[str], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        conduct(study(methods, *settings, out=tmp_path / "out"))
    assert words in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("task", "row", "key"),
    [
        ("retrieval", "aurora+frame_aware=false", "objective.frame_aware"),
        ("retrieval", "aurora+label_smoothing=0", "objective.label_smoothing"),
        ("video-retrieval", "lora+inference=generate", "evaluation.inference"),
        ("vqa", "aurora+ice=released", "objective.ice"),
        ("vqa", "aurora+divide_by_frames=true", "objective.divide_by_frames"),
        ("video-qa", "aurora+score=itm", "evaluation.score"),
    ],
)
def test_a_row_of_another_task_is_refused(task: str, row: str, key: str) -> None:
    with pytest.raises(UserError) as caught:
        make_study(f"demo-{task}", parse_rows(f"aurora,{row}"), seeds=1, out=Path("out"))
    assert str(caught.value) == (
        f"--methods: {row!r} sets {key}, which the task {task} does not read; "
        "leave it out of this row."
    )


def test_keys_that_one_task_reads_are_keys() -> None:
    keys = {
        f"{section}.{key}"
        for section in ("objective", "evaluation")
        for key in Recipe.model_fields[section].annotation.model_fields
    }
    for kind in KINDS.values():
        assert kind.own_keys <= keys
