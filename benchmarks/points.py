"""Numbered points of cost against what is kept, which the legend explains."""

from collections.abc import Sequence


def draw_point(axes, number: int, rows: float, kept: float, name: str, sides: Sequence[tuple], **style) -> None:
    """Draw a point at its cost and the share kept. The legend tells its number, its `name` and both.

    Numbers stand on the `sides` of their points by turns (in typographic points), so that neighbours can be read.
    """
    axes.plot(rows, kept, label=f"{number}  {name}: {rows:.2f}, {kept:.2f}", linestyle="none", **style)
    side = sides[number % len(sides)]
    axes.annotate(str(number), (rows, kept), xytext=side, textcoords="offset points")
