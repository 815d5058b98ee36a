"""Anyone's own data, right and wrong, and what is held out where files lack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aurora_vl.data.readers import SplitChoice, read_questions, read_retrieval
from aurora_vl.data.readers.splitting import hold_out
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.errors import UserError


def pictures(*names: str) -> list[dict[str, Any]]:
    return [{"image": name, "caption": f"about {name}"} for name in names]


def many(count: int, prefix: str = "") -> list[dict[str, Any]]:
    return pictures(*(f"{prefix}{index}.jpg" for index in range(count)))


def test_three_files(write_lines: Any, tmp_path: Path) -> None:
    lines = [
        {"image": "a.jpg", "caption": "one", "photographer": "someone"},
        {"video": "b.mp4", "caption": ["two", "three"]},
        "",
        {"image": "a.jpg", "caption": ["four"]},
    ]
    write_lines("train.jsonl", lines)
    write_lines("val.jsonl", pictures("c.jpg"))
    write_lines("test.jsonl", [{"image": "/abs/d.jpg", "caption": "x"}])
    media = tmp_path / "media"
    media.mkdir()
    splits = read_retrieval("jsonl", tmp_path, media, seed=0)
    assert splits.train == [
        CaptionedMedia("a.jpg", media / "a.jpg", "image", ("one", "four")),
        CaptionedMedia("b.mp4", media / "b.mp4", "video", ("two", "three")),
    ]
    assert splits.test[0].path == Path("/abs/d.jpg")
    assert splits.scored == "test"
    assert splits.notes == ()


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    content = '{"image": "a.jpg", "caption": "Ü\u2028x"}\r\n{"image": "b.jpg", "caption": "y"}\r\n'
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.jsonl").write_bytes(b"\xef\xbb\xbf" + content.encode())
    splits = read_retrieval("jsonl", tmp_path, tmp_path, seed=0)
    assert splits.train[0].captions == ("Ü\u2028x",)


def test_the_same_file_may_be_all_three_splits(write_lines: Any, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write_lines(f"{split}.jsonl", many(100))
    splits = read_retrieval("jsonl", tmp_path, tmp_path, seed=0)
    assert splits.train == splits.val == splits.test
    assert len(splits.train) == 100


def test_without_a_validation_file_a_tenth_is_held_out(write_lines: Any, tmp_path: Path) -> None:
    write_lines("train.jsonl", many(50))
    write_lines("test.jsonl", many(3, "t"))
    splits = read_retrieval("jsonl", tmp_path, tmp_path, seed=0)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (45, 5, 3)
    assert splits.scored == "test"
    assert splits.notes == ("val: a seeded tenth of the training media was held out (5 of 50)",)


def test_without_a_test_file_the_validation_file_is_scored(
    write_lines: Any, tmp_path: Path
) -> None:
    write_lines("train.jsonl", many(50))
    write_lines("val.jsonl", many(3, "v"))
    splits = read_retrieval("jsonl", tmp_path, tmp_path, seed=0)
    assert [record.media_id for record in splits.test] == ["v0.jpg", "v1.jpg", "v2.jpg"]
    assert splits.scored == "val"
    assert (len(splits.train), len(splits.val)) == (45, 5)
    assert {r.media_id for r in splits.val}.isdisjoint(r.media_id for r in splits.test)
    assert "the validation file is what is scored" in splits.notes[1]


def test_with_a_training_file_alone_the_held_out_media_are_scored(
    write_lines: Any, tmp_path: Path
) -> None:
    write_lines("train.jsonl", many(20))
    splits = read_retrieval("jsonl", tmp_path, tmp_path, seed=0)
    assert (len(splits.train), len(splits.val)) == (18, 2)
    assert splits.test == splits.val
    assert splits.scored == "val"
    assert len(splits.notes) == 2


def test_what_is_held_out_to_be_scored_is_the_same_for_every_seed(
    write_lines: Any, tmp_path: Path
) -> None:
    """Else another seed's evaluation would score media that were trained on."""
    write_lines("train.jsonl", many(50))
    one, two = (read_retrieval("jsonl", tmp_path, tmp_path, seed=seed) for seed in (1, 2))
    assert (one.train, one.test) == (two.train, two.test)
    assert one.val_seed is None
    write_lines("test.jsonl", many(3, "t"))  # then what is held out only chooses the checkpoint
    one, two = (read_retrieval("jsonl", tmp_path, tmp_path, seed=seed) for seed in (1, 2))
    assert one.val != two.val
    assert (one.val_seed, two.val_seed) == (1, 2)


