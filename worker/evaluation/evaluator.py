"""Is the candidate better? Opinions read by both sides, pictures drawn by both sides, and what scorers say of them."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from PIL import Image

from core.domain.base_model import LoadOptions
from core.domain.errors import AdapterUnusable, JobFailure, JobStopped, OutOfMemory
from core.domain.evaluation import EvaluationReport, Interval
from core.domain.generation import GenerationDefaults
from core.domain.model_update import Split
from core.domain.preference import PreferenceManifest, PreferenceRow
from core.infra import contact_sheet
from core.infra.contact_sheet import Row
from worker.engine.family_model import FamilyModel
from worker.engine.inspection import inspect_pipeline
from worker.engine.pipeline import DeviceName, free_memory, is_out_of_memory, load_pipeline, pick_device
from worker.evaluation import comparison
from worker.evaluation.easel import Drawn, Easel, Side
from worker.evaluation.opinion import agreement
from worker.evaluation.panel import Evidence, Panel
from worker.evaluation.prompt import Amount, Task, taste_tasks, unrelated_tasks
from worker.evaluation.reward import RewardReader

MOST_OPINIONS = 512
"""Held-out opinions that are read; more change the interval by hairs."""
_TASTE_ROWS, _UNRELATED_ROWS = 8, 4


class EvaluationWatch(Protocol):
    """Hears how an evaluation goes on, and may stop it."""

    def should_stop(self) -> bool:
        """Whether to give up; asked before each picture and each batch."""
        ...

    def progress(self, done: int, total: int, message: str) -> None:
        """So many of so many pictures are drawn; `message` says what is done now."""
        ...


@dataclass(frozen=True, slots=True)
class EvaluationSetting:
    """What is compared, and on what.

    `pictures` maps digests to files on disk; one that is not there costs its opinions. `candidate` and `champion` are
    exported files in the diffusers format; without a champion the bare base stands in its place. `champion_ref` is
    what a report calls it. The same setting gives the same report, to the last bit on a CPU.
    """

    model_folder: Path
    options: LoadOptions
    defaults: GenerationDefaults
    manifest: PreferenceManifest
    pictures: Mapping[str, Path]
    candidate: Path
    champion: Path | None = None
    champion_ref: str | None = None
    raters: int = 0
    seed: int = 0
    confidence: float = 0.95
    device: DeviceName = "auto"
    amount: Amount = field(default_factory=Amount)
    scorer_paths: Mapping[str, Path] = field(default_factory=dict)
    sheet_title: str = "The champion beside the candidate"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was found. `sheet_png` is a contact sheet, champion left and candidate right; None without pictures."""

    report: EvaluationReport
    sheet_png: bytes | None


def evaluate(setting: EvaluationSetting, *, watch: EvaluationWatch) -> Evaluation:
    """Measure everything that a verdict needs; what cannot be measured is None, and a note says why.

    Raises:
        JobStopped: asked to.
        ModelUnusable: the base model itself does not load.
        OutOfMemory: the device has not enough of it.
    """
    with _memory_named():
        return _Work(setting, watch).run()


