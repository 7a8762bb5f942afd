"""A run that is cut off and resumed ends where an unbroken run ends, bit for bit."""

import contextlib
from pathlib import Path

import pytest
import torch
from rich.progress import Progress

from tiny import denoiser, schedule, tokenizer
from tiny.corpus import draw_corpus
from tiny.denoiser import DenoiserTrainer


def _train(path: Path, *, until: int, steps: int) -> DenoiserTrainer:
    trainer = DenoiserTrainer(tokenizer.build(), seed=0, path=path)
    latents = torch.randn(50, 4, 16, 16, generator=torch.Generator().manual_seed(1))

    def stop(now: DenoiserTrainer) -> None:
        if now.step == until:
            raise _Stop

    with contextlib.suppress(_Stop):
        trainer.train(
            latents, draw_corpus(50, seed=0).labels, steps=steps, progress=Progress(disable=True), every=1, inspect=stop
        )
    return trainer


class _Stop(Exception):
    pass


def test_resuming_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(denoiser, "_CHECKPOINT_EVERY", 1)
    monkeypatch.setattr(denoiser, "_BATCH", 4)
    _train(tmp_path / "broken.safetensors", until=1, steps=2)
    resumed = _train(tmp_path / "broken.safetensors", until=2, steps=2)
    unbroken = _train(tmp_path / "unbroken.safetensors", until=2, steps=2)
    assert resumed.step == unbroken.step == 2
    for one, other in zip(resumed.averaged.parameters, unbroken.averaged.parameters, strict=True):
        assert torch.equal(one, other)
    fresh = DenoiserTrainer(tokenizer.build(), seed=0, path=tmp_path / "none.safetensors")
    assert not torch.equal(fresh.model.parameters[0], resumed.model.parameters[0])


def test_the_last_timestep_is_pure_noise() -> None:
    scheduler = denoiser.build_scheduler()
    assert scheduler.alphas_cumprod[-1] == 0
    scheduler.set_timesteps(20)
    assert scheduler.timesteps[0] == 999


def test_the_rate_rises_and_falls() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rates = []
    for percent in range(101):
        schedule.set_rate(optimizer, peak=2.0, progress=percent / 100)
        rates.append(optimizer.param_groups[0]["lr"])
    assert max(rates) == pytest.approx(2.0)
    assert rates.index(max(rates)) == 8
    assert rates[-1] == pytest.approx(0.0)
