"""The method whole: what a target predicts with deltas, in one call of a sampler (arXiv 2512.03056).

    D(x) = D_target(x) + sum over the deltas of strength * (D_adapted(x') - D_source(x'))

D is a denoised prediction after guidance and x' the target's noisy latent x as a pair sees it. Each difference
is trusted as far as the source knows what is drawn, comes back to the target's latents, and is then changed in this
order: detail (of a pair at a lower resolution), reuse, limits, masks, strength. Deltas that were put on the target one
after the other are layers.

CFG++ samplers step along the unconditional part of the prediction: where it is given, the same formula holds for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .crossing import Crossing, Seen
from .delta import Combine, add_all
from .in_run import DeltaInRun
from .noise_levels import NoiseLevels, noise_to_signal, signal_of
from .resize import with_detail
from .samples import dot
from .trust import Doubt, Drawn, Trust, doubt, without_doubt

# A prediction [B, C, ...]: denoised, and where the sampler asks for it the unconditional part.
Parts = tuple[Tensor, ...]
TARGET = "target"


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a model predicts at one state: `parts`, and what it predicts without guidance [B, C, ...].

    `unguided` is None where the run does not guide it: then the model may do so itself, as distilled ones do.
    """

    parts: Parts
    unguided: Tensor | None = None

    @property
    def of_the_prompt(self) -> Tensor:
        return self.parts[0] if self.unguided is None else self.unguided


# The one door to the models: takes several at once, each as (who, x, sigma), and returns what they predict.
Requests = Sequence[tuple[Any, Tensor, Tensor]]
Evaluate = Callable[[Requests], Sequence[Predicted]]


@dataclass(frozen=True, eq=False)
class Term:
    """What a delta came to in one call: as it was `found`, and what was `added`, both in the target's latents.

    `own` is what adapted predicts beyond source in their latents, None where they were not evaluated, and `doubt` how
    far that was trusted, None where all of it is. `together` [B] is the strength of all deltas along this one, times
    their squared cosine with it: of two that are the same the sum of theirs, of two with nothing in common its own. It
    is None where that is not asked for.
    """

    delta: DeltaInRun
    found: Parts
    added: Parts
    own: Tensor | None
    doubt: Doubt | None
    together: Tensor | None = None

    @property
    def evaluated(self) -> bool:
        return self.own is not None


def call(
    deltas: Sequence[DeltaInRun],
    combine: Sequence[Combine],
    x: Tensor,
    sigma: Tensor,
    evaluate: Evaluate,
    mask: Tensor | None = None,
) -> tuple[Parts, Parts, list[Term]]:
    """Return the prediction with deltas at x [B, C, ...] and sigma [B], the target's own, and each delta's term.

    It remembers nothing. Who calls it in a run tells each delta of its term (`DeltaInRun.note`) before the next call.
    `combine` has a rule for each layer of deltas. `mask` is 1 where the picture is made and 0 where it is kept
    (inpainting).
    """
    # Reading the noise level makes a GPU wait, so it is read only where an option asks for it.
    level = sigma.flatten()[0].item() if any(delta.needs_sigma for delta in deltas) else None
    acting = [(delta, strength) for delta in deltas if (strength := delta.strength(level)) != 0]
    for delta, _ in acting:
        if delta.last is not None:
            x = delta.without_own(x, sigma, mask)
    (predicted,) = evaluate([(TARGET, x, sigma)])
    target = predicted.parts

    shared = _Shared(x, sigma, predicted, evaluate)
    terms: list[Term] = []
    for delta, strength in acting:
        taken_off = sum(other for each, other in acting if each.pair == delta.pair) < 0
        found = delta.kept(level, target[0], partial(_difference, delta, taken_off, shared))
        if delta.delta.adapted is None:
            # In place of an adapted prediction stands the target's, with what was put on it before.
            before = _mixed(target, terms, combine[: delta.layer])
            found = tuple(f + (b - t) for f, b, t in zip(found, before, target, strict=True))
        added = tuple(strength * delta.shaped(f, t) for f, t in zip(found, target, strict=False))
        terms.append(Term(delta, found, added, shared.own.get(delta), shared.doubts.get(delta)))
    return _mixed(target, terms, combine), target, [_beside(term, terms) for term in terms]


def _beside(term: Term, terms: Sequence[Term]) -> Term:
    """Return `term` with the strength of all `terms` along it, where that matters: for what was guessed."""
    doubted = term.doubt or term.delta.doubt
    if doubted is None or not doubted.guessed.any():
        return term
    found = term.found[0].float()
    all_added = add_all(torch.zeros_like(found), [other.added[0] for other in terms])
    along, own, whole = (dot(*both).flatten() for both in ((found, all_added), (found, found), (all_added, all_added)))
    return replace(term, together=along**3 / (own**2 * whole).clamp(min=1e-12))


def _mixed(target: Parts, terms: Sequence[Term], combine: Sequence[Combine]) -> Parts:
    """Return the target's prediction with `terms`, layer by layer, each combined by its own rule."""
    for layer, rule in enumerate(combine):
        added = [term.added for term in terms if term.delta.layer == layer]
        target = tuple(rule(t, [parts[part] for parts in added]) for part, t in enumerate(target))
    return target


