"""How far a delta is trusted, and what colours are carried in its place, without a host."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sampling.recolour import recoloured, unexplained
from sampling.trust import Doubt, Drawn, Trust, doubt, without_doubt


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def turned(latent, seed=7, shift=0.7):
    """A change of colours: an affine map of the channels."""
    return torch.einsum("ij,bj...->bi...", random(4, 4, seed=seed), latent) + shift


OWN, KNOWN, OTHER = (random(2, 4, 16, 16, seed=k) for k in range(3))
RATIO = torch.full((2,), 10.0)


def doubted(own, source, adapted, ratio=RATIO, limit=0.035, before=None, clean=1.0, taken_off=False, rough=False):
    """Return what is found where nothing is guided, and the target not within."""
    drawn = Drawn(own, source, adapted)
    guided = drawn._replace(own=own.clone())
    return doubt(guided, drawn, ratio, Trust(limit), 0.0, before, torch.tensor([clean]), taken_off, rough)


def test_what_is_guessed_is_asked_without_guidance_and_what_differs_now_with_it():
    def found(guided, unguided):
        drawn = (Drawn(own, KNOWN, turned(KNOWN)) for own in (guided, unguided))
        return doubt(*drawn, RATIO, Trust(0.035), 0.0, None, torch.ones(1))

    assert (found(OWN, KNOWN).guessed == 0).all()
    assert (found(KNOWN, OWN).guessed == 1).all() and (found(KNOWN, OWN).share == 0).all()
    assert (found(OWN, OWN).share == 1).all()


def test_a_change_of_colours_of_another_shape_is_doubted():
    found = doubted(OWN, KNOWN, turned(KNOWN))
    assert (found.guessed == 1).all() and (found.share == 1).all()


@pytest.mark.parametrize("channels", [16, 48, 128])
def test_latents_of_many_channels_are_compared_with_more_pixels(channels):
    """Few pixels would be explained by any map, and nothing could be told of them."""
    mix, shift = random(channels, channels, seed=8) / channels**0.5, 0.7
    known, other = (random(1, channels, 64, 64, seed=seed) for seed in (5, 6))

    def found(own, guidance, there, misleads=0.0):
        colours = torch.einsum("ij,bjhw->bihw", mix, known) + shift
        unguided = Drawn(own, known, colours)
        guided = Drawn(own + there, known + guidance, colours + guidance)
        return doubt(guided, unguided, RATIO[:1], Trust(0.035), misleads, None, torch.ones(1))

    there = 3 * random(1, channels, 64, 64, seed=8)
    for guidance in (torch.zeros(()), 3 * random(1, channels, 64, 64, seed=7)):
        assert found(torch.einsum("ij,bjhw->bihw", mix.T, known), guidance, there).guessed == 0
        assert found(other, guidance, there).guessed == 1
    assert found(other, guidance, there, misleads=1e3).guessed == 1
    assert found(other, guidance, guidance, misleads=1e3).guessed == 0


def test_a_model_that_is_guided_otherwise_draws_the_same():
    guidance = random(2, 4, 16, 16, seed=4)
    for own, found in ((KNOWN + 0.7 * guidance, 0), (OWN, 1)):
        guided = Drawn(own, KNOWN + 3 * guidance, turned(KNOWN) + 3 * guidance)
        unguided = Drawn(own, KNOWN, turned(KNOWN))
        assert (doubt(guided, unguided, RATIO, Trust(0.035), 0.0, None, torch.ones(1)).guessed == found).all()


SAME, ELSEWHERE = turned(OTHER, shift=0.0), random(2, 4, 16, 16, seed=4)  # as guidance of OTHER in the source


def guided_by(there, here, before=None, clean=1.0, misleads=100.0):
    """Return what is found where source and target guess otherwise, and guidance changes `there` and `here`."""
    unguided = Drawn(OWN, KNOWN, turned(KNOWN))
    guided = Drawn(*(u if g is None else u + g for u, g in zip(unguided, (there, here, here), strict=True)))
    return doubt(guided, unguided, RATIO, Trust(0.035), misleads, before, torch.tensor([clean]))


def test_over_a_way_that_misleads_a_name_that_leads_both_the_same_way_is_known():
    known, unknown = guided_by(SAME, OTHER), guided_by(SAME, ELSEWHERE)
    assert (known.guessed == 0).all() and (known.elsewhere < 0.01).all()
    assert (unknown.guessed == 1).all() and (unknown.elsewhere > 0.9).all()
    assert (guided_by(SAME, 0 * OTHER).guessed == 1).all()  # it means nothing to the source
    # Where the way misleads no one, what was guessed is evidence enough: negative prompts lead both the same way too.
    assert (guided_by(SAME, OTHER, misleads=0.0).guessed == 1).all()


def test_where_guidance_tells_nothing_half_of_what_misleads_is_allowed():
    for there, here in ((SAME, None), (None, OTHER), (None, None)):
        assert (guided_by(there, here, misleads=0.1).guessed == 1).all()
        assert (guided_by(there, here, misleads=200.0).guessed == 0).all()
    known, untold = (Trust(0.1).allowed(4.0, torch.tensor(known), False) for known in (1.0, 0.5))
    assert (known.item(), untold.item()) == pytest.approx((0.5, 0.3))


def test_what_guidance_has_once_told_counts_on():
    known, unknown = guided_by(SAME, OTHER), guided_by(SAME, ELSEWHERE)
    later = guided_by(SAME, ELSEWHERE, before=known)
    assert (later.guessed == 0).all() and torch.equal(later.elsewhere, known.elsewhere)
    assert (guided_by(None, None, before=known).guessed == 0).all()
    # Where it sees what the delta added, guidance is no evidence.
    assert (guided_by(SAME, OTHER, before=unknown, clean=0.0).guessed == 1).all()
    assert (guided_by(SAME, OTHER, before=guided_by(None, None)).guessed == 0).all()


def test_where_source_and_target_see_one_shape_nothing_is_doubted():
    for own in (KNOWN, turned(KNOWN, seed=8)):  # whatever the colours in which they see it
        assert (doubted(own, KNOWN, turned(KNOWN)).share == 0).all()


def test_what_is_taken_off_is_doubted_where_the_adapted_model_draws_something_else():
    other = turned(KNOWN) + OTHER  # another shape than the source's, in the style
    assert (doubted(turned(KNOWN), KNOWN, turned(KNOWN), taken_off=True).share == 0).all()
    assert (doubted(other, KNOWN, turned(KNOWN), taken_off=True).share == 1).all()
    pale = doubted(KNOWN, KNOWN, 0.5 * KNOWN, taken_off=True)
    torch.testing.assert_close(pale.contrast, torch.full((2,), 2.0, dtype=torch.float64))


def test_what_was_a_change_of_colours_while_noise_was_strong_stays_one():
    """As noise falls, the adapted model draws a shape of its own of what the source does not know."""
    style, low = doubted(OWN, KNOWN, turned(KNOWN)), torch.full((2,), 0.5)
    assert (doubted(OWN, KNOWN, turned(KNOWN) + 2 * OTHER, low, before=style).guessed == 1).all()
    shape = doubted(OWN, KNOWN, OTHER)
    assert (doubted(OWN, KNOWN, turned(KNOWN), low, before=shape).guessed == 0).all()


def test_a_picture_does_not_fade_again():
    """The adapted model draws it paler from call to call: what is carried keeps the contrast that it had."""
    pale = [0.6 * KNOWN, 0.9 * KNOWN, 0.2 * KNOWN]
    found, spreads = None, []
    for adapted in pale:
        found = doubted(OWN, KNOWN, adapted, before=found)
        _, drawn = without_doubt(Drawn(OWN, KNOWN, adapted), torch.ones(2), found.gain)
        spreads.append((drawn.flatten(1).std() / OWN.flatten(1).std()).item())
    assert spreads == pytest.approx([0.6, 0.9, 0.9], rel=0.02)
    # More contrast than the target has is no picture's own: it may go.
    strong, weak = doubted(OWN, KNOWN, 3 * KNOWN), doubted(OWN, KNOWN, 1.5 * KNOWN)
    assert (weak.gain == 1).all() and (doubted(OWN, KNOWN, 1.5 * KNOWN, before=strong).gain == 1).all()


def test_a_delta_that_is_a_shape_is_not_doubted():
    found = doubted(OWN, KNOWN, OTHER)
    assert (found.unknown > 0.5).all() and (found.guessed == 0).all() and (found.share == 0).all()


@pytest.mark.parametrize("own", [OWN, KNOWN])
def test_no_delta_is_not_doubted(own):
    assert (doubted(own, KNOWN, KNOWN).share == 0).all()


def test_what_was_guessed_alike_at_first_is_trusted_longer():
    """The same unlikeness: of a name that was known so far, and of one that was not."""
    known = doubted(KNOWN + 0.01 * OWN, KNOWN, turned(KNOWN))
    unknown = doubted(OWN, KNOWN, turned(KNOWN))
    now = KNOWN + 0.3 * OWN
    before = [doubted(now, KNOWN, turned(KNOWN), torch.full((2,), 0.3), before=seen).share for seen in (known, unknown)]
    assert (before[0] < before[1]).all()


def test_of_a_picture_with_next_to_no_noise_nothing_was_guessed():
    found = doubted(OWN, KNOWN, turned(KNOWN), torch.full((2,), 1e-9))
    assert torch.isfinite(found.share).all()
    whole = doubted(KNOWN + 0.3 * OWN, KNOWN, turned(KNOWN), torch.full((2,), torch.inf))
    half = doubted(KNOWN + 0.3 * OWN, KNOWN, turned(KNOWN), torch.full((2,), 2.0))
    torch.testing.assert_close(half.unknown, 2 * whole.unknown)


@given(st.floats(0.02, 0.5), st.floats(0.02, 0.5))
def test_a_higher_limit_trusts_more(a, b):
    low, high = (doubted(KNOWN + 0.3 * OWN, KNOWN, turned(KNOWN), limit=limit).share for limit in sorted((a, b)))
    assert (low >= high).all()


def test_samples_of_a_batch_are_trusted_one_by_one():
    own = torch.stack([KNOWN[0], OWN[1]])
    assert doubted(own, KNOWN, turned(KNOWN)).share.tolist() == [0, 1]
    one = doubted(own[1:], KNOWN[1:], turned(KNOWN)[1:], RATIO[1:])
    assert one.share.tolist() == [1]


def test_what_is_doubtful_has_the_targets_shape_and_the_adapted_models_colours():
    share = torch.tensor([0.0, 1.0], dtype=torch.float64)
    known, other = without_doubt(Drawn(OWN, KNOWN, turned(KNOWN)), share)
    assert torch.equal(known[0], KNOWN[0]) and torch.equal(other[0], turned(KNOWN)[0])
    torch.testing.assert_close(known[1], OWN[1])
    assert (other[1] - turned(OWN)[1]).abs().max() < 0.02 * turned(OWN)[1].abs().max()


def moments(latent):
    return latent.flatten(2).mean(2), torch.stack([torch.cov(each) for each in latent.flatten(2)])


def test_of_a_source_that_sees_roughly_only_the_mean_of_its_colours_counts():
    """It draws with another contrast than the target: that of the adapted model arrives, whatever the source's."""
    other = turned(KNOWN)
    for contrast in (1.0, 1.6):
        seen = contrast * (KNOWN - KNOWN.mean((2, 3), keepdim=True)) + 0.5
        known, drawn = without_doubt(Drawn(OWN, seen, other), torch.ones(2), rough=True)
        torch.testing.assert_close(known, OWN)
        (mean, covariance), (wanted_mean, wanted) = moments(drawn), moments(other)
        assert (covariance - wanted).norm() < 0.02 * wanted.norm()
        torch.testing.assert_close(mean - moments(OWN)[0], wanted_mean - 0.5, rtol=1e-3, atol=1e-3)


