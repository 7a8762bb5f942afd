"""Structured logs, bound to request and job id."""

import logging
import re
import sys
from typing import Any

import structlog

from core.infra.settings import Settings

_QUERY = re.compile(r"""(\bhttps?://[^\s?"'<>\\]+)\?[^\s"'<>\\]+""", re.IGNORECASE)


def configure_logging(settings: Settings, *, process: str) -> None:
    """Send every log line, ours and the libraries', to standard output as one JSON object (or for people)."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    console = settings.log_format == "console"
    # By default it would show the values of a stack's variables, and so keys and prompts.
    for_people = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer: structlog.types.Processor = for_people if console else structlog.processors.JSONRenderer()
    last: list[structlog.types.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if not console:
        last.append(structlog.processors.format_exc_info)
    last += [renderer, _without_queries]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    for name in ("botocore", "boto3", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2", "PIL", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(process=process)


def without_queries(text: str) -> str:
    """The text, with no URL in it that opens a door: what a URL is signed with is in its query."""
    return _QUERY.sub(r"\1?…", text)


def _without_queries(_logger: Any, _name: str, line: Any) -> Any:
    return without_queries(line)
