"""Errors name the role, what was found, what was expected, and what to do."""

import asyncio

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_sampling
import comfy.supported_models
import pytest
import torch
from comfy.model_base import ModelType

from harness.nodes import node, of_the_pack, option, run_node

from .test_families import bridge_to, target_of
from .tiny import (
    POSITIVE,
    advanced_sampler,
    autoguidance,
    delta_guider,
    delta_ksampler,
    delta_model,
    ksampler,
    latent,
    model,
    pair,
    prompt,
    relative_error,
)


class OnSDXLLatents(comfy.supported_models.SD15):
    latent_format = comfy.latent_formats.SDXL


class OnSD3Latents(comfy.supported_models.SD15):
    latent_format = comfy.latent_formats.SD3


class UnknownLatents(comfy.latent_formats.LatentFormat):
    """No tiny decoder, no preview colours: the host knows nothing of its VAE."""

    latent_channels = 16


class OnUnknownLatents(comfy.supported_models.SD15):
    latent_format = UnknownLatents


class OwnNoise(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
    def noise_scaling(self, sigma, noise, latent_image, max_denoise=False):
        return sigma * noise + latent_image / 2


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


def test_a_target_of_latents_that_nothing_is_known_of_needs_a_bridge(base, adapted):
    target = model(2, family=OnUnknownLatents, in_channels=16, out_channels=16)
    message = error_of(delta_ksampler, base, adapted, target)
    assert (
        "SD15 latents (4 channels at 1/8 of the picture), the target model on UnknownLatents latents (16 channels"
        in message
    )
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
    assert f"connect the CLIP that was loaded with the {role} model to the CLIP Text Encode nodes" in message


def test_conditioning_of_the_wrong_width_among_several_deltas(base, adapted):
    wide = prompt(3, width=24)
    delta = pair(base, adapted, delta=pair(base, adapted), source_positive=wide)
    message = error_of(advanced_sampler, model(3), delta)
    assert message.startswith("The source (delta 2) model was given text conditioning 16 and 24 numbers wide")
    message = error_of(advanced_sampler, model(3), autoguidance(base, positive=wide))
    assert message.startswith("The weak model was given text conditioning")


@pytest.mark.parametrize("family", ["Flux", "Flux.2", "Chroma", "Z-Image", "SD3.5"])
def test_the_width_is_known_of_the_targets_of_today(base, adapted, family):
    target, wide = target_of(family), prompt(3, width=24)
    wide[0][1]["pooled_output"] = torch.zeros(1, 16)
    delta = option("DeltaBridge", pair(base, adapted), bridge=bridge_to(target))
    space = target.get_model_object("latent_format")
    empty = {"samples": torch.zeros(1, space.latent_channels, *[1] * (space.latent_dimensions - 2), 8, 8)}
    message = error_of(advanced_sampler, target, delta, positive=wide, negative=wide, latent_image=empty)
    assert message.startswith("The target model was given text conditioning 24 numbers wide and expects 16.")


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


def test_the_models_of_a_second_delta_and_of_autoguidance(base, adapted):
    other = model(2, family=OnSDXLLatents)
    message = error_of(advanced_sampler, base, pair(base, other, delta=pair(base, adapted)))
    assert message.startswith("The source (delta 2) model works on SD15 latents")
    assert "the adapted (delta 2) model on SDXL latents" in message
    target = model(2, family=OnUnknownLatents, in_channels=16, out_channels=16)
    message = error_of(advanced_sampler, target, autoguidance(base))
    assert message.startswith("The weak model works on SD15 latents")
    assert "A delta needs a bridge" in message and "Delta Autoguidance" in message


@pytest.mark.parametrize("role", ["source", "adapted", "target"])
def test_a_model_that_mixes_noise_in_its_own_way(base, adapted, role):
    models = {"source": base, "adapted": adapted, "target": model(3)}
    models[role] = models[role].clone()
    models[role].add_object_patch("model_sampling", OwnNoise())
    message = error_of(delta_ksampler, *models.values())
    assert message.startswith(f"The {role} model, BaseModel, mixes noise in its own way (OwnNoise)")


def test_with_several_deltas_the_number_is_named(base, adapted):
    broken = breaking_at(adapted, 2, lambda out: out * float("nan"))
    delta = pair(base, broken, delta=pair(base, adapted))
    message = error_of(advanced_sampler, model(3), delta)
    assert message.startswith("The adapted (delta 2) model returned")


def test_a_full_memory_comes_through_as_it_is(base, adapted):
    """The host then unloads what it can."""

    def out_of_memory(out):
        raise comfy.model_management.OOM_EXCEPTION("full")

    with pytest.raises(comfy.model_management.OOM_EXCEPTION):
        delta_ksampler(base, breaking_at(adapted, 2, out_of_memory), model(3))


class Odd(Exception):
    """What another pack may raise."""


@pytest.mark.parametrize("kind", [Odd, AttributeError])
@pytest.mark.parametrize("role", ["source", "adapted", "target"])
def test_any_failure_says_which_model_it_was_in(base, adapted, role, kind):
    error = kind("cond_hint")

    def fail(out):
        raise error

    models = {"source": base, "adapted": adapted, "target": model(3)}
    models[role] = breaking_at(models[role], 3, fail)
    with pytest.raises(ValueError) as caught:
        delta_ksampler(*models.values())
    assert str(caught.value).startswith(f"The {role} model failed with {type(error).__name__}: {error}. If a node of")
    assert caught.value.__cause__ is error


def test_a_failure_in_a_call_of_both_branches_names_both(base):
    """And a prompt of the wrong width in it its own."""
    with base.model.diffusion_model.register_forward_pre_hook(lambda module, args: 1 / 0):
        message = error_of(delta_ksampler, base, base, model(3), adapted_positive=prompt(55))
    assert message.startswith("The source and adapted model failed with ZeroDivisionError")
    message = error_of(delta_ksampler, base, base, model(3), adapted_positive=prompt(3, width=24))
    assert message.startswith("The adapted model was given text conditioning 16 and 24 numbers wide")


@pytest.mark.parametrize("role", ["source", "adapted", "target"])
def test_a_prompt_without_the_pooled_output_that_its_model_needs(role):
    def sdxl(seed):
        unet = {"num_classes": "sequential", "adm_in_channels": 2816, "model_channels": 64}
        return model(seed, family=comfy.supported_models.SDXL, base=comfy.model_base.SDXL, **unet)

    base, bare = sdxl(1), prompt(1)
    whole = [[text, {"pooled_output": torch.zeros(1, 1280)}] for text, _ in bare]
    prompts = {f"{each}{kind}": whole for each in ("source_", "adapted_", "") for kind in ("positive", "negative")}
    prompts["positive" if role == "target" else f"{role}_positive"] = bare
    message = error_of(delta_ksampler, base, sdxl(2), sdxl(3), **prompts)
    assert message.startswith(f"The {role} model needs prompts with a pooled output")


@pytest.mark.parametrize("name", ["source_positive", "adapted_positive", "source_negative", "adapted_negative"])
def test_an_empty_prompt(base, adapted, name):
    message = error_of(delta_ksampler, base, adapted, model(3), **{name: []})
    role, kind = name.split("_")
    assert message.startswith(f"The {kind} prompt of the {role} model is an empty list of conditionings. Connect")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite(base, adapted, bad):
    broken = latent()
    broken["samples"][0, 0, 0, 0] = bad
    message = error_of(delta_ksampler, base, adapted, model(3), latent_image=broken, denoise=0.5)
    assert message.startswith("The latent_image that the sampler was given has 1 values of 256 that are NaN")
    masked = latent(noise_mask=torch.full((1, 8, 8), bad))
    message = error_of(delta_ksampler, base, adapted, model(3), latent_image=masked)
    assert message.startswith("The noise mask of the latent that the sampler was given has 64 values of 64")
    message = error_of(ksampler, delta_model(model(3), pair(base, adapted)), cfg=bad)
    assert message == f"The cfg of the target is {bad}. A finite number was expected."
    message = error_of(option, "DeltaMask", pair(base, adapted), mask=torch.full((1, 8, 8), bad))
    assert message.startswith("The mask has 64 values of 64 that are NaN or infinite")


NODES = {made.__name__: made for made in asyncio.run(of_the_pack("nodes").DeltaSamplingExtension().get_node_list())}
NODES["LatentDeltaKSampler"] = node("LatentDeltaKSampler")
NUMBERS = [
    (name, given.id)
    for name, made in NODES.items()
    for given in made.GET_SCHEMA().inputs
    if given.get_io_type() == "FLOAT"
]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("name", "number"), NUMBERS)
def test_a_number_that_is_not_finite_is_named_with_its_node(base, adapted, name, number, bad):
    """The host's queue lets NaN pass: it is neither too small nor too large."""
    values = {
        "MODEL": base, "CLIP": None, "CONDITIONING": POSITIVE, "LATENT": latent(), "VAE": None, "CONTROL_NET": None,
        "IMAGE": torch.rand(1, 64, 64, 3), "DELTA": pair(base, adapted), "STRING": "a castle",
    }  # fmt: skip
    schema = NODES[name].GET_SCHEMA()
    inputs = {each.id: values[each.get_io_type()] for each in schema.inputs if each.get_io_type() in values}
    inputs[number] = bad
    if schema.is_input_list:
        inputs = {key: [value] for key, value in inputs.items()}
    message = error_of(run_node, name, **inputs)
    assert message == f"The {number} of the {schema.display_name} is {bad}. A finite number was expected."


@pytest.mark.parametrize("name", ["DeltaSchedule", "DeltaColorGuidance"])
def test_the_check_of_a_window_leaves_nan_to_that_of_numbers(name):
    assert NODES[name].validate_inputs(float("nan"), 1.0) is True


def test_a_mask_of_nothing(base, adapted):
    message = error_of(option, "DeltaMask", pair(base, adapted), mask=torch.zeros(0, 64, 64))
    assert message.startswith("The mask has the shape [0, 64, 64]: nothing in it.")
