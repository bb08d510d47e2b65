"""Full-size architectures of the host, and conditioning of their shapes."""

import comfy.model_base
import comfy.supported_models
import torch

UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "use_spatial_transformer": True,
    "legacy": False,
}  # fmt: skip
ARCHITECTURES = {
    "SD1.5": (comfy.supported_models.SD15, UNET | {
        "num_res_blocks": [2, 2, 2, 2], "channel_mult": [1, 2, 4, 4], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "transformer_depth_middle": 1,
        "context_dim": 768, "num_heads": 8, "num_head_channels": -1, "use_linear_in_transformer": False,
        "adm_in_channels": None,
    }),
    "SDXL": (comfy.supported_models.SDXL, UNET | {
        "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "transformer_depth_middle": 10,
        "context_dim": 2048, "num_heads": -1, "num_head_channels": 64, "use_linear_in_transformer": True,
        "adm_in_channels": 2816, "num_classes": "sequential",
    }),
}  # fmt: skip
CFG = 5.0
CONTEXTS = {"SD1.5": (77, 768), "SDXL": (77, 2048)}
POOLED = {"SD1.5": None, "SDXL": 1280}


def network(name: str, device, dtype: torch.dtype, **changed) -> comfy.model_base.BaseModel:
    """Return a model of the host, its weights not set: in full size, but for what is `changed` of its settings."""
    family, config = ARCHITECTURES[name]
    config = family({**config, **changed, "dtype": dtype})
    config.set_inference_dtype(dtype, None)
    return config.get_model({}, device=device)


def conditioning(name: str) -> list:
    """Return random conditioning of the shapes that an architecture takes."""
    pooled = {"pooled_output": torch.zeros(1, POOLED[name])} if POOLED[name] else {}
    return [[0.1 * torch.randn(1, *CONTEXTS[name]), pooled]]
