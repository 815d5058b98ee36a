from __future__ import annotations

import os
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from galleries import count, index_and_kill, write_world
from PIL import Image

from aurora_vl.data.video import duration
from aurora_vl.errors import UserError
from aurora_vl.gallery import sqlite_store
from aurora_vl.gallery.gallery import Gallery
from aurora_vl.gallery.indexing import IndexReport
from aurora_vl.inference.retriever import Retriever

WRITER_WAITS = "_SECONDS"


def facts(report: IndexReport) -> dict[str, object]:
    """What a report says beside nothing, without the time."""
    return {key: value for key, value in report.to_json().items() if value and key != "seconds"}


def paths(gallery: Gallery) -> list[str]:
    return [Path(item.path).name for item in gallery.items()]


@pytest.fixture
def photos(tmp_path: Path, world: Path) -> Path:
    """A copy of the world that may be changed."""
    return Path(shutil.copytree(world, tmp_path / "photos"))


def test_a_tree_is_indexed_with_facts_vectors_and_thumbnails(
    gallery: Gallery, world: Path, retriever: Retriever
) -> None:
    assert facts(gallery.add_folder(world, retriever)) == {"added": 14, "items": 14}
    items = list(gallery.items())
    assert [Path(item.path).name for item in items] == sorted(os.listdir(world))
    assert [item.kind for item in items] == ["image"] * 12 + ["video"] * 2
    assert items[0].size == os.path.getsize(items[0].path)
    assert items[0].modified == os.stat(items[0].path).st_mtime_ns
    thumbnail = gallery.thumbnail(items[-1])
    assert thumbnail is not None
    assert thumbnail[:3] == b"\xff\xd8\xff"
    store = gallery._store
    (collection,) = gallery.collections
    assert (collection.backbone, collection.adapter) == ("mini", None)
    kept = store.vectors(collection.fingerprint, [items[0].id, items[-1].id])
    whole = np.concatenate(
        [retriever.encode_images([items[0].path]), retriever.encode_videos([items[-1].path])]
    )
    np.testing.assert_allclose(
        np.stack([kept[items[0].id], kept[items[-1].id]]).astype(np.float32), whole, atol=1e-3
    )


def test_a_second_run_embeds_nothing(gallery: Gallery, world: Path, retriever: Retriever) -> None:
    gallery.add_folder(world, retriever)
    assert facts(gallery.add_folder(world, retriever)) == {"unchanged": 14}


def test_a_changed_file_is_replaced(gallery: Gallery, photos: Path, retriever: Retriever) -> None:
    gallery.add_folder(photos, retriever)
    changed = photos / "p0003.jpg"
    Image.new("RGB", (40, 40), "red").save(changed)
    assert facts(gallery.add_folder(photos, retriever)) == {
        "changed": 1,
        "unchanged": 13,
        "items": 1,
    }
    (hit,) = gallery.search(changed, retriever, top=1)
    assert hit.item.path == str(changed)
    assert hit.item.size == changed.stat().st_size
    assert hit.score == pytest.approx(1.0, abs=1e-3)


def test_a_file_that_was_only_touched_is_not_embedded(
    gallery: Gallery, photos: Path, retriever: Retriever
) -> None:
    gallery.add_folder(photos, retriever)
    os.utime(photos / "p0003.jpg", ns=(0, 5_000))
    assert facts(gallery.add_folder(photos, retriever)) == {"unchanged": 14}
    assert next(i for i in gallery.items() if i.path.endswith("p0003.jpg")).modified == 5_000
    assert facts(gallery.add_folder(photos, retriever)) == {"unchanged": 14}


def test_renamed_files_are_recognised(gallery: Gallery, photos: Path, retriever: Retriever) -> None:
    gallery.add_folder(photos, retriever)
    (photos / "album").mkdir()
    (photos / "p0003.jpg").rename(photos / "album" / "rose.jpg")
    (photos / "v0000.mp4").rename(photos / "film.mp4")
    assert facts(gallery.add_folder(photos, retriever)) == {"renamed": 2, "unchanged": 12}
    assert {"rose.jpg", "film.mp4"} < set(paths(gallery))
    assert not {"p0003.jpg", "v0000.mp4"} & set(paths(gallery))
    (hit,) = gallery.search(photos / "album" / "rose.jpg", retriever, top=1)
    assert hit.item.path.endswith("rose.jpg")
    assert gallery.thumbnail(hit.item)


