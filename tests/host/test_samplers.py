"""The oracles that hold for every sampler and scheduler of the host (design, part 5)."""

import comfy.samplers
import pytest
import torch
from comfy.model_base import ModelType

from harness.nodes import shown

from .tiny import (
    ROUNDING,
    advanced_sampler,
    counted,
    custom_sampler,
    delta_guider,
    delta_ksampler,
    host_advanced,
    ksampler,
    model,
    pair,
    relative_error,
)


@pytest.fixture(scope="module")
def models():
    return model(1), model(2), model(3, ModelType.V_PREDICTION)


@pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
class TestEverySampler:
    def test_strength_0_is_the_ksampler(self, models, sampler):
        source, adapted, target = models
        assert torch.equal(delta_ksampler(source, adapted, target, 0.0, sampler), ksampler(target, sampler))

    def test_equal_branches_are_the_ksampler(self, models, sampler):
        source, _, target = models
        assert torch.equal(delta_ksampler(source, source, target, 1.0, sampler), ksampler(target, sampler))

    def test_the_source_as_target_is_the_adapted_model(self, models, sampler):
        source, adapted, _ = models
        expected = ksampler(adapted, sampler)
        assert relative_error(delta_ksampler(source, adapted, source, 1.0, sampler), expected) < ROUNDING
        assert relative_error(ksampler(source, sampler), expected) > 0.01

    def test_the_advanced_sampler_and_the_guider_agree_with_it(self, models, sampler):
        source, adapted, target = models
        expected = delta_ksampler(source, adapted, target, 0.7, sampler)
        delta = pair(source, adapted, 0.7)
        assert torch.equal(advanced_sampler(target, delta, sampler)["samples"], expected)
        if sampler not in comfy.samplers.KSampler.DISCARD_PENULTIMATE_SIGMA_SAMPLERS:
            assert torch.equal(custom_sampler(delta_guider(target, delta), sampler), expected)


@pytest.mark.parametrize("scheduler", comfy.samplers.KSampler.SCHEDULERS)
def test_every_scheduler(models, scheduler):
    source, adapted, target = models
    expected = ksampler(target, "dpmpp_2m", scheduler=scheduler)
    assert torch.equal(delta_ksampler(source, source, target, 1.0, "dpmpp_2m", scheduler=scheduler), expected)
    telescoped = delta_ksampler(source, adapted, source, 1.0, "dpmpp_2m", scheduler=scheduler)
    assert relative_error(telescoped, ksampler(adapted, "dpmpp_2m", scheduler=scheduler)) < ROUNDING


@pytest.mark.parametrize("sampler", ["euler", "euler_cfg_pp", "dpmpp_sde"])
class TestLinearity:
    def test_two_halves_are_the_whole(self, models, sampler):
        source, adapted, target = models
        halves = pair(source, adapted, 0.5, delta=pair(source, adapted, 0.5))
        assert len(halves) == 2
        whole = advanced_sampler(target, pair(source, adapted, 1.0), sampler)["samples"]
        assert relative_error(advanced_sampler(target, halves, sampler)["samples"], whole) < ROUNDING

    def test_a_delta_and_its_negative_cancel(self, models, sampler):
        source, adapted, target = models
        nothing = pair(source, adapted, -1.5, delta=pair(source, adapted, 1.5))
        found = advanced_sampler(target, nothing, sampler)["samples"]
        assert relative_error(found, ksampler(target, sampler)) < ROUNDING


def test_a_start_and_an_end_step_are_those_of_the_host(models):
    source, adapted, _ = models
    delta = pair(source, adapted)
    half = {"steps": 6, "end_at_step": 3, "return_with_leftover_noise": "enable"}
    rest = {"steps": 6, "add_noise": "disable", "start_at_step": 3}
    first = advanced_sampler(source, delta, **half)
    expected = host_advanced(adapted, **half)
    assert relative_error(first["samples"], expected["samples"]) < ROUNDING
    second = advanced_sampler(source, delta, latent_image=first, **rest)
    expected = host_advanced(adapted, latent_image=expected, **rest)
    assert relative_error(second["samples"], expected["samples"]) < ROUNDING
    assert relative_error(second["samples"], ksampler(adapted, steps=6)) < ROUNDING


def test_the_pairs_guidance_is_its_own(models):
    source, adapted, target = models
    low = advanced_sampler(target, pair(source, adapted, cfg=1.0))["samples"]
    high = advanced_sampler(target, pair(source, adapted, cfg=9.0))["samples"]
    assert relative_error(low, high) > 0.01
    found = advanced_sampler(source, pair(source, adapted, cfg=1.0), cfg=1.0)["samples"]
    assert relative_error(found, ksampler(adapted, cfg=1.0)) < ROUNDING


def test_cfg_1_skips_the_negatives_of_the_pair(models):
    source, adapted, target = models
    calls = {}

    source, adapted, target = (
        counted(m, calls, role) for role, m in zip(("source", "adapted", "target"), models, strict=True)
    )
    advanced_sampler(target, pair(source, adapted, cfg=1.0), steps=4)
    assert calls == {"source": 4, "adapted": 4, "target": 8}


def test_strength_0_calls_neither_branch(models):
    *pair_of, target = models

    def refuse(args):
        raise AssertionError("a branch was evaluated")

    source, adapted = (shown(m, refuse) for m in pair_of)
    assert torch.equal(delta_ksampler(source, adapted, target, 0.0), ksampler(target))
