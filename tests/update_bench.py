"""A bench on which updates really run: a random tiny model, real pictures, and things that happen to a run."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from core.domain.errors import JobCanceled
from core.domain.evaluation import Decision, Gates
from core.domain.job import JobKind
from core.domain.outcome import Outcome, Output
from core.domain.policy import SelectionPolicy
from core.domain.preference import PreferenceRecipe
from core.domain.update_plan import UpdatePlan
from core.infra.table import ModelUpdate
from core.services import run as run_service
from core.services import update_run
from core.services.run import Claim
from tests.learning_bench import LearningBench
from worker.evaluation.prompt import Amount
from worker.handler import model_update
from worker.runner import Run, run_next
from worker.runtime import Runtime

RECIPE = PreferenceRecipe(
    rank=2, steps=6, batch_size=4, gradient_accumulation=1, learning_rate=1e-2, evaluate_every=2, noise_draws=2
)
POLICY: dict[str, Any] = {
    "recipe": RECIPE,
    "seed": 3,
    "selection": SelectionPolicy(max_user_share=1.0, held_out_share=0.25),
    "gates": Gates(min_held_out=1),
}
handle = partial(model_update.handle, amount=Amount(taste=2, unrelated=2, repeated=1, repeats=1))


class Loop(LearningBench):
    """The bench with a random tiny model and pictures, on which updates really run."""

    def __init__(self, runtime: Runtime, folder: Path, **policy: Any) -> None:
        super().__init__(
            runtime.database,
            runtime.queue,
            runtime.settings,
            store=runtime.store,
            source=str(folder),
            **(POLICY | policy),
        )
        self.runtime = runtime

    def choose_some(self) -> None:
        """The same eight opinions each time."""
        for number in range(8):
            name = f"star number {number}"
            self.choose(user=f"user-{number % 4}", prompt=name, content=name)

    def start(self) -> Claim:
        """An update on some opinions, claimed."""
        self.choose_some()
        self.trigger()
        return self.claim()

    def give_back(self, claim: Claim) -> Claim:
        with self.database.transaction() as session:
            run_service.give_back(session, claim, delay=timedelta(0))
        return self.claim()

    def run_to_its_end(self) -> ModelUpdate:
        """A new update on the worker's own way, and what became of it."""
        self.choose_some()
        update = self.trigger()
        assert run_next(self.runtime, {JobKind.MODEL_UPDATE: handle})
        self.upkeep()
        return self.update(update.id)

    def promote(self, claim: Claim) -> Outcome:
        """Run an update, and let its candidate be champion whatever the verdict."""
        outcome = handle(Run(claim, self.runtime), self.runtime)
        assert outcome.verdict is not None
        outcome = replace(outcome, verdict=outcome.verdict.model_copy(update={"decision": Decision.PROMOTE}))
        with self.database.transaction() as session:
            run_service.finish(session, claim, outcome)
        return outcome

    def train(self, claim: Claim) -> Output:
        """Run an update up to its evaluation; the candidate's file."""
        with pytest.raises(Killed):
            handle(EventfulRun(claim, self, at="evaluating: ", event=kill), self.runtime)
        with self.database.transaction() as session:
            trained = update_run.find_trained(session, update_id=self.of(claim))
        assert trained is not None and trained.outputs[0].type == "adapter"
        return trained.outputs[0]

    def tensors(self, file: Output) -> bytes:
        """The bytes of all tensors of an adapter: what stands after its header."""
        body = self.runtime.store.get(file.object_key)
        return body[8 + int.from_bytes(body[:8], "little") :]

    def of(self, claim: Claim) -> UUID:
        return UpdatePlan.model_validate(claim.plan).update_id


class Killed(BaseException):
    """As good as a kill: nothing of ours catches it."""


class EventfulRun(Run):
    """A run to which something happens when it first says something."""

    def __init__(self, claim: Claim, loop: Loop, *, at: str = "", event: Callable[[Run], None] | None = None) -> None:
        super().__init__(claim, loop.runtime)
        self.at, self.event = at, event
        self.messages: list[str] = []

    def report(self, *, step: int, steps: int, message: str) -> None:
        super().report(step=step, steps=steps, message=message)
        self.messages.append(message)
        if self.event is not None and message.startswith(self.at):
            event, self.event = self.event, None
            event(self)


def drain(run: Run) -> None:
    run._runtime.draining.set()


def cancel(run: Run) -> None:
    run._lease.stop = JobCanceled()


def kill(run: Run) -> None:
    raise Killed
