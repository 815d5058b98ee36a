"""`Retriever`: one model, many adapters, any source, the same bits for everybody."""

from __future__ import annotations

import io
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from PIL import Image
from random_adapters import save_adapter
from tiny_blip import tiny_model, tiny_tokenizer

import aurora_vl
from aurora_vl import Retriever
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.errors import UserError
from aurora_vl.evaluation.retrieval import evaluate_retrieval
from aurora_vl.inference.export import export_merged
from aurora_vl.inference.media import MediaItem
from aurora_vl.inference.settings import read_settings

TEXTS = ["a red star", "a big blue box on the grass", "two cats", "a tree"]


@pytest.fixture(scope="module")
def retriever(adapters: dict[str, Path]) -> Retriever:
    return Retriever.load("mini", adapters=adapters)


def test_paths_bytes_and_pictures_are_one(retriever: Retriever, pictures: list[Path]) -> None:
    paths = retriever.encode_images(pictures)
    assert paths.shape == (9, retriever.width)
    assert paths.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(paths, axis=1), 1, atol=1e-6)
    mixed = [str(pictures[0]), pictures[1].read_bytes(), Image.open(pictures[2]), *pictures[3:]]
    np.testing.assert_array_equal(retriever.encode_images(mixed), paths)
    jpeg = io.BytesIO()
    Image.open(pictures[0]).save(jpeg, "JPEG", quality=98)
    close = retriever.encode_images(jpeg.getvalue())
    assert close.shape == (1, retriever.width)
    assert float(close[0] @ paths[0]) > 0.98


@pytest.mark.parametrize("workers", [0, 2])
def test_order_and_batches(retriever: Retriever, pictures: list[Path], workers: int) -> None:
    whole = retriever.encode_images(pictures)
    found = retriever.encode_images(pictures[::-1], batch_size=2, workers=workers)
    np.testing.assert_allclose(found[::-1], whole, atol=1e-5)
    many = retriever.encode_texts(TEXTS * 3, batch_size=5)
    np.testing.assert_allclose(many[4:8], retriever.encode_texts(TEXTS), atol=1e-5)
    assert retriever.encode_images([]).shape == (0, retriever.width)
    assert retriever.encode_texts([]).shape == (0, retriever.width)


def test_videos(retriever: Retriever, videos: list[Path]) -> None:
    found = retriever.encode_videos([videos[0], videos[1].read_bytes(), videos[2]])
    one = retriever.encode_videos(videos[1])
    np.testing.assert_allclose(found[1:2], one, atol=1e-5)
    with pytest.raises(UserError, match="a PIL picture is no video"):
        retriever.encode_videos(Image.new("RGB", (8, 8)))


def test_each_call_has_its_adapter(
    retriever: Retriever, adapters: dict[str, Path], pictures: list[Path]
) -> None:
    """As each adapter alone gives it, and the frozen backbone as without any."""
    found = {name: retriever.encode_images(pictures, adapter=name) for name in ("a", "b", "base")}
    np.testing.assert_array_equal(retriever.encode_images(pictures), found["a"])
    for name, folder in adapters.items():
        alone = Retriever.load("mini", adapter=folder)
        np.testing.assert_allclose(found[name], alone.encode_images(pictures), atol=1e-6)
        texts = retriever.encode_texts(TEXTS, adapter=name)
        np.testing.assert_allclose(texts, alone.encode_texts(TEXTS), atol=1e-6)
        matched = retriever.match(TEXTS, pictures[:2], adapter=name)
        np.testing.assert_allclose(matched, alone.match(TEXTS, pictures[:2]), atol=1e-4)
    frozen = Retriever.load("mini").encode_images(pictures)
    np.testing.assert_allclose(found["base"], frozen, atol=1e-6)
    assert not np.allclose(found["a"], found["b"], atol=1e-2)


def test_adapters_mixed_in_one_forward(retriever: Retriever, pictures: list[Path]) -> None:
    names = ["a", "b", "base", None, "b", "a", "base", "b", "a"]
    mixed = retriever.encode_images(pictures, adapter=names)
    for row, name in enumerate(names):
        own = retriever.encode_images(pictures[row], adapter=name)
        np.testing.assert_allclose(mixed[row], own[0], atol=1e-5)
    texts = retriever.encode_texts(TEXTS, adapter=["b", "a", "b", "base"])
    np.testing.assert_allclose(
        texts[1], retriever.encode_texts(TEXTS[1], adapter="a")[0], atol=1e-5
    )


