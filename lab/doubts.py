"""What trust finds of each adaptation, call by call: python -m lab.doubts

The pairs of the lab on the same latents, sampled with the delta as it is by default, 24 pictures over three seeds each.

colours    the share of the delta that is a map of the source's colours, by the ratio of noise to signal n
unknown    how much of what noise hid source and target have guessed otherwise, at the end of the run
taken over the share of the delta that follows the target's shape, mean over the calls at n from 4 to 1

Prints a table in markdown and writes it to lab/doubts.md.
"""

import argparse
import pathlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sampling.call import Predicted
from sampling.crossing import Crossing
from sampling.in_run import DeltaInRun
from sampling.noise_levels import noise_to_signal
from sampling.recolour import unexplained
from sampling.trust import COLOURS, USUAL

from . import adapters, autoencoder, denoisers, diffusion, shapes
from .family import CFG, STEPS, Family
from .measures import table
from .roles import levels, with_delta

RESULTS = pathlib.Path(__file__).parent / "doubts.md"
SEEDS = (5, 6, 7)
BANDS = {"n > 4": (4, 1e9), "n 4 to 1": (1, 4), "n < 1": (0, 1)}


@dataclass(frozen=True)
class Case:
    """A pair on a target; `following` turns the adapted model's names into the next ones.

    A target that is guided `within` does not tell what it predicts without guidance, as a distilled model does not.
    """

    source: str
    adapted: str
    target: str = "target"
    strength: float = 1.0
    groups: tuple = (shapes.SEEN, shapes.UNSEEN)
    following: bool = False
    steps: int = STEPS
    cfg: float = CFG
    target_cfg: float = CFG
    within: bool = False


ONLY_SEEN = {"groups": (shapes.SEEN,)}
CASES = {
    "style": Case("source", "adapted"),
    "style, mistaken names": Case("mistaken_source", "mistaken_adapted"),
    "style, pair without guidance": Case("source", "adapted", cfg=1.0),
    "style, guidance 7 on 4": Case("source", "adapted", cfg=7.0, target_cfg=4.0),
    "style, guidance 2 on 3.5 within": Case("source", "adapted", target_cfg=3.5, within=True),
    "style, guidance 7 on 3.5 within": Case("source", "adapted", cfg=7.0, target_cfg=3.5, within=True),
    "style as a LoRA": Case("source", "source_lora"),
    "eraser": Case("source", "adapted", "oracle", -1.0),
    "bands": Case("source", "banded_lora"),
    "control": Case("source", "source_control"),
    "another prompt": Case("source", "source", following=True, **ONLY_SEEN),
    "few steps": Case("source", "source_few_steps", steps=4, cfg=1.0, **ONLY_SEEN),
}


def denoiser(family: Family, name: str, labels: np.ndarray, cfg: float) -> tuple[torch.nn.Module, Callable]:
    """Return a network and its function (x, sigma) -> denoised, guided and not; controls follow silhouettes."""
    net, context = family.nets[name], denoisers.one_hot(torch.as_tensor(labels))
    empty = torch.zeros_like(context)
    if name in adapters.CONTROLS:
        drawn = autoencoder.to_model(shapes.draw(np.random.default_rng(3), labels, "base"))
        wanted = functional.avg_pool2d(adapters.silhouette(drawn), autoencoder.FACTOR)
        context, empty = (adapters.with_map(each, wanted) for each in (context, empty))
    return net, diffusion.guided_and_not(net, context, cfg, empty)


@torch.no_grad()
def observed(family: Family, case: Case, classes: tuple, seed: int, samples: int) -> dict[str, float]:
    """Return what is found in one run, as means over its pictures."""
    labels = np.sort(np.resize(classes, samples))
    theirs = (labels + 1) % len(classes) if case.following else labels
    source, ask_source = denoiser(family, case.source, labels, case.cfg)
    adapted, ask_adapted = denoiser(family, case.adapted, theirs, case.cfg)
    target, ask_target = denoiser(family, case.target, labels, case.target_cfg)
    crossing = Crossing(levels(target), (levels(source), levels(adapted)))
    explained: dict[str, list] = {band: [] for band in BANDS}
    shares, last = [], {}

    def watch(sigma: Tensor, predicted: dict[str, Predicted], delta: DeltaInRun) -> None:
        ratio = noise_to_signal(sigma[:1], crossing.levels).item()
        known, other = (predicted[role].of_the_prompt for role in ("source", "adapted"))
        (band,) = [name for name, (low, high) in BANDS.items() if low <= ratio < high]
        explained[band].append(1 - unexplained(known, other - known, with_mean=True).mean().item())
        if band == "n 4 to 1":
            shares.append(delta.doubt.share.mean().item())
        last["unknown"] = delta.doubt.unknown.mean().item()

    told = (lambda x, sigma: (ask_target(x, sigma)[0], None)) if case.within else ask_target
    denoised = with_delta(crossing, ask_source, ask_adapted, told, case.strength, watch)
    sigmas = diffusion.schedule(target, case.steps)
    noise = torch.randn(samples, target.channels, 16, 16, generator=torch.Generator().manual_seed(seed))
    diffusion.sample_euler(denoised, diffusion.pure_noise(target, noise, sigmas[0]), sigmas)
    found = {f"colours, {band}": float(np.mean(values)) for band, values in explained.items() if values}
    return found | last | {"taken over": float(np.mean(shares or [0]))}


def rows(samples: int) -> dict[str, dict]:
    family, found = Family(), {}
    for title, case in CASES.items():
        for classes in case.groups:
            runs = [observed(family, case, classes, seed, samples) for seed in SEEDS]
            name = title if classes == shapes.SEEN else f"{title}, unknown names"
            found[name] = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=24)
    samples = parser.parse_args().samples
    lines = [
        "# What trust finds of each adaptation",
        "",
        f"`python -m lab.doubts`: {samples} pictures, {len(SEEDS)} seeds, means. colours: the share of the delta that",
        "is a map of the source's colours, by the ratio of noise to signal n (it counts as a change of colours from",
        f"{COLOURS[0]} to {COLOURS[1]}). unknown: what source and target guessed otherwise over what noise hid, the",
        f"steepest so far (the usual limit is {USUAL.limit}). taken over: the share of the delta that follows the",
        "target's shape, n from 4 to 1.",
        "",
        *table(rows(samples)),
    ]
    print("\n".join(lines))
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
