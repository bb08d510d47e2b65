"""The method of arXiv 2512.03056, free of any host: a delta and how it is added."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Branch:
    """One model with its conditioning and the scale of its classifier-free guidance."""

    model: Any
    positive: Any
    negative: Any
    cfg: float


@dataclass(frozen=True, eq=False)
class Delta:
    """What `adapted` predicts beyond `source`, times `strength`, and how the two see the target's state.

    They run at `scale` times the target's resolution. `same_detail` gives them less noise there, so
    that they see as much of the picture. `bridge` leads from the target's latents to theirs; without
    one the two kinds have to be the same up to scale and shift.
    """

    source: Branch
    adapted: Branch
    strength: float = 1.0
    scale: float = 1.0
    same_detail: bool = False
    bridge: Any = None


def add_delta(prediction: Tensor, delta: Tensor, strength: float) -> Tensor:
    """Return `prediction + strength * delta`, of one shape: denoised latents, or their unconditional parts.

    A delta of zero leaves `prediction` as it is, bit for bit.
    """
    return prediction + strength * delta
