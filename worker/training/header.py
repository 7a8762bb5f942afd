"""What an adapter file says of itself in its header: kohya's `ss_*` keys and Stability's `modelspec.*`."""

import json

from core.domain.base_model import ModelFamily
from core.domain.training import TrainingPlan
from worker.training.provenance import Provenance

_ARCHITECTURE = {  # as kohya-ss/sd-scripts, library/sai_model_spec.py, names them
    ModelFamily.SD1: "stable-diffusion-v1/lora",
    ModelFamily.SD2: "stable-diffusion-v2-512/lora",
    ModelFamily.SDXL: "stable-diffusion-xl-v1-base/lora",
}
_BASE_VERSION = {ModelFamily.SD1: "sd_v1", ModelFamily.SD2: "sd_v2", ModelFamily.SDXL: "sdxl_base_v1-0"}


def describe(provenance: Provenance) -> dict[str, str]:
    """The header's entries. No date, nor an update's version: the same training again gives the same bytes."""
    return {**_kohya(provenance), **_kind(provenance), **_model_spec(provenance)}


def _kohya(provenance: Provenance) -> dict[str, str]:
    plan, spec, family = provenance.plan, provenance.plan.spec, provenance.family
    values = {
        "ss_output_name": plan.name,
        "ss_sd_model_name": provenance.model.name,
        "ss_base_model_version": _BASE_VERSION[family],
        "ss_v2": family is ModelFamily.SD2,
        "ss_network_module": "networks.lora",
        "ss_network_dim": spec.rank,
        "ss_network_alpha": plan.alpha,
        "ss_learning_rate": spec.learning_rate,
        "ss_unet_lr": spec.learning_rate,
        "ss_text_encoder_lr": spec.learning_rate if spec.train_text_encoder else None,
        "ss_lr_scheduler": spec.learning_rate_schedule,
        "ss_lr_warmup_steps": spec.warmup_steps,
        "ss_optimizer": "torch.optim.adamw.AdamW",
        "ss_max_train_steps": spec.steps,
        "ss_steps": provenance.report.steps,
        "ss_num_train_images": provenance.picture_count,
        "ss_total_batch_size": spec.batch_size * spec.gradient_accumulation,
        "ss_gradient_accumulation_steps": spec.gradient_accumulation,
        "ss_gradient_checkpointing": spec.gradient_checkpointing,
        "ss_mixed_precision": spec.mixed_precision,
        "ss_max_grad_norm": spec.max_gradient_norm,
        "ss_resolution": (plan.resolution, plan.resolution),
        "ss_seed": plan.seed,
    }
    if plan.trigger_word:
        frequency = {plan.name: {plan.trigger_word: provenance.picture_count}}
        values["ss_tag_frequency"] = json.dumps(frequency, ensure_ascii=False)
    return {key: str(value) for key, value in values.items()}


def _kind(provenance: Provenance) -> dict[str, str]:
    """What is said of one kind of training only."""
    plan = provenance.plan
    if isinstance(plan, TrainingPlan):
        spec = plan.spec
        return {"ss_min_snr_gamma": str(spec.min_snr_gamma), "ss_caption_dropout_rate": str(spec.caption_dropout)}
    return {"ss_training_comment": "trained on opinions: Diffusion-DPO, Diffusion-KTO"}


def _model_spec(provenance: Provenance) -> dict[str, str]:
    plan = provenance.plan
    values = {
        "sai_model_spec": "1.0.1",
        "architecture": _ARCHITECTURE[provenance.family],
        "implementation": "diffusers",
        "title": f"{plan.name} {plan.adapter_version}" if isinstance(plan, TrainingPlan) else plan.name,
        "resolution": f"{plan.resolution}x{plan.resolution}",
        "prediction_type": {"epsilon": "epsilon", "v_prediction": "v"}.get(provenance.prediction_type),
        "description": plan.description or None,
        "trigger_phrase": plan.trigger_word,
    }
    return {f"modelspec.{key}": value for key, value in values.items() if value is not None}
