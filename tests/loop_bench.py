"""A bench for the learning loop: communities of users on the whole system, each with adapters of its own."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image

from cli.bootstrap import FIRST_TENANT, TINY
from cli.client import Client, Job
from cli.crowd import draw_all, open_caption, pictures_of
from cli.system import System
from core.domain.base_model import BaseModelSpec
from core.domain.generation import GenerationDefaults, SchedulerName
from core.infra.database import Database
from core.infra.task_queue import TaskQueue
from core.services import api_key as api_keys
from core.services import model as models
from core.services.tenant import create_tenant, find_tenant
from tiny.taste import TASTES

WARM = TASTES["warm"]
MODEL = "quick"
STEPS = 8
"""The tiny model's colors are right after so few, and an update draws a hundred pictures to be judged."""
USERS = 12
WISHES = 48
PICTURES = 4  # of a wish
RECIPE: dict[str, Any] = {
    "rank": 8,
    "target_modules": ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2"],
    "learning_rate": 2e-3,
    "steps": 60,
    "batch_size": 8,
    "gradient_accumulation": 1,
    "beta": 300.0,
    "sft_weight": 3.0,
    "anchor_weight": 1.0,
    "ema_decay": 0.9,
    "noise_draws": 4,
    "evaluate_every": 60,
}
"""Half a minute of one core takes a taste in colors nine tenths of the way."""
POLICY: dict[str, Any] = {
    "min_new_labels": 10_000,
    "many_new_labels": 10_000,
    "min_users": USERS // 2,
    "cooldown_hours": 0.0,
    "approval_below": 0,
    "recipe": RECIPE,
    "selection": {"max_user_share": 0.5, "held_out_share": 0.15},
    "gates": {"min_held_out": 8, "max_fidelity_fall": 0.1},
    "rollout": {"canary_share": 1.0, "watch_days": 0.0},
}
_AT_WORK = ("planned", "training", "evaluating")
_PATIENCE_SECONDS = 400.0


@dataclass(frozen=True)
class Choice:
    """One user likes one picture better than another of the same prompt."""

    user: str
    chosen: str
    rejected: str


Judge = Callable[[Image.Image, Image.Image], int]
"""1 where the first picture is better, -1 where the second is, 0 where neither is."""


class Community:
    """A tenant whose users share a base model with others, and nothing else. The same wishes give the same pictures."""

    def __init__(self, system: System, *, name: str) -> None:
        with _opened(system) as (database, _), database.transaction() as session:
            tenant = create_tenant(session, name=f"{name}-{uuid4().hex[:8]}")
            self.key = api_keys.create(session, tenant_id=tenant.id, name="test")
        self.client = Client(system.client.url, self.key)
        self.model_id = next(model["id"] for model in self.client.models() if model["name"] == MODEL)

    def draw(self, wishes: Iterable[int], **fields: Any) -> list[Job]:
        """The finished generations of some wishes."""
        requests = []
        for wish in wishes:
            caption = open_caption(WARM, np.random.default_rng(wish))
            request = {"prompt": caption.text, "model": MODEL, "seed": wish * 1000, "num_images": PICTURES}
            requests.append(request | fields)
        return list(draw_all(self.client, requests))

    def choices(self, wishes: Sequence[int], judge: Judge = WARM.compare) -> list[Choice]:
        """What users choose of pictures that the bare base drew for their wishes; nobody chooses a picture twice.

        One wish after the other: who shares calls with others may get a picture that differs in a last bit, and
        manifests name pictures by their bytes.
        """
        found = []
        for wish in wishes:
            [job] = self.draw([wish], adapters=[])
            found += [Choice(user_of(wish), *pair) for pair in pairs(self.client, job, judge)]
        return found

    def say(self, choices: Iterable[Choice]) -> list[str]:
        """Post choices one after the other; their ids."""
        return [
            self.client.say(
                {"kind": "choice", "chosen": each.chosen, "rejected": each.rejected, "user_ref": each.user}
            )["id"]
            for each in choices
        ]

    def set_policy(self, **changes: Any) -> None:
        self.client.set_policy(self.model_id, POLICY | changes)

    def updates(self) -> list[dict[str, Any]]:
        """This community's updates, newest first."""
        return self.client.updates()

    def settled(self, update_id: str) -> dict[str, Any]:
        """An update once its job has ended and its verdict was followed."""
        wait_until(lambda: self.client.update(update_id)["status"] not in _AT_WORK)
        return self.client.update(update_id)

    def champion(self) -> dict[str, Any] | None:
        """The adapter that serves requests which name none."""
        return next((each for each in self.client.adapters() if each["stage"] == "champion"), None)


def user_of(wish: int) -> str:
    """Who has this wish."""
    return f"user-{wish % USERS}"


def pairs(client: Client, job: Job, judge: Judge) -> Iterator[tuple[str, str]]:
    """(better, worse) of one job's pictures, each picture at most once."""
    left = list(zip(job["outputs"], pictures_of(client, job), strict=True))
    while left:
        output, picture = left.pop(0)
        for other in left:
            if verdict := judge(picture, other[1]):
                left.remove(other)
                both = (output["id"], other[0]["id"])
                yield both if verdict > 0 else both[::-1]
                break


def wait_until(is_true: Callable[[], object]) -> None:
    """Return when it is so."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def register_model(system: System) -> None:
    """Offer the tiny model, drawing in few steps, to every tenant."""
    defaults = GenerationDefaults(
        width=64, height=64, steps=STEPS, guidance_scale=3.0, scheduler=SchedulerName.DDIM, strength=0.75
    )
    spec = BaseModelSpec(name=MODEL, source=str(TINY), defaults=defaults)
    with _opened(system) as (database, queue), database.transaction() as session:
        owner = find_tenant(session, name=FIRST_TENANT)
        models.register(session, spec, tenant_id=owner.id, shared=True, queue=queue)
    wait_until(lambda: any((each["name"], each["status"]) == (MODEL, "ready") for each in system.client.models()))


@contextmanager
def _opened(system: System) -> Iterator[tuple[Database, TaskQueue]]:
    database, queue = Database(system.settings.database_url, pool_size=1), TaskQueue(system.settings)
    try:
        yield database, queue
    finally:
        queue.close()
        database.close()
