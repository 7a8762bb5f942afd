"""Every error as an RFC 9457 problem, by one table."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from core.domain.errors import (
    Conflict,
    FieldProblem,
    Forbidden,
    InvalidInput,
    LorikeetError,
    NotFound,
    QueueFull,
    QuotaExceeded,
    Refused,
    TooManyRequests,
    TooMuchAtOnce,
    Unauthorized,
    Unavailable,
)

_log = structlog.get_logger()

_MEDIA_TYPE = "application/problem+json"

TABLE: dict[type[LorikeetError], tuple[int, str]] = {
    InvalidInput: (422, "The request is not valid"),
    Unauthorized: (401, "A valid API key is required"),
    Forbidden: (403, "The API key does not go so far"),
    NotFound: (404, "There is no such thing"),
    Conflict: (409, "The current state does not allow this"),
    QueueFull: (429, "Too much work is waiting"),
    QuotaExceeded: (429, "The GPU seconds of a day are used up"),
    TooManyRequests: (429, "This key sends too many requests"),
    TooMuchAtOnce: (429, "Too much of one tenant's is at work"),
    Unavailable: (503, "Something this service needs is away"),
}
_HTTP: dict[int, tuple[str, str]] = {
    400: ("bad_request", "The request cannot be read"),
    404: ("not_found", "There is no such thing"),
    405: ("method_not_allowed", "This method is not possible here"),
    408: ("body_too_slow", "The request's body comes too slowly"),
    413: ("body_too_large", "The request's body is too large"),
    415: ("unsupported_media_type", "This content type is not accepted here"),
    499: ("client_gone", "The client went away before its request was whole"),
    500: ("internal_error", "Something went wrong here"),
}


class FieldError(BaseModel):
    """One field that is wrong; `field` is its dotted path."""

    field: str
    message: str


class Problem(BaseModel):
    """What every answer that is not a success looks like; `code` never changes its meaning.

    `errors` are a hundred at most; `detail` then says how many more there are.
    """

    model_config = ConfigDict(json_schema_extra={"description": "RFC 9457 problem details"})

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldError] = []
    request_id: str | None = None


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "A problem that the caller can solve."},
    "5XX": {"model": Problem, "description": "A problem on this side."},
}


def answer(
    status: int,
    *,
    code: str,
    title: str,
    detail: str,
    errors: Sequence[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem as a response."""
    problem: dict[str, Any] = {
        "type": f"urn:lorikeet:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": structlog.contextvars.get_contextvars().get("request_id"),
    }
    if errors:
        problem["errors"] = [{"field": error.field, "message": error.message} for error in errors]
    # A field's name can be anything that a client sent, lone surrogates included.
    body = json.dumps(problem, ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, status, dict(headers or {}), media_type=_MEDIA_TYPE)


def of_error(error: LorikeetError) -> Response:
    """The problem that an error of the domain is."""
    status, title = next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), (500, _HTTP[500][1]))
    headers = {}
    if isinstance(error, Refused | Unavailable):
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Forbidden):
        headers["WWW-Authenticate"] = f'Bearer error="{error.code}", scope="{error.scope}"'  # RFC 6750
    errors = error.shown_problems if isinstance(error, InvalidInput) else ()
    if status >= 500:
        _log.warning("request_failed", code=error.code, error=error.message)
    return answer(status, code=error.code, title=title, detail=error.message, errors=errors, headers=headers)


def of_status(status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """The problem that an HTTP status is."""
    code, title = _HTTP.get(status, (f"http_{status}", detail))
    return answer(status, code=code, title=title, detail=detail, headers=headers)


def of_surprise() -> Response:
    """The problem that is nobody's fault but ours; the log knows more."""
    return of_status(500, "An unexpected error occurred. The server's log has it under this request_id.")


def install(app: FastAPI) -> None:
    """Let every error of the application end as a problem, and its document say so."""
    describe = app.openapi
    app.openapi = lambda: _as_problems(describe())  # type: ignore[method-assign]  # FastAPI's own way to change it
    app.add_exception_handler(LorikeetError, _domain)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)


def _as_problems(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI gives all answers of a route the same content type; problems have their own."""
    for path in document["paths"].values():
        for operation in path.values():
            for status in PROBLEMS:
                answer = operation["responses"][status]
                answer["content"] = {_MEDIA_TYPE: next(iter(answer["content"].values()))}
    return document


async def _domain(_: Request, error: Exception) -> Response:
    assert isinstance(error, LorikeetError)
    return of_error(error)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    cause = error.__cause__  # raised while FastAPI read the body
    if isinstance(cause, LorikeetError):
        return of_error(cause)
    if isinstance(cause, ClientDisconnect):
        return await _gone(request, cause)
    return of_status(error.status_code, str(error.detail), headers=error.headers)


async def _gone(_: Request, __: Exception) -> Response:
    """Nobody reads it; it is what the log and the metrics say."""
    return of_status(499, "The client went away before its request was whole.")


async def _validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(each["loc"][:1] == ("path",) for each in found):  # an id that is none names nothing
        return of_error(NotFound("There is no such thing: the id in the path is not one."))
    return of_error(InvalidInput([FieldProblem(_field(each, error.body), words(each)) for each in found]))


def _field(error: Mapping[str, Any], body: Any) -> str:
    place, *path = error["loc"]
    if place == "header":
        return "-".join(part.capitalize() for part in str(path[0]).split("-"))
    if place == "body":
        path = _without_tags(path, body, is_missing=error["type"] == "missing") or path[-1:]
    if error["type"].startswith("union_tag"):
        path.append(error["ctx"]["discriminator"].strip("'"))
    return ".".join(str(part)[:100] for part in path) or str(place)


def _without_tags(path: Sequence[Any], body: Any, *, is_missing: bool) -> list[Any] | None:
    """The steps of a path that lead through the body, None where none do.

    Between them pydantic puts the names of a union's members, and one can be the name of a field as well.
    """
    if not path:
        return []
    first, *rest = path
    is_step = first in (body if isinstance(body, dict) else range(len(body)) if isinstance(body, list) else ())
    if not rest:
        return [first] if is_step or (is_missing and isinstance(body, dict)) else None
    if is_step and (found := _without_tags(rest, body[first], is_missing=is_missing)) is not None:
        return [first, *found]
    return _without_tags(rest, body, is_missing=is_missing)


def words(error: Mapping[str, Any]) -> str:
    """What pydantic says of a field, in our words."""
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "union_tag_invalid":
        return f"must be one of {error['ctx']['expected_tags']}"
    if error["type"] == "union_tag_not_found":
        return "Field required"
    return {"Extra inputs are not permitted": "there is no such field"}.get(message, message)
