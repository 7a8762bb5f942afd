"""Fixtures of tests that share what is dear to make."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from cli.system import System
from tests.loop_bench import USERS, WARM, WISHES, Choice, Community, pairs, register_model, wait_until

Found = Callable[[str], Community]
LIVE_ROUNDS = 12


@pytest.fixture(scope="session")
def quick_model(stack: System) -> System:
    """The system with a base model that communities share, so that no champion draws other tests' pictures."""
    register_model(stack)
    return stack


@pytest.fixture(scope="session")
def found(quick_model: System) -> Iterator[Found]:
    """Founds a community."""
    communities: list[Community] = []

    def found(name: str) -> Community:
        communities.append(Community(quick_model, name=name))
        return communities[-1]

    yield found
    for community in communities:
        community.client.close()


@dataclass(frozen=True)
class Learned:
    """A community whose choices became a champion: what it said, and the update as the live test left it."""

    community: Community
    choices: list[Choice]
    feedback: list[str]
    update: dict[str, Any]


@pytest.fixture(scope="session")
def learned(found: Found) -> Learned:
    """Users choose until the policy starts an update, and go on choosing until the live test promotes it."""
    community = found("warm")
    choices = community.choices(range(WISHES))
    community.set_policy(min_new_labels=len(choices), many_new_labels=len(choices))
    feedback = community.say(choices)
    wait_until(community.updates)
    community.set_policy()  # what they choose while it is tried starts no second update, however long that takes
    [update] = community.updates()
    update = community.settled(update["id"])
    for number in range(LIVE_ROUNDS):
        if update["status"] != "canary":
            break
        compare_live(community, number)
        update = community.client.update(update["id"])
    return Learned(community, choices, feedback, update)


def compare_live(community: Community, number: int) -> None:
    """Every user asks once, naming no adapter, and chooses between what comes."""
    wishes = [WISHES * (number + 1) + user for user in range(USERS)]
    for wish, job in zip(wishes, community.draw(wishes), strict=True):
        arms = {output["id"]: output["arm"] for output in job["outputs"]}
        for chosen, rejected in pairs(community.client, job, WARM.compare):
            if arms[chosen] != arms[rejected]:
                community.say([Choice(f"live-{wish}", chosen, rejected)])
