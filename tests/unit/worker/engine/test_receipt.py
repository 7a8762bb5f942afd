import io
import json
from collections.abc import Callable

import pytest
from PIL import Image

from core.domain.errors import InvalidInput
from core.domain.generation import Assignment, GenerationPlan, OutputFormat, ResolvedAdapter
from core.domain.rollout import Arm
from worker.engine.receipt import canonical_json, describe, encode_image, plan_of, read_receipt

MakePlan = Callable[..., GenerationPlan]
ADAPTER = ResolvedAdapter(
    id="1", name="my-style", version=3, sha256="9f86d081884c" * 5 + "0000", object_key="k", weight=0.8,
    text_encoder_weight=0.5,
)  # fmt: skip


def picture() -> Image.Image:
    return Image.radial_gradient("L").convert("RGB").resize((32, 32))


@pytest.mark.parametrize("output_format", OutputFormat)
@pytest.mark.parametrize("prompt", ["a red star", "ein großer Stern 🌟\nauf Blau", "x" * 500])
def test_the_receipt_comes_back(make_plan: MakePlan, output_format: OutputFormat, prompt: str) -> None:
    plan = make_plan(output_format=output_format, prompt=prompt, adapters=(ADAPTER,), strength=0.4, init_image_key="k")
    file = encode_image(picture(), plan)
    receipt = read_receipt(file)
    assert receipt.plan == plan
    assert receipt.parameters == describe(plan)
    with Image.open(io.BytesIO(file)) as image:
        assert image.format == output_format.upper()
        assert image.size == (32, 32)


def test_a_png_keeps_every_pixel(make_plan: MakePlan) -> None:
    with Image.open(io.BytesIO(encode_image(picture(), make_plan()))) as image:
        assert image.tobytes() == picture().tobytes()
        assert set(image.info) >= {"parameters", "lorikeet"}


def test_parameters_are_in_the_form_of_automatic1111(make_plan: MakePlan) -> None:
    prompt, negative_prompt, facts = describe(make_plan(adapters=(ADAPTER,), strength=0.4)).splitlines()
    assert prompt == "a large red star on a blue background <lora:my-style:0.8>"
    assert negative_prompt == "Negative prompt: green"
    assert facts == (
        "Steps: 3, Sampler: ddim, CFG scale: 3, Seed: 7, Size: 32x32, Model: tiny, Denoising strength: 0.4, "
        'Lora hashes: "my-style: 9f86d081884c", Version: Lorikeet'
    )


def test_the_plan_of_one_image_makes_it_alone(make_plan: MakePlan) -> None:
    plan = plan_of(make_plan(seed=10, num_images=4), 3)
    assert (plan.seed, plan.num_images) == (13, 1)


def test_the_plan_of_one_image_of_a_comparison_has_its_adapters_and_no_side(make_plan: MakePlan) -> None:
    arms = (Arm.INCUMBENT, Arm.CHALLENGER)
    plan = make_plan(num_images=2, assignment=Assignment(rollout_id="r", arms=arms, challenger=(ADAPTER,)))
    assert [plan_of(plan, index).adapters for index in range(2)] == [(), (ADAPTER,)]
    assert plan_of(plan, 1) == make_plan(seed=8, adapters=(ADAPTER,))


def test_the_same_plan_is_the_same_text(make_plan: MakePlan) -> None:
    text = canonical_json(make_plan(prompt="é"))
    assert text == canonical_json(GenerationPlan.model_validate(json.loads(text)))
    assert text.isascii()


@pytest.mark.parametrize("output_format", [OutputFormat.JPEG, OutputFormat.WEBP])
def test_what_does_not_fit_is_left_out(make_plan: MakePlan, output_format: OutputFormat) -> None:
    long = make_plan(output_format=output_format, prompt="x" * 10_000, negative_prompt="y" * 10_000)
    assert read_receipt(encode_image(picture(), long)).plan == long
    longer = make_plan(output_format=output_format, prompt="é" * 10_000, negative_prompt="é" * 10_000)
    assert read_receipt(encode_image(picture(), longer)).plan is None
    assert read_receipt(
        encode_image(picture(), longer.model_copy(update={"output_format": OutputFormat.PNG}))
    ).parameters


def test_a_picture_from_elsewhere_has_none() -> None:
    file = io.BytesIO()
    picture().save(file, "PNG")
    receipt = read_receipt(file.getvalue())
    assert receipt.plan is None
    assert receipt.parameters is None


@pytest.mark.parametrize("file", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"0" * 100])
def test_what_is_no_picture(file: bytes) -> None:
    with pytest.raises(InvalidInput, match="image"):
        read_receipt(file)
