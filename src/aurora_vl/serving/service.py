"""What the endpoints share: the engine, the queue before it, the decoder and the limits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, Request

from aurora_vl.data.records import MediaKind
from aurora_vl.inference.media import MediaItem
from aurora_vl.serving.batching import Batcher
from aurora_vl.serving.decoding import Decoder
from aurora_vl.serving.engine import Engine
from aurora_vl.serving.errors import ApiError
from aurora_vl.serving.limits import Limits
from aurora_vl.serving.metrics import Metrics


class Service:
    """A running server's parts.

    Args:
        engine: the models.
        limits: of a request.
    """

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self.engine, self.limits = engine, limits
        self.metrics = Metrics()
        self.batcher = Batcher(limits, self.metrics)
        self.decoder = Decoder(limits)

    def close(self) -> None:
        """Finish what was taken and end threads and processes."""
        self.batcher.stop()
        self.decoder.close()

    def check_texts(self, texts: Sequence[str], param: str) -> None:
        """Refuse too many or too long texts, and those without words.

        Raises:
            ApiError: says which.
        """
        self._check_count(texts, self.limits.texts, param)
        for text in texts:
            if len(text) > self.limits.characters:
                raise ApiError(
                    400,
                    f"{param} has a text of {len(text):,} characters where "
                    f"{self.limits.characters:,} are taken; shorten it.",
                    param=param,
                )
            if not text.strip():
                raise ApiError(400, f"{param} has a text without words.", param=param)
            try:
                text.encode()
            except UnicodeEncodeError:  # half of a character, which JSON can write
                raise ApiError(
                    400, f"{param} has a text that is not Unicode.", param=param
                ) from None

    async def media(
        self, uris: Sequence[str], param: str, kind: MediaKind | None = None
    ) -> list[MediaItem]:
        """The media of data URIs, in order.

        Raises:
            ApiError: there are too many or none.
            UserError: one is no data URI, damaged or too large.
        """
        self._check_count(uris, self.limits.media, param)
        return list(await asyncio.gather(*(self.decoder.item(uri, kind) for uri in uris)))

    @staticmethod
    def _check_count(given: Sequence[str], most: int, param: str) -> None:
        if not 1 <= len(given) <= most:
            raise ApiError(
                400, f"{param} holds {len(given)} where 1 to {most} are taken.", param=param
            )


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Shared = Annotated[Service, Depends(_service)]
"""The service, as a parameter of an endpoint."""
