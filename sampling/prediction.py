"""The types of one call: what models are asked, what they predict, and what a delta contributes."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

# Denoised [B, C, ...], followed by its unconditional part where the sampler asks for it (CFG++).
Prediction = tuple[Tensor, ...]

TARGET = "target"  # the target among the models of a request


@dataclass(frozen=True, eq=False)
class Request:
    """Asks `models` for their predictions at one state: the noisy latent `x` [B, C, ...] at `sigma` [B]."""

    models: tuple[Hashable, ...]
    x: Tensor
    sigma: Tensor


# Evaluates the models of all requests. No model appears twice.
Evaluate = Callable[[Sequence[Request]], Mapping[Hashable, Prediction]]


@dataclass(frozen=True, eq=False)
class Contribution:
    """What one delta contributes to a call, in the target's latents.

    `raw` is adapted - source. `applied` is what was added to the target's prediction: `raw` after limits and masks,
    times the strength. `evaluated` is False where `raw` was reused from an earlier call.
    """

    raw: Prediction
    applied: Prediction
    evaluated: bool
