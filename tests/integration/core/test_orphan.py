"""What no row names goes, and nothing else."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Self
from uuid import UUID, uuid4

import pytest

from core.domain import object_key
from core.domain.dataset import DatasetStatus
from core.domain.errors import Conflict
from core.domain.job import JobKind
from core.infra.object_store import ObjectStore
from core.infra.table import Adapter, Checkpoint, Dataset, DatasetImage, ModelUpdate
from core.services import orphan
from core.services.orphan import _remove_if_old, anywhere, sweep_orphans
from tests.job_bench import IMAGE, JobBench
from tests.row_of_each_table import DIGEST

NOW = timedelta(0)


@pytest.fixture
def shelf(bench: JobBench, store: ObjectStore) -> ObjectStore:
    """A bucket that says that it belongs to the bench's database."""
    store.put(object_key.INSTALLATION, str(bench.tenant_id).encode(), content_type="text/plain")
    return store


def put(store: ObjectStore, *keys: str) -> None:
    for key in keys:
        store.put(key, b"x", content_type="application/octet-stream")


def swept(bench: JobBench, store: ObjectStore, *, older_than: timedelta = NOW, limit: int = 1000) -> list[str]:
    """Everything that a whole walk through the bucket removes."""
    removed: list[str] = []
    after = ""
    while True:
        part = sweep_orphans(bench.database, store, after=after, older_than=older_than, limit=limit)
        removed += part.removed
        if part.last_key is None:
            return removed
        after = part.last_key


def left(store: ObjectStore) -> set[str]:
    return {key for key, _ in store.list("")} - {object_key.INSTALLATION}


def test_of_an_ended_job_its_results_stay_and_what_dead_runs_wrote_goes(bench: JobBench, shelf: ObjectStore) -> None:
    job = bench.submit()
    claim = bench.must_claim()
    result = object_key.output(job_id=job.id, claim_epoch=claim.claim_epoch, name="0.png")
    stale = object_key.output(job_id=job.id, claim_epoch=0, name="0.png")
    put(shelf, result, stale)
    assert swept(bench, shelf) == [], "it runs"
    bench.finish(claim, type(IMAGE)(**(vars(IMAGE) | {"object_key": result})))
    assert swept(bench, shelf) == [stale]
    assert left(shelf) == {result}


def test_what_is_young_stays(bench: JobBench, shelf: ObjectStore) -> None:
    key = object_key.output(job_id=uuid4(), claim_epoch=1, name="0.png")
    put(shelf, key)
    assert swept(bench, shelf, older_than=timedelta(hours=1)) == []
    assert swept(bench, shelf) == [key]


