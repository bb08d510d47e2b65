"""Line charts and heat maps, drawn with Pillow: ComfyUI brings no library for plots."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import floor, log10

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# All is drawn this many times as large and averaged down, which smooths lines, points and letters.
SCALE = 3

# From a chart up to its title and down to the line of text below it, in pixels.
TITLE, CAPTION = 16, 40
INK, FRAME, GRID, LINE = "#202020", "#808080", "#e6e6e6", "#b4b4b4"
# As in the live chart: told apart by colour-blind eyes, and by their shape.
EVALUATED, REUSED = "#1f7ac4", "#d0590a"
# From little to much, rising in lightness throughout, so that it also reads in grey.
HEAT = ("#08061e", "#5b1670", "#bb3754", "#f98c0a", "#fcf6a8")

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle of the finished picture, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2


class Canvas:
    """A white picture of `width` by `height` pixels; everything is placed in these."""

    def __init__(self, width: int, height: int):
        self.large = Image.new("RGB", (width * SCALE, height * SCALE), "white")
        self.pen = ImageDraw.Draw(self.large)

    def picture(self) -> Image.Image:
        return self.large.reduce(SCALE)

    def text(self, x: float, y: float, words: str, anchor: str = "mm", size: int = 15) -> None:
        """Write `words` at a point; `anchor` says which part of them is there, in Pillow's letters."""
        self.pen.text((x * SCALE, y * SCALE), words, INK, _font(size), anchor)

    def line(self, points: Iterable[Point], colour: str, width: float = 1) -> None:
        self.pen.line(_enlarged(points), colour, round(width * SCALE), joint="curve")

    def mark(self, x: float, y: float, evaluated: bool) -> None:
        """Draw one call: a blue dot where it was evaluated, an orange diamond where it was reused."""
        if evaluated:
            self.pen.ellipse(_enlarged([(x - 3.5, y - 3.5), (x + 3.5, y + 3.5)]), EVALUATED)
        else:
            self.pen.polygon(_enlarged([(x - 4.5, y), (x, y - 4.5), (x + 4.5, y), (x, y + 4.5)]), REUSED)

    def paste(self, image: Image.Image, box: Box, resample: Image.Resampling) -> None:
        """Stretch `image` over `box`, and over no less than a dot of it."""
        left, top, right, bottom = (round(edge * SCALE) for edge in (box.left, box.top, box.right, box.bottom))
        size = max(1, right - left), max(1, bottom - top)
        self.large.paste(image.resize(size, resample), (left, top))


def line_chart(
    canvas: Canvas,
    box: Box,
    title: str,
    values: np.ndarray,
    evaluated: Sequence[bool],
    top: float,
    step: float,
    stressed: float = 0,
) -> None:
    """Draw `values` [N], one a call, from 0 to `top` with a tick every `step`. What is not finite is left out.

    The line across at `stressed` is darker.
    """
    calls = len(values)

    def across(call: float) -> float:
        return box.left + (call - 0.5) / calls * (box.right - box.left)

    def up(value: float) -> float:
        return box.bottom - value / top * (box.bottom - box.top)

    canvas.text(box.middle, box.top - TITLE, title, size=17)
    for tick in _ticks(0, top, step):
        canvas.line([(box.left, up(tick)), (box.right, up(tick))], FRAME if tick == stressed else GRID)
        canvas.line([(box.left - 4, up(tick)), (box.left, up(tick))], FRAME)
        canvas.text(box.left - 8, up(tick), f"{tick:.4g}", "rm")
    for tick in _ticks(1, calls, max(1, nice_step(calls, 8))):
        canvas.line([(across(tick), box.bottom), (across(tick), box.bottom + 4)], FRAME)
        canvas.text(across(tick), box.bottom + 8, f"{tick:.0f}", "mt")
    canvas.text(box.left, box.bottom + CAPTION, "model call with the delta", "lm")
    canvas.line([(box.left, box.top), (box.left, box.bottom), (box.right, box.bottom)], FRAME)
    points = [(across(call), up(value)) for call, value in enumerate(values, start=1)]
    drawn = np.isfinite(values)
    canvas.line([point for point, there in zip(points, drawn, strict=True) if there], LINE, 1.5)
    for point, there, fresh in zip(points, drawn, evaluated, strict=True):
        if there:
            canvas.mark(*point, fresh)


def legend(canvas: Canvas, box: Box, reused: bool) -> None:
    """Say below the chart in `box` what its marks mean."""
    right, y = box.right, box.bottom + CAPTION
    for words, evaluated in [("reused", False)] * reused + [("evaluated", True)]:
        canvas.text(right, y, words, "rm")
        right -= canvas.pen.textlength(words, _font(15)) / SCALE + 9
        canvas.mark(right, y, evaluated)
        right -= 18


def heat_map(canvas: Canvas, box: Box, title: str, heat: np.ndarray) -> None:
    """Draw `heat` [H, W] as large as it fits into `box` with square pixels, from its least to its greatest value."""
    canvas.text(box.middle, box.top - TITLE, title, size=17)
    height, width = heat.shape
    size = min((box.right - box.left) / width, (box.bottom - box.top) / height)
    left, top = box.middle - size * width / 2, (box.top + box.bottom - size * height) / 2
    frame = Box(left, top, left + size * width, top + size * height)
    least, most = heat.min(), heat.max()
    canvas.paste(_coloured((heat - least) / (most - least or 1)), frame, Image.Resampling.NEAREST)
    y = box.bottom + CAPTION
    scale = Box(box.middle - 60, y - 5, box.middle + 60, y + 5)
    canvas.paste(_coloured(np.linspace(0, 1, 256)[None]), scale, Image.Resampling.BILINEAR)
    canvas.text(scale.left - 8, y, "least", "rm")
    canvas.text(scale.right + 8, y, "most", "lm")


def nice_step(span: float, most: int) -> float:
    """Return the smallest of 1, 2, 5, 10, ... times a power of ten that divides `span` into at most `most` parts."""
    power = 10 ** floor(log10(span / most))
    return next(factor * power for factor in (1, 2, 5, 10) if span <= most * factor * power)


def _ticks(low: float, high: float, step: float) -> list[float]:
    """Return the multiples of `step` from `low` to `high`."""
    return [step * count for count in range(floor(high / step + 1e-6) + 1) if step * count >= low]


def _coloured(shares: np.ndarray) -> Image.Image:
    """Return shares [H, W] in 0..1 as colours of HEAT."""
    stops = np.array([tuple(bytes.fromhex(colour[1:])) for colour in HEAT])
    places = np.linspace(0, 1, len(stops))
    channels = [np.interp(shares, places, stops[:, channel]) for channel in range(3)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def _enlarged(points: Iterable[Point]) -> list[Point]:
    # Points are middles of pixels: a line of one pixel then fills one, and not halves of two.
    return [(x * SCALE + SCALE // 2, y * SCALE + SCALE // 2) for x, y in points]


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * SCALE)
