"""Workers killed in the middle of their work: every accepted job ends, and ends once."""

import io
import os
import signal
import time

from PIL import Image, ImageDraw

from cli.client import Client, Job, Picture
from cli.ledger import Ledger
from cli.system import System
from core.infra.database import Database
from core.infra.table import Artifact
from core.infra.table import Job as JobRow


def kill_worker(system: System, name: str) -> None:
    """kill -9 the worker's whole process group; the launcher starts it again."""
    marks = Ledger(system.settings.data_dir / "embedded.json").marks
    newest = [mark for mark in marks if mark.name == name and mark.is_alive][-1]
    os.killpg(newest.pid, signal.SIGKILL)


def wait_for_step(client: Client, job: Job, *, step: int) -> None:
    deadline = time.monotonic() + 120
    while (client.job(job["id"])["progress"] or {}).get("step", 0) < step:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def rows(system: System, job: Job) -> tuple[JobRow, list[Artifact]]:
    database = Database(system.settings.database_url, pool_size=1)
    with database.transaction() as session:
        row = session.get_one(JobRow, job["id"])
        artifacts = list(row.artifacts)
    database.close()
    return row, artifacts


def test_a_generation_whose_worker_is_killed_is_finished_once(stack: System) -> None:
    client = stack.client
    request = {"prompt": "a large red star on a blue background", "seed": 7, "steps": 100, "num_images": 2}
    # Of a size that no other test asks for: a picture that shares calls with others is the same within rounding only,
    # and what an earlier test left running is drawn until the worker's next heartbeat, after its job has ended.
    request |= {"width": 80, "height": 64}
    undisturbed = client.finish(client.generate(request))
    job = client.generate(request)
    wait_for_step(client, job, step=2)
    kill_worker(stack, "worker-generation")
    done = client.finish(job)
    row, artifacts = rows(stack, job)
    assert (row.claim_epoch, row.crash_count) == (2, 1)
    assert {artifact.claim_epoch for artifact in artifacts} == {2}
    assert [output["sha256"] for output in done["outputs"]] == [output["sha256"] for output in undisturbed["outputs"]]


def picture(shift: int) -> bytes:
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse((12 + shift, 20, 44 + shift, 40), outline="black", width=4)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_training_whose_worker_is_killed_resumes_and_gives_the_same_weights(stack: System) -> None:
    client = stack.client
    pictures = [Picture(f"{shift}.png", picture(shift), "a black ring on a white background") for shift in range(4)]
    dataset = client.create_dataset("rings", pictures)
    request = {"dataset_id": dataset["id"], "name": "ring", "steps": 40, "rank": 4, "seed": 3, "batch_size": 4}
    undisturbed = client.finish(client.fine_tune(request))
    job = client.fine_tune(request)
    wait_for_step(client, job, step=15)
    kill_worker(stack, "worker-training")
    done = client.finish(job)
    row, artifacts = rows(stack, job)
    assert (row.claim_epoch, row.status) == (2, "succeeded")
    assert len(artifacts) == len(undisturbed["outputs"])
    assert adapter_weights(client, done) == adapter_weights(client, undisturbed)


def adapter_weights(client: Client, job: Job) -> bytes:
    """The tensors of the job's adapter, without the header that names the run."""
    output = next(output for output in job["outputs"] if output["type"] == "adapter")
    file = client.download(output["url"])
    return file[8 + int.from_bytes(file[:8], "little") :]
