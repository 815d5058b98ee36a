"""MSRVTT and DiDeMo in their layouts, from hand-made files and from generated worlds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aurora_vl.data.readers import read_retrieval
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.data.synthetic.writing import WorldSpec, ensure_world
from aurora_vl.errors import UserError


def write_msrvtt(folder: Path, write_json: Any, listed: str = "9k", train: int = 20) -> None:
    """`train` videos of two sentences, and three test videos of which one sentence is asked."""
    names = [f"video{i}" for i in range(train + 3)]
    sentences = [
        {"video_id": name, "caption": f"{word} {name}", "sen_id": 0}
        for word in ("one", "two")
        for name in names
    ]
    write_json("MSRVTT_data.json", {"videos": [], "sentences": sentences, "info": {}})
    (folder / f"MSRVTT_train.{listed}.csv").write_text(
        "video_id\n" + "\n".join(names[:train]) + "\n"
    )
    rows = [f'ret{i},msr{i},{name},"a, b {i}"' for i, name in enumerate(names[train:])]
    header = "key,vid_key,video_id,sentence"
    (folder / "MSRVTT_JSFUSION_test.csv").write_text("\r\n".join([header, *rows]))


@pytest.mark.parametrize("listed", ["9k", "7k"])
def test_msrvtt_lists(tmp_path: Path, write_json: Any, listed: str) -> None:
    write_msrvtt(tmp_path, write_json, listed)
    splits = read_retrieval("msrvtt", tmp_path, tmp_path, seed=1)
    assert [len(records) for records in splits.named().values()] == [18, 2, 3]
    every = {record.media_id: record for record in splits.train + splits.val}
    assert every["video7.mp4"] == CaptionedMedia(
        "video7.mp4", tmp_path / "video7.mp4", "video", ("one video7", "two video7")
    )
    assert [record.captions for record in splits.test] == [("a, b 0",), ("a, b 1",), ("a, b 2",)]
    assert splits.test[0].media_id == "video20.mp4"
    assert splits.notes[0] == f"split: MSRVTT {listed} training list (20 videos), 1k-A test (3)"
    assert "held out (2 of 20)" in splits.notes[1]


def test_the_longer_of_two_training_lists(tmp_path: Path, write_json: Any) -> None:
    write_msrvtt(tmp_path, write_json)
    (tmp_path / "MSRVTT_train.7k.csv").write_text("video_id\nvideo1\nvideo2\n")
    splits = read_retrieval("msrvtt", tmp_path, tmp_path, seed=1)
    assert "9k training list (20 videos)" in splits.notes[0]


def test_a_video_that_is_listed_twice(tmp_path: Path, write_json: Any) -> None:
    """It is one video with its sentences once."""
    write_msrvtt(tmp_path, write_json)
    with (tmp_path / "MSRVTT_train.9k.csv").open("a") as file:
        file.write("video7\n")
    splits = read_retrieval("msrvtt", tmp_path, tmp_path, seed=1)
    assert "(20 videos)" in splits.notes[0]
    (seventh,) = [r for r in splits.train + splits.val if r.media_id == "video7.mp4"]
    assert seventh.captions == ("one video7", "two video7")


def test_msrvtt_lines(tmp_path: Path, write_lines: Any) -> None:
    lines = [{"clip_name": f"video{i % 10}", "caption": f"c{i}"} for i in range(20)]
    write_lines("train.jsonl", lines)
    write_lines("test.jsonl", [{"clip_name": "video77.mp4", "caption": "x"}])
    splits = read_retrieval("msrvtt", tmp_path, tmp_path, seed=1)
    assert [len(records) for records in splits.named().values()] == [9, 1, 1]
    every = {record.media_id: record for record in splits.train + splits.val}
    assert every["video3.mp4"].captions == ("c3", "c13")
    assert splits.test[0].path == tmp_path / "video77.mp4"
    assert "train.jsonl and test.jsonl" in splits.notes[0]


def test_msrvtt_faults(tmp_path: Path, write_json: Any, write_lines: Any) -> None:
    def read() -> None:
        read_retrieval("msrvtt", tmp_path, tmp_path, seed=0)

    with pytest.raises(UserError, match=r"neither MSRVTT_data\.json with its lists nor train\.j"):
        read()
    write_lines("train.jsonl", [{"video": "a", "caption": "x"}])
    with pytest.raises(UserError, match=r"train\.jsonl line 1 has no key 'clip_name'"):
        read()
    write_msrvtt(tmp_path, write_json)
    train = tmp_path / "MSRVTT_train.9k.csv"
    train.write_text("video_id\nvideo1\nvideo99\n")
    with pytest.raises(UserError, match=r"9k\.csv line 3: video99 has no sentence in MSRVTT_data"):
        read()
    train.write_text("video_id\nvideo1\nvideo21\n")
    with pytest.raises(UserError, match=r"share 1 videos, such as video21\.mp4"):
        read()
    train.write_text("videos\nvideo1\n")
    with pytest.raises(UserError, match=r"csv line 2 has no key 'video_id' \(its keys: 'videos'"):
        read()
    train.unlink()
    with pytest.raises(UserError, match=r"no MSRVTT_train\.9k\.csv or MSRVTT_train\.7k\.csv"):
        read()
    train.write_text("video_id\nvideo1\nvideo2\n")
    (tmp_path / "MSRVTT_JSFUSION_test.csv").unlink()
    with pytest.raises(UserError, match=r"JSFUSION_test\.csv does not exist"):
        read()
    write_json("MSRVTT_data.json", {"videos": []})
    with pytest.raises(UserError, match=r"has no key 'sentences': it is not MSRVTT's"):
        read()


def test_a_comma_in_a_sentence_without_quotes(tmp_path: Path, write_json: Any) -> None:
    """It would be cut there in silence."""
    write_msrvtt(tmp_path, write_json)
    path = tmp_path / "MSRVTT_JSFUSION_test.csv"
    path.write_text("key,vid_key,video_id,sentence\nret0,msr0,video20,a man, then a dog\n")
    with pytest.raises(UserError) as caught:
        read_retrieval("msrvtt", tmp_path, tmp_path, seed=0)
    assert str(caught.value) == (
        f"{path} line 2 has more values than the header has columns: put the sentence in double "
        "quotes"
    )


@pytest.mark.parametrize("line", [2, 4])
def test_a_quote_that_is_left_open(tmp_path: Path, write_json: Any, line: int) -> None:
    """It would take the rows after it into its sentence, and make the gallery smaller."""
    write_msrvtt(tmp_path, write_json)
    path = tmp_path / "MSRVTT_JSFUSION_test.csv"
    rows = ["key,vid_key,video_id,sentence", *(f"r{i},m{i},video2{i},a dog" for i in range(3))]
    rows[line - 1] = rows[line - 1].replace("a dog", '"a dog')
    path.write_text("\n".join(rows) + "\n")
    with pytest.raises(UserError) as caught:
        read_retrieval("msrvtt", tmp_path, tmp_path, seed=0)
    assert str(caught.value) == (
        f"{path} line {line} is not valid CSV (unexpected end of data): close each double quote on "
        "its line, and write one inside a sentence twice"
    )


def test_a_quote_that_ends_in_another_line(tmp_path: Path, write_json: Any) -> None:
    """Also in a list of names: what follows a quote's end is no part of a row."""
    write_msrvtt(tmp_path, write_json)
    path = tmp_path / "MSRVTT_train.9k.csv"
    path.write_text('video_id\n"video1\nvideo2"\nvideo3\n')
    with pytest.raises(UserError, match=r"9k\.csv line 2 is not valid CSV"):
        read_retrieval("msrvtt", tmp_path, tmp_path, seed=0)
    path.write_text('video_id\n"video1"x\nvideo2\n')
    with pytest.raises(UserError, match=r"9k\.csv line 2 is not valid CSV"):
        read_retrieval("msrvtt", tmp_path, tmp_path, seed=0)