def test_a_target_that_may_be_guided_within_is_doubted_later():
    found = [Trust(0.1).allowed(*case) for case in itertools.product((0.0, 1.5), torch.ones(1), (False, True))]
    assert found[0] == 0.1 and all(found[0] < each < found[-1] for each in found[1:-1])
    within = Trust(0.1).allowed(0.0, torch.ones(2), within=True)
    assert within.tolist() == pytest.approx([0.5, 0.5])
    own, drawn = KNOWN + 0.3 * OWN, turned(KNOWN)
    plain = Drawn(own, KNOWN, drawn)
    found = [
        doubt(guided, plain, RATIO, Trust(0.035), 0.0, None, torch.ones(1)).guessed
        for guided in (plain._replace(own=own.clone()), plain)
    ]
    assert (found[0] == 1).all() and (found[1] == 0).all()


def test_a_source_that_sees_roughly_is_trusted_sooner():
    low, before = torch.full((2,), 0.3), doubted(OWN, KNOWN, turned(KNOWN))
    clear, rough = (
        doubted(KNOWN + 0.06 * OWN, KNOWN, turned(KNOWN), low, before=before, rough=rough).share
        for rough in (False, True)
    )
    assert (clear > 0.1).all() and (rough < clear).all()


def test_a_call_in_a_state_with_the_deltas_colours_says_nothing_new():
    """What is known stays known there, and what was not is doubted on."""
    known, unknown = (doubted(own, KNOWN, turned(KNOWN)) for own in (KNOWN, OWN))
    assert (doubted(OWN, KNOWN, turned(KNOWN), before=known, clean=0.0).guessed == 0).all()
    assert (doubted(OWN, KNOWN, turned(KNOWN), before=known, clean=1.0).guessed > 0).all()
    assert (doubted(OWN, KNOWN, turned(KNOWN), before=unknown, clean=0.0).share == 1).all()