def test_copies_of_a_file_that_is_gone_are_not_embedded(
    gallery: Gallery, photos: Path, retriever: Retriever
) -> None:
    gallery.add_folder(photos, retriever)
    shutil.copy(photos / "p0003.jpg", photos / "a.jpg")
    (photos / "p0003.jpg").rename(photos / "b.jpg")
    assert facts(gallery.add_folder(photos, retriever)) == {
        "added": 1,
        "renamed": 1,
        "unchanged": 13,
    }
    found = gallery.search(photos / "a.jpg", retriever, top=2)
    assert {Path(hit.item.path).name for hit in found} == {"a.jpg", "b.jpg"}


def test_files_that_are_gone_are_told_and_pruned(
    gallery: Gallery, photos: Path, retriever: Retriever, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (40, 40), "red").save(elsewhere / "red.png")
    gallery.add_folder(elsewhere, retriever)
    gallery.add_folder(photos, retriever)
    shutil.rmtree(elsewhere)
    (photos / "p0003.jpg").unlink()
    assert facts(gallery.add_folder(photos, retriever)) == {"vanished": 1, "unchanged": 13}
    assert "p0003.jpg" in paths(gallery)
    assert facts(gallery.add_folder(photos, retriever, prune=True)) == {
        "removed": 1,
        "unchanged": 13,
    }
    assert "p0003.jpg" not in paths(gallery)
    assert "red.png" in paths(gallery)  # of another folder, which may be a disk that is away


def test_damaged_files_are_listed_and_the_rest_indexed(
    gallery: Gallery, photos: Path, retriever: Retriever
) -> None:
    (photos / "p0003.jpg").write_bytes((photos / "p0003.jpg").read_bytes()[:500])
    (photos / "p0004.jpg").write_bytes(b"")
    (photos / "v0000.mp4").write_bytes(b"not a video" * 100)
    report = gallery.add_folder(photos, retriever)
    assert (report.added, report.items) == (11, 11)
    assert [Path(error.split(" ")[0]).name for error in report.errors] == [
        "p0003.jpg",
        "p0004.jpg",
        "v0000.mp4",
    ]
    again = gallery.add_folder(photos, retriever)
    assert (again.unchanged, again.items, len(again.errors)) == (11, 0, 3)


def test_a_file_that_became_damaged_is_no_longer_found(
    gallery: Gallery, photos: Path, retriever: Retriever
) -> None:
    gallery.add_folder(photos, retriever)
    (photos / "p0003.jpg").write_bytes(b"no picture")
    assert len(gallery.add_folder(photos, retriever).errors) == 1
    assert "p0003.jpg" not in paths(gallery)


def test_another_collection_takes_vectors_beside_the_first(
    gallery: Gallery, world: Path, retriever: Retriever
) -> None:
    gallery.add_folder(world, retriever)
    larger = Retriever.load("mini", image_size=96)
    assert facts(gallery.add_folder(world, larger)) == {"unchanged": 14, "items": 14}
    assert len(gallery.collections) == 2
    for one in (retriever, larger):
        assert facts(gallery.add_folder(world, one)) == {"unchanged": 14}
        assert gallery.search(world / "p0005.jpg", one, top=1)[0].item.path.endswith("p0005.jpg")


def test_long_videos_are_cut_into_stretches(
    tmp_path: Path, world: Path, retriever: Retriever
) -> None:
    with Gallery.open(tmp_path / "g.aurora", frames=2, segment=0.5) as gallery:
        assert facts(gallery.add_folder(world, retriever)) == {"added": 14, "items": 20}
        assert facts(gallery.add_folder(world, retriever)) == {"unchanged": 14}
        windows = [item.window for item in gallery.items() if item.path.endswith("v0000.mp4")]
        end = duration(world / "v0000.mp4")
        assert windows == [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5), (1.5, end)]
        assert gallery.search("a star", retriever, top=20)[0].to_json().keys() >= {"path", "score"}


