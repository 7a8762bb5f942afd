"""A folder in the diffusers layout → a text-to-image pipeline, ready on its device."""

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import diffusers
import torch
import transformers
from diffusers import (
    FluxImg2ImgPipeline,
    FluxPipeline,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from torch.nn.attention import SDPBackend, sdpa_kernel

from core.domain.base_model import LoadOptions
from core.domain.errors import JobFailure, ModelUnusable, OutOfMemory
from worker.engine.model_layout import ModelLayout, check_layout, variant_of

Pipeline: TypeAlias = StableDiffusionPipeline | StableDiffusionXLPipeline | StableDiffusion3Pipeline | FluxPipeline
"""A pipeline of a family; all of diffusers' look alike from outside."""
ImageToImage: TypeAlias = (
    StableDiffusionImg2ImgPipeline
    | StableDiffusionXLImg2ImgPipeline
    | StableDiffusion3Img2ImgPipeline
    | FluxImg2ImgPipeline
)
DeviceName = Literal["auto", "cpu", "cuda", "mps"]

_OPTIONS: dict[str, dict[str, Any]] = {
    "StableDiffusionPipeline": {"safety_checker": None, "requires_safety_checker": False},
    "StableDiffusionXLPipeline": {"add_watermarker": False},
}
_ATTENTION = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
_FORMS_OF_A_BLOCK = 64
_ALLOCATION_FAILURES = ("out of memory", "can't allocate memory", "not enough memory")


def load_pipeline(folder: Path, options: LoadOptions, *, device: DeviceName = "auto") -> Pipeline:
    """Load a text-to-image pipeline, in evaluation mode, without safety checker, quiet.

    `device` holds where the options leave it open.

    Raises:
        ModelUnusable: not a model in the diffusers layout, or its weights are broken or incomplete.
        OutOfMemory: it does not fit on the device.
    """
    layout = check_layout(folder)
    silence()
    place = pick_device(options.device if options.device != "auto" else device)
    dtype = pick_dtype(options.dtype, place)
    try:
        pipeline = _assemble(folder, layout, dtype)
        _place(pipeline, options, place)
    except JobFailure:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(f"The model does not fit into the memory of {place}.") from error
        raise ModelUnusable(f"The model cannot be loaded: {_first_line(error)}") from error
    return pipeline


def image_to_image(pipeline: Pipeline) -> ImageToImage:
    """The image-to-image twin of a pipeline of a family; every part of it is shared."""
    options: dict[str, Any] = {}
    if isinstance(pipeline, StableDiffusionXLPipeline):
        options = {
            "force_zeros_for_empty_prompt": pipeline.config.force_zeros_for_empty_prompt,
            "add_watermarker": False,
        }
    elif isinstance(pipeline, StableDiffusionPipeline):
        options = {"requires_safety_checker": False}
    kind = getattr(diffusers, type(pipeline).__name__.replace("Pipeline", "Img2ImgPipeline"))
    twin: ImageToImage = kind(**pipeline.components, **options)
    twin.set_progress_bar_config(disable=True)
    return twin


def denoiser_name(pipeline: Pipeline) -> str:
    """Which part of a pipeline of a family removes the noise: its UNet or its transformer."""
    return "unet" if hasattr(pipeline, "unet") else "transformer"


def compile_blocks(denoiser: Any, *, backend: str | Callable[..., Any] = "inductor") -> bool:
    """Have the blocks compiled that a denoiser repeats, when they are first called; whether it has any.

    Where that fails, for want of a C compiler for one, they run as they are, and torch logs why.
    """
    if not denoiser._repeated_blocks:
        return False
    # Each width, each kind of batch and each kind of what is worn is a form of its own; beyond 8 they would run plain.
    torch._dynamo.config.recompile_limit = max(_FORMS_OF_A_BLOCK, torch._dynamo.config.recompile_limit)
    torch._dynamo.config.suppress_errors = True
    denoiser.compile_repeated_blocks(backend=backend)
    return True


@contextmanager
def attention_by(kernel: str) -> Iterator[None]:
    """Have attention computed by one of LoadOptions' kernels where it can, inside."""
    if kernel == "auto":
        yield
        return
    first = _ATTENTION[kernel]
    others = [each for each in _ATTENTION.values() if each is not first]
    with sdpa_kernel([first, *others], set_priority=True):
        yield


def pick_device(name: DeviceName) -> torch.device:
    """The device of that name; `auto` takes the fastest there is.

    Raises:
        ModelUnusable: this machine has no such device.
    """
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, is_there in has.items() if is_there))
    if not has[name]:
        raise ModelUnusable(f"The model asks for the device {name}, which this worker does not have.")
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of that name; `auto` takes bfloat16 or float16 on a CUDA device, float32 elsewhere."""
    if name != "auto":
        return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def silence() -> None:
    """Keep the libraries from writing progress bars and advice over the logs."""
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    # Many adapters on one model, coming and going, are what we want.
    for message in ("Already found a `peft_config` attribute", "Adapter .* was active which is now deleted"):
        warnings.filterwarnings("ignore", message=message, category=UserWarning)
    # torchsde tells, and puts right, a time that rounding moved past the end of its interval.
    warnings.filterwarnings("ignore", message="Should have t[ab](<=t1|>=t0) but got", category=UserWarning)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation failed, on whichever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _ALLOCATION_FAILURES)


def free_memory() -> None:
    """Give back to the device what nobody refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _assemble(folder: Path, layout: ModelLayout, dtype: torch.dtype) -> Pipeline:
    parts = {name: _load_part(folder, name, *kind, dtype) for name, kind in layout.components.items()}
    kind = getattr(diffusers, layout.pipeline)
    absent: dict[str, Any] = dict.fromkeys(layout.absent)
    if layout.is_of_family:
        _check_channels(layout, parts)
        absent |= {"feature_extractor": None, "image_encoder": None} | _OPTIONS.get(layout.pipeline, {})
    pipeline: Pipeline = kind.from_pretrained(
        folder, **parts, **absent, dtype=dtype, local_files_only=True, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _check_channels(layout: ModelLayout, parts: dict[str, Any]) -> None:
    denoiser = parts["unet"] if "unet" in parts else parts["transformer"]
    packed = 4 if layout.pipeline == "FluxPipeline" else 1  # it takes latents two by two
    if denoiser.config.in_channels != packed * parts["vae"].config.latent_channels:
        raise ModelUnusable("The denoiser takes more than latents; inpainting and depth models are not supported.")


def _load_part(folder: Path, name: str, library: str, kind: str, dtype: torch.dtype) -> Any:
    try:
        part, report = getattr({"diffusers": diffusers, "transformers": transformers}[library], kind).from_pretrained(
            folder / name,
            variant=variant_of(folder, name),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            dtype=dtype,
        )
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelUnusable(f"The model's {name} cannot be loaded: {_first_line(error)}") from error
    # The libraries would fill such gaps with random numbers and go on.
    gaps = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if gaps:
        raise ModelUnusable(f"The model's {name} lacks {len(gaps)} of its weights, for instance {gaps[0]}.")
    return part.eval().requires_grad_(False)


def _place(pipeline: Pipeline, options: LoadOptions, device: torch.device) -> None:
    if options.attention_slicing:
        pipeline.enable_attention_slicing()
    if options.vae_tiling and hasattr(pipeline, "vae"):
        pipeline.vae.enable_tiling()
    if options.channels_last:
        for name in ("unet", "vae"):
            if hasattr(pipeline, name):
                getattr(pipeline, name).to(memory_format=torch.channels_last)
    if options.cpu_offload == "none" or device.type == "cpu":
        pipeline.to(device)
    elif options.cpu_offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}" if str(error).strip() else repr(error)
