"""`docker-compose` over a copy of the tree, as somebody who just cloned it would use it."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.environment import ROOT


@dataclass(frozen=True)
class Compose:
    """`tree` is the copy, `environment` leads to the engine, `port` is where the API is published."""

    tree: Path
    environment: Mapping[str, str]
    port: int

    def run(self, *arguments: str, stderr: int | None = None) -> str:
        """What the command printed on stdout.

        Raises:
            subprocess.CalledProcessError: it failed; its words went to stderr.
        """
        files = ("--file=docker-compose.yml", f"--file={ROOT}/tests/compose/override.yml")
        command = [str(ROOT / ".ci/tool"), "docker-compose", "--progress=quiet", *files, *arguments]
        return subprocess.run(
            command,
            cwd=self.tree,
            env={**self.environment, "PORT": str(self.port), "TORCH_ARGS": ""},
            stdout=subprocess.PIPE,
            stderr=stderr,
            check=True,
            text=True,
        ).stdout

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """Every container, running or not, as `ps` tells it."""
        return [json.loads(line) for line in self.run("ps", "--all", "--format=json", *services).splitlines()]

    def ask(self, query: str) -> str:
        """Postgres's answer, unadorned."""
        command = ("psql", "--host=127.0.0.1", "--username=lorikeet", "--no-align", "--tuples-only", "--command", query)
        inside = ("sh", "-c", 'PGPASSWORD="$POSTGRES_PASSWORD" exec "$@"', "sh", *command)
        return self.run("exec", "--no-tty", "postgres", *inside).strip()


def copy_tree(destination: Path) -> Path:
    """The files that git knows, as they are now, without anything that a clone would not have."""
    shutil.rmtree(destination, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, destination / name)
    return destination
