from pathlib import Path

import pytest
import torch

from core.domain.errors import TrainingDiverged
from core.domain.preference import PreferenceKind
from tests.training_bench import make_learner, make_opinions, make_preference_plan
from worker.engine.implicit_reward import FIXED_TIMESTEPS, mean_errors
from worker.training.held_out import HeldOut
from worker.training.opinion_shelf import OpinionShelf
from worker.training.preference_data import content_key


def test_a_look_says_what_the_rewards_say(tmp_path: Path) -> None:
    plan = make_preference_plan()
    manifest, pictures = make_opinions(tmp_path)
    rows, learner = list(manifest.rows), make_learner(plan)
    shelf = OpinionShelf(rows, pictures, learner, resolution=plan.resolution)
    held_out = HeldOut(rows, shelf, learner)
    fresh = held_out.look(0)
    assert (fresh.step, fresh.margin, fresh.chosen_error_ratio) == (0, 0.0, 1.0)
    generator = torch.Generator().manual_seed(1)
    for parameter in learner.parameters().values():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 4
    look = held_out.look(5)
    rewards = {}
    for row in rows:
        for ref in (row.picture, row.rejected):
            if ref is not None:
                errors = {}
                for on in (False, True):
                    learner.switch(on)
                    error = mean_errors(
                        learner.denoiser,
                        shelf.latent(ref.sha256),
                        shelf.condition([row.prompt]),
                        timesteps=FIXED_TIMESTEPS,
                        seeds=[content_key(row)],
                    )
                    errors[on] = error.item()
                rewards[ref.sha256] = errors[False] - errors[True]
    pairs = [rewards[row.picture.sha256] - rewards[row.rejected.sha256] for row in rows if row.rejected]
    singles = [row for row in rows if row.rejected is None]
    middle = torch.tensor([rewards[row.picture.sha256] for row in singles]).median().item()
    margins = pairs + [
        (1 if row.kind is PreferenceKind.LIKED else -1) * (rewards[row.picture.sha256] - middle) for row in singles
    ]
    assert look.accuracy == pytest.approx(sum(margin > 0 for margin in margins) / len(margins))
    assert look.margin == pytest.approx(sum(margins) / len(margins), rel=1e-3, abs=1e-6)
    assert look.chosen_error_ratio != 1.0


def test_the_adapter_is_on_and_learns_after_a_look(tmp_path: Path) -> None:
    plan = make_preference_plan()
    manifest, pictures = make_opinions(tmp_path)
    learner = make_learner(plan)
    HeldOut(manifest.rows, OpinionShelf(manifest.rows, pictures, learner, resolution=32), learner).look(1)
    assert all(parameter.requires_grad for parameter in learner.parameters().values())


def test_an_error_that_is_no_number_ends_the_run_in_words(tmp_path: Path) -> None:
    plan = make_preference_plan()
    manifest, pictures = make_opinions(tmp_path)
    learner = make_learner(plan)
    held_out = HeldOut(manifest.rows, OpinionShelf(manifest.rows, pictures, learner, resolution=32), learner)
    with torch.no_grad():
        next(iter(learner.parameters().values())).fill_(torch.nan)
    with pytest.raises(TrainingDiverged, match="after step 7 is not finite"):
        held_out.look(7)
