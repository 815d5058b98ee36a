from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Aurora, OwnData
from PIL import Image

from aurora_vl.data.synthetic.layouts import LAYOUTS
from aurora_vl.data.synthetic.writing import WorldSpec, ensure_world


def test_whole_data(aurora: Aurora, own_data: OwnData) -> None:
    outcome = aurora("check-data", own_data.recipe, "--json")
    assert outcome.status == 0
    assert outcome.json["ok"] is True
    assert [split["media"] for split in outcome.json["splits"].values()] == [6, 6, 6]
    assert outcome.json["decoded"] == 18
    assert "every file is there" in aurora("check-data", own_data.recipe).out


def test_missing_and_damaged_files_exit_1(aurora: Aurora, own_data: OwnData) -> None:
    (own_data.folder / "train0.png").unlink()
    picture = own_data.folder / "test3.png"
    picture.write_bytes(picture.read_bytes()[:60])
    (own_data.folder / "val1.png").write_bytes(b"")
    as_json = aurora("check-data", own_data.recipe, "--full", "--json")
    assert as_json.status == 1
    assert (as_json.json["missing"], as_json.json["undecodable"]) == (1, 2)
    table = aurora("check-data", own_data.recipe, "--full")
    assert table.status == 1
    for name in ("train0.png", "test3.png", "val1.png"):
        assert name in table.out
    assert "Traceback" not in table.err


def test_overlap_is_a_warning(aurora: Aurora, own_data: OwnData) -> None:
    lines = (own_data.folder / "train.jsonl").read_text().splitlines()
    own_data.write("test", lines[:2])
    outcome = aurora("check-data", own_data.recipe)
    assert outcome.status == 0
    assert "warning: train/test share 2 media" in outcome.out
    assert aurora("check-data", own_data.recipe, "--json").json["overlap"]["train/test"] == 2


def test_unreadable_annotations_are_wrong_input(aurora: Aurora, own_data: OwnData) -> None:
    own_data.write("train", ['{"image": "a.png", "caption": '])
    outcome = aurora("check-data", own_data.recipe, "--json")
    assert (outcome.status, outcome.out) == (2, "")
    assert "train.jsonl line 1" in outcome.err


@pytest.mark.parametrize("layout", LAYOUTS)
def test_spoilt_files_of_every_layout_are_named(
    aurora: Aurora, tmp_path: Path, layout: str
) -> None:
    spec = WorldSpec(layout=layout, train=4, val=2, test=2, questions=1, captions=1)
    world = ensure_world(tmp_path / "w", spec)
    cut, gone = sorted(p for p in world.media.rglob("*") if p.is_file())[-2:]
    cut.write_bytes(cut.read_bytes()[:700])
    gone.unlink()
    places = (f"data.annotations={world.annotations}", f"data.media={world.media}")
    told = aurora("check-data", layout, *places, "--json")
    assert told.status == 1
    assert told.json["missing_first"] == [str(gone)]
    (fault,) = told.json["undecodable_first"]
    assert fault.startswith(f"{cut} is ")
    shown = aurora("check-data", layout, *places)
    assert f"missing: {gone}" in shown.out
    assert f"damaged: {fault}" in shown.out


def test_a_sample_is_decoded_unless_all_are_asked_for(aurora: Aurora, own_data: OwnData) -> None:
    for number in range(510):
        Image.new("RGB", (2, 2)).save(own_data.folder / f"many{number}.png")
    entries = [{"image": f"many{number}.png", "caption": "a box"} for number in range(510)]
    own_data.write("train", entries)
    sampled = aurora("check-data", own_data.recipe, "--json").json
    whole = aurora("check-data", own_data.recipe, "--json", "--full").json
    assert (sampled["decoded"], whole["decoded"]) == (500, 522)


def test_long_captions_are_counted(aurora: Aurora, own_data: OwnData) -> None:
    words = [30, 31, 32]
    own_data.write("val", [{"image": "val0.png", "caption": ["red " * n for n in words]}])
    report = aurora("check-data", own_data.recipe, "--json").json
    assert report["splits"]["val"]["long_texts"] == 2
    assert report["ok"]
    shorter = aurora("check-data", own_data.recipe, "--json", "data.max_words=7").json
    assert [split["long_texts"] for split in shorter["splits"].values()] == [0, 3, 0]


def test_texts_cut_by_their_tokens_are_counted(aurora: Aurora, own_data: OwnData) -> None:
    """Few words may be many tokens: Chinese has no blanks, and a rare word has several pieces."""
    captions = ["一只狗在草地上奔跑" * 6, "xylophone " * 5, "red " * 20]
    own_data.write("train", [{"image": "train0.png", "caption": captions}])

    def cut(*settings: str) -> int:
        report = aurora("check-data", own_data.recipe, "--json", "backbone=mini", *settings).json
        assert report["warnings"] == []
        found: int = report["splits"]["train"]["long_texts"]
        return found

    assert cut() == 1  # the bundled model has 64 positions
    assert cut("data.max_tokens=35") == 2
    assert cut("data.max_tokens=35", "data.max_words=19") == 3


