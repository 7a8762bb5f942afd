"""The log, in both of its forms."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from core.domain.api_key import make_key
from core.infra.telemetry import without_queries

ROOT = Path(__file__).parents[4]
_PROGRAM = """
import os, sys
import structlog
from core.domain.generation import GenerationSpec
from core.infra.settings import load_settings
from core.infra.telemetry import configure_logging

configure_logging(load_settings(), process="test")

def answer(key, prompt):
    try:
        GenerationSpec(prompt=[prompt])
    except Exception as error:
        structlog.get_logger().exception("failed")
        raise

try:
    answer(*sys.argv[1:])
except Exception:
    import logging
    logging.getLogger("library").exception("failed as well")
"""
_SERVERS = {
    "DATABASE_URL": "postgresql://nowhere",
    "REDIS_URL": "redis://nowhere",
    "S3_BUCKET": "lorikeet",
    "S3_ACCESS_KEY_ID": "id",
    "S3_SECRET_ACCESS_KEY": "secret",
    "SECRET_KEY": "x" * 32,
}


def said_by(program: str, *arguments: str, form: str) -> str:
    """What a process of its own logs."""
    command = [sys.executable, "-c", program, *arguments]
    environment = _SERVERS | {"LOG_FORMAT": form}
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_stack_holds_no_values(form: str) -> None:
    key, prompt = make_key(), "a sesquipedalian star"
    said = said_by(_PROGRAM, key, prompt, form=form)
    assert "failed as well" in said
    assert said.count("in answer") == 2, "both stacks are there"
    assert [secret for secret in (key, prompt) if secret in said] == []


URL = "https://cdn.example/file"
SIGNATURE = "Signature=c2VjcmV0&Expires=1"


@pytest.mark.parametrize(
    "text",
    [
        f"403 Forbidden for url: {URL}?{SIGNATURE}",
        f"Client error '403 Forbidden' for url '{URL}?{SIGNATURE}' (Request ID: 1)",
        f'<a href="{URL.upper()}?{SIGNATURE}">',
        f"first {URL}?{SIGNATURE}\nsecond http://127.0.0.1:1/?{SIGNATURE}",
    ],
)
def test_a_url_loses_what_it_is_signed_with(text: str) -> None:
    shown = without_queries(text)
    assert "c2VjcmV0" not in shown and "Expires" not in shown
    assert shown.replace("?…", "") == text.replace(f"?{SIGNATURE}", "")


def test_a_text_without_queries_stays_as_it_is() -> None:
    text = f"Is {URL} there? See {URL}#part, or a=1&b=2?"
    assert without_queries(text) == text


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_line_of_the_log_has_a_signed_url(form: str) -> None:
    program = """
import logging, sys, structlog
from core.infra.settings import load_settings
from core.infra.telemetry import configure_logging

configure_logging(load_settings(), process="test")
logging.getLogger("library").warning("Error while downloading from %s", sys.argv[1])
structlog.get_logger().info("failed", error=f"for url '{sys.argv[1]}'")
try:
    raise OSError(f"no file\\nat {sys.argv[1]}")
except OSError:
    structlog.get_logger().exception("failed as well")
"""
    said = said_by(program, f"{URL}?{SIGNATURE}", form=form)
    assert said.count(f"{URL}?") == 3
    assert "c2VjcmV0" not in said
    if form == "json":
        assert [json.loads(line)["level"] for line in said.splitlines()] == ["warning", "info", "error"]
