"""THIRD_PARTY.md names every package that an installation brings, with the licence it states."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
_WORDS = {
    "apache": "Apache",
    "mit": "MIT",
    "bsd": "BSD",
    "isc": "ISC",
    "lgpl": "LGPL",
    "python software": "Python Software",
}


def declared() -> dict[str, str]:
    """Run-time packages and where pyproject.toml names them; `dev` is for tests alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    places = {"always": project["dependencies"]}
    places |= {f"extra `{k}`": v for k, v in project["optional-dependencies"].items() if k != "dev"}
    return {
        re.split(r"[\[<>=~! ;]", entry)[0].lower(): place
        for place, entries in places.items()
        for entry in entries
        if not entry.startswith("aurora-vl[")
    }


def listed() -> dict[str, tuple[str, str]]:
    text = (ROOT / "THIRD_PARTY.md").read_text().split("## Installed beside it")[1]
    rows = re.findall(r"^\| (\S+) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    return {name: (place, licence) for name, place, licence in rows if name != "package"}


def stated(name: str) -> str:
    about = metadata(name)
    kinds = [kind for kind in about.get_all("Classifier", []) if kind.startswith("License")]
    return about.get("License-Expression") or " ".join(kinds) or about.get("License") or ""


def test_every_package_is_listed_and_none_besides() -> None:
    assert {name: place for name, (place, _) in listed().items()} == declared()


def test_the_licences_are_those_the_packages_state() -> None:
    checked = 0
    for name, (_, licence) in listed().items():
        try:
            text = stated(name).lower()
        except PackageNotFoundError:
            continue  # an extra that is not installed
        said = {word for key, word in _WORDS.items() if key in text}
        assert said, f"{name} states {text[:80]!r}"
        assert all(word in licence for word in said), (name, said, licence)
        checked += 1
    assert checked >= 13
