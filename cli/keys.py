"""`lorikeet admin keys`: make API keys, see them, replace them, end their lives."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from cli.columns import in_columns
from cli.refusal import Refusal
from core.domain.api_key import Scope, read_scopes
from core.infra.table import ApiKey

_HEADER = ("ID", "KEY", "NAME", "SCOPES", "STATE", "MADE", "LAST USED")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def read_duration(text: str) -> timedelta:
    """30m, 12h or 90d.

    Raises:
        Refusal: it is none of these.
    """
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in _UNITS or len(number) > 6:
        raise Refusal(f"{text or 'Nothing'} is no duration; say 30m, 12h or 90d.")
    return timedelta(**{_UNITS[unit]: int(number)})


def read_scope_words(text: str) -> frozenset[Scope]:
    """Scopes, comma-separated.

    Raises:
        Refusal: one does not exist.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    try:
        return read_scopes(words)
    except ValueError as error:
        raise Refusal(f"{text}: {error}. The scopes are {', '.join(Scope)}.") from error


def table_of(keys: Sequence[ApiKey], *, now: datetime) -> str:
    """A line per key, which is told by its first letters; the keys themselves are nowhere."""
    return in_columns([_HEADER, *(_row(key, now) for key in keys)])


def _row(key: ApiKey, now: datetime) -> tuple[str, ...]:
    used = _minute(key.last_used_at) if key.last_used_at else "never"
    about = (f"{key.shown_part}…", key.name, ",".join(key.scopes))
    return (str(key.id), *about, state_of(key, now=now), _minute(key.created_at), used)


def state_of(key: ApiKey, *, now: datetime) -> str:
    """Whether it opens doors, and until when."""
    if key.revoked_at:
        return f"revoked {_minute(key.revoked_at)}"
    if key.expires_at is None:
        return "valid"
    return f"{'expired' if key.expires_at <= now else 'valid until'} {_minute(key.expires_at)}"


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"
