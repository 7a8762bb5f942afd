"""The container files agree with the code, with the contract and with each other."""

import json
import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from cli.embedded.postgres import DISCREET
from cli.environment import ROOT
from core.infra.settings import Settings

TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
OURS = {"stable_diffusion", "worker-generation", "worker-training", "upkeep", "migrate"}
THEIRS = {"postgres", "redis", "s3"}
OF_LIBRARIES = {"OMP_NUM_THREADS"}
API: list[str] = json.loads((ROOT / "Dockerfile").read_text().rpartition("\nCMD ")[2])
PAGE = (ROOT / "docs" / "operations.md").read_text()
SECRETS = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "S3_PASSWORD", "SECRET_KEY"}


def test_the_services_are_those_of_the_contract() -> None:
    assert SERVICES.keys() == OURS | THEIRS
    api = SERVICES["stable_diffusion"]
    assert api["image"] == "stable_diffusion:lora"
    assert api["ports"] == ["${PORT:-5000}:5000"]
    assert all(SERVICES[name]["volumes"] == ["./data:/data"] for name in OURS)


def test_only_the_api_is_published() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["stable_diffusion"]


def test_any_number_of_workers_may_run() -> None:
    assert [name for name, service in SERVICES.items() if "container_name" in service or "hostname" in service] == []


@pytest.mark.parametrize("name", sorted(OURS | THEIRS))
def test_a_service_comes_back_and_says_how_it_is(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == ("on-failure:3" if name == "migrate" else "unless-stopped")
    assert "healthcheck" in service or name in {"migrate", "upkeep"}
    assert re.fullmatch(r"[\w./]+:[\w.]+", service["image"]), "an image without a version changes under our feet"


@pytest.mark.parametrize("name", sorted(OURS - {"migrate"}))
def test_nothing_starts_before_the_database_is_migrated(name: str) -> None:
    assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_environment_speaks_of_settings_that_exist(name: str) -> None:
    given = SERVICES[name]["environment"].keys()
    fields = Settings.model_fields
    assert given - OF_LIBRARIES <= {field.upper() for field in fields}
    assert {field.upper() for field, info in fields.items() if info.is_required()} <= given


def test_the_port_outside_is_none_inside() -> None:
    """Where .env has another one, `lorikeet submit` in a container would ask there."""
    [port] = SERVICES["stable_diffusion"]["ports"]
    assert all(SERVICES[name]["environment"]["PORT"] == port.rpartition(":")[2] for name in OURS)


def test_the_page_starts_the_api_as_the_image_does() -> None:
    assert f"`{' '.join(API)}`" in PAGE


def test_the_api_gets_the_time_to_drain_that_the_page_promises() -> None:
    [minutes] = re.findall(r"^(\d+)m$", SERVICES["stable_diffusion"]["stop_grace_period"])
    [promised] = re.findall(r"`DRAIN_SECONDS` of at most (\d+)", PAGE)
    assert int(promised) + int(API[-1]) < 60 * int(minutes)


class Patch(yaml.SafeLoader):
    """A file that says what to leave out of another, and what to put in its place."""


Patch.add_multi_constructor("!", lambda loader, tag, _: tag)


def test_servers_of_ones_own_take_the_place_of_all_that_come_along() -> None:
    services = Patch((ROOT / "docker-compose.servers.yml").read_text()).get_single_data()["services"]
    assert services.keys() == OURS | THEIRS
    assert {name for name, service in services.items() if service == "reset"} == THEIRS
    for name in OURS:
        given = services[name]["environment"]
        leads = {each for each in SERVICES[name]["environment"] if re.match("DATABASE_|REDIS_|S3_", each)}
        assert given.keys() == leads
        assert all(value.startswith(f"${{{lead}:") for lead, value in given.items())
        assert services[name]["depends_on"] in ("override", "reset")


def test_postgres_logs_no_rows_and_no_statements() -> None:
    assert SERVICES["postgres"]["command"] == ["postgres", *DISCREET]


def test_no_secret_has_a_default() -> None:
    asked = re.findall(r"\$\{(\w+)(:\?|[^}]?)", TEXT)
    assert {name for name, operator in asked if operator == ":?"} == SECRETS
    assert {name for name, operator in asked if operator != ":?"} & SECRETS == set()
    assert [name for name, _ in asked if re.search("PASSWORD|SECRET|TOKEN|KEY", name) and name not in SECRETS] == []


def test_the_secrets_are_made_once_and_for_nobody_else(tmp_path: Path) -> None:
    script = tmp_path / "docker/secrets"
    script.parent.mkdir()
    shutil.copy(ROOT / "docker/secrets", script)
    (tmp_path / ".env").write_text("PORT=5001\nSECRET_KEY=\n")
    (tmp_path / ".env").chmod(0o600)
    for _ in range(2):
        subprocess.run([script], check=True, env={"PATH": os.environ["PATH"]})
        lines = (tmp_path / ".env").read_text().splitlines()
        made = dict(line.split("=") for line in lines)
        assert made.keys() == SECRETS | {"PORT"}
        assert all(len(made[name]) == 64 for name in SECRETS)
        assert len(lines) == len(made) + 1  # the empty SECRET_KEY stays, and the last one counts
    (tmp_path / ".env").unlink()
    subprocess.run([script], check=True, env={"PATH": os.environ["PATH"]})
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_the_image_has_every_room_of_the_house() -> None:
    rooms = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {*rooms, "migrations", "pyproject.toml"} - {"chaos"} <= kept, "chaos breaks a system of its own"
    assert [name for name in kept if not (ROOT / name).exists()] == []


def test_the_image_has_the_versions_that_are_tested() -> None:
    image, tested = (locked(ROOT / name) for name in ("docker/requirements.lock", "requirements.lock"))
    assert image
    assert image.items() <= tested.items(), "run `make lock`"


def locked(path: Path) -> dict[str, str]:
    """Each pinned requirement with its hashes."""
    entries = re.split(r"\n(?=[a-z])", path.read_text().strip())
    return {entry.split(" \\\n")[0]: entry for entry in entries}
