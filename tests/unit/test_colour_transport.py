"""Colours moved towards other colours, without a host."""

import pytest
import torch

from sampling.colour_transport import along, directions, quantiles, sliced_distance, step

LINES = directions()


def colours(seed, batch=2, pixels=60):
    return torch.rand(batch, pixels, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def wanted(others, count, lines=LINES):
    return quantiles(along(others, lines), count)


def test_directions_are_unit_vectors_that_cover_colour_space_evenly():
    assert torch.allclose(LINES.norm(dim=0), torch.ones(LINES.shape[1]))
    assert torch.allclose(LINES @ LINES.T, torch.eye(3) * LINES.shape[1] / 3, atol=1e-5)
    assert torch.equal(LINES, directions())


def test_steps_lead_to_the_other_colours():
    mine, others = colours(1), colours(2) ** 3 * 0.5 + 0.3
    first = sliced_distance(mine, others, LINES)
    for _ in range(60):
        mine = mine + step(mine, wanted(others, 60), LINES)
    assert (sliced_distance(mine, others, LINES) < 0.05 * first).all()


def test_one_step_takes_a_shift_to_its_end():
    mine = colours(1)
    others = mine + torch.tensor([0.2, -0.1, 0.4])
    assert torch.allclose(mine + step(mine, wanted(others, 60), LINES), others, atol=1e-5)


def test_one_step_along_one_frame_is_an_exact_transport():
    mine, others, axes = colours(1), colours(2), directions(1)
    moved = mine + step(mine, wanted(others, 60, axes), axes)
    assert (sliced_distance(moved, others, axes) < 1e-5).all()


def test_equal_colours_stay_where_they_are():
    mine = colours(1)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(3))
    for others in (mine, mine[:, order]):
        assert (step(mine, wanted(others, 60), LINES).abs() < 1e-6).all()
        assert (sliced_distance(mine, others, LINES) < 1e-6).all()


def test_places_of_pixels_do_not_matter():
    mine, others = colours(1), colours(2)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(3))
    moved = step(mine, wanted(others, 60), LINES)
    assert torch.allclose(step(mine[:, order], wanted(others[:, order], 60), LINES), moved[:, order], atol=1e-6)


def test_the_step_is_the_gradient():
    mine, others = colours(1).requires_grad_(), colours(2)
    (sliced_distance(mine, others, LINES).square() / 2).sum().backward()
    assert torch.allclose(step(mine.detach(), wanted(others, 60), LINES), -3 * 60 * mine.grad, atol=1e-5)


@pytest.mark.parametrize("count", [1, 7, 60, 61, 500])
def test_quantiles_of_another_number_of_pixels(count):
    """Of evenly spread numbers they are evenly spread, about the same middle."""
    found = quantiles(torch.arange(60.0).flip(0), count)
    assert len(found) == count and found.mean() == pytest.approx(29.5)
    if 1 < count <= 60:
        assert torch.allclose(found.diff(), torch.full((count - 1,), 60 / count), atol=1e-4)
    assert found.min() >= 0 and found.max() <= 59


def test_each_picture_has_its_own_colours_or_all_have_one():
    mine, others = colours(1), colours(2)
    one = wanted(others[:1], 60)
    both = step(mine, one, LINES)
    assert torch.equal(both, step(mine, one.expand(2, -1, -1), LINES))
    assert torch.allclose(both[:1], step(mine[:1], one, LINES), atol=1e-6)
