"""Deltas about things that the source does not know: what of them is trusted, and what is carried instead.

Where the source does not know what is asked for, it draws something else, and the adapted model draws that in its own
way. Their difference then has a shape of its own. It need not be taken: where all that the adapted model does is to
change colours, the same can be done to what the target draws. Four things are asked of each picture, each of them
the same whatever colours two bases prefer. The first two are asked of the predictions without guidance, which makes
every difference larger and may be another in each model:

colours    How much of the delta is a map of the source's colours? Of a style most (0.84 to 0.92 on the lab while noise
           is strong, lab/doubts.md); of a control, another prompt or a few-step LoRA little (0.1 to 0.35): there a
           shape is what is wanted. Where the source does not know the name, the two draw apart as noise falls. So it is
           the mean of a run's calls that counts, each as much as noise hides of a picture.
unknown    How much of what noise hid have the two guessed otherwise? Does the source know the name? Once the delta
           stands in the picture, its colours mislead the source. So this is asked at a run's first call, and then only
           of what is doubted, which source and target see without the delta.
elsewhere  How much of what guidance does to the target is not what it does to the source? Over a way that loses
           something a source guesses otherwise for that alone. But what a known name asks for, guidance draws in both.
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
ELSEWHERE = 0.4, 0.7  # from where to where guidance leads a source elsewhere
# Half of a picture is guessed at this ratio of noise to signal. Pixels tell of their neighbours, so it is above 1.
HALF_GUESSED = 2.0
# Times the limit, allowed beyond it for a target that the run does not guide: distilled models do so themselves.
WITHIN = 4.0
UNTOLD = 0.5  # how far a name counts as known where a model has no guidance
ROUGH_UNLIKE = 4.0  # times `UNLIKE`, where what is lost can be seen: it differs in the end too
# Pictures are compared with so many pixels along their shorter edge: as shapes, without texture. And with so many for
# each channel of the map, or it would explain anything.
LAYOUT, FOR_EACH = 8, 4


@dataclass(frozen=True)
class Trust:
    """The share of what noise hides that target and source may guess otherwise until the delta is not trusted."""

    limit: float = 0.035

    def allowed(self, misleads: float, known: Tensor, within: bool) -> Tensor:
        """Return the limit [B] over a way that `misleads` a source which, by its guidance, is `known` [B] to know.

        Beyond that more is allowed to a target that may be guided `within`.
        """
        return self.limit * (1 + misleads * known + WITHIN * within)


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
    shares of a picture, the steepest it has been. `elsewhere` is how much of the target's guidance is not the source's,
    the least that the mean over the calls has been. `strange` is how far the two say that the source does not know what
    is drawn, `guessed` how far the delta is a change of colours as well, and `share` what is doubtful of it now, as
    long as source and target still differ.

    `contrast` is the largest share of a picture's contrast that the change of colours has left so far, and `gain` what
    is missing of it now, as a factor: a picture that has once been given it must not fade again, for the adapted model
    would see a pale shape, and leave it out at the next call. `sums` [6, B] are those over the calls of a run.
    """

    unknown: Tensor
    elsewhere: Tensor
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
    trust: Trust,
    misleads: float,
    before: Doubt | None,
    clean: Tensor,
    taken_off: bool = False,
    rough: bool = False,
) -> Doubt:
    """Return how doubtful the delta of adapted and source is, by what they and the target predict.

    What is not guided is one tensor in `guided` and `unguided`. `ratio` [B] is noise to signal, `misleads` says how
    much the way to the source does, `before` what the last call found. `clean` [B] or [1] says how far target and
    source see the state without what the delta added: its colours mislead the source, so a call counts that far. Of a
    delta that is `taken_off` it is the adapted model that draws in the target's look. `rough` says that the source sees
    the target's picture only roughly. Where the target draws as the one does that has its look, or where there is no
    delta, nothing is doubtful.
    """
    known = guided.known(taken_off)
    hidden = 1 / (1 + (HALF_GUESSED / ratio.double().cpu()) ** 2)
    guidance, there = _guidance(known, unguided.known(taken_off)), _guidance(guided.own, unguided.own)
    explained = 1 - unexplained(unguided.source, unguided.adapted - unguided.source, with_mean=True)
    guessed_otherwise = _unlike(unguided.own, unguided.known(taken_off), guidance)
    counts = clean.double().cpu() * hidden
    told = led_elsewhere = torch.zeros_like(hidden)
    if misleads and guidance is not None and there is not None:
        told, led_elsewhere = counts, _unlike(there, guidance)
    weights = hidden, counts * hidden, told
    sums = torch.stack([*weights, hidden * explained, counts * guessed_otherwise, told * led_elsewhere])
    most = left = contrast(guided.own if rough else known, guided.other(taken_off))
    if before is not None:
        sums, most = sums + before.sums, torch.maximum(left, before.contrast)
    coloured, unknown, led_elsewhere = sums[3:] / sums[:3].clamp(min=1e-12)
    is_told = sums[2] > 0
    elsewhere = torch.where(is_told, led_elsewhere, 1.0)
    if before is not None:
        unknown, elsewhere = torch.maximum(unknown, before.unknown), torch.minimum(elsewhere, before.elsewhere)
    known_name = torch.where(is_told, 1 - _rise(elsewhere, *ELSEWHERE), UNTOLD)
    limit = trust.allowed(misleads, known_name, within=there is None)
    strange = _rise(unknown, 2 / 3 * limit, 6 / 5 * limit)
    guessed = share = strange * _rise(coloured, *COLOURS)
    if guessed.any():
        share = guessed * _rise(_unlike(guided.own, known) / (ROUGH_UNLIKE if rough else 1.0), *UNLIKE)
    gain = (most.clamp(max=1) / left.clamp(min=1e-6)).clamp(min=1)
    return Doubt(unknown, elsewhere, strange, guessed, share, most, gain, sums)


