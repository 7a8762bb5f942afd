"""Forgetting: an adapter without a user's words is the one that would have been, whatever happens to its training."""

from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest

from cli.client import Client
from cli.system import System
from tests.acceptance.conftest import Found, Learned
from tests.acceptance.http import call
from tests.acceptance.test_kill import kill_worker, wait_for_step
from tests.loop_bench import MODEL, WISHES, Community, user_of, wait_until

pytestmark = pytest.mark.timeout(900)
FORGOTTEN = user_of(0)


def tensors(client: Client, adapter_id: str) -> bytes:
    """An adapter's weights, without the header that names the run."""
    file = client.download(client.adapter(adapter_id)["urls"]["diffusers"])
    return file[8 + int.from_bytes(file[:8], "little") :]


def trigger(system: System, community: Community) -> httpx.Response:
    headers = {"Authorization": f"Bearer {community.key}"}
    return call(system, "POST", "/api/model-updates", json={"model": MODEL}, headers=headers)


def test_after_forgetting_the_adapter_is_as_if_nothing_had_been_said(
    quick_model: System, learned: Learned, found: Found
) -> None:
    community, client = learned.community, learned.community.client
    tainted = learned.update["adapter_id"]
    answer = client.forget_user(FORGOTTEN)
    assert answer["withdrawn"] == sum(choice.user == FORGOTTEN for choice in learned.choices)
    assert [(each["id"], each["adapter_id"]) for each in answer["updates"]] == [(learned.update["id"], tainted)]
    assert answer["retrain_by"] is not None

    wait_until(lambda: len(community.updates()) == 2)
    clean = community.updates()[0]
    assert (clean["trigger"], clean["replaces_update_id"]) == ("withdrawal", learned.update["id"])
    wait_for_step(client, client.job(clean["job_id"]), step=10)
    kill_worker(quick_model, "worker-training")
    clean = community.settled(clean["id"])
    assert clean["status"] == "promoted", clean["outcome_reason"]
    champion = community.champion()
    assert champion is not None
    assert champion["id"] == clean["adapter_id"]
    assert client.adapter(tainted)["stage"] == "retired"
    told = [row["feedback"] for row in client.influence(learned.feedback[0])["down"]["rows"]]
    assert all(each["withdrawn"] and each["user_ref"] is None for each in told)

    other = found("never")
    other.set_policy()
    other.say(other.choices([wish for wish in range(WISHES) if user_of(wish) != FORGOTTEN]))
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: trigger(quick_model, other), range(2)))
    assert sorted(answer.status_code for answer in answers) == [202, 409], [answer.text for answer in answers]
    [update] = other.updates()
    update = other.settled(update["id"])
    assert update["manifest_sha256"] == clean["manifest_sha256"] != learned.update["manifest_sha256"]
    assert tensors(other.client, update["adapter_id"]) == tensors(client, clean["adapter_id"])
    assert tensors(client, clean["adapter_id"]) != tensors(client, tainted)
