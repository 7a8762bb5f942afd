"""SchedulerName → a fresh diffusers scheduler that keeps what the model was trained with."""

import copy
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import diffusers
import torch

from core.domain.errors import InvalidInput
from core.domain.generation import SchedulerName

_KARRAS: dict[str, Any] = {"use_karras_sigmas": True}
_DPM: dict[str, Any] = {"algorithm_type": "dpmsolver++", "solver_type": "midpoint", "solver_order": 2}
_SDE: dict[str, Any] = _DPM | {"algorithm_type": "sde-dpmsolver++"}
_UNIPC: dict[str, Any] = {"solver_type": "bh2", "solver_order": 2}

_CLASSES: dict[SchedulerName, tuple[str, dict[str, Any]]] = {
    SchedulerName.DDIM: ("DDIMScheduler", {}),
    SchedulerName.DDPM: ("DDPMScheduler", {}),
    SchedulerName.PNDM: ("PNDMScheduler", {"skip_prk_steps": True}),
    SchedulerName.LMS: ("LMSDiscreteScheduler", {}),
    SchedulerName.LMS_KARRAS: ("LMSDiscreteScheduler", _KARRAS),
    SchedulerName.EULER: ("EulerDiscreteScheduler", {}),
    SchedulerName.EULER_KARRAS: ("EulerDiscreteScheduler", _KARRAS),
    SchedulerName.EULER_ANCESTRAL: ("EulerAncestralDiscreteScheduler", {}),
    SchedulerName.HEUN: ("HeunDiscreteScheduler", {}),
    SchedulerName.HEUN_KARRAS: ("HeunDiscreteScheduler", _KARRAS),
    SchedulerName.DPM2: ("KDPM2DiscreteScheduler", {}),
    SchedulerName.DPM2_KARRAS: ("KDPM2DiscreteScheduler", _KARRAS),
    SchedulerName.DPM2_ANCESTRAL: ("KDPM2AncestralDiscreteScheduler", {}),
    SchedulerName.DPMPP_2M: ("DPMSolverMultistepScheduler", _DPM),
    SchedulerName.DPMPP_2M_KARRAS: ("DPMSolverMultistepScheduler", _DPM | _KARRAS),
    SchedulerName.DPMPP_2M_SDE: ("DPMSolverMultistepScheduler", _SDE),
    SchedulerName.DPMPP_2M_SDE_KARRAS: ("DPMSolverMultistepScheduler", _SDE | _KARRAS),
    SchedulerName.DPMPP_2S: ("DPMSolverSinglestepScheduler", _DPM),
    SchedulerName.DPMPP_SDE: ("DPMSolverSDEScheduler", {}),
    SchedulerName.DPMPP_SDE_KARRAS: ("DPMSolverSDEScheduler", _KARRAS),
    SchedulerName.DEIS: ("DEISMultistepScheduler", {"algorithm_type": "deis", "solver_type": "logrho"}),
    SchedulerName.UNIPC: ("UniPCMultistepScheduler", _UNIPC),
    SchedulerName.UNIPC_KARRAS: ("UniPCMultistepScheduler", _UNIPC | _KARRAS),
    SchedulerName.LCM: ("LCMScheduler", {}),
    SchedulerName.TCD: ("TCDScheduler", {}),
}
_FLOW_CLASSES: dict[SchedulerName, tuple[str, dict[str, Any]]] = {
    SchedulerName.EULER: ("FlowMatchEulerDiscreteScheduler", {}),
    SchedulerName.EULER_KARRAS: ("FlowMatchEulerDiscreteScheduler", _KARRAS),
    SchedulerName.HEUN: ("FlowMatchHeunDiscreteScheduler", {}),
}
"""For models of flow matching. The others that diffusers has draw noise that no seed governs, or round the time."""
_KNOW_ZERO_SNR = {
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "LCMScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
}
_LARGEST_SIGMA = 50.0
"""Noise to signal at which a zero-SNR schedule begins for solvers that cannot begin at infinity."""
_BETA_KEYS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")
_LCM_STEPS = 50


