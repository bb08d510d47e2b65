"""The method without a host: what holds between its stages, asked of models that are plain functions."""

import pytest
import torch

from sampling.call import TARGET, Predicted, call
from sampling.crossing import Crossing, LatentMaps, Seen
from sampling.delta import Branch, Delta, Deltas, add_all
from sampling.in_run import DeltaInRun
from sampling.limits import Limits, limited
from sampling.noise_levels import NoiseLevels
from sampling.resize import with_detail
from sampling.reuse import Held, Reuse
from sampling.trust import Drawn, Trust, without_doubt

LEVELS = NoiseLevels(False, 0.03, 14.6)
SIGMAS = torch.tensor([4.0, 2.0, 1.0, 0.0])


def noise(seed=0, size=8):
    return torch.randn(2, 4, size, size, generator=torch.Generator().manual_seed(seed))


class Models:
    """Predicts what it is told for each name, twice where the unconditional part is asked for, and counts.

    `guidance` is what of it guidance adds, by name.
    """

    def __init__(self, with_uncond=False, guidance=None, **predictions):
        self.predictions, self.with_uncond, self.asked = predictions, with_uncond, []
        self.guidance = guidance or {}

    def __call__(self, requests):
        self.asked.append([who for who, *_ in requests])
        found = []
        for who, x, sigma in requests:
            said = self.predictions[who]
            denoised = said(x, sigma) if callable(said) else said
            parts = (denoised, 0.7 * denoised.flip(-1)) if self.with_uncond else (denoised,)
            found.append(Predicted(parts, denoised - self.guidance[who] if who in self.guidance else None))
        return found


def in_run(delta=None, source="source", adapted="adapted", maps=None, masks=(), loses=False, misleads=0.0, **settings):
    delta = delta or Delta(Branch(None, None, None, 1.0), Branch(None, None, None, 1.0), **settings)
    crossing = Crossing(LEVELS, (LEVELS, LEVELS), maps, loses=loses, misleads=misleads)
    return DeltaInRun(delta, crossing, source, adapted, SIGMAS, lambda percent: 4 * (1 - percent), masks)


def mixed(deltas, models, x=None, sigma=2.0, **more):
    return call(deltas, [add_all], noise(9) if x is None else x, torch.full((2,), sigma), models, **more)[0]


T, S, A = noise(1), noise(2), noise(3)


def same(latent):
    return latent


def difference(adapted, source):
    return adapted - source


def test_the_formula():
    models = Models(target=T, source=S, adapted=A)
    (found,) = mixed([in_run(strength=0.5)], models)
    assert torch.equal(found, T + 0.5 * (A - S))
    assert models.asked == [[TARGET], ["source", "adapted"]]


def test_limits_in_their_order_then_masks_then_strength():
    limits = Limits(parallel=0.3, norm_limit=0.2, band="low")
    mask = (torch.arange(8) % 3 == 0).float().expand(1, 1, 8, 8)
    (found,) = mixed([in_run(limits=(limits,), masks=(mask,), strength=2.0)], Models(target=T, source=S, adapted=A))
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
    (found,) = mixed([in_run(), in_run(adapted="other", limits=(limits,))], models)
    torch.testing.assert_close(found, T + (A - S) + limited(noise(4) - S, T, limits))


def turned(latent):
    """A change of colours."""
    return latent.flip(1) + 0.5


HIGH = 12.0  # at this noise all is guessed
WHOLLY = torch.ones(2)  # doubtful


def test_what_is_doubtful_is_drawn_by_the_target_and_then_limited_each_part_for_itself():
    limits, trust = Limits(norm_limit=0.1), Trust()
    models = Models(with_uncond=True, target=T, source=S, adapted=turned(S))
    parts = mixed([in_run(limits=(limits,), trust=trust)], models, sigma=HIGH)
    uncond = [0.7 * each.flip(-1) for each in (T, S, turned(S))]
    for found, (t, s, a) in zip(parts, ((T, S, turned(S)), uncond), strict=True):
        drawn, recoloured = without_doubt(Drawn(t, s, a), WHOLLY)
        assert torch.equal(drawn, t)
        torch.testing.assert_close(found, t + limited(recoloured - drawn, t, limits))


