"""Search a folder of pictures with words: rank by cosine, then re-rank the best.

python examples/search_folder.py demo/world/images/test "star red small" --adapter demo/adapter
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aurora_vl import Retriever

ENDINGS = {".jpg", ".jpeg", ".png", ".webp"}


def search(retriever: Retriever, folder: Path, query: str, top: int) -> list[tuple[float, Path]]:
    """Find the pictures below a folder that fit a query best: scores and paths, best first."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    if not paths:
        raise SystemExit(f"there are no pictures in {folder}")
    pictures = retriever.encode_images(paths)  # (N, D), unit length
    scores = pictures @ retriever.encode_texts(query)[0]  # (N,), cosines
    best = scores.argsort()[::-1][:top]
    paths, scores = [paths[index] for index in best], scores[best]
    if retriever.has_matcher:
        scores = retriever.match(query, paths)[0]
    return sorted(zip(scores.tolist(), paths, strict=True), reverse=True)


def main() -> None:
    """Read the arguments, search and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("query")
    parser.add_argument("--backbone", default="mini")
    parser.add_argument("--adapter", type=Path, help="the adapter/ folder that train wrote")
    parser.add_argument("--top", type=int, default=10)
    options = parser.parse_args()
    retriever = Retriever.load(options.backbone, adapter=options.adapter)
    for score, path in search(retriever, options.folder, options.query, options.top):
        print(f"{score:8.3f}  {path}")


if __name__ == "__main__":
    main()