def records(names: list[str]) -> list[CaptionedMedia]:
    return [CaptionedMedia(name, Path(name), "image", ("x",)) for name in names]


def test_held_out_media_are_seeded_disjoint_and_independent_of_order() -> None:
    names = [f"{index}.jpg" for index in range(100)]
    kept, held = hold_out(records(names), 3, "here")
    assert len(held) == 10
    assert {r.media_id for r in kept} | {r.media_id for r in held} == set(names)
    assert len(kept) + len(held) == 100
    assert kept == [r for r in records(names) if r not in held]  # in the order of the file
    assert hold_out(records(names), 3, "here") == (kept, held)
    assert set(hold_out(records(names[::-1]), 3, "here")[1]) == set(held)
    assert set(hold_out(records(names), 4, "here")[1]) != set(held)


def test_a_file_is_one_medium_however_its_path_is_written(write_lines: Any, tmp_path: Path) -> None:
    write_lines("train.jsonl", [*many(3), *pictures("./0.jpg", "b/../1.jpg")])
    for split in ("val", "test"):
        write_lines(f"{split}.jsonl", many(2))
    first, second, third = read_retrieval("jsonl", tmp_path, tmp_path, seed=0).train
    assert (first.media_id, first.captions) == ("0.jpg", ("about 0.jpg", "about ./0.jpg"))
    assert (second.media_id, second.captions) == ("1.jpg", ("about 1.jpg", "about b/../1.jpg"))
    assert third.captions == ("about 2.jpg",)


def test_parts_of_a_video_are_media_of_their_own(write_lines: Any, tmp_path: Path) -> None:
    lines = [
        {"video": "a.mp4", "caption": "start", "window": [0, 2.5]},
        {"video": "a.mp4", "caption": "all"},
        {"video": "a.mp4", "caption": "start again", "window": [0, 2.5]},
        {"video": "b.mp4", "caption": "other"},
    ]
    write_lines("train.jsonl", lines)
    write_lines("val.jsonl", lines)
    write_lines("test.jsonl", lines)
    part, whole, other = read_retrieval("jsonl", tmp_path, tmp_path, seed=0).test
    assert (part.media_id, part.window) == ("a.mp4#t=0,2.5", (0.0, 2.5))
    assert part.captions == ("start", "start again")
    assert (whole.media_id, whole.window) == ("a.mp4", None)
    assert part.path == whole.path != other.path


def test_parts_of_a_video_that_nearly_begin_together(write_lines: Any, tmp_path: Path) -> None:
    """In a long video milliseconds are beyond six digits."""
    lines = [
        {"video": "a.mp4", "caption": "x", "window": [start, 5410]}
        for start in (5400.001, 5400.002)
    ]
    for split in ("train", "val", "test"):
        write_lines(f"{split}.jsonl", lines)
    splits = read_retrieval("jsonl", tmp_path, tmp_path, seed=0)
    assert [r.media_id for r in splits.test] == [
        "a.mp4#t=5400.001,5410",
        "a.mp4#t=5400.002,5410",
    ]


def test_parts_of_a_video_are_held_out_together(write_lines: Any, tmp_path: Path) -> None:
    lines = [
        {"video": f"{name}.mp4", "caption": "x", "window": [second, second + 1]}
        for name in "abcd"
        for second in range(5)
    ]
    write_lines("train.jsonl", lines)
    splits = read_retrieval("jsonl", tmp_path, tmp_path, seed=0)
    assert len(splits.val) == 5
    assert {r.path for r in splits.val}.isdisjoint(r.path for r in splits.train)


