"""The command line in process, over a tiny random backbone and a small data set."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Aurora, OwnData, run_in_process, write_own_data
from tiny_blip import save_backbone, tiny_config, tiny_tokenizer

from aurora_vl.backbones.blip.modeling import BlipForRetrieval
from aurora_vl.cli.options import LOGGER


@pytest.fixture
def aurora() -> Iterator[Aurora]:
    """Run `aurora ARGUMENTS...` in this process; the log's level is put back afterwards."""
    yield run_in_process
    logging.getLogger(LOGGER).setLevel(logging.NOTSET)
    logging.getLogger("py.warnings").handlers.clear()


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp("backbone") / "tiny")


@pytest.fixture
def own_data(tmp_path: Path, backbone: Path) -> OwnData:
    return write_own_data(tmp_path / "own", backbone)


@pytest.fixture(scope="session")
def wider_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone whose vision and text are both 32 wide."""
    config = tiny_config()
    config.vision_config.hidden_size = config.text_config.hidden_size = 32
    config.text_config.encoder_hidden_size = 32
    model = BlipForRetrieval(config)
    folder = tmp_path_factory.mktemp("backbone") / "wider"
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