@pytest.mark.parametrize("shape", [(16, 16), (3, 8, 8)])
def test_a_change_of_colours_is_found_and_follows_other_shapes(shape):
    seen, latent = random(1, 4, *shape, seed=5), random(1, 4, *shape, seed=6)
    found = recoloured(latent, seen, turned(seen))
    assert (found - turned(latent)).abs().max() < 0.05 * turned(latent).abs().max()
    assert found.shape == latent.shape


def test_where_shapes_differ_contrast_is_kept():
    """Least squares would leave a part of it; the recoloured picture has the covariance of what it follows."""
    second = turned(0.8 * KNOWN + 0.6 * OTHER)
    found = recoloured(KNOWN, KNOWN, second)
    flat, wanted = found.flatten(2), second.flatten(2)
    for one, other in zip(flat, wanted, strict=True):
        assert (torch.cov(one) - torch.cov(other)).norm() < 0.02 * torch.cov(other).norm()
    torch.testing.assert_close(flat.mean(2), wanted.mean(2), rtol=1e-3, atol=1e-3)


def test_what_an_affine_map_explains():
    torch.testing.assert_close(
        unexplained(KNOWN, turned(KNOWN)), torch.zeros(2, dtype=torch.float64), atol=5e-3, rtol=0
    )
    assert (unexplained(KNOWN, OWN) > 0.9).all()
    half = turned(KNOWN, shift=0)
    half = half + OWN * (half.std((1, 2, 3), keepdim=True) / OWN.std((1, 2, 3), keepdim=True))
    assert ((unexplained(KNOWN, half) - 0.5).abs() < 0.1).all()
    # Few pixels explain no less than many do.
    few = [unexplained(KNOWN[..., :4, :size], OWN[..., :4, :size]).mean() for size in (3, 16)]
    assert abs(few[0] - few[1]) < 0.15
    assert (unexplained(KNOWN[..., :2, :2], turned(KNOWN)[..., :2, :2]) == 1).all()


def test_nothing_is_no_change_of_colours():
    nothing = torch.zeros_like(KNOWN)
    assert (unexplained(KNOWN, nothing, with_mean=True) == 1).all()
    assert (unexplained(KNOWN, nothing) == 0).all()
    # One colour everywhere is all that a map's constant gives.
    assert (unexplained(KNOWN, nothing + 1, with_mean=True) < 1e-6).all()


def test_what_is_not_finite_stops_nothing_here():
    bad = KNOWN.clone()
    bad[0, 0, 0, 0] = torch.nan
    found = doubted(OWN, KNOWN, bad)
    assert isinstance(found, Doubt)
    known, other = without_doubt(Drawn(OWN, KNOWN, bad), torch.ones(2))
    assert torch.isfinite(known).all() and not torch.isfinite(other[0]).all()
