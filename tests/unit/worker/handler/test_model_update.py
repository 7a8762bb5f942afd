import json
import re
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from core.domain.adapter import AdapterManifest
from core.domain.errors import DatasetUnusable, JobCanceled, JobFailure, JobInterrupted, JobStopped, OwnershipLost
from core.domain.evaluation import EvaluationReport
from core.domain.job import JobKind
from core.domain.model_update import ModelUpdateStatus
from core.domain.policy import SelectionPolicy
from core.domain.preference import PreferenceReport
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.repository import training as trainings
from core.infra.settings import Settings
from core.infra.task_queue import TaskQueue
from core.services import run as run_service
from tests.update_bench import EventfulRun, Killed, Loop, cancel, drain, handle, kill
from worker.runner import Run, run_next
from worker.runtime import Runtime


@pytest.fixture
def make_loop(settings: Settings, database: Database, store: ObjectStore, queue: TaskQueue, sd_folder: Path) -> Any:
    def make(*, checkpoint_seconds: float = 1e9, **policy: Any) -> Loop:
        changed = settings.model_copy(update={"device": "cpu", "checkpoint_seconds": checkpoint_seconds})
        return Loop(Runtime(changed, database, store, queue, worker_id="worker"), sd_folder, **policy)

    return make


@pytest.fixture
def loop(make_loop: Callable[..., Loop]) -> Loop:
    return make_loop()


def test_an_update_trains_evaluates_judges_and_settles(loop: Loop) -> None:
    claim = loop.start()
    run = EventfulRun(claim, loop)
    outcome = handle(run, loop.runtime)
    types = [output.type for output in outcome.outputs]
    assert types == ["adapter", "adapter_kohya", "manifest", "report", "model_card", "contact_sheet"]
    bodies = {output.type: loop.runtime.store.get(output.object_key) for output in outcome.outputs}
    assert AdapterManifest.model_validate(json.loads(bodies["manifest"])) == outcome.adapter
    found = json.loads(bodies["report"])
    assert EvaluationReport.model_validate(found["evaluation"]) == outcome.report
    looks = PreferenceReport.model_validate(found["training"]).looks
    assert [look.step for look in looks] == [2, 4, 6]
    assert Image.open(BytesIO(bodies["contact_sheet"])).width > 100
    assert b"8 opinions of 4 users" in bodies["model_card"] and b"| 2 to 5 | 4 |" in bodies["model_card"]
    assert outcome.report is not None and outcome.report.serves and outcome.report.raters == 4
    assert outcome.report.held_out_rows > 0 and outcome.report.training_rows > 0
    assert {"loading the base model", "storing the candidate", "storing the report"} <= set(run.messages)
    assert any(message.startswith("evaluating: ") for message in run.messages)
    assert loop.update(loop.of(claim)).status == ModelUpdateStatus.EVALUATING
    with loop.database.transaction() as session:
        run_service.finish(session, claim, outcome)
        assert [m.step for m in trainings.metrics_of(session, job_id=claim.job_id, after_step=0, limit=99)] == [
            *range(1, 7)
        ]
    update = loop.update(loop.of(claim))
    assert update.verdict is not None and update.verdict["decision"] == outcome.verdict.decision  # type: ignore[union-attr]
    assert update.completed_at is not None or update.status in ("awaiting_approval", "canary")
    assert list((loop.runtime.settings.data_dir / "work").iterdir()) == []


def test_a_drained_or_killed_update_gives_the_same_adapter(make_loop: Callable[..., Loop]) -> None:
    loop = make_loop(checkpoint_seconds=1e-9)
    undisturbed = loop.train(loop.start())
    other = make_loop(checkpoint_seconds=1e-9)
    claim = other.start()
    drained = EventfulRun(claim, other, at="training, loss", event=drain)
    with pytest.raises(JobStopped):
        handle(drained, other.runtime)
    assert isinstance(drained.stop_reason, JobInterrupted)
    other.runtime.draining.clear()
    claim = other.give_back(claim)
    with pytest.raises(Killed):
        handle(EventfulRun(claim, other, at="storing the candidate", event=kill), other.runtime)
    claim = other.give_back(claim)
    with pytest.raises(Killed):
        handle(EventfulRun(claim, other, at="evaluating: drawing", event=kill), other.runtime)
    claim = other.give_back(claim)
    last = EventfulRun(claim, other)
    outcome = handle(last, other.runtime)
    assert outcome.outputs[0].sha256 == undisturbed.sha256
    assert not any(message.startswith(("training", "loading", "encoding")) for message in last.messages)
    with other.database.transaction() as session:
        run_service.finish(session, claim, outcome)
    assert other.adapter(other.of(claim)).sha256 == undisturbed.sha256


def test_where_the_stored_candidate_is_lost_it_is_trained_again(loop: Loop) -> None:
    claim = loop.start()
    trained = loop.train(claim)
    loop.runtime.store.put(trained.object_key, b"another", content_type="x")
    again = loop.train(loop.give_back(claim))
    assert again.sha256 == trained.sha256 and again.object_key != trained.object_key


