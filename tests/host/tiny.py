"""Tiny models of the host's own classes, and short ways to run nodes on them."""

import importlib
from contextlib import contextmanager

import comfy.lora
import comfy.model_base
import comfy.model_management
import comfy.supported_models
import comfy.weight_adapter
import nodes as host_nodes
import torch
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher

CPU = torch.device("cpu")
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": 16,
    "num_heads": 4,
    "num_head_channels": -1,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "legacy": False,
    "adm_in_channels": None,
}


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Fill a module with weights that neither fade nor blow up."""
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), torch.no_grad():
        for weight in module.parameters():
            scale = 0.6 / weight[0].numel() ** 0.5 if weight.ndim > 1 else 0.1
            weight.copy_(torch.randn(weight.shape, generator=generator) * scale)


def _host_precision(family: type) -> tuple[torch.dtype, torch.dtype | None]:
    """Return the precision of weights and, where it is another, that of the arithmetic, as the host's loaders do."""
    supported = family.supported_inference_dtypes
    stored = comfy.model_management.unet_dtype(device=CPU, supported_dtypes=supported)
    return stored, comfy.model_management.unet_manual_cast(stored, CPU, supported)


# What rounding may do to a run in the precision that the host was started with (--fp16-unet, say).
SINGLE = _host_precision(comfy.supported_models.SD15) == (torch.float32, None)
ROUNDING = 1e-4 if SINGLE else 5e-2


def model(
    seed: int,
    kind: ModelType = ModelType.EPS,
    family: type = comfy.supported_models.SD15,
    dtype: torch.dtype | None = None,
    base: type = comfy.model_base.BaseModel,
    **unet,
) -> ModelPatcher:
    """Return a new model of a real architecture, small enough for milliseconds a call.

    Unless a `dtype` is given, its weights and its arithmetic have the precision that the host chooses.
    """
    with torch.inference_mode(False):
        config = family({**UNET, **unet})
        config.set_inference_dtype(*((dtype, None) if dtype else _host_precision(family)))
        made = base(config, model_type=kind, device=CPU)
        if config.inpaint_model():
            made.set_inpaint()
        randomise(made.diffusion_model, seed)
    return ModelPatcher(made, CPU, CPU)


def with_lora(base: ModelPatcher, seed: int, strength: float = 1.0) -> ModelPatcher:
    """Return a clone of `base` with a LoRA on each of its attention weights, as a loader makes it."""
    generator = torch.Generator().manual_seed(seed)
    patches = {}
    for key, weight in base.model.state_dict().items():
        if weight.ndim == 2 and "attn" in key:
            up = 0.3 * torch.randn(weight.shape[0], 4, generator=generator)
            down = 0.3 * torch.randn(4, weight.shape[1], generator=generator)
            patches[key] = comfy.weight_adapter.LoRAAdapter({key}, (up, down, None, None, None, None))
    clone = base.clone()
    assert len(clone.add_patches(patches, strength)) == len(patches) > 0
    return clone


def prompt(seed: int, width: int = 16) -> list:
    """Return conditioning that no text made."""
    return [[torch.randn(1, 7, width, generator=torch.Generator().manual_seed(seed)), {}]]


POSITIVE, NEGATIVE = prompt(101), prompt(102)


def latent(batch: int = 1, size: int = 8, **extra) -> dict:
    return {"samples": torch.zeros(batch, 4, size, size), **extra}


def image_latent(seed: int, batch: int = 1, size: int = 8, **extra) -> dict:
    generator = torch.Generator().manual_seed(seed)
    return {"samples": torch.randn(batch, 4, size, size, generator=generator), **extra}


def node(name: str):
    return host_nodes.NODE_CLASS_MAPPINGS[name]


def of_the_pack(module: str):
    """Return a module of the pack as the host has loaded it: `sampling.bridges`, say."""
    return importlib.import_module(f"{node('DeltaPair').__module__.rsplit('.', 2)[0]}.{module}")


_looks = []


def shown(patcher: ModelPatcher, look) -> ModelPatcher:
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


@contextmanager
def seen(patcher: ModelPatcher, look):
    """Show the latent of each call of a model to `look`, from its module: nothing is put on the MODEL."""
    with patcher.model.diffusion_model.register_forward_pre_hook(lambda module, args: look(args[0])):
        yield


def counted(patcher: ModelPatcher, calls: dict, role: str) -> ModelPatcher:
    """Return a clone of `patcher` that adds the rows of every model call to `calls[role]`."""

    def count(args):
        calls[role] = calls.get(role, 0) + len(args["cond_or_uncond"])

    return shown(patcher, count)


def ksampler(
    target, sampler="euler", latent_image=None, scheduler="normal", steps=4, cfg=5.0, denoise=1.0,
    positive=POSITIVE, negative=NEGATIVE, seed=7,
) -> torch.Tensor:  # fmt: skip
    """Return what the host's KSampler makes of a model."""
    image = latent() if latent_image is None else latent_image
    (out,) = host_nodes.KSampler().sample(
        target, seed, steps, cfg, sampler, scheduler, positive, negative, image, denoise
    )
    return out["samples"]


