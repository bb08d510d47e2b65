"""LoRAs, LyCORIS, ControlNets and embeddings in the keys of those who train them."""

import comfy.utils

from . import diffusion_models, text_encoders
from .weights import Shapes, prefixed

RANK = 4


def sd15_kohya() -> Shapes:
    return sd15_kohya_unet() | _kohya("lora_te_", _text_layers(text_encoders.clip_l()))


def sd15_kohya_unet() -> Shapes:
    return _kohya("lora_unet_", _sd15_layers())


def sd15_diffusers() -> Shapes:
    """The keys of diffusers' attention processors and of its text encoders."""
    unet = {name.replace(".to_", ".processor.to_").removesuffix(".0"): size for name, size in _sd15_layers().items()}
    text = prefixed("text_encoder.", _text_layers(text_encoders.clip_l()))
    return _pairs(prefixed("unet.", unet), "_lora.down", "_lora.up") | _pairs(
        text, ".lora_linear_layer.down", ".lora_linear_layer.up"
    )


def sd15_lycoris() -> Shapes:
    """LoHa where a layer attends to the picture, LoKr where it attends to the text."""
    shapes = {}
    for name, (after, before) in _sd15_layers().items():
        key = f"lora_unet_{name.replace('.', '_')}"
        if "attn1" in name:
            for half in ("w1", "w2"):
                shapes |= {f"{key}.hada_{half}_a": (after, RANK), f"{key}.hada_{half}_b": (RANK, before)}
        else:
            shapes |= {f"{key}.lokr_w1": (8, 8), f"{key}.lokr_w2": (after // 8, before // 8)}
        shapes[f"{key}.alpha"] = ()
    return shapes


def sdxl_kohya() -> Shapes:
    clip_g = text_encoders.in_hugging_face_keys(text_encoders.clip_g())
    return {
        **_kohya("lora_unet_", _own_layers(diffusion_models.sdxl())),
        **_kohya("lora_te1_", _text_layers(text_encoders.clip_l())),
        **_kohya("lora_te2_", _text_layers(clip_g)),
    }


def sd3_peft() -> Shapes:
    return _peft(diffusion_models.sd3(), comfy.utils.mmdit_to_diffusers)


def flux_peft() -> Shapes:
    return _peft(diffusion_models.flux(), comfy.utils.flux_to_diffusers)


def z_image_peft() -> Shapes:
    return _peft(diffusion_models.z_image(), comfy.utils.z_image_to_diffusers)


def sd15_control() -> Shapes:
    """A ControlNet as its authors wrote it: under a prefix, as part of a training checkpoint."""
    return prefixed("control_model.", diffusion_models.sd15_control())


def sd15_embedding() -> Shapes:
    return {"emb_params": (2, 768)}


def _sd15_layers() -> Shapes:
    model = diffusion_models.sd15()
    return dict(_renamed(model, comfy.utils.unet_to_diffusers(diffusion_models.detected(model).unet_config)))


def _peft(model: Shapes, to_diffusers) -> Shapes:
    layers = dict(_renamed(model, to_diffusers(diffusion_models.detected(model).unet_config)))
    return _pairs(prefixed("transformer.", layers), ".lora_A", ".lora_B")


def _renamed(model: Shapes, names: dict):
    """Yield the attention layers under diffusers' names, some of which are a part of one of the model's."""
    for name, place in names.items():
        key, part, *_ = (place, None) if isinstance(place, str) else place
        if "att" in name and name.endswith(".weight") and len(model.get(key, ())) == 2:
            after, before = model[key]
            yield name.removesuffix(".weight"), (part[2] if part else after, before)


def _own_layers(model: Shapes) -> Shapes:
    return {key.removesuffix(".weight"): size for key, size in model.items() if "attn" in key and len(size) == 2}


def _text_layers(model: Shapes) -> Shapes:
    return _own_layers({key: size for key, size in model.items() if "_proj" in key})


def _kohya(prefix: str, layers: Shapes) -> Shapes:
    layers = {prefix + name.replace(".", "_"): size for name, size in layers.items()}
    return _pairs(layers, ".lora_down", ".lora_up") | {f"{name}.alpha": () for name in layers}


def _pairs(layers: Shapes, down: str, up: str) -> Shapes:
    shapes = {}
    for name, (after, before) in layers.items():
        shapes |= {f"{name}{down}.weight": (RANK, before), f"{name}{up}.weight": (after, RANK)}
    return shapes
