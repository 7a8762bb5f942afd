"""The user's settings, and what the launcher adds to them: the environment of every process it starts."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values
from pydantic import ValidationError

from cli.ledger import write_private
from cli.refusal import Refusal
from core.infra.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
"""The folder of the source tree: where `python -m worker.main` and the migrations are found."""


def read_given(env_file: Path = Path(".env")) -> dict[str, str]:
    """The settings that the user gave, by variable name: the environment first, then `env_file`. Empty is not given."""
    found = {**dotenv_values(env_file), **os.environ}
    return {name: value for field in Settings.model_fields if (value := found.get(name := field.upper()))}


def read_running(given: Mapping[str, str]) -> dict[str, str]:
    """The settings of the system that `lorikeet up` runs over this data folder, and what the user gave on top."""
    kept = dotenv_values(data_folder(given) / "settings.env")
    return {**{name: value for name, value in kept.items() if value}, **given}


def keep(settings: Mapping[str, str], *, data: Path) -> None:
    """Leave the settings where `read_running` finds them, for the owner's eyes only."""
    lines = (f"{name}='{value}'\n" for name, value in sorted(settings.items()))
    write_private(data / "settings.env", "".join(lines))


def data_folder(given: Mapping[str, str]) -> Path:
    """The absolute folder of everything that is kept."""
    default = str(Settings.model_fields["data_dir"].default)
    return Path(given.get("DATA_DIR", default)).expanduser().resolve()


def complete(given: Mapping[str, str], added: Mapping[str, str], *, data: Path) -> dict[str, str]:
    """Every setting that differs from its default. What the user gave wins over what was `added`."""
    settings = {**added, **given, "DATA_DIR": str(data)}
    if "SECRET_KEY" not in settings:
        settings["SECRET_KEY"] = _kept_secret(data / "secret_key")
    return settings


def check(settings: Mapping[str, str]) -> Settings:
    """The settings as the processes will read them.

    Raises:
        Refusal: one is missing or out of range.
    """
    values = {field: settings.get(field.upper()) for field in Settings.model_fields}
    try:
        return Settings(_env_file=None, **{field: value for field, value in values.items() if value})  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = "; ".join(f"{_named(*e['loc'])}: {e['msg']}" for e in error.errors())
        raise Refusal(f"A setting is not right: {wrong}. `.env.example` explains every one.") from error


def _named(field: int | str, *within: int | str) -> str:
    return ".".join([str(field).upper(), *map(str, within)])


def for_processes(settings: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of our own processes: the user's, with every setting spelled out."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # Numerical libraries start a thread per core unless told otherwise, and then wait for each other.
    threads = {"OMP_NUM_THREADS": settings.get("TORCH_THREADS", str(Settings.model_fields["torch_threads"].default))}
    return {**threads, **os.environ, **settings, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def _kept_secret(path: Path) -> str:
    if not path.exists():
        write_private(path, secrets.token_urlsafe(48) + "\n")
    return path.read_text().strip()
