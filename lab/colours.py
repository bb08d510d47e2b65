"""The colours of a picture given to others, measured: python -m harness lab.colours

The target's pictures of all six classes are to have the colours of other pictures, one for each, of another class in
the base look, in the style, or in wild colours. Distance is the sliced Wasserstein distance of a picture's colours
(-1..1) from its reference's. Prints tables in markdown and writes them to lab/colours.md.
"""

import argparse
import pathlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from comfy.patcher_extension import WrappersMP
from skimage.exposure import match_histograms
from torch import Tensor

from harness.nodes import of_the_pack, run_node

from . import autoencoder, judge, shapes
from .measures import table
from .proof.runs import Runs, as_vae

RESULTS = pathlib.Path(__file__).parent / "colours.md"
SEEDS = (5, 6, 7)
LONG = {"start_percent": 0.2, "end_percent": 1.0}
transport = of_the_pack("sampling.colour_transport")
LINES = transport.directions(40)  # of the measure; the guidance has its own


def references(look: str, labels: np.ndarray, seed: int) -> Tensor:
    """Return pictures [n, 3, 64, 64] in -1..1, each of another class than its label."""
    return autoencoder.to_model(shapes.draw(np.random.default_rng(100 + seed), (labels + 1) % 6, look))


def colours(pictures: Tensor) -> Tensor:
    """Return the colours [n, pixels, 3] of pictures [n, 3, H, W]."""
    return pictures.flatten(2).mT.contiguous()


def histograms_matched(pictures: Tensor, wanted: Tensor) -> Tensor:
    """Return pictures with the histogram of each channel put on that of the wanted ones afterwards."""
    pairs = zip(pictures.numpy(), wanted.numpy(), strict=True)
    return torch.stack([torch.from_numpy(match_histograms(*pair, channel_axis=0)).float() for pair in pairs])


def guided(model, wanted: Tensor, **settings):
    """Return the MODEL of a Delta Color Guidance."""
    image = (wanted.movedim(1, -1) + 1) / 2
    return run_node("DeltaColorGuidance", model=model, reference=image, **settings)


def through_the_decoder(coder, model, wanted: Tensor):
    """Return a MODEL whose predictions are decoded, moved to the wanted colours in pixels, and encoded again."""
    lines = transport.directions()
    goal = transport.quantiles(transport.along(colours(wanted), lines), wanted[0, 0].numel())

    def guide(executor, *args, **kwargs):
        denoised = executor(*args, **kwargs)
        picture = coder.decode(denoised)
        moved = picture + transport.step(colours(picture), goal, lines).mT.reshape(picture.shape)
        return denoised + coder.encode(moved) - coder.encode(picture)

    clone = model.clone()
    clone.add_wrapper(WrappersMP.PREDICT_NOISE, guide)
    return clone


def methods(runs: Runs, labels: np.ndarray, seed: int) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """Return each method by name: wanted pictures -> pictures made."""
    model, coder, vae = runs.model("target"), runs.family.coder, as_vae(runs, "target")
    delta = runs.pair("source", "adapted", labels)

    def sampled(**how) -> Tensor:
        return runs.pictures("target", runs.sample("target", labels, seed, **how))

    plain, styled = sampled(), sampled(delta=delta)
    yield "target", lambda wanted: plain
    yield "histograms matched afterwards", partial(histograms_matched, plain)
    changes: dict[str, dict] = {
        "guidance from 0.2 to 0.8": {"end_percent": 0.8},
        "guidance from 0 to 1": {"start_percent": 0.0},
        "guidance from 0.2 to 1": {},
        "guidance from 0.4 to 1": {"start_percent": 0.4},
        "guidance from 0.2 to 1, strength 0.5": {"strength": 0.5},
        "guidance from 0.2 to 1, strength 0.25": {"strength": 0.25},
        "guidance from 0.2 to 1, vae": {"vae": vae},
        "guidance from 0.2 to 1, vae, strength 0.5": {"vae": vae, "strength": 0.5},
    }
    for name, settings in changes.items():
        yield name, lambda wanted, settings=settings: sampled(model=guided(model, wanted, **LONG | settings))
    yield "through the decoder", lambda wanted: sampled(model=through_the_decoder(coder, model, wanted))
    yield "style delta", lambda wanted: styled
    yield (
        "style delta, guidance from 0.2 to 1, vae",
        lambda wanted: sampled(model=guided(model, wanted, vae=vae, **LONG), delta=delta),
    )


def measure(runs: Runs, look: str, n: int, seeds: tuple) -> dict[str, dict]:
    """Rows of scores of each method, means over `seeds` with their standard deviation."""
    labels, found = np.resize(range(6), n), {}
    for seed in seeds:
        wanted = references(look, labels, seed)
        made = {name: make(wanted) for name, make in methods(runs, labels, seed)}
        made["the references, through the autoencoder"] = runs.family.coder.decode(runs.family.coder.encode(wanted))
        for name, pictures in made.items():
            scores = {
                "distance": transport.sliced_distance(colours(pictures), colours(wanted), LINES).mean().item(),
                "class": judge.class_score(runs.family.judge, pictures, labels),
                "flat noise": judge.flat_noise(pictures),
            }
            for score, value in scores.items():
                found.setdefault(name, {}).setdefault(score, []).append(value)
    return {name: {score: told(values) for score, values in row.items()} for name, row in found.items()}


def told(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ±{np.std(values):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=24, help="pictures per row and seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs, lines = Runs(), []
    with torch.inference_mode():
        for look in shapes.LOOKS:
            rows = measure(runs, look, arguments.samples, arguments.seeds)
            lines += [f"**references: {look}**", "", *table(rows), ""]
            print("\n".join(lines[-len(rows) - 5 :]), flush=True)
            how = f"{arguments.samples} samples per row, seeds {', '.join(map(str, arguments.seeds))}, Euler, 24 steps."
            RESULTS.write_text("\n".join([how, "", *lines]))


if __name__ == "__main__":
    main()
