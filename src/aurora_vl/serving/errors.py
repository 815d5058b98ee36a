"""Errors as OpenAI's clients read them: one sentence, a type and a code."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from aurora_vl.errors import UserError

log = logging.getLogger(__name__)
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    503: "overloaded_error",
}


class ApiError(HTTPException):
    """A request that is refused.

    Args:
        status: of the response.
        message: one sentence.
        code: for programs, such as "model_not_found".
        param: the key of the request that is at fault.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.code, self.param = code, param


def error_response(error: HTTPException) -> JSONResponse:
    """The response that tells an error."""
    kind = _TYPES.get(error.status_code, "invalid_request_error")
    if error.status_code == 500:
        kind = "server_error"
    content = {
        "message": str(error.detail),
        "type": kind,
        "param": getattr(error, "param", None),
        "code": getattr(error, "code", None),
    }
    return JSONResponse({"error": content}, error.status_code, error.headers)


def install(app: FastAPI) -> None:
    """Answer every exception in this shape."""

    @app.exception_handler(HTTPException)
    async def _refused(request: Request, error: HTTPException) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(UserError)
    async def _wrong(request: Request, error: UserError) -> JSONResponse:
        return error_response(ApiError(400, str(error)))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or "the body"
        message = f"{place}: {first['msg'].removeprefix('Value error, ')}."
        return error_response(ApiError(400, message.replace("..", "."), param=place))

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> JSONResponse:
        message = "the server failed at this request; its log says why."
        return error_response(HTTPException(500, message))