@pytest.mark.parametrize("loses", [False, True])
def test_a_pair_that_knows_all_names_is_asked_about_them_once(loses):
    """What follows would be no evidence: over latents that are the same its states hold what the delta added."""
    maps = LatentMaps(same, same, same, difference) if loses else None
    delta, sigma = in_run(trust=Trust(), loses=loses, maps=maps), torch.full((2,), HIGH)
    asked = []
    for source in (T, S, S):
        models = Models(target=T, source=source, adapted=turned(source))
        *_, (term,) = call([delta], [add_all], noise(9), sigma, models)
        delta.note(term, sigma, T)
        asked.append(term.doubt is not None)
    assert asked == [True, loses, loses]
    assert (delta.doubt.share > 0).all() == loses


@pytest.mark.parametrize("taken_off", [False, True])
def test_over_a_way_that_misleads_guidance_tells_whether_a_name_is_known(taken_off):
    maps = LatentMaps(same, same, same, difference)
    plain, styled = ("adapted", "source") if taken_off else ("source", "adapted")
    for there, doubtful in ((noise(4), 0), (noise(5), 1)):
        guidance = {plain: noise(4).flip(1), styled: noise(4), TARGET: there}
        models = Models(guidance=guidance, **{plain: S, styled: turned(S), TARGET: T})
        delta = in_run(strength=-1.0 if taken_off else 1.0, trust=Trust(), loses=True, maps=maps, misleads=100.0)
        *_, (term,) = call([delta], [add_all], noise(9), torch.full((2,), HIGH), models)
        assert (term.doubt.guessed == doubtful).all()


def test_a_shape_is_not_doubted():
    trusting = mixed([in_run(trust=Trust())], Models(target=T, source=S, adapted=A), sigma=HIGH)
    assert torch.equal(trusting[0], T + (A - S))


def halved(latent):
    return torch.nn.functional.avg_pool2d(latent, 2)


def doubled(latent):
    return torch.nn.functional.interpolate(latent, scale_factor=2, mode="bilinear")


HALF = LatentMaps(halved, halved, lambda e: 2 * halved(e), lambda a, s: doubled(a - s), lambda z: doubled(halved(z)))


def test_a_pair_that_sees_coarser_pixels_is_not_doubted():
    s = noise(2, 4)
    (found,) = mixed([in_run(maps=HALF, trust=Trust())], Models(target=T, source=s, adapted=turned(s)), sigma=HIGH)
    expected = with_detail(doubled(turned(s) - s), doubled(halved(T) - s), T, HALF.coarse)
    torch.testing.assert_close(found, T + expected)


def test_the_way_to_the_pair_is_gone_once_a_call():
    ways = []

    def counted(latent):
        ways.append(latent)
        return halved(latent)

    maps = LatentMaps(counted, HALF.change_to_source, HALF.noise_to_source, HALF.delta_to_target, HALF.coarse)
    models = Models(target=T, source=noise(2, 4), adapted=noise(3, 4), other=noise(4, 4))
    crossing = Crossing(LEVELS, (LEVELS, LEVELS), maps)
    deltas = [in_run(), in_run(adapted="other")]
    for delta in deltas:
        delta.crossing = crossing
    mixed(deltas, models)
    assert len(ways) == 1
    assert models.asked == [[TARGET], ["source", "adapted"], ["other"]]


