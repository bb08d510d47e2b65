"""Schedules, limits and reuse, without a host."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sampling.delta import Delta
from sampling.limits import Limits, along, limited, low_pass
from sampling.noise_levels import NoiseLevels
from sampling.prepared_delta import PreparedDelta
from sampling.reuse import Reuse, ReuseController, ReuseState, share_of_noise
from sampling.schedule import CURVES, Progress, Schedule
from sampling.state_mapping import StateMapping

FLOW = NoiseLevels(True, 0.001, 1.0)
EDM = NoiseLevels(False, 0.001, 100.0)  # its sigma is the noise-to-signal ratio
PREDICTION = torch.zeros(1)
percents = st.floats(0, 1, width=32)


def prepared(delta, sigmas):
    mapping = StateMapping(FLOW, (FLOW, FLOW))
    return PreparedDelta(delta, mapping, None, None, torch.tensor(sigmas), lambda percent: 1 - percent)


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
    run = prepared(Delta(None, None, 2.0, schedules=schedules), [1.0, 0.5, 0.0])
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


class Run:
    """A delta in a run with the schedule `sigmas`: its values where it was evaluated, and at which levels."""

    def __init__(self, reuse, sigmas, value=None, levels=EDM, fades=True):
        self.controller = ReuseController(reuse, torch.tensor([*map(float, sigmas), 0.0]), levels)
        self.value, self.fades, self.state, self.evaluated = value, fades, ReuseState(), []

    def at(self, sigma, prediction=PREDICTION):
        self.state, due = self.controller.observe(self.state, float(sigma), prediction)
        if not due:
            return self.controller.value(self.state, self.fades)[0].item()
        self.evaluated.append(sigma)
        value = self.value(sigma) if self.value else len(self.evaluated)
        self.state = self.controller.keep(self.state, (torch.tensor([float(value)]),))
        return value


def test_every_third_step():
    sigmas = range(9, 1, -1)
    run = Run(Reuse(every=3), sigmas)
    assert [run.at(sigma) for sigma in sigmas] == [1, 1, 1, 2, 2, 2, 3, 3]


def test_two_calls_in_a_step_are_one():
    """Second-order samplers call at the next level, and there again in the next step."""
    run = Run(Reuse(every=2), [8, 6, 4, 2, 1])
    for sigma in (8, 6, 6, 4, 4, 2, 2, 1):
        run.at(sigma)
    assert run.evaluated == [8, 4, 1]


def test_a_threshold_on_what_has_changed():
    predictions = [torch.tensor([value]) for value in (1.0, 1.1, 1.2, 1.3, 1.31, 2.0)]
    run = Run(Reuse(threshold=0.25), range(6, 0, -1))
    assert [run.at(6 - step, each) for step, each in enumerate(predictions)] == [1, 1, 1, 2, 2, 3]
    both = Run(Reuse(threshold=100.0, every=2), range(6, 0, -1))
    assert [both.at(6 - step, each) for step, each in enumerate(predictions)] == [1, 1, 2, 2, 3, 3]


def test_a_state_answers_the_same_question_in_the_same_way():
    """Asking changes nothing: a sampler may repeat a call, and a failed call leaves the run as it was."""
    run = Run(Reuse(every=2, extrapolate=True), [8, 6, 4], lambda sigma: 2 * sigma)
    for sigma in (8, 6, 4):
        run.at(sigma)
    (state, due), (_, due_again) = (run.controller.observe(run.state, 3.0, PREDICTION) for _ in range(2))
    assert (due, due_again) == (False, False)
    assert [run.controller.value(state, True)[0].item() for _ in range(2)] == [6.0, 6.0]


def test_a_flow_is_extrapolated_over_its_noise_to_signal_ratio():
    """From noise alone, an infinite ratio, there is no line; later it is straight over sigma / (1 - sigma)."""
    sigmas = [1.0, 0.8, 0.5, 0.25, 0.2, 0.1]

    def value(sigma):
        return 3 * sigma / (1 - sigma) if sigma < 1 else 9.0

    run = Run(Reuse(every=2, extrapolate=True), sigmas, value, FLOW)
    assert [run.at(sigma) for sigma in sigmas] == pytest.approx([9.0, 9.0, 3.0, 3.0, 0.75, 1 / 3])


def test_extrapolation_follows_a_straight_line():
    sigmas = range(7, 1, -1)
    run = Run(Reuse(every=2, extrapolate=True), sigmas, lambda sigma: 5 - 2 * sigma)
    found = [run.at(sigma) for sigma in sigmas]
    # With one evaluation there is no line yet.
    assert found[1] == found[0]
    assert found[2:] == pytest.approx([5 - 2 * sigma for sigma in sigmas[2:]])
    assert run.evaluated == [7, 5, 3]


def test_a_level_that_is_evaluated_twice_leaves_one_point_of_the_line():
    """Second-order samplers evaluate a level at the end of one step and at the start of the next."""
    values = iter([1.0, 2.0, 3.0])
    run = Run(Reuse(threshold=0.1, extrapolate=True), [8, 4, 2], lambda sigma: next(values))
    for sigma, prediction in ((8, 1.0), (4, 2.0), (4, 3.0)):
        run.at(sigma, torch.tensor([prediction]))
    assert [ratio for ratio, _ in run.state.values] == [8.0, 4.0]
    assert run.at(2, torch.tensor([3.0])) == pytest.approx(3.0 + (3.0 - 1.0) * (2.0 - 4.0) / (4.0 - 8.0))


@pytest.mark.parametrize("steps", [3, 8, 24, 50])
@pytest.mark.parametrize("calls_a_step", [1, 2])
def test_the_steps_nearest_to_its_places_evaluate_once(steps, calls_a_step):
    """Samplers of second order call at the end of a step as well. An infinite place is the first call."""
    ratios = torch.logspace(1, -1.5, steps).tolist()
    run = Run(Reuse(places=(math.inf, 3.0, 1.0)), ratios)
    for pair in zip(ratios, [*ratios[1:], ratios[-1]], strict=True):
        for ratio in pair[:calls_a_step]:
            run.at(ratio)
    nearest = {min(ratios, key=lambda ratio: abs(math.log(ratio / place))) for place in (10.0, 3.0, 1.0)}
    assert run.evaluated == sorted(nearest, reverse=True)


def test_a_run_that_begins_below_a_place_evaluates_there_at_once():
    """As img2img does."""
    run = Run(Reuse(places=(10.0, 1.5)), [1.0, 0.5])
    assert [run.at(1.0), run.at(0.5)] == pytest.approx([1, 2 / 3])
    assert run.evaluated == [1.0]


def test_between_its_places_a_delta_fades_as_the_share_of_noise():
    """So does that of two constant images seen through noise as large as they are; without noise it is zero."""
    ratios = (5.0, 2.0, 0.5, 0.25, 0.0)
    run = Run(Reuse(places=(math.inf, 0.6)), ratios, lambda ratio: 6 * ratio / (1 + ratio))
    assert [run.at(ratio) for ratio in ratios] == pytest.approx([5.0, 4.0, 2.0, 1.2, 0.0])
    assert run.evaluated == [5.0, 0.5]
    assert share_of_noise(float("inf")) == 1.0


def test_where_noise_rises_a_place_counts_as_well_and_little_is_guessed():
    """As in unsampling: from next to no noise a delta grows by a factor of two at most without an evaluation."""
    ratios = [0.001, 0.1, 0.15, 0.3, 0.5, 0.8, 1.2, 2.0, 3.0, 6.0]
    run = Run(Reuse(places=(4.0, 0.7)), ratios)
    for ratio in ratios:
        run.at(ratio)
    assert run.evaluated == [0.001, 0.1, 0.3, 1.2, 6.0]


def test_a_restart_evaluates_where_it_jumps_back_over_a_place():
    run = Run(Reuse(places=(4.0, 0.7)), [8.0, 4.0, 2.0, 0.7, 0.3])
    for ratio in (8.0, 4.0, 2.0, 0.7, 0.3, 2.0, 1.0, 0.7, 0.3):
        run.at(ratio)
    assert run.evaluated == [8.0, 4.0, 0.7, 2.0, 0.7]


@pytest.mark.parametrize(("fades", "later"), [(True, 2.0), (False, 5.0)])
def test_over_a_lossy_bridge_a_delta_does_not_fade(fades, later):
    """There the adapted model has seen what it found, and finds it again without any noise."""
    run = Run(Reuse(places=(math.inf, 0.01)), [0.8, 0.3], lambda sigma: 5.0, FLOW, fades)
    assert [run.at(sigma) for sigma in (0.8, 0.32)] == pytest.approx([5.0, later])
