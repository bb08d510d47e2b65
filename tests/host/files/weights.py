"""Random weights in safetensors and PyTorch files, small on disk however large the model is.

In each tensor the first rows are random and the rest is zero. Zeros are holes in a sparse file: a text encoder of full
size, as the host builds it whatever a file holds, takes a tenth of its size.
"""

import json
import math
import os
import zlib
from pathlib import Path
from typing import BinaryIO

import torch

Shapes = dict[str, tuple[int, ...]]

RANDOM = 2**16
# Tokens come in the order of their frequency, and a prompt is to have more than a few.
RANDOM_TOKENS = 2**22
# The alpha of a LoRA: as large as its rank, which is a scale of one.
SCALAR = 4.0
DTYPES = {torch.float16: "F16", torch.float32: "F32"}


def write(path: Path, shapes: Shapes, metadata: dict[str, str] | None = None, dtype: torch.dtype = torch.float16):
    """Write a file of random weights; another name gives other weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32(path.name.encode())
    if path.suffix == ".safetensors":
        _write_safetensors(path, shapes, metadata, seed, dtype)
    else:
        with path.open("wb") as file:
            weights = {key: _whole(key, shape, seed, dtype) for key, shape in shapes.items()}
            torch.save({"state_dict": weights}, _Sparse(file))


def prefixed(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + key: shape for key, shape in shapes.items()}


def shapes_of(module: torch.nn.Module) -> Shapes:
    return {key: tuple(weight.shape) for key, weight in module.state_dict().items()}


def _write_safetensors(path, shapes, metadata, seed, dtype) -> None:
    header, end, size = {"__metadata__": metadata} if metadata else {}, 0, dtype.itemsize
    for key, shape in shapes.items():
        start, end = end, end + math.prod(shape) * size
        header[key] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key, shape in shapes.items():
            file.seek(8 + len(text) + header[key]["data_offsets"][0])
            file.write(_first_rows(key, shape, seed).to(dtype).view(torch.uint8).numpy().tobytes())
        file.truncate(8 + len(text) + end)


class _Sparse:
    """A file that PyTorch writes to, with holes for zeros."""

    BLOCK = 2**16

    def __init__(self, file: BinaryIO):
        self._file = file
        self.flush = file.flush

    def write(self, data: bytes) -> int:
        data = memoryview(data).cast("B")
        for start in range(0, len(data), self.BLOCK):
            block = data[start : start + self.BLOCK]
            if any(block):
                self._file.write(block)
            else:
                self._file.seek(len(block), os.SEEK_CUR)
        return len(data)


def _whole(key, shape, seed, dtype) -> torch.Tensor:
    weight, first = torch.zeros(math.prod(shape), dtype=dtype), _first_rows(key, shape, seed)
    weight[: len(first)] = first
    return weight.view(shape)


def _first_rows(key: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Return the numbers that are not zero: scales of about one, weights that keep sizes, small biases."""
    if not shape:
        return torch.full((1,), SCALAR)
    row = math.prod(shape[1:])
    rows = min(shape[0], max(1, (RANDOM_TOKENS if "token_embedding" in key else RANDOM) // row))
    generator = torch.Generator().manual_seed(seed ^ zlib.crc32(key.encode()))
    random = torch.randn(rows * row, generator=generator)
    if len(shape) > 1:
        # What the rows at zero lack the others have more of.
        return random * (shape[0] / rows / row) ** 0.5
    return 0.1 * random + (not key.endswith("bias"))
