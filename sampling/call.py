"""The method: what a target predicts with deltas, in one call of a sampler (arXiv 2512.03056).

    D(x) = D_target(x) + sum over the deltas of strength * (D_adapted(x') - D_source(x'))

D is a denoised prediction after guidance, and x' is the target's noisy latent x as source and adapted see it. CFG++
samplers step along the unconditional part of the prediction: where it is given, the same formula holds for it.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Size, Tensor

from .delta import Combine
from .noise_levels import signal_of
from .prediction import TARGET, Contribution, Evaluate, Prediction, Request
from .prepared_delta import DeltaState, PreparedDelta
from .state_mapping import ProjectedState, StateMapping

Contributions = Mapping[PreparedDelta, Contribution]
# A sampler may call at other sizes than the run's. What a delta keeps is for latents of one shape.
States = Mapping[tuple[PreparedDelta, Size], DeltaState]


@dataclass(frozen=True, eq=False)
class CallResult:
    """The prediction with deltas, the target's own, what each active delta contributed, and the states afterwards."""

    prediction: Prediction
    target: Prediction
    contributions: Contributions
    states: States


def call(
    deltas: Sequence[PreparedDelta],
    combine: Sequence[Combine],
    states: States,
    x: Tensor,
    sigma: Tensor,
    evaluate: Evaluate,
    mask: Tensor | None = None,
) -> CallResult:
    """Return the prediction with `deltas` at the target's noisy latent x [B, C, ...] and sigma [B].

    `combine` has a rule for each layer of deltas. `states` are those after the last call, empty at the start of a run.
    `mask` is that of the call: 1 where the sampler denoises and 0 where it keeps the latent image (inpainting).
    """
    # Reading the noise level makes a GPU wait, so it is read only where an option needs it.
    level = sigma.flatten()[0].item() if any(delta.needs_sigma for delta in deltas) else None
    strengths = {delta: strength for delta in deltas if (strength := delta.strength(level)) != 0}
    before = {delta: states.get((delta, x.shape), DeltaState()) for delta in strengths}
    for delta in strengths:
        x = _without_applied(x, sigma, delta, before[delta], mask)

    target = evaluate([Request((TARGET,), x, sigma)])[TARGET]
    pairs = _Pairs(x, sigma, target, evaluate)
    contributions: dict[PreparedDelta, Contribution] = {}
    # What did not act in this call is no longer in the latent.
    after = {key: state for key, state in states.items() if key[0] in strengths}
    for delta, strength in strengths.items():
        reuse, evaluated = delta.reuse.observe(before[delta].reuse, level, target[0])
        in_source = before[delta].in_source
        if evaluated:
            negative = sum(other for each, other in strengths.items() if each.pair == delta.pair) < 0
            adapted, source = pairs.predictions(delta, before[delta], negative, mask)
            raw, in_source = pairs.state(delta.mapping).difference(adapted, source), adapted[0] - source[0]
            reuse = delta.reuse.keep(reuse, raw)
        else:
            raw = delta.reuse.value(reuse, fades=not delta.is_lossy)
        if delta.adapted is None:
            # The target with the layers before this one takes the place of the adapted model.
            below = _combined(target, contributions, combine[: delta.layer])
            raw = tuple(r + (b - t) for r, b, t in zip(raw, below, target, strict=True))
        applied = tuple(strength * delta.shaped(r, t) for r, t in zip(raw, target, strict=False))
        contributions[delta] = Contribution(raw, applied, evaluated)
        lossy = (in_source, applied[0], mask) if delta.is_lossy else ()
        after[delta, x.shape] = DeltaState(reuse, *lossy)
    return CallResult(_combined(target, contributions, combine), target, contributions, after)


def _combined(target: Prediction, contributions: Contributions, combine: Sequence[Combine]) -> Prediction:
    """Return the target's prediction with `contributions`, layer by layer, each by its own rule."""
    for layer, rule in enumerate(combine):
        applied = [each.applied for delta, each in contributions.items() if delta.layer == layer]
        target = tuple(rule(t, [parts[part] for parts in applied]) for part, t in enumerate(target))
    return target


def _without_applied(x: Tensor, sigma: Tensor, delta: PreparedDelta, state: DeltaState, mask: Tensor | None) -> Tensor:
    """Return the target's noisy latent x [B, C, ...] without what a lossy `delta` added at the last call."""
    if state.applied is None:
        return x
    return x - signal_of(state.left_of(state.applied, mask), sigma, delta.mapping.levels)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The pairs of one call. A mapping projects the target's state once, and a branch is evaluated there once."""

    x: Tensor
    sigma: Tensor
    target: Prediction
    evaluate: Evaluate
    projected: dict[StateMapping, ProjectedState] = field(default_factory=dict)
    predicted: dict[Hashable, Prediction] = field(default_factory=dict)

    def state(self, mapping: StateMapping) -> ProjectedState:
        """Return the target's state as the pairs of `mapping` see it."""
        if mapping not in self.projected:
            self.projected[mapping] = ProjectedState(mapping, self.x, self.sigma, self.target)
        return self.projected[mapping]

    def predictions(
        self, delta: PreparedDelta, before: DeltaState, negative: bool, mask: Tensor | None
    ) -> tuple[Prediction, Prediction]:
        """Return what adapted and source predict, in their latents.

        Over a lossy bridge the branch that the delta leads to sees all of it: adapted, or source where the strength
        is `negative`.
        """
        state, branches = self.state(delta.mapping), (delta.source, delta.adapted)
        levels = dict(zip(branches, delta.mapping.branches, strict=True))
        leads_to = None if before.in_source is None else branches[not negative]
        missing = [who for who in levels if who not in (None, leads_to) and who not in self.predicted]
        requests = [
            Request(tuple(who for who in missing if levels[who] == each), *state.for_branch(each))
            for each in dict.fromkeys(levels[who] for who in missing)
        ]
        if before.in_source is not None:
            x, sigma = state.for_branch(levels[leads_to])
            shift = signal_of(before.left_of(before.in_source, mask), sigma, levels[leads_to])
            requests.append(Request((leads_to,), x - shift if negative else x + shift, sigma))
        found = self.evaluate(requests) if requests else {}
        self.predicted.update((who, found[who]) for who in missing)
        predicted = {**self.predicted, **found}
        return state.target if delta.adapted is None else predicted[delta.adapted], predicted[delta.source]
