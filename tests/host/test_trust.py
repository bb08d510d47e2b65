"""Delta Trust in the host: the oracles hold with it, and it keeps shapes that the source does not know."""

import comfy.nested_tensor
import comfy.samplers
import numpy as np
import pytest
import torch

from harness.nodes import custom_sampler, option, run_node, shown, whole
from lab import diffusion, judge, shapes

from .tiny import (
    advanced_sampler,
    autoguidance,
    combine,
    host_advanced,
    image_latent,
    ksampler,
    model,
    pair,
    relative_error,
)


@pytest.fixture(scope="module")
def target():
    return model(3)


@pytest.fixture(scope="module")
def runs():
    from lab.proof.runs import Runs

    return Runs()


def trusting(delta, limit=0.035):
    return option("DeltaTrust", delta, limit=limit)


@pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
def test_a_pair_of_equals_is_the_ksampler_and_a_source_as_target_the_adapted_model(base, adapted, target, sampler):
    found = advanced_sampler(target, trusting(pair(base, base)), sampler)["samples"]
    assert torch.equal(found, ksampler(target, sampler))
    found = advanced_sampler(base, trusting(pair(base, adapted)), sampler)["samples"]
    assert relative_error(found, ksampler(adapted, sampler)) < 1e-4


def test_a_delta_and_its_negative_cancel_and_two_halves_are_a_whole(base, adapted, target):
    whole, half, less = (trusting(pair(base, adapted, strength)) for strength in (1.0, 0.5, -1.0))
    plain = ksampler(target)
    assert relative_error(advanced_sampler(target, combine(whole, less))["samples"], plain) < 1e-4
    found = advanced_sampler(target, combine(half, half))["samples"]
    assert relative_error(found, advanced_sampler(target, whole)["samples"]) < 1e-4


def test_what_a_mask_keeps_is_kept(base, adapted, target):
    mask = torch.zeros(1, 8, 8)
    mask[..., 4:] = 1
    image = image_latent(9, noise_mask=mask)
    found = advanced_sampler(target, trusting(pair(base, adapted)), latent_image=image)["samples"]
    assert torch.equal(found[..., :4], host_advanced(target, latent_image=image)["samples"][..., :4])

    def kept_part_seen(delta):
        seen = []
        noted = shown(target, lambda args: seen.append(args["input"][..., :4].clone()))
        advanced_sampler(noted, delta, latent_image=image)
        return torch.stack(seen)

    assert torch.equal(kept_part_seen(trusting(pair(base, adapted))), kept_part_seen(()))
    none = advanced_sampler(target, trusting(pair(base, base)), latent_image=image)["samples"]
    assert torch.equal(none, host_advanced(target, latent_image=image)["samples"])


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "euler_ancestral"])
def test_behind_its_window_a_delta_is_part_of_the_picture(base, adapted, sampler):
    """With the source as target both ways sample the adapted model in the window, and the target from there."""
    delta = option("DeltaSchedule", pair(base, adapted), end_percent=0.5)
    found = advanced_sampler(base, trusting(delta), sampler, steps=8)["samples"]
    assert relative_error(found, advanced_sampler(base, delta, sampler, steps=8)["samples"]) < 1e-4


def test_several_deltas_with_and_without_trust_run_together(base, adapted, target):
    deltas = combine(pair(base, adapted, 0.5), whole(pair(base, adapted, 0.5)))
    found = advanced_sampler(target, option("DeltaReuse", deltas, every=2), "heun")["samples"]
    assert torch.isfinite(found).all() and relative_error(found, ksampler(target, "heun")) > 0.01


def test_autoguidance_has_nothing_to_be_compared_with(base, target):
    delta = autoguidance(base, 0.5)
    expected = advanced_sampler(target, delta)["samples"]
    assert torch.equal(advanced_sampler(target, trusting(delta))["samples"], expected)


