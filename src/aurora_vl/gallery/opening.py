"""Which store a gallery's URI names."""

from __future__ import annotations

from aurora_vl.errors import UserError
from aurora_vl.gallery.items import Settings
from aurora_vl.gallery.sqlite_store import SqliteStore
from aurora_vl.gallery.store import Store


def open_store(uri: str, *, create: bool, settings: Settings | None = None) -> Store:
    """Open the store that a URI names.

    Args:
        uri: a path, `milvus:FILE.db`, or `http(s)://host:port[/collection]`.
        create: whether to make the gallery if it is not there.
        settings: of the gallery to make; of one that is there they must be the same. None for
            any, and the default for a new one.

    Raises:
        UserError: there is no such gallery, it is something else, or it was made with other
            settings.
    """
    store: Store
    if uri.startswith(("milvus:", "http://", "https://")):
        from aurora_vl.gallery.milvus_store import MilvusStore  # needs the extra

        store = MilvusStore(uri, create=create, settings=settings or Settings())
    else:
        store = SqliteStore(uri, create=create, settings=settings or Settings())
    if settings is not None and store.settings != settings:
        made = store.settings
        store.close()
        raise UserError(
            f"{uri} was made with {_words(made)}, which {_words(settings)} would mix with; leave "
            "the options out, or make another gallery"
        )
    return store


def _words(settings: Settings) -> str:
    frames = f"--frames {settings.frames}" if settings.frames else "no --frames"
    return f"{frames} and " + (
        f"--segment {settings.segment:g}s" if settings.segment else "no --segment"
    )