def test_all_records_of_a_medium_go_to_one_side() -> None:
    kept, held = hold_out(records(["a", "b", "a", "b", "a"]), 0, "here")
    assert {r.media_id for r in kept}.isdisjoint(r.media_id for r in held)
    assert len(kept) + len(held) == 5


def test_one_medium_is_too_few_to_hold_out(write_lines: Any, tmp_path: Path) -> None:
    write_lines("train.jsonl", pictures("a.jpg"))
    with pytest.raises(UserError, match="has one medium, too few to hold out"):
        read_retrieval("jsonl", tmp_path, tmp_path, seed=0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"image": "a.jpg", "caption": "x"', r"line 2 is not valid JSON \(.*\): write one object"),
        ("[" * 100_000, r"line 2 is nested too deeply"),
        ("not json", r"line 2 is not valid JSON"),
        ('["a.jpg", "x"]', r"line 2 is a list, not an object"),
        ("null", r"line 2 is null, not an object"),
        ('{"image": "a.jpg", "image": "b.jpg"}', r"line 2 has the key 'image' twice"),
        ({"caption": "x"}, r"line 2 has neither of the keys 'image' and 'video'"),
        ({"image": "a", "video": "b", "caption": "x"}, r"line 2 has both of the keys"),
        ({"image": "a.jpg"}, r"line 2 has no key 'caption' \(its keys: 'image'\)"),
        (
            {"image": "a.jpg", "captions": "x"},
            r"no key 'caption' \(its keys: 'image', 'captions'\)",
        ),
        ({"image": "a.jpg", "caption": []}, r"line 2: 'caption' is an empty list"),
        ({"image": "a.jpg", "caption": ""}, r"line 2: 'caption' holds '', which has no words"),
        ({"image": "a.jpg", "caption": ["x", "!"]}, r"holds '!', which has no words"),
        ({"image": "a.jpg", "caption": 3}, r"line 2: 'caption' holds a number where text"),
        ({"image": "a.jpg", "caption": {"en": "x"}}, r"'caption' holds an object"),
        ({"image": ["a.jpg"], "caption": "x"}, r"line 2: 'image' is a list, not text"),
        ({"image": True, "caption": "x"}, r"'image' is true or false, not text"),
        ({"image": "", "caption": "x"}, r"line 2: 'image' is empty"),
        ({"video": "first.jpg", "caption": "x"}, r"first\.jpg is listed as an image and as a vid"),
        ({"video": "./first.jpg", "caption": "x"}, r"first\.jpg is listed as an image and as a v"),
        ({"image": "a", "caption": "x", "window": [0, 1]}, r"has a 'window', which only videos"),
        ({"video": "a", "caption": "x", "window": [2, 2]}, r"must be two ascending numbers of sec"),
        ({"video": "a", "caption": "x", "window": [1]}, r"'window' must be two ascending numbers"),
        (
            {"video": "a", "caption": "x", "window": [0, 10**400]},
            r"must be two ascending numbers o",
        ),
        ('{"id": ' + "1" * 5000 + "}", r"line 2 holds a number of thousands of digits: correct it"),
        (r'{"image": "\ud83d.png", "caption": "x"}', r"line 2 holds \\ud83d, half of a character"),
        (r'{"image": "a", "caption": "\\ \ud83d\ude00 \uDE00"}', r"line 2 holds \\uDE00, half"),
        ({"video": "a", "caption": "x", "window": "1-2"}, r"'window' must be two ascending numb"),
    ],
)
def test_wrong_lines_are_placed(write_lines: Any, tmp_path: Path, line: Any, message: str) -> None:
    path = write_lines("train.jsonl", [*pictures("first.jpg"), line])
    with pytest.raises(UserError, match=message) as caught:
        read_retrieval("jsonl", tmp_path, tmp_path, seed=0)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_escaped_characters_are_read(write_lines: Any, tmp_path: Path) -> None:
    line = r'{"image": "a.jpg", "caption": "\ud83d\ude00 \\ud83d \u00e9"}'
    for split in ("train", "val", "test"):
        write_lines(f"{split}.jsonl", [line])
    splits = read_retrieval("jsonl", tmp_path, tmp_path, seed=0)
    assert splits.train[0].captions == ("😀 \\ud83d é",)


