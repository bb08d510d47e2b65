"""Deltas about things that the source does not know: what of them is trusted, and what is carried instead.

Where the source does not know what is asked for, it draws something else, and the adapted model draws that in its own
way. Their difference then has a shape of its own. It need not be taken: where all that the adapted model does is to
change colours, the same can be done to what the target draws. Three things are asked of each picture, each of them
the same whatever colours two bases prefer. The first two are asked of the predictions without guidance, which makes
every difference larger and may be another in each model:

colours    How much of the delta is a map of the source's colours? Of a style most (0.84 to 0.92 on the lab while noise
           is strong, lab/doubts.md); of a control, another prompt or a few-step LoRA little (0.1 to 0.35): there a
           shape is what is wanted. Where the source does not know the name, the two draw apart as noise falls. So it is
           the mean of a run's calls that counts, each as much as noise hides of a picture.
unknown    How much of what noise hid have the two guessed otherwise? Does the source know the name? Once the delta
           stands in the picture, its colours mislead the source. So this is asked at a run's first call, and then only
           of what is doubted, which source and target see without the delta.
unlike     How much of the target's picture is not in the source's now? In the end nothing is left to guess: both see
           one shape, and the delta brings its lines and textures.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .recolour import contrast, recoloured, unexplained
from .samples import by_sample

COLOURS = 0.7, 0.8  # from where to where a delta counts as a change of colours
UNLIKE = 0.0025, 0.0075  # from where to where two pictures count as different
# Half of a picture is guessed at this ratio of noise to signal. Pixels tell of their neighbours, so it is above 1.
HALF_GUESSED = 2.0
# Times the limit, allowed beyond it for a target that the run does not guide: distilled models do so themselves.
WITHIN = 4.0
ROUGH_UNLIKE = 4.0  # times `UNLIKE`, where what is lost can be seen: it differs in the end too
# Pictures are compared with so many pixels along their shorter edge: as shapes, without texture. And with so many for
# each channel of the map, or it would explain anything.
LAYOUT, FOR_EACH = 8, 4


@dataclass(frozen=True)
class Trust:
    """The share of what noise hides that target and source may guess otherwise until the delta is not trusted."""

    limit: float = 0.035

    def allowed(self, misleads: float, within: bool) -> float:
        """Return the limit over a way that `misleads` a source, and for a target that may be guided `within`."""
        return self.limit * (1 + misleads + WITHIN * within)


USUAL = Trust()


class Drawn(NamedTuple):
    """What target, source and adapted model predict at one state, in the source's latents [B, C, ...]."""

    own: Tensor
    source: Tensor
    adapted: Tensor

    def known(self, taken_off: bool) -> Tensor:
        """Return that of the one that has the target's look: the source, or adapted where the delta is `taken_off`."""
        return self.adapted if taken_off else self.source

    def other(self, taken_off: bool) -> Tensor:
        return self.known(not taken_off)


@dataclass(frozen=True, eq=False)
class Doubt:
    """What was found of each picture [B], on the CPU.

    `unknown` is the slope of a line through the calls of a run: what was guessed otherwise over what noise hid, both as
    shares of a picture, the steepest it has been. `strange` is how far that says that the source does not know what is
    drawn, `guessed` how far the delta is a change of colours as well, and `share` what is doubtful of it now, as long
    as source and target still differ.

    `contrast` is the largest share of a picture's contrast that the change of colours has left so far, and `gain` what
    is missing of it now, as a factor: a picture that has once been given it must not fade again, for the adapted model
    would see a pale shape, and leave it out at the next call. `sums` [4, B] are those over the calls of a run.
    """

    unknown: Tensor
    strange: Tensor
    guessed: Tensor
    share: Tensor
    contrast: Tensor
    gain: Tensor
    sums: Tensor


