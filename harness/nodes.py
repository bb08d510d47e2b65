"""Nodes as calls, and what tells their models apart. Import it where ComfyUI is loaded (`host.load_host`)."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import comfy.weight_adapter
import nodes as host_nodes
import torch
from comfy.model_patcher import ModelPatcher


def node(name: str) -> type:
    """Return the class of a node of ComfyUI, of the pack or of the lab."""
    return host_nodes.NODE_CLASS_MAPPINGS[name]


def of_the_pack(module: str) -> ModuleType:
    """Return a module of the pack as ComfyUI has loaded it: `sampling.bridges`, say."""
    return importlib.import_module(f"{node('DeltaPair').__module__.rsplit('.', 2)[0]}.{module}")


def run_node(name: str, /, **inputs) -> Any:
    """Return the first output of a node; inputs that are not given have the values of a new node's widgets."""
    made = node(name)
    schema = made.INPUT_TYPES()
    asked = {**schema.get("required", {}), **schema.get("optional", {})}
    defaults = {key: _default(*spec) for key, spec in asked.items() if key not in inputs}
    given = {key: value for key, value in defaults.items() if value is not None} | inputs
    out = getattr(made(), made.FUNCTION)(**given)
    return getattr(out, "result", out)[0]


def _default(kind, settings: dict | None = None):
    settings = settings or {}
    options = kind if isinstance(kind, list | tuple) else settings.get("options")
    return settings.get("default", options[0] if options else None)


def option(name: str, delta, **settings):
    """Return what an option node makes of a DELTA."""
    return run_node(name, delta=delta, **settings)


def custom_sampler(guider, sigmas: torch.Tensor, latent: dict, seed: int = 7, sampler: str = "euler") -> dict:
    """Return the LATENT that SamplerCustomAdvanced makes of a GUIDER."""
    noise, chosen = run_node("RandomNoise", noise_seed=seed), run_node("KSamplerSelect", sampler_name=sampler)
    parts = {"noise": noise, "guider": guider, "sampler": chosen, "sigmas": sigmas}
    return run_node("SamplerCustomAdvanced", **parts, latent_image=latent)


_looks: list[Callable[[dict], Any]] = []


def shown(patcher: ModelPatcher, look: Callable[[dict], Any]) -> ModelPatcher:
    """Return a clone of `patcher` that shows the arguments of each of its model calls to `look`.

    The patch itself remembers nothing, so that copies of it show what they see to the same `look`.
    """
    number = len(_looks)
    _looks.append(look)

    def show(apply_model, args):
        _looks[number](args)
        return apply_model(args["input"], args["timestep"], **args["c"])

    clone = patcher.clone()
    clone.set_model_unet_function_wrapper(show)
    return clone


def with_lora(base: ModelPatcher, seed: int, strength: float = 1.0, rank: int = 4, size: float = 0.3) -> ModelPatcher:
    """Return a clone of `base` with a LoRA on each of its attention weights, as a loader makes it."""
    generator = torch.Generator().manual_seed(seed)
    patches = {}
    for key, weight in base.model.state_dict().items():
        if weight.ndim == 2 and "attn" in key:
            up = size * torch.randn(weight.shape[0], rank, generator=generator)
            down = size * torch.randn(rank, weight.shape[1], generator=generator)
            patches[key] = comfy.weight_adapter.LoRAAdapter({key}, (up, down, None, None, None, None))
    clone = base.clone()
    assert len(clone.add_patches(patches, strength)) == len(patches) > 0
    return clone
