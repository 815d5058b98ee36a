"""What torch, safetensors and Python say of a full disk, on a device that is always full."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from aurora_vl.errors import UserError
from aurora_vl.utils.disks import explained_disk_faults

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")


def write_python() -> None:
    FULL.write_text("text")


def write_torch() -> None:
    torch.save({"a": torch.zeros(100_000)}, FULL)


def write_safetensors() -> None:
    """What it says; it would put its file in the place of the device."""
    raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")


@pytest.mark.parametrize("write", [write_python, write_torch, write_safetensors])
def test_a_full_disk(write: Callable[[], None], tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=rf"^{tmp_path} cannot be written to \(.*full.*\); go on\.$"),
        explained_disk_faults(tmp_path, "go on"),
    ):
        write()


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), OSError(5, "I/O error", "a")])
def test_other_faults_stay_as_they_are(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught, explained_disk_faults(tmp_path, "go on"):
        raise error
    assert caught.value is error
