"""Recipes: what a file may say, what is filled in, and the sentence for each mistake."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from aurora_vl.backbones.blip.architectures import published_config
from aurora_vl.backbones.blip.loading import find_backbone
from aurora_vl.errors import UserError
from aurora_vl.methods import METHODS
from aurora_vl.objectives.presets import switches
from aurora_vl.recipes.recipe import bundled_recipes, load_recipe, save_recipe
from aurora_vl.utils.atomic import write_text

OWN = "data: {kind: jsonl, annotations: notes, media: pictures}\n"


def refused(path: Path, text: str, *settings: str) -> str:
    """The sentence about a recipe's text; it begins with the file unless it is about a setting."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_recipe(str(path), settings)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence.replace(str(path), "FILE")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.yaml"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            OWN + "trainig: {}\n",
            "FILE: unknown key 'trainig'; known there: adapter, backbone, comparison, data, "
            "evaluation, image_size, objective, task, training, variant.",
        ),
        (
            OWN + "evaluation: {re_rank: 3}\n",
            "FILE: unknown key 'evaluation.re_rank'; known there: answer_list, answers, "
            "attend_padding, batch_size, beams, frame_aware_evaluation, half_states, inference, "
            "max_tokens, metric, rerank, score, split.",
        ),
        (
            "data: {kind: world, world: {sead: 1}}\n",
            "FILE: unknown key 'data.world.sead'; known there: captions, layout, phrasing, "
            "questions, seed, style, test, train, val.",
        ),
        ("task: retrieval\n", "FILE: the key 'data' is missing."),
        (
            "data: {annotations: a, media: b}\n",
            "FILE: the key 'data.kind' is missing.",
        ),
        (
            "data: {kind: jsonl}\n",
            "FILE: 'data': needs `annotations` and `media`, both folders.",
        ),
        (
            OWN + "training: {epochs: many}\n",
            "FILE: 'training.epochs': input should be a valid integer, unable to parse string as "
            "an integer, not 'many'.",
        ),
        (
            OWN + "training: {epochs: 0}\n",
            "FILE: 'training.epochs': input should be greater than or equal to 1, not 0.",
        ),
        (
            OWN + "training: {seed: 4294967296}\n",
            "FILE: 'training.seed': input should be less than 4294967296, not 4294967296.",
        ),
        (
            OWN + "training: {epochs: 2.5}\n",
            "FILE: 'training.epochs': input should be a valid integer, got a number with a "
            "fractional part, not 2.5.",
        ),
        (
            OWN + "adapter: {dropout: 1}\n",
            "FILE: 'adapter.dropout': input should be less than 1, not 1.",
        ),
        (
            OWN + "adapter: {method: lara}\n",
            "FILE: 'adapter.method': must be one of " + ", ".join(METHODS) + ", not 'lara'.",
        ),
        (
            OWN + "training: {learning_rate: .nan}\n",
            "FILE: 'training.learning_rate': input should be a finite number, not nan.",
        ),
        (
            OWN + "adapter: aurora\n",
            "FILE: 'adapter': input should be a section of keys and values, not 'aurora'.",
        ),
        (
            OWN + "training:\n",
            "FILE: 'training': input should be a section of keys and values, not None.",
        ),
        (OWN + "3: 4\n", "FILE: '3': keys should be strings, not 3."),
        ("", "FILE must hold keys and values, such as `task: retrieval`."),
        ("- task\n", "FILE must hold keys and values, such as `task: retrieval`."),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(path: Path, text: str, sentence: str) -> None:
    assert refused(path, text) == sentence


def test_no_yaml(path: Path) -> None:
    sentence = refused(path, "data: {kind: jsonl\ntask: [")
    assert sentence.startswith("FILE is no valid YAML: ")
    assert "line 2" in sentence


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        (OWN + "training: {epochs: 2}\nadapter: {}\ntraining: {seed: 1}\n", "training", 4),
        (OWN + "training:\n  epochs: 2\n  seed: 1\n  epochs: 3\n", "epochs", 5),
    ],
)
def test_a_key_that_is_written_twice(path: Path, text: str, key: str, line: int) -> None:
    assert refused(path, text) == (
        f"FILE has the key {key!r} a second time in line {line}: keep one of the two."
    )


