import pytest
import torch

from core.domain.errors import AdapterUnusable
from tests.training_bench import CPU, make_learner, make_pipeline, make_plan
from worker.training.learner import Learner, choose_dtype


def test_only_the_adapter_learns_and_it_begins_as_nothing() -> None:
    pipe = make_pipeline()
    noisy, t, text = torch.randn(1, 4, 16, 16), torch.tensor([10]), torch.randn(1, 24, 32)
    before = pipe.unet(noisy, t, text).sample
    learner = Learner(pipe, make_plan(), device=CPU)
    assert all("lora_" in name for name in learner.parameters())
    assert all(not p.requires_grad for n, p in pipe.unet.named_parameters() if "lora_" not in n)
    assert torch.equal(before, pipe.unet(noisy, t, text).sample)


def test_the_seed_settles_the_first_weights() -> None:
    one, same = (make_learner(make_plan()).parameters() for _ in range(2))
    other = make_learner(make_plan().model_copy(update={"seed": 8})).parameters()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_targets_are_what_is_asked_for() -> None:
    few = make_learner(make_plan(target_modules=("to_q",)))
    assert all(".to_q.lora_" in name for name in few.parameters())
    wide = make_learner(make_plan(target_modules=("to_q", "conv1", "ff.net.0.proj")))
    assert any("conv1" in name for name in wide.parameters())
    both = make_learner(make_plan(train_text_encoder=True))
    assert {name.split(".")[0] for name in both.parameters()} == {"unet", "text_encoder"}
    three = make_learner(make_plan(train_text_encoder=True), sdxl=True)
    assert {name.split(".")[0] for name in three.parameters()} == {"unet", "text_encoder", "text_encoder_2"}


@pytest.mark.parametrize("target", ["to_nowhere", "norm1"])
def test_a_target_that_cannot_be_is_named(target: str) -> None:
    with pytest.raises(AdapterUnusable, match=target if target == "to_nowhere" else "cannot carry"):
        make_learner(make_plan(target_modules=("to_q", target)))


def test_half_precision_keeps_the_adapter_in_float32() -> None:
    learner = make_learner(make_plan(mixed_precision="bf16"))
    assert learner.pipe.unet.conv_in.weight.dtype is torch.bfloat16
    assert {p.dtype for p in learner.parameters().values()} == {torch.float32}
    assert choose_dtype(make_plan().spec, CPU) is torch.float32