def test_what_one_level_sees_is_what_another_mixes_anew():
    flow = NoiseLevels(True, 0.001, 1.0)
    crossing = Crossing(LEVELS, (LEVELS, flow), HALF)
    seen = Seen(crossing, noise(9), torch.full((2,), 2.0), T)
    (x, sigma), (flow_x, flow_sigma) = seen.by(LEVELS), seen.by(flow)
    torch.testing.assert_close(flow_sigma, sigma / (1 + sigma))
    torch.testing.assert_close(flow_x, x / (1 + sigma).reshape(-1, 1, 1, 1))


@pytest.mark.parametrize("strength", [0.5, -0.5])
def test_a_change_of_colours_is_taken_from_the_state_of_each_kind(strength):
    """What is put on stands in the adapted model's state alone, what is taken off in all but the source's."""
    states = {}

    def note(name, said):
        def model(x, sigma):
            states[name] = x
            return said

        return model

    models = Models(**{name: note(name, said) for name, said in (("target", T), ("source", S), ("adapted", turned(S)))})
    delta, x, sigma = in_run(strength=strength, trust=Trust()), noise(9), torch.full((2,), HIGH)
    _, target, (term,) = call([delta], [add_all], x, sigma, models)
    assert all(torch.equal(seen, x) for seen in states.values())
    delta.note(term, sigma, target[0])
    mask = torch.zeros(2, 1, 8, 8)
    mask[..., :4] = 1
    mixed([delta], models, x, sigma=HIGH, mask=mask)
    bare, (own, other) = x - term.added[0] * mask, ("source", "adapted")[:: 1 if strength > 0 else -1]
    torch.testing.assert_close(states["target"], bare)
    torch.testing.assert_close(states[own], bare)
    torch.testing.assert_close(states[other], bare + (1 if strength > 0 else -1) * term.found[0])


def test_what_goes_beyond_strength_1_is_seen_by_the_pair():
    """Else a strong delta would never find that the picture has the style already."""
    sigma, models = torch.full((2,), HIGH), Models(target=T, source=S, adapted=turned(S))
    for strengths in ((0.5,), (1.0,), (4.0,), (3.0, 1.0)):
        deltas = [in_run(strength=strength, trust=Trust()) for strength in strengths]
        for delta in deltas[1:]:
            delta.crossing = deltas[0].crossing
        _, _, terms = call(deltas, [add_all], noise(9), sigma, models)
        for term in terms:
            term.delta.note(term, sigma, T)
            torch.testing.assert_close(term.delta.last, term.found[0] / max(1, sum(strengths)))


def test_a_shape_leaves_the_state_as_it_is():
    delta, models = in_run(trust=Trust()), Models(target=T, source=S, adapted=A)
    for _ in range(2):
        _, _, (term,) = call([delta], [add_all], noise(7), torch.full((2,), 2.0), models)
        delta.note(term, torch.full((2,), 2.0), T)
    assert delta.last is None and models.asked[-1] == ["source", "adapted"]


def test_two_deltas_of_one_pair_see_the_states_of_their_sum():
    states = []

    def adapted(x, sigma):
        states.append(x)
        return turned(x)

    models = Models(target=T, source=lambda x, sigma: x, adapted=adapted)
    deltas, sigma = [in_run(strength=k, trust=Trust()) for k in (-1.0, 0.4)], torch.full((2,), HIGH)
    for delta in deltas[1:]:
        delta.crossing = deltas[0].crossing
    _, _, terms = call(deltas, [add_all], noise(9), sigma, models)
    for term in terms:
        term.delta.note(term, sigma, T)
    states.clear()
    call(deltas, [add_all], noise(9), sigma, models)
    assert len(states) == 1  # both in the target's own state: more is taken off than put on


