"""The results on disk, and the experiments that fill them."""

import json

import torch

from harness.host import LAB, REPOSITORY, load_host

FOLDER = REPOSITORY / "docs" / "proof"
RESULTS = FOLDER / "results.json"


def run(name: str) -> list[dict]:
    """Run one experiment, in a process of its own."""
    load_host(REPOSITORY, LAB)
    from .experiments import EXPERIMENTS
    from .runs import Runs

    torch.set_num_threads(1)
    with torch.inference_mode():
        return [{"experiment": name, **record} for record in EXPERIMENTS[name](Runs())]


def known() -> list[dict]:
    """Return all records."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def keep(name: str, found: list[dict], order: list[str]) -> None:
    """Put an experiment's records in the place of those it had; experiments stay in `order`."""
    records = [record for record in known() if record["experiment"] != name] + found
    records.sort(key=lambda record: order.index(record["experiment"]))
    FOLDER.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text("[\n" + ",\n".join(json.dumps(record) for record in records) + "\n]\n")
