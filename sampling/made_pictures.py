"""Pictures made for fitting a bridge where nobody gives any: what photographs and drawings are made of.

Dead leaves, shapes that cover one another with sizes after a power law, have the edges and the scales of natural
pictures (Lee, Mumford, Huang 2001), and networks can learn to see from them (Baradad et al. 2021, "Learning to See by
Looking at Noise"). Between and on them: textures with a spectrum of 1/f (Field 1987), gradients, lines and letters.
Colours vary most in brightness, less from yellow to blue, least from red to green, as those of nature do (Ruderman,
Cronin, Chiao 1998); many are pure, or tints, as those of drawings are.
"""

import string
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

OPPONENT = np.array([[1.0, 1.0, 1.0], [0.5, 0.5, -1.0], [1.0, -1.0, 0.0]])  # brightness, yellow-blue, red-green
SPREAD = np.array([0.28, 0.13, 0.08])
FINER = 2  # drawn so many times finer, then averaged: no jagged edges


def made_pictures(count: int, size: int, seed: int = 0) -> Tensor:
    """Return pictures [count, size, size, 3] in 0..1, the same for the same seed; `size` is in pixels."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([_picture(rng, size) for _ in range(count)]))


def _picture(rng: np.random.Generator, size: int) -> np.ndarray:
    sheet = _sheet(_ground(rng, size))
    pen = ImageDraw.Draw(sheet)
    leaves, smallest = int(np.exp(rng.uniform(0, 3.5))), rng.uniform(0.03, 0.15)
    for _ in range(leaves):
        _leaf(rng, pen, sheet.size[0], smallest)
    for _ in range(int(rng.integers(0, 4))):
        _line(rng, pen, sheet.size[0])
    if rng.random() < 0.3:
        _words(rng, pen, sheet.size[0])
    picture = np.asarray(sheet.resize((size, size), Image.Resampling.BOX), np.float32) / 255
    if rng.random() < 0.5:  # not quite even, as most surfaces are
        picture = picture + _texture(rng, size, rng.uniform(0, 0.15)) - 0.5
    return np.clip(picture, 0, 1).astype(np.float32)


def _ground(rng: np.random.Generator, size: int) -> np.ndarray:
    kind = rng.random()
    if kind < 0.6:
        return np.ones((size, size, 1)) * _colour(rng)
    return _gradient(rng, size) if kind < 0.8 else _texture(rng, size, rng.uniform(0.2, 0.9))


def _colour(rng: np.random.Generator) -> np.ndarray:
    """Return a colour in 0..1: any, a tint as skies and paper have, or one of nature."""
    kind = rng.random()
    if kind < 0.7:
        pure = rng.random(3)
        return pure if kind < 0.3 else 1 - rng.uniform(0.1, 0.5) * (1 - pure)
    return np.clip(0.45 + (rng.normal(size=3) * SPREAD) @ OPPONENT, 0, 1)


def _ink(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(255 * value) for value in _colour(rng))


def _sheet(picture: np.ndarray) -> Image.Image:
    sheet = Image.fromarray((255 * np.clip(picture, 0, 1)).astype(np.uint8))
    return sheet.resize((FINER * sheet.width, FINER * sheet.height), Image.Resampling.BILINEAR)


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    angle, grid = rng.uniform(0, 2 * np.pi), np.linspace(-0.7, 0.7, size)
    share = np.clip(0.5 + grid[:, None] * np.sin(angle) + grid * np.cos(angle), 0, 1)[..., None]
    return _colour(rng) * share + _colour(rng) * (1 - share)


def _texture(rng: np.random.Generator, size: int, contrast: float) -> np.ndarray:
    """Noise with the spectrum 1 / f^a, around a middle grey."""
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    f[0, 0] = 1 / size
    spectrum = np.fft.rfft2(rng.normal(size=(3, size, size))) / f ** rng.uniform(0.9, 1.6)
    spectrum[:, 0, 0] = 0
    noise = np.fft.irfft2(spectrum, (size, size))
    noise *= contrast / noise.std()
    return 0.5 + np.einsum("chw,ck->hwk", noise * SPREAD[:, None, None], OPPONENT)


def _leaf(rng: np.random.Generator, pen: ImageDraw.ImageDraw, edge: int, smallest: float) -> None:
    # A density of r^-3, so that every scale covers as much of the picture as any other.
    radius = edge * min(0.5, smallest / np.sqrt(rng.uniform(0.002, 1)))
    x, y = rng.uniform(0, edge, 2)
    outline = _ink(rng) if rng.random() < 0.2 else None
    how: dict[str, Any] = {"fill": _ink(rng), "outline": outline}
    how["width"] = max(1, int(radius * rng.uniform(0.02, 0.15)))
    if rng.random() < 0.4:
        wide, high = radius * rng.uniform(0.4, 1, 2)
        pen.ellipse((x - wide, y - high, x + wide, y + high), **how)
        return
    turns = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
    reach = radius * rng.uniform(0.5, 1, len(turns))
    corners = zip(x + reach * np.cos(turns), y + reach * np.sin(turns), strict=True)
    pen.polygon([(float(a), float(b)) for a, b in corners], **how)


def _line(rng: np.random.Generator, pen: ImageDraw.ImageDraw, edge: int) -> None:
    points = rng.uniform(0, edge, (int(rng.integers(2, 5)), 2))
    pen.line([tuple(point) for point in points.tolist()], _ink(rng), int(edge * rng.uniform(0.003, 0.03)) or 1)


def _words(rng: np.random.Generator, pen: ImageDraw.ImageDraw, edge: int) -> None:
    letters = "".join(rng.choice(list(string.ascii_letters), int(rng.integers(3, 12))))
    place = tuple(rng.uniform(0, 0.7 * edge, 2).tolist())
    pen.text(place, letters, _ink(rng), ImageFont.load_default(edge * rng.uniform(0.05, 0.2)))
