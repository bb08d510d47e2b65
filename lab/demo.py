"""The demo: python -m lab.demo [--embedded] [--output FILE]

Starts a headless ComfyUI with this pack and the lab's models, queues lab/demo_workflow.json and
draws what comes back. Without a ComfyUI, or with --embedded, the same models run through the
same pure engine in this process.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from harness import headless
from harness.host import REPOSITORY, find_host

from . import autoencoder, picture, shapes
from .family import COLUMNS, STEPS, Family

WORKFLOW = Path(__file__).parent / "demo_workflow.json"
OUTPUT = REPOSITORY / "delta-sampling-demo.png"
COPIES = 8
LABELS = np.repeat(np.arange(len(shapes.CLASSES)), COPIES)
GROUPS = {"known": shapes.SEEN, "unknown": shapes.UNSEEN}


def through_comfyui(host: Path) -> dict[str, np.ndarray]:
    """Return each column's pictures, made by the server's queue."""
    prompt = json.loads(WORKFLOW.read_text())
    titles = {node["_meta"]["title"]: number for number, node in prompt.items()}
    print(f"Starting ComfyUI from {host} (headless, on the CPU) ...")
    with headless.server(host) as client, tqdm(total=len(COLUMNS) * STEPS, unit="step", desc="sampling") as bar:

        def show(kind, data):
            if kind == "progress":
                bar.set_postfix_str(prompt[data["node"]]["_meta"]["title"], refresh=False)
                bar.update(1)

        outputs = client.run(prompt, show)
        columns = {}
        for column in COLUMNS:
            images = outputs[titles[f"save {column}"]]["images"]
            files = [client.output / image["subfolder"] / image["filename"] for image in images]
            columns[column] = np.stack([np.asarray(Image.open(file)) for file in files])
    return columns


def embedded(family: Family) -> dict[str, np.ndarray]:
    """Return each column's pictures, made without ComfyUI."""
    columns = {}
    with tqdm(total=len(COLUMNS) * STEPS, unit="step", desc="sampling") as bar:
        for column in COLUMNS:
            bar.set_postfix_str(column, refresh=False)
            made = family.sample(column, LABELS, seed=1, progress=lambda done: bar.update(1))
            columns[column] = autoencoder.to_pictures(made)
    return columns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedded", action="store_true", help="run without ComfyUI")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()

    family = Family()
    host = None if arguments.embedded else find_host()
    if host:
        columns, where = through_comfyui(host), "in ComfyUI"
    else:
        if not arguments.embedded:
            print("There is no ComfyUI here, so the same models run without it, through the same pure engine.")
        columns, where = embedded(family), "without ComfyUI"

    scored = {group: {} for group in GROUPS}
    for group, classes in GROUPS.items():
        chosen = np.isin(LABELS, classes)
        for column, pictures in columns.items():
            made = autoencoder.to_model(torch.from_numpy(pictures[chosen]))
            scored[group][column] = picture.scores(family.judge, made, LABELS[chosen])
    picture.draw(arguments.output, columns, LABELS, scored, f"A style carried to a new model, {where}")

    print(f"\n{'':24}" + "".join(f"{column:>18}" for column in columns))
    for group, by_column in scored.items():
        for score in ("style", "class"):
            row = "".join(f"{by_column[column][score]:18.2f}" for column in columns)
            print(f"{score + ' score, ' + group:24}{row}")
    print(f"\nThe picture is {arguments.output.resolve()}")


if __name__ == "__main__":
    main()
