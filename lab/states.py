"""Ways to show the source the target's state, measured: python -m lab.states

own split      the target's own prediction splits its state into a clean latent and noise
same detail    the same, at the noise level that the map of latents leaves: a linear map of the whole state
companion      a latent of the source's own is sampled beside the target's and follows the mixed prediction
last mixed     the last mixed prediction is taken for the clean latent, and the rest for noise

All states here are clean latent + ratio * noise, whatever the networks' parametrisation. Prints a table in
markdown and writes it to lab/states.md.
"""

import argparse
import itertools
import pathlib

import numpy as np
import torch
from torch import Tensor

from sampling.noise_levels import NoiseLevels, mix, noise_to_signal, sigma_at
from sampling.state_mapping import ProjectedState, StateMapping

from . import denoisers, diffusion
from .family import CFG, STEPS, Family
from .measures import GROUPS, Scores, table, with_closures
from .roles import CROSSINGS, crossing_between

RESULTS = pathlib.Path(__file__).parent / "states.md"
WAYS = ("own split", "same detail", "companion", "last mixed")
MAX_RATIO = 1000.0  # in place of the infinite ratio of noise alone
SAMPLERS = {"Euler": False, "Euler ancestral": True}


@torch.no_grad()
def sample(
    way: str | None, mapping: StateMapping, calls: list, noise: Tensor, ratios: Tensor, ancestral: bool
) -> Tensor:
    """Return clean latents of the target; `calls` are source, adapted and target as functions of (x, sigma).

    `way` is one of WAYS, or None for the plain target.
    """
    generator = torch.Generator().manual_seed(9)
    source, adapted, target = calls

    def own(state: Tensor, sigma: Tensor, levels: NoiseLevels) -> Tensor:
        return mix(state, torch.zeros_like(state), sigma, levels)

    start = (1 + ratios[0] ** 2).sqrt()
    state, companion, last = noise * start, mapping.maps((16, 16)).noise_to_source(noise) * start, None
    for now, then in itertools.pairwise(ratios):
        sigma = sigma_at(now.expand(len(noise)), mapping.levels)
        down, up = diffusion.ancestral_step(now, then, eta=float(ancestral))

        def step(state: Tensor, clean: Tensor, now=now, down=down, up=up) -> Tensor:
            return clean + (state - clean) * (down / now) + up * torch.randn(state.shape, generator=generator)

        x = own(state, sigma, mapping.levels)
        clean = target(x, sigma)
        if way is None:
            state = step(state, clean)
            continue
        predictions = []
        for call, levels in zip((source, adapted), mapping.branches, strict=True):
            if way == "companion":
                level = mapping.sigma_for(levels, sigma)
                seen = own(companion, level, levels)
            else:
                split = last if way == "last mixed" and last is not None else clean
                seen, level = ProjectedState(mapping, x, sigma, (split,)).for_branch(levels)
            predictions.append((call(seen, level),))
        (difference,) = mapping.difference(*predictions[::-1])
        last = clean + difference
        state = step(state, last)
        if way == "companion":
            companion = step(companion, mapping.maps((16, 16)).clean_to_source(last))
    return state


def measure(family: Family, name: str, classes: tuple, n: int, seed: int) -> dict[str, dict]:
    """Rows of scores for one crossing and one group of classes: {sampler, way: {score: number}}."""
    nets, labels, scores = family.nets_of(name), np.resize(classes, n), Scores(family, classes, n)
    context = denoisers.one_hot(torch.as_tensor(labels))
    noise = torch.randn(n, nets["target"].channels, 16, 16, generator=torch.Generator().manual_seed(seed))
    guided = {role: diffusion.guided(net, context, CFG) for role, net in nets.items()}
    roles = nets["source"], nets["adapted"], nets["target"]
    crossings = {
        way: crossing_between(family.coder, *roles, n, seed, same_detail=way == "same detail") for way in (None, *WAYS)
    }
    ratios = noise_to_signal(diffusion.schedule(nets["target"], STEPS), crossings[None].levels)
    ratios[0].clamp_(max=MAX_RATIO)
    rows = {}
    for sampler, ancestral in SAMPLERS.items():
        columns = {"target": ("target", None), "oracle": ("oracle", None), **{way: ("target", way) for way in WAYS}}
        found = {}
        for column, (goal, way) in columns.items():
            calls = [guided["source"], guided["adapted"], guided[goal]]
            latents = sample(way, crossings[way], calls, noise, ratios, ancestral)
            found[column] = scores.of(family.pictures(latents, nets["target"]), labels)
        rows |= {f"{sampler}: {column}": row for column, row in with_closures(found).items() if column in WAYS}
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=48, help="pictures per row")
    parser.add_argument("--seed", type=int, default=5)
    arguments = parser.parse_args()
    family, lines = Family(), []
    for name, roles in list(CROSSINGS.items())[1:]:
        for classes in roles.groups:
            rows = measure(family, name, classes, arguments.samples, arguments.seed)
            lines += [f"**{name}: {GROUPS[classes]}**", "", *table(rows), ""]
            print("\n".join(lines[-len(rows) - 5 :]), flush=True)
    how = (
        f"{arguments.samples} samples per row, {STEPS} Karras steps, guidance {CFG}, strength 1, seed {arguments.seed}."
    )
    RESULTS.write_text("\n".join([how, "", *lines]))


if __name__ == "__main__":
    main()
