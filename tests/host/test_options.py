"""The option nodes in the host: defaults change nothing, what is not needed is not evaluated."""

from dataclasses import replace
from functools import reduce

import comfy.model_base
import comfy.nested_tensor
import comfy.samplers
import pytest
import torch

from harness.nodes import node, option, shown, with_lora

from .gaussian import denoiser, normal
from .tiny import (
    NEGATIVE,
    POSITIVE,
    advanced_sampler,
    autoguidance,
    bridge,
    combine,
    counted,
    ksampler,
    latent,
    model,
    pair,
    prompt,
    relative_error,
    seen,
)

DEFAULTS = {
    "DeltaSchedule": {
        "start_percent": 0.0, "end_percent": 1.0, "curve": "constant", "strength_start": 1.0, "strength_end": 1.0,
    },
    "DeltaLimits": {"parallel": 1.0, "norm_limit": 0.0, "band": "all", "cutoff": 0.25},
    "DeltaReuse": {"every": 1, "threshold": 0.0, "extrapolate": False},
    "DeltaResolution": {"scale": 1.0, "noise_match": "same noise"},
}  # fmt: skip
# Changed so little that everything runs and the result has to stay the same.
NEUTRAL = {
    "DeltaSchedule": {"curve": "sigmoid", "strength_start": 1.0, "strength_end": 1.0, "end_percent": 1.0},
    "DeltaReuse": {"every": 1, "threshold": 1e-9},
    "DeltaLimits": {"norm_limit": 1e6},
}


@pytest.fixture(scope="module")
def target():
    return model(3)


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_defaults_change_nothing(base, adapted, name):
    schema = {each.id: getattr(each, "default", None) for each in node(name).GET_SCHEMA().inputs}
    options = {each.id: each.options[0] for each in node(name).GET_SCHEMA().inputs if hasattr(each, "options")}
    assert {key: options.get(key, schema[key]) for key in DEFAULTS[name]} == DEFAULTS[name]
    delta = pair(base, adapted)
    assert option(name, delta) is delta


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m_sde", "euler_cfg_pp", "uni_pc"])
@pytest.mark.parametrize("name", NEUTRAL)
def test_settings_that_mean_the_same_change_nothing(base, adapted, target, name, sampler):
    delta = pair(base, adapted)
    expected = advanced_sampler(target, delta, sampler)["samples"]
    assert torch.equal(advanced_sampler(target, option(name, delta, **NEUTRAL[name]), sampler)["samples"], expected)


@pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
def test_an_empty_window_and_a_black_mask_are_the_ksampler(base, adapted, target, sampler):
    plain = ksampler(target, sampler)
    delta = pair(base, adapted)
    # Behind the last noise level, so that nothing is ever evaluated.
    closed = option("DeltaSchedule", delta, start_percent=1.0, end_percent=1.0)
    assert torch.equal(advanced_sampler(target, closed, sampler)["samples"], plain)
    black = option("DeltaMask", delta, mask=torch.zeros(1, 64, 64))
    assert torch.equal(advanced_sampler(target, black, sampler)["samples"], plain)


def test_outside_its_window_a_delta_is_not_evaluated(base, adapted, target):
    calls = {}
    roles = [counted(patcher, calls, role) for patcher, role in ((base, "source"), (adapted, "adapted"))]
    window = option("DeltaSchedule", pair(*roles), start_percent=0.3, end_percent=0.7)
    found = advanced_sampler(counted(target, calls, "target"), window, steps=10)["samples"]
    assert calls["target"] == 20
    assert calls["source"] == calls["adapted"] == 2 * 4
    assert not torch.equal(found, ksampler(target, steps=10))


def test_a_window_is_where_the_host_has_it(base, adapted, target):
    """As ConditioningSetTimestepRange counts: the delta acts where a prompt of that range would."""
    sigmas = []

    noted = shown(base, lambda args: sigmas.append(args["timestep"][0].item()))
    advanced_sampler(target, option("DeltaSchedule", pair(noted, adapted), start_percent=0.25), steps=8)
    sampling = target.get_model_object("model_sampling")
    limit = sampling.percent_to_sigma(0.25)
    run = comfy.samplers.calculate_sigmas(sampling, "normal", 8)[:-1].tolist()
    assert sorted(set(sigmas), reverse=True) == pytest.approx([sigma for sigma in run if sigma <= limit], rel=1e-5)


