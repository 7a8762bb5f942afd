"""The names of Flux's layers in its original code, flattened as kohya does, and the modules that each has become.

What is one layer there is several modules here wherever queries, keys and values come from one product: their outputs
lie one after the other.
"""

import re
from collections.abc import Iterable, Mapping

_DOUBLE = {
    "img_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn_proj": ("attn.to_out.0",),
    "img_mlp_0": ("ff.net.0.proj",),
    "img_mlp_2": ("ff.net.2",),
    "img_mod_lin": ("norm1.linear",),
    "txt_attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn_proj": ("attn.to_add_out",),
    "txt_mlp_0": ("ff_context.net.0.proj",),
    "txt_mlp_2": ("ff_context.net.2",),
    "txt_mod_lin": ("norm1_context.linear",),
}
_SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation_lin": ("norm.linear",),
}
_EMBEDDER = "time_text_embed.{}_embedder.linear_{}"
_OUTER = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "final_layer_linear": "proj_out",
    "time_in_in_layer": _EMBEDDER.format("timestep", 1),
    "time_in_out_layer": _EMBEDDER.format("timestep", 2),
    "vector_in_in_layer": _EMBEDDER.format("text", 1),
    "vector_in_out_layer": _EMBEDDER.format("text", 2),
    "guidance_in_in_layer": _EMBEDDER.format("guidance", 1),
    "guidance_in_out_layer": _EMBEDDER.format("guidance", 2),
}
_BLOCKS = {"transformer_blocks": ("double_blocks", _DOUBLE), "single_transformer_blocks": ("single_blocks", _SINGLE)}
_BLOCK = re.compile(r"transformer\.(transformer_blocks|single_transformer_blocks)\.(\d+)\.")


def flux_aliases(modules: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """By kohya's name: the modules whose outputs, one after the other, are the layer's. All are among `modules`.

    The last modulation is left out: its two halves have changed places.
    """
    names = set(modules)
    found: dict[str, tuple[str, ...]] = {name: (f"transformer.{module}",) for name, module in _OUTER.items()}
    for block in {match[0] for name in names if (match := _BLOCK.match(name))}:
        _, kind, number, _ = block.split(".")
        original, layers = _BLOCKS[kind]
        for layer, paths in layers.items():
            found[f"{original}_{number}_{layer}"] = tuple(block + path for path in paths)
    return {f"lora_unet_{name}": parts for name, parts in found.items() if names.issuperset(parts)}
