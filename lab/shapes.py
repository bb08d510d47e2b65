"""Draws the pictures of the lab: one shape on a plain background, 64x64 RGB, by signed distances.

All lengths are those of a picture of 64x64. A picture of `fineness` 2 is the same one drawn with 128x128 pixels: lines
and stripes are as wide beside the shape, and its edges twice as sharp.

The looks are:

base    flat fill in a warm colour on a flat, pale, cool background
style   striped fill in a cool colour, dark outline, pale warm background
wild    any colours, any texture, any outline. Networks see it only at low noise
        levels, so that they can clean up pictures that they would not make.
banded  base with darker bands across the background: a second style
both    style with the same bands
"""

import numpy as np

CLASSES = ("circle", "square", "triangle", "star", "heart", "cross")
SEEN = (0, 1, 2, 3)  # the classes that source and adapted know by name
UNSEEN = (4, 5)  # the classes that only target and oracle know by name
UNNAMED = -1  # label of a random shape, always shown under the empty prompt
KINDS = ("blob", "superellipse", "polygon", "gear", "crescent", "half disc")  # of random shapes


LOOKS = ("base", "style", "wild")
BANDED = {"banded": "base", "both": "style"}  # what a look is but for the bands
BAND_TONE, BAND_PERIOD, BAND_TURNS = 0.6, 20.0, (-1.0, -0.6)

BASE_FILL = np.array([[214, 52, 56], [240, 138, 38], [226, 84, 152], [246, 200, 54]]) / 255
BASE_GROUND = np.array([[198, 220, 242], [208, 236, 222], [224, 216, 244], [222, 226, 232]]) / 255
STYLE_FILL = np.array([[40, 88, 204], [18, 148, 152], [122, 58, 192], [46, 150, 70]]) / 255
STYLE_GROUND = np.array([[250, 224, 164], [250, 202, 172], [246, 238, 162], [242, 196, 190]]) / 255
INK = np.array([26, 20, 32]) / 255


def _box(x, y, half_x, half_y):
    qx, qy = np.abs(x) - half_x, np.abs(y) - half_y
    outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
    return outside + np.minimum(np.maximum(qx, qy), 0)


def _spiky(x, y, points, outer, inner):
    """A star (or, with a large inner radius, a regular polygon) with `points` tips, one of them up."""
    half = np.pi / points
    angle = np.arctan2(x, -y)
    angle = np.abs((angle + half) % (2 * half) - half)
    radius = np.hypot(x, y)
    px, py = radius * np.cos(angle), radius * np.sin(angle)
    # Distance to the line through the tip (outer, 0) and the notch at half the angle.
    ex, ey = inner * np.cos(half) - outer, inner * np.sin(half)
    return ((px - outer) * ey - py * ex) / np.hypot(ex, ey)


def _heart(x, y, r):
    """A square standing on its corner, with a half disc on each of its upper sides."""
    side, y = 0.62 * r, y - 0.12 * r
    u, v = (x + y) * np.sqrt(0.5), (y - x) * np.sqrt(0.5)
    right = np.hypot(u, v + side) - side
    left = np.hypot(u + side, v) - side
    return np.minimum(_box(u, v, side, side), np.minimum(left, right))


def _named(label, x, y, r):
    """Signed distance of a named class; r is its size."""
    kind = CLASSES[label]
    if kind == "circle":
        return np.hypot(x, y) - 0.95 * r
    if kind == "square":
        return _box(x, y, 0.84 * r, 0.84 * r)
    if kind == "triangle":
        return _spiky(x, y - 0.2 * r, 3, 1.25 * r, 0.625 * r)
    if kind == "star":
        return _spiky(x, y, 5, 1.22 * r, 0.54 * r)
    if kind == "heart":
        return _heart(x, y, r)
    arm = 0.34 * r
    return np.minimum(_box(x, y, arm, 1.08 * r), _box(x, y, 1.08 * r, arm))


def _from_implicit(f, fineness):
    """Turns a function that is zero on the edge into an approximate distance."""
    gy, gx = np.gradient(f, 1 / fineness, axis=(1, 2))
    return f / np.maximum(np.hypot(gx, gy), 1e-3)


