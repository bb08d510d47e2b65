"""A delta during one run: how far the run is, what is kept from earlier calls, and what was noted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .crossing import Crossing
from .delta import Delta
from .errors import step_of
from .limits import limited
from .noise_levels import noise_to_signal, signal_of
from .reuse import Held
from .samples import by_sample
from .schedule import Progress
from .trace import Trace
from .trust import Doubt

if TYPE_CHECKING:
    from .call import Parts, Term


class DeltaInRun:
    """A delta during one run of the target, whose `sigmas` fall from noise to 0.

    `source` and `adapted` are what the run's models are asked by, `adapted` None where the target takes its
    place. `sigma_of` gives the sigma of a percentage of the run, as the target's model counts it. `masks` are
    those of the delta in the shape of the latent, or one that broadcasts to it. Deltas of one `layer` were put on
    the target together, those of lower ones before.
    """

    def __init__(
        self,
        delta: Delta,
        crossing: Crossing,
        source: Any,
        adapted: Any,
        sigmas: Tensor,
        sigma_of: Callable[[float], float],
        masks: Sequence[Tensor] = (),
        layer: int = 0,
    ):
        self.delta, self.crossing, self.source, self.adapted = delta, crossing, source, adapted
        self.masks, self.layer, self.trace = masks, layer, Trace()
        self.needs_sigma = bool(delta.schedules or delta.reuse)
        # Where the branches see states of their own kind, of the last call: the delta as found, and as it was added.
        self.last: Tensor | None = None
        self._last_added: Tensor | None = None
        self.doubt: Doubt | None = None
        self._together = torch.ones(1)
        self._sigmas = sigmas.cpu()
        self._progress = Progress(sigma_of) if delta.schedules else None
        self._held = Held(delta.reuse, _ratios(self._sigmas[:-1], crossing)) if delta.reuse else None

    @property
    def pair(self) -> tuple:
        """What makes two deltas one but for their strengths and limits."""
        return self.source, self.adapted, self.crossing

    @property
    def clean(self) -> Tensor:
        """How far [B] or [1] target and source see the state of the next call without what the delta added before."""
        apart = self._apart()
        if apart is not None:
            return apart
        return torch.ones(1) if self.doubt is None else torch.zeros(1)

    @property
    def settled(self) -> bool:
        """Whether nothing will be doubted any more: nothing was strange so far, and what follows is no evidence."""
        return self.doubt is not None and not self.doubt.strange.any() and not self.clean.any()

    def strength(self, sigma: float | None) -> float:
        """Return the strength at `sigma`, which may be None where nothing depends on it."""
        strength = self.delta.strength
        if self._progress is not None and sigma is not None:
            percent = self._progress.percent(sigma)
            for schedule in self.delta.schedules:
                strength *= schedule.factor(percent)
        return strength

    def without_own(self, x: Tensor, sigma: Tensor, mask: Tensor | None) -> Tensor:
        """Return the target's noisy latent x [B, C, ...] without what the delta added before, as far as it was `apart`.

        Target and source see this one: what they would find without the adapter. Where an inpainting
        `mask` keeps the picture, nothing was added.
        """
        if self._last_added is None:
            return x
        added = self._last_added if mask is None else self._last_added * mask.to(self._last_added)
        return x - signal_of(added, sigma, self.crossing.levels)

    def kept(self, sigma: float | None, denoised: Tensor, find: Callable[[], Parts]) -> Parts:
        """Return the delta's parts, from `find` or from before; `denoised` is the target's prediction."""
        if self._held is None or sigma is None:
            return find()
        (ratio,) = _ratios(torch.tensor([sigma]), self.crossing)
        shares = self._apart()
        apart = 0.0 if shares is None else by_sample(shares.to(denoised), denoised)
        return self._held.at(ratio, step_of(sigma, self._sigmas), denoised, find, apart)

    def shaped(self, delta: Tensor, prediction: Tensor) -> Tensor:
        """Return `delta` within its limits and masks, beside the target's `prediction`."""
        for limits in self.delta.limits:
            delta = limited(delta, prediction, limits)
        for mask in self.masks:
            delta = delta * mask
        return delta

    def note(self, term: Term, sigma: Tensor, prediction: Tensor) -> None:
        """Remember a call: what it found and added beside the target's `prediction`."""
        self.doubt = term.doubt or self.doubt
        if term.together is not None:
            self._together = term.together
        apart = self._apart()
        if apart is None:
            self.last = self._last_added = None
        else:
            share = by_sample(apart.to(prediction), prediction)
            kept = term.own if self.crossing.loses else term.found[0]
            self.last = self.last if kept is None else share * kept
            self._last_added = share * term.added[0]
        self.trace.record(sigma, term.added[0], prediction, term.evaluated)

    def _apart(self) -> Tensor | None:
        """Return how far [B] or [1] each branch is to see a state of its own kind in the next call, None for none.

        Target and source then see the state without the delta, the adapted model with all of it. So it is over a
        way that loses something, where the source would misread in its own way what the delta has added, and the target
        in another; and where the delta gives colours to something that the source does not know, and it has never seen
        these at that noise either. What goes beyond strength 1 the pair sees: as the picture nears its style, the delta
        then falls.
        """
        if self.delta.adapted is not None and self.crossing.loses:
            return torch.ones(1)
        if self.doubt is None or not self.doubt.guessed.any():
            return None
        return self.doubt.guessed.to(self._together) / self._together.abs().clamp(min=1)


def _ratios(sigmas: Tensor, crossing: Crossing) -> list[float]:
    """Return the ratios of noise to signal at the target's `sigmas`."""
    return noise_to_signal(sigmas, crossing.levels).tolist()
