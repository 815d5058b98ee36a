"""`aurora ask`: questions about a file, answered by the mini foundation, which knows this world."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from command_line import Aurora, run_process

from aurora_vl.data.synthetic.files import write_picture, write_video
from aurora_vl.data.synthetic.scenes import Group, Scene
from aurora_vl.data.synthetic.spec import WorldSpec

FLAT = WorldSpec(style="flat")
STILL = Scene("snow", (Group("star", "red", "big", ((1, 1),)),), texture=1)
MOVING = Scene("grass", (Group("box", "blue", "big", ((1, 1),), "moves left"),), texture=1)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    write_picture(tmp_path / "star.jpg", STILL, FLAT)
    return tmp_path / "star.jpg"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    write_video(tmp_path / "box.mp4", MOVING, FLAT)
    return tmp_path / "box.mp4"


def test_a_picture_is_looked_at(aurora: Aurora, picture: Path) -> None:
    for question, answer in (
        ("what color is the star", "red"),
        ("What is in the background?", "snow"),
    ):
        outcome = aurora("ask", picture, question)
        assert (outcome.status, outcome.out) == (0, f"{answer}\n")


def test_a_video_is_looked_at(aurora: Aurora, video: Path) -> None:
    assert aurora("ask", video, "what color is the box").out == "blue\n"
    assert aurora("ask", video, "what is in the background").out == "grass\n"


def test_one_json_object(aurora: Aurora, picture: Path) -> None:
    found = aurora("ask", picture, "what color is the star", "--json").json
    assert set(found) == {"media", "question", "answer", "log_likelihood"}
    assert (found["media"], found["answer"]) == (str(picture), "red")
    assert -5 < found["log_likelihood"] < 0


def test_a_name_in_another_encoding_is_shown(picture: Path) -> None:
    odd = os.fsdecode("café.jpg".encode("latin-1"))
    picture.rename(picture.with_name(odd))
    outcome = run_process("ask", odd, "what color is the star", "--json", folder=picture.parent)
    assert (outcome.status, outcome.err) == (0, "")
    assert (outcome.json["media"], outcome.json["answer"]) == (odd, "red")


def test_answers_to_choose_from(aurora: Aurora, picture: Path, tmp_path: Path) -> None:
    listed = tmp_path / "answers.json"
    listed.write_text('["blue", "red", "green"]')
    asked = ("ask", picture, "what color is the star", "--json")
    chosen = aurora(*asked, "--answers", listed).json
    assert chosen["answer"] == "red"
    written = aurora(*asked).json["log_likelihood"]
    assert chosen["log_likelihood"] == pytest.approx(written, rel=1e-4)  # however it is found
    listed.write_text('["two", "four"]')
    assert aurora(*asked, "--answers", listed).json["answer"] in ("two", "four")


def test_an_adapter_answers_in_its_own_way(
    aurora: Aurora, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trained = aurora("train", "demo-vqa", "--smoke", "data.world.train=4")
    assert trained.status == 0, trained.err
    adapter = tmp_path / "runs/demo-vqa-smoke/adapter"
    alone = aurora("ask", picture, "star color", "--json").json
    tuned = aurora("ask", picture, "star color", "--adapter", adapter, "--json").json
    assert tuned["log_likelihood"] != alone["log_likelihood"]
    assert aurora("ask", picture, "star color", "--adapter", adapter, "--backbone", "mini").out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("star.jpg", " !! "), "has no words"),
        (("star.jpg", "what \udce9"), "is not UTF-8 text"),
        (("nowhere.jpg", "what is there"), "there is no file nowhere.jpg: correct the path\n"),
        (("nowhere.mp4", "what is there"), "there is no file nowhere.mp4: correct the path\n"),
        (("star.jpg", "what is there", "--adapter", "nowhere"), "nowhere"),
        (("star.jpg", "what is there", "--backbone", "./nowhere"), "nowhere"),
        (
            ("star.jpg", "what is there", "--answers", "list.json"),
            "texts, none of them empty: check --ans",
        ),
        (
            ("star.jpg", "what is there", "--answers", "no.json"),
            "no.json does not exist: check --answers",
        ),
    ],
)
def test_mistakes_are_one_sentence(
    aurora: Aurora,
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(picture.parent)
    Path("list.json").write_text(json.dumps([1, 2]))
    outcome = aurora("ask", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1
