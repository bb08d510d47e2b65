"""Diffusion models that the host takes for the real ones: their widths where it asks for them, and few layers.

Keys and shapes are those of the host's own classes; `family` asks its loaders' detection what a file is.
"""

import comfy.ldm.lumina.model
import comfy.model_detection
import comfy.ops
import torch
from comfy.cldm.cldm import ControlNet
from comfy.ldm.flux.model import Flux
from comfy.ldm.modules.diffusionmodules.mmdit import OpenAISignatureMMDITWrapper
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.supported_models_base import BASE

from .weights import Shapes, shapes_of

NOWHERE = {"device": "meta", "operations": comfy.ops.disable_weight_init}
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
    "legacy": False,
    "transformer_depth_middle": 1,
}
# 320 channels with attention are SD; the width of the text tells the first from the second.
SD15 = UNET | {
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 1],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "context_dim": 768,
    "num_heads": 8,
}
# A norm in the twelfth block of its way up tells that it predicts v, so it has them all.
SD21 = UNET | {
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 1, 1, 1],
    "transformer_depth": [1, 1, 0, 0, 0, 0, 0, 0],
    "transformer_depth_output": [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    "context_dim": 1024,
    "num_head_channels": 64,
    "use_linear_in_transformer": True,
}
# The layers on the way down are what tells it: those of Segmind Vega, which is the host's smallest SDXL.
SDXL = UNET | {
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 1, 1],
    "transformer_depth": [0, 0, 1, 1, 2, 2],
    "transformer_depth_output": [0, 0, 0, 0, 0, 0, 1, 1, 1],
    "transformer_depth_middle": -1,
    "context_dim": 2048,
    "num_head_channels": 64,
    "use_linear_in_transformer": True,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
}


def sd15() -> Shapes:
    return _unet(SD15)


def sd15_control() -> Shapes:
    return shapes_of(ControlNet(**SD15, hint_channels=3, **NOWHERE))


def sd21() -> Shapes:
    return _unet(SD21)


def sd21_unclip() -> Shapes:
    return _unet(SD21 | {"num_classes": "sequential", "adm_in_channels": 2048})


def sdxl() -> Shapes:
    return _unet(SDXL)


def sd3() -> Shapes:
    return _mmdit()


def sd35() -> Shapes:
    """SD3.5 medium: normed queries and keys, and a second attention in its first blocks."""
    return _mmdit(qk_norm="rms", x_block_self_attn_layers=[0])


def flux(text: int = 4096) -> Shapes:
    """Flux dev with one block of each kind; `text` is the width of the text encoder's output."""
    width = 256
    sizes = {"in_channels": 16, "out_channels": 16, "hidden_size": width, "num_heads": width // 128}
    layers = {"depth": 1, "depth_single_blocks": 1, "mlp_ratio": 4.0, "qkv_bias": True, "guidance_embed": True}
    places = {"axes_dim": [16, 56, 56], "theta": 10000, "patch_size": 2, "txt_ids_dims": []}
    model = Flux(**sizes, **layers, **places, vec_in_dim=768, context_in_dim=text, **NOWHERE)
    return {key.replace("_norm.weight", "_norm.scale"): shape for key, shape in shapes_of(model).items()}


def z_image(text: int = 2560) -> Shapes:
    """Z-Image with one layer: the host wants the full width, and two refiners of pictures and of texts."""
    sizes = {"patch_size": 2, "in_channels": 16, "dim": 3840, "n_layers": 1, "n_heads": 30, "n_kv_heads": 30}
    places = {"axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512], "rope_theta": 256.0, "time_scale": 1000.0}
    kind = {"qk_norm": True, "z_image_modulation": True, "ffn_dim_multiplier": 8 / 3, "pad_tokens_multiple": 32}
    model = comfy.ldm.lumina.model.NextDiT(**sizes, **places, **kind, cap_feat_dim=text, **NOWHERE)
    return shapes_of(model)


def detected(shapes: Shapes) -> BASE | None:
    """Return what the host's loaders take a diffusion model of these shapes for."""
    weights = {key: torch.zeros(shape, device="meta") for key, shape in shapes.items()}
    return comfy.model_detection.model_config_from_unet(weights, "")


def _unet(config: dict) -> Shapes:
    return shapes_of(UNetModel(**config, out_channels=4, **NOWHERE))


def _mmdit(**kind) -> Shapes:
    text = {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128}}
    sizes = {"in_channels": 16, "depth": 2, "adm_in_channels": 2048, "pos_embed_max_size": 64, "num_patches": 64**2}
    return shapes_of(
        OpenAISignatureMMDITWrapper(input_size=None, **sizes, context_embedder_config=text, **kind, **NOWHERE)
    )
