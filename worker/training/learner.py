"""A pipeline that carries a LoRA in training: which weights learn, and how pictures and captions get in."""

from typing import Any

import torch
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from torch import nn

from core.domain.errors import AdapterUnusable
from core.domain.preference import AnyPlan
from core.domain.training import Recipe
from worker.engine.denoiser import Condition, Denoiser

TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
"""What is trained of a text encoder: its attention."""

_TEXT_ENCODERS = ("text_encoder", "text_encoder_2")


def choose_dtype(spec: Recipe, device: torch.device) -> torch.dtype:
    """The type that frozen weights are held and computed in; the LoRA itself is always float32."""
    named = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if spec.mixed_precision != "auto":
        return named[spec.mixed_precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


class Learner:
    """A Stable Diffusion pipeline (SD 1.x, 2.x or SDXL) with a fresh LoRA on it, named "default" as peft has it.

    Args:
        pipe: A diffusers pipeline in float32. It is changed for good: keep it for nothing else.
        plan: Says where the LoRA goes; its seed settles the first weights.
        device: Where to compute.

    Raises:
        AdapterUnusable: a target module does not exist in the UNet, or cannot carry a LoRA.
    """

    def __init__(self, pipe: Any, plan: AnyPlan, *, device: torch.device) -> None:
        spec = plan.spec
        self.pipe, self.device, self.dtype = pipe, device, choose_dtype(spec, device)
        encoders = {name: module for name in _TEXT_ENCODERS if (module := getattr(pipe, name, None)) is not None}
        for module in (pipe.vae, pipe.unet, *encoders.values()):
            module.requires_grad_(False)
        self.modules: dict[str, nn.Module] = {"unet": pipe.unet} | (encoders if spec.train_text_encoder else {})
        for name, module in self.modules.items():
            targets = spec.target_modules if name == "unet" else TEXT_TARGETS
            _add_adapter(module, targets, rank=spec.rank, alpha=plan.alpha, seed=plan.seed)
        pipe.vae.to(device=device)  # stays in float32: SDXL's overflows in float16
        for module in (pipe.unet, *encoders.values()):
            module.to(device)
            if self.dtype is not torch.float32:
                module.to(self.dtype)
        cast_training_params(list(self.modules.values()), dtype=torch.float32)
        if spec.gradient_checkpointing:
            _enable_checkpointing(self.modules)
        self.denoiser = Denoiser(pipe.unet, pipe.scheduler.config, device=device)
        self._time_ids = (plan.resolution, plan.resolution, 0, 0, plan.resolution, plan.resolution)

    @property
    def trains_text_encoder(self) -> bool:
        return len(self.modules) > 1

    def parameters(self) -> dict[str, nn.Parameter]:
        """The weights that learn, by name, in a fixed order."""
        return {
            f"{name}.{key}": parameter
            for name, module in self.modules.items()
            for key, parameter in module.named_parameters()
            if parameter.requires_grad
        }

    def switch(self, on: bool) -> None:
        """Turn the adapter on, or off: then the base answers, and nothing learns, not even what was computed before."""
        for module in self.modules.values():
            toggle: Any = module.enable_adapters if on else module.disable_adapters
            toggle()

    def encode_captions(self, captions: list[str]) -> Condition:
        """What the UNet is told: the same that the pipeline would tell it when it makes pictures."""
        hidden_states, _, *pooled = self.pipe.encode_prompt(
            captions, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        if not pooled:
            return Condition(hidden_states)
        time_ids = torch.tensor([self._time_ids] * len(captions), device=self.device, dtype=hidden_states.dtype)
        return Condition(hidden_states, pooled[0], time_ids)

    @torch.no_grad()
    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Latents (n, channels, height, width) of pixels (n, 3, height, width) in -1..1: the posterior's mean."""
        config = self.pipe.vae.config
        mean = self.pipe.vae.encode(pixels.to(self.device)).latent_dist.mode()
        return (mean - (config.shift_factor or 0.0)) * config.scaling_factor


def _add_adapter(module: Any, targets: tuple[str, ...], *, rank: int, alpha: float, seed: int) -> None:
    names = [name for name, _ in module.named_modules()]
    absent = [t for t in targets if not any(name == t or name.endswith(f".{t}") for name in names)]
    if absent:
        raise AdapterUnusable(f"The base model's {type(module).__name__} has no module {', '.join(absent)}.")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            module.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets)))
        except ValueError as error:
            raise AdapterUnusable(f"A target module cannot carry a LoRA: {error}") from error


def _enable_checkpointing(modules: dict[str, nn.Module]) -> None:
    for name, module in modules.items():
        # Diffusers and transformers each have a name for it.
        enable: Any = module.enable_gradient_checkpointing if name == "unet" else module.activation_checkpointing_enable
        enable()
        module.train()  # transformers checkpoints in training mode only