def test_a_schedule_scales_the_strength(base, adapted, target):
    delta = pair(base, adapted)
    half = option("DeltaSchedule", delta, strength_start=0.5)
    expected = advanced_sampler(target, pair(base, adapted, 0.5))["samples"]
    assert relative_error(advanced_sampler(target, half)["samples"], expected) < 1e-5
    twice = option("DeltaSchedule", half, strength_start=0.5)
    expected = advanced_sampler(target, pair(base, adapted, 0.25))["samples"]
    assert relative_error(advanced_sampler(target, twice)["samples"], expected) < 1e-5


@pytest.mark.parametrize("size", [(64, 64), (8, 8), (24, 40)])
def test_a_mask_says_where_a_delta_acts(size):
    """Denoisers of one value, so that nothing but the mask can move it about."""
    nothing, one = denoiser(lambda x, ratio: x * 0), denoiser(lambda x, ratio: x * 0 + 1)
    mask = torch.zeros(1, *size)
    mask[..., size[1] // 2 :] = 0.5
    found = advanced_sampler(nothing, option("DeltaMask", pair(nothing, one), mask=mask))["samples"]
    torch.testing.assert_close(found[..., :3], torch.zeros(1, 4, 8, 3))
    torch.testing.assert_close(found[..., 5:], torch.full((1, 4, 8, 3), 0.5))
    both = option("DeltaMask", option("DeltaMask", pair(nothing, one), mask=mask), mask=torch.full((1, 8, 8), 0.5))
    assert advanced_sampler(nothing, both)["samples"][..., 5:].mean().item() == pytest.approx(0.25)


def test_a_mask_for_each_picture_of_a_batch_and_for_video():
    nothing, one = denoiser(lambda x, ratio: x * 0), denoiser(lambda x, ratio: x * 0 + 1)
    masks = torch.stack([torch.zeros(64, 64), torch.ones(64, 64)])
    delta = option("DeltaMask", pair(nothing, one), mask=masks)
    found = advanced_sampler(nothing, delta, latent_image=latent(2))["samples"]
    assert found.flatten(1).mean(1).tolist() == pytest.approx([0.0, 1.0], abs=1e-6)
    video = {"samples": torch.zeros(1, 4, 3, 8, 8)}
    delta = option("DeltaMask", pair(nothing, one), mask=torch.full((1, 64, 64), 0.25))
    found = advanced_sampler(nothing, delta, latent_image=video)["samples"]
    torch.testing.assert_close(found, torch.full((1, 4, 3, 8, 8), 0.25))


def test_limits_shape_the_delta(base, adapted, target):
    delta = pair(base, adapted, 3.0)
    full = advanced_sampler(target, delta)["samples"]
    plain = ksampler(target)
    for settings in ({"parallel": 0.0}, {"norm_limit": 1e-4}, {"band": "low"}, {"band": "high"}):
        found = advanced_sampler(target, option("DeltaLimits", delta, **settings))["samples"]
        assert relative_error(found, full) > 1e-6
        assert relative_error(found, plain) > 1e-6
    small = advanced_sampler(target, option("DeltaLimits", delta, norm_limit=1e-4))["samples"]
    assert (small - plain).norm() < (full - plain).norm()


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpm_2", "dpmpp_sde", "euler_cfg_pp", "uni_pc"])
def test_reuse_evaluates_every_nth_step(sampler):
    """Once in two steps, however many calls a step has, and nearly as good as always; the trend is better still."""
    calls = []

    def source(x, ratio):
        calls.append(ratio.flatten()[0].item())
        return normal(torch.zeros(1, 4, 1, 1), 1.0)(x, ratio)

    means = torch.tensor([1.0, -1.0, 0.5, 0.2]).reshape(1, 4, 1, 1)
    delta = pair(denoiser(source), denoiser(normal(means, 0.8)), cfg=1.0)
    target = denoiser(normal(means * 0, 1.2))
    how = {"sampler": sampler, "steps": 15, "cfg": 1.0}
    full = advanced_sampler(target, delta, **how)["samples"]
    per_step = len(calls) / 15
    calls.clear()
    held, trend = (
        advanced_sampler(target, option("DeltaReuse", delta, every=2, extrapolate=extrapolate), **how)["samples"]
        for extrapolate in (False, True)
    )
    assert 16 <= len(calls) <= 18 < 2 * 15 * per_step
    plain = ksampler(target, **how)
    assert (held - full).norm() < 0.4 * (plain - full).norm()
    assert (trend - full).norm() < 0.5 * (held - full).norm()


def test_reuse_by_threshold_and_a_window_together(base, adapted, target):
    calls = {}
    roles = [counted(patcher, calls, role) for patcher, role in ((base, "source"), (adapted, "adapted"))]
    delta = option("DeltaReuse", pair(*roles), threshold=0.5)
    advanced_sampler(target, option("DeltaSchedule", delta, end_percent=0.8), steps=12)
    assert 2 <= calls["source"] < 2 * 10
    assert calls["source"] == calls["adapted"]


def test_a_held_delta_does_not_outlive_its_run(base, adapted, target):
    delta = option("DeltaReuse", pair(base, adapted), every=4)
    first = advanced_sampler(target, delta)["samples"]
    advanced_sampler(target, delta, noise_seed=8)
    assert torch.equal(advanced_sampler(target, delta)["samples"], first)


def test_options_chain_in_any_order(base, adapted, target):
    settings = [
        ("DeltaSchedule", {"end_percent": 0.7, "strength_start": 0.8}), ("DeltaReuse", {"every": 2}),
        ("DeltaMask", {"mask": torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(1))}),
        ("DeltaResolution", {"scale": 0.5}), ("DeltaLimits", {"parallel": 0.5}),
    ]  # fmt: skip
    results = []
    for order in (settings, settings[::-1]):
        delta = pair(base, adapted)
        for name, values in order:
            delta = option(name, delta, **values)
        results.append(advanced_sampler(target, delta, steps=6)["samples"])
    assert torch.equal(*results)


