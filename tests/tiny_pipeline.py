"""Random-weight Stable Diffusion pipelines of every family, small enough to build in a test."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tiny.tokenizer import WORDS
from tiny.tokenizer import build as build_tokenizer

WIDTH = 32
_LATENTS = 4
_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def save_sd(folder: Path, *, seed: int = 0, prediction_type: str = "v_prediction") -> Path:
    """Stable Diffusion 1 as a folder."""
    build_sd(seed=seed, prediction_type=prediction_type).save_pretrained(folder)
    return folder


def save_sdxl(folder: Path, *, seed: int = 0) -> Path:
    """Stable Diffusion XL as a folder."""
    build_sdxl(seed=seed).save_pretrained(folder)
    return folder


def save_sd3(folder: Path, *, seed: int = 0, has_t5: bool = True) -> Path:
    """Stable Diffusion 3 as a folder."""
    build_sd3(seed=seed, has_t5=has_t5).save_pretrained(folder)
    return folder


def save_flux(folder: Path, *, seed: int = 0, is_guided: bool = True) -> Path:
    """Flux as a folder."""
    build_flux(seed=seed, is_guided=is_guided).save_pretrained(folder)
    return folder


def save_lcm(folder: Path, *, seed: int = 0) -> Path:
    """A latent consistency model as a folder: no family of ours, and it takes no negative prompt."""
    build_lcm(seed=seed).save_pretrained(folder)
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


def build_sd3(*, seed: int = 0, has_t5: bool = True) -> StableDiffusion3Pipeline:
    """Stable Diffusion 3, 16 by 16 latents for 32 by 32 pixels; T5 may be left out."""
    torch.manual_seed(seed)
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=_LATENTS,
        out_channels=_LATENTS,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=WIDTH,
        joint_attention_dim=2 * WIDTH,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=32,
        qk_norm="rms_norm",
        dual_attention_layers=(0,),
    )
    _stir(transformer)
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=CLIPTextModelWithProjection(_text_config(build_tokenizer())).eval(),
        tokenizer=build_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(build_tokenizer())).eval(),
        tokenizer_2=build_tokenizer(),
        text_encoder_3=_t5() if has_t5 else None,
        tokenizer_3=_t5_tokenizer() if has_t5 else None,
    )


def build_flux(*, seed: int = 0, is_guided: bool = True) -> FluxPipeline:
    """Flux, 16 by 16 latents for 32 by 32 pixels; `is_guided`: it takes the guidance scale as an input."""
    torch.manual_seed(seed)
    transformer = FluxTransformer2DModel(
        in_channels=4 * _LATENTS,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=2 * WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=is_guided,
        axes_dims_rope=(4, 2, 2),
    )
    _stir(transformer)
    return FluxPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=_vae(shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=CLIPTextModel(_text_config(build_tokenizer())).eval(),
        tokenizer=build_tokenizer(),
        text_encoder_2=_t5(),
        tokenizer_2=_t5_tokenizer(),
    )


def build_lcm(*, seed: int = 0) -> LatentConsistencyModelPipeline:
    """Latent consistency: a UNet that takes the guidance scale as an input."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    return LatentConsistencyModelPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(tokenizer)).eval(),
        tokenizer=tokenizer,
        unet=_unet(time_cond_proj_dim=8),
        scheduler=LCMScheduler(**_BETAS),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save_lora(file: Path, folder: Path, *, seed: int = 1, rank: int = 2, parts: tuple[str, ...] = ("unet",)) -> Path:
    """A random LoRA that clearly changes what the pipeline in `folder` draws, in the diffusers format."""
    torch.manual_seed(seed)
    pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    kind = type(pipeline)
    layers = {}
    for part in parts:
        targets = ["q_proj", "v_proj"] if part.startswith("text") else ["to_q", "to_k", "to_v", "to_out.0"]
        model = getattr(pipeline, part)
        model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, init_lora_weights=False))
        layers[f"{part}_lora_layers"] = convert_state_dict_to_diffusers(get_peft_model_state_dict(model))
    kind.save_lora_weights(file.parent, **layers, weight_name=file.name)
    return file


def _vae(**changes: object) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=_LATENTS,
        sample_size=32,
        **changes,
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


def _t5() -> T5EncoderModel:
    words = len(_t5_tokenizer())
    config = T5Config(vocab_size=words, d_model=2 * WIDTH, d_kv=8, d_ff=WIDTH, num_layers=1, num_heads=4)
    return T5EncoderModel(config).eval()


def _t5_tokenizer() -> T5Tokenizer:
    """The world's words whole, every other one in letters."""
    marks = [(mark, 0.0) for mark in ("<pad>", "</s>", "<unk>", "▁")]
    letters = [(chr(code), -10.0) for code in range(ord("!"), ord("~") + 1)]
    return T5Tokenizer(vocab=[*marks, *letters, *((f"▁{word}", -1.0) for word in WORDS)], extra_ids=0)


def _stir(transformer: torch.nn.Module) -> None:
    """Make it say something: what these begin with is nearly nothing, whatever is asked."""
    for parameter in transformer.parameters():
        if parameter.ndim > 1:
            torch.nn.init.xavier_uniform_(parameter.flatten(1), gain=2.0)
