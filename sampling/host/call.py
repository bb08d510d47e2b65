"""One call of the target in a run: the branches are evaluated, and the deltas added."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from ..colour_map import with_detail
from ..delta import add_delta
from ..noise_levels import signal_of
from ..trace import Entry, sizes
from ..trust import trusted
from .branches import OpenBranch
from .deltas import OpenDelta
from .together import go_together, predict_together

# Of each delta what a call added, its size and whether it was evaluated; None where the delta did not act.
Added = list[tuple[float, bool] | None]
Parts = tuple[Tensor, ...]


class Call:
    """One call of the target, at the latent x [B, C, ...] and the noise level `sigma` [B].

    Predictions and deltas have two parts: denoised, and, where the sampler asks for it, unconditional.

    With a delta that has a `trust` there are two states. Target and source see `x`, the latent without
    what that delta added before: what they would find without the adapter. The adapted model sees the
    whole delta in it.
    """

    def __init__(
        self, deltas: Sequence[OpenDelta], x: Tensor, sigma: Tensor, with_uncond: bool, mask: Tensor | None = None
    ):
        self.deltas, self.sigma, self.with_uncond = deltas, sigma, with_uncond
        # Reading the noise level makes a GPU wait, so it is read only where an option asks for it.
        self.level = sigma.flatten()[0].item() if any(opened.applied.needs_sigma for opened in deltas) else None
        self.x = x
        for opened in deltas:
            before = opened.applied.last_added
            # Behind its window a delta is part of the picture.
            if opened.has_trust and before is not None and opened.applied.strength(self.level) != 0:
                # Where an inpainting mask keeps the picture, nothing was added.
                before = before if mask is None else before * mask.to(before)
                self.x = self.x - signal_of(before, sigma, opened.crossing.levels)
        # At `x`, shared by the deltas, and those of adapted models that saw a delta of their own in it.
        self.predictions: dict[OpenBranch, Parts] = {}
        self.apart: dict[OpenDelta, Parts] = {}
        self.parts: dict[OpenDelta, Parts] = {}
        self.evaluated: set[OpenDelta] = set()
        self.entries: dict[OpenDelta, Entry] = {}

    def add_deltas(self, prediction: Tensor, clean: Tensor, part: int) -> Tensor:
        """Return one part of the target's prediction with all deltas added; `clean` is its denoised part."""
        result = prediction
        for opened in self.deltas:
            strength = opened.applied.strength(self.level)
            if strength == 0:
                continue
            if opened not in self.parts:
                own = (clean,) if part == 0 else (clean, prediction)
                self.parts[opened] = opened.applied.parts(self.level, clean, partial(self._evaluate, opened, own))
            delta = opened.applied.shaped(self.parts[opened][part], prediction)
            result = add_delta(result, delta, strength)
            if part == 0:
                added = strength * delta
                opened.applied.last, opened.applied.last_added = self.parts[opened][0], added
                evaluated = opened in self.evaluated
                self.entries[opened] = opened.applied.trace.record(self.sigma, added, prediction, evaluated)
        return result

    def by_role(self) -> dict[str, Tensor]:
        """Return what each branch has predicted in this call."""
        found = {branch.role: prediction for branch, (prediction, *_) in self.predictions.items()}
        return found | {opened.adapted.role: prediction for opened, (prediction, *_) in self.apart.items()}

    def added(self) -> Added:
        entries = [self.entries.get(opened) for opened in self.deltas]
        return [
            None if entry is None else (size, entry.evaluated)
            for entry, size in zip(entries, sizes(entries), strict=True)
        ]

    def _evaluate(self, opened: OpenDelta, own: Parts) -> Parts:
        """Return the delta's parts in the target's latents; `own` are those of the target's prediction."""
        crossing = opened.crossing
        self.evaluated.add(opened)
        adapted = self._adapted(opened, own)
        source = self._prediction(opened, opened.source, own[0])
        trust, found = opened.applied.delta.trust, []
        for a, s, clean in zip(adapted, source, own, strict=False):
            delta = crossing.delta(a, s)
            if crossing.coarse or trust is not None:
                disagreement = crossing.disagreement(clean, s)
            if crossing.coarse:
                delta = with_detail(delta, disagreement, clean, crossing.coarse)
            if trust is not None:
                delta = trusted(delta, disagreement, clean, trust)
            found.append(delta)
        return tuple(found)

    def _adapted(self, opened: OpenDelta, own: Parts) -> Parts:
        crossing, before = opened.crossing, opened.applied.last
        if opened.adapted is None:
            return tuple(crossing.in_source(part) for part in own)
        if opened.has_trust and before is not None:
            x = self.x + signal_of(before, self.sigma, crossing.levels)
            seen = crossing.seen_by(opened.adapted.levels, x, self.sigma, own[0] + before)
            adapted = self.apart[opened] = opened.adapted.predict(*seen, self.with_uncond)
            return adapted
        missing = [branch for branch in opened.branches if branch not in self.predictions]
        if len(missing) == 2 and go_together(*missing):
            seen = crossing.seen_by(missing[0].levels, self.x, self.sigma, own[0])
            self.predictions |= zip(missing, predict_together(*missing, *seen, self.with_uncond), strict=True)
        return self._prediction(opened, opened.adapted, own[0])

    def _prediction(self, opened: OpenDelta, branch: OpenBranch, clean: Tensor) -> Parts:
        """Return what a branch predicts at `x`, evaluated once a call; `clean` is the target's prediction there."""
        if branch not in self.predictions:
            seen = opened.crossing.seen_by(branch.levels, self.x, self.sigma, clean)
            self.predictions[branch] = branch.predict(*seen, self.with_uncond)
        return self.predictions[branch]
