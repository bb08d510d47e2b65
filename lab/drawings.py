"""The drawings: fetched with npm, rendered with resvg, and laid out at random, so that each name has a distribution."""

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from . import world

CACHE = Path(__file__).parent / "drawings"
PIXELS = 144  # of a rendered drawing
# Names that are none of the lab's, for the judge to tell from them.
OTHERS = 96


def icons(name: str) -> dict:
    """Return the icons of a set of Iconify's, fetched from npm once."""
    CACHE.mkdir(exist_ok=True)
    file = CACHE / f"{name}.json"
    if not file.exists():
        package = f"@iconify-json/{name}@{world.SETS[name]}"
        packed = subprocess.run(["npm", "pack", "--silent", package], cwd=CACHE, check=True, capture_output=True)
        archive = CACHE / packed.stdout.decode().strip()
        with tarfile.open(archive) as package:
            file.write_bytes(package.extractfile("package/icons.json").read())
        archive.unlink()
    return json.loads(file.read_text())


def rendered(found: dict, name: str) -> np.ndarray:
    """Return a drawing with premultiplied colours and alpha, [4, PIXELS, PIXELS] uint8."""
    import resvg_py

    icon = found["icons"].get(name) or found["icons"][found["aliases"][name]["parent"]]
    left, top, width, height = (icon.get(key, found.get(key, 0)) for key in ("left", "top", "width", "height"))
    body = icon["body"].replace("currentColor", "#000")
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{PIXELS}" '
        f'height="{PIXELS}" viewBox="{left} {top} {width or 16} {height or 16}">{body}</svg>'
    )
    image = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))).convert("RGBA")
    pixels = np.asarray(image).astype(np.float32)
    pixels[..., :3] *= pixels[..., 3:] / 255
    return pixels.round().astype(np.uint8).transpose(2, 0, 1)


def other_names(sets: dict[str, dict]) -> list[str]:
    """Return the names of OTHERS drawings, evenly spread over those that are in all sets and are not the lab's."""
    common = set.intersection(*({*found["icons"], *found.get("aliases", {})} for found in sets.values()))
    left = sorted(n for n in common - set(world.NAMES) if not re.search(r"face|flag|clock|moon|button", n))
    return left[:: max(1, len(left) // OTHERS)][:OTHERS]


@cache
def load() -> Tensor:
    """Return all drawings [sets, names + others, 4, PIXELS, PIXELS] uint8; rendered once (two minutes)."""
    file = CACHE / "drawings.npz"
    if not file.exists():
        sets = {name: icons(name) for name in world.SETS}
        names = [*world.NAMES, *other_names(sets)]
        drawn = [[rendered(found, name) for name in names] for found in sets.values()]
        np.savez_compressed(file, drawn=np.array(drawn))
    return torch.from_numpy(np.load(file)["drawn"])


class Drawings:
    """Images of the drawings of some sets and names, laid out at random.

    A drawing is turned by up to 8 degrees, scaled to 75 to 95 % of the image, moved as far as it stays inside, and put
    on a pale background of one color.
    """

    def __init__(self, drawn: Tensor, sets: Sequence[str], names: Sequence[int], size: int, device="cpu"):
        chosen = torch.as_tensor(names)
        rows = [list(world.SETS).index(name) for name in sets]
        self.drawn = drawn[rows][:, chosen].to(device)
        self.labels, self.size, self.device = chosen.to(device), size, device

    def draw(self, count: int, generator: torch.Generator | None = None, labels: Tensor | None = None):
        """Return images [count, 3, size, size] in -1..1, their names [count], and which of the sets they are of."""
        device = self.device

        def uniform(low, high, *shape):
            return low + (high - low) * torch.rand(count, *shape, device=device, generator=generator)

        styles = (uniform(0, len(self.drawn)).long()).clamp(max=len(self.drawn) - 1)
        places = (uniform(0, len(self.labels)).long()).clamp(max=len(self.labels) - 1)
        if labels is not None:
            places = (self.labels[None] == labels.to(device)[:, None]).int().argmax(1)
        drawing = self.drawn[styles, places].float() / 255
        angle, scale = uniform(-0.14, 0.14), uniform(0.75, 0.95)
        move = (1 - scale)[:, None] * uniform(-1, 1, 2)
        cos, sin = angle.cos() / scale, angle.sin() / scale
        turn = torch.stack([cos, -sin, sin, cos], 1).view(count, 2, 2)
        shift = -(turn @ move[:, :, None])
        fine = 128
        grid = F.affine_grid(torch.cat([turn, shift], 2), [count, 4, fine, fine], align_corners=False)
        laid = F.grid_sample(drawing, grid, mode="bilinear", align_corners=False)
        laid = F.avg_pool2d(laid, fine // self.size)
        ground = uniform(0.80, 1.0, 3)[:, :, None, None]
        return (laid[:, :3] + (1 - laid[:, 3:]) * ground) * 2 - 1, self.labels[places], styles
