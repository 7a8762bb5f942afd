"""Images that stand in for those of a registry, for a machine that reaches Debian's packages and PyPI only."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

PLACE = Path(__file__).parent / "image"
PYTHON = "python:3.11-slim"
OTHERS = {"postgres": "postgres:18", "valkey": "valkey/valkey:9", "rclone": "rclone/rclone:1.75"}
_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates,redis-tools"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def build_stand_ins(folder: Path, environment: Mapping[str, str]) -> None:
    """Make every image that docker-compose.yml and the Dockerfile name, unless they are there as made by this file."""
    inspect = ["docker", "image", "inspect", "--format", "{{.Config.Labels.recipe}}", PYTHON]
    found = subprocess.run(inspect, env=environment, capture_output=True, text=True, check=False).stdout.strip()
    if found != _recipe():
        root = folder / "root"
        shutil.rmtree(root, ignore_errors=True)
        _make_root(root)
        _import(root, environment)
        shutil.rmtree(root)
    for name, tag in OTHERS.items():
        dockerfile = PLACE / f"{name}.Dockerfile"
        command = ["docker", "build", "--quiet", "--network=host", "--tag", tag, "--file", str(dockerfile), str(PLACE)]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def _recipe() -> str:
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def _make_root(root: Path) -> None:
    """A Debian with Python under the names that it has in python:3.11-slim."""
    options = ["--variant=minbase", f"--include={_PACKAGES}"]
    subprocess.run(["debootstrap", *options, "bookworm", str(root)], check=True, stdout=subprocess.DEVNULL)
    for archive in (root / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()
    for name in ("python", "python3"):
        (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3")
    (root / "usr/local/bin/pip").symlink_to("/usr/bin/pip3")
    (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink()
    shutil.copy(_CERTIFICATES, root / _CERTIFICATES.relative_to("/"))
    (root / "wheels").mkdir()
    for wheel in Path(os.environ.get("PIP_FIND_LINKS") or "/nowhere").glob("torch-*.whl"):
        shutil.copy(wheel, root / "wheels")


def _import(root: Path, environment: Mapping[str, str]) -> None:
    """The machine's own certificates and wheels are the image's, too, as a company's base image would have them."""
    settings = {
        "PIP_CERT": _CERTIFICATES,
        "SSL_CERT_FILE": _CERTIFICATES,
        "PIP_FIND_LINKS": "/wheels",
        "UV_FIND_LINKS": "/wheels",
    }
    changes = [word for name, value in settings.items() for word in ("--change", f"ENV {name}={value}")]
    packer = subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
    command = ["docker", "import", *changes, "--change", f"LABEL recipe={_recipe()}", "-", PYTHON]
    subprocess.run(command, env=environment, check=True, stdin=packer.stdout, stdout=subprocess.DEVNULL)
    if packer.wait() != 0:
        raise RuntimeError(f"{root} could not be packed")
