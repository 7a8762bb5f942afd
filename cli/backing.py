"""The servers that the system stands on, started where the user gave none."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from cli.embedded.selection import missing_servers
from cli.embedded.server import await_ready
from cli.ledger import Ledger
from cli.refusal import Refusal, explained
from cli.supervisor import Supervisor

_LEAST_FREE_BYTES = 300 * 2**20


def prepare(data: Path) -> None:
    """Make the data folder.

    Raises:
        Refusal: it cannot be made or written, or hardly any space is left.
    """
    with explained(data):
        for folder in (data, data / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
        probe = data / "lock"
        probe.touch()
        with probe.open("a"):
            pass
    free = shutil.disk_usage(data).free
    if free < _LEAST_FREE_BYTES:
        raise Refusal(
            f"The disk is nearly full: {free / 2**20:.0f} MB are left in {data}, and at least "
            f"{_LEAST_FREE_BYTES / 2**20:.0f} MB are needed. Free some space, or give another folder in DATA_DIR."
        )


def start_servers(
    supervisor: Supervisor, ledger: Ledger, *, data: Path, given: Mapping[str, str], durable: bool = True
) -> dict[str, str]:
    """Start what is missing and wait until it answers; the settings that lead to it, by variable name.

    Raises:
        Refusal: a server does not start.
    """
    supervisor.end_leftovers()
    with explained(data):
        servers = missing_servers(data, ledger, given, durable=durable)
        processes = supervisor.start([server.program for server in servers])
    for server, process in zip(servers, processes, strict=True):
        await_ready(server, process)
    return {name: value for server in servers for name, value in server.settings.items()}
