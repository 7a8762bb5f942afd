"""Random-weight Stable Diffusion pipelines of every family, small enough to build in a test."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tiny.tokenizer import build as build_tokenizer

WIDTH = 32
_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def save_sd(folder: Path, *, seed: int = 0, prediction_type: str = "v_prediction") -> Path:
    """Stable Diffusion 1 as a folder."""
    build_sd(seed=seed, prediction_type=prediction_type).save_pretrained(folder)
    return folder


def save_sdxl(folder: Path, *, seed: int = 0) -> Path:
    """Stable Diffusion XL as a folder."""
    build_sdxl(seed=seed).save_pretrained(folder)
    return folder


def build_sd(*, seed: int = 0, prediction_type: str = "v_prediction") -> StableDiffusionPipeline:
    """Stable Diffusion 1, 16 by 16 latents for 32 by 32 pixels, zero terminal SNR if `prediction_type` is v."""
    torch.manual_seed(seed)
    is_v = prediction_type == "v_prediction"
    spacing = "trailing" if is_v else "leading"
    scheduler = DDIMScheduler(
        **_BETAS,
        clip_sample=False,
        prediction_type=prediction_type,
        rescale_betas_zero_snr=is_v,
        steps_offset=1,
        timestep_spacing=spacing,
    )
    tokenizer = build_tokenizer()
    return StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(tokenizer)).eval(),
        tokenizer=tokenizer,
        unet=_unet(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def build_sdxl(*, seed: int = 0) -> StableDiffusionXLPipeline:
    """Stable Diffusion XL: two text encoders, pooled embedding and size conditioning."""
    torch.manual_seed(seed)
    tokenizer, tokenizer_2 = build_tokenizer(), build_tokenizer()
    tokenizer_2.pad_token = "!</w>"
    time_ids = 6 * 8
    return StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(tokenizer)).eval(),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizer)).eval(),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=_unet(
            cross_attention_dim=2 * WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=WIDTH + time_ids,
        ),
        scheduler=EulerDiscreteScheduler(**_BETAS, steps_offset=1, timestep_spacing="leading"),
        add_watermarker=False,
    )


def save_lora(file: Path, folder: Path, *, seed: int = 1, rank: int = 2, parts: tuple[str, ...] = ("unet",)) -> Path:
    """A random LoRA that clearly changes what the pipeline in `folder` draws, in the diffusers format."""
    torch.manual_seed(seed)
    is_sdxl = "XL" in (folder / "model_index.json").read_text()
    kind = StableDiffusionXLPipeline if is_sdxl else StableDiffusionPipeline
    pipeline = kind.from_pretrained(folder, local_files_only=True)
    layers = {}
    for part in parts:
        targets = ["to_q", "to_k", "to_v", "to_out.0"] if part == "unet" else ["q_proj", "v_proj"]
        model = getattr(pipeline, part)
        model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, init_lora_weights=False))
        layers[f"{part}_lora_layers"] = convert_state_dict_to_diffusers(get_peft_model_state_dict(model))
    kind.save_lora_weights(file.parent, **layers, weight_name=file.name)
    return file


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=32,
    )


def _unet(**changes: object) -> UNet2DConditionModel:
    shape = {"cross_attention_dim": WIDTH, **changes}
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=8,
        **shape,
    )


def _text_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
