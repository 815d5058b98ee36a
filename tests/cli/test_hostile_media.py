"""Folders of files that nobody would choose: each has its sentence, none hangs or fills memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import Aurora
from PIL import Image
from videos import nothing_inside, patch_matrix, write_frames, write_numbered, write_sound

GIGABYTE = 10**9
# The command as it is, which at its end tells the peak of its resident memory, in bytes.
MEASURED = """
import sys
from pathlib import Path
from aurora_vl.cli.main import run
try:
    run()
finally:
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    print("peak", 1024 * peak, file=sys.stderr)
"""
Make = Callable[[Path], object]


def noise(width: int, height: int) -> np.ndarray:
    """Blocks of noise (height, width, 3); sides are multiples of 20."""
    small = np.random.default_rng(0).integers(0, 256, (height // 20, width // 20, 3), np.uint8)
    return small.repeat(20, 0).repeat(20, 1)


def truncated(make: Make) -> Make:
    def made(path: Path) -> None:
        make(path)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])

    return made


def named_wrongly(make: Make, ending: str) -> Make:
    """Another kind of file under the name."""
    return lambda path: (make(path.with_suffix(ending)), path.with_suffix(ending).rename(path))


def picture(path: Path) -> None:
    Image.fromarray(noise(200, 100)).save(path)


def video(path: Path) -> None:
    write_numbered(path, 100)


def turned_picture(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(200, 100)).save(path, exif=exif)


def vast_picture(path: Path) -> None:
    """A hundred and one megapixels, all there."""
    Image.new("L", (10_100, 10_000)).save(path)


def transparent(path: Path) -> None:
    layer = Image.fromarray(noise(4000, 4000)).convert("RGBA")
    layer.putalpha(128)
    layer.save(path, compress_level=1)


BAD_PICTURES: dict[str, tuple[Make, str]] = {
    "truncated.jpg": (truncated(picture), "is damaged and cannot be decoded"),
    "empty.jpg": (lambda path: path.touch(), "is empty (0 bytes)"),
    "text.jpg": (lambda path: path.write_text("<html>404</html>"), "is not a picture that can be"),
    "video.jpg": (named_wrongly(video, ".mp4"), "is not a picture that can be read"),
    "vast.png": (vast_picture, "pixels where at most 89,478,485 are decoded: scale it"),
}
GOOD_PICTURES: dict[str, Make] = {
    "large.png": transparent,
    "rotated.jpg": turned_picture,
    "one-frame.gif": picture,
}
BAD_VIDEOS: dict[str, tuple[Make, str]] = {
    "truncated.mp4": (truncated(video), "is cut off or damaged"),
    "empty.mp4": (lambda path: path.touch(), "is empty (0 bytes)"),
    "text.mp4": (lambda path: path.write_text("<html>404</html>"), "is no video that can be read"),
    "picture.mp4": (named_wrongly(picture, ".jpg"), "is no video that can be read"),
    "4000.mp4": (
        lambda path: write_frames(path, [noise(4000, 4000)] * 2, preset="ultrafast"),
        "has frames of 4000 x 4000, above 9,437,184 pixels",
    ),
    "sound.mp4": (write_sound, "holds no moving pictures, sound alone"),
    "nothing.mp4": (nothing_inside, "holds no moving pictures:"),
}
GOOD_VIDEOS: dict[str, Make] = {
    "one-frame.mp4": lambda path: write_numbered(path, 1),
    "rotated.mp4": lambda path: (write_numbered(path, 9), patch_matrix(path, 0, 1, -1, 0)),
    "large.mp4": lambda path: write_frames(path, [noise(4000, 2300)] * 9, preset="ultrafast"),
}


def write_folder(folder: Path, key: str, makes: dict[str, Make]) -> Path:
    """The files, listed in one `train.jsonl`, and a recipe over them."""
    for name, make in makes.items():
        make(folder / name)
    lines = [json.dumps({key: name, "caption": f"a {name}"}) for name in makes]
    (folder / "train.jsonl").write_text("\n".join(lines))
    task = "retrieval" if key == "image" else "video-retrieval"
    recipe = {
        "task": task,
        "data": {"kind": "jsonl", "annotations": str(folder), "media": str(folder)},
        "training": {"output": str(folder / "run")},
    }
    (folder / "own.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    return folder / "own.yaml"


FOLDERS = {"image": (BAD_PICTURES, GOOD_PICTURES), "video": (BAD_VIDEOS, GOOD_VIDEOS)}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("key", FOLDERS)
def test_check_data_names_each_and_stays_small(tmp_path: Path, key: str) -> None:
    bad, good = FOLDERS[key]
    makes = {name: make for name, (make, _) in bad.items()} | good
    recipe = write_folder(tmp_path, key, makes)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "check-data", str(recipe), "--full", "--json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert (report["decoded"], report["missing"]) == (len(makes), 0)
    told = report["undecodable_first"]
    assert len(told) == report["undecodable"] == len(bad)
    for name, (_, sentence) in bad.items():
        (found,) = [line for line in told if f"/{name} " in line]
        assert sentence in found
        assert "\n" not in found
    assert "Traceback" not in done.stderr
    assert int(done.stderr.split("peak")[-1]) < GIGABYTE


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", [*BAD_PICTURES, *BAD_VIDEOS])
def test_asked_about_it_says_the_same(aurora: Aurora, tmp_path: Path, name: str) -> None:
    make, sentence = (BAD_PICTURES | BAD_VIDEOS)[name]
    make(tmp_path / name)
    outcome = aurora("ask", tmp_path / name, "what is there")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith(f"aurora: {tmp_path / name} ")
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("name", [*GOOD_PICTURES, *GOOD_VIDEOS])
def test_the_others_are_answered_about(aurora: Aurora, tmp_path: Path, name: str) -> None:
    (GOOD_PICTURES | GOOD_VIDEOS)[name](tmp_path / name)
    found = aurora("ask", tmp_path / name, "what is there", "--json")
    assert found.status == 0, found.err
    assert found.json["media"] == str(tmp_path / name)
