"""A Docker engine of the test's own: its own socket and files; the machine's firewall is as before afterwards."""

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_PATIENCE_SECONDS = 60.0
BRIDGE = "lorikeet-test"
"""The containers' network, by the name that override.yml gives it."""
_OWN_NETWORK = ("--bridge=none", "--iptables=false", "--ip-masq=false", "--ip-forward=false")


@contextmanager
def private_engine(folder: Path) -> Iterator[dict[str, str]]:
    """An engine that keeps its images in `folder`; yields the environment that leads docker and compose to it.

    Raises:
        RuntimeError: another run uses the folder, or the engine does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    socket = f"unix://{folder}/docker.sock"
    # No BuildKit: Debian ships the engine without the plugin that Compose would build with.
    environment = {**os.environ, "DOCKER_HOST": socket, "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": str(folder / "client")}
    with _held(folder / "lock"), _let_through(), (folder / "dockerd.log").open("wb") as log:
        places = (f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/docker.pid")
        command = ("dockerd", f"--host={socket}", *places, *_OWN_NETWORK, "--default-ulimit=nofile=10000:10000")
        daemon = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            _await_answer(daemon, environment, log=folder / "dockerd.log")
            yield environment
        finally:
            daemon.terminate()  # it stops its containers and containerd, too
            daemon.wait(_PATIENCE_SECONDS)
            # What it leaves mounted: its folder, and the handle of the network that builds shared with the machine.
            for place in ("data", "exec/netns/default"):
                subprocess.run(["umount", folder / place], capture_output=True, check=False)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"another compose-test uses {path.parent}") from error
        yield


@contextmanager
def _let_through() -> Iterator[None]:
    """Where another engine made the firewall drop what is forwarded, our containers would not reach each other."""
    rule = ["FORWARD", "-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT"]
    subprocess.run(["iptables", "-I", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run(["iptables", "-D", *rule], check=True)


def _await_answer(daemon: "subprocess.Popen[bytes]", environment: Mapping[str, str], *, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while subprocess.run(["docker", "version"], env=environment, capture_output=True, check=False).returncode != 0:
        if daemon.poll() is not None or time.monotonic() > deadline:
            last = log.read_text(errors="replace").splitlines()[-3:]
            raise RuntimeError("the Docker engine did not start: " + "\n".join(last))
        time.sleep(0.2)
