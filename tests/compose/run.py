"""`make compose-test`: docker-compose.yml for real. Build, up, a picture through HTTP, two workers, down."""

import io
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from rich.console import Console

from cli.client import Client
from cli.ledger import any_free_port
from tests.compose.compose import Compose, copy_tree
from tests.compose.engine import private_engine
from tests.compose.stand_in import build_stand_ins

FOLDER = Path(os.environ.get("COMPOSE_TEST_DIR", "/var/tmp/lorikeet-compose"))
"""Where the engine keeps its images from one run to the next."""
PROMPT = "a large red star on a blue background"
SERVERS = {"postgres", "redis", "s3"}
say = Console(highlight=False, soft_wrap=True).print
_PATIENCE_SECONDS = 300.0


def main() -> None:
    """Run the test, or say in a word why it cannot run here.

    Raises:
        Exception: whatever went wrong; the containers' last words are printed before.
    """
    reason = why_not()
    if reason:
        say(f"compose-test skipped: {reason}")
        return
    with private_engine(FOLDER) as environment:
        with step("base images"):
            build_stand_ins(FOLDER, environment)
        compose = Compose(copy_tree(FOLDER / "tree"), environment, any_free_port())
        try:
            scenario(compose)
        except BaseException:
            say(compose.run("logs", "--no-color", "--tail=40"), markup=False)
            raise
        finally:
            with step("down -v"):
                compose.run("down", "--volumes", "--timeout=20")
        nothing_left(environment)
    say("compose-test passed")


def why_not() -> str | None:
    """What keeps this machine from running the test, if anything."""
    if os.geteuid() != 0:
        return "it starts a Docker engine of its own, which needs root"
    if not Path("/etc/debian_version").exists():
        return "it makes its base images with debootstrap, which needs Debian"
    missing = [name for name in ("dockerd", "docker", "debootstrap") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not found: apt-get install --no-install-recommends docker.io debootstrap"
    return None


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say what is done and how long it took."""
    began = time.monotonic()
    yield
    say(f"{name}: {time.monotonic() - began:.1f} s")


def scenario(compose: Compose) -> None:
    """From a clone without secrets to pictures from two workers."""
    refuses_without_secrets(compose)
    subprocess.run(["docker/secrets"], cwd=compose.tree, check=True)
    with step("build"):
        compose.run("build", "--quiet")
    with step("up --wait"):
        compose.run("up", "--wait", "--no-build")
    only_the_api_is_published(compose)
    no_log_shows_the_key(compose)
    client = Client(f"http://127.0.0.1:{compose.port}", (compose.tree / "data/container/api_key").read_text().strip())
    with step("model checked"):
        await_model(client)
    with step("a picture through HTTP"):
        make_picture(client)
    with step("up --scale worker-generation=2 --wait"):
        compose.run("up", "--wait", "--no-build", "--scale", "worker-generation=2")
    two_workers_share(compose, client)
    comes_back_from_a_backup(compose, client)
    client.close()
    with step("stop"):
        compose.run("stop")
    all_ended_in_peace(compose)


def refuses_without_secrets(compose: Compose) -> None:
    """No secret has a default that works."""
    try:
        compose.run("config", "--quiet", stderr=subprocess.PIPE)
    except subprocess.CalledProcessError as error:
        missing = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "S3_PASSWORD", "SECRET_KEY"}
        assert missing <= set(re.findall(r"variable (\w+) is missing", error.stderr)), error.stderr
        return
    raise AssertionError("the composition is complete without secrets")


def no_log_shows_the_key(compose: Compose) -> None:
    """That of the container which makes it least of all."""
    logs = compose.run("logs", "--no-color")
    assert "/data/container/api_key" in logs, "nothing says where the key is"
    assert (compose.tree / "data/container/api_key").read_text().strip() not in logs


def only_the_api_is_published(compose: Compose) -> None:
    """Nothing else can be reached from outside."""
    published = {
        container["Service"]: [publisher["PublishedPort"] for publisher in container["Publishers"]]
        for container in compose.containers()
        if any(publisher["PublishedPort"] for publisher in container["Publishers"] or [])
    }
    assert published.keys() == {"stable_diffusion"}, published
    assert set(published["stable_diffusion"]) <= {0, compose.port}, published


def await_model(client: Client) -> None:
    """Until a worker has checked the base model that was registered first."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (model := client.models()[0])["status"] != "ready":
        assert model["status"] == "checking", model
        assert time.monotonic() < deadline, model
        time.sleep(0.5)


def make_picture(client: Client) -> None:
    """Submit, wait, download: a whole PNG of the size that was asked for."""
    job = client.finish(client.generate({"prompt": PROMPT, "seed": 1, "width": 64, "height": 64}))
    picture = Image.open(io.BytesIO(client.download(job["outputs"][0]["url"])))
    picture.load()
    assert (picture.format, picture.size) == ("PNG", (64, 64)), picture


def two_workers_share(compose: Compose, client: Client) -> None:
    """Jobs submitted at once are done by both workers."""
    with step("12 pictures from two workers"):
        jobs = [client.generate({"prompt": PROMPT, "seed": seed, "steps": 50}) for seed in range(12)]
        for job in jobs:
            client.finish(job)
    alive = compose.ask("SELECT count(*) FROM worker_presence WHERE kind = 'generation'")
    assert alive == "2", alive
    log = compose.run("logs", "--no-color", "worker-generation").splitlines()
    claimed_by = {line.split()[0] for line in log if '"event": "claimed"' in line}
    assert claimed_by == {"worker-generation-1", "worker-generation-2"}, claimed_by


def comes_back_from_a_backup(compose: Compose, client: Client) -> None:
    """What was made is there again, in volumes that were empty."""
    made = client.finish(client.generate({"prompt": PROMPT, "seed": 1}))
    picture = client.download(made["outputs"][0]["url"])
    admin = ("run", "--rm", "--no-deps", "stable_diffusion", "lorikeet", "admin")
    with step("backup"):
        compose.run(*admin, "backup", "/data/container/backup")
    compose.run("down", "--volumes", "--timeout=20")
    with step("restore"):
        compose.run("up", "--wait", "--no-build", *sorted(SERVERS))
        compose.run(*admin, "restore", "/data/container/backup")
    with step("up --wait"):
        compose.run("up", "--wait", "--no-build")
    [output] = client.job(made["id"])["outputs"]
    assert client.download(output["url"]) == picture
    make_picture(client)


def all_ended_in_peace(compose: Compose) -> None:
    """Each process of ours ended by itself when asked to, none was killed."""
    codes = {c["Name"]: c["ExitCode"] for c in compose.containers() if c["Service"] not in SERVERS}
    assert set(codes.values()) == {0}, codes


def nothing_left(environment: dict[str, str]) -> None:
    """`down -v` took every container and every volume with it."""
    for what in (["ps", "--all"], ["volume", "ls"]):
        found = subprocess.run(
            ["docker", *what, "--quiet"], env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        assert not found.strip(), f"docker {' '.join(what)}: {found}"


if __name__ == "__main__":
    main()