def test_how_old_a_file_is_does_not_depend_on_the_clock_here(
    bench: JobBench, shelf: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(days=365)

    monkeypatch.setattr(orphan, "datetime", Ahead)
    put(shelf, object_key.output(job_id=uuid4(), claim_epoch=1, name="0.png"))
    assert swept(bench, shelf, older_than=timedelta(days=7)) == []


def test_what_others_put_into_the_bucket_stays(bench: JobBench, shelf: ObjectStore) -> None:
    put(shelf, "models/mine/model_index.json", "notes.txt", "jobs/x")
    assert swept(bench, shelf) == []


def test_a_picture_that_jobs_begin_with_stays_while_there_is_one(bench: JobBench, shelf: ObjectStore) -> None:
    used = object_key.init_image(tenant_id=bench.tenant_id, folder="f", sha256="a" * 64)
    unused = object_key.init_image(tenant_id=bench.tenant_id, folder="f", sha256="b" * 64)
    put(shelf, used, unused)
    bench.submit(plan={"init_image_key": used})
    assert swept(bench, shelf) == [unused]


def test_checkpoints_stay_while_they_have_a_row(bench: JobBench, shelf: ObjectStore) -> None:
    job = bench.submit(kind=JobKind.TRAINING)
    bench.cancel(job.id)
    kept, lost = (
        object_key.checkpoint(job_id=job.id, claim_epoch=1, step=step, name="manifest.json") for step in (10, 20)
    )
    put(shelf, kept, lost)
    prefix = object_key.checkpoint_prefix(job_id=job.id, claim_epoch=1, step=10)
    with bench.database.transaction() as session:
        session.add(Checkpoint(job_id=job.id, step=10, claim_epoch=1, object_prefix=prefix, manifest_sha256=DIGEST))
    assert swept(bench, shelf) == [lost]


def test_of_an_ended_model_update_what_it_trained_stays_and_what_dead_runs_wrote_goes(
    bench: JobBench, shelf: ObjectStore
) -> None:
    job = bench.submit(kind=JobKind.MODEL_UPDATE)
    trained = object_key.output(job_id=job.id, claim_epoch=2, name="adapter.safetensors")
    half = object_key.checkpoint(job_id=job.id, claim_epoch=1, step=20, name="adapter.safetensors")
    stale = object_key.output(job_id=job.id, claim_epoch=1, name="adapter.safetensors")
    put(shelf, trained, half, stale)
    with bench.database.transaction() as session:
        update = ModelUpdate(tenant_id=bench.tenant_id, stable_diffusion_id=bench.model_id, job_id=job.id)
        update.trained = {"report": {}, "outputs": [{"object_key": trained}]}
        session.add(update)
    assert swept(bench, shelf) == [], "it may go on"
    bench.cancel(job.id)
    assert set(swept(bench, shelf)) == {half, stale}
    assert left(shelf) == {trained}


def test_datasets(bench: JobBench, shelf: ObjectStore) -> None:
    waiting, ready, gone = (dataset(bench, status) for status in (DatasetStatus.OPEN, DatasetStatus.READY, None))
    upload = object_key.dataset_upload(dataset_id=waiting, name="0")
    picture = object_key.dataset_image(dataset_id=ready, sha256=DIGEST)
    rests = [
        object_key.dataset_upload(dataset_id=ready, name="0"),
        object_key.dataset_image(dataset_id=gone, sha256="1"),
    ]
    put(shelf, upload, picture, *rests)
    assert set(swept(bench, shelf)) == set(rests)


def dataset(bench: JobBench, status: DatasetStatus | None) -> UUID:
    """With one picture; without a status one that does not exist."""
    found = uuid4()
    if status is None:
        return found
    with bench.database.transaction() as session:
        session.add(Dataset(id=found, tenant_id=bench.tenant_id, name="d", status=status, digest=DIGEST))
        session.flush()
        key = object_key.dataset_image(dataset_id=found, sha256=DIGEST)
        session.add(DatasetImage(dataset_id=found, position=0, file_name="a.png", caption="a", object_key=key))
    return found


def test_files_of_adapters_stay_while_there_is_one(bench: JobBench, shelf: ObjectStore) -> None:
    names = ("adapter.safetensors", "adapter_kohya.safetensors", "other")
    keys = [object_key.imported_adapter(tenant_id=bench.tenant_id, sha256=DIGEST, name=name) for name in names]
    put(shelf, *keys)
    with bench.database.transaction() as session:
        session.add(
            Adapter(
                tenant_id=bench.tenant_id,
                base_model_id=bench.model_id,
                name="adapter",
                version=1,
                rank=4,
                alpha=4.0,
                object_key=keys[0],
                kohya_object_key=keys[1],
                sha256=DIGEST,
                size_bytes=1,
                manifest={},
            )
        )
    assert swept(bench, shelf) == [keys[2]]


def test_a_walk_in_small_parts_sees_everything(bench: JobBench, shelf: ObjectStore) -> None:
    keys = sorted(object_key.output(job_id=uuid4(), claim_epoch=1, name=f"{number}.png") for number in range(7))
    put(shelf, *keys, "models/mine")
    assert swept(bench, shelf, limit=2) == keys
    assert left(shelf) == {"models/mine"}


def test_a_walk_may_begin_anywhere_among_what_is_ours(bench: JobBench, shelf: ObjectStore) -> None:
    assert {anywhere().partition("/")[0] for _ in range(100)} == {"dataset", "job", "tenant"}
    low, high = (object_key.output(job_id=UUID(int=number), claim_epoch=1, name="0.png") for number in (1, 3))
    put(shelf, low, high)
    after = f"job/{UUID(int=2)}"  # which is no object
    assert sweep_orphans(bench.database, shelf, after=after, older_than=NOW).removed == [high]
    assert left(shelf) == {low}


def test_a_bucket_of_another_database_is_left_alone(bench: JobBench, shelf: ObjectStore) -> None:
    """As when the database was lost, or is the wrong one: that it knows no file makes none an orphan."""
    key = object_key.output(job_id=uuid4(), claim_epoch=1, name="0.png")
    put(shelf, key)
    shelf.put(object_key.INSTALLATION, str(uuid4()).encode(), content_type="text/plain")
    with pytest.raises(Conflict, match="belongs to the database of"):
        swept(bench, shelf)
    assert left(shelf) == {key}


def test_a_bucket_that_does_not_say_whose_it_is_is_claimed_where_most_of_it_is_known(
    bench: JobBench, store: ObjectStore
) -> None:
    keys = [object_key.init_image(tenant_id=bench.tenant_id, folder="f", sha256=letter * 64) for letter in "abc"]
    put(store, *keys)
    bench.submit(plan={"init_image_key": keys[0]})
    with pytest.raises(Conflict, match="Most files"):
        swept(bench, store)
    bench.submit(plan={"init_image_key": keys[1]})
    assert swept(bench, store) == [keys[2]]
    assert store.get(object_key.INSTALLATION).decode() == str(bench.tenant_id)


def test_what_was_put_there_again_meanwhile_stays(bench: JobBench, shelf: ObjectStore) -> None:
    key = object_key.init_image(tenant_id=bench.tenant_id, folder="f", sha256="a" * 64)
    put(shelf, key)
    assert not _remove_if_old(shelf, key, datetime.now(UTC) - timedelta(hours=1))
    assert left(shelf) == {key}
    assert _remove_if_old(shelf, key, datetime.now(UTC) + timedelta(hours=1))
    assert left(shelf) == set()


def test_keys_of_no_known_form_do_no_harm(bench: JobBench, shelf: ObjectStore) -> None:
    put(shelf, "job", "tenant/x", "dataset/not-an-id/1")
    assert swept(bench, shelf, older_than=timedelta(hours=1)) == []
    swept(bench, shelf)
