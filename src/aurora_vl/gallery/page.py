"""What a search found, as one HTML file with its small pictures inside."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path

from aurora_vl.errors import UserError
from aurora_vl.gallery.gallery import Gallery
from aurora_vl.gallery.searching import Hit


def search_page(query: str, gallery: Gallery, hits: Sequence[Hit]) -> str:
    """The text of an HTML file, to be written as UTF-8.

    Args:
        query: what was asked.
        gallery: has the small pictures.
        hits: best first.

    Raises:
        UserError: jinja2 is not installed.
    """
    try:
        from aurora_vl.reporting.html import render
    except ImportError:
        raise UserError("pages need jinja2: install aurora-vl[report]") from None
    found = [
        {
            "name": printable(hit.name),
            "link": Path(hit.item.path).as_uri(),
            "picture": _data_uri(gallery.thumbnail(hit.item) or b""),
            "score": hit.score,
            "alike": len(hit.duplicates),
        }
        for hit in hits
    ]
    summary = f"{len(found)} found in {printable(gallery.uri)}"
    return render(
        "aurora_vl.gallery", "search.html", query=printable(query), summary=summary, found=found
    )


def printable(name: str) -> str:
    """A name in UTF-8; bytes of another encoding become question marks."""
    return os.fsencode(name).decode("utf-8", "replace")


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