def doubt(
    guided: Drawn,
    unguided: Drawn,
    ratio: Tensor,
    limit: float,
    before: Doubt | None,
    clean: Tensor,
    taken_off: bool = False,
    rough: bool = False,
) -> Doubt:
    """Return how doubtful the delta of adapted and source is, by what they and the target predict.

    `ratio` [B] is noise to signal, `limit` what is allowed, `before` what the last call found. `clean` [B] or [1] says
    how far both see the state without what the delta added: its colours mislead the source, so a call counts that far.
    Of a delta that is `taken_off` it is the adapted model that draws in the target's look. `rough` says that the source
    sees the target's picture only roughly. Where the target draws as the one does that has its look, or where there is
    no delta, nothing is doubtful.
    """
    hidden = 1 / (1 + (HALF_GUESSED / ratio.double().cpu()) ** 2)
    guessed_otherwise = _unlike(unguided, taken_off, guided.known(taken_off) - unguided.known(taken_off))
    explained = 1 - unexplained(unguided.source, unguided.adapted - unguided.source, with_mean=True)
    counts = clean.double().cpu() * hidden
    sums = torch.stack([hidden, hidden * explained, counts * hidden, counts * guessed_otherwise])
    most = left = contrast(guided.own if rough else guided.known(taken_off), guided.other(taken_off))
    if before is not None:
        sums, most = sums + before.sums, torch.maximum(left, before.contrast)
    weight, coloured, squared, missed = sums.clamp(min=1e-12)
    unknown = missed / squared
    if before is not None:
        unknown = torch.maximum(unknown, before.unknown)
    by_unlike = ROUGH_UNLIKE if rough else 1.0
    strange = _rise(unknown, 2 / 3 * limit, 6 / 5 * limit)
    guessed = strange * _rise(coloured / weight, *COLOURS)
    share = guessed * _rise(_unlike(guided, taken_off) / by_unlike, *UNLIKE) if guessed.any() else guessed
    gain = (most.clamp(max=1) / left.clamp(min=1e-6)).clamp(min=1)
    return Doubt(unknown, strange, guessed, share, most, gain, sums)


def without_doubt(
    own: Tensor, known: Tensor, other: Tensor, share: Tensor, gain: Tensor | float = 1.0, rough: bool = False
) -> tuple[Tensor, Tensor]:
    """Return `known` and `other` [B, C, ...], for a `share` [B] with `own` and `own` in the colours of `other` instead.

    What `other` is beyond `known` then has the target's shape, with `gain` [B] times the contrast of `other`. What the
    source draws where it sees the target's picture only in a `rough` way has another contrast than the target's: of its
    colours only the mean is looked at.
    """
    share = by_sample(share.to(own), own)
    in_colours = recoloured(own, own if rough else known, other, gain)
    if rough:
        in_colours = in_colours + _mean(own) - _mean(known)
    return torch.lerp(known, own, share), torch.lerp(other, in_colours, share)


def _unlike(drawn: Drawn, taken_off: bool, guidance: Tensor | None = None) -> Tensor:
    """Return the share [B] of the target's layout that no map of the colours of the one with its look gives.

    Nor, where it is given, of what `guidance` changes there.
    """
    known = drawn.known(taken_off)
    if guidance is not None and guidance.any():
        known = torch.cat([known, guidance], 1)
    edge = max(LAYOUT, math.ceil((FOR_EACH * known.shape[1]) ** 0.5))
    return unexplained(_layout(known, edge), _layout(drawn.own, edge))


def _layout(latent: Tensor, edge: int) -> Tensor:
    """Return a latent [B, C, ..., H, W] in coarse pixels, at least `edge` along each edge if it has them."""
    pixels = min(latent.shape[-2:]) // edge
    if pixels < 2 or latent.ndim < 4:
        return latent
    flat = latent.flatten(1, -3)
    return functional.avg_pool2d(flat, pixels).unflatten(1, latent.shape[1:-2])


def _mean(latent: Tensor) -> Tensor:
    """Return the mean of each channel, in a form that adds to a latent [B, C, ...]."""
    return latent.mean(tuple(range(2, latent.ndim)), keepdim=True)


def _rise(value: Tensor, start: float, end: float) -> Tensor:
    """Return 0 up to `start`, 1 from `end`, and a smooth step in between."""
    share = ((value - start) / (end - start)).clamp(0, 1)
    return share * share * (3 - 2 * share)
