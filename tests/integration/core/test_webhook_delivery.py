"""What is due goes out, to one of many, again after a failure, and to nobody at the others' cost."""

import json

import pytest

from core.domain.errors import NotFound
from core.domain.webhook import MAX_TRIES, Answer, WebhookEvent
from core.services import webhook as webhooks
from core.services.tenant import create_tenant
from tests.job_bench import IMAGE, JobBench
from tests.webhook_bench import FAILED, be_due, begin, note, record, row, submit, take


def test_who_dies_with_a_letter_keeps_it_only_for_a_while(bench: JobBench) -> None:
    submit(bench)
    bench.must_claim()
    note(bench)
    [lost] = take(bench)
    assert take(bench) == []
    be_due(bench)
    [again] = take(bench)
    assert (again.id, again.words, again.attempt) == (lost.id, lost.words, 2)
    assert not record(bench, lost, Answer(200)), "it is another's now"
    assert record(bench, again, Answer(200))
    assert row(bench, again.id).delivered_at is not None


def test_a_failure_is_tried_again_later_and_later_and_at_last_given_up(bench: JobBench) -> None:
    submit(bench)
    bench.must_claim()
    note(bench)
    waits = []
    for tries in range(1, MAX_TRIES + 1):
        [letter] = take(bench)
        assert letter.attempt == tries
        record(bench, letter, FAILED)
        found = row(bench, letter.id)
        assert (found.status_code, found.error, found.delivered_at) == (500, "It answered 500.", None)
        waits.append(found.wait)
        assert take(bench) == []
        be_due(bench)
    assert waits[-1] is None
    assert waits[:-1] == sorted(waits[:-1])
    assert row(bench, letter.id).given_up_at is not None


def test_who_says_that_it_is_gone_is_asked_no_more(bench: JobBench) -> None:
    submit(bench)
    bench.must_claim()
    note(bench)
    [letter] = take(bench)
    record(bench, letter, Answer(410, "It answered 410.", is_final=True))
    assert (row(bench, letter.id).given_up_at is None, row(bench, letter.id).next_at) == (False, None)


def test_a_letter_is_told_again_when_its_owner_wants_it(bench: JobBench) -> None:
    job = submit(bench)
    bench.must_claim()
    note(bench)
    [letter] = take(bench)
    record(bench, letter, Answer(200))
    with bench.database.transaction() as session:
        webhooks.replay(session, tenant_id=bench.tenant_id, job_id=job.id, delivery_id=letter.id)
    [again] = take(bench)
    assert (again.id, again.words, again.attempt) == (letter.id, letter.words, 1)
    assert row(bench, letter.id).delivered_at is None
    with bench.database.transaction() as session:
        stranger = create_tenant(session, name="stranger").id
    for tenant_id, job_id, delivery_id in (
        (stranger, job.id, letter.id),
        (bench.tenant_id, submit(bench).id, letter.id),
        (bench.tenant_id, job.id, job.id),
    ):
        with pytest.raises(NotFound), bench.database.transaction() as session:
            webhooks.replay(session, tenant_id=tenant_id, job_id=job_id, delivery_id=delivery_id)


def test_the_words_are_those_of_the_moment_however_late(bench: JobBench) -> None:
    job = submit(bench, spec={"prompt": "a secret star"})
    bench.finish(bench.must_claim(), IMAGE)
    note(bench)
    letters = {json.loads(letter.words)["type"]: letter for letter in take(bench)}
    start, output, completed = (json.loads(letters[f"job.{event}"].words) for event in WebhookEvent)
    done = bench.get(job.id)
    assert done.started_at is not None
    assert done.completed_at is not None
    assert (start["timestamp"], start["data"]["status"]) == (done.started_at.isoformat(), "running")
    assert start["data"]["outputs"] == []
    assert (
        output["data"]
        == completed["data"]
        == {
            "job_id": str(job.id),
            "kind": "generation",
            "status": "succeeded",
            "error": None,
            "outputs": [{"id": str(done.artifacts[0].id), "type": "image", "sha256": IMAGE.sha256}],
            "url": f"https://pictures.example.com/api/jobs/{job.id}",
        }
    )
    assert completed["timestamp"] == done.completed_at.isoformat()
    for letter in letters.values():
        assert b"secret" not in letter.words
        assert "token" not in repr(letter)
        assert "whsec" not in repr(letter)


def test_nobody_and_no_host_has_all_the_room(bench: JobBench) -> None:
    with bench.database.transaction() as session:
        other = create_tenant(session, name="other").id
    for number in range(4):
        begin(bench, tenant_id=bench.tenant_id, url=f"https://slow-{number}.example.com/", count=5)
    first = take(bench)
    assert len(first) == 8, "half of the room is one tenant's"
    assert {letter.host for letter in first} == {f"slow-{number}.example.com" for number in range(4)}
    begin(bench, tenant_id=other, url="https://SLOW-0.example.com/", count=5)
    begin(bench, tenant_id=other, url="https://quick.example.com/", count=1)
    second = take(bench, busy=first)
    assert [letter.tenant_id for letter in second] == [other] * 3
    assert sorted(letter.host for letter in second) == ["quick.example.com", *["slow-0.example.com"] * 2]
    assert take(bench, busy=[*first, *second]) == []
