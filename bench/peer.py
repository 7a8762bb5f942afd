"""How others draw pictures with many LoRAs: diffusers and PEFT, on the same model, prompts, seeds and solver."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft.tuners.lora.layer import LoraLayer

from core.domain.generation import GenerationPlan
from worker.engine.pipeline import Pipeline
from worker.engine.prompt import PromptEncoder
from worker.engine.scheduler import SchedulerMaker

Pictures = list[np.ndarray]


class Diffusers:
    """A pipeline as its makers mean it to be called, with embeddings that are kept, as ours are."""

    def __init__(self, pipeline: Pipeline, plan: GenerationPlan) -> None:
        self.pipeline: Any = pipeline
        self._plan = plan
        negative = plan.negative_prompt if plan.guidance_scale > 1 else None
        with torch.inference_mode():
            self._inputs = PromptEncoder(pipeline, pipeline.device).encode(plan.prompt, negative, adapters=())
        self._schedulers = SchedulerMaker(pipeline.scheduler.config)

    def draw(self, seeds: Sequence[int], *, steps: int | None = None) -> Pictures:
        """A batch of pictures of the plan in one call, one for each seed."""
        steps = steps or self._plan.steps
        self.pipeline.scheduler = self._schedulers.make(self._plan.scheduler, steps=steps, seed=0)
        with torch.inference_mode():
            images = self.pipeline(
                **{name: value.repeat(len(seeds), *[1] * (value.dim() - 1)) for name, value in self._inputs.items()},
                num_inference_steps=steps,
                guidance_scale=self._plan.guidance_scale,
                width=self._plan.width,
                height=self._plan.height,
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                output_type="np",
            ).images
        return list(images)


class Peft(Diffusers):
    """With LoRAs that are loaded once and stay. Request i wears `wanted[i]` and is drawn from seed i."""

    def __init__(self, pipeline: Pipeline, plan: GenerationPlan, *, wanted: Sequence[Path], rows: int) -> None:
        super().__init__(pipeline, plan)
        self._wanted, self._rows = list(wanted), rows
        self._guided = plan.guidance_scale > 1
        self._names = {file: f"adapter_{number}" for number, file in enumerate(dict.fromkeys(wanted))}
        for file, name in self._names.items():
            self.pipeline.load_lora_weights(
                str(file.parent), weight_name=file.name, adapter_name=name, use_safetensors=True
            )

    def by_adapter_names(self) -> Pictures:
        """PEFT's inference with another adapter for each row, through the hooks that its own `forward` would put."""
        images: Pictures = []
        for seeds in _pieces(range(len(self._wanted)), self._rows):
            names = [self._names[self._wanted[seed]] for seed in seeds]
            with self._named(names * 2 if self._guided else names):
                images += self.draw(seeds)
        return images

    def by_group(self) -> Pictures:
        """Requests of the same adapter share a batch."""
        groups: dict[Path, list[int]] = defaultdict(list)
        for seed, file in enumerate(self._wanted):
            groups[file].append(seed)
        images: dict[int, np.ndarray] = {}
        for file, seeds in groups.items():
            self.pipeline.set_adapters([self._names[file]])
            for part in _pieces(seeds, self._rows):
                images |= dict(zip(part, self.draw(part), strict=True))
        return [images[seed] for seed in sorted(images)]

    def in_turn(self) -> Pictures:
        """One request after the other."""
        images: Pictures = []
        for seed, file in enumerate(self._wanted):
            self.pipeline.set_adapters([self._names[file]])
            images += self.draw([seed])
        return images

    @contextmanager
    def _named(self, names: list[str]) -> Iterator[None]:
        layers = [module for module in self.pipeline.unet.modules() if isinstance(module, LoraLayer)]
        hook = partial(_give_names, names=names)
        hooks = [layer.register_forward_pre_hook(hook, with_kwargs=True) for layer in layers]
        try:
            yield
        finally:
            for each in hooks:
                each.remove()


def load_each(diffusers: Diffusers, wanted: Sequence[Path]) -> Pictures:
    """What most servers do: load, draw, unload."""
    images: Pictures = []
    for seed, file in enumerate(wanted):
        diffusers.pipeline.load_lora_weights(str(file.parent), weight_name=file.name, use_safetensors=True)
        images += diffusers.draw([seed])
        diffusers.pipeline.unload_lora_weights()
    return images


def counted(draw: Callable[[], Pictures]) -> Callable[[], float]:
    """A side of a bench: how many pictures were drawn."""
    return lambda: float(len(draw()))


def _give_names(_layer: Any, args: Any, options: dict[str, Any], *, names: list[str]) -> tuple[Any, dict[str, Any]]:
    return args, options | {"adapter_names": names}


def _pieces(seeds: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(seeds), size):
        yield list(seeds[start : start + size])
