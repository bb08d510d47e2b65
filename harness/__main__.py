"""Runs a module that needs ComfyUI in its process: python -m harness [--gpu] MODULE [ARGUMENT ...]

ComfyUI is loaded first, with this pack and the lab's nodes, so that no module has to load it while it is imported.
It runs on the CPU; with --gpu on the GPU, where there is one.
"""

import runpy
import sys

import torch

from .host import LAB, REPOSITORY, load_host


def main() -> None:
    gpu = sys.argv[1:2] == ["--gpu"]
    module, *arguments = sys.argv[2:] if gpu else sys.argv[1:]
    sys.argv = [module]  # ComfyUI reads no options of the module's
    load_host(REPOSITORY, LAB, cpu=not (gpu and torch.cuda.is_available()))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__")


if __name__ == "__main__":
    main()
