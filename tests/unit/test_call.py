"""The method without a host: what holds between its stages, asked of models that are plain functions."""

from dataclasses import replace

import pytest
import torch

from sampling.call import call
from sampling.delta import Branch, Delta, Deltas, add_all
from sampling.limits import Limits, limited
from sampling.noise_levels import NoiseLevels
from sampling.prediction import TARGET
from sampling.prepared_delta import PreparedDelta
from sampling.reuse import Reuse
from sampling.schedule import Schedule
from sampling.state_mapping import LatentMaps, ProjectedState, StateMapping

LEVELS = NoiseLevels(False, 0.03, 14.6)
SIGMAS = torch.tensor([4.0, 2.0, 1.0, 0.0])


def noise(seed=0, size=8):
    return torch.randn(2, 4, size, size, generator=torch.Generator().manual_seed(seed))


class Models:
    """Predicts what it is told for each name, twice where the unconditional part is asked for, and counts."""

    def __init__(self, with_uncond=False, **predictions):
        self.predictions, self.with_uncond, self.asked = predictions, with_uncond, []

    def __call__(self, requests):
        self.asked += [list(request.models) for request in requests]
        return {model: self.predict(model, request) for request in requests for model in request.models}

    def predict(self, model, request):
        told = self.predictions[model]
        denoised = told(request.x, request.sigma) if callable(told) else told
        return (denoised, 0.7 * denoised.flip(-1)) if self.with_uncond else (denoised,)


def prepared(delta=None, source="source", adapted="adapted", mapping=None, masks=(), **settings):
    delta = delta or Delta(Branch(None, None, None, 1.0), Branch(None, None, None, 1.0), **settings)
    mapping = mapping or StateMapping(LEVELS, (LEVELS, LEVELS))
    return PreparedDelta(delta, mapping, source, adapted, SIGMAS, lambda percent: 4 * (1 - percent), masks)


def called(deltas, models, x=None, sigma=2.0, states=None, combine=add_all, **more):
    x = noise(9) if x is None else x
    return call(deltas, [combine], states or {}, x, torch.full((2,), sigma), models, **more)


def predicted(*given, **more):
    return called(*given, **more).prediction


T, S, A = noise(1), noise(2), noise(3)


def same(latent):
    return latent


def difference(adapted, source):
    return adapted - source


def test_the_formula():
    models = Models(target=T, source=S, adapted=A)
    (found,) = predicted([prepared(strength=0.5)], models)
    assert torch.equal(found, T + 0.5 * (A - S))
    assert models.asked == [[TARGET], ["source", "adapted"]]


def test_limits_in_their_order_then_masks_then_strength():
    limits = Limits(parallel=0.3, norm_limit=0.2, band="low")
    mask = (torch.arange(8) % 3 == 0).float().expand(1, 1, 8, 8)
    delta = prepared(limits=(limits,), masks=(mask,), strength=2.0)
    (found,) = predicted([delta], Models(target=T, source=S, adapted=A))
    torch.testing.assert_close(found, T + 2.0 * (limited(A - S, T, limits) * mask))
    one_by_one = A - S
    for each in (Limits(band="low"), Limits(parallel=0.3), Limits(norm_limit=0.2)):
        one_by_one = limited(one_by_one, T, each)
    torch.testing.assert_close(limited(A - S, T, limits), one_by_one)
    for wrong in ([2, 0, 1], [1, 0, 2], [0, 2, 1]):
        other = A - S
        for k in wrong:
            other = limited(other, T, [Limits(band="low"), Limits(parallel=0.3), Limits(norm_limit=0.2)][k])
        assert not torch.allclose(other, one_by_one, atol=1e-3)
    assert not torch.allclose(limited((A - S) * mask, T, limits), limited(A - S, T, limits) * mask, atol=1e-3)


def test_limits_of_a_second_delta_stand_beside_the_target_not_the_sum():
    limits = Limits(parallel=0.0, norm_limit=0.3)
    models = Models(target=T, source=S, adapted=A, other=noise(4))
    (found,) = predicted([prepared(), prepared(adapted="other", limits=(limits,))], models)
    torch.testing.assert_close(found, T + (A - S) + limited(noise(4) - S, T, limits))


def halved(latent):
    return torch.nn.functional.avg_pool2d(latent, 2)


def doubled(latent):
    return torch.nn.functional.interpolate(latent, scale_factor=2, mode="bilinear")


HALF_MAPS = LatentMaps(halved, lambda e: 2 * halved(e), lambda a, s: doubled(a - s))


def test_a_mapping_projects_the_state_once_a_call():
    projected = []

    def counted(latent):
        projected.append(latent)
        return halved(latent)

    mapping = StateMapping(LEVELS, (LEVELS, LEVELS), lambda size: replace(HALF_MAPS, clean_to_source=counted))
    models = Models(target=T, source=noise(2, 4), adapted=noise(3, 4), other=noise(4, 4))
    predicted([prepared(mapping=mapping), prepared(mapping=mapping, adapted="other")], models)
    assert len(projected) == 1
    assert models.asked == [[TARGET], ["source", "adapted"], ["other"]]


def test_branches_of_different_noise_levels_are_asked_at_states_of_their_own():
    flow = NoiseLevels(True, 0.001, 1.0)
    mapping = StateMapping(LEVELS, (LEVELS, flow), lambda size: HALF_MAPS)
    state = ProjectedState(mapping, noise(9), torch.full((2,), 2.0), (T,))
    (x, sigma), (flow_x, flow_sigma) = state.for_branch(LEVELS), state.for_branch(flow)
    torch.testing.assert_close(flow_sigma, sigma / (1 + sigma))
    torch.testing.assert_close(flow_x, x / (1 + sigma).reshape(-1, 1, 1, 1))
    models = Models(target=T, source=noise(2, 4), adapted=noise(3, 4))
    predicted([prepared(mapping=mapping)], models)
    assert models.asked == [[TARGET], ["source"], ["adapted"]]


