"""The loop over HTTP: from what users choose to a champion by itself, back in one call, never from noise, forgotten."""

import html
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import httpx2 as httpx
import pytest

from cli.client import Client, Job
from cli.crowd import pictures_of
from cli.refusal import Refusal
from cli.system import System
from tests.acceptance.conftest import Found, Learned
from tests.acceptance.http import call
from tests.acceptance.test_kill import kill_worker, wait_for_step
from tests.loop_bench import MODEL, POLICY, USERS, WARM, WISHES, Choice, Community, user_of, wait_until

pytestmark = pytest.mark.timeout(900)
FRESH = range(900_000, 900_012)
FORGOTTEN = user_of(0)


def share_of_warm(community: Community, jobs: list[Job]) -> float:
    degrees = [WARM.degree(picture) for job in jobs for picture in pictures_of(community.client, job)]
    return sum(degrees) / len(degrees)


def test_choices_become_a_champion_that_draws_to_the_users_taste(learned: Learned) -> None:
    update, client = learned.update, learned.community.client
    assert update["status"] == "promoted", (update["verdict"], update["outcome_reason"])
    assert (update["trigger"], update["verdict"]["decision"]) == ("policy", "canary")
    counts = update["counts"]
    assert counts["train"] + counts["held_out"] + counts["excluded"] == len(learned.choices)
    assert update["report"]["accuracy"]["lower"] > 0.5
    moves = [(move["before"], move["after"]) for move in update["transitions"]]
    assert {("evaluating", "canary"), ("canary", "promoted"), ("canary", "champion")} <= set(moves)
    assert client.rollout(learned.community.model_id)["outcome"] == "promoted"

    base = learned.community.draw(FRESH, adapters=[])
    taught = learned.community.draw(FRESH, adapters=[{"ref": client.adapter(update["adapter_id"])["ref"]}])
    assert share_of_warm(learned.community, taught) >= share_of_warm(learned.community, base) + 0.2


def test_a_picture_of_the_champion_leads_back_to_the_choices_and_each_leads_on_to_it(learned: Learned) -> None:
    client, update = learned.community.client, learned.update
    ref = client.adapter(update["adapter_id"])["ref"]
    [job] = learned.community.draw([1], adapters=[{"ref": ref}])
    up = client.lineage("images", job["outputs"][0]["id"])["up"]
    assert [adapter["id"] for adapter in up["adapters"]] == [update["adapter_id"]]
    assert [each["id"] for each in up["updates"]] == [update["id"]]
    assert {row["feedback"]["id"] for row in up["rows"]} <= set(learned.feedback)
    down = client.influence(learned.feedback[0])["down"]
    assert update["adapter_id"] in [adapter["id"] for adapter in down["adapters"]]
    assert [row["update_id"] for row in down["rows"]].count(update["id"]) in (1, 2)


def test_the_update_has_a_report_to_read(quick_model: System, learned: Learned) -> None:
    headers = {"Authorization": f"Bearer {learned.community.key}"}
    page = call(quick_model, "GET", f"{learned.update['urls']['report']}.html", headers=headers)
    assert page.status_code == 200
    text = html.unescape(page.text)
    assert all(gate["sentence"] in text for gate in learned.update["verdict"]["gates"])


def test_a_champion_goes_in_one_call_and_comes_back_in_one(learned: Learned) -> None:
    community, client = learned.community, learned.community.client
    champion = community.champion()
    assert champion is not None

    def silent() -> list[str]:
        return [output["sha256"] for job in community.draw([1]) for output in job["outputs"]]

    served = silent()
    client.roll_back(champion["id"], reason="we liked it better before")
    assert community.champion() is None
    bare = [output["sha256"] for job in community.draw([1], adapters=[]) for output in job["outputs"]]
    assert silent() == bare != served
    client.promote(champion["id"], reason="no, we did not")
    assert silent() == served
    reasons = [move["reason"] for move in client.lineage("adapters", champion["id"])["up"]["adapters"][0]["history"]]
    assert reasons[-2:] == ["we liked it better before", "no, we did not"]


def test_choices_by_coin_and_a_hostile_user_make_no_champion(found: Found) -> None:
    """Nearly a third of all opinions are of one who wants the worse picture; more than a fair share of them is cut."""
    community, coin = found("coin"), random.Random(1)
    choices = community.choices(range(WISHES // 2), judge=lambda one, other: coin.choice((-1, 1)))
    worse = community.choices(range(WISHES // 2, WISHES // 2 + 5), judge=lambda one, other: -WARM.compare(one, other))
    choices += [Choice("mallory", each.chosen, each.rejected) for each in worse]
    community.set_policy(
        min_new_labels=len(choices),
        many_new_labels=len(choices),
        recipe=POLICY["recipe"] | {"steps": 20},
        selection=POLICY["selection"] | {"max_user_share": 0.1},
    )
    community.say(choices)
    wait_until(community.updates)
    [update] = community.updates()
    assert set(update["counts"]["excluded_by"]) == {"cap"}
    update = community.settled(update["id"])
    assert (update["status"], update["verdict"]["decision"]) == ("rejected", "reject")
    assert any(gate["passed"] is False for gate in update["verdict"]["gates"])
    assert community.champion() is None
    assert community.client.adapter(update["adapter_id"])["stage"] == "rejected"
    assert community.client.policy(community.model_id)["standing"]["in_flight_update_id"] is None


def test_one_user_alone_starts_nothing(found: Found) -> None:
    community = found("alone")
    [job] = community.draw([1], adapters=[])
    ids = [output["id"] for output in job["outputs"]]
    community.set_policy(min_new_labels=1, many_new_labels=1)
    community.say(Choice("mallory", one, other) for one, other in pairwise(ids))
    assert community.updates() == []
    decision = community.client.policy(community.model_id)["decision"]
    assert not decision["due"]
    assert any(f"1 of {USERS // 2} users" in words for words in decision["waiting_for"])


def is_erased(client: Client, adapter_id: str) -> bool:
    """Whether its weights are not to be had any more."""
    try:
        tensors(client, adapter_id)
    except Refusal as refusal:
        assert "404" in str(refusal)
        return True
    return False


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
    with_it = tensors(client, tainted)
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
    assert tensors(client, clean["adapter_id"]) != with_it
    wait_until(lambda: is_erased(client, tainted))
