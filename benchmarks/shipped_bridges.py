"""The bridges of this pack, from fitted maps: python -m harness benchmarks.shipped_bridges FITTED_MAPS

latent_bridges/README.md says what they are. The maps lead between clean latents as models have them, bridges between
raw ones, which VAEs know.
"""

import sys
from itertools import combinations

import comfy.latent_formats as formats
import torch
from safetensors.torch import load_file
from torch import Tensor

from harness.nodes import of_the_pack

bridges, bridge_files, latent_spaces = (
    of_the_pack(f"sampling.{name}") for name in ("bridges", "host.bridge_files", "host.latent_spaces")
)
SPACES = {name.lower(): latent_spaces.LatentSpace(getattr(formats, name)()) for name in ("SD15", "SDXL", "SD3")}


def of_raw_latents(weight: Tensor, bias: Tensor, source: str, target: str):
    """Return the map of a model's latents, `weight` [C_t, C_s, 3, 3] and `bias` [C_t], as an Affine of raw ones."""
    given, wanted = SPACES[source].format, SPACES[target].format
    none, one = torch.zeros(1, weight.shape[1], 1, 1), torch.ones(1, weight.shape[1], 1, 1)
    scale = given.process_in(one) - given.process_in(none)
    of_none = wanted.process_out(bridges.Affine(weight, bias)(given.process_in(none)))
    scaled = wanted.process_out(weight * scale) - wanted.process_out(torch.zeros_like(weight))
    return bridges.Affine(scaled, of_none.flatten())


def main() -> None:
    maps = load_file(sys.argv[1])
    bridge_files.SHIPPED.mkdir(exist_ok=True)
    for source, target in combinations(SPACES, 2):
        ways = [(target, source), (source, target)]
        fitted = (of_raw_latents(*(maps[f"{a}_to_{b}.{part}"] for part in ("weight", "bias")), a, b) for a, b in ways)
        bridge = bridges.LinearBridge(SPACES[source].shape, SPACES[target].shape, *fitted)
        bridge_files.write(bridge, bridge_files.SHIPPED / f"{source}_to_{target}{bridge_files.SUFFIX}")


if __name__ == "__main__":
    main()