class SchedulerMaker:
    """Makes schedulers for one model.

    `config` is the model's own scheduler's: its noise schedule, prediction type and timestep spacing are kept.
    `is_flow` where the model was trained by flow matching, which takes solvers of its own.
    """

    def __init__(self, config: Mapping[str, Any], *, is_flow: bool = False) -> None:
        self._config, self._is_flow = config, is_flow
        self._unused: dict[tuple[SchedulerName, int], Any] = {}

    def make(self, name: SchedulerName, *, steps: int, seed: int) -> Any:
        """A scheduler of its own for one image, since schedulers keep state.

        `steps` are those that will be asked for; `seed` is for the solver that draws its noise itself.

        Raises:
            InvalidInput: the model was trained by flow matching, and there is no such solver for it.
        """
        key = (name, max(_LCM_STEPS, steps) if name is SchedulerName.LCM else 0)
        if key not in self._unused:
            # Some take 0.1 s to build; a copy of one that was never used takes 1 ms at most.
            build = _build_flow if self._is_flow else _build
            self._unused[key] = build(self._config, name, lcm_steps=key[1])
        scheduler = copy.deepcopy(self._unused[key])
        if hasattr(scheduler, "noise_sampler_seed"):
            scheduler.noise_sampler_seed = seed
        return scheduler


def name_of(scheduler: Any) -> SchedulerName:
    """The name that a model's own scheduler comes closest to; Euler's where there is none like it."""
    kind, config = type(scheduler).__name__, scheduler.config
    for classes in (_FLOW_CLASSES, _CLASSES):
        for name, (its_kind, changes) in classes.items():
            if its_kind == kind and ("use_karras_sigmas" in changes) == bool(config.get("use_karras_sigmas")):
                return name
    return SchedulerName.EULER


def _build_flow(config: Mapping[str, Any], name: SchedulerName, **_: Any) -> Any:
    if name not in _FLOW_CLASSES:
        raise InvalidInput.of("scheduler", f"{name} is not for this model; there are {', '.join(_FLOW_CLASSES)}")
    kind, changes = _FLOW_CLASSES[name]
    return getattr(diffusers, kind).from_config(config, **{"use_karras_sigmas": False, **changes})


def _build(config: Mapping[str, Any], name: SchedulerName, *, lcm_steps: int) -> Any:
    kind, changes = _CLASSES[name]
    own: dict[str, Any] = {
        "use_karras_sigmas": False,
        "clip_sample": False,  # latents are not bounded, whatever a class defaults to
        **changes,
    }
    if lcm_steps:
        own["original_inference_steps"] = lcm_steps
    if config.get("rescale_betas_zero_snr") and (own["use_karras_sigmas"] or kind not in _KNOW_ZERO_SNR):
        betas = list(_bounded_betas(*(config[key] for key in _BETA_KEYS)))
        own |= {"trained_betas": betas, "rescale_betas_zero_snr": False}
    return getattr(diffusers, kind).from_config(config, **own)


@lru_cache(maxsize=4)
def _bounded_betas(timesteps: int, beta_start: float, beta_end: float, schedule: str) -> tuple[float, ...]:
    """Betas of the zero-SNR schedule, with its end bent so that sigma stays finite.

    Karras' spacing from an infinite sigma would spend most steps on pure noise, and solvers without a zero-SNR
    mode would pair the model's timesteps with the wrong amount of noise. Between the timestep where sigma passes
    80 % of its bound and the last one, log sigma is a straight line.
    """
    exact = diffusers.DDIMScheduler(
        num_train_timesteps=timesteps,
        beta_start=beta_start,
        beta_end=beta_end,
        beta_schedule=schedule,
        rescale_betas_zero_snr=True,
    )
    alphas = exact.alphas_cumprod.double()
    log_sigmas = ((1 - alphas) / alphas).log() / 2
    bound = torch.tensor(_LARGEST_SIGMA).double()
    kept = int((log_sigmas < (0.8 * bound).log()).sum())
    bend = torch.linspace(float(log_sigmas[kept - 1]), float(bound.log()), timesteps - kept + 1, dtype=torch.float64)
    log_sigmas = torch.cat([log_sigmas[: kept - 1], bend])
    alphas = 1 / (1 + (2 * log_sigmas).exp())
    earlier = torch.cat([torch.ones(1, dtype=torch.float64), alphas[:-1]])
    return tuple((1 - alphas / earlier).tolist())
