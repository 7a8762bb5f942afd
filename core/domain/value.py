"""Field types that the specifications share: text that Postgres can hold, numbers that are numbers."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Specification(BaseModel):
    """What somebody asked for: immutable, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the NUL character")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode (it holds a lone surrogate)") from None
    return text


Text = Annotated[str, AfterValidator(_storable)]
Name = Annotated[
    str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), AfterValidator(_storable)
]
"""A name that is safe in a URL, a file name and a reference: letters, digits, dot, dash, underscore."""

Int = Annotated[int, Field(strict=True)]
Float = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
"""How many; a bound that Postgres' integers and their sums have too."""

Span = Annotated[float, Field(strict=True, ge=0, le=1e6, allow_inf_nan=False)]
"""A time in seconds, hours or days that can be added to any date."""

Bool = Annotated[bool, Field(strict=True)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**53)]
"""A seed that every JSON reader keeps exact."""

Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
"""A probability or a fraction."""
