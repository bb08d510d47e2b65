"""Delta Pair (Prompts) and Delta ControlNet: pairs from text, and a ControlNet on their adapted prompts."""

import comfy.latent_formats
import comfy.supported_models
import pytest
import torch
from comfy.model_base import ModelType
from comfy_execution.graph_utils import ExecutionBlocker

from harness.nodes import node, of_the_pack, option, run_node, shown, with_lora

from .gaussian import denoiser
from .tiny import NEGATIVE, POSITIVE, clip, control, counted, delta_model, image_latent, ksampler, model, pair, seen

TEXT, BAD = "a castle on a hill", "blurry"


@pytest.fixture(scope="module")
def clips():
    return clip(21), clip(22)


@pytest.fixture(scope="module")
def target():
    return model(3, ModelType.V_PREDICTION)


def encoded(clip, text):
    return run_node("CLIPTextEncode", clip=clip, text=text)


def outputs(**inputs):
    """Return all outputs of the node, its other inputs as on a new node."""
    made = node("DeltaPairText")
    schema = made.INPUT_TYPES()["required"]
    defaults = {name: spec[1]["default"] for name, spec in schema.items() if "default" in spec[1]}
    options = {"pair_size": "auto"}
    return getattr(made(), made.FUNCTION)(**{**defaults, **options, "prompt": TEXT, "negative": BAD, **inputs}).result


def roles(base, adapted, clips):
    return {"source_model": base, "source_clip": clips[0], "adapted_model": adapted, "adapted_clip": clips[1]}


def by_hand(base, adapted, clips, source_text=TEXT, adapted_text=TEXT, **more):
    prompts = {
        "source_positive": encoded(clips[0], source_text), "source_negative": encoded(clips[0], BAD),
        "adapted_positive": encoded(clips[1], adapted_text), "adapted_negative": encoded(clips[1], BAD),
    }  # fmt: skip
    return pair(base, adapted, 0.8, cfg=4.0, **prompts, **more)


