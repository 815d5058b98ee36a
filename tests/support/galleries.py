"""Generated media to be indexed, and processes that index them and are killed on the way."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from aurora_vl.data.synthetic.files import write_picture, write_video
from aurora_vl.data.synthetic.scenes import sample_moving_scene, sample_scene
from aurora_vl.data.synthetic.spec import WorldSpec
from aurora_vl.gallery import indexing
from aurora_vl.gallery.gallery import Gallery
from aurora_vl.inference.retriever import Retriever

SPEC = WorldSpec(style="flat")  # what the mini foundation was made for


def write_world(folder: Path, *, pictures: int, videos: int, seed: int = 0) -> None:
    """Pictures p0000.jpg, ... and videos v0000.mp4, ... of random scenes."""
    rng = np.random.default_rng(seed)
    for number in range(pictures):
        write_picture(folder / f"p{number:04}.jpg", sample_scene(rng), SPEC)
    for number in range(videos):
        write_video(folder / f"v{number:04}.mp4", sample_moving_scene(rng), SPEC)


def index(uri: str, folder: Path, written: int) -> None:
    """Index with the mini foundation, `written` items in a transaction."""
    torch.set_num_threads(1)
    indexing._WRITTEN = written
    with Gallery.open(uri) as gallery:
        gallery.add_folder(folder, Retriever.load("mini"))


def index_and_kill(uri: str, folder: Path, written: int, *, items: int, delay: float) -> None:
    """Kill the process, by a signal it cannot catch, once there are that many items.

    Args:
        uri: of the gallery.
        folder: to be indexed.
        written: items in a transaction.
        items: to wait for; the process may end before.
        delay: seconds that pass after that.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["aurora_vl.gallery.gallery"])
    process = context.Process(target=index, args=(uri, folder, written))
    process.start()
    while process.is_alive() and count(uri) < items:
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    process.join()


def count(uri: str) -> int:
    """The items that a reader sees; 0 where the gallery is not made yet."""
    if not Path(uri).exists():
        return 0
    with closing(sqlite3.connect(uri)) as db:
        try:
            return int(db.execute("SELECT count(*) FROM items").fetchone()[0])
        except sqlite3.OperationalError:
            return 0
