"""The comparison picture: models side by side, rows of samples that share their noise."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from . import judge, shapes


def scores(network, pictures, labels) -> dict[str, float]:
    """Return the style score and the class score of pictures [n, 3, H, W] in -1..1."""
    return {"style": judge.style_score(network, pictures), "class": judge.class_score(network, pictures, labels)}


def draw(
    path: Path,
    columns: Mapping[str, np.ndarray],
    labels: Sequence[int],
    scored: Mapping[str, Mapping[str, dict[str, float]]],
    title: str,
    shown: int = 4,
) -> None:
    """Save one labelled PNG.

    `columns` maps a model's name to its pictures [n, H, W, 3] (uint8), one for each of `labels`.
    `scored` maps a group of classes to the scores of each column in it. `shown` samples of each
    class are drawn.
    """
    labels = np.asarray(labels)
    size = (3.3 * len(columns), 6.2)
    figure, axes = plt.subplots(len(shapes.CLASSES), len(columns), figsize=size, layout="constrained")
    for row, name in enumerate(shapes.CLASSES):
        chosen = np.flatnonzero(labels == row)[:shown]
        for axis, pictures in zip(axes[row], columns.values(), strict=True):
            axis.imshow(np.concatenate(list(pictures[chosen]), axis=1))
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        colour = "black" if row in shapes.SEEN else "firebrick"
        axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", color=colour, fontsize=11)
    for axis, column in zip(axes[0], columns, strict=True):
        lines = [
            f"{group}: style {by_column[column]['style']:.2f}, class {by_column[column]['class']:.2f}"
            for group, by_column in scored.items()
        ]
        axis.set_title("\n".join([rf"$\bf{{{column.replace(' ', '~')}}}$", *lines]), fontsize=9)
    figure.suptitle(title, fontsize=13)
    note = "Red: names that source and adapted have never met. From left to right, samples start from the same noise."
    figure.supxlabel(note, fontsize=9, color="dimgray")
    figure.savefig(path, dpi=110)
    plt.close(figure)