def test_combined_deltas_keep_their_own_options(base, adapted, target):
    other = with_lora(base, 6)
    halves = combine(pair(base, adapted, 0.5), pair(base, adapted, 0.5))
    whole = advanced_sampler(target, pair(base, adapted))["samples"]
    assert relative_error(advanced_sampler(target, halves)["samples"], whole) < 1e-4
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1
    parts = combine(
        option("DeltaMask", pair(base, adapted), mask=left), option("DeltaMask", pair(base, other), mask=1 - left)
    )
    chained = pair(base, other, delta=pair(base, adapted))
    found = advanced_sampler(target, parts, steps=1)["samples"]
    first = advanced_sampler(target, pair(base, adapted), steps=1)["samples"]
    second = advanced_sampler(target, pair(base, other), steps=1)["samples"]
    torch.testing.assert_close(found[..., :3], first[..., :3])
    torch.testing.assert_close(found[..., 5:], second[..., 5:])
    assert torch.equal(
        advanced_sampler(target, chained)["samples"],
        advanced_sampler(target, combine(pair(base, adapted), pair(base, other)))["samples"],
    )


def test_a_shared_source_is_evaluated_once(base, target):
    calls = {}
    source = counted(base, calls, "source")
    adapters = [counted(with_lora(base, seed), calls, f"adapted {seed}") for seed in (5, 6)]
    deltas = [pair(source, adapter) for adapter in adapters]
    expected = advanced_sampler(target, combine(pair(base, adapters[0]), pair(base.clone(), adapters[1])))["samples"]
    calls.clear()
    found = advanced_sampler(target, combine(*deltas), steps=4)["samples"]
    assert calls == {"source": 8, "adapted 5": 8, "adapted 6": 8}
    assert torch.equal(found, expected)
    # Seen at another size the source is another one.
    calls.clear()
    advanced_sampler(target, combine(deltas[0], option("DeltaResolution", deltas[1], scale=0.5)), steps=4)
    assert calls["source"] == 16


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_sde", "euler_cfg_pp"])
def test_autoguidance_is_a_delta_from_the_weak_model_to_the_target(base, target, sampler):
    expected = advanced_sampler(target, pair(base, target, 0.6), sampler)["samples"]
    calls = {}
    found = advanced_sampler(counted(target, calls, "target"), autoguidance(counted(base, calls, "weak"), 0.6), sampler)
    assert relative_error(found["samples"], expected) < 1e-5
    assert calls["weak"] == calls["target"]


def test_autoguidance_at_a_lower_resolution(target):
    weak = denoiser(lambda x, ratio: x * 0 - 1)
    strong = denoiser(lambda x, ratio: x * 0 + 1)
    found = advanced_sampler(strong, option("DeltaResolution", autoguidance(weak, 0.5), scale=0.5))["samples"]
    torch.testing.assert_close(found, torch.full((1, 4, 8, 8), 2.0))


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_sde"])
@pytest.mark.parametrize("steps", [8, 24, 50])
@pytest.mark.parametrize(("pair_guidance", "rows"), [("auto", 5), ("off", 4), ("kept", 8)])
def test_the_fast_preset(base, adapted, target, pair_guidance, rows, steps, sampler):
    """Four evaluations, of which none, one or all are guided: with 24 steps of Euler 1.17, 1.21 and 1.33 times."""
    calls = {}
    roles = [counted(patcher, calls, role) for patcher, role in ((base, "source"), (adapted, "adapted"))]
    delta = option("DeltaFast", pair(*roles), pair_guidance=pair_guidance)
    advanced_sampler(counted(target, calls, "target"), delta, sampler, steps=steps, scheduler="karras")
    per_step = 1 if sampler == "euler" else 2
    last_is_one = steps * per_step - (per_step - 1)
    assert calls == {"source": rows, "adapted": rows, "target": 2 * last_is_one}


