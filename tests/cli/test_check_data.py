from __future__ import annotations

from command_line import Aurora, OwnData


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
