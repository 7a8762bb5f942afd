"""Which servers to start: those for which the user gave no address of their own."""

from collections.abc import Mapping
from pathlib import Path

from cli.embedded import postgres, rclone, valkey
from cli.embedded.server import Server
from cli.ledger import Ledger


def missing_servers(data: Path, ledger: Ledger, given: Mapping[str, str], *, durable: bool = True) -> list[Server]:
    """The servers to start over `data`, ready to be started. `given` are the user's settings, by variable name."""
    servers = []
    if not given.get("DATABASE_URL"):
        servers.append(postgres.server(data, ledger, durable=durable))
    if not given.get("REDIS_URL"):
        servers.append(valkey.server(data, ledger))
    if not given.get("S3_ENDPOINT_URL") and not given.get("S3_BUCKET"):
        servers.append(rclone.server(data, ledger))
    return servers
