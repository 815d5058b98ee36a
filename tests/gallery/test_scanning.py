from __future__ import annotations

import os
from pathlib import Path

import pytest

from aurora_vl.errors import UserError
from aurora_vl.gallery.scanning import Found, scan


def touch(path: Path | str) -> str:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb"):
        pass
    return str(path)


def test_pictures_and_videos_of_a_tree_are_found_in_order(tmp_path: Path) -> None:
    video = touch(tmp_path / "b" / "c.MP4")
    picture = touch(tmp_path / "a.JPG")
    touch(tmp_path / "notes.txt")
    found = scan(tmp_path)
    assert found.files == [Found(picture, "image"), Found(video, "video")]
    assert found.covers(video)
    assert not found.covers(str(tmp_path) + "-other/a.jpg")


def test_hidden_names_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path / ".thumbnails" / "a.jpg")
    touch(tmp_path / ".a.jpg")
    seen = touch(tmp_path / "a.jpg")
    assert [file.path for file in scan(tmp_path).files] == [seen]


def test_links_are_left_out_and_counted(tmp_path: Path) -> None:
    secret = touch(tmp_path / "outside" / "secret.jpg")
    tree = tmp_path / "tree"
    seen = touch(tree / "a.jpg")
    (tree / "b.jpg").symlink_to(secret)
    (tree / "outside").symlink_to(tmp_path / "outside")
    (tree / "loop").symlink_to(tree)
    found = scan(tree)
    assert [file.path for file in found.files] == [seen]
    assert found.links == 3


def test_a_tree_that_is_named_by_a_link_is_looked_at(tmp_path: Path) -> None:
    touch(tmp_path / "tree" / "a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "tree")
    assert [file.path for file in scan(tmp_path / "link").files] == [str(tmp_path / "link/a.jpg")]


def test_names_in_any_encoding(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    touch(os.fsdecode(name))
    (found,) = scan(tmp_path).files
    assert os.fsencode(found.path) == name


def test_pipes_are_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert scan(tmp_path).files == []


def test_a_list_names_media_beside_it_each_once(tmp_path: Path) -> None:
    listed = tmp_path / "list.jsonl"
    listed.write_text(
        '{"image": "b.jpg", "caption": "one"}\n'
        '{"image": "./b.jpg", "caption": "another"}\n'
        '{"video": "a.bin", "window": [2.5, 7]}\n'
        '{"video": "a.bin", "window": [0, 2]}\n'
    )
    found = scan(listed)
    assert found.files == [
        Found(str(tmp_path / "a.bin"), "video", ((0.0, 2.0), (2.5, 7.0))),
        Found(str(tmp_path / "b.jpg"), "image"),
    ]
    assert found.covers("/anything.jpg")


@pytest.mark.parametrize("name", ["nothing", "a.jpg"])
def test_what_is_neither_is_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"give a folder of pictures and videos, or a list"):
        scan(tmp_path / name)


def test_a_wrong_line_of_a_list_is_named(tmp_path: Path) -> None:
    listed = tmp_path / "list.jsonl"
    listed.write_text('{"image": "b.jpg"}\n{"picture": "b.jpg"}\n')
    with pytest.raises(UserError, match=r"list\.jsonl line 2 has neither"):
        scan(listed)
