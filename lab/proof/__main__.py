"""Runs the experiments: python -m harness lab.proof [NAME ...] [--processes N]"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from . import report, results
from .experiments import EXPERIMENTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of experiments' names; all without any")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    chosen = [n for n in EXPERIMENTS if not arguments.names or any(part in n for part in arguments.names)]
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(results.run, name): name for name in chosen}
        for done in as_completed(running):
            results.keep(running[done], done.result(), list(EXPERIMENTS))
            print("done:", running[done], flush=True)
    report.main()


if __name__ == "__main__":
    main()
