from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from videos import write_numbered

from aurora_vl.data.check import check_splits
from aurora_vl.data.media import missing_media, require_media
from aurora_vl.data.readers import read_retrieval
from aurora_vl.data.records import CaptionedMedia, QuestionRecord, Splits
from aurora_vl.errors import UserError


def record(folder: Path, name: str, *captions: str) -> CaptionedMedia:
    return CaptionedMedia(name, folder / name, "image", captions or ("a dog",))


@pytest.fixture
def clean(tmp_path: Path, write_pictures: Any) -> Splits[CaptionedMedia]:
    names = write_pictures(6)
    records = [record(tmp_path, name) for name in names]
    return Splits(records[:3], records[3:5], records[5:])


def test_a_clean_data_set(clean: Splits[CaptionedMedia]) -> None:
    report = check_splits(clean)
    assert report.ok
    assert report.decoded == 6
    assert [split.media for split in report.splits.values()] == [3, 2, 1]
    assert report.overlap == {"train/val": 0, "train/test": 0, "val/test": 0}
    assert report.overlap_first == {}
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True
    require_media(clean)


def test_missing_files_are_counted_once_and_the_first_ten_listed(
    tmp_path: Path, write_pictures: Any
) -> None:
    here = [record(tmp_path, name) for name in write_pictures(2)]
    gone = [record(tmp_path, f"gone{index}.png") for index in range(12)]
    splits = Splits(here + gone, gone[:3], here)
    report = check_splits(splits)
    assert not report.ok
    assert report.missing == 12
    assert report.missing_first == [str(tmp_path / f"gone{index}.png") for index in range(10)]
    assert [split.missing for split in report.splits.values()] == [12, 3, 0]
    assert report.decoded == 2
    assert missing_media(splits.train)[11].endswith("gone11.png")
    with pytest.raises(UserError, match=r"12 of 14 listed media are absent, the first is .*gone0"):
        require_media(splits)


def test_a_folder_or_an_impossible_name_is_no_file(tmp_path: Path) -> None:
    assert len(missing_media([record(tmp_path, "."), record(tmp_path, "a\0b")])) == 2


def test_undecodable_media_are_named_with_their_fault(clean: Splits[CaptionedMedia]) -> None:
    clean.train[0].path.write_bytes(clean.train[0].path.read_bytes()[:200])
    clean.test[0].path.write_bytes(b"")
    clean.val[0].path.write_text("<html>")
    report = check_splits(clean, threads=2)
    assert not report.ok
    assert report.missing == 0
    assert report.undecodable == 3
    assert [split.undecodable for split in report.splits.values()] == [1, 1, 1]
    faults = " ".join(report.undecodable_first)
    assert "0.png is damaged" in faults
    assert "5.png is empty" in faults
    assert "3.png is not a picture" in faults


def test_each_part_of_a_video_is_tried(tmp_path: Path) -> None:
    """A window that the video does not have is found wherever it stands; the file counts once."""
    path = write_numbered(tmp_path / "a.mp4", 20)  # two seconds
    windows = [(0.0, 1.0), (5.0, 6.0), (7.0, 8.0), (5.0, 6.0), None]
    parts = [CaptionedMedia(str(w), path, "video", ("x",), w) for w in windows]
    told: list[tuple[int, int]] = []
    report = check_splits(
        Splits(parts, parts[:1], parts[4:]), progress=lambda *counts: told.append(counts)
    )
    assert (report.decoded, report.undecodable) == (1, 1)
    assert report.splits["train"].undecodable == 1
    assert "before its window of 5 to 6 s" in report.undecodable_first[0]
    assert told[-1] == (4, 4)
    assert check_splits(Splits(parts, parts, parts), sample=1).undecodable == 1


def test_a_part_that_lacks_counts_where_it_is_listed(tmp_path: Path) -> None:
    """The same file, whose own part is there, is sound in another split."""
    path = write_numbered(tmp_path / "a.mp4", 20)  # two seconds
    other = CaptionedMedia("b.mp4", write_numbered(tmp_path / "b.mp4", 20), "video", ("x",))
    there, behind = (
        CaptionedMedia(str(window), path, "video", ("x",), window)
        for window in ((0.0, 1.0), (50.0, 60.0))
    )
    report = check_splits(Splits([there], [other], [behind]))
    assert [split.undecodable for split in report.splits.values()] == [0, 0, 1]
    assert report.undecodable == 1