def test_over_a_way_that_loses_something_each_model_sees_its_own_kind_of_state():
    """Target and source without the delta, the adapted model with all of it, as it was found: not as it came back."""
    held = torch.tensor([1.0, 1.0, 1.0, 0.0]).reshape(1, 4, 1, 1)
    maps = LatentMaps(lambda clean: held * clean, lambda change: held * change, same, lambda a, s: held * (a - s))
    delta, states = in_run(maps=maps, loses=True, strength=0.5), {}

    def predicting(who, prediction):
        def predict(x, sigma):
            states[who] = x
            return prediction

        return predict

    models = Models(**{who: predicting(who, p) for who, p in ((TARGET, T), ("source", S), ("adapted", A))})
    x, sigma = noise(7), torch.full((2,), 2.0)
    for call_number in range(2):
        (found, *_), _, (term,) = call([delta], [add_all], x, sigma, models)
        delta.note(term, sigma, T)
        assert torch.equal(found, T + 0.5 * held * (A - S))
        before = call_number * (A - S)
        assert torch.equal(states[TARGET], x - 0.5 * held * before)
        torch.testing.assert_close(states["source"], held * T + (states[TARGET] - T))
        torch.testing.assert_close(states["adapted"], states["source"] + before)


def test_an_exact_way_leaves_the_state_as_it_is():
    maps = LatentMaps(same, same, same, difference)
    delta, models = in_run(maps=maps), Models(target=T, source=S, adapted=A)
    for _ in range(2):
        _, _, (term,) = call([delta], [add_all], noise(7), torch.full((2,), 2.0), models)
        delta.note(term, torch.full((2,), 2.0), T)
    assert delta.last is None and models.asked[-1] == ["source", "adapted"]


def test_a_delta_that_does_not_act_asks_nobody():
    models = Models(target=T)
    assert torch.equal(mixed([in_run(strength=0.0)], models)[0], T)
    assert models.asked == [[TARGET]]


def test_equal_branches_are_asked_once():
    models = Models(target=T, source=S)
    assert torch.equal(mixed([in_run(adapted="source")], models)[0], T)
    assert models.asked == [[TARGET], ["source"]]


def test_without_an_adapted_model_the_target_takes_its_place():
    delta = Delta(Branch(None, None, None, 1.0), None)
    assert torch.equal(mixed([in_run(delta, adapted=None)], Models(target=T, source=S))[0], T + (T - S))


def test_another_rule_gets_the_terms_of_all_deltas():
    seen = []

    def mean(prediction, terms):
        seen.append(len(terms))
        return prediction + sum(terms) / len(terms)

    models = Models(target=T, source=S, adapted=A, other=noise(4))
    deltas = [in_run(), in_run(adapted="other", strength=2.0)]
    (found,), *_ = call(deltas, [mean], noise(9), torch.full((2,), 2.0), models)
    torch.testing.assert_close(found, T + ((A - S) + 2 * (noise(4) - S)) / 2)
    assert seen == [2]


def test_several_deltas_keep_their_rule_and_themselves():
    branch = Branch(None, None, None, 1.0)
    some = Deltas((Delta(branch, branch), Delta(branch, None)), combine=max)
    assert some.each(lambda delta: delta) is some
    assert some.and_also(Deltas((Delta(branch, None),))).combine is max
    assert len(some.each(lambda delta: Delta(branch, branch, 2.0)).deltas) == 2


def test_a_level_that_is_evaluated_twice_leaves_one_point_of_the_line():
    """Second-order samplers evaluate a level at the end of one step and at the start of the next."""
    held, values = Held(Reuse(every=1, threshold=1e-9, extrapolate=True)), iter([1.0, 2.0, 3.0])

    def at(ratio, step, evaluate):
        return held.at(ratio, step, torch.ones(1), evaluate)[0][0].item()

    held.reuse = Reuse(every=2, extrapolate=True)
    for ratio, step in ((8.0, 1), (4.0, 3), (4.0, 5)):
        at(ratio, step, lambda: (torch.tensor([next(values)]),))
    assert [ratio for ratio, _ in held.known] == [8.0, 4.0]
    assert at(2.0, 6, None) == pytest.approx(3.0 + (3.0 - 1.0) * (2.0 - 4.0) / (4.0 - 8.0))