def test_quotes_within_a_sentence(tmp_path: Path, write_json: Any) -> None:
    write_msrvtt(tmp_path, write_json)
    path = tmp_path / "MSRVTT_JSFUSION_test.csv"
    path.write_text(
        'key,vid_key,video_id,sentence\r\n\r\nr,m,video20,"a ""big"" dog"\r\n'
        "r,m,video21,a man\u2028walks\r\n"
    )
    tested = read_retrieval("msrvtt", tmp_path, tmp_path, seed=0).test
    assert [record.captions for record in tested] == [('a "big" dog',), ("a man\u2028walks",)]


def didemo_row(video: str, description: str) -> dict[str, Any]:
    return {"video": video, "description": description, "times": [[0, 0]] * 4, "num_segments": 6}


def test_didemo_joins_descriptions(tmp_path: Path, write_json: Any) -> None:
    rows = [
        didemo_row("1@N_2.mov", "A dog barks. "),
        didemo_row("3@N_4.avi", "Rain"),
        didemo_row("1@N_2.mov", "the dog leaves"),
        didemo_row("3@N_4.avi", "..."),  # of no words, but others tell of the video
    ]
    write_json("train_data.json", rows)
    write_json("val_data.json", rows[1:2])
    write_json("test_data.json", rows[:1])
    splits = read_retrieval("didemo", tmp_path, tmp_path, seed=0)
    assert splits.train[0] == CaptionedMedia(
        "1@N_2.mov", tmp_path / "1@N_2.mov", "video", ("A dog barks. the dog leaves",)
    )
    assert [len(records) for records in splits.named().values()] == [2, 1, 1]
    assert splits.notes == ()


