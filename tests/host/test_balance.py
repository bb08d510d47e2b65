"""The rules that the lab compares for two deltas at once."""

import pytest
import torch

SHAPE = (2, 4, 8, 8)


@pytest.fixture
def rules():
    from lab.proof import balance

    return balance


def terms():
    return [torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) * size for seed, size in ((1, 1), (2, 2))]


def dots(a, b):
    return (a * b).flatten(1).sum(1)


@pytest.mark.parametrize("rule", ["half_each", "orthogonal", "shared_once"])
def test_of_two_that_are_the_same_one_is_left(rules, rule):
    first, _ = terms()
    found = getattr(rules, rule)(torch.zeros(SHAPE), [first, first])
    torch.testing.assert_close(found, first)


def test_orthogonal_parts_add_to_the_first_nothing_along_it(rules):
    first, second = terms()
    added = rules.orthogonal(torch.zeros(SHAPE), [first, second]) - first
    torch.testing.assert_close(dots(added, first), torch.zeros(2), atol=1e-3, rtol=0)


def test_densities_grow_alike(rules):
    """SuperDiff's equation: along the mixed step the two logarithms change at the same rate."""
    first, second = terms()
    mixed = rules.densities(torch.zeros(SHAPE), [first, second])
    torch.testing.assert_close(dots(mixed - (first + second) / 2, first - second), torch.zeros(2), atol=1e-2, rtol=0)
    assert not torch.allclose(mixed, first + second)
