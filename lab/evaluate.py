"""Samples the family and measures it: python -m lab.evaluate

Prints a table in markdown and writes it to lab/results.md. All columns use the
same starting noise, sampler, steps and guidance.
"""

import argparse
import pathlib

import numpy as np
import torch

from . import autoencoder, judge, shapes
from .family import CFG, COLUMNS, STEPS, Family

RESULTS = pathlib.Path(__file__).parent / "results.md"
GROUPS = {"Classes the source knows": shapes.SEEN, "Names the source does not know": shapes.UNSEEN}


def held_out(family, classes, n, seed=1000):
    """Styled pictures that no training saw, passed through the autoencoder as every sample is."""
    drawn = shapes.draw(np.random.default_rng(seed), np.resize(classes, n), "style")
    with torch.no_grad():
        latents = (family.coder.encode(part) for part in autoencoder.to_model(drawn).split(64))
        return torch.cat([family.coder.decode(latent) for latent in latents]).clamp(-1, 1)


def measure(family, classes, n, seed):
    """Rows of scores for one group of classes: {column: {score: number}}."""
    labels = np.resize(classes, n)
    reference = held_out(family, classes, max(n, 512))
    distances = {
        "judge": lambda p: judge.judge_distance(family.judge, p, reference),
        "colour": lambda p: judge.colour_distance(p, reference),
        "detail": lambda p: judge.detail_distance(p, reference),
    }

    def row(pictures, labels):
        return {
            "style": judge.style_score(family.judge, pictures),
            "class": judge.class_score(family.judge, pictures, labels),
            **{name: score(pictures) for name, score in distances.items()},
            "flat noise": judge.flat_noise(pictures),
        }

    rows = {name: row(family.sample(name, labels, seed), labels) for name in COLUMNS}
    for name in COLUMNS:
        for kind in distances:
            rows[name]["closure " + kind] = judge.gap_closure(
                rows["target"][kind], rows[name][kind], rows["oracle"][kind]
            )
    # Another draw of styled pictures: what a perfect sampler would get.
    rows["real styled"] = row(held_out(family, classes, n, seed=2000), labels)
    return rows


def table(rows):
    """One group's scores as markdown lines."""
    scores = list(rows["target"])
    lines = ["| | " + " | ".join(scores) + " |", "|---" * (len(scores) + 1) + "|"]
    for name, row in rows.items():
        cells = [f"{row[s]:.2f}" if abs(row.get(s, 0)) >= 0.1 else f"{row[s]:.3f}" if s in row else "" for s in scores]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=96, help="pictures per column and group")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    family = Family()
    lines = [
        f"{arguments.samples} samples per row, Euler, {STEPS} Karras steps, guidance {CFG}, strength 1, "
        f"seed {arguments.seed}.",
        "",
    ]
    for title, classes in GROUPS.items():
        lines += [f"**{title}** ({', '.join(shapes.CLASSES[k] for k in classes)})", ""]
        lines += [*table(measure(family, classes, arguments.samples, arguments.seed)), ""]
    text = "\n".join(lines)
    print(text)
    RESULTS.write_text(text)


if __name__ == "__main__":
    main()