def test_words_are_counted_where_the_tokenizer_is_elsewhere(
    aurora: Aurora, own_data: OwnData
) -> None:
    own_data.write("train", [{"image": "train0.png", "caption": ["red " * 31, "一" * 99]}])
    outcome = aurora("check-data", own_data.recipe, "--json", "backbone=elsewhere/model_base.pth")
    assert outcome.status == 0
    assert outcome.json["splits"]["train"]["long_texts"] == 1
    (warning,) = outcome.json["warnings"]
    assert warning.startswith("texts that are cut are counted by their words, not by their tokens:")
    assert "elsewhere/model_base.pth" in warning


def test_answers_that_cannot_be_chosen(aurora: Aurora, tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    for split, answers in (("train", ["red", "red", "blue"]), ("test", ["red", "blue", "green"])):
        lines = [{"image": "a.png", "question": "what color", "answer": a} for a in answers]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, [*lines, *lines])))
    Image.new("RGB", (2, 2)).save(tmp_path / "b.png")
    with (tmp_path / "train.jsonl").open("a") as file:  # to be held out
        file.write('\n{"image": "b.png", "question": "what color", "answer": "red"}')
    recipe = tmp_path / "own.yaml"
    data = {"kind": "jsonl", "annotations": str(tmp_path), "media": str(tmp_path)}
    recipe.write_text(json.dumps({"task": "vqa", "data": data}))

    def share(*settings: str) -> list[str]:
        outcome = aurora("check-data", recipe, "--json", *settings)
        assert outcome.status == 0
        return [line.split(" of the")[0] for line in outcome.json["warnings"]]

    (tmp_path / "list.json").write_text('["Red", "green", "blue"]')
    assert share() == ["33.3 %"]
    assert share("evaluation.answers=1") == ["66.7 %"]
    assert share(f"evaluation.answer_list={tmp_path / 'list.json'}") == []
    assert share("evaluation.inference=generate") == []
    assert "warning: 33.3 % of the scored questions" in aurora("check-data", recipe).out


def test_too_few_answers_for_the_official_score(aurora: Aurora, tmp_path: Path) -> None:
    """The metric may be the recipe's or the layout's own."""
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    told = [["red"], ["red"] * 3, ["red"] * 4, ["red"] * 10]
    rows = [
        {"image": "a.png", "question": "what color", "question_id": n, "answer": answers}
        for n, answers in enumerate(told)
    ]
    for split in ("train", "val", "test"):
        (tmp_path / f"vqa_{split}.json").write_text(json.dumps(rows))
    recipe = tmp_path / "own.yaml"
    data = {"kind": "vqav2", "annotations": str(tmp_path), "media": str(tmp_path)}
    recipe.write_text(json.dumps({"task": "vqa", "data": data}))
    for settings in ((), ("evaluation.metric=vqa",), ("evaluation.inference=generate",)):
        assert aurora("check-data", recipe, "--json", *settings).json["warnings"] == [
            "50.0 % of the scored questions have fewer than 4 answers, so no answer to them can "
            "reach 100 % under evaluation.metric=vqa, which leaves out each annotator in turn and "
            "counts a third for each other one who agrees (with a single answer always 0); "
            "evaluation.metric=exact is for one answer"
        ]
    assert aurora("check-data", recipe, "--json", "evaluation.metric=exact").json["warnings"] == []


def test_captions_that_read_the_same_are_a_warning(aurora: Aurora, own_data: OwnData) -> None:
    """Only of what is scored; the exit is 0."""
    texts = ["a red box", "A red box.", "a blue box"]
    lines = [{"image": f"test{n}.png", "caption": text} for n, text in enumerate(texts)]
    own_data.write("train", lines)
    assert aurora("check-data", own_data.recipe, "--json").json["warnings"] == []
    own_data.write("test", lines)
    outcome = aurora("check-data", own_data.recipe)
    assert outcome.status == 0
    assert (
        "warning: 2 of the 3 scored captions have the text of another medium's caption, and only "
        "their own medium counts as right"
    ) in outcome.out


@pytest.mark.parametrize(
    ("recipe", "backbone", "told"),
    [
        ("vqav2", "weights/model_vqa.pth", "VQAv2's training and validation questions"),
        ("vqav2", "Salesforce/blip-vqa-capfilt-large", "VQAv2's training and validation questions"),
        ("vqav2", "model_base_vqa_capfilt_large.pth", "VQAv2's training and validation questions"),
        ("vqav2", "model_base.pth", ""),
        ("coco", "model_base_retrieval_coco.pth", "COCO's training captions"),
        ("coco", "Salesforce/blip-itm-large-flickr", ""),
        ("flickr30k", "Salesforce/blip-itm-large-flickr", "Flickr30k's training captions"),
    ],
)
def test_a_checkpoint_that_has_seen_the_data(
    aurora: Aurora, tmp_path: Path, recipe: str, backbone: str, told: str
) -> None:
    spec = WorldSpec(layout=recipe, train=4, val=2, test=2, questions=1, captions=1)
    world = ensure_world(tmp_path / "w", spec)
    outcome = aurora(
        *("check-data", recipe, f"data.annotations={world.annotations}", "--json"),
        *(f"data.media={world.media}", f"backbone={backbone}"),
    )
    assert outcome.status == 0
    found = [line for line in outcome.json["warnings"] if "already fine-tuned" in line]
    assert len(found) == bool(told)
    assert all(told in line and backbone in line for line in found)
