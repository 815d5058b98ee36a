"""Aurora: parameter-efficient tuning of vision-language models by mode approximation.

Importing the package registers its types of adapters with PEFT.
"""

from __future__ import annotations

from aurora_vl._version import __version__
from aurora_vl.backbones.families import load, load_tokenizer
from aurora_vl.gallery.gallery import Gallery
from aurora_vl.inference.answerer import Answerer
from aurora_vl.inference.retriever import Retriever
from aurora_vl.methods import register
from aurora_vl.tuner.config import AuroraConfig

register()

__all__ = [
    "Answerer",
    "AuroraConfig",
    "Gallery",
    "Retriever",
    "__version__",
    "load",
    "load_tokenizer",
]