def _random_shape(rng, kind, x, y, r, fineness):
    """Signed distance of a nameless shape: none of these is a heart or a cross."""
    n = len(x)

    def one(low, high):
        return rng.uniform(low, high, (n, 1, 1)).astype(np.float32)

    if kind == 0:  # smooth blob
        angle, radius = np.arctan2(y, x), np.full_like(x, 0.95)
        for wave, size in ((2, 0.18), (3, 0.16), (4, 0.10), (5, 0.07)):
            radius += one(-size, size) * np.cos(wave * angle + one(0, 2 * np.pi))
        return _from_implicit(np.hypot(x, y) - r * radius, fineness)
    if kind == 1:  # superellipse
        power, a, b = one(0.9, 5.0), r * one(0.6, 1.1), r * one(0.6, 1.1)
        f = (np.abs(x / a) ** power + np.abs(y / b) ** power + 1e-6) ** (1 / power) - 1
        return np.clip(_from_implicit(f, fineness), -30, 60)
    if kind == 2:  # irregular convex polygon: the common part of half planes
        sides, start, d = rng.integers(4, 8), one(0, 2 * np.pi), None
        for k in range(sides):
            angle = start + (k + one(-0.25, 0.25)) * 2 * np.pi / sides
            plane = x * np.cos(angle) + y * np.sin(angle) - r * one(0.6, 1.05)
            d = plane if d is None else np.maximum(d, plane)
        return d
    if kind == 3:  # star or gear with an unusual number of tips
        points = rng.choice([6, 7, 8])
        return _spiky(x, y, points, r * one(1.0, 1.2), r * one(0.55, 0.85))
    if kind == 4:  # crescent
        bite = np.hypot(x - r * one(0.5, 0.8), y + r * one(-0.3, 0.3)) - r * one(0.6, 0.8)
        return np.maximum(np.hypot(x, y) - r, -bite)
    half = r * one(0.6, 1.1)  # half disc
    return np.maximum(np.hypot(x, y) - 1.05 * r, y * np.sign(one(-1, 1)) - half * 0.45)


def _pick(rng, palette, n, jitter=0.03):
    colour = palette[rng.integers(0, len(palette), n)] + rng.uniform(-jitter, jitter, (n, 3))
    return np.clip(colour, 0, 1).astype(np.float32)[:, None, None]


def _paint(rng, look, d, x, y, fineness):
    """Colours a batch of distance fields: background, fill or stripes, outline."""
    n, plain = len(d), BANDED.get(look, look)

    def covered(distance):
        """How much of a pixel lies inside, by its distance from the edge."""
        return np.clip(0.5 - fineness * distance, 0, 1)[..., None]

    def one(low, high):
        return rng.uniform(low, high, (n, 1, 1)).astype(np.float32)

    def stripes(turn, period):
        phase = one(0, 2 * np.pi)
        along = (x * np.cos(turn) + y * np.sin(turn)) * (2 * np.pi / period) + phase
        # sin() runs through zero with slope 2 pi / period: its edge is one pixel wide.
        return covered(-np.sin(along) * period / (2 * np.pi))

    inside = covered(d)
    if plain == "base":
        ground, fill = _pick(rng, BASE_GROUND, n), _pick(rng, BASE_FILL, n)
        second, stripe = fill, 1
    elif plain == "style":
        ground, fill = _pick(rng, STYLE_GROUND, n), _pick(rng, STYLE_FILL, n)
        second, ink, half_line = 0.35 * fill + 0.65, INK.astype(np.float32), np.float32(1.4)
        stripe = stripes(one(0.6, 1.0), 10.0)
    else:
        ground, fill, second, ink = (rng.random((n, 1, 1, 3), dtype=np.float32) for _ in range(4))
        flat = rng.random((n, 1, 1, 1)) < 0.4
        second = np.where(flat, fill, second)
        turn, period, half_line = one(0, np.pi), one(6, 20), np.maximum(one(-1.5, 2.0), 0)
        stripe = stripes(turn, period)
    if look in BANDED:
        ground = ground * (1 - (1 - BAND_TONE) * stripes(one(*BAND_TURNS), BAND_PERIOD))
    picture = ground * (1 - inside) + (fill * stripe + second * (1 - stripe)) * inside
    if plain == "base":
        return picture
    line = covered(np.abs(d + half_line) - half_line)
    line = line * np.minimum(half_line * 2, 1)[..., None]
    return picture * (1 - line) + ink * line


def _draw_alike(rng, label, look, n, size, fineness):
    """Draws n pictures with one label (for random shapes: of one random kind) and one look."""

    def one(low, high):
        return rng.uniform(low, high, (n, 1, 1)).astype(np.float32)

    r, turn = one(15, 21), one(-0.35, 0.35)
    grid = (np.arange(size * fineness, dtype=np.float32) + 0.5) / fineness - size / 2
    room = 6 + (size - 64) / 2
    dx, dy = grid[None, None] - one(-room, room), grid[None, :, None] - one(-room, room)
    if label < 0:
        turn = one(0, 2 * np.pi)
    x = dx * np.cos(turn) + dy * np.sin(turn)
    y = dy * np.cos(turn) - dx * np.sin(turn)
    d = _random_shape(rng, rng.integers(0, len(KINDS)), x, y, r, fineness) if label < 0 else _named(label, x, y, r)
    # Stripes run in the axes of the picture, however the shape is turned.
    return _paint(rng, look, d, dx, dy, fineness)


def draw(rng, labels, look, size=64, fineness=1):
    """Draws one picture for each label: uint8 [n, side, side, 3], side = size * fineness. rng is a numpy Generator."""
    labels = np.asarray(labels)
    side = size * fineness
    out = np.empty((len(labels), side, side, 3), np.uint8)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        # Random shapes are drawn in small groups, since a group shares its kind.
        step = 16 if label < 0 else 128
        for start in range(0, len(places), step):
            part = places[start : start + step]
            picture = _draw_alike(rng, int(label), look, len(part), size, fineness)
            out[part] = np.round(np.clip(picture, 0, 1) * 255)
    return out