def guided_between(delta, *interval):
    roles = ("source", "adapted")
    return delta.each(lambda d: replace(d, **{role: replace(getattr(d, role), guided=interval) for role in roles}))


@pytest.mark.parametrize("sampler", ["euler", "euler_cfg_pp"])
@pytest.mark.parametrize("two_models", [True, False])
def test_guidance_in_an_interval_is_that_of_the_cfg_there(base, adapted, target, sampler, two_models):
    """Outside of it is none. So it is of two models, and of two prompts of one, which are evaluated in one call."""
    rows = []
    adapted, other = (adapted, {}) if two_models else (base, {"adapted_positive": prompt(9)})

    def found(cfg, *intervals):
        rows.clear()
        delta = pair(base, adapted, cfg=cfg, **other)
        every = [guided_between(delta, *interval) for interval in intervals] or [delta]
        with seen(base, lambda x: rows.append(len(x))):
            samples = advanced_sampler(target, reduce(combine, every), sampler, steps=4)["samples"]
        return samples, sum(rows)

    (guided, all_rows), (bare, fewer) = found(5.0), found(1.0)
    for interval, expected in (((0.0, 1e6), guided), ((1e5, 1e6), bare)):
        assert torch.equal(found(5.0, interval)[0], expected)
    between, some = found(5.0, (1.0, 5.0))
    assert not torch.equal(between, guided) and not torch.equal(between, bare)
    assert fewer <= some <= all_rows and (fewer < some < all_rows) == (sampler == "euler")
    assert found(5.0, (0.0, 1e6), (1e5, 1e6))[1] == all_rows + fewer


@pytest.mark.parametrize(("lossy", "rows"), [(False, 5), (True, 8)])
def test_over_a_bridge_that_loses_something_the_fast_preset_guides_all(base, adapted, target, lossy, rows):
    """There each evaluation builds on the last."""
    calls = {}
    roles = [counted(patcher, calls, role) for patcher, role in ((base, "source"), (adapted, "adapted"))]
    there = torch.eye(4) * (torch.arange(4) > 0) if lossy else torch.eye(4)
    delta = option("DeltaBridge", pair(*roles), bridge=bridge((4, 8), (4, 8), there, there))
    advanced_sampler(target, option("DeltaFast", delta, pair_guidance="auto"), steps=24, scheduler="karras")
    assert calls == {"source": rows, "adapted": rows}


def test_the_fast_preset_keeps_the_guidance_of_a_weak_model(base):
    (weak,) = option("DeltaFast", autoguidance(base), pair_guidance="off")
    assert weak.source.cfg == 5.0 and weak.reuse.places


@pytest.mark.parametrize("name", ["DeltaSchedule", "DeltaColorGuidance"])
def test_a_window_that_ends_before_it_starts_is_refused(name):
    validate = node(name).validate_inputs
    assert validate(start_percent=0.2, end_percent=0.2) is True
    assert "at most end_percent" in validate(start_percent=0.6, end_percent=0.5)
    assert validate(start_percent=None, end_percent=0.5) is True, "a connected input is not known yet"


def test_what_is_for_pictures_is_refused_on_packed_latents():
    from .test_latents import Packed, Pictures, unusual_model

    packed = comfy.nested_tensor.NestedTensor([torch.zeros(1, 4, 8, 8), torch.zeros(1, 2, 3, 20)])
    source, goal = (unusual_model(seed, Pictures, Packed) for seed in (1, 2))
    delta = pair(source, goal)
    with pytest.raises(ValueError, match="Leave the Delta Mask out"):
        advanced_sampler(goal, option("DeltaMask", delta, mask=torch.ones(1, 8, 8)), latent_image={"samples": packed})


def test_one_prompt_for_all_and_one_of_its_own(base, target):
    """Conditioning that differs makes another branch even on one model."""
    calls = {}
    source = counted(base, calls, "model")
    delta = node("DeltaPair").execute(
        source_model=source, source_positive=POSITIVE, source_negative=NEGATIVE, adapted_model=source,
        adapted_positive=prompt(9), adapted_negative=NEGATIVE, cfg=5.0, strength=1.0,
    ).result[0]  # fmt: skip
    advanced_sampler(target, delta, steps=4)
    assert calls == {"model": 16}