def test_the_number_of_frames_counts(tmp_path: Path, world: Path, retriever: Retriever) -> None:
    kept = []
    for frames in (1, 8):
        with Gallery.open(tmp_path / f"{frames}.aurora", frames=frames) as gallery:
            gallery.add_folder(world, retriever)
            (film,) = [item for item in gallery.items() if item.path.endswith("v0000.mp4")]
            (collection,) = gallery.collections
            kept.append(gallery._store.vectors(collection.fingerprint, [film.id])[film.id])
    assert np.abs(kept[0] - kept[1]).max() > 1e-3
    np.testing.assert_allclose(
        kept[1].astype(np.float32),
        retriever.encode_videos([world / "v0000.mp4"])[0],
        atol=1e-3,
    )


def test_a_list_names_parts_of_videos(gallery: Gallery, photos: Path, retriever: Retriever) -> None:
    listed = photos / "list.jsonl"
    lines = ['{"image": "p0001.jpg"}', '{"video": "v0000.mp4", "window": [0.5, 1.5]}']
    listed.write_text("\n".join([*lines, '{"image": "absent.jpg"}']))
    report = gallery.add_folder(listed, retriever)
    assert (report.added, report.items) == (2, 2)
    assert "absent.jpg" in report.errors[0]
    assert [item.window for item in gallery.items()] == [None, (0.5, 1.5)]
    listed.write_text("\n".join([*lines, '{"video": "v0000.mp4", "window": [0, 1]}']))
    assert facts(gallery.add_folder(listed, retriever)) == {"unchanged": 2, "items": 1}
    assert [item.window for item in gallery.items()] == [None, (0.0, 1.0), (0.5, 1.5)]


def test_a_folder_without_media_is_refused(
    gallery: Gallery, tmp_path: Path, retriever: Retriever
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no pictures or videos"):
        gallery.add_folder(tmp_path / "empty", retriever)


def test_a_second_writer_gets_a_sentence_and_readers_see_what_is_written(
    gallery: Gallery, world: Path, retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, WRITER_WAITS, 0.05)
    gallery.add_folder(world, retriever)
    with Gallery.open(gallery.uri) as other, other._store.writing():
        assert len(other.search("a star", retriever, top=50)) == 14
        with pytest.raises(UserError, match="is being written to by another process"):
            gallery.add_folder(world, retriever)
        (first,) = other.search("a star", retriever, top=1)
        other._store.remove([first.item.id])
        assert len(gallery.search("a star", retriever, top=50)) == 13


def test_kill_at_random_moments_and_go_on(tmp_path: Path, retriever: Retriever) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    write_world(photos, pictures=120, videos=4)
    killed, whole = str(tmp_path / "killed.aurora"), str(tmp_path / "whole.aurora")
    rng = random.Random(0)
    reached = [0]
    for step in range(1, 6):
        index_and_kill(killed, photos, 4, items=20 * step, delay=rng.uniform(0, 0.02))
        reached.append(count(killed))
    assert reached == sorted(reached)  # what was written stays
    assert 0 < reached[1] < reached[-1]
    for uri in (killed, whole):
        with Gallery.open(uri) as gallery:
            gallery.add_folder(photos, retriever)
            assert gallery.add_folder(photos, retriever).unchanged == 124
    compare_rows(killed, whole)


def compare_rows(one: str, other: str) -> None:
    """Every row of two galleries; vectors to the rounding of batches of another size."""

    def rows(uri: str, statement: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(uri)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return db.execute(statement).fetchall()

    for table in ("items", "thumbnails", "collections", "settings"):
        assert rows(one, f"SELECT * FROM {table}") == rows(other, f"SELECT * FROM {table}")
    statement = "SELECT item, collection, vector FROM vectors ORDER BY item, collection"
    pairs = list(zip(rows(one, statement), rows(other, statement), strict=True))
    assert len(pairs) == 124
    for (*key, vector), (*same, expected) in pairs:
        assert key == same
        np.testing.assert_allclose(
            np.frombuffer(vector, np.float16).astype(np.float32),  # type: ignore[call-overload]
            np.frombuffer(expected, np.float16).astype(np.float32),  # type: ignore[call-overload]
            atol=1e-3,
        )
