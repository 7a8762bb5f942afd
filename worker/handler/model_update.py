"""Model update: frozen feedback → trained → evaluated → a verdict."""

import json
from pathlib import Path
from uuid import UUID

import structlog

from core.domain.adapter import AdapterManifest
from core.domain.errors import AdapterUnusable, DatasetUnusable, NotFound
from core.domain.evaluation import judge
from core.domain.generation import ResolvedAdapter
from core.domain.model_card import CardFacts, model_card
from core.domain.model_update import ModelUpdateStatus
from core.domain.outcome import Outcome, Output
from core.domain.preference import PreferenceManifest
from core.domain.update_plan import UpdatePlan
from core.services import update_run
from core.services.update_run import Bar, Trained
from worker.engine.pipeline import DeviceName
from worker.evaluation.evaluator import Evaluation, EvaluationSetting, evaluate
from worker.evaluation.prompt import Amount
from worker.handler.training_watch import RunWatch
from worker.handler.workbench import (
    JSON,
    MARKDOWN,
    PNG,
    TENSORS,
    fetch_picture,
    hold_base_model,
    resume,
    say,
    upload,
    work_folder,
)
from worker.runner import Run
from worker.runtime import Runtime
from worker.training.checkpoint import digest_file
from worker.training.export import ADAPTER, KOHYA, MANIFEST
from worker.training.preference import PreferenceTuning
from worker.training.tuning import set_threads

_log = structlog.get_logger()
_REPORT, _CARD, _SHEET = "report.json", "model_card.md", "contact_sheet.png"


def handle(run: Run, runtime: Runtime, *, amount: Amount | None = None) -> Outcome:
    """Train on the frozen feedback unless an earlier run has, compare the candidate with what serves, and judge.

    `amount` is how many pictures the comparison draws.

    Raises:
        DatasetUnusable, ModelUnusable, AdapterUnusable, OutOfMemory, TrainingDiverged: it cannot be done.
        JobStopped: asked to; where the worker drains while it trains, a checkpoint was stored before.
        Unavailable: the store or the database is away.
    """
    plan = UpdatePlan.model_validate(run.plan)
    set_threads(runtime.settings.torch_threads)
    with work_folder(runtime, run) as folder:
        update = _Update(run, runtime, plan, folder)
        update.fetch()
        trained = update.find_trained() or update.train()
        bar = update.read_bar()
        evaluation = update.evaluate(bar, amount or Amount())
        verdict = judge(
            evaluation.report,
            plan.gates,
            approval_below=plan.approval_below,
            canary_share=plan.canary_share,
            is_clean_retrain=plan.is_clean_retrain,
        )
        _log.info("judged", decision=verdict.decision, reasons=verdict.reasons)
        facts = CardFacts(
            plan=plan.training,
            manifest=update.manifest,
            training=trained.report,
            report=evaluation.report,
            verdict=verdict,
            opinions_by_user=bar.opinions_by_user,
        )
        return update.hand_over(trained, evaluation, facts)


