"""A folder of models as a user has it: the files that prompts name, each made of what its name says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import adapters, autoencoders, checkpoints, diffusion_models, text_encoders
from .weights import write

# Where the host looks for what an input names.
FOLDERS = {
    "ckpt_name": "checkpoints",
    "unet_name": "diffusion_models",
    "clip_name": "text_encoders",
    "clip_name1": "text_encoders",
    "clip_name2": "text_encoders",
    "clip_name3": "text_encoders",
    "vae_name": "vae",
    "lora_name": "loras",
    "control_net_name": "controlnet",
    "bridge_name": "latent_bridges",
    "image": "input",
    "folder": "input",
}
EMBEDDING = re.compile(r"embedding:([\w.-]+)")
# The first pattern that is found in a name decides.
FORMATS = {
    "checkpoints": {
        "unclip": checkpoints.sd21_unclip,
        r"sd3\.?5": checkpoints.sd35,
        "sd3": checkpoints.sd3,
        "sd_?xl": checkpoints.sdxl,
        "v2-1": checkpoints.sd21,
        r"v1-\d|sd15": checkpoints.sd15,
    },
    "diffusion_models": {
        "flux": lambda: diffusion_models.flux(text=text_encoders.CLIP_L_WIDTH),
        "z_image": lambda: diffusion_models.z_image(text=text_encoders.CLIP_L_WIDTH),
    },
    # T5-XXL and Qwen3-4B are whole in the host whatever their file holds, 5 GB and 20 to 50 seconds a prompt. CLIP-L
    # speaks for them, and the models above read texts of its width.
    "text_encoders": {
        "clip_g": lambda: text_encoders.in_hugging_face_keys(text_encoders.clip_g()),
        "clip_l|qwen_3_4b": text_encoders.clip_l_alone,
    },
    "vae": {"xl|vae-ft-mse": autoencoders.kl, "^ae": lambda: autoencoders.kl(16)},
    "vae_approx": {
        "taesd(xl)?_encoder": autoencoders.tiny_encoder,
        "taesd(xl)?_decoder": autoencoders.tiny_decoder,
        "encoder": lambda: autoencoders.tiny_encoder(16),
        "decoder": lambda: autoencoders.tiny_decoder(16),
    },
    "loras": {
        "lcm": adapters.sd15_kohya_unet,
        "xl": adapters.sdxl_kohya,
        "sd3": adapters.sd3_peft,
        "flux": adapters.flux_peft,
        "z_image": adapters.z_image_peft,
        "lycoris": adapters.sd15_lycoris,
        "diffusers": adapters.sd15_diffusers,
        "sd15": adapters.sd15_kohya,
    },
    "controlnet": {"sd15": adapters.sd15_control},
    "embeddings": {"sd15": adapters.sd15_embedding},
}
PICTURES = 8


def named(prompt: dict) -> set[tuple[str, str]]:
    """Return the files that a prompt in API format names: (folder, name)."""
    return {found for node in prompt.values() for found in _named_by(node)}


def add(root: Path, folder: str, name: str) -> None:
    """Make a file. Raises LookupError for a name that does not say of what."""
    path = root / folder / name
    if path.exists():
        return
    if folder == "input":
        _pictures(path)
    elif folder == "latent_bridges":
        _bridge(path)
    else:
        for pattern, shapes in FORMATS.get(folder, {}).items():
            if re.search(pattern, name, re.IGNORECASE):
                return write(path if path.suffix else path.with_suffix(".safetensors"), shapes())
        raise LookupError(f"no file is made for {folder}/{name}")


def describe(root: Path) -> Path:
    """Write the list of folders that ComfyUI takes as --extra-model-paths-config, and return its path."""
    folders = sorted({*FORMATS, *FOLDERS.values()} - {"input"})
    lines = ["made:", f"  base_path: {root}", *(f"  {folder}: {folder}" for folder in folders)]
    path = root / "folders.yaml"
    path.write_text("\n".join(lines))
    return path


def _named_by(node: dict) -> Iterator[tuple[str, str]]:
    for key, value in node["inputs"].items():
        if not isinstance(value, str):
            continue
        if node["class_type"] == "CLIPVisionLoader":
            yield "clip_vision", value
        elif key == "vae_name" and not Path(value).suffix:  # a tiny one, which the loader knows by its two files
            yield from (("vae_approx", f"{value}_{half}.safetensors") for half in ("encoder", "decoder"))
        elif key in FOLDERS:
            yield FOLDERS[key], value
        for name in EMBEDDING.findall(value):
            yield "embeddings", name


def _pictures(path: Path) -> None:
    """Draw one picture, or a folder of them: waves, so that edges, colours and sizes differ."""
    one = bool(path.suffix)
    (path.parent if one else path).mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:64, 0:64] / 10
    for number in range(1, PICTURES + 1):
        waves = [np.sin(x * number + colour) * np.cos(y * (number + colour)) for colour in range(3)]
        picture = Image.fromarray((127 * (1 + np.stack(waves, axis=2))).astype(np.uint8))
        picture.save(path if one else path / f"{number}.png")
        if one:
            return


def _bridge(path: Path) -> None:
    """Write a bridge from SD1.5 to latents of 16 channels as Latent Bridge Save does."""
    channels = {"source": 4, "target": 16}
    shapes = {role: {"channels": count, "downscale": 8} for role, count in channels.items()}
    maps = {"to_source.weight": (4, 16), "to_source.bias": (4,), "to_target.weight": (16, 4), "to_target.bias": (16,)}
    write(path, maps, {"kind": "delta-sampling latent bridge 1", "shapes": json.dumps(shapes)}, torch.float32)