def test_sixteen_threads_get_what_one_gets(
    retriever: Retriever, pictures: list[Path], videos: list[Path]
) -> None:
    def work(number: int) -> list[np.ndarray]:
        name = ("a", "b", "base", ["a", "b", "base"])[number % 4]
        one = name if isinstance(name, str) else "b"
        return [
            retriever.encode_images(pictures[:3], adapter=name),
            retriever.encode_texts(TEXTS[:3], adapter=name),
            retriever.encode_videos(videos[:1], adapter=one),
            retriever.match(TEXTS[:2], pictures[:1], adapter=one),
        ]

    alone = [work(number) for number in range(4)]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(work, range(32)))
    for number, found in enumerate(together):
        for one, other in zip(found, alone[number % 4], strict=True):
            np.testing.assert_array_equal(one, other)
    assert not retriever.tuned.model.training
    model = retriever.tuned.model
    assert isinstance(model, PeftModel)
    assert model.active_adapter == "a"


def test_an_endless_stream(retriever: Retriever, pictures: list[Path]) -> None:
    asked: list[int] = []

    def endless() -> Any:
        for number in count():
            asked.append(number)
            yield pictures[number % 9]

    stream = retriever.encode_stream(endless(), adapters=("a", "b"), batch_size=3)
    first = list(islice(stream, 7))
    stream.close()
    assert [each.index for each in first] == list(range(7))
    whole = retriever.encode_images(pictures, adapter="b")
    np.testing.assert_allclose(first[4].vectors["b"], whole[4], atol=1e-5)
    assert len(asked) < 30  # it is read a little ahead, not to its end


