"""The demo: python -m lab.demo [--style ink|outline] [--target target|flow_target] [--output FILE]

Starts a headless ComfyUI with this pack and the lab's models, queues one prompt and draws what comes back: the target,
the target with the delta, the target with a LoRA trained for it (the oracle), and the source with the LoRA. The first
seed, four names of each group.
"""

import argparse
import itertools
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from harness import headless
from harness.host import REPOSITORY, find_host

from . import networks, world

OUTPUT = REPOSITORY / "delta-sampling-demo.png"
SHOWN = {group: names[:: len(names) // 4][:4] for group, names in world.GROUPS.items()}
TITLES = {
    "trained": "the LoRA was trained on these",
    "known": "known to the old model",
    "unknown": "unknown to the old model",
}
SEED = 1
ROWS = ("new model", "new model + delta", "new model + its own LoRA", "old model + LoRA")


def prompt_of(style: str, target: str) -> dict:
    """Return the API prompt of the rows; each row's images are saved under its title."""
    nodes, count = {}, itertools.count(1)

    def add(node: str, **inputs) -> list:
        number = str(next(count))
        nodes[number] = {"class_type": node, "inputs": inputs}
        return [number, 0]

    def model(name: str) -> list:
        return add("LabModel", name=name)

    names = [name for group in SHOWN.values() for name in group]
    positive = add("LabPrompt", names=", ".join(names), copies=1)
    negative = add("LabPrompt", names="", copies=len(names))
    prompts = {"positive": positive, "negative": negative}
    pair = add(
        "DeltaPair",
        source_model=model("source"), source_positive=positive, source_negative=negative,
        adapted_model=model(f"source_{style}"), adapted_positive=positive, adapted_negative=negative,
        cfg=world.CFG, strength=1.0,
    )  # fmt: skip
    if target == "flow_target":
        vaes = {"source_vae": add("LabVAE", name="patches"), "target_vae": add("LabVAE", name="autoencoder")}
        pair = add("DeltaResolution", delta=pair, scale=0.5, noise_match="same noise")
        pair = add("DeltaBridge", delta=pair, bridge=add("LatentBridgeVAE", **vaes))
    rows = {
        "new model": (target, model(target)),
        "new model + delta": (target, add("DeltaModel", model=model(target), delta=pair)),
        "new model + its own LoRA": (target, model(f"{target}_{style}")),
        "old model + LoRA": ("source", model(f"source_{style}")),
    }
    for title, (base, sampled) in rows.items():
        net = networks.NETS[base]
        size = {"width": net.size, "height": net.size, "batch_size": len(names)}
        how = {"seed": SEED, "steps": world.STEPS, "cfg": world.CFG, "sampler_name": "euler", "denoise": 1.0}
        empty = add("EmptyLatentImage", **size)
        made = add("KSampler", model=sampled, **prompts, **how, scheduler=net.scheduler, latent_image=empty)
        images = add("VAEDecode", samples=made, vae=add("LabVAE", name=net.coder))
        add("SaveImage", images=images, filename_prefix=title)
    return nodes


def images_of(outputs: dict, nodes: dict, folder: Path) -> dict[str, list[np.ndarray]]:
    """Return {title: images} of what a prompt saved."""
    found = {}
    for number, output in outputs.items():
        if nodes[number]["class_type"] == "SaveImage":
            files = [folder / image["subfolder"] / image["filename"] for image in output["images"]]
            found[nodes[number]["inputs"]["filename_prefix"]] = [np.asarray(Image.open(file)) for file in files]
    return found


def draw(rows: dict[str, list[np.ndarray]], style: str, path: Path) -> None:
    """Save the picture: a row for each model, a column for each name."""
    names = [(group, name) for group, found in SHOWN.items() for name in found]
    figure, axes = plt.subplots(len(ROWS), len(names), figsize=(len(names) + 2.4, 5.4))
    figure.subplots_adjust(left=0.17, right=0.99, top=0.8, bottom=0.07, wspace=0.04, hspace=0.04)
    for row, title in enumerate(ROWS):
        for column, image in enumerate(rows[title]):
            axes[row, column].imshow(image)
            axes[row, column].set(xticks=[], yticks=[])
            axes[row, column].spines[:].set_visible(False)
        axes[row, 0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=11, labelpad=8)
    for column, (_, name) in enumerate(names):
        axes[0, column].set_title(name.replace("-", " "), fontsize=9)
    for number, group in enumerate(SHOWN):
        left, right = (axes[0, number * 4 + end].get_position() for end in (0, 3))
        figure.text((left.x0 + right.x1) / 2, 0.89, TITLES[group], ha="center", fontsize=11, weight="bold")
    figure.suptitle(f'A LoRA of an old model ("{style}") on a new model, without training', fontsize=13, y=0.985)
    sets = "Noto (Apache 2.0), EmojiOne, Twemoji and Streamline (CC BY 4.0) and Fluent Emoji (MIT)"
    figure.text(0.5, 0.02, f"Small models trained on {sets}. First seed.", ha="center", fontsize=8, color="dimgray")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--style", choices=list(world.STYLES), default="ink")
    parser.add_argument("--target", choices=["target", "flow_target"], default="target")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    host = find_host()
    if host is None:
        sys.exit("The demo runs in ComfyUI, and none was found: set COMFYUI_PATH to its folder, or run `make host`.")
    print(f"Starting ComfyUI from {host} (headless, on the CPU) ...", flush=True)
    nodes = prompt_of(arguments.style, arguments.target)
    with headless.server(host) as client:
        rows = images_of(client.run(nodes), nodes, client.output)
    draw(rows, arguments.style, arguments.output)
    print(f"The picture is {arguments.output.resolve()}")


if __name__ == "__main__":
    main()