def delta_ksampler(
    source, adapted, target, strength=1.0, sampler="euler", latent_image=None, scheduler="normal", steps=4, cfg=5.0,
    denoise=1.0, adapted_positive=POSITIVE, adapted_negative=NEGATIVE, source_positive=POSITIVE,
    source_negative=NEGATIVE, positive=POSITIVE, negative=NEGATIVE, seed=7,
) -> torch.Tensor:  # fmt: skip
    """Return what the Delta KSampler makes of three models."""
    image = latent() if latent_image is None else latent_image
    out = node("DeltaKSampler").execute(
        source_model=source, source_positive=source_positive, source_negative=source_negative,
        adapted_model=adapted, adapted_positive=adapted_positive, adapted_negative=adapted_negative,
        target_model=target, target_positive=positive, target_negative=negative,
        delta_strength=strength, seed=seed, steps=steps, cfg=cfg, sampler_name=sampler, scheduler=scheduler,
        latent_image=image, denoise=denoise,
    )  # fmt: skip
    return out.result[0]["samples"]


def pair(source, adapted, strength=1.0, cfg=5.0, **inputs):
    """Return the DELTA of a Delta Pair node."""
    roles = {"source_model": source, "adapted_model": adapted}
    prompts = {"source_positive": POSITIVE, "source_negative": NEGATIVE}
    prompts |= {"adapted_positive": POSITIVE, "adapted_negative": NEGATIVE}
    out = node("DeltaPair").execute(**{**roles, **prompts, "cfg": cfg, "strength": strength, **inputs})
    return out.result[0]


def autoguidance(weak, strength=1.0, cfg=5.0, positive=POSITIVE):
    """Return the DELTA of a Delta Autoguidance node."""
    inputs = {"positive": positive, "negative": NEGATIVE, "cfg": cfg, "strength": strength}
    return node("DeltaAutoguidance").execute(weak_model=weak, **inputs).result[0]


def option(name: str, delta, **settings):
    """Return what an option node makes of a DELTA, its other inputs at their defaults."""
    schema = node(name).GET_SCHEMA()
    defaults = {
        each.id: each.options[0] if hasattr(each, "options") else each.default
        for each in schema.inputs
        if hasattr(each, "options") or getattr(each, "default", None) is not None
    }
    return node(name).execute(delta=delta, **{**defaults, **settings}).result[0]


def combine(a, b):
    """Return two DELTAs together."""
    return node("DeltaCombine").execute(delta_a=a, delta_b=b).result[0]


def bridge(source: tuple, target: tuple, to_source: torch.Tensor, to_target: torch.Tensor):
    """Return a bridge of two matrices between latents of `source` and `target`, each (channels, downscale)."""
    bridges = of_the_pack("sampling.bridges")
    source, target = bridges.LatentShape(*source), bridges.LatentShape(*target)
    fold, unfold = bridges.folds(source, target)
    maps = ((to_source, fold, unfold), (to_target, unfold, fold))
    ways = (bridges.Affine(weight, torch.zeros(len(weight)), *folding) for weight, *folding in maps)
    return bridges.LinearBridge(source, target, *ways)


def delta_guider(target, delta, cfg=5.0):
    """Return the GUIDER of a Delta Guider node."""
    out = node("DeltaGuider").execute(model=target, positive=POSITIVE, negative=NEGATIVE, cfg=cfg, delta=delta)
    return out.result[0]


def _advanced_inputs(**changed):
    inputs = {
        "positive": POSITIVE, "negative": NEGATIVE, "add_noise": "enable", "noise_seed": 7, "steps": 4, "cfg": 5.0,
        "sampler_name": "euler", "scheduler": "normal", "latent_image": latent(), "start_at_step": 0,
        "end_at_step": 10000, "return_with_leftover_noise": "disable",
    }  # fmt: skip
    return {**inputs, **changed}


def advanced_sampler(target, delta, sampler="euler", **changed) -> dict:
    """Return the LATENT of a Delta KSampler (Advanced)."""
    inputs = _advanced_inputs(sampler_name=sampler, **changed)
    return node("DeltaKSamplerAdvanced").execute(model=target, delta=delta, **inputs).result[0]


def host_advanced(target, **changed) -> dict:
    """Return the LATENT of the host's KSampler (Advanced)."""
    return node("KSamplerAdvanced")().sample(model=target, **_advanced_inputs(**changed))[0]


def custom_sampler(guider, sampler="euler", steps=4, seed=7) -> torch.Tensor:
    """Return what SamplerCustomAdvanced makes of a GUIDER."""
    noise = node("RandomNoise").execute(noise_seed=seed).result[0]
    sampler = node("KSamplerSelect").execute(sampler_name=sampler).result[0]
    sigmas = node("BasicScheduler").execute(model=guider.model_patcher, scheduler="normal", steps=steps, denoise=1.0)
    out = node("SamplerCustomAdvanced").execute(noise, guider, sampler, sigmas.result[0], latent())
    return out.result[0]["samples"]


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()
