from typing import Any

import pytest
import torch

from core.domain.errors import InvalidInput
from worker.engine.pipeline import Pipeline
from worker.engine.prompt import MAX_DOWNWEIGHTED, PromptEncoder

WINDOW = 24
NAMES = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")


def encode(pipeline: Pipeline, prompt: str, negative_prompt: str | None = "") -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return PromptEncoder(pipeline, pipeline.device).encode(prompt, negative_prompt, adapters=())


@pytest.mark.parametrize("prompt", ["a red star", "a (red) star, it's [great] \\", "", "🎉 é"])
@pytest.mark.parametrize("negative_prompt", ["ugly", ""])
@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_a_plain_prompt_is_encoded_as_diffusers_does(
    request: pytest.FixtureRequest, family: str, prompt: str, negative_prompt: str
) -> None:
    pipeline = request.getfixturevalue(family)
    # For SDXL, diffusers takes zeros where there is no negative prompt.
    absent = negative_prompt if negative_prompt or family == "sd" else None
    options: dict[str, Any] = {"prompt_2": None} if family == "sdxl" else {}
    expected = pipeline.encode_prompt(
        prompt=prompt,
        negative_prompt=absent,
        device=pipeline.device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=True,
        **options,
    )
    encoded = encode(pipeline, prompt, negative_prompt)
    assert set(encoded) == set(NAMES[: len(expected)])
    for name, tensor in zip(NAMES, expected, strict=False):
        assert torch.equal(encoded[name], tensor)


def test_without_guidance_there_is_no_negative(sd: Pipeline) -> None:
    assert set(encode(sd, "a star", None)) == {"prompt_embeds"}


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_a_prompt_longer_than_the_window_counts_to_its_end(request: pytest.FixtureRequest, family: str) -> None:
    pipeline = request.getfixturevalue(family)
    long = "a large red star on a blue background, " * 6
    one, other = encode(pipeline, long + "red", "bad"), encode(pipeline, long + "green", "bad")
    assert one["prompt_embeds"].shape == one["negative_prompt_embeds"].shape
    assert one["prompt_embeds"].shape[1] > WINDOW
    assert one["prompt_embeds"].shape[1] % WINDOW == 0
    assert not torch.equal(one["prompt_embeds"], other["prompt_embeds"])


def test_the_shorter_of_two_prompts_is_padded(sd: Pipeline) -> None:
    encoded = encode(sd, "star", "blue square, " * 30)
    assert encoded["prompt_embeds"].shape == encoded["negative_prompt_embeds"].shape
    empty = encode(sd, "", None)["prompt_embeds"]
    assert torch.equal(encoded["prompt_embeds"][:, WINDOW : 2 * WINDOW], empty)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("prompt", ["a (red:1.4) star", "a (red:0.6) star", "a (red:0) star"])
def test_weights_change_the_embedding(request: pytest.FixtureRequest, family: str, prompt: str) -> None:
    pipeline = request.getfixturevalue(family)
    plain, weighted = encode(pipeline, "a red star"), encode(pipeline, prompt)
    assert plain["prompt_embeds"].shape == weighted["prompt_embeds"].shape
    assert torch.isfinite(weighted["prompt_embeds"]).all()
    assert not torch.allclose(plain["prompt_embeds"], weighted["prompt_embeds"], atol=1e-4)


def test_a_weight_of_one_changes_nothing(sd: Pipeline) -> None:
    assert torch.equal(encode(sd, "a (red:1.0) star")["prompt_embeds"], encode(sd, "a red star")["prompt_embeds"])


@pytest.mark.parametrize(
    "prompt",
    [
        "<|endoftext|> (<|endoftext|>:0.2) c",
        "(🎉:0.2)(é:0.1)",
        "(:0.5)",
        "((((",
        "x" * 3000,
        "(a:0.5) " + "red star, (large:1.2) " * 30 + "(b:0.3)",
        "(" + "long words " * 40 + ":0.4)",
    ],
)
def test_odd_prompts_are_encoded_all_the_same(sd: Pipeline, prompt: str) -> None:
    encoded = encode(sd, prompt, prompt)["prompt_embeds"]
    assert torch.isfinite(encoded).all()
    assert encoded.shape[1] % WINDOW == 0


def test_too_many_played_down_pieces_are_refused(sd: Pipeline) -> None:
    prompt = " ".join(f"(a:0.{number:02d})" for number in range(1, MAX_DOWNWEIGHTED + 2))
    with pytest.raises(InvalidInput, match="negative_prompt: at most"):
        encode(sd, "a star", prompt)


def test_embeddings_are_kept_per_state_of_the_adapters(sd: Pipeline) -> None:
    encoder = PromptEncoder(sd, sd.device)
    with torch.inference_mode():
        first = encoder.encode("a star", None, adapters=())["prompt_embeds"]
        assert encoder.encode("a star", None, adapters=())["prompt_embeds"] is first
        assert encoder.encode("a star", None, adapters=("other",))["prompt_embeds"] is not first