def test_didemo_lines(tmp_path: Path, write_lines: Any) -> None:
    for split in ("train", "val", "test"):
        write_lines(f"{split}.jsonl", [{"clip_name": f"{split}.mp4", "caption": "a b. c"}])
    splits = read_retrieval("didemo", tmp_path, tmp_path, seed=0)
    assert splits.test[0].captions == ("a b. c",)
    assert splits.val[0].media_id == "val.mp4"


def test_didemo_faults(tmp_path: Path, write_json: Any) -> None:
    with pytest.raises(UserError, match=r"neither train_data\.json nor train\.jsonl"):
        read_retrieval("didemo", tmp_path, tmp_path, seed=0)
    write_json("test_data.json", [didemo_row("a.mp4", "x")])
    with pytest.raises(UserError, match=r"train_data\.json does not exist beside"):
        read_retrieval("didemo", tmp_path, tmp_path, seed=0)
    write_json("train_data.json", [{"video": "a.mp4", "description": 3}])
    with pytest.raises(UserError, match=r"entry 0: 'description' is a number, not text"):
        read_retrieval("didemo", tmp_path, tmp_path, seed=0)
    write_json("train_data.json", [didemo_row("a.mp4", "..."), didemo_row("a.mp4", "!")])
    with pytest.raises(
        UserError, match=r"a\.mp4: 'description' holds '\.\.\. !', which has no wor"
    ):
        read_retrieval("didemo", tmp_path, tmp_path, seed=0)


def test_converted_clips_are_found(tmp_path: Path, write_json: Any) -> None:
    """As mirrors hold them: the same name, another ending."""
    listed = ("1.mov", "2.AVI", "3.mov", "4.mov", "5.mp4_x", "6.m2ts", "7.vob", "y" * 300)
    rows = [didemo_row(name, "x") for name in listed]
    for split in ("train", "val", "test"):
        write_json(f"{split}_data.json", rows)
    media = tmp_path / "media"
    media.mkdir()
    for name in ("1.mp4", "2.AVI", "2.mp4", "3.txt", "5.mp4_x.mp4", "6.m2ts", "7.vob"):
        (media / name).touch()
    splits = read_retrieval("didemo", tmp_path, media, seed=0)
    names = [record.path.name for record in splits.test]
    assert names[:5] == ["1.mp4", "2.AVI", "3.mov", "4.mov", "5.mp4_x.mp4"]
    assert names[5:] == ["6.m2ts", "7.vob", f"{'y' * 300}.mp4"]  # as written; no name of a file


@pytest.mark.parametrize("layout", ["msrvtt", "didemo"])
def test_generated_videos_are_read_back(tmp_path: Path, layout: str) -> None:
    world = ensure_world(tmp_path / "w", WorldSpec(layout=layout, train=10, val=3, test=4))
    splits = read_retrieval(world.kind, world.annotations, world.media, seed=0)
    counts = [len(records) for records in splits.named().values()]
    assert counts == ([9, 1, 4] if layout == "msrvtt" else [10, 3, 4])
    for records in splits.named().values():
        assert all(record.path.is_file() and record.kind == "video" for record in records)
    texts = [text for record in splits.test for text in record.captions]
    assert len(set(texts)) == len(texts) == 4
    assert len(splits.train[0].captions) == (2 if layout == "msrvtt" else 1)