def test_a_champion_is_what_the_candidate_is_compared_with(loop: Loop) -> None:
    claim = loop.start()
    loop.promote(claim)
    champion = loop.adapter(loop.of(claim))
    claim = loop.start()
    second = handle(Run(claim, loop.runtime), loop.runtime)
    assert second.report is not None and second.report.champion == "model-learned@1"
    loop.runtime.store.delete(champion.object_key)
    claim = loop.give_back(claim)
    with pytest.raises(JobFailure, match="The file of model-learned@1, which serves now, is gone"):
        handle(Run(claim, loop.runtime), loop.runtime)


@pytest.mark.parametrize("at", ["training, loss", "evaluating: drawing"])
def test_a_canceled_update_stops_wherever_it_is(loop: Loop, at: str) -> None:
    run = EventfulRun(loop.start(), loop, at=at, event=cancel)
    with pytest.raises(JobStopped):
        handle(run, loop.runtime)
    assert isinstance(run.stop_reason, JobCanceled)


def test_an_update_that_lost_its_claim_writes_nothing(loop: Loop) -> None:
    claim = loop.start()
    loop.give_back(claim)
    with pytest.raises(OwnershipLost):
        handle(Run(claim, loop.runtime), loop.runtime)
    assert loop.update(loop.of(claim)).status == ModelUpdateStatus.PLANNED


def test_pictures_that_are_gone_fail_the_update_and_the_next_does_without_them(loop: Loop) -> None:
    claim = loop.start()
    update_id = loop.of(claim)
    gone, another, *_ = sorted(key for key, _ in loop.runtime.store.list("job/"))
    loop.runtime.store.delete(gone)
    loop.runtime.store.put(another, b"another", content_type="x")
    loop.execute("UPDATE job SET status = 'queued', lease_expires_at = NULL WHERE id = :id", id=claim.job_id)
    assert run_next(loop.runtime, {JobKind.MODEL_UPDATE: handle})
    loop.upkeep()
    ended = loop.update(update_id)
    assert ended.status == ModelUpdateStatus.FAILED and ended.outcome_reason is not None
    told = "The image .* is (gone|not the one that it was). In all 2 pictures are lost. The next update .*"
    assert re.fullmatch(told, ended.outcome_reason)
    ended = loop.run_to_its_end()
    assert ended.trained is not None and ended.reason["counts"]["excluded_by"]["unavailable"]


def test_a_loss_that_is_no_number_fails_the_update(
    make_loop: Callable[..., Loop], sd_folder: Path, tmp_path: Path
) -> None:
    loop, folder = make_loop(), tmp_path / "broken"
    shutil.copytree(sd_folder, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["conv_out.bias"].fill_(float("nan"))
    save_file(tensors, weights, metadata={"format": "pt"})
    loop.execute("UPDATE stable_diffusion SET source = :source", source=str(folder))
    ended = loop.run_to_its_end()
    assert ended.status == ModelUpdateStatus.FAILED
    assert ended.outcome_reason is not None and "is not finite: try a lower learning rate" in ended.outcome_reason
    assert loop.job(ended.job_id).error_code == "training_diverged"


def test_without_held_out_opinions_a_person_has_to_decide(make_loop: Callable[..., Loop]) -> None:
    loop = make_loop(selection=SelectionPolicy(max_user_share=1.0, held_out_share=0.0))
    ended = loop.run_to_its_end()
    assert ended.status == ModelUpdateStatus.AWAITING_APPROVAL and ended.decide_by is not None
    assert ended.verdict is not None and ended.verdict["decision"] == "needs_approval"
    assert ended.report is not None and "There is no held-out opinion to measure accuracy on." in ended.report["notes"]
    assert loop.adapter(ended.id).stage == "candidate"


def test_withdrawn_training_data_stops_the_run(loop: Loop) -> None:
    claim = loop.start()
    loop.withdraw("user-1")
    with pytest.raises((DatasetUnusable, JobCanceled)):
        handle(Run(claim, loop.runtime), loop.runtime)


def test_a_clean_retrain_is_what_it_would_have_been(make_loop: Callable[..., Loop]) -> None:
    """To the last bit of every tensor: one tenant's user-0 never spoke, the other's was forgotten."""
    never = make_loop()
    for number in (1, 2, 3, 5, 6, 7):
        never.choose(user=f"user-{number % 4}", prompt=f"star number {number}", content=f"star number {number}")
    never.trigger()
    expected = never.tensors(never.train(never.claim()))
    loop = make_loop()
    tainted = loop.promote(loop.start()).outputs[0]
    loop.withdraw("user-0")
    loop.upkeep()
    assert loop.tensors(loop.train(loop.claim())) == expected
    assert loop.tensors(tainted) != expected
