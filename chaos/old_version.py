"""Another version of this project: its work tree, its schema, its programs."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from cli.environment import ROOT


@contextmanager
def work_tree(commit: str | None) -> Iterator[Path]:
    """A commit's files; unless one is named, those of the commit before the newest migration."""
    named = commit or _git("log", "--diff-filter=A", "-1", "--format=%H", "--", "migrations/versions") + "~1"
    with tempfile.TemporaryDirectory(prefix="lorikeet-old-") as folder:
        path = Path(folder) / "old"
        _git("worktree", "add", "--detach", str(path), named)
        try:
            yield path
        finally:
            _git("worktree", "remove", "--force", str(path))


def go_back(url: str, *, old: Path) -> None:
    """Bring a database of the present schema to that version's."""
    config = Config(toml_file=old / "pyproject.toml")
    head = ScriptDirectory.from_config(config).get_current_head()
    assert head is not None
    present = Config(toml_file=ROOT / "pyproject.toml")
    present.attributes["database_url"] = url
    command.downgrade(present, head)


def start_old(order: Sequence[str], *, old: Path, environment: Mapping[str, str], log: Path) -> int:
    """Start that version's program for a post's command; its process id, which is its group's too."""
    match order:
        case ("api", port):
            module = ["uvicorn", "api.main:create_app", "--factory", "--port", port, "--timeout-graceful-shutdown", "5"]
        case ("worker", kind, _):
            module = ["worker.main", kind]
        case _:
            module = ["worker.upkeep"]
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            env={**environment, "PYTHONPATH": str(old)},
            cwd=old,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    return process.pid


def checked_out() -> str:
    """The commit, with a mark where something was changed since; a word where git knows of none."""
    try:
        return _git("describe", "--always", "--dirty")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()
