"""The secrets that sign, against the real Postgres."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from core.services import webhook_secret as secrets
from core.services.tenant import create_tenant
from tests.job_bench import JobBench, add_model
from tests.webhook_bench import begin, note, submit, take


def test_secrets_are_made_once_and_change_over(bench: JobBench) -> None:
    with bench.database.transaction() as session:
        first = secrets.get(session, tenant_id=bench.tenant_id).secret
    with bench.database.transaction() as session:
        assert secrets.signing(session, tenant_id=bench.tenant_id) == [first]
        second = secrets.rotate(session, tenant_id=bench.tenant_id)
    assert second.previous == first
    assert second.previous_until is not None
    assert second.previous_until - second.created_at == timedelta(hours=24)
    submit(bench)
    bench.must_claim()
    note(bench)
    [letter] = take(bench)
    assert letter.secrets == (second.secret, first)
    bench.execute("UPDATE webhook_secret SET previous_until = now()")
    with bench.database.transaction() as session:
        assert secrets.signing(session, tenant_id=bench.tenant_id) == [second.secret]


def test_many_who_need_the_first_secret_at_once_get_the_same(bench: JobBench) -> None:
    def ask(_: int) -> str:
        with bench.database.transaction() as session:
            return secrets.get(session, tenant_id=bench.tenant_id).secret

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(16)))) == 1


def test_tenants_have_secrets_of_their_own(bench: JobBench) -> None:
    with bench.database.transaction() as session:
        other = create_tenant(session, name="other").id
    add_model(bench.database, other, name="model")
    begin(bench, tenant_id=bench.tenant_id, url="https://a.example.com/", count=1)
    begin(bench, tenant_id=other, url="https://a.example.com/", count=1)
    mine, theirs = take(bench)
    assert mine.tenant_id != theirs.tenant_id
    assert set(mine.secrets).isdisjoint(theirs.secrets)
