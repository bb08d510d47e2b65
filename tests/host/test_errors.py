"""Errors name the role, what was found, what was expected, and what to do."""

import comfy.latent_formats
import comfy.model_management
import comfy.supported_models
import pytest
import torch
from comfy.model_base import ModelType

from .tiny import (
    advanced_sampler,
    delta_guider,
    delta_ksampler,
    ksampler,
    model,
    pair,
    prompt,
    relative_error,
)


class OnSDXLLatents(comfy.supported_models.SD15):
    latent_format = comfy.latent_formats.SDXL


class OnSD3Latents(comfy.supported_models.SD15):
    latent_format = comfy.latent_formats.SD3


def error_of(act, *args, **kwargs) -> str:
    with pytest.raises(ValueError) as caught:
        act(*args, **kwargs)
    assert type(caught.value).__name__ == "DeltaError"
    return str(caught.value)


def test_an_adapted_model_of_another_latent_space(base):
    message = error_of(delta_ksampler, base, model(2, family=OnSDXLLatents), base)
    assert "source model works on SD15 latents (4 channels at 1/8 of the picture), the adapted model on SDXL" in message
    assert "As source_model, load the base model" in message


def test_an_adapted_model_of_other_channels(base):
    message = error_of(delta_ksampler, base, model(2, family=OnSD3Latents, in_channels=16, out_channels=16), base)
    assert "the adapted model on SD3 latents (16 channels at 1/8 of the picture)" in message


def test_a_target_of_other_channels_needs_a_bridge(base, adapted):
    target = model(2, family=OnSD3Latents, in_channels=16, out_channels=16)
    message = error_of(delta_ksampler, base, adapted, target)
    assert "SD15 latents (4 channels at 1/8 of the picture), the target model on SD3 latents (16 channels" in message
    for name in ("Delta Bridge", "Latent Bridge Load", "Latent Bridge Fit", "Latent Bridge VAE"):
        assert name in message
    for act in (delta_guider, advanced_sampler):
        assert error_of(act, target, pair(base, adapted)) == message


def test_flow_models_among_themselves_are_supported():
    source, adapted = model(1, ModelType.FLOW), model(2, ModelType.FLOW)
    expected = ksampler(adapted)
    assert relative_error(delta_ksampler(source, adapted, source), expected) < 1e-4


@pytest.mark.parametrize("cfg", [1.0, 5.0])
@pytest.mark.parametrize("role", ["source", "adapted", "target"])
def test_conditioning_of_the_wrong_width(base, adapted, role, cfg):
    wide = prompt(3, width=24)
    name = "positive" if role == "target" else f"{role}_positive"
    message = error_of(delta_ksampler, base, adapted, model(3), cfg=cfg, **{name: wide})
    assert message.startswith(f"The {role} model was given text conditioning 16 and 24 numbers wide and expects 16.")
    assert f"connect {role}_positive and {role}_negative to CLIP Text Encode" in message


def breaking_at(patcher, step, act):
    """Return a clone of `patcher` whose call number `step` is `act(model output)`."""
    clone = patcher.clone()
    calls = 0

    def wrapper(apply_model, args):
        nonlocal calls
        calls += 1
        out = apply_model(args["input"], args["timestep"], **args["c"])
        return act(out) if calls == step else out

    clone.set_model_unet_function_wrapper(wrapper)
    return clone


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("role", ["source", "adapted", "target"])
def test_a_prediction_that_is_not_finite(base, adapted, role, bad):
    models = {"source": base, "adapted": adapted, "target": model(3)}
    models[role] = breaking_at(models[role], 3, lambda out: torch.full_like(out, bad))
    message = error_of(delta_ksampler, *models.values(), sampler="euler")
    assert message.startswith(f"The {role} model returned 256 values of 256 that are NaN or infinite")
    assert "at step 3 of 4 (sigma " in message


def test_with_several_deltas_the_number_is_named(base, adapted):
    broken = breaking_at(adapted, 2, lambda out: out * float("nan"))
    delta = pair(base, broken, delta=pair(base, adapted))
    message = error_of(advanced_sampler, model(3), delta)
    assert message.startswith("The adapted (delta 2) model returned")


def test_other_failures_come_through_as_they_are(base, adapted):
    def out_of_memory(out):
        raise comfy.model_management.OOM_EXCEPTION("full")

    with pytest.raises(comfy.model_management.OOM_EXCEPTION):
        delta_ksampler(base, breaking_at(adapted, 2, out_of_memory), model(3))
