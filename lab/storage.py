"""The lab's trained networks on disk: every matrix in 8 bits with a scale a row, everything else in float16."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from . import judge, latents, networks

WEIGHTS = Path(__file__).parent / "weights"
SCALE = ".scale"


def save(name: str, state: dict[str, Tensor], **facts) -> None:
    """Write the weights `name`; the facts say how they came to be."""
    WEIGHTS.mkdir(exist_ok=True)
    small = {}
    for key, value in state.items():
        value = value.detach().float().cpu()
        if value.ndim < 2 or (value.ndim == 3 and value.shape[-1] == 1):
            small[key] = value.half()
            continue
        scale = value.flatten(1).abs().amax(1).clamp(min=1e-8) / 127
        rows = scale.view(-1, *[1] * (value.ndim - 1))
        small |= {key: (value / rows).round().to(torch.int8), key + SCALE: scale}
    save_file({k: v.contiguous() for k, v in small.items()}, WEIGHTS / f"{name}.safetensors", metadata=_texts(facts))


def _texts(facts: dict) -> dict[str, str]:
    return {key: str(value) for key, value in facts.items()}


def stored(name: str) -> dict[str, Tensor]:
    """Return the weights `name` in float32."""
    kept = load_file(WEIGHTS / f"{name}.safetensors")
    return {
        key: value.float() * (kept[key + SCALE].view(-1, *[1] * (value.ndim - 1)) if key + SCALE in kept else 1)
        for key, value in kept.items()
        if not key.endswith(SCALE)
    }


def load(name: str, module: nn.Module) -> nn.Module:
    """Fill a module with stored weights, ready for use."""
    module.load_state_dict(stored(name))
    return module.eval().requires_grad_(False)


def base(name: str) -> networks.UNet:
    """Return the base model `name`."""
    return load(name, networks.NETS[name]())


def controlled(name: str) -> networks.UNet:
    """Return the base model `name` with its control."""
    net = base(name)
    net.control = load(f"{name}_control", networks.control_for(net))
    return net


def coder(name: str) -> nn.Module:
    """Return what makes latents of images: "patches" or "autoencoder"."""
    return load(name, {"patches": latents.PatchLatents, "autoencoder": latents.AutoEncoder}[name]())


def load_judge() -> judge.Judge:
    return load("judge", judge.Judge())
