"""The method of arXiv 2512.03056, free of any host: a delta and how it is added."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .checks import require_number, step_of
from .limits import Limits, limited
from .noise_levels import NoiseLevels, noise_to_signal
from .reuse import Held, Reuse
from .schedule import Progress, Schedule
from .trace import Trace


@dataclass(frozen=True, eq=False)
class Branch:
    """One model with its conditioning and the scale of its classifier-free guidance."""

    model: Any
    positive: Any
    negative: Any
    cfg: float

    def __post_init__(self):
        require_number("cfg of a delta's pair", self.cfg)

    @property
    def prompts(self) -> tuple[Any, Any]:
        return self.positive, self.negative


@dataclass(frozen=True, eq=False)
class Delta:
    """What `adapted` predicts beyond `source`, times `strength`, and how it is seen and added.

    Without `adapted` the target's own prediction takes its place.

    Source and adapted run at `scale` times the target's resolution. With `same_detail` their noise is
    what the way to their latents leaves of it, so that they see as much of the picture. `bridge` leads
    from the target's latents to theirs; without one the two kinds have to be the same up to scale and
    shift.

    The factors of `schedules` and `masks` multiply; `limits` apply one after the other. `reuse` says
    when the delta is evaluated, None for always. `trust` is the limit of `trust.trusted`, None for taking
    the delta as it is. Runs note what they did in `trace`, which changed copies share.
    """

    source: Branch
    adapted: Branch | None
    strength: float = 1.0
    scale: float = 1.0
    same_detail: bool = False
    bridge: Any = None
    schedules: tuple[Schedule, ...] = ()
    masks: tuple[Tensor, ...] = ()
    limits: tuple[Limits, ...] = ()
    reuse: Reuse | None = None
    trust: float | None = None
    trace: Trace = field(default_factory=Trace)

    def __post_init__(self):
        require_number("strength of a delta", self.strength)


def add_delta(prediction: Tensor, delta: Tensor, strength: float) -> Tensor:
    """Return `prediction + strength * delta`, of one shape: denoised latents, or their unconditional parts.

    A delta of zero leaves `prediction` as it is, bit for bit.
    """
    return prediction + strength * delta


def role_names(deltas: Sequence[Delta]) -> list[tuple[str, str]]:
    """Return what users call the two branches of each delta; of several deltas with their number.

    Without an adapted branch the delta is that of autoguidance, with a weak model beside the target.
    """
    numbers = [f" (delta {number})" if len(deltas) > 1 else "" for number in range(1, len(deltas) + 1)]
    return [
        (f"source{number}", f"adapted{number}") if delta.adapted else (f"weak{number}", "target")
        for delta, number in zip(deltas, numbers, strict=True)
    ]


class DeltaInRun:
    """A delta during one run of the target, whose `sigmas` fall from noise to 0.

    `levels` are the target's; `sigma_of` gives the sigma of a percentage of the run, as its model
    counts it. `masks` are those of the delta in the shape of the latent, or one that broadcasts to it.
    """

    def __init__(
        self,
        delta: Delta,
        sigmas: Tensor,
        levels: NoiseLevels,
        sigma_of: Callable[[float], float],
        masks: Sequence[Tensor] = (),
    ):
        self.delta, self.sigmas, self.levels, self.masks = delta, sigmas.cpu(), levels, masks
        self.needs_sigma = bool(delta.schedules or delta.reuse)
        self._progress = Progress(sigma_of) if delta.schedules else None
        self._held = Held(delta.reuse) if delta.reuse else None
        self.trace = delta.trace
        self.trace.restart()
        # Of the last call: the delta, and what of it was added.
        self.last, self.last_added = None, None

    def strength(self, sigma: float | None) -> float:
        """Return the strength at `sigma`, which may be None where nothing depends on it."""
        strength = self.delta.strength
        for schedule in self.delta.schedules:
            strength *= schedule.factor(self._progress.percent(sigma))
        return strength

    def parts(
        self, sigma: float | None, clean: Tensor, evaluate: Callable[[], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """Return what `evaluate` returns, or what is kept of it; `clean` is the target's prediction."""
        if self._held is None:
            return evaluate()
        ratio = noise_to_signal(torch.tensor(sigma), self.levels).item()
        return self._held.at(ratio, step_of(sigma, self.sigmas), clean, evaluate)

    def shaped(self, delta: Tensor, prediction: Tensor) -> Tensor:
        """Return `delta` within its limits and masks, beside the target's `prediction`."""
        for limits in self.delta.limits:
            delta = limited(delta, prediction, limits)
        for mask in self.masks:
            delta = delta * mask
        return delta
