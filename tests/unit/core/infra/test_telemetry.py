"""The log, in both of its forms."""

import subprocess
import sys
from pathlib import Path

import pytest

from core.domain.api_key import make_key

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


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_stack_holds_no_values(form: str) -> None:
    key, prompt = make_key(), "a sesquipedalian star"
    said = subprocess.run(
        [sys.executable, "-c", _PROGRAM, key, prompt],
        env=_SERVERS | {"LOG_FORMAT": form},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "failed as well" in said
    assert said.count("in answer") == 2, "both stacks are there"
    assert [secret for secret in (key, prompt) if secret in said] == []