def test_a_merged_mapping_may_be_overridden(path: Path) -> None:
    """YAML's `<<` gives keys that those beside it replace; that is no repetition."""
    path.write_text(OWN + "training: {<<: {epochs: 2, seed: 1}, epochs: 3}\n")
    training = load_recipe(str(path)).training
    assert (training.epochs, training.seed) == (3, 1)


def test_a_number_of_too_many_digits(path: Path) -> None:
    text = OWN + f"training: {{seed: {'1' * 5000}}}\n"
    assert refused(path, text) == "FILE holds a number of thousands of digits; give a smaller one."


def test_no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00task")
    with pytest.raises(UserError, match=r"the recipe .*mine\.yaml cannot be read: .*utf-8.*\.$"):
        load_recipe(str(path))


def test_control_characters_are_no_yaml(path: Path) -> None:
    assert refused(path, "task: \x07\n").startswith("FILE is no valid YAML: ")


def test_no_file(path: Path) -> None:
    with pytest.raises(UserError, match=r"the recipe .*mine\.yaml cannot be read: .*No such file"):
        load_recipe(str(path))
    with pytest.raises(UserError, match="cannot be read"):
        load_recipe(str(path.parent / "a" / "b.yml"))


def test_an_unknown_name() -> None:
    with pytest.raises(UserError) as caught:
        load_recipe("cocoa")
    known = ", ".join(bundled_recipes())
    assert str(caught.value) == (
        f"there is no bundled recipe 'cocoa'; choose one of {known}, or give a YAML file."
    )


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (
            "training.epochs",
            "'training.epochs' is no setting; write key=value, such as training.epochs=3.",
        ),
        ("=3", "'=3' is no setting; write key=value, such as training.epochs=3."),
        (
            "backbone.name=3",
            "'backbone.name' cannot be set: 'backbone' is a value, not a section.",
        ),
        ("adapter.options={a", "the value of 'adapter.options={a' is no valid YAML."),
        (
            "training.epochs=[1, 2]",
            "FILE: 'training.epochs': input should be a valid integer, not [1, 2].",
        ),
        (
            f"training.batch_size={10**25}",
            "FILE: 'training.batch_size': input should be less than or equal to 1000000, not "
            "10000000000000000000000000.",
        ),
        (
            f"training.seed={'1' * 5000}",
            "the value of training.seed is a number of thousands of digits; give a smaller one.",
        ),
        (
            "traning.epochs=3",
            "FILE: unknown key 'traning'; known there: adapter, backbone, comparison, data, "
            "evaluation, image_size, objective, task, training, variant.",
        ),
    ],
)
def test_a_setting_that_does_not_fit(path: Path, setting: str, sentence: str) -> None:
    assert refused(path, OWN + "backbone: mini\n", setting) == sentence


def test_settings_override_the_file(path: Path) -> None:
    path.write_text(OWN + "training: {epochs: 4, seed: 1}\n")
    settings = [
        "training.learning_rate=1e-3",
        "training.epochs=2",
        "objective.momentum=null",
        "adapter.core=tucker",
        "data.world.style=day",
        "training.checkpoints=false",
        "data.media=other pictures",
        "training.output=runs/a=b",
    ]
    recipe = load_recipe(str(path), settings)
    assert recipe.training.learning_rate == 0.001
    assert recipe.training.epochs == 2
    assert recipe.training.seed == 1
    assert recipe.objective.momentum is None
    assert recipe.adapter.core == "tucker"
    assert recipe.data.world.style == "day"
    assert recipe.training.checkpoints is False
    assert recipe.data.media == Path("other pictures")
    assert recipe.output == Path("runs/a=b")


@pytest.mark.parametrize(
    "text", ["media #2", " a ", "[a", "{a: b}", "'a'", "a: b", "a\nb #c", "1e3", "~x/~", "null #"]
)
def test_texts_and_paths_are_taken_as_given(path: Path, text: str) -> None:
    """No YAML: no comment is cut, no quote taken away."""
    path.write_text(OWN)
    keys = ("backbone", "data.media", "training.output", "comparison.runs", "data.world.style")
    recipe = load_recipe(str(path), [f"{key}={text}" for key in keys])
    assert recipe.backbone == recipe.data.world.style == text
    assert {recipe.data.media, recipe.output, recipe.comparison.runs} == {Path(text)}
    assert refused(path, OWN, "task=vqa #1").startswith("FILE: 'task': input should be 'retrieval'")


