"""Scenes as files: JPEG pictures and MP4 videos that browsers play."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from aurora_vl.data.synthetic.drawing import draw
from aurora_vl.data.synthetic.scenes import Scene
from aurora_vl.data.synthetic.spec import WorldSpec
from aurora_vl.data.video_file import pyav
from aurora_vl.errors import UserError

FRAMES = 16
FRAMES_PER_SECOND = 8
# Without x264's macroblock tree: with it, about one small video in a hundred came out with other
# bytes in another run (2 of 120 in 20 runs each, none without it).
_ENCODER = {"preset": "veryfast", "crf": "20", "threads": "1", "x264-params": "mbtree=0"}


def write_picture(path: Path, scene: Scene, spec: WorldSpec) -> None:
    """Draw a scene into a JPEG file without chroma subsampling."""
    picture = Image.fromarray(draw(scene, spec.style, size=spec.size))
    picture.save(path, quality=92, subsampling=0)


def write_video(path: Path, scene: Scene, spec: WorldSpec) -> None:
    """Film a moving scene: H.264, yuv420p, two seconds, its index in front.

    Raises:
        UserError: PyAV (the extra `video`) is not installed, or the size is odd.
    """
    av = pyav()
    if spec.size % 2:
        raise UserError(f"world size {spec.size} is odd; videos (yuv420p) need an even one.")
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=_ENCODER)
        stream.width = stream.height = spec.size
        stream.pix_fmt = "yuv420p"
        for index in range(FRAMES):
            moment = index / (FRAMES - 1)
            pixels = draw(scene, spec.style, size=spec.size, moment=moment)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