HELD = torch.tensor([1.0, 1.0, 1.0, 0.0]).reshape(1, 4, 1, 1)
LOSSY_MAPS = LatentMaps(lambda clean: HELD * clean, same, lambda a, s: HELD * (a - s))
LOSSY = StateMapping(LEVELS, (LEVELS, LEVELS), lambda size: LOSSY_MAPS, lossy=True)


class Noted(Models):
    """Models that note the state in which each was asked."""

    def __init__(self, **predictions):
        super().__init__(**predictions)
        self.seen = {}

    def predict(self, model, request):
        self.seen.setdefault(model, []).append(request.x)
        return super().predict(model, request)


@pytest.mark.parametrize("strength", [0.5, -0.5])
def test_over_a_lossy_bridge_each_model_sees_its_own_state(strength):
    """The target without the delta, and one branch with all of it: adapted, or source where it is negative."""
    delta, x, states = prepared(mapping=LOSSY, strength=strength), noise(7), None
    models = Noted(target=T, source=S, adapted=A)
    leads_to, other = ("adapted", "source") if strength > 0 else ("source", "adapted")
    mask = torch.zeros(2, 1, 8, 8)
    mask[..., :4] = 1
    for share in (0, 1):
        result = called([delta], models, x, states=states, mask=mask)
        assert torch.equal(result.prediction[0], T + strength * HELD * (A - S))
        at = {model: seen[-1] for model, seen in models.seen.items()}
        torch.testing.assert_close(at[TARGET], x - share * mask * strength * HELD * (A - S))
        torch.testing.assert_close(at[other], HELD * T + (at[TARGET] - T))
        torch.testing.assert_close(at[leads_to], at[other] + share * mask * (1 if strength > 0 else -1) * (A - S))
        states = result.states


def test_over_a_lossy_bridge_two_deltas_of_one_pair_see_the_states_of_their_sum():
    deltas, states = [prepared(mapping=LOSSY, strength=strength) for strength in (-1.0, 0.4)], None
    models = Noted(target=T, source=S, adapted=A)
    for _ in range(2):
        states = called(deltas, models, states=states).states
    assert len(models.seen["adapted"]) == 2  # without the delta, once a call
    assert len(models.seen["source"]) == 3  # with all of it, once for each delta


def test_a_delta_that_did_not_act_is_not_in_the_latent():
    delta = prepared(mapping=LOSSY, schedules=(Schedule(0.4, 1.0), Schedule(0.0, 0.6)))
    models, states = Noted(target=T, source=S, adapted=A), {}
    for sigma in (2.0, 4.0, 2.0):
        states = called([delta], models, states=states, sigma=sigma).states
    assert len(models.seen["adapted"]) == 2
    assert all(torch.equal(x, noise(9)) for x in models.seen[TARGET])


def test_an_exact_mapping_keeps_no_state():
    mapping = StateMapping(LEVELS, (LEVELS, LEVELS), lambda size: LatentMaps(same, same, difference))
    delta, models = prepared(mapping=mapping), Noted(target=T, source=S, adapted=A)
    result = called([delta], models)
    (state,) = result.states.values()
    assert state.in_source is None and state.applied is None
    again = called([delta], models, states=result.states)
    assert torch.equal(again.prediction[0], result.prediction[0])
    assert all(torch.equal(*seen) for seen in models.seen.values())


def test_a_state_is_left_as_it_is():
    """What a call returns is a new state: the same call again gives the same."""
    delta = prepared(mapping=LOSSY, reuse=Reuse(every=2))
    models = Models(target=T, source=S, adapted=A)
    first = called([delta], models)
    later = [called([delta], models, sigma=1.0, states=first.states) for _ in range(2)]
    assert torch.equal(later[0].prediction[0], later[1].prediction[0])
    assert [each.contributions[delta].evaluated for each in (first, *later)] == [True, False, False]


def test_a_delta_that_does_not_act_asks_nobody():
    models = Models(target=T)
    assert torch.equal(predicted([prepared(strength=0.0)], models)[0], T)
    assert models.asked == [[TARGET]]


def test_equal_branches_are_asked_once():
    models = Models(target=T, source=S)
    assert torch.equal(predicted([prepared(adapted="source")], models)[0], T)
    assert models.asked == [[TARGET], ["source"]]


def test_without_an_adapted_model_the_target_takes_its_place():
    delta = Delta(Branch(None, None, None, 1.0), None)
    assert torch.equal(predicted([prepared(delta, adapted=None)], Models(target=T, source=S))[0], T + (T - S))


def test_another_rule_gets_the_terms_of_all_deltas():
    seen = []

    def mean(prediction, terms):
        seen.append(len(terms))
        return prediction + sum(terms) / len(terms)

    models = Models(target=T, source=S, adapted=A, other=noise(4))
    deltas = [prepared(), prepared(adapted="other", strength=2.0)]
    (found,) = predicted(deltas, models, combine=mean)
    torch.testing.assert_close(found, T + ((A - S) + 2 * (noise(4) - S)) / 2)
    assert seen == [2]


def test_several_deltas_keep_their_rule_and_themselves():
    branch = Branch(None, None, None, 1.0)
    some = Deltas((Delta(branch, branch), Delta(branch, None)), combine=max)
    assert some.each(lambda delta: delta) is some
    assert some.and_also(Deltas((Delta(branch, None),))).combine is max
    assert len(some.each(lambda delta: Delta(branch, branch, 2.0)).deltas) == 2