def test_wrong_files_are_named(write_lines: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.jsonl does not exist: write one JSON object"):
        read_retrieval("jsonl", tmp_path, tmp_path, seed=0)
    write_lines("train.jsonl", [])
    with pytest.raises(UserError, match="the training split is empty"):
        read_retrieval("jsonl", tmp_path, tmp_path, seed=0)
    write_lines("train.jsonl", many(3))
    write_lines("val.jsonl", [])
    with pytest.raises(UserError, match="the validation split is empty"):
        read_retrieval("jsonl", tmp_path, tmp_path, seed=0)
    (tmp_path / "val.jsonl").write_bytes('{"image": "é"}'.encode("latin-1"))
    with pytest.raises(UserError, match=r"val\.jsonl is not UTF-8 text \(byte 11\)"):
        read_retrieval("jsonl", tmp_path, tmp_path, seed=0)


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("link", [False, True])
def test_what_is_no_file_is_not_taken_for_absent(
    write_lines: Any, tmp_path: Path, split: str, link: bool
) -> None:
    for name in ("train", "val", "test"):
        write_lines(f"{name}.jsonl", [{**line, **asked("a.jpg", "x")} for line in many(3)])
    path = tmp_path / f"{split}.jsonl"
    path.unlink()
    if link:
        path.symlink_to(tmp_path / "moved away")
    else:
        path.mkdir()
    for read in (read_retrieval, read_questions):
        with pytest.raises(UserError) as caught:
            read("jsonl", tmp_path, tmp_path, seed=0)
        assert str(caught.value) == (
            f"{path} is not a file: put the annotation file in its place or remove it"
        )


def test_wrong_folders_and_kinds_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.annotations is .*nowhere, which does not exist"):
        read_retrieval("jsonl", tmp_path / "nowhere", tmp_path, seed=0)
    with pytest.raises(UserError, match=r"data\.media is .*nowhere, which does not exist"):
        read_retrieval("jsonl", tmp_path, tmp_path / "nowhere", seed=0)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"data\.annotations is the file .*give the folder"):
        read_retrieval("jsonl", tmp_path / "file", tmp_path, seed=0)
    with pytest.raises(UserError, match=r"'cocoa' is not known for captions: choose one of coco,"):
        read_retrieval("cocoa", tmp_path, tmp_path, seed=0)
    with pytest.raises(UserError, match=r"'coco' is not known for questions: choose one of vqav2"):
        read_questions("coco", tmp_path, tmp_path, seed=0)


def asked(name: str, *answers: str, **more: Any) -> dict[str, Any]:
    line: dict[str, Any] = {"image": name, "question": f"what is {name}?", **more}
    if answers:
        line["answer"] = answers[0] if len(answers) == 1 else list(answers)
    return line


def test_questions(write_lines: Any, tmp_path: Path) -> None:
    lines = [asked("a.jpg", "yes"), asked("a.jpg", "red", "#", "blue", question_id="q7")]
    write_lines("train.jsonl", lines)
    write_lines("val.jsonl", [asked("b.jpg", "no")])
    write_lines("test.jsonl", [asked("c.jpg", "two")])
    splits = read_questions("jsonl", tmp_path, tmp_path, seed=0)
    first, second = splits.train
    assert (first.question_id, first.answers) == (1, ("yes",))
    assert (second.question_id, second.answers) == ("q7", ("red", "#", "blue"))
    assert first.question == "what is a.jpg?"
    assert first.path == tmp_path / "a.jpg"
    assert splits.scored == "test"


