"""Tiny models of the host's own classes, and short ways to run nodes on them."""

import types
from contextlib import contextmanager

import comfy.cldm.cldm
import comfy.controlnet
import comfy.model_base
import comfy.model_management
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import torch
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher

from harness import nodes
from harness.nodes import of_the_pack, run_node, shown

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


def prompt(seed: int, width: int = 16) -> list:
    """Return conditioning that no text made."""
    return [[torch.randn(1, 7, width, generator=torch.Generator().manual_seed(seed)), {}]]


POSITIVE, NEGATIVE = prompt(101), prompt(102)


def clip(seed: int, width: int = 16) -> comfy.sd.CLIP:
    """Return a text encoder of SD1.x with the host's own tokenizer, and with few and narrow layers."""
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_attention_heads": 2, "num_hidden_layers": 2}
    kind = types.SimpleNamespace(clip=comfy.sd1_clip.SD1ClipModel, tokenizer=comfy.sd1_clip.SD1Tokenizer, params={})
    made = comfy.sd.CLIP(kind, model_options={"clip_l_model_config": sizes}, disable_dynamic=True)
    randomise(made.cond_stage_model, seed)
    return made


def control(seed: int = 31) -> comfy.controlnet.ControlNet:
    """Return a ControlNet for the models above."""
    config = {key: value for key, value in UNET.items() if key not in ("out_channels", "transformer_depth_output")}
    with torch.inference_mode(False):
        net = comfy.cldm.cldm.ControlNet(
            **config, hint_channels=3, dtype=torch.float32, operations=comfy.ops.manual_cast
        )
        randomise(net, seed)
        return comfy.controlnet.ControlNet(net, load_device=CPU, manual_cast_dtype=None)


def latent(batch: int = 1, size: int = 8, **extra) -> dict:
    return {"samples": torch.zeros(batch, 4, size, size), **extra}


def image_latent(seed: int, batch: int = 1, size: int = 8, **extra) -> dict:
    generator = torch.Generator().manual_seed(seed)
    return {"samples": torch.randn(batch, 4, size, size, generator=generator), **extra}


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


PROMPTS = {"positive": POSITIVE, "negative": NEGATIVE}
RUN = {"seed": 7, "steps": 4, "cfg": 5.0, "scheduler": "normal"}


def ksampler(target, sampler="euler", latent_image=None, **changed) -> torch.Tensor:
    """Return what the host's KSampler makes of a model."""
    inputs = {**PROMPTS, **RUN, "latent_image": latent_image or latent(), **changed}
    return run_node("KSampler", model=target, sampler_name=sampler, **inputs)["samples"]


def delta_ksampler(
    source, adapted, target, strength=1.0, sampler="euler", latent_image=None, **changed
) -> torch.Tensor:
    """Return what the Delta KSampler makes of three models; `positive` and `negative` are the target's."""
    models = {"source": source, "adapted": adapted, "target": target}
    inputs = {f"{role}_model": model for role, model in models.items()}
    inputs |= {f"{role}_{kind}": prompt for role in models for kind, prompt in PROMPTS.items()}
    inputs |= {f"target_{kind}": changed.pop(kind) for kind in PROMPTS if kind in changed}
    inputs |= {**RUN, "delta_strength": strength, "latent_image": latent_image or latent(), **changed}
    return run_node("DeltaKSampler", sampler_name=sampler, **inputs)["samples"]


def pair(source, adapted, strength=1.0, cfg=5.0, **inputs):
    """Return the DELTA of a Delta Pair node."""
    prompts = {f"{role}_{kind}": prompt for role in ("source", "adapted") for kind, prompt in PROMPTS.items()}
    roles = {"source_model": source, "adapted_model": adapted, **prompts, **inputs}
    return run_node("DeltaPair", **roles, cfg=cfg, strength=strength)


def autoguidance(weak, strength=1.0, cfg=5.0, positive=POSITIVE):
    """Return the DELTA of a Delta Autoguidance node."""
    prompts = {"positive": positive, "negative": NEGATIVE}
    return run_node("DeltaAutoguidance", weak_model=weak, **prompts, cfg=cfg, strength=strength)


def combine(a, b):
    """Return two DELTAs together."""
    return run_node("DeltaCombine", delta_a=a, delta_b=b)


def bridge(source: tuple, target: tuple, to_source: torch.Tensor, to_target: torch.Tensor):
    """Return a bridge of two matrices between latents of `source` and `target`, each (channels, downscale)."""
    bridges = of_the_pack("sampling.bridges")
    source, target = bridges.LatentShape(*source), bridges.LatentShape(*target)
    fold, unfold = bridges.folds(source, target)
    maps = ((to_source, fold, unfold), (to_target, unfold, fold))
    ways = (bridges.Affine(weight, torch.zeros(len(weight)), *folding) for weight, *folding in maps)
    return bridges.LinearBridge(source, target, *ways)


def delta_model(target, delta):
    """Return the MODEL of a Delta Model node."""
    return run_node("DeltaModel", model=target, delta=delta)


def delta_guider(target, delta, cfg=5.0):
    """Return the GUIDER of a Delta Guider node."""
    return run_node("DeltaGuider", model=target, **PROMPTS, cfg=cfg, delta=delta)


def _advanced(name: str, target, sampler: str, **changed) -> dict:
    run = {key: value for key, value in RUN.items() if key != "seed"}
    inputs = {**PROMPTS, **run, "noise_seed": 7, "latent_image": latent(), "sampler_name": sampler, **changed}
    return run_node(name, model=target, **inputs)


def advanced_sampler(target, delta, sampler="euler", **changed) -> dict:
    """Return the LATENT of a Delta KSampler (Advanced)."""
    return _advanced("DeltaKSamplerAdvanced", target, sampler, delta=delta, **changed)


def host_advanced(target, sampler="euler", **changed) -> dict:
    """Return the LATENT of the host's KSampler (Advanced)."""
    return _advanced("KSamplerAdvanced", target, sampler, **changed)


def custom_sampler(guider, sampler="euler", steps=4) -> torch.Tensor:
    """Return what SamplerCustomAdvanced makes of a GUIDER."""
    sigmas = run_node("BasicScheduler", model=guider.model_patcher, scheduler="normal", steps=steps)
    return nodes.custom_sampler(guider, sigmas, latent(), sampler=sampler)["samples"]


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()