def test_what_may_be_left_out_is_left_out_by_null(path: Path) -> None:
    path.write_text(OWN + "training: {output: a}\nevaluation: {metric: vqa, answer_list: b}\n")
    settings = ["training.output=null", "evaluation.metric=null", "evaluation.answer_list="]
    recipe = load_recipe(str(path), settings)
    assert recipe.output == Path("runs/mine")
    assert (recipe.evaluation.metric, recipe.evaluation.answer_list) == (None, None)


def test_a_path_that_begins_with_the_home_folders_sign(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Wherever the recipe holds a path, in its file or on the command line."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path.write_text("data: {kind: jsonl, annotations: ~/notes, media: ~/pictures}\n")
    settings = [
        *("backbone=~/blip", "training.output=~/runs/mine", "evaluation.answer_list=~/answers"),
        *("task=vqa", "data.visual_genome=~", "comparison.runs=~/kept"),
    ]
    recipe = load_recipe("~/mine.yaml", settings)
    assert recipe.backbone == str(tmp_path / "blip")
    assert recipe.data.annotations == tmp_path / "notes"
    assert recipe.data.media == tmp_path / "pictures"
    assert recipe.data.visual_genome == tmp_path
    assert recipe.output == tmp_path / "runs" / "mine"
    assert recipe.evaluation.answer_list == tmp_path / "answers"
    assert recipe.comparison.runs == tmp_path / "kept"
    save_recipe(recipe, tmp_path / "resolved.yaml")
    assert "~" not in (tmp_path / "resolved.yaml").read_text()
    assert load_recipe(str(tmp_path / "resolved.yaml")) == recipe


def test_the_usual_queue_follows_the_backbone(tmp_path: Path) -> None:
    """Features of the mini foundation are stale within steps; others have BLIP's queue."""
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    queues = [
        load_recipe(str(path), settings).objective.queue
        for settings in ([], ["backbone=blip-base"], ["objective.queue=7"])
    ]
    assert queues == [0, 57_600, 7]


def test_usual_values_follow_the_width_not_the_name(path: Path, tmp_path: Path) -> None:
    """A copy of the mini foundation is the mini foundation; a folder of BLIP's width is BLIP."""
    copy = tmp_path / "copy"
    shutil.copytree(find_backbone("mini"), copy)
    (tmp_path / "wide").mkdir()
    published_config("blip-base").save_pretrained(tmp_path / "wide")  # type: ignore[union-attr]

    def usual(backbone: object) -> tuple[object, ...]:
        recipe = load_recipe(str(path), ["adapter.method=lora", f"backbone={backbone}"])
        rates = (recipe.training.learning_rate, recipe.training.head_learning_rate)
        return (recipe.adapter.rank, *rates, recipe.objective.queue)

    path.write_text(OWN)
    assert usual("mini") == usual(copy) == (4, 5e-3, 1e-3, 0)
    wide = (8, 1e-4, 1e-4, 57_600)
    assert usual("blip-base") == usual(tmp_path / "wide") == usual("some/id") == wide
    (copy / "config.json").write_text("{")
    assert usual(copy) == wide  # what loads it says what is wrong


def test_numbers_as_yaml_1_1_misreads_them(path: Path) -> None:
    path.write_text(OWN + "training: {learning_rate: 3e-4, weight_decay: 1e-2}\n")
    recipe = load_recipe(str(path), ["training.epochs=1e1", "training.seed=07", "data.crop=.5"])
    assert recipe.training.learning_rate == 0.0003
    assert recipe.training.weight_decay == 0.01
    assert recipe.training.epochs == 10
    assert recipe.training.seed == 7
    assert recipe.data.crop == 0.5


def test_plain_words_stay_words(path: Path) -> None:
    """As YAML 1.2 has it: `off` is no truth value, 08 no number, a date no date."""
    path.write_text(OWN + "adapter: {gqt: off}\nobjective: {ice: off}\n")
    recipe = load_recipe(str(path), ["training.output=08", "data.media=2026-01-31"])
    assert recipe.adapter.gqt == recipe.objective.ice == "off"
    assert recipe.output == Path("08")
    assert recipe.data.media == Path("2026-01-31")


@pytest.mark.parametrize(
    ("backbone", "method"),
    [(backbone, method) for backbone in ("mini", "some/folder") for method in ("aurora", "full")],
)
def test_the_learning_rates_left_out(path: Path, backbone: str, method: str) -> None:
    """The method's tuned rate for the backbone; heads beside mini's adapter as if all is tuned."""
    path.write_text(OWN + f"backbone: {backbone}\n")

    def rates(method: str, *settings: str) -> tuple[float | None, float | None]:
        training = load_recipe(str(path), [f"adapter.method={method}", *settings]).training
        return training.learning_rate, training.head_learning_rate

    rate, heads = rates(method)
    assert rate is not None
    assert heads == (rates("full")[0] if backbone == "mini" else rate)
    assert rates("full")[0] < rates("aurora")[0]  # type: ignore[operator]
    assert rates(method, "training.learning_rate=5")[0] == 5.0
    assert rates(method, "training.head_learning_rate=6") == (rate, 6.0)
    assert rates("none")[0] is None


def test_another_method_leaves_the_settings_of_the_recipes_own(path: Path) -> None:
    """Rank, options and rates belong to a method; what the command line gives stands."""
    path.write_text(
        OWN
        + "adapter: {rank: 7, dropout: 0.3, options: {target_modules: [qkv]}}\n"
        + "training: {learning_rate: 0.5, head_learning_rate: 0.4, epochs: 3}\n"
    )
    lora = load_recipe(str(path), ["adapter.method=lora"])
    assert (lora.adapter.rank, lora.adapter.options) == (4, None)
    assert lora.training.learning_rate == METHODS["lora"].rate(narrow=True)
    assert lora.training.head_learning_rate == 1e-3
    assert (lora.adapter.dropout, lora.training.epochs) == (0.3, 3)  # of any method

    given = ["training.learning_rate=0.2", "adapter={method: lora, rank: 3}"]
    told = load_recipe(str(path), given)
    assert (told.adapter.rank, told.training.learning_rate) == (3, 0.2)
    assert told.training.head_learning_rate == 1e-3

    same = load_recipe(str(path), ["adapter.method=aurora"])
    assert same == load_recipe(str(path))
    assert (same.adapter.rank, same.training.learning_rate) == (7, 0.5)


def test_the_output_left_out(path: Path) -> None:
    path.write_text(OWN)
    assert load_recipe(str(path)).output == Path("runs/mine")


def test_a_world_left_without_a_folder(path: Path) -> None:
    path.write_text("data: {kind: world}\n")
    one, other = (load_recipe(str(path), [f"data.world.seed={seed}"]) for seed in (1, 2))
    assert one.data.annotations is not None
    assert one.data.annotations != other.data.annotations


@pytest.mark.parametrize("name", bundled_recipes())
def test_bundled_recipes_are_valid(name: str) -> None:
    recipe = load_recipe(name, ["data.annotations=a", "data.media=b"])
    assert recipe.output == Path("runs") / name


@pytest.mark.parametrize("name", bundled_recipes())
def test_a_bundled_recipe_made_small(name: str) -> None:
    small, whole = load_recipe(name, smoke=True), load_recipe(name)
    assert (small.backbone, small.data.kind) == ("mini", "world")
    assert small.output == Path("runs") / f"{name}-smoke"
    layout = None if whole.data.kind == "world" else whole.data.kind
    assert small.data.world.layout == layout
    assert small.data.world.train < 100
    assert (small.task, small.adapter.rank) == (whole.task, whole.adapter.rank)
    assert small.data.augmentation == whole.data.augmentation


def test_settings_come_behind_those_that_make_it_small(path: Path) -> None:
    path.write_text(OWN)
    recipe = load_recipe(str(path), ["training.epochs=3"], smoke=True)
    assert (recipe.training.epochs, recipe.training.batch_size) == (3, 8)
    assert (recipe.data.kind, recipe.data.world.layout) == ("world", None)  # the task's usual one


def test_a_small_run_keeps_out_of_the_recipes_own_folder(path: Path) -> None:
    path.write_text(OWN + "training: {output: runs/my-run}\n")
    assert load_recipe(str(path), smoke=True).output == Path("runs/mine-smoke")
    told = load_recipe(str(path), ["training.output=runs/told"], smoke=True)
    assert told.output == Path("runs/told")


def test_bundled_names_are_sorted() -> None:
    names = bundled_recipes()
    assert names == sorted(names)
    assert {"coco", "flickr30k", "demo-retrieval"} <= set(names)


def test_saving_and_loading(path: Path, tmp_path: Path) -> None:
    """The written recipe is complete: read under another name it is the same."""
    path.write_text(OWN + "training: {learning_rate: 1.0e-10}\nobjective: {momentum: null}\n")
    recipe = load_recipe(str(path))
    save_recipe(recipe, tmp_path / "run" / "recipe.yaml")
    assert load_recipe(str(tmp_path / "run" / "recipe.yaml")) == recipe


@pytest.mark.parametrize("task", ["retrieval", "video-retrieval"])
@pytest.mark.parametrize(
    "setting", ["scored=val", "train_on=train+val", "visual_genome=pictures of VG"]
)
def test_keys_of_questions_in_a_recipe_of_captions(path: Path, task: str, setting: str) -> None:
    key = f"data.{setting.split('=')[0]}"
    assert refused(path, OWN, f"task={task}", f"data.{setting}") == (
        f"mine: {key} is for questions, and the task {task} has none; leave it out."
    )
    assert load_recipe(str(path), ["task=vqa", f"data.{setting}"])
    usual = ["data.scored=null", "data.train_on=train", "data.visual_genome=null"]
    assert load_recipe(str(path), [f"task={task}", *usual])


def test_no_answers_to_rank(path: Path) -> None:
    for task in ("vqa", "video-qa"):
        assert refused(path, OWN, f"task={task}", "evaluation.rerank=0") == (
            "mine: evaluation.rerank 0 leaves no answers to rank; set it to 1 or more, or "
            "evaluation.inference to generate."
        )
        generate = [f"task={task}", "evaluation.rerank=0", "evaluation.inference=generate"]
        assert load_recipe(str(path), generate)
    assert load_recipe(str(path), ["evaluation.rerank=0"])  # of captions: no second stage


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "new \ud800")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert file.read_text() == "old"


