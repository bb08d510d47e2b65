"""Measures how much of a style arrives and how much of the content stays: python -m harness [--gpu] lab.measure

Every setting is sampled in ComfyUI with three seeds, 288 images a group of names. The records are added to
lab/results.json as they are made. `--world`, `--style`, `--method` and `--setting` choose a part; `--output` names
another file.
"""

import argparse
import importlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.nodes import node

from . import judge, networks, storage, world
from .runs import Runs, across, bridges, drawn, option

RESULTS = Path(__file__).parent / "results.json"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SEEDS = (1, 2, 3)
A_GROUP = 96  # images of each group of names and seed
WORLDS = ("target", "flow_target")
STRENGTHS = (0.4, 0.7, 1.0, 1.25, 1.5)
DENOISE = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)

# Names and a seed in, images out.
Method = Callable[[list[str], int], Tensor]


def names_of_a_run() -> list[str]:
    return [name for group in world.GROUPS.values() for name in np.resize(group, A_GROUP)]


def methods(runs: Runs, target: str, style: str) -> Iterator[tuple[str, str, Method]]:
    """Yield the methods and settings that are compared: (method, setting, what makes the images)."""
    adapted, oracle, over = f"source_{style}", f"{target}_{style}", across(target)

    def delta(change=None, over=over, cfg=world.CFG, **how) -> Method:
        def sample(names, seed):
            made = over(runs.pair(names, adapted, cfg=cfg, **how))
            return runs.sample(target, names, seed, [change(made) if change else made])

        return sample

    def alone(name: str) -> Method:
        return lambda names, seed: runs.sample(name, names, seed)

    def redone(first: str, second: str, denoise: float, size: int) -> Method:
        """Sample one model, then another from the images of the first, resized to `size` pixels."""

        def sample(names, seed):
            images = F.interpolate(runs.sample(first, names, seed), (size, size), mode="area")
            return runs.sample(second, names, seed + 100, start=images, denoise=denoise)

        return sample

    yield "drawings", "", lambda names, seed: drawn(names, seed, (world.STYLES[style],))
    yield "source", "", alone("source")
    yield "target", "", alone(target)
    yield "oracle", "", alone(oracle)
    yield "adapted", "", alone(adapted)
    for strength in STRENGTHS:
        yield "delta", f"{strength:g}", delta(strength=strength)
    size = networks.NETS[target].size
    for denoise in DENOISE:
        yield "img2img", f"{denoise:g}", redone(target, adapted, denoise, 64)
        if size > 64:
            yield "img2img, target's size", f"{denoise:g}", redone(target, adapted, denoise, size)
        yield "refined by the target", f"{denoise:g}", redone(adapted, target, denoise, size)
    for guidance in ("auto", "off", "kept"):
        yield "fast", guidance, delta(option("DeltaFast", pair_guidance=guidance))
    if target == "flow_target":
        for name in ("preview colors", "fitted"):
            yield "bridge", name, delta(over=bridges()[name])
    for setting, change in options().items():
        yield "option", setting, delta(change)
    yield "option", "pair at cfg 1", delta(cfg=1.0)


def options() -> dict[str, Callable]:
    """Return the options that are tried beside the plain delta."""
    return {
        "norm limit 1": option("DeltaLimits", norm_limit=1.0),
        "norm limit 0.5": option("DeltaLimits", norm_limit=0.5),
        "parallel 0.5": option("DeltaLimits", parallel=0.5),
        "parallel 0": option("DeltaLimits", parallel=0.0),
        "low band": option("DeltaLimits", band="low"),
        "high band": option("DeltaLimits", band="high"),
        "first 80 %": option("DeltaSchedule", end_percent=0.8),
        "first half": option("DeltaSchedule", end_percent=0.5),
        "after 20 %": option("DeltaSchedule", start_percent=0.2),
        "from 1.5 to 0.5": option("DeltaSchedule", curve="linear", strength_start=1.5, strength_end=0.5),
        "from 0.5 to 1.5": option("DeltaSchedule", curve="linear", strength_start=0.5, strength_end=1.5),
        "every 2 steps": option("DeltaReuse", every=2),
        "every 4 steps": option("DeltaReuse", every=4),
        "every 4 steps, extrapolated": option("DeltaReuse", every=4, extrapolate=True),
    }


