"""Deltas about things that the source does not know: what of them is trusted, and what is carried instead.

Where the source does not know what is asked for, it draws something else, and the adapted model draws that in its own
way. Their difference then has a shape of its own. It need not be taken: where all that the adapted model does is to
change colours, the same can be done to what the target draws. Three things are asked of each picture, each of them
the same whatever colours two bases prefer:

colours    How much of the delta is a map of the source's colours? Of a style nearly all (0.65 to 0.95 on the lab); of a
           control, another prompt or a few-step LoRA little (0.1 to 0.4): there a shape is what is wanted.
unknown    How much of what noise hides have the two guessed otherwise, over the run so far? Does the source know the name?
unlike     How much of the target's picture is not in the source's now? In the end nothing is left to guess: both see one
           shape, and the delta brings its lines and textures.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .recolour import recoloured, unexplained

COLOURS = 0.6, 0.75  # from where to where a delta counts as a change of colours
UNLIKE = 0.01, 0.03  # from where to where two pictures count as different
# Half of a picture is guessed at this ratio of noise to signal. Pixels tell of their neighbours, so it is above 1.
HALF_GUESSED = 2.0


@dataclass(frozen=True)
class Trust:
    """The share of what noise hides that target and source may guess otherwise until the delta's shape is not trusted."""

    limit: float = 0.15


@dataclass(frozen=True, eq=False)
class Doubt:
    """What was found of each picture [B], on the CPU: how far its delta is one of colours, and the doubtful share of it.

    `hidden` and `missed` add up over a run: the shares of a picture that noise hid, and those that were guessed otherwise.
    """

    colours: Tensor
    share: Tensor
    hidden: Tensor
    missed: Tensor


def doubt(
    own: Tensor, known: Tensor, source: Tensor, adapted: Tensor, ratio: Tensor, trust: Trust, before: Doubt | None
) -> Doubt:
    """Return how doubtful the delta of `adapted` and `source` [B, C, ...] is; everything in the source's latents.

    `own` is the target's prediction there, `known` that of the branch which draws in the target's look: the source, or
    the adapted model for a negative delta. `ratio` [B] is noise to signal, `before` what the last call found.
    Where `own` is `known`, or where there is no delta, nothing is doubtful.
    """
    hidden = 1 / (1 + (HALF_GUESSED / ratio.double().cpu()) ** 2)
    unlike = unexplained(known, own)
    missed = unlike
    if before is not None:
        hidden, missed = hidden + before.hidden, missed + before.missed
    colours = _rise(1 - unexplained(source, adapted - source, with_mean=True), *COLOURS)
    unknown = _rise(missed / hidden.clamp(min=1e-12), trust.limit / 2, trust.limit)
    return Doubt(colours, colours * unknown * _rise(unlike, *UNLIKE), hidden, missed)


def without_doubt(own: Tensor, known: Tensor, other: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return `known` and `other` [B, C, ...]; of a `share` [B] of them `own` instead, and `own` in the colours of `other`.

    What `other` is beyond `known` has the target's shape there.
    """
    share = share.to(own).reshape(-1, *[1] * (own.ndim - 1))
    return torch.lerp(known, own, share), torch.lerp(other, recoloured(own, known, other), share)


def _rise(value: Tensor, start: float, end: float) -> Tensor:
    """Return 0 up to `start`, 1 from `end`, and a smooth step in between."""
    share = ((value - start) / (end - start)).clamp(0, 1)
    return share * share * (3 - 2 * share)