def test_files_that_decoders_stumble_over_are_listed(tmp_path: Path, write_pictures: Any) -> None:
    """Whatever the decoder raises, the others are looked at, too."""
    cut = Path(shutil.copy(Path(__file__).parent / "files" / "cut.mp4", tmp_path))
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    bad = [CaptionedMedia("cut.mp4", cut, "video", ("x",)), record(tmp_path, "b.png")]
    good = [record(tmp_path, name) for name in write_pictures(2)]
    report = check_splits(Splits(bad + good, good[:1], good[1:]))
    assert (report.decoded, report.undecodable) == (4, 2)
    assert [fault.split(" is ")[0] for fault in report.undecodable_first] == [
        str(cut),
        str(tmp_path / "b.png"),
    ]


def test_a_sample_is_seeded(clean: Splits[CaptionedMedia]) -> None:
    clean.train[0].path.write_bytes(b"broken")
    assert check_splits(clean, sample=0).ok
    told: list[tuple[int, int]] = []
    check_splits(clean, sample=3, progress=lambda *counts: told.append(counts))
    assert told == [(1, 3), (2, 3), (3, 3)]
    reports = [check_splits(clean, sample=2, seed=seed) for seed in range(12)]
    assert {report.decoded for report in reports} == {2}
    assert {report.undecodable for report in reports} == {0, 1}
    assert reports[0] == check_splits(clean, sample=2, seed=0)
    assert check_splits(clean, sample=100).undecodable == 1


def test_overlap_warns_but_is_ok(clean: Splits[CaptionedMedia]) -> None:
    shared = clean.train[1]
    elsewhere = CaptionedMedia(
        "x",
        shared.path.parent / "." / ".." / shared.path.parent.name / shared.path.name,
        "image",
        ("b",),
    )
    report = check_splits(Splits(clean.train, clean.val, [*clean.test, elsewhere]))
    assert report.ok
    assert report.overlap == {"train/val": 0, "train/test": 1, "val/test": 0}
    assert report.overlap_first == {"train/test": [str(shared.path)]}


def test_what_we_held_out_ourselves_is_no_overlap(
    tmp_path: Path, write_pictures: Any, write_lines: Any
) -> None:
    lines = [{"image": name, "caption": "x"} for name in write_pictures(10)]
    write_lines("train.jsonl", lines)
    report = check_splits(read_retrieval("jsonl", tmp_path, tmp_path, seed=0))
    assert report.ok
    assert report.scored == "val"
    assert len(report.notes) == 2
    assert set(report.overlap.values()) == {0}
    assert report.splits["test"].media == 1


def test_texts_are_counted(clean: Splits[CaptionedMedia], tmp_path: Path) -> None:
    long, exact = "w " * 31, "w " * 30
    records = [record(tmp_path, "0.png", long, exact, "a"), record(tmp_path, "1.png", exact)]
    without = CaptionedMedia("2.png", tmp_path / "2.png", "image", ())
    asked: set[str] = set()

    def cut(text: str, role: str) -> bool:
        asked.add(role)
        return text == long

    splits = Splits([*records, without], clean.val, clean.test)
    train = check_splits(splits, cut=cut).splits["train"]
    assert (train.media, train.texts, train.long_texts, train.without_texts) == (3, 4, 1, 1)
    assert asked == {"caption"}
    assert check_splits(splits).splits["train"].long_texts == 0


def test_questions_are_checked_too(clean: Splits[CaptionedMedia]) -> None:
    path = clean.train[0].path
    asked = [
        QuestionRecord(1, "0.png", path, "image", "what?", ("a",)),
        QuestionRecord(2, "0.png", path, "image", "w " * 51, ()),
    ]
    splits = Splits(asked, asked[:1], asked[1:])
    report = check_splits(splits, cut=lambda text, role: (len(text), role) > (50, "question"))
    train = report.splits["train"]
    assert (train.media, train.texts, train.long_texts, train.without_texts) == (1, 2, 1, 1)
    assert report.decoded == 1
    assert report.overlap["val/test"] == 1