def controlled(runs: Runs) -> Iterator[tuple[str, str, Method]]:
    """Yield the methods of a control by silhouettes; those of drawings of the same names are to be followed."""

    def delta(strength: float) -> Method:
        def sample(names, seed):
            maps = networks.control_maps(drawn(names, seed))
            pair = runs.pair(names, "source_control", strength=strength, wanted=maps)
            return runs.sample("target", names, seed, [pair])

        return sample

    def oracle(names: list[str], seed: int) -> Tensor:
        return runs.sample("target_control", names, seed, wanted=networks.control_maps(drawn(names, seed)))

    yield "target", "", lambda names, seed: runs.sample("target", names, seed)
    yield "oracle", "", oracle
    for strength in (0.5, 1.0, 1.5):
        yield "delta", f"{strength:g}", delta(strength)


def overlap(images: Tensor, wanted: Tensor) -> Tensor:
    """Return the intersection over union of the silhouettes of images and of those that they follow: [n]."""
    found, wanted = networks.silhouette(images), networks.silhouette(wanted)
    return (found * wanted).sum((1, 2, 3)) / torch.maximum(found, wanted).sum((1, 2, 3)).clamp(min=1)


def records(runs: Runs, target: str, style: str, chosen: list[str], settings: list[str]) -> Iterator[list[dict]]:
    """Yield the records of a method, a setting and a seed: the shares of images read as the style and as the name."""
    network, names = storage.load_judge().to(DEVICE), names_of_a_run()
    labels = torch.tensor(world.labels(names), device=DEVICE)
    for method, setting, sample in controlled(runs) if style == "control" else methods(runs, target, style):
        if (chosen and method not in chosen) or (settings and setting and setting not in settings):
            continue
        for seed in SEEDS:
            start, runs.rows = time.time(), 0
            images = sample(names, seed)
            read_names, read_styles = judge.read(network, images.to(DEVICE))
            if style == "control":
                styled = overlap(images, drawn(names, seed))
            else:
                styled = (read_styles == judge.STYLES.index(style)).float()
            shares = {"style_score": styled, "name_score": (read_names == labels).float()}
            parts = {key: value.view(len(world.GROUPS), A_GROUP).mean(1).tolist() for key, value in shares.items()}
            cell = {"world": target, "style": style, "method": method, "setting": setting, "seed": seed}
            yield [
                {**cell, "group": group, "pictures": A_GROUP, "rows": runs.rows}
                | {key: round(means[number], 4) for key, means in parts.items()}
                for number, group in enumerate(world.GROUPS)
            ]
            print(f"{target} {style} {method} {setting}, seed {seed}: {time.time() - start:.1f} s", flush=True)


def add(found: list[dict], file: Path) -> None:
    """Write records into a file, in the place of those of the same cell and seed."""
    cell = ("world", "style", "group", "method", "setting", "seed")
    kept = json.loads(file.read_text()) if file.exists() else []
    merged = {tuple(record[key] for key in cell): record for record in [*kept, *found]}
    lines = ",\n".join(json.dumps(record) for record in merged.values())
    file.write_text(f"[\n{lines}\n]\n")


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", nargs="*", choices=WORLDS, default=WORLDS)
    parser.add_argument("--style", nargs="*", choices=[*world.STYLES, "control"], default=[*world.STYLES, "control"])
    parser.add_argument("--method", nargs="*", default=[])
    parser.add_argument("--setting", nargs="*", default=[])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--bfloat16", action="store_true", help="faster on a CPU that has it")
    arguments = parser.parse_args()
    if arguments.bfloat16:
        importlib.import_module(node("LabModel").__module__).HostedNet.arithmetic = torch.bfloat16
    for target in arguments.world:
        for style in arguments.style:
            if style == "control" and target != "target":
                continue
            for found in records(Runs(), target, style, arguments.method, arguments.setting):
                add(found, arguments.output)


if __name__ == "__main__":
    main()
