"""What docs/operations.md tells operators to watch is there to be seen: its metrics, its events, its codes."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from cli.environment import ROOT
from tests.api_bench import Tenancy

PAGE = (ROOT / "docs" / "operations.md").read_text()
WATCH = PAGE.partition("## What to watch\n")[2].partition("\n## ")[0]
ALERTS = "\n".join(line for line in WATCH.splitlines() if line.startswith("| "))
LEVELS = {"debug", "info", "warning", "error", "exception"}
NO_EVENTS = {"poisoned", "code", "request_id", "node_filesystem_avail_bytes"}
"""Words of the table that are the code of an error, names of fields, and another program's metric."""


def words_in(node: ast.AST) -> set[str]:
    return {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)}


def events_in(path: Path) -> Iterator[str]:
    """The first word of every call of a logger; where that is a variable, the words that are put into it."""
    tree = ast.parse(path.read_text())
    given: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            given.setdefault(node.targets[0].id, set()).update(words_in(node.value))
        elif isinstance(node, ast.keyword) and node.arg is not None:
            given.setdefault(node.arg, set()).update(words_in(node.value))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LEVELS
            and node.args
        ):
            first = node.args[0]
            yield from given.get(first.id, set()) if isinstance(first, ast.Name) else words_in(first)


def test_every_event_that_the_page_names_is_logged() -> None:
    logged = {
        word for room in ("api", "core", "worker") for path in (ROOT / room).rglob("*.py") for word in events_in(path)
    }
    in_table = set(re.findall(r"`([a-z_]+)`", ALERTS))
    in_text = set(re.findall(r"`([a-z_]+)`(?:,| in) [\w' ]*logs?\b", PAGE))
    assert {"upkeep_failed", "decoder_broke", "webhook_not_delivered", "engine_hangs", "not_ready"} <= in_table
    assert {"gave_back", "doorbells_refused", "orphans_kept", "disk_full"} <= in_text
    named = {word for word in in_table | in_text if not word.startswith("lorikeet_")}
    assert named - NO_EVENTS <= logged


def test_every_metric_that_the_page_names_is_shown_with_its_labels(tenant: Tenancy) -> None:
    shown = [
        sample
        for family in text_string_to_metric_families(tenant.http.get("/metrics").text)
        for sample in family.samples
    ]
    asked = re.findall(r"(lorikeet_[a-z_]+)(?:\{([^}]*)\})?", "\n".join(re.findall(r"`([^`]*)`", ALERTS)))
    assert len(asked) >= 10
    for name, selector in asked:
        labels = dict(re.findall(r'(\w+)="([^"]*)"', selector))
        assert any(sample.name == name and labels.items() <= sample.labels.items() for sample in shown), (
            f"{name} {selector}"
        )