@dataclass(frozen=True, eq=False)
class _Shared:
    """What the deltas of one call share: the target's state as a view shows it, and what a branch predicts at it."""

    x: Tensor
    sigma: Tensor
    target: Predicted
    evaluate: Evaluate
    views: dict[Crossing, Seen] = field(default_factory=dict)
    predicted: dict[Any, Predicted] = field(default_factory=dict)
    own: dict[DeltaInRun, Tensor] = field(default_factory=dict)
    doubts: dict[DeltaInRun, Doubt] = field(default_factory=dict)


def _difference(delta: DeltaInRun, taken_off: bool, shared: _Shared) -> Parts:
    """Return what adapted predicts beyond source, in the target's latents, as far as it is trusted.

    A delta that is `taken_off` has a strength below 0: the target draws as the adapted model does, and is to draw as
    the source.
    """
    crossing = delta.crossing
    if crossing not in shared.views:
        shared.views[crossing] = Seen(crossing, shared.x, shared.sigma, shared.target.parts[0])
    seen = shared.views[crossing]
    pair = _pair(delta, taken_off, seen, shared)
    adapted, source = (predicted.parts for predicted in pair)
    trust, coarse = delta.delta.trust, None if crossing.maps is None else crossing.maps.coarse
    # A pair that sees coarser pixels draws coarser lines, and differs from the target by these alone.
    if delta.adapted is not None and trust is not None and coarse is None and not delta.settled:
        adapted, source = _trusted(delta, trust, taken_off, seen, *pair, shared)
    shared.own[delta] = adapted[0] - source[0]
    found = []
    for a, s, t in zip(adapted, source, shared.target.parts, strict=False):
        difference = crossing.delta(a, s)
        if coarse is not None:
            difference = with_detail(difference, crossing.delta(seen.own(t), s), t, coarse)
        found.append(difference)
    return tuple(found)


def _pair(delta: DeltaInRun, taken_off: bool, seen: Seen, shared: _Shared) -> tuple[Predicted, Predicted]:
    """Return the predictions of adapted and source, each branch evaluated once a state, all at once if need be."""
    asked = dict(zip((delta.source, delta.adapted), map(seen.by, delta.crossing.branches), strict=True))
    if delta.adapted is None:
        shared.predicted[None] = Predicted(tuple(map(seen.own, shared.target.parts)))
    apart = {}
    if delta.last is not None:
        # What it added before stands in the state of one branch alone.
        source_levels, adapted_levels = delta.crossing.branches
        other, levels = (delta.source, source_levels) if taken_off else (delta.adapted, adapted_levels)
        added = -delta.last if taken_off else delta.last
        del asked[other]
        apart = {other: _with_all(added, delta.crossing, levels, seen, shared)}
    missing = {who: state for who, state in asked.items() if who not in shared.predicted}
    requests = [(who, *state) for who, state in (missing | apart).items()]
    found = dict(zip(missing | apart, shared.evaluate(requests) if requests else (), strict=True))
    shared.predicted.update((who, found[who]) for who in missing)
    predicted = shared.predicted | found
    return predicted[delta.adapted], predicted[delta.source]


def _trusted(
    delta: DeltaInRun, trust: Trust, taken_off: bool, seen: Seen, adapted: Predicted, source: Predicted, shared: _Shared
) -> tuple[Parts, Parts]:
    """Return the predictions of adapted and source, with what is doubtful of them drawn as the target draws it."""
    target, crossing = shared.target, delta.crossing
    levels = crossing.branches[0]
    ratio = noise_to_signal(seen.by(levels)[1], levels)
    guided = Drawn(seen.own(target.parts[0]), source.parts[0], adapted.parts[0])
    unguided = Drawn(seen.roughly(target.of_the_prompt), source.of_the_prompt, adapted.of_the_prompt)
    found = doubt(
        guided, unguided, ratio, trust, crossing.misleads, delta.doubt, delta.clean, taken_off, crossing.rough
    )
    shared.doubts[delta] = found
    if not found.share.any():
        return adapted.parts, source.parts
    parts = zip(map(seen.own, target.parts), source.parts, adapted.parts, strict=False)
    drawn = [without_doubt(Drawn(*each), found.share, found.gain, taken_off, crossing.rough) for each in parts]
    source_parts, adapted_parts = zip(*drawn, strict=True)
    return adapted_parts, source_parts


def _with_all(
    before: Tensor, crossing: Crossing, levels: NoiseLevels, seen: Seen, shared: _Shared
) -> tuple[Tensor, Tensor]:
    """Return latent and sigma of the other branch in a state of its own kind: with all that the delta found before."""
    if crossing.loses:
        # It is put where it was found: on the way to the target and back its detail would be lost at each call.
        latent, sigma = seen.by(levels)
        return latent + signal_of(before, sigma, levels), sigma
    whole = shared.x + signal_of(before, shared.sigma, crossing.levels)
    return Seen(crossing, whole, shared.sigma, shared.target.parts[0] + before).by(levels)
