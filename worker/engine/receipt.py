"""Image files that say how they were made: A1111's `parameters`, and our plan as canonical JSON."""

import io
import json
from dataclasses import dataclass
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import ValidationError

from core.domain.errors import InvalidInput
from core.domain.generation import GenerationPlan, OutputFormat

_PARAMETERS, _PLAN = "parameters", "lorikeet"  # text chunks of a PNG
_DESCRIPTION, _EXIF, _USER_COMMENT = 0x010E, 0x8769, 0x9286  # tags of Exif 2.32
_UNICODE = b"UNICODE\x00"
_EXIF_MAX_BYTES = 65_000  # a JPEG segment holds 65,533
_OPTIONS: dict[OutputFormat, dict[str, Any]] = {
    OutputFormat.PNG: {},
    OutputFormat.JPEG: {"quality": 95, "subsampling": 0},
    OutputFormat.WEBP: {"quality": 95},
}


@dataclass(frozen=True)
class Receipt:
    """What an image file tells: the plan of this one image, and the text that other tools read."""

    plan: GenerationPlan | None
    parameters: str | None


def encode_image(image: Image.Image, plan: GenerationPlan) -> bytes:
    """The image as a file of `plan.output_format` with its receipt.

    `plan` is that of this image alone (see `plan_of`). Where a JPEG or WebP has no room for both texts, the plan
    stays; where it has none for the plan either, there is no receipt.
    """
    file = io.BytesIO()
    parameters, canonical = describe(plan), canonical_json(plan)
    if plan.output_format is OutputFormat.PNG:
        info = PngInfo()
        info.add_text(_PARAMETERS, parameters)
        info.add_text(_PLAN, canonical)
        image.save(file, "PNG", pnginfo=info)
    else:
        exif = _exif(parameters, canonical)
        image.save(file, plan.output_format.upper(), exif=exif, **_OPTIONS[plan.output_format])
    return file.getvalue()


def plan_of(plan: GenerationPlan, index: int) -> GenerationPlan:
    """The plan that makes image `index` of a plan again, alone."""
    return plan.part(index)


def canonical_json(plan: GenerationPlan) -> str:
    """The same plan is the same text: keys sorted, no spaces, ASCII."""
    return json.dumps(plan.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def describe(plan: GenerationPlan) -> str:
    """The text that Automatic1111's web UI writes, and that other tools read."""
    loras = "".join(f" <lora:{adapter.name}:{adapter.weight:g}>" for adapter in plan.adapters)
    facts: dict[str, object] = {
        "Steps": plan.steps,
        "Sampler": plan.scheduler,
        "CFG scale": f"{plan.guidance_scale:g}",
        "Seed": plan.seed,
        "Size": f"{plan.width}x{plan.height}",
        "Model": plan.model,
    }
    if plan.strength is not None:
        facts["Denoising strength"] = f"{plan.strength:g}"
    if plan.adapters:
        hashes = ", ".join(f"{adapter.name}: {adapter.sha256[:12]}" for adapter in plan.adapters)
        facts["Lora hashes"] = f'"{hashes}"'
    facts["Version"] = "Lorikeet"
    lines = [plan.prompt + loras]
    if plan.negative_prompt:
        lines.append(f"Negative prompt: {plan.negative_prompt}")
    lines.append(", ".join(f"{name}: {value}" for name, value in facts.items()))
    return "\n".join(lines)


def read_receipt(file: bytes) -> Receipt:
    """Read an image file's receipt; its parts are None where it has none.

    Raises:
        InvalidInput: not an image, or the plan in it is not valid.
    """
    try:
        with Image.open(io.BytesIO(file)) as image:
            image.load()
            parameters, canonical = _texts(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidInput.of("image", "cannot be read") from error
    try:
        plan = GenerationPlan.model_validate_json(canonical) if canonical else None
    except ValidationError as error:
        raise InvalidInput.of("image", "holds a plan that is not valid") from error
    return Receipt(plan, parameters)


def _texts(image: Image.Image) -> tuple[str | None, str | None]:
    if image.format == "PNG":
        return image.info.get(_PARAMETERS), image.info.get(_PLAN)
    exif = image.getexif()
    comment = exif.get_ifd(_EXIF).get(_USER_COMMENT)
    parameters = None
    if isinstance(comment, bytes) and comment.startswith(_UNICODE):
        parameters = comment.removeprefix(_UNICODE).decode("utf-16-be")
    return parameters, exif.get(_DESCRIPTION)


def _exif(parameters: str, canonical: str) -> bytes:
    exif = Image.Exif()
    if len(canonical) > _EXIF_MAX_BYTES:
        return b""
    exif[_DESCRIPTION] = canonical
    comment = _UNICODE + parameters.encode("utf-16-be")
    if len(canonical) + len(comment) <= _EXIF_MAX_BYTES:
        exif.get_ifd(_EXIF)[_USER_COMMENT] = comment
    return exif.tobytes()