def test_an_unanswered_test_file_cannot_be_scored(write_lines: Any, tmp_path: Path) -> None:
    write_lines("train.jsonl", [asked(f"{i}.jpg", "yes") for i in range(10)])
    write_lines("val.jsonl", [asked("v.jpg", "no")])
    write_lines("test.jsonl", [asked("c.jpg"), asked("d.jpg")])
    splits = read_questions("jsonl", tmp_path, tmp_path, seed=0)
    assert splits.scored == "val"
    assert [record.media_id for record in splits.test] == ["v.jpg"]
    assert len(splits.val) == 1
    assert splits.val[0].media_id != "v.jpg"


@pytest.mark.parametrize("answers", [(), ("two",)])
def test_the_validation_file_scored_by_choice(
    write_lines: Any, tmp_path: Path, answers: tuple[str, ...]
) -> None:
    """That is why, whether the test file has answers or not."""
    write_lines("train.jsonl", [asked(f"{i}.jpg", "yes") for i in range(10)])
    write_lines("val.jsonl", [asked("v.jpg", "no")])
    write_lines("test.jsonl", [asked("c.jpg", *answers)])
    choice = SplitChoice(scored="val")
    splits = read_questions("jsonl", tmp_path, tmp_path, seed=0, choice=choice)
    assert (splits.scored, [record.media_id for record in splits.test]) == ("val", ["v.jpg"])
    assert splits.notes[1] == "test: data.scored is val, so the validation file is what is scored"


def test_questions_of_two_files_keep_ids_of_their_own(write_lines: Any, tmp_path: Path) -> None:
    """Trained on together, some of either file may be held out to be scored."""
    write_lines("train.jsonl", [asked(f"{i}.jpg", "yes") for i in range(20)])
    lines = [asked(f"v{i}.jpg", "no") for i in range(19)]
    write_lines("val.jsonl", [*lines, asked("x.jpg", "no", question_id="val:3")])
    choice = SplitChoice(train_on="train+val")
    splits = read_questions("jsonl", tmp_path, tmp_path, seed=0, choice=choice)
    found = {record.media_id: record.question_id for record in (*splits.train, *splits.test)}
    assert len(set(found.values())) == len(found) == 40
    assert (found["0.jpg"], found["v0.jpg"], found["x.jpg"]) == (1, "val:1", "val:3")


@pytest.mark.parametrize(
    ("split", "lines", "message"),
    [
        ("train", [asked("a.jpg")], r"train\.jsonl: question 1 has no key 'answer'"),
        ("val", [asked("a.jpg", "x"), asked("b.jpg")], r"val\.jsonl: question 2 has no key"),
        ("test", [asked("a.jpg", "x"), asked("b.jpg")], r"answer all questions or none"),
        ("train", [{"image": "a", "answer": "x"}], r"line 1 has no key 'question'"),
        ("train", [asked("a", "x", question=7)], r"line 1: 'question' is a number"),
        ("train", [asked("a", "x", question="...")], r"'question' holds '...', which has no words"),
        ("train", [{**asked("a"), "answer": []}], r"'answer' is an empty list"),
        ("train", [asked("a", "x", " ")], r"line 1: 'answer' holds ' ', which has no words"),
        ("train", [{**asked("a"), "answer": ["x", 2]}], r"'answer' holds a number where text"),
        ("train", [asked("a", "x", question_id=1.5)], r"'question_id' must be a whole number"),
        ("train", [asked("a", "x", question_id=2), asked("a", "y")], r"line 2: question_id 2 is"),
    ],
)
def test_wrong_questions(
    write_lines: Any, tmp_path: Path, split: str, lines: list[Any], message: str
) -> None:
    for name in ("train", "val", "test"):
        write_lines(f"{name}.jsonl", [asked("z.jpg", "x")])
    write_lines(f"{split}.jsonl", lines)
    with pytest.raises(UserError, match=message):
        read_questions("jsonl", tmp_path, tmp_path, seed=0)
