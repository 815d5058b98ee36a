"""Names that the disk spells otherwise than the list."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from aurora_vl.data.answers import answer_vocabulary, clean_answer, shares_of_votes
from aurora_vl.data.check import check_splits
from aurora_vl.data.media import require_media
from aurora_vl.data.readers import read_questions, read_retrieval
from aurora_vl.errors import UserError

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.fixture
def read(tmp_path: Path, write_lines: Any) -> Any:
    """Read lists that name some files for training, beside others of which all are there."""

    def read(*listed: str) -> Any:
        for name in ("v.png", "t.png"):
            Image.new("RGB", (8, 8)).save(tmp_path / name)
        write_lines("train.jsonl", [{"image": name, "caption": "x"} for name in listed])
        write_lines("val.jsonl", [{"image": "v.png", "caption": "y"}])
        write_lines("test.jsonl", [{"image": "t.png", "caption": "z"}])
        return read_retrieval("jsonl", tmp_path, tmp_path, seed=0)

    return read


@pytest.mark.parametrize(
    ("listed", "file"),
    [
        (f"{NFC}.png", f"{NFD}.png"),
        (f"{NFD}.png", f"{NFC}.png"),
        ("pictures\\a.png", "pictures/a.png"),
        ("Pictures/A.PNG", "pictures/a.png"),
        (f"SUB\\{NFC.upper()}.png", f"sub/{NFD}.PNG"),
    ],
)
def test_one_match_is_found_and_said_once(
    tmp_path: Path, read: Any, listed: str, file: str
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(tmp_path / file, "PNG")
    splits = read(listed, "v.png")
    assert [record.path for record in splits.train] == [tmp_path / file, tmp_path / "v.png"]
    assert splits.train[0].media_id == listed
    (note,) = splits.notes
    assert note.startswith("names: 1 listed files were found under names of another Unicode form")
    assert check_splits(splits).ok


def test_names_as_written_win_and_nothing_is_said(tmp_path: Path, read: Any) -> None:
    for name in ("a.png", "A.png", "b\\c.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    splits = read("a.png", "A.png", "b\\c.png", "./a.png", "../" + tmp_path.name + "/A.png")
    assert {record.path.name for record in splits.train} == {"a.png", "A.png", "b\\c.png"}
    assert splits.notes == ()
    require_media(splits)


def test_two_spellings_of_a_file_are_one_medium(tmp_path: Path, read: Any) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / f"{NFD}.png")
    (record,) = read(f"{NFC}.png", f"{NFD}.png").train
    assert record.captions == ("x", "x")


def test_several_or_similar_names_are_asked_about(
    tmp_path: Path, read: Any, write_lines: Any
) -> None:
    for name in ("a.png", "A.png", "a_long_name_1.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with pytest.raises(UserError, match=r"first is .*/a\.PNG \(did you mean A\.png or a\.png\?\)"):
        require_media(read("a.PNG"))
    with pytest.raises(UserError, match=r"a_long_name1\.png \(did you mean a_long_name_1\.png\?\)"):
        require_media(read("a_long_name1.png"))
    with pytest.raises(UserError, match=r"the first is .*/other\.jpg: check data\.media"):
        require_media(read("other.jpg"))


def test_answers_in_two_unicode_forms_are_one(tmp_path: Path, write_lines: Any) -> None:
    lines = [
        {"image": "a.png", "question": "what?", "answer": [NFC, NFD, "tea"]},
        {"image": "b.png", "question": "what?", "answer": NFD},
    ]
    for split in ("train", "val", "test"):
        write_lines(f"{split}.jsonl", lines)
    splits = read_questions("jsonl", tmp_path, tmp_path, seed=0)
    assert shares_of_votes(splits.train[0]) == pytest.approx({NFC: 2 / 3, "tea": 1 / 3})
    assert answer_vocabulary(splits.train) == [NFC, "tea"]
    assert splits.test[1].answers == (NFC,)
    assert clean_answer(NFD.upper()) == NFC