def without_doubt(
    drawn: Drawn, share: Tensor, gain: Tensor | float = 1.0, taken_off: bool = False, rough: bool = False
) -> tuple[Tensor, Tensor]:
    """Return what source and adapted predict [B, C, ...], a `share` [B] of it drawn as the target draws it.

    There the one with the target's look predicts what the target does, and the other that in its own colours, with
    `gain` [B] times its contrast. What a source draws that sees the target's picture only in a `rough` way has another
    contrast than the target's: of its colours only the mean is looked at.
    """
    own, known, other = drawn.own, drawn.known(taken_off), drawn.other(taken_off)
    share = by_sample(share.to(own), own)
    in_colours = recoloured(own, own if rough else known, other, gain)
    if rough:
        in_colours = in_colours + _mean(own) - _mean(known)
    known, other = torch.lerp(known, own, share), torch.lerp(other, in_colours, share)
    return (other, known) if taken_off else (known, other)


def _guidance(guided: Tensor, unguided: Tensor) -> Tensor | None:
    """Return what guidance changes in a prediction, None where there is none."""
    return None if guided is unguided else guided - unguided


def _unlike(own: Tensor, known: Tensor, besides: Tensor | None = None) -> Tensor:
    """Return the share [B] of the layout of `own` that no map of the channels of `known`, nor of `besides`, gives."""
    if besides is not None:
        known = torch.cat([known, besides], 1)
    edge = max(LAYOUT, math.ceil((FOR_EACH * known.shape[1]) ** 0.5))
    return unexplained(_layout(known, edge), _layout(own, edge))


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


def _rise(value: Tensor, start: float | Tensor, end: float | Tensor) -> Tensor:
    """Return 0 up to `start`, 1 from `end`, and a smooth step in between."""
    share = ((value - start) / (end - start)).clamp(0, 1)
    return share * share * (3 - 2 * share)
