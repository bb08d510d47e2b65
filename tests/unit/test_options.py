"""Schedules, limits and reuse, without a host."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sampling.crossing import Crossing
from sampling.delta import Delta
from sampling.in_run import DeltaInRun
from sampling.limits import Limits, along, limited, low_pass
from sampling.noise_levels import NoiseLevels
from sampling.reuse import Held, Reuse, share_of_noise
from sampling.schedule import CURVES, Progress, Schedule

FLOW = NoiseLevels(True, 0.001, 1.0)
NOTHING = torch.zeros(1)
percents = st.floats(0, 1, width=32)


def in_run(delta, sigmas):
    crossing = Crossing(FLOW, (FLOW, FLOW))
    return DeltaInRun(delta, crossing, None, None, torch.tensor(sigmas), lambda percent: 1 - percent)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(percents, st.sampled_from(list(CURVES)))
def test_a_schedule_of_ones_is_exactly_one(percent, curve):
    assert Schedule(curve=curve).factor(percent) == 1.0


@pytest.mark.parametrize("curve", list(CURVES))
def test_a_curve_leads_from_start_to_end(curve):
    schedule = Schedule(0.2, 0.8, curve, 2.0, -1.0)
    end = 2.0 if curve == "constant" else -1.0
    assert schedule.factor(0.2) == pytest.approx(2.0)
    assert schedule.factor(0.8) == pytest.approx(end)
    assert schedule.factor(0.5) == pytest.approx((2.0 + end) / 2)
    assert schedule.factor(0.19) == schedule.factor(0.81) == 0.0
    values = [schedule.factor(0.2 + 0.06 * k) for k in range(11)]
    assert values == sorted(values, reverse=True)


def test_a_sigmoid_turns_faster_in_the_middle_than_a_cosine():
    sigmoid, cosine = (Schedule(curve=curve, strength_start=0.0) for curve in ("sigmoid", "cosine"))
    assert sigmoid.factor(0.3) < cosine.factor(0.3)
    assert sigmoid.factor(0.7) > cosine.factor(0.7)


@given(percents)
def test_progress_inverts_the_models_own_percentages(percent):
    progress = Progress(lambda p: 14.6 * (1 - p) ** 3)
    assert progress.percent(14.6 * (1 - percent) ** 3) == pytest.approx(percent, abs=2e-3)


def test_schedules_multiply():
    schedules = (Schedule(0.0, 0.5), Schedule(curve="linear", strength_start=0.0, strength_end=1.0))
    run = in_run(Delta(None, None, 2.0, schedules=schedules), [1.0, 0.5, 0.0])
    assert run.strength(0.75) == pytest.approx(2.0 * 0.25)
    assert run.strength(0.25) == 0.0


def test_the_default_limits_change_nothing():
    delta, prediction = random(2, 4, 8, 8), random(2, 4, 8, 8, seed=1)
    assert torch.equal(limited(delta, prediction, Limits()), delta)


def test_the_parallel_part_is_taken_out_sample_by_sample():
    prediction = random(2, 4, 8, 8)
    across = random(2, 4, 8, 8, seed=1)
    across = across - along(across, prediction)
    delta = across + prediction * torch.tensor([0.7, -0.3]).reshape(2, 1, 1, 1)
    torch.testing.assert_close(limited(delta, prediction, Limits(parallel=0.0)), across)
    half = limited(delta, prediction, Limits(parallel=0.5))
    torch.testing.assert_close(along(half, prediction), along(delta, prediction) / 2)


def test_the_norm_is_limited_sample_by_sample():
    prediction = random(2, 4, 8, 8)
    delta = torch.stack([prediction[1], prediction[0]]) * torch.tensor([3.0, 0.1]).reshape(2, 1, 1, 1)
    found = limited(delta, prediction, Limits(norm_limit=0.5))
    sizes = found.flatten(1).norm(dim=1) / prediction.flatten(1).norm(dim=1)
    assert sizes[0].item() == pytest.approx(0.5, rel=1e-4)
    assert torch.equal(found[1], delta[1])


def test_bands_split_a_delta():
    delta, prediction = random(1, 4, 16, 12), random(1, 4, 16, 12, seed=1)
    low, high = (limited(delta, prediction, Limits(band=band, cutoff=0.3)) for band in ("low", "high"))
    torch.testing.assert_close(low + high, delta)
    flat = torch.full((1, 4, 16, 16), 0.7)
    torch.testing.assert_close(low_pass(flat, 0.25), flat)
    checks = flat * (torch.arange(16) % 2 * 2 - 1)
    assert low_pass(checks, 0.25).abs().max() < 0.01
    wave = torch.cos(torch.arange(16) * 2 * torch.pi * 2 / 16).expand(1, 4, 16, 16)
    torch.testing.assert_close(low_pass(wave, 0.25), wave / 2, rtol=0.02, atol=1e-5)
    video = random(1, 4, 3, 9, 13)
    assert limited(video, video, Limits(band="high")).shape == video.shape


class Counting:
    def __init__(self, values=None):
        self.calls = []
        self.values = values

    def at(self, held, sigma, step, seen=NOTHING):
        def evaluate():
            self.calls.append(sigma)
            return (torch.tensor([float(len(self.calls) if self.values is None else self.values(sigma))]),)

        (part,) = held.at(sigma, step, seen, evaluate)
        return part.item()


def test_every_third_step():
    count, held = Counting(), Held(Reuse(every=3))
    found = [count.at(held, 10.0 - step, step) for step in range(1, 9)]
    assert found == [1, 1, 1, 2, 2, 2, 3, 3]


def test_two_calls_in_a_step_are_one():
    """Second-order samplers call at the next level, and there again in the next step."""
    count, held = Counting(), Held(Reuse(every=2))
    for sigma, step in [(8, 1), (6, 2), (6, 2), (4, 3), (4, 3), (2, 4), (2, 4), (1, 5)]:
        count.at(held, float(sigma), step)
    assert count.calls == [8.0, 4.0, 1.0]


def test_a_threshold_on_what_has_changed():
    count, held = Counting(), Held(Reuse(threshold=0.25))
    seen = [torch.tensor([value]) for value in (1.0, 1.1, 1.2, 1.3, 1.31, 2.0)]
    found = [count.at(held, 6.0 - step, step, value) for step, value in enumerate(seen, start=1)]
    assert found == [1, 1, 1, 2, 2, 3]
    both = Held(Reuse(threshold=100.0, every=2))
    count = Counting()
    assert [count.at(both, 6.0 - step, step, value) for step, value in enumerate(seen, start=1)] == [1, 1, 2, 2, 3, 3]


def test_a_flow_is_extrapolated_over_its_ratio_of_noise_to_signal():
    """From noise alone, an infinite ratio, there is no line; later it is straight over sigma / (1 - sigma)."""
    sigmas = [1.0, 0.8, 0.5, 0.25, 0.2, 0.1]
    run = in_run(Delta(None, None, reuse=Reuse(every=2, extrapolate=True)), [*sigmas, 0.0])

    def at(sigma):
        value = 3 * sigma / (1 - sigma) if sigma < 1 else 9.0
        return run.kept(sigma, NOTHING, lambda: (torch.tensor([value]),))

    assert [at(sigma)[0].item() for sigma in sigmas] == pytest.approx([9.0, 9.0, 3.0, 3.0, 0.75, 1 / 3])


def test_extrapolation_follows_a_straight_line():
    count, held = Counting(lambda sigma: 5 - 2 * sigma), Held(Reuse(every=2, extrapolate=True))
    found = [count.at(held, float(8 - step), step) for step in range(1, 7)]
    # With one evaluation there is no line yet.
    assert found[1] == found[0]
    assert found[2:] == pytest.approx([5 - 2 * (8 - step) for step in range(3, 7)])
    assert count.calls == [7.0, 5.0, 3.0]


@pytest.mark.parametrize("steps", [3, 8, 24, 50])
@pytest.mark.parametrize("calls_a_step", [1, 2])
def test_the_steps_nearest_to_its_places_evaluate_once(steps, calls_a_step):
    """Samplers of second order call at the end of a step as well. An infinite place is the first call."""
    ratios = torch.logspace(1, -1.5, steps).tolist()
    count, held = Counting(), Held(Reuse(places=(math.inf, 3.0, 1.0)), ratios)
    for step, pair in enumerate(zip(ratios, [*ratios[1:], ratios[-1]], strict=True), start=1):
        for ratio in pair[:calls_a_step]:
            count.at(held, ratio, step)
    nearest = {min(ratios, key=lambda ratio: abs(math.log(ratio / place))) for place in (10.0, 3.0, 1.0)}
    assert count.calls == sorted(nearest, reverse=True)


def test_a_run_that_begins_below_a_place_evaluates_there_at_once():
    """As img2img does."""
    count, held = Counting(), Held(Reuse(places=(10.0, 1.5)), [1.0, 0.5])
    assert [count.at(held, 1.0, 1), count.at(held, 0.5, 2)] == pytest.approx([1, 2 / 3])
    assert count.calls == [1.0]


def test_between_its_places_a_delta_fades_as_the_share_of_noise():
    """So does that of two constant pictures seen through noise as large as they are; without noise it is gone."""
    ratios = (5.0, 2.0, 0.5, 0.25, 0.0)
    count, held = Counting(lambda ratio: 6 * ratio / (1 + ratio)), Held(Reuse(places=(math.inf, 0.6)), ratios)
    found = [count.at(held, ratio, step) for step, ratio in enumerate(ratios, start=1)]
    assert found == pytest.approx([5.0, 4.0, 2.0, 1.2, 0.0])
    assert count.calls == [5.0, 0.5]
    assert share_of_noise(float("inf")) == 1.0


@pytest.mark.parametrize(("loses", "later"), [(False, 2.0), (True, 5.0)])
def test_a_delta_between_states_of_their_own_kind_does_not_fade(loses, later):
    """There the adapted model has seen what it found, and finds it again without any noise."""
    crossing = Crossing(FLOW, (FLOW, FLOW), loses=loses)
    delta = Delta(None, "adapted", reuse=Reuse(places=(math.inf, 0.01)))
    run = DeltaInRun(delta, crossing, None, "adapted", torch.tensor([0.8, 0.3, 0.0]), lambda percent: 1 - percent)
    found = [run.kept(sigma, NOTHING, lambda: (torch.tensor([5.0]),))[0].item() for sigma in (0.8, 0.32)]
    assert found == pytest.approx([5.0, later])