class _Update:
    """One update on its way, in a folder of its own."""

    def __init__(self, run: Run, runtime: Runtime, plan: UpdatePlan, folder: Path) -> None:
        self._run, self._runtime, self._plan, self._folder = run, runtime, plan, folder
        self._files = folder / "output"
        self._files.mkdir()
        self.manifest = PreferenceManifest(rows=())
        self._pictures: dict[str, Path] = {}

    def fetch(self) -> None:
        """Bring the frozen rows and their pictures here."""
        self._say("reading the training data")
        with self._runtime.database.transaction() as session:
            self.manifest = update_run.read_manifest(session, self._plan)
        self._fetch_pictures()

    def _fetch_pictures(self) -> None:
        """All of them, so that every one that is lost is known, and left out of the next update."""
        refs = {ref.sha256: ref for row in self.manifest.rows for ref in (row.picture, row.rejected) if ref}
        lost: dict[UUID, DatasetUnusable] = {}
        for number, (sha256, ref) in enumerate(refs.items(), 1):
            self._pictures[sha256] = path = self._folder / "picture" / f"{sha256}.png"
            name = f"The image {ref.image_id} of the training data"
            try:
                fetch_picture(self._runtime, ref.object_key, path, sha256=sha256, name=name)
            except DatasetUnusable as error:
                lost[ref.image_id] = error
            self._say(f"fetching picture {number} of {len(refs)}")
        if lost:
            with self._runtime.database.transaction() as session:
                update_run.lose(session, lost)
            first = next(iter(lost.values())).message
            others = f" In all {len(lost)} pictures are lost." if len(lost) > 1 else ""
            raise DatasetUnusable(f"{first}{others} The next update leaves out what was said of it.")

    def find_trained(self) -> Trained | None:
        """What an earlier run has trained, its files brought here; None where they are not to be had."""
        with self._runtime.database.transaction() as session:
            trained = update_run.find_trained(session, update_id=self._plan.update_id)
        for output in trained.outputs if trained else ():
            path = self._files / output.object_key.rsplit("/", 1)[1]
            try:
                self._runtime.store.download(output.object_key, path)
            except NotFound:
                return None
            if digest_file(path) != output.sha256:
                return None
        return trained

    def train(self) -> Trained:
        """Train the candidate, from the newest good checkpoint on, and store it."""
        run, runtime, plan = self._run, self._runtime, self._plan
        self._enter(ModelUpdateStatus.TRAINING)
        with hold_base_model(run, runtime, tell=self._say) as model_folder:
            self._say("loading the base model")
            tuning = PreferenceTuning(
                model_folder, self.manifest, self._pictures, plan=plan.training, device=self._device
            )
        tuning.prepare(lambda count: self._say(f"encoding picture {count} of {len(self._pictures)}"))
        course = resume(run, runtime, plan.training, self._folder)
        watch = RunWatch(run, runtime, tuning, course)
        report = tuning.train(course, watch)
        watch.flush()
        self._say("storing the candidate")
        tuning.export(report, model=run.model, folder=self._files)
        outputs = [
            upload(run, runtime, self._files / ADAPTER, "adapter", TENSORS),
            upload(run, runtime, self._files / KOHYA, "adapter_kohya", TENSORS),
            upload(run, runtime, self._files / MANIFEST, "manifest", JSON),
        ]
        trained = Trained(report=report, outputs=outputs)
        with runtime.database.transaction() as session:
            update_run.keep_trained(session, run.claim, trained, update_id=plan.update_id)
        return trained

    def read_bar(self) -> Bar:
        """What serves now."""
        self._enter(ModelUpdateStatus.EVALUATING)
        with self._runtime.database.transaction() as session:
            return update_run.read_bar(session, self._run.claim, self._plan)

    def evaluate(self, bar: Bar, amount: Amount) -> Evaluation:
        """Compare the candidate with what serves now."""
        with hold_base_model(self._run, self._runtime, tell=self._say) as model_folder:
            return evaluate(self._setting(bar, amount, model_folder), watch=_EvaluationWatch(self._run))

    def _setting(self, bar: Bar, amount: Amount, model_folder: Path) -> EvaluationSetting:
        run, runtime, plan = self._run, self._runtime, self._plan
        champion = f"{bar.champion.name}@{bar.champion.version}" if bar.champion else None
        return EvaluationSetting(
            model_folder=model_folder,
            options=run.model.options,
            defaults=bar.defaults,
            manifest=self.manifest,
            pictures=self._pictures,
            candidate=self._files / ADAPTER,
            champion=self._fetch(bar.champion) if bar.champion else None,
            champion_ref=champion,
            raters=bar.raters,
            seed=plan.seed,
            confidence=plan.gates.confidence,
            device=self._device,
            amount=amount,
            scorer_paths=runtime.settings.scorer_paths,
            sheet_title=f"{champion or 'the bare base'} beside {plan.name}@{plan.adapter_version}",
        )

    def hand_over(self, trained: Trained, evaluation: Evaluation, facts: CardFacts) -> Outcome:
        """Store what was found beside the candidate; everything becomes true with the end of the job."""
        self._say("storing the report")
        found = {"training": trained.report, "evaluation": facts.report, "verdict": facts.verdict}
        report = {name: each.model_dump(mode="json") for name, each in found.items()}
        outputs = [
            *trained.outputs,
            self._store(_REPORT, json.dumps(report, indent=2).encode() + b"\n", "report", JSON),
            self._store(_CARD, model_card(facts).encode(), "model_card", MARKDOWN),
        ]
        if evaluation.sheet_png is not None:
            outputs.append(self._store(_SHEET, evaluation.sheet_png, "contact_sheet", PNG))
        adapter = AdapterManifest.model_validate_json((self._files / MANIFEST).read_bytes())
        return Outcome(outputs=outputs, adapter=adapter, report=facts.report, verdict=facts.verdict)

    def _store(self, name: str, body: bytes, kind: str, content_type: str) -> Output:
        (self._files / name).write_bytes(body)
        return upload(self._run, self._runtime, self._files / name, kind, content_type)

    @property
    def _device(self) -> DeviceName:
        wanted = self._run.model.options.device
        return self._runtime.settings.device if wanted == "auto" else wanted

    def _say(self, message: str) -> None:
        say(self._run, message, steps=self._plan.spec.steps)

    def _enter(self, phase: ModelUpdateStatus) -> None:
        with self._runtime.database.transaction() as session:
            update_run.enter(session, self._run.claim, phase, update_id=self._plan.update_id)

    def _fetch(self, champion: ResolvedAdapter) -> Path:
        path, name = self._folder / "champion.safetensors", f"{champion.name}@{champion.version}"
        try:
            self._runtime.store.download(champion.object_key, path)
        except NotFound as error:
            raise AdapterUnusable(f"The file of {name}, which serves now, is gone.") from error
        if digest_file(path) != champion.sha256:
            raise AdapterUnusable(f"The file of {name}, which serves now, is not what it was.")
        return path


class _EvaluationWatch:
    """Lets an evaluation be seen, and stopped."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def should_stop(self) -> bool:
        """Whether the job was canceled, lost, or the worker drains."""
        return self._run.should_stop()

    def progress(self, done: int, total: int, message: str) -> None:
        """Show it."""
        self._run.report(step=done, steps=total, message=f"evaluating: {message}")
