"""The settings that docs/operations.md names exist, and the times that it tells are those of the code."""

import re

from api import workshop
from cli import process
from cli.environment import ROOT
from core.domain.errors import TooMuchAtOnce
from core.domain.job import ALIVE_SECONDS
from core.infra.repository import limit
from core.infra.settings import Settings

PAGE = (ROOT / "docs" / "operations.md").read_text()
NAMED = set(re.findall(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9]\b", PAGE))
SETTINGS = {field.upper() for field in Settings.model_fields}
OF_THE_COMMAND = {"LORIKEET_URL", "LORIKEET_API_KEY"}
OF_COMPOSE_ITSELF = {"COMPOSE_FILE"}
NO_VARIABLES = {"KEY_ID"}


def asked_by_compose() -> set[str]:
    """What docker-compose.yml wants to be told."""
    return set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))


def test_every_variable_that_the_page_names_is_read() -> None:
    assert {"RETENTION_DAYS", "DATABASE_URL", "UPLOAD_THREADS_OF_ONE"} <= NAMED
    assert NAMED - SETTINGS - asked_by_compose() == OF_THE_COMMAND | OF_COMPOSE_ITSELF | NO_VARIABLES


def test_every_variable_that_is_no_setting_is_on_the_page() -> None:
    assert asked_by_compose() - SETTINGS <= NAMED


def test_times_and_sizes_that_are_no_settings_are_said_as_they_are() -> None:
    uploads, bodies = workshop._PATIENCE_SECONDS, TooMuchAtOnce().retry_after_seconds
    assert f"it says {uploads} seconds of files that are worked on (`UPLOAD_THREADS_OF_ONE`), and {bodies} of" in PAGE
    assert f"| GPU seconds used, by the hour | after {limit._USAGE_KEPT.days} days |" in PAGE
    assert f"| workers that are gone | after {ALIVE_SECONDS:.0f} seconds from" in PAGE
    assert f"one of more than {process.LONGEST_LOG_BYTES // 2**20} MiB is put aside" in PAGE
