import dataclasses
import gc
import io
from pathlib import Path
from uuid import UUID

import pytest
import torch
from PIL import Image

from core.domain.base_model import LoadOptions
from core.domain.errors import JobStopped
from core.domain.evaluation import Decision, Gates, Measure, judge
from core.domain.generation import GenerationDefaults, SchedulerName
from core.domain.model_update import Split
from core.domain.preference import PictureRef, PreferenceKind, PreferenceManifest
from tests.tiny_pipeline import save_lora, save_sdxl
from worker.evaluation.evaluator import EvaluationSetting, evaluate
from worker.evaluation.prompt import Amount

from .conftest import QUICK, TINY, Album


class Watch:
    """Says stop at the question `stop_after`."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.stop_after, self.questions = stop_after, 0
        self.heard: list[tuple[int, int, str]] = []

    def should_stop(self) -> bool:
        self.questions += 1
        return self.stop_after is not None and self.questions > self.stop_after

    def progress(self, done: int, total: int, message: str) -> None:
        self.heard.append((done, total, message))


@pytest.fixture
def setting(manifest: PreferenceManifest, album: Album, warm_lora: Path) -> EvaluationSetting:
    return EvaluationSetting(
        model_folder=TINY,
        options=LoadOptions(),
        defaults=QUICK,
        manifest=manifest,
        pictures=album.pictures,
        candidate=warm_lora,
        raters=3,
        device="cpu",
        amount=Amount(taste=6, unrelated=3, repeated=1, repeats=1),
    )


def test_a_candidate_that_learned_the_taste_is_told_from_the_base_each_time_alike(setting: EvaluationSetting) -> None:
    watch = Watch()
    found = evaluate(setting, watch=watch)
    assert evaluate(setting, watch=Watch()) == found
    report = found.report
    assert report.serves and report.champion is None and report.champion_accuracy is None
    assert (report.held_out_rows, report.training_rows, report.raters) == (6, 16, 3)
    assert report.accuracy is not None and report.accuracy.count == 6 and report.accuracy.lower > 0.5
    probe = next(scorer for scorer in report.scorers if scorer.scorer == "taste_probe")
    assert probe.speaks_for_users and probe.win_share.lower > 0.5 and probe.candidate > probe.champion
    assert {scorer.measures for scorer in report.scorers} == {Measure.PREFERENCE, Measure.FIDELITY}
    assert report.drift is not None and 0 < report.drift < 1
    assert report.fidelity is not None and report.diversity is not None
    assert found.sheet_png is not None
    with Image.open(io.BytesIO(found.sheet_png)) as sheet:
        assert sheet.format == "PNG" and sheet.width > 2 * 192
    done, totals, _ = zip(*watch.heard, strict=True)
    assert list(done) == sorted(done) and done[-1] == totals[-1] == 20


def test_a_candidate_that_does_nothing_is_as_good_as_the_base_and_rejected(
    setting: EvaluationSetting, zero_lora: Path
) -> None:
    report = evaluate(dataclasses.replace(setting, candidate=zero_lora), watch=Watch()).report
    assert report.serves
    assert report.drift == 0.0
    assert report.accuracy is not None and report.accuracy.value == 0.5
    assert {scorer.win_share.value for scorer in report.scorers} == {0.5}
    assert report.fidelity is not None and report.fidelity.candidate == report.fidelity.champion
    assert report.diversity is not None and report.diversity.candidate == report.diversity.champion
    verdict = judge(report, Gates(min_held_out=6), approval_below=0, canary_share=0.1)
    assert verdict.decision is Decision.REJECT
    assert {gate.gate for gate in verdict.gates if gate.passed is False} == {"accuracy", "preference"}


def test_the_champion_is_measured_beside_the_candidate(
    setting: EvaluationSetting, warm_lora: Path, zero_lora: Path
) -> None:
    beside = dataclasses.replace(setting, candidate=zero_lora, champion=warm_lora, champion_ref="taste@3")
    report = evaluate(beside, watch=Watch()).report
    assert report.champion == "taste@3"
    assert report.champion_accuracy is not None and report.champion_accuracy.value > 0.5
    verdict = judge(report, Gates(), approval_below=0, canary_share=0.1)
    failed = {gate.gate for gate in verdict.gates if gate.passed is False}
    assert {"accuracy_beside_champion", "preference"} <= failed


def test_a_file_that_does_not_load_does_not_serve(setting: EvaluationSetting, tmp_path: Path) -> None:
    broken = tmp_path / "adapter.safetensors"
    broken.write_bytes(b"not a LoRA")
    found = evaluate(dataclasses.replace(setting, candidate=broken), watch=Watch())
    report = found.report
    assert not report.serves
    assert (report.accuracy, report.drift, report.fidelity, report.diversity, report.scorers) == (*[None] * 4, ())
    assert any("does not draw" in note for note in report.notes)
    assert found.sheet_png is None
    assert judge(report, Gates(), approval_below=0, canary_share=0.1).decision is Decision.REJECT


def test_a_champion_that_is_gone_leaves_its_figures_open(setting: EvaluationSetting, tmp_path: Path) -> None:
    gone = dataclasses.replace(setting, champion=tmp_path / "gone.safetensors", champion_ref="taste@1")
    report = evaluate(gone, watch=Watch()).report
    assert report.serves and report.accuracy is not None
    assert (report.champion_accuracy, report.drift, report.scorers) == (None, None, ())
    assert any("The champion" in note for note in report.notes)


def test_what_cannot_be_measured_is_none_and_a_note_says_why(
    setting: EvaluationSetting, manifest: PreferenceManifest, zero_lora: Path, tmp_path: Path
) -> None:
    likes = tuple(
        row.model_copy(update={"kind": PreferenceKind.LIKED, "rejected": None, "prompt": "(anything)0.5 you want"})
        for row in manifest.of(Split.TRAIN)
    )
    bad = dataclasses.replace(
        setting,
        manifest=PreferenceManifest(rows=likes),
        candidate=zero_lora,
        scorer_paths={"pick_score": tmp_path / "none", "image_reward": tmp_path},
    )
    report = evaluate(bad, watch=Watch()).report
    assert report.serves and report.drift is not None
    assert (report.accuracy, report.fidelity, report.scorers) == (None, None, ())
    notes = " ".join(report.notes)
    for said in (
        "no held-out opinion",
        "no taste probe",
        "pick_score could not be loaded",
        "image_reward is not known",
    ):
        assert said in notes
    verdict = judge(report, Gates(), approval_below=0, canary_share=0.1)
    assert verdict.decision is Decision.NEEDS_APPROVAL


def test_opinions_whose_picture_is_gone_are_left_out(setting: EvaluationSetting, manifest: PreferenceManifest) -> None:
    lost = PictureRef(image_id=UUID(int=0), object_key="gone", sha256="0" * 64)
    rows = tuple(
        row.model_copy(update={"rejected": lost}) if index in (17, 18) else row
        for index, row in enumerate(manifest.rows)
    )
    watch = Watch()
    report = evaluate(dataclasses.replace(setting, manifest=PreferenceManifest(rows=rows)), watch=watch).report
    assert report.accuracy is not None and report.accuracy.count == 4
    assert "2 held_out opinions are left out: a picture is gone." in report.notes


@pytest.mark.parametrize("questions", [0, 1, 12])
def test_it_stops_when_told(setting: EvaluationSetting, questions: int) -> None:
    watch = Watch(stop_after=questions)
    with pytest.raises(JobStopped):
        evaluate(setting, watch=watch)
    assert questions < watch.questions <= questions + 8, "every picture at work is told"
    gc.collect()
    assert torch.is_grad_enabled(), "what was given up leaves no mode behind"


def test_sdxl_is_evaluated_likewise(setting: EvaluationSetting, tmp_path: Path) -> None:
    folder = save_sdxl(tmp_path / "sdxl")
    lora = save_lora(tmp_path / "adapter.safetensors", folder, parts=("unet", "text_encoder"))
    small = GenerationDefaults(width=32, height=32, steps=2, guidance_scale=3.0, scheduler=SchedulerName.EULER)
    beside = dataclasses.replace(setting, model_folder=folder, defaults=small, candidate=lora)
    report = evaluate(beside, watch=Watch()).report
    assert report.serves and report.drift is not None and report.drift > 0
    assert report.accuracy is not None and report.accuracy.count == 6