def test_a_variant_decides_the_switches_left_out(path: Path) -> None:
    """All that the variants differ in is written out, and what is set explicitly wins."""
    path.write_text(OWN + "variant: released\nobjective: {ice: off, train_temperature: true}\n")
    recipe = load_recipe(str(path))
    assert recipe.adapter.core == "tucker"
    assert recipe.adapter.mlp_core == "interleaved"
    assert recipe.adapter.gqt_start == "normal"
    assert recipe.objective.ice == "off"
    assert recipe.objective.train_temperature is True
    assert recipe.objective.label_smoothing == 0.0
    assert recipe.evaluation.attend_padding is True
    expected = switches("released", ice="off", train_temperature=True)
    assert recipe.switches == expected
    assert load_recipe(str(path), ["variant=default"]).switches == switches(
        "default", ice="off", train_temperature=True
    )
    written = recipe.model_dump()
    for section in ("adapter", "objective", "evaluation"):
        held = {k: v for k, v in written[section].items() if k in asdict(expected)}
        assert held
        assert held == {k: asdict(expected)[k] for k in held}
    named = {k for section in ("adapter", "objective", "evaluation") for k in written[section]}
    assert set(asdict(expected)) <= named  # every switch has a key


def test_the_cp_core_of_the_released_variant(path: Path) -> None:
    path.write_text(OWN + "variant: released\nadapter: {core: cp}\n")
    assert load_recipe(str(path)).adapter.mlp_core == "per_slice"
    assert refused(path, OWN + "adapter: {mlp_core: interleaved}\n") == (
        "mine: adapter.mlp_core interleaved needs adapter.core tucker, not cp."
    )
