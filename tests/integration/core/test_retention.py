"""For how long finished jobs are kept, and what keeps them longer."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from core.domain.errors import InvalidInput, JobFailure, Unavailable
from core.domain.generation import GenerationSpec
from core.domain.job import JobKind
from core.domain.retention import Retention
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from core.infra.table import Artifact
from core.services import init_image as init_images
from core.services import run as run_service
from core.services.upkeep import remove_old
from tests.job_bench import IMAGE, JobBench

RETENTION = Retention(job_days=30, training_days=5)


def ended(bench: JobBench, kind: JobKind, *, days_ago: float) -> UUID:
    job = bench.submit(kind=kind)
    with bench.database.transaction() as session:
        claim = run_service.claim_next(session, kinds=[kind], worker_id="worker", lease_seconds=30.0)
        assert claim is not None
        run_service.fail(session, claim, JobFailure("It broke."))
    ago = timedelta(days=days_ago)
    bench.execute("UPDATE job SET completed_at = now() - :ago WHERE id = :id", ago=ago, id=job.id)
    return job.id


def removed(bench: JobBench, store: ObjectStore) -> int:
    with bench.database.transaction() as session:
        return remove_old(session, store=store, retention=RETENTION)


@pytest.mark.parametrize(
    ("kind", "days_ago", "goes"),
    [
        (JobKind.GENERATION, 29.0, False),
        (JobKind.GENERATION, 31.0, True),
        (JobKind.REGISTRATION, 29.0, False),
        (JobKind.TRAINING, 4.0, False),
        (JobKind.TRAINING, 6.0, True),
    ],
)
def test_a_job_is_kept_for_a_time_of_its_kind(
    bench: JobBench, store: ObjectStore, kind: JobKind, days_ago: float, goes: bool
) -> None:
    ended(bench, kind, days_ago=days_ago)
    assert removed(bench, store) == goes


def test_a_picture_that_a_waiting_job_begins_with_is_kept_for_it(bench: JobBench, store: ObjectStore) -> None:
    bench.submit()
    bench.finish(bench.must_claim(), IMAGE)
    bench.execute("UPDATE job SET completed_at = now() - interval '1 year'")
    follower = bench.submit(plan={"init_image_key": IMAGE.object_key})
    assert removed(bench, store) == 0
    bench.cancel(follower.id)
    assert removed(bench, store) == 1


def test_a_picture_that_a_request_is_about_to_begin_with_is_kept_for_it(bench: JobBench, store: ObjectStore) -> None:
    bench.submit()
    claim = bench.must_claim()
    bench.finish(claim, IMAGE)
    bench.execute("UPDATE job SET completed_at = now() - interval '1 year'")
    with bench.database.transaction() as session:
        [image_id] = session.scalars(select(Artifact.id).where(Artifact.job_id == claim.job_id))
    spec = GenerationSpec(prompt="a star", init_image=str(image_id))
    with bench.database.transaction(bench.tenant_id) as session:
        assert init_images.find(session, spec, None, tenant_id=bench.tenant_id) is not None
        assert removed(bench, store) == 0
    assert removed(bench, store) == 1
    with bench.database.transaction(bench.tenant_id) as session, pytest.raises(InvalidInput, match="no image"):
        init_images.find(session, spec, None, tenant_id=bench.tenant_id)


def test_what_many_jobs_left_goes_in_few_requests(bench: JobBench, store: ObjectStore) -> None:
    job_ids = [ended(bench, JobKind.GENERATION, days_ago=31.0) for _ in range(3)]
    for job_id in job_ids:
        for number in range(4):
            store.put(f"job/{job_id}/1/output/{number}.png", b"picture", content_type="image/png")
    sent: list[str] = []
    store._client.meta.events.register("before-send.s3", lambda request, **_: sent.append(request.method))
    assert removed(bench, store) == 3
    assert sent == ["HEAD", "GET", "GET", "GET", "POST"]
    assert list(store.list("job/")) == []


def test_while_the_store_is_away_no_job_goes(bench: JobBench, settings: Settings, store: ObjectStore) -> None:
    ended(bench, JobKind.GENERATION, days_ago=31.0)
    with pytest.raises(Unavailable):
        removed(bench, ObjectStore(settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:1"})))
    assert removed(bench, store) == 1


def test_what_came_to_be_needed_meanwhile_keeps_its_files(bench: JobBench, store: ObjectStore) -> None:
    """Whoever refers to a job while it is removed: the row stays, so the files do."""
    job_id = ended(bench, JobKind.GENERATION, days_ago=31.0)
    key = f"job/{job_id}/1/output/0.png"
    store.put(key, b"picture", content_type="image/png")
    with pytest.raises(ZeroDivisionError), bench.database.transaction() as session:
        assert remove_old(session, store=store, retention=RETENTION) == 1
        raise ZeroDivisionError
    assert store.size(key)
    assert removed(bench, store) == 1
    assert store.size(key) is None
