"""Two deltas on one target: their sum beside ways to bring them into balance, as rules of `Deltas.combine`.

A rule gets the target's prediction [B, C, ...] and a term of that shape for each delta.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from torch import Tensor

from harness.nodes import of_the_pack
from lab import judge
from sampling.limits import along, dot

from .methods import FIRST, SAMPLES, SEEDS, Roles
from .records import Methods, records
from .runs import Runs


def half_each(prediction: Tensor, terms: Sequence[Tensor]) -> Tensor:
    return prediction + sum(terms) / len(terms)


def orthogonal(prediction: Tensor, terms: Sequence[Tensor]) -> Tensor:
    """The second delta without its part along the first."""
    first, second = terms
    return prediction + first + second - along(second, first)


def shared_once(prediction: Tensor, terms: Sequence[Tensor]) -> Tensor:
    """What the deltas have in common counts once: n deltas that are the same add up to one of them."""
    total = sum(terms)
    share = sum(dot(term, term) for term in terms) / dot(total, total).clamp(min=1e-12)
    return prediction + share.clamp(max=1) * total


def densities(prediction: Tensor, terms: Sequence[Tensor]) -> Tensor:
    """Both adapted models' densities over the source's grow alike (SuperDiff's AND, arXiv 2412.17762).

    Along a step to source + w1 d1 + w2 d2 the two logarithms change at rates that differ by
    <w1 d1 + w2 d2 - (d1 + d2) / 2, d1 - d2>. With weights 1 + k and 1 - k that is zero for this k: the weaker delta
    gets more. SuperDiff's own weights have the sum 1: that is half each, but for what its noise adds.
    """
    first, second = terms
    apart = first - second
    k = (dot(second, second) - dot(first, first)) / (2 * dot(apart, apart).clamp(min=1e-12))
    k = k.clamp(-1, 1)
    return prediction + (1 + k) * first + (1 - k) * second


RULES = {
    "half each": half_each,
    "orthogonal parts": orthogonal,
    "what is shared once": shared_once,
    "densities in balance": densities,
}


def combined(deltas: Sequence, rule: Callable | None = None):
    """Return DELTAs together, by their sum or by a rule."""
    together = deltas[0].and_also(deltas[1])
    return together if rule is None else of_the_pack("sampling.delta").Deltas(together.deltas, rule)


def two_deltas(runs: Runs, adapted: Sequence[str], oracle: str, look: str, title: str) -> list[dict]:
    """Two fine-tunes of the source on one target, each alone and together by every rule."""
    roles = Roles("source", " + ".join(adapted), "target", oracle)

    def made(labels, seed) -> Iterator:
        for name in ("target", "oracle"):
            yield name, runs.sample(getattr(roles, name), labels, seed)
        deltas = [runs.pair("source", name, labels) for name in adapted]
        for name, delta in zip(adapted, deltas, strict=True):
            yield f"{name} alone", runs.sample("target", labels, seed, delta)
        for name, rule in {"sum": None, **RULES}.items():
            yield name, runs.sample("target", labels, seed, combined(deltas, rule))

    def bands(pictures: Tensor, labels) -> dict[str, float]:
        return {"bands": judge.band_contrast(pictures).mean().item()}

    return records(runs, FIRST, title, roles, Methods(made, look=look, extra=bands), SEEDS, SAMPLES)


TWO_DELTAS = {
    "two styles": partial(
        two_deltas, adapted=("adapted", "banded_lora"), oracle="both_oracle", look="both", title="two styles"
    ),
    "one style twice": partial(
        two_deltas, adapted=("adapted", "source_lora"), oracle="oracle", look="style", title="one style twice"
    ),
}
