"""Multipart bodies: fields checked by a specification, files spooled."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from api.problem import words
from core.domain.errors import FieldProblem, InvalidInput

Spec = TypeVar("Spec", bound=BaseModel)
_MAX_FILES = 1000
_MAX_FIELDS = 2000


def media_type(request: Request) -> str:
    """The content type without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


@asynccontextmanager
async def read_form(request: Request) -> AsyncIterator[FormData]:
    """A multipart body; its files are gone when the block ends.

    Raises:
        HTTPException: 415 where it is none, 400 where it is broken.
    """
    if media_type(request) != "multipart/form-data":
        raise HTTPException(415, "Send the body as multipart/form-data.")
    async with request.form(max_files=_MAX_FILES, max_fields=_MAX_FIELDS) as form:
        yield form


def files(form: FormData, name: str) -> list[UploadFile]:
    """The files of a field.

    Raises:
        InvalidInput: something in it is text.
    """
    found = form.getlist(name)
    uploads = [each for each in found if isinstance(each, UploadFile)]
    if len(uploads) < len(found):
        raise InvalidInput.of(name, "must be files")
    return uploads


def texts(form: FormData, name: str) -> list[str]:
    """The texts of a field.

    Raises:
        InvalidInput: something in it is a file.
    """
    found = form.getlist(name)
    values = [each for each in found if isinstance(each, str)]
    if len(values) < len(found):
        raise InvalidInput.of(name, "must be text, not a file")
    return values


def refuse_strangers(form: FormData, known: set[str]) -> None:
    """Refuse fields that mean nothing here.

    Raises:
        InvalidInput: there are some.
    """
    strangers = sorted(set(form.keys()) - known)
    if strangers:
        raise InvalidInput([FieldProblem(name[:100], "there is no such field") for name in strangers])


def validate(spec: type[Spec], values: Mapping[str, Any]) -> Spec:
    """Text of a form as a specification: numbers are read, what is empty was left out.

    Raises:
        InvalidInput: names every field that is wrong.
    """
    try:
        return spec.model_validate_strings({name: value for name, value in values.items() if value != ""})
    except ValidationError as error:
        raise _invalid(error) from None


def validate_json(spec: type[Spec], value: Any) -> Spec:
    """A parsed JSON body as a specification.

    Raises:
        InvalidInput: names every field that is wrong.
    """
    try:
        return spec.model_validate(value)
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> InvalidInput:
    return InvalidInput(
        [
            FieldProblem(".".join(str(part)[:100] for part in each["loc"]) or "body", words(each))
            for each in error.errors()
        ]
    )
