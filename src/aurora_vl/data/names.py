"""Files whose names are spelled otherwise in a list than on the disk.

Archives from a Mac write é as two characters, lists from Windows have backslashes and any case of
letters. Such a name is taken for the one file that it can mean; where there are several, or none
but a similar one, they can be named.
"""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections import defaultdict
from pathlib import Path

_SIMILAR = 0.8  # of difflib's measure, which is 1 for equal names


class Names:
    """The names in folders, each listed once when it is first asked for."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, list[str]]] = {}

    def find(self, folder: Path, name: str) -> Path | None:
        """The one file that a listed name can mean; None if there is none, or several.

        Args:
            folder: that the name is relative to.
            name: as written in a list.
        """
        path = folder
        for part in Path(name.replace("\\", "/")).parts:
            inside = path / part  # the root of an absolute name starts anew
            if part != ".." and inside.name and not self.holds(inside):
                spelled = self._spelled(path, part)
                if len(spelled) != 1:
                    return None
                inside = path / spelled[0]
            path = inside
        return path

    def similar(self, path: Path) -> list[str]:
        """The names beside an absent file that may be meant, at most three."""
        spelled = self._spelled(path.parent, path.name)
        if spelled:
            return spelled[:3]
        known = [name for names in self._names(path.parent).values() for name in names]
        return difflib.get_close_matches(path.name, known, n=1, cutoff=_SIMILAR)

    def _spelled(self, folder: Path, name: str) -> list[str]:
        """The names in a folder that differ from one in Unicode form and letter case alone."""
        found = self._names(folder).get(_key(name), [])
        same_case = [other for other in found if composed(other) == composed(name)]
        return same_case or found

    def holds(self, path: Path) -> bool:
        """Whether a folder lists exactly this name."""
        return path.name in self._names(path.parent).get(_key(path.name), [])

    def _names(self, folder: Path) -> dict[str, list[str]]:
        """The names in a folder by what they have in common; none if it cannot be listed."""
        if folder not in self._listed:
            names = defaultdict(list)
            try:
                for name in sorted(os.listdir(folder)):
                    names[_key(name)].append(name)
            except (OSError, ValueError):
                pass
            self._listed[folder] = names
        return self._listed[folder]


def composed(text: str) -> str:
    """A text in Unicode's composed form (NFC), in which equal texts are equal."""
    return unicodedata.normalize("NFC", text)


def _key(name: str) -> str:
    return composed(composed(name).casefold())
