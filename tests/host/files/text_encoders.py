"""CLIP as it lies in files: text encoders of Hugging Face's and OpenCLIP's keys, and OpenCLIP's eye.

The host builds each at its full size and takes what a file lacks from uninitialised memory, so none is cut down.
"""

from .weights import Shapes, prefixed

TOKENS, LENGTH = 49408, 77
CLIP_L_WIDTH = 768


def clip_l() -> Shapes:
    """CLIP ViT-L's text encoder in the keys of Hugging Face."""
    width = CLIP_L_WIDTH
    shapes = {
        "text_model.embeddings.token_embedding.weight": (TOKENS, width),
        "text_model.embeddings.position_embedding.weight": (LENGTH, width),
        **prefixed("text_model.", _norm("final_layer_norm", width)),
    }
    for layer in range(12):
        parts = {
            **_norm("layer_norm1", width),
            **_norm("layer_norm2", width),
            **_linear("mlp.fc1", width, 4 * width),
            **_linear("mlp.fc2", 4 * width, width),
        }
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            parts |= _linear(f"self_attn.{name}", width, width)
        shapes |= prefixed(f"text_model.encoder.layers.{layer}.", parts)
    return shapes


def clip_l_alone() -> Shapes:
    """The same in a file of its own, where it has what turns its summary into a picture's."""
    return clip_l() | {"text_projection.weight": (CLIP_L_WIDTH, CLIP_L_WIDTH)}


def clip_g() -> Shapes:
    """The second text encoder of SDXL in the keys of OpenCLIP."""
    return _openclip_text(1280, 32)


def clip_h() -> Shapes:
    """The text encoder of SD2 in the keys of OpenCLIP."""
    return _openclip_text(1024, 24)


def clip_h_vision() -> Shapes:
    """CLIP ViT-H's eye, as unCLIP checkpoints hold it."""
    width = 1280
    return {
        "class_embedding": (width,),
        "positional_embedding": (257, width),
        "conv1.weight": (width, 3, 14, 14),
        "proj": (width, 1024),
        **_norm("ln_pre", width),
        **_norm("ln_post", width),
        **_openclip_layers(width, 32),
    }


def in_hugging_face_keys(openclip: Shapes) -> Shapes:
    """Return a text encoder as SD3's files hold it: queries, keys and values apart, other names."""
    names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    names |= {"attn.": "self_attn.", "transformer.resblocks": "encoder.layers", "ln_final": "final_layer_norm"}
    names |= {"token_embedding": "embeddings.token_embedding"}
    names |= {"positional_embedding": "embeddings.position_embedding.weight"}
    shapes = {}
    for key, shape in openclip.items():
        for name, other in names.items():
            key = key.replace(name, other)
        if key == "text_projection":
            shapes["text_projection.weight"] = shape
        elif "in_proj_" in key:
            for part in ("q_proj.", "k_proj.", "v_proj."):
                shapes["text_model." + key.replace("in_proj_", part)] = (shape[0] // 3, *shape[1:])
        else:
            shapes["text_model." + key] = shape
    return shapes


def _openclip_text(width: int, layers: int) -> Shapes:
    return {
        "token_embedding.weight": (TOKENS, width),
        "positional_embedding": (LENGTH, width),
        "text_projection": (width, width),
        **_norm("ln_final", width),
        **_openclip_layers(width, layers),
    }


def _openclip_layers(width: int, layers: int) -> Shapes:
    parts = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        **_linear("attn.out_proj", width, width),
        **_norm("ln_1", width),
        **_norm("ln_2", width),
        **_linear("mlp.c_fc", width, 4 * width),
        **_linear("mlp.c_proj", 4 * width, width),
    }
    return {f"transformer.resblocks.{n}.{key}": shape for n in range(layers) for key, shape in parts.items()}


def _linear(name: str, before: int, after: int) -> Shapes:
    return {f"{name}.weight": (after, before), f"{name}.bias": (after,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