SETTINGS = {
    "one prompt": ({}, {}),
    "trigger words": ({"trigger_words": " inkstyle "}, {"adapted_text": f"inkstyle, {TEXT}"}),
    "words without a prompt": ({"prompt": "", "trigger_words": "ink"}, {"source_text": "", "adapted_text": "ink"}),
    "another text for the source": ({"source_prompt": "a hill"}, {"source_text": "a hill"}),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_it_is_a_delta_pair_with_its_prompts_encoded(base, adapted, target, clips, setting):
    inputs, texts = SETTINGS[setting]
    delta, *_ = outputs(**roles(base, adapted, clips), cfg=4.0, strength=0.8, **inputs)
    expected = ksampler(delta_model(target, by_hand(base, adapted, clips, **texts)))
    assert torch.equal(ksampler(delta_model(target, delta)), expected)
    plain = ksampler(delta_model(target, by_hand(base, adapted, clips)))
    assert torch.equal(expected, plain) == (setting == "one prompt")


def test_it_goes_on_with_another_delta(base, adapted, target, clips):
    first = pair(base, adapted, 0.5)
    delta, *_ = outputs(**roles(base, adapted, clips), cfg=4.0, strength=0.8, delta=first)
    both = by_hand(base, adapted, clips, delta=first)
    assert torch.equal(ksampler(delta_model(target, delta)), ksampler(delta_model(target, both)))


def test_a_source_that_several_pairs_share_is_evaluated_once(base, clips, target):
    """Each node encodes the source's prompt anew; that it is the same counts."""
    calls = {}
    source = counted(base, calls, "source")
    first, *_ = outputs(**roles(source, counted(with_lora(base, 5), calls, "first"), clips))
    second = roles(source, counted(with_lora(base, 6), calls, "second"), clips)
    both, *_ = outputs(**second, trigger_words="ink", delta=first)
    ksampler(delta_model(target, both), steps=4)
    assert calls == {"source": 8, "first": 8, "second": 8}
    calls.clear()
    both, *_ = outputs(**second, source_prompt="a hill", delta=first)
    ksampler(delta_model(target, both), steps=4)
    assert calls["source"] == 16


def test_the_targets_prompts_are_the_plain_ones(base, adapted, clips):
    wired, other = roles(base, adapted, clips), clips[1]
    _, positive, negative = outputs(**wired, target_clip=other, trigger_words="ink", source_prompt="a hill")
    for found, text in ((positive, TEXT), (negative, BAD)):
        assert torch.equal(found[0][0], encoded(other, text)[0][0])
    _, *without = outputs(**wired)
    assert all(isinstance(each, ExecutionBlocker) and "target_clip" in each.message for each in without)


def sizes_seen(base, delta, target, height, width=None):
    """Return the sizes of the latents that `base` is shown beside a target's of height x width."""
    sizes = set()
    with seen(base, lambda x: sizes.add(tuple(x.shape[2:]))):
        large = {"samples": torch.zeros(1, 4, height, width or height)}
        ksampler(delta_model(target, delta), latent_image=large, steps=1)
    return sizes


SIZES = {
    "larger than that": ({"pair_size": "as given", "pixels": 128}, 32, 16),
    "as large": ({"pair_size": "as given", "pixels": 128}, 16, 16),
    "smaller": ({"pair_size": "as given", "pixels": 128}, 12, 12),
    "as the target": ({"pair_size": "as the target", "pixels": 128}, 32, 32),
}


@pytest.mark.parametrize("size", SIZES)
def test_the_pair_sees_a_picture_of_the_size_that_it_was_made_for(base, adapted, clips, target, size):
    inputs, edge, expected = SIZES[size]
    delta, *_ = outputs(**roles(base, adapted, clips), cfg=1.0, **inputs)
    assert sizes_seen(base, delta, target, edge) == {(expected, expected)}


def test_by_itself_it_is_that_of_the_sources_kind(base, adapted, clips):
    (delta,), *_ = outputs(**roles(base, adapted, clips))
    assert delta.view.edge == 512


def test_a_size_counts_pixels_not_the_longer_side(base, adapted, clips, target):
    delta, *_ = outputs(**roles(base, adapted, clips), cfg=1.0, pair_size="as given", pixels=128)
    assert sizes_seen(base, delta, target, 32, 72) == {(11, 24)}


SDXL = {"num_classes": "sequential", "adm_in_channels": 2816, "model_channels": 64}
KINDS = [
    (comfy.supported_models.SD15, {}, ModelType.EPS, 512),
    (comfy.supported_models.SD20, {"model_channels": 64}, ModelType.V_PREDICTION, 768),
    (comfy.supported_models.SD20, {"model_channels": 64}, ModelType.EPS, 512),
    (comfy.supported_models.SDXL, SDXL, ModelType.EPS, 1024),
]


@pytest.mark.parametrize(("family", "unet", "kind", "edge"), KINDS)
def test_what_kinds_of_models_were_made_for(family, unet, kind, edge):
    made = model(1, kind, family, **unet)
    assert of_the_pack("sampling.host.views").native_edge(made) == edge


NO_PICTURES = {
    "ACEAudio": (8, 16, 2584),
    "ACEAudio15": (64, 2584),
    "StableAudio1": (64, 1024),
    "Hunyuan3Dv2": (64, 3072),
    "TripoSplat": (16, 8192, 1),
}


@pytest.mark.parametrize("sizing", [{"pair_size": "auto"}, {"pair_size": "as given", "pixels": 128}])
@pytest.mark.parametrize("name", [name for name in NO_PICTURES if hasattr(comfy.latent_formats, name)])
def test_what_is_no_picture_has_no_size(clips, name, sizing):
    """Sound and shapes are seen as they are."""
    kind, shapes, latent = getattr(comfy.latent_formats, name), set(), torch.zeros(1, *NO_PICTURES[name])
    source, adapted, target = (denoiser(lambda x, ratio, by=by: x * by, latent_format=kind) for by in (0.1, 0.2, 0.3))
    source = shown(source, lambda args: shapes.add(args["input"].shape))
    delta, *_ = outputs(**roles(source, adapted, clips), cfg=1.0, **sizing)
    made = ksampler(delta_model(target, delta), latent_image={"samples": latent}, steps=2)
    assert shapes == {latent.shape}
    assert torch.isfinite(made).all() and not torch.equal(
        made, ksampler(target, latent_image={"samples": latent}, steps=2)
    )


def test_delta_resolution_makes_it_smaller_still(base, adapted, clips, target):
    delta, *_ = outputs(**roles(base, adapted, clips), cfg=1.0, pair_size="as given", pixels=128)
    assert sizes_seen(base, option("DeltaResolution", delta, scale=0.5), target, 32) == {(8, 8)}


def test_a_controlnet_is_on_the_adapted_prompts_alone(base, target):
    hint, net = torch.rand(1, 64, 64, 3), control()
    given = {"control_net": net, "image": hint, "strength": 0.6, "start_percent": 0.1, "end_percent": 0.9}
    delta = option("DeltaControlNet", pair(base, base), **given)
    applied = node("ControlNetApplyAdvanced")().apply_controlnet(POSITIVE, NEGATIVE, *given.values())
    expected = pair(base, base, adapted_positive=applied[0], adapted_negative=applied[1])
    start = {"latent_image": image_latent(4)}
    found = ksampler(delta_model(target, delta), **start)
    assert torch.equal(found, ksampler(delta_model(target, expected), **start))
    assert not torch.equal(found, ksampler(target, **start))