class _Work:
    """One evaluation on its way."""

    def __init__(self, setting: EvaluationSetting, watch: EvaluationWatch) -> None:
        self._setting, self._watch = setting, watch
        self._notes: list[str] = []
        self._candidate = Side("candidate", setting.candidate)
        self._champion = Side("champion", setting.champion)
        self._taste = taste_tasks(setting.manifest, setting.amount, seed=setting.seed)
        self._unrelated = unrelated_tasks(setting.manifest, setting.amount, seed=setting.seed)
        self._done = 0

    def run(self) -> Evaluation:
        setting = self._setting
        training, held_out = (setting.manifest.of(split) for split in (Split.TRAIN, Split.HELD_OUT))
        evidence = Evidence(self._at_hand(training), self._at_hand(held_out)[:MOST_OPINIONS], setting.pictures)
        accuracy, champion_accuracy = self._read(evidence.held_out)
        serves, taste, unrelated = self._draw()
        self._say("asking the scorers")
        device = pick_device(setting.device if setting.options.device == "auto" else setting.options.device)
        panel = Panel(
            evidence,
            paths=setting.scorer_paths,
            device=device,
            confidence=setting.confidence,
            on_look=lambda: self._say("asking the scorers"),
        )
        report = EvaluationReport(
            champion=(setting.champion_ref or setting.champion.name) if setting.champion else None,
            held_out_rows=len(held_out),
            training_rows=len(training),
            raters=setting.raters,
            accuracy=accuracy,
            champion_accuracy=champion_accuracy,
            scorers=panel.compare(taste),
            fidelity=panel.fidelity(unrelated) if unrelated else None,
            drift=comparison.drift(unrelated),
            diversity=comparison.diversity(unrelated),
            serves=serves,
            notes=(*self._notes, *panel.notes),
        )
        return Evaluation(report, _sheet(setting.sheet_title, taste, unrelated))

    def _at_hand(self, rows: Sequence[PreferenceRow]) -> list[PreferenceRow]:
        """The rows whose pictures are there, in an order without meaning."""
        pictures = self._setting.pictures
        found = [row for row in rows if all(ref.sha256 in pictures for ref in (row.picture, row.rejected) if ref)]
        if len(found) < len(rows):
            self._notes.append(f"{len(rows) - len(found)} {rows[0].split} opinions are left out: a picture is gone.")
        return sorted(found, key=lambda row: (row.picture.sha256, row.rejected.sha256 if row.rejected else ""))

    def _read(self, rows: Sequence[PreferenceRow]) -> tuple[Interval | None, Interval | None]:
        """How often the implicit rewards of candidate and champion side with opinions."""
        if not rows:
            self._notes.append("There is no held-out opinion to measure accuracy on.")
            return None, None
        setting = self._setting

        def should_stop() -> bool:
            self._say(f"reading {len(rows)} held-out opinions")
            return False

        reader = RewardReader(
            load_pipeline(setting.model_folder, setting.options, device=setting.device),
            rows,
            setting.pictures,
            defaults=setting.defaults,
            should_stop=should_stop,
        )
        try:
            mine = self._agreement(reader, self._candidate)
            return mine, self._agreement(reader, self._champion) if setting.champion else None
        finally:
            del reader
            free_memory()

    def _agreement(self, reader: RewardReader, side: Side) -> Interval | None:
        try:
            found = agreement(reader.read(side.adapters, side.files), confidence=self._setting.confidence)
        except AdapterUnusable as error:
            self._notes.append(f"The {side.name} cannot be read: {error.message}")
            return None
        if found is None:
            self._notes.append("Held-out opinions hold no pair, and no liked beside a disliked picture.")
        return found

    def _draw(self) -> tuple[bool, list[Drawn], list[Drawn]]:
        """Whether the candidate serves, and what both sides drew of users' prompts and of unrelated ones."""
        setting, tasks = self._setting, [*self._taste, *self._unrelated]
        pipeline = load_pipeline(setting.model_folder, setting.options, device=setting.device)
        loaded = FamilyModel(pipeline, inspect_pipeline(pipeline, setting.model_folder))
        easel = Easel(
            loaded, defaults=setting.defaults, should_stop=self._watch.should_stop, on_picture=self._count_picture
        )
        mine, theirs = self._hang(easel, tasks, self._candidate), {}
        if mine:
            theirs = self._hang(easel, tasks, self._champion)
            if lost := len(tasks) - len(mine):
                self._notes.append(f"{lost} pictures are left out: their prompts cannot be encoded.")
        del pipeline, loaded, easel
        free_memory()
        drawn = [Drawn(task, mine[task], theirs[task]) for task in tasks if task in mine and task in theirs]
        known = set(self._taste)
        taste = [each for each in drawn if each.task in known]
        return bool(mine), taste, [each for each in drawn if each.task not in known]

    def _hang(self, easel: Easel, tasks: Sequence[Task], side: Side) -> dict[Task, Image.Image]:
        """What a side draws; nothing where it cannot."""
        try:
            return easel.draw(tasks, side)
        except OutOfMemory:
            raise
        except JobFailure as error:
            self._notes.append(f"The {side.name} does not draw: {error.message}")
            return {}

    def _count_picture(self) -> None:
        self._done += 1
        self._say("drawing with the candidate and the champion")

    def _say(self, message: str) -> None:
        if self._watch.should_stop():
            raise JobStopped
        self._watch.progress(self._done, 2 * len([*self._taste, *self._unrelated]), message)


def _sheet(title: str, taste: Sequence[Drawn], unrelated: Sequence[Drawn]) -> bytes | None:
    """The first pictures of each prompt, champion left and candidate right."""
    chosen = [*_first_of_each(taste)[:_TASTE_ROWS], *_first_of_each(unrelated)[:_UNRELATED_ROWS]]
    if not chosen:
        return None
    file = io.BytesIO()
    contact_sheet.write(file, title, [Row(each.task.prompt, [each.champion, each.candidate]) for each in chosen])
    return file.getvalue()


def _first_of_each(drawn: Sequence[Drawn]) -> list[Drawn]:
    return list({each.task.prompt: each for each in reversed(drawn)}.values())[::-1]


@contextmanager
def _memory_named() -> Iterator[None]:
    try:
        yield
    except OutOfMemory:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory("The device has not enough memory to evaluate an adapter of this model.") from error
        raise