@pytest.mark.parametrize("known", ["", "mistaken_"])
def test_shapes_that_the_source_does_not_know_are_kept(runs, known):
    """On the lab's trained models: a heart in the style is a heart, and none where all of the delta is taken.

    Also where the name means something else to the source.
    """
    labels = np.resize(shapes.UNSEEN, 12)
    delta = runs.pair(f"{known}source", f"{known}adapted", labels)

    def score(delta):
        pictures = runs.pictures("target", runs.sample("target", labels, 5, delta, steps=16))
        network = runs.family.judge
        return judge.style_score(network, pictures), judge.class_score(network, pictures, labels)

    style, kept = score(delta)
    assert style > 0.8 and kept > 0.7
    assert score(whole(delta))[1] < 0.2


def test_two_adapters_that_do_the_same_are_one_of_twice_the_strength(runs):
    """On the lab's trained models, which the host loads twice; of names that the source does not know."""
    from lab.proof.runs import Runs

    others, labels = Runs(), np.resize(shapes.UNSEEN, 4)
    delta, copy = (each.pair("source", "adapted", labels) for each in (runs, others))
    strong = option("DeltaSchedule", delta, strength_start=2.0)
    found, expected = (
        runs.sample("target", labels, 5, each, steps=8).latents for each in (combine(delta, copy), strong)
    )
    assert relative_error(found, expected) < 1e-3


@pytest.mark.parametrize("adapted", ["adapted", "source_lora", "source_control"])
@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_sde"])
def test_what_the_source_knows_is_carried_bit_for_bit(runs, adapted, sampler):
    """On the lab's trained models: a style, and the silhouettes of a control, as in the paper."""
    labels = np.resize(shapes.SEEN, 2)
    wanted = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1)).round()
    delta = runs.pair("source", adapted, labels, wanted=wanted if adapted == "source_control" else None)
    found, paper = (
        runs.sample("target", labels, 5, each, steps=5, sampler=sampler).latents for each in (delta, whole(delta))
    )
    assert torch.equal(found, paper)


@pytest.mark.parametrize("target_cfg", [1.0, 6.0])
@pytest.mark.parametrize("pair_cfg", [1.0, 6.0])
def test_guidance_makes_nothing_unknown(runs, pair_cfg, target_cfg):
    """On the lab's trained models: guided otherwise, source and target draw otherwise what both know."""
    from lab.proof.runs import conditioning

    triangles = np.full(4, 2)
    delta = runs.pair("source", "adapted", triangles, pair_cfg)
    prompts = {"positive": conditioning(triangles), "negative": conditioning(np.full(4, shapes.UNNAMED))}

    def sampled(delta):
        guider = run_node("DeltaGuider", model=runs.model("target"), **prompts, cfg=target_cfg, delta=delta)
        sigmas = diffusion.schedule(runs.net("target"), 5)
        return custom_sampler(guider, sigmas, {"samples": torch.zeros(4, 4, 16, 16)}, 5)["samples"]

    assert torch.equal(sampled(delta), sampled(whole(delta)))


def test_what_a_model_with_deltas_adds_is_asked_as_well(runs):
    """On the lab's trained models: the style as a MODEL that carries it, of a name that its source does not know."""
    from lab.proof.runs import conditioning
    from lab.proof.runs import pair as lab_pair

    labels = np.resize(shapes.UNSEEN, 4)
    delta = runs.pair("source", "adapted", labels, cfg=1.0)
    prompts = [conditioning(names) for names in (labels, np.full(4, shapes.UNNAMED))]
    carrier = run_node("DeltaModel", model=runs.model("source"), delta=whole(delta))
    carried = lab_pair((runs.model("source"), *prompts), (carrier, *prompts), cfg=1.0)
    found, expected, paper = (
        runs.sample("target", labels, 5, each, steps=5).latents for each in (carried, delta, whole(delta))
    )
    assert relative_error(found, expected) < 1e-3 < relative_error(paper, expected)


def test_what_changes_nothing_is_the_delta_itself(base, adapted):
    delta = pair(base, adapted)
    assert trusting(delta) is delta
    assert whole(delta) is not delta