def test_pictures_and_videos_in_one_stream_and_what_is_damaged(
    retriever: Retriever, pictures: list[Path], videos: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    part = MediaItem(videos[1], "video", window=(0.0, 0.5))
    given = [pictures[0], broken, videos[0], part, pictures[1]]
    found = list(retriever.encode_stream(given, on_error="yield"))
    assert [each.index for each in found] == [0, 1, 2, 3, 4]
    assert [each.error is not None for each in found] == [False, True, False, False, False]
    assert "broken.png" in str(found[1].error)
    whole = retriever.encode_videos(videos[0])
    np.testing.assert_allclose(found[2].vectors[None], whole[0], atol=1e-5)
    with pytest.raises(UserError, match=r"broken\.png"):
        list(retriever.encode_stream(given))


def test_match_is_what_evaluation_ranks_by(retriever: Retriever, pictures: list[Path]) -> None:
    """To the last bit, pictures without captions included."""
    records = [
        CaptionedMedia(path.name, path, "image", tuple(TEXTS[n : n + 1]))
        for n, path in enumerate(pictures)
    ]
    result = evaluate_retrieval(retriever, records, rerank=100)
    np.testing.assert_array_equal(result.text_to_media.numpy(), retriever.match(TEXTS, pictures))
    features = evaluate_retrieval(retriever, records, rerank=0)
    cosines = retriever.encode_texts(TEXTS) @ retriever.encode_images(pictures).T
    np.testing.assert_allclose(features.text_to_media.numpy(), cosines, atol=1e-6)


def test_match_weighs_frames_as_the_adapter_says(
    videos: list[Path], tmp_path: Path, adapters: dict[str, Path]
) -> None:
    aware = save_adapter(tmp_path / "aware", "video-retrieval", 3, frames=4)
    plain = save_adapter(tmp_path / "plain", "video-retrieval", 3, frames=4, frame_aware=False)
    found = [Retriever.load(adapter=folder).match(TEXTS, videos) for folder in (aware, plain)]
    assert not np.allclose(*found, atol=1e-6)
    alone = Retriever.load(adapter=aware)
    itm = alone.match(TEXTS, videos, score="itm")
    cosines = alone.encode_texts(TEXTS) @ alone.encode_videos(videos).T
    np.testing.assert_allclose(found[0], itm + cosines, atol=1e-5)


def test_a_backbone_without_a_matcher(pictures: list[Path]) -> None:
    """Asked for matching it says so; everything else works."""
    retriever = Retriever.load("mini")
    retriever._encoder.matcher = None
    assert not retriever.has_matcher
    assert retriever.encode_images(pictures).shape == (9, retriever.width)
    with pytest.raises(UserError, match="mini has no matching head"):
        retriever.match(TEXTS, pictures)


def test_a_moved_adapter_in_another_process(videos: list[Path], tmp_path: Path) -> None:
    """Without its recipe it takes as many frames as it was trained with."""
    adapter = save_adapter(tmp_path / "run" / "adapter", "video-retrieval", 5, frames=2)
    here = Retriever.load("mini", adapter=adapter).encode_videos(videos)
    moved = tmp_path / "elsewhere"
    adapter.rename(moved)
    script = (
        "import sys, numpy as np\nfrom aurora_vl import Retriever\n"
        "r = Retriever.load(adapter=sys.argv[1])\n"
        "np.save(sys.argv[2], r.encode_videos(sys.argv[3:]))\n"
    )
    out = tmp_path / "found.npy"
    command = [sys.executable, "-c", script, str(moved), str(out), *map(str, videos)]
    subprocess.run(command, check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(out), here, atol=1e-6)
    assert not np.allclose(here, Retriever.load("mini").encode_videos(videos), atol=1e-3)


def test_peft_saves_the_settings_too(tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", "video-retrieval", 5, frames=2, max_words=7)
    model = PeftModel.from_pretrained(aurora_vl.load("mini"), str(adapter))
    model.save_pretrained(str(tmp_path / "copy"), save_embedding_layers=False)
    assert read_settings(tmp_path / "copy") == read_settings(adapter)
    assert read_settings(adapter).frames == 2


def test_whole_models_and_merged_ones(pictures: list[Path], tmp_path: Path) -> None:
    model = tiny_model().float()
    model.save_pretrained(tmp_path / "full")
    tiny_tokenizer().save_pretrained(tmp_path / "full")
    whole = Retriever.load(adapter=tmp_path / "full")
    again = Retriever.load(tmp_path / "full")
    np.testing.assert_array_equal(whole.encode_images(pictures), again.encode_images(pictures))
    torch.manual_seed(0)
    backbone = aurora_vl.load("mini")
    from peft import get_peft_model

    adapted = get_peft_model(backbone, aurora_vl.AuroraConfig(r=2, gqt="off", init_weights=False))
    adapted.peft_config["default"].base_model_name_or_path = "mini"
    adapted.save_pretrained(str(tmp_path / "plain"), save_embedding_layers=False)
    export_merged(tmp_path / "plain", tmp_path / "merged")
    merged = Retriever.load(tmp_path / "merged").encode_images(pictures)
    unmerged = Retriever.load(adapter=tmp_path / "plain").encode_images(pictures)
    np.testing.assert_allclose(merged, unmerged, atol=1e-5)


def test_dtype_and_device(pictures: list[Path], adapters: dict[str, Path]) -> None:
    half = Retriever.load("mini", adapter=adapters["a"], dtype="bfloat16", device="cpu")
    found = half.encode_images(pictures)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    whole = Retriever.load("mini", adapter=adapters["a"]).encode_images(pictures)
    assert (np.sum(found * whole, axis=1) > 0.99).all()
    with pytest.raises(UserError, match="there is no dtype 'int8'"):
        Retriever.load("mini", dtype="int8")


def test_fingerprints_follow_what_matters(adapters: dict[str, Path], tmp_path: Path) -> None:
    retriever = Retriever.load("mini", adapters=adapters)
    prints = [retriever.fingerprint(name) for name in ("a", "b", "base")]
    assert len(set(prints)) == 3
    assert retriever.fingerprint() == prints[0]
    moved = tmp_path / "moved"
    moved.symlink_to(adapters["a"])
    assert Retriever.load("mini", adapters={"x": moved}).fingerprint("x") == prints[0]


def test_what_cannot_be(
    retriever: Retriever, adapters: dict[str, Path], pictures: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"there is no adapter 'c'; known: a, b, base\."):
        retriever.encode_images(pictures, adapter="c")
    with pytest.raises(UserError, match="2 adapters are named for 9 items"):
        retriever.encode_images(pictures, adapter=["a", "b"])
    with pytest.raises(UserError, match=r"a medium is a path, .* not a int"):
        retriever.encode_images([3])  # type: ignore[list-item]
    with pytest.raises(UserError, match="give one adapter, or several by name"):
        Retriever.load("mini", adapter=adapters["a"], adapters=adapters)
    large = save_adapter(tmp_path / "large", "retrieval", 7, image_size=32)
    with pytest.raises(UserError, match="adapters over one backbone need one size"):
        Retriever.load("mini", adapters={**adapters, "large": large})
    other = save_adapter(tmp_path / "other", "retrieval", 7, max_words=2)
    mixed = Retriever.load("mini", adapters={**adapters, "other": other})
    with pytest.raises(UserError, match="prepare media and texts differently"):
        mixed.encode_texts(TEXTS[:2], adapter=["a", "other"])
    assert mixed.encode_texts(TEXTS, adapter="other").shape == (4, mixed.width)


@pytest.mark.parametrize("damage", ["absent", "cut", "pickle", "no-adapter", "unknown-method"])
def test_a_folder_without_weights_is_never_a_hub_id(
    adapters: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """A relative path of two parts looks like the id of a repository."""
    folder = tmp_path / "runs" / "t"
    shutil.copytree(adapters["a"], folder)
    weights = folder / "adapter_model.safetensors"
    if damage == "absent":
        weights.unlink()
        expected = "runs/t has an adapter_config.json but no adapter_model.safetensors"
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:50])
        expected = r"adapter_model\.safetensors is damaged"
    elif damage == "pickle":
        weights.write_bytes(pickle.dumps({}))
        expected = r"adapter_model\.safetensors is damaged"
    elif damage == "unknown-method":
        config = folder / "adapter_config.json"
        config.write_text(config.read_text().replace('"AURORA"', '"AURORA9"'))
        expected = "names the method 'AURORA9', which PEFT .* does not have"
    else:
        (folder / "adapter_config.json").unlink()
        expected = "runs/t holds no adapter_config.json"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=expected):
        Retriever.load("mini", adapter="runs/t")
