from typing import Any
from uuid import UUID

from core.domain.evaluation import Comparison, EvaluationReport, Gates, Measure, ScorerResult, judge, wilson
from core.domain.model_card import CardFacts, model_card
from core.domain.model_update import Split
from core.domain.preference import (
    PictureRef,
    PreferenceKind,
    PreferenceManifest,
    PreferencePlan,
    PreferenceRecipe,
    PreferenceReport,
    PreferenceRow,
)


def row(kind: PreferenceKind, split: Split, number: int) -> PreferenceRow:
    ref = PictureRef(image_id=UUID(int=number), object_key=f"k{number}", sha256=f"{number:064x}")
    rejected = ref if kind is PreferenceKind.PAIR else None
    said: dict[str, Any] = {"feedback_id": UUID(int=number), "prompt": f"secret wish {number}", "weight": 1.0}
    return PreferenceRow(kind=kind, picture=ref, rejected=rejected, split=split, **said)


MANIFEST = PreferenceManifest(
    rows=(
        row(PreferenceKind.PAIR, Split.TRAIN, 1),
        row(PreferenceKind.PAIR, Split.HELD_OUT, 2),
        row(PreferenceKind.LIKED, Split.TRAIN, 3),
        row(PreferenceKind.LIKED, Split.TRAIN, 4),
        row(PreferenceKind.DISLIKED, Split.HELD_OUT, 5),
    )
)


PLAN = PreferencePlan(
    spec=PreferenceRecipe(),
    name="warmth",
    description="learned <b>here</b> | and there",
    base_model="tiny",
    adapter_version=4,
    alpha=8.0,
    resolution=64,
    seed=3,
    dataset_digest=MANIFEST.digest,
)
TRAINING = PreferenceReport(
    steps=100,
    best_step=75,
    first_loss=0.69,
    last_loss=0.3,
    final_beta=312.5,
    stop_reason="learned",
    looks=(),
    resumed_from_step=0,
    execution_seconds=3.0,
)
PROBE = ScorerResult(
    scorer="taste_probe",
    measures=Measure.PREFERENCE,
    candidate=1.0,
    champion=0.5,
    win_share=wilson(20, 24),
    agreement=wilson(36, 40),
)
REPORT = EvaluationReport(
    champion="warmth@3",
    held_out_rows=2,
    training_rows=3,
    raters=4,
    accuracy=wilson(34, 40),
    champion_accuracy=None,
    scorers=(PROBE,),
    fidelity=Comparison(candidate=0.97, champion=0.98),
    drift=None,
    diversity=None,
    serves=True,
    notes=("Two pictures are gone.",),
)


def facts(opinions_by_user: tuple[int, ...] = (1, 1, 4, 30)) -> CardFacts:
    return CardFacts(
        plan=PLAN,
        manifest=MANIFEST,
        training=TRAINING,
        report=REPORT,
        verdict=judge(REPORT, Gates(), approval_below=200, canary_share=0.1),
        opinions_by_user=opinions_by_user,
    )


def test_a_card_tells_counts_figures_gates_recipe_and_limits() -> None:
    card = model_card(facts())
    for said in (
        "# warmth, version 4",
        "A person has to approve it before it serves.",
        f"5 opinions of 4 users. Their frozen list: `{MANIFEST.digest}`.",
        "| choices between two pictures | 1 | 1 |",
        "| liked pictures | 2 | 0 |",
        "| disliked pictures | 0 | 1 |",
        "| 1 | 2 |",
        "| 2 to 5 | 1 |",
        "| 21 and more | 1 |",
        "| steps | 100 steps, of which step 75 is kept: learned |",
        "| accuracy on held-out opinions | 0.85 (0.71 to 0.93) | not measured |",
        "| fidelity to unrelated prompts | 0.970 | 0.980 |",
        "| taste_probe | preference | 0.83 (0.64 to 0.93) | 0.90 (0.77 to 0.96) |",
        "Note: Two pictures are gone.",
        "Beside `warmth@3`",
        "Verdict: **needs approval**.",
        "| drift | not decided |",
        "## Limits",
    ):
        assert said in card


def test_a_card_names_no_user_and_no_prompt_and_cannot_be_broken_out_of() -> None:
    card = model_card(facts())
    assert "secret wish" not in card
    assert "\\<b\\>here\\</b\\> | and there" in card


def test_users_are_left_out_where_they_are_not_known() -> None:
    assert "opinions of one user" not in model_card(facts(opinions_by_user=()))


def test_the_same_facts_are_the_same_card() -> None:
    assert model_card(facts()) == model_card(facts())
