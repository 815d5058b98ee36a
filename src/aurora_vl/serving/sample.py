"""A small gallery of generated pictures and videos, for a server that is started without one."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from aurora_vl.data.synthetic.files import write_picture, write_video
from aurora_vl.data.synthetic.scenes import sample_moving_scene, sample_scene
from aurora_vl.data.synthetic.spec import WorldSpec
from aurora_vl.gallery.gallery import Gallery
from aurora_vl.inference.adapters import BASE
from aurora_vl.inference.retriever import Retriever
from aurora_vl.utils.atomic import whole_folder

log = logging.getLogger(__name__)
_SEED = 22
_SPEC = WorldSpec(style="flat", size=192)  # the style that the mini foundation was made for


def sample_gallery(
    folder: Path, retriever: Retriever, *, pictures: int = 500, videos: int = 20
) -> Gallery:
    """The gallery, made where it is not there and indexed with all adapters.

    Args:
        folder: of the media and the gallery's file.
        retriever: embeds.
        pictures: how many.
        videos: how many.
    """
    media = folder / f"media-{pictures}-{videos}"
    if not media.is_dir():
        log.info("generating %d pictures and %d videos in %s", pictures, videos, media)
        with whole_folder(media) as unfinished:
            _write_media(unfinished, pictures, videos)
    gallery = Gallery.open(folder / f"sample-{pictures}-{videos}.aurora")
    gallery.add_folder(media, retriever, adapters=[*retriever.adapters, BASE])
    return gallery


def _write_media(folder: Path, pictures: int, videos: int) -> None:
    rng = np.random.default_rng(_SEED)
    for number in range(pictures):
        write_picture(folder / f"picture-{number:03d}.jpg", sample_scene(rng), _SPEC)
    for number in range(videos):
        write_video(folder / f"video-{number:02d}.mp4", sample_moving_scene(rng), _SPEC)
