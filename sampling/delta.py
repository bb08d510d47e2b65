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
    """What `adapted` predicts beyond `source`, times `strength`."""

    source: Branch
    adapted: Branch
    strength: float = 1.0


def add_delta(prediction: Tensor, adapted: Tensor, source: Tensor, strength: float) -> Tensor:
    """Return `prediction + strength * (adapted - source)`, all of one shape.

    The three are predictions of one kind at one noisy state: denoised latents, or their
    unconditional parts. Equal `adapted` and `source` leave `prediction` as it is, bit for bit.
    """
    return prediction + strength * (adapted - source)
