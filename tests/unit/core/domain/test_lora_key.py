"""The names of a LoRA file's tensors."""

import pytest

from core.domain.base_model import ModelFamily
from core.domain.lora_key import LoraForm, LoraKey, LoraRole, aliases, is_of_denoiser, other_method, read_key

TO_Q = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
TO_OUT = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"
Q_PROJ = "text_encoder.encoder.layers.0.self_attn.q_proj"
Q_PROJ_2 = "text_encoder_2.text_model.encoder.layers.3.self_attn.q_proj"


@pytest.mark.parametrize(
    ("key", "module", "role", "form"),
    [
        (f"{TO_Q}.lora_A.weight", TO_Q, LoraRole.DOWN, LoraForm.DIFFUSERS),
        (f"{TO_Q}.lora_B.default.weight", TO_Q, LoraRole.UP, LoraForm.DIFFUSERS),
        (f"{TO_Q}.lora.down.weight", TO_Q, LoraRole.DOWN, LoraForm.DIFFUSERS),
        (f"{TO_Q}.alpha", TO_Q, LoraRole.ALPHA, LoraForm.DIFFUSERS),
        (f"{TO_Q[:-5]}.processor.to_q_lora.up.weight", TO_Q, LoraRole.UP, LoraForm.DIFFUSERS),
        (f"{TO_OUT[:-9]}.processor.to_out_lora.up.weight", TO_OUT, LoraRole.UP, LoraForm.DIFFUSERS),
        (f"base_model.model.{TO_Q[5:]}.lora_A.weight", TO_Q, LoraRole.DOWN, LoraForm.PEFT),
        (
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight",
            TO_Q,
            LoraRole.DOWN,
            LoraForm.KOHYA,
        ),
        (
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0.alpha",
            TO_OUT,
            LoraRole.ALPHA,
            LoraForm.KOHYA,
        ),
        ("lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight", Q_PROJ, LoraRole.UP, LoraForm.KOHYA),
        ("lora_te1_text_model_encoder_layers_0_self_attn_q_proj.alpha", Q_PROJ, LoraRole.ALPHA, LoraForm.KOHYA),
        ("lora_te2_text_model_encoder_layers_3_self_attn_q_proj.alpha", Q_PROJ_2, LoraRole.ALPHA, LoraForm.KOHYA),
        (
            "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight",
            Q_PROJ,
            LoraRole.DOWN,
            LoraForm.DIFFUSERS,
        ),
        (
            "text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.down.weight",
            Q_PROJ,
            LoraRole.DOWN,
            LoraForm.DIFFUSERS,
        ),
        (f"{Q_PROJ_2}.lora_A.weight", Q_PROJ_2, LoraRole.DOWN, LoraForm.DIFFUSERS),
    ],
)
def test_every_form_leads_to_the_same_module(key: str, module: str, role: LoraRole, form: LoraForm) -> None:
    read = read_key(key)
    assert isinstance(read, LoraKey)
    assert (read.role, read.form) == (role, form)
    known = aliases([TO_Q, TO_OUT, Q_PROJ, Q_PROJ_2], family=ModelFamily.SD1)
    assert known[read.alias] == (module,)


@pytest.mark.parametrize(
    "key",
    [
        "transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
        "base_model.model.transformer_blocks.0.attn.to_q.lora_A.weight",
        "lora_transformer_transformer_blocks_0_attn_to_q.lora_down.weight",
    ],
)
@pytest.mark.parametrize("family", [ModelFamily.SD3, ModelFamily.FLUX])
def test_the_denoiser_may_be_a_transformer(key: str, family: ModelFamily) -> None:
    module = "transformer.transformer_blocks.0.attn.to_q"
    read = read_key(key)
    assert read is not None
    assert aliases([module, Q_PROJ], family=family)[read.alias] == (module,)
    assert is_of_denoiser(module) and is_of_denoiser(TO_Q) and not is_of_denoiser(Q_PROJ)


# As diffusers' `_maybe_map_sgm_blocks_to_diffusers` and `_convert_unet_lora_key` pair them for SDXL.
@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("input_blocks_4_1_transformer_blocks_0_attn1_to_q", TO_Q),
        ("input_blocks_4_0_in_layers_2", "unet.down_blocks.1.resnets.0.conv1"),
        ("input_blocks_1_0_emb_layers_1", "unet.down_blocks.0.resnets.0.time_emb_proj"),
        ("input_blocks_3_0_op", "unet.down_blocks.0.downsamplers.0.conv"),
        ("middle_block_1_transformer_blocks_0_attn2_to_out_0", TO_OUT),
        ("middle_block_2_out_layers_3", "unet.mid_block.resnets.1.conv2"),
        ("output_blocks_4_1_proj_in", "unet.up_blocks.1.attentions.1.proj_in"),
        ("output_blocks_3_0_skip_connection", "unet.up_blocks.1.resnets.0.conv_shortcut"),
        ("output_blocks_2_2_conv", "unet.up_blocks.0.upsamplers.0.conv"),
        ("time_embed_0", "unet.time_embedding.linear_1"),
        ("label_emb_0_2", "unet.add_embedding.linear_2"),
        ("out_2", "unet.conv_out"),
    ],
)
def test_kohyas_sdxl_names_are_those_of_the_original_unet(name: str, module: str) -> None:
    read = read_key(f"lora_unet_{name}.lora_down.weight")
    assert read is not None
    assert aliases([module], family=ModelFamily.SDXL)[read.alias] == (module,)
    assert read.alias not in aliases([module], family=ModelFamily.SD1)


@pytest.mark.parametrize(
    "key",
    ["", "weight", "unet", "unet..lora_A.weight.x", "lora_unet_a.lora_mid.weight", f"{TO_Q}.lora_A.bias", "a" * 999],
)
def test_other_names_are_none_of_ours(key: str) -> None:
    assert read_key(key) is None


def test_other_methods_are_called_by_their_names() -> None:
    assert other_method(["lora_unet_a.hada_w1_a"]) == "LoHa"
    assert other_method([f"{TO_Q}.lora_magnitude_vector"]) == "DoRA"
    assert other_method(["whatever"]) is None
