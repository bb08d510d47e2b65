"""What a delta is: two branches, and how their difference is seen, shaped and added. Settings only, no run."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .bridges import FunctionBridge, LinearBridge
from .limits import Limits
from .reuse import Reuse
from .schedule import Schedule

# The rule by which a call joins a prediction and what deltas add to it, all of one shape.
Combine = Callable[[Tensor, Sequence[Tensor]], Tensor]


@dataclass(frozen=True, eq=False)
class Branch:
    """One model with its conditioning and the scale of its classifier-free guidance.

    With `guided` its guidance acts between these two ratios of noise to signal alone, as in Kynkäänniemi et al. 2024
    (arXiv 2404.07724): those of the target, and in a run those that the branch sees. Over a bridge that loses
    something it always acts.
    """

    model: Any
    positive: Any
    negative: Any
    cfg: float
    guided: tuple[float, float] | None = None

    @property
    def prompts(self) -> tuple[Any, Any]:
        return self.positive, self.negative


@dataclass(frozen=True)
class View:
    """How the pair sees the target's state: at `scale` times its resolution, over a `bridge` between latents.

    With an `edge` a target's picture of more than edge x edge pixels counts as one of so many: that is the largest
    that the pair knows.
    With `same_detail` its noise is what the way to its latents leaves of it, so that it sees as much of
    the picture. Without a bridge the two kinds of latents have to be the same up to scale and shift.
    """

    scale: float = 1.0
    same_detail: bool = False
    bridge: LinearBridge | FunctionBridge | None = None
    edge: int | None = None

    @property
    def changes_nothing(self) -> bool:
        return self == View()


@dataclass(frozen=True, eq=False)
class Delta:
    """What `adapted` predicts beyond `source`, times `strength`, and how it is seen and added.

    Without `adapted` the target's own prediction takes its place. The factors of `schedules` and `masks`
    multiply; `limits` apply one after the other. `reuse` says when the delta is evaluated: by default at every call.
    """

    source: Branch
    adapted: Branch | None
    strength: float = 1.0
    view: View = View()
    schedules: tuple[Schedule, ...] = ()
    masks: tuple[Tensor, ...] = ()
    limits: tuple[Limits, ...] = ()
    reuse: Reuse = field(default_factory=Reuse)


def add_all(prediction: Tensor, terms: Sequence[Tensor]) -> Tensor:
    """Return the sum of a `prediction` and all `terms`, of one shape. Terms of zero leave it as it is, bit for bit."""
    for term in terms:
        prediction = prediction + term
    return prediction


@dataclass(frozen=True, eq=False)
class Deltas:
    """Several deltas, and the rule by which a call combines them with the target's prediction: their sum."""

    deltas: tuple[Delta, ...]
    combine: Combine = add_all

    def __iter__(self) -> Iterator[Delta]:
        return iter(self.deltas)

    def __len__(self) -> int:
        return len(self.deltas)

    def each(self, change: Callable[[Delta], Delta]) -> "Deltas":
        """Return all with `change` applied, or these themselves where it changes none."""
        changed = tuple(map(change, self.deltas))
        same = all(new is old for new, old in zip(changed, self.deltas, strict=True))
        return self if same else Deltas(changed, self.combine)

    def and_also(self, others: "Deltas") -> "Deltas":
        """Return these and `others` together, combined by the rule of these."""
        return Deltas((*self.deltas, *others.deltas), self.combine)


def role_names(deltas: Sequence[Delta], target: str = "target") -> list[tuple[str, str]]:
    """Return what users call the two branches of each delta; of several deltas with their number.

    Without an adapted branch the delta is that of autoguidance, with a weak model beside the target. A `target`
    that is itself a branch of another delta is called by its role there.
    """
    numbers = [f" (delta {number})" if len(deltas) > 1 else "" for number in range(1, len(deltas) + 1)]
    whose = "" if target == "target" else f"{target}'s "
    return [
        (f"{whose}source{number}", f"{whose}adapted{number}") if delta.adapted else (f"{whose}weak{number}", target)
        for delta, number in zip(deltas, numbers, strict=True)
    ]
