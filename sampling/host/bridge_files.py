"""Fitted bridges as files: safetensors in models/latent_bridges or of this pack, with their shapes as metadata."""

import json
import os
from dataclasses import asdict, fields, replace
from pathlib import Path, PureWindowsPath
from typing import Any

import folder_paths
import safetensors
import safetensors.torch

from ..bridges import Affine, LatentShape, LinearBridge, folds
from ..errors import DeltaError, not_finite

FOLDER = "latent_bridges"
SHIPPED = Path(__file__).parents[2] / FOLDER
KIND = "delta-sampling latent bridge 1"
SUFFIX = ".safetensors"
ROLES, MAPS, PARTS = ("source", "target"), ("to_source", "to_target"), ("weight", "bias")

folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))


def names() -> list[str]:
    """Return the files in the folder, as the host lists models: its list may hold some that are gone."""
    listed = [name for name in folder_paths.get_filename_list(FOLDER) if name.endswith(SUFFIX)]
    return [name for name in listed if folder_paths.get_full_path(FOLDER, name)]


def files() -> dict[str, str]:
    """Return path -> what messages call it: the files in the folder, newest first, then those of this pack."""
    saved = {_path(name): _shown(name) for name in sorted(names(), key=modified, reverse=True)}
    return saved | {str(path): f"{path.name} of this pack" for path in sorted(SHIPPED.glob(f"*{SUFFIX}"))}


def modified(name: str) -> float:
    """Return when the file `name` was changed last."""
    return os.path.getmtime(_path(name))


def save(bridge: Any, prefix: str) -> str:
    """Write a fitted bridge under a new name that begins with `prefix`; return the name.

    Raises DeltaError for a bridge of networks and for a name that leaves the folder.
    """
    if not isinstance(bridge, LinearBridge):
        raise DeltaError(
            "This bridge is made of networks, which are files already. Connect a Latent Bridge Fit to save its fit."
        )
    root = folder_paths.get_folder_paths(FOLDER)[0]
    _require_inside(prefix)
    # The host would refuse a folder that is a link, so it is asked in the folder itself.
    subfolder, start = os.path.split(os.path.normpath(prefix))
    # Older hosts would take a slash at its end for another folder.
    inside = os.path.normpath(os.path.join(root, subfolder))
    folder, name, counter, *_ = folder_paths.get_save_image_path(start, inside)
    path = Path(folder, f"{name}_{counter:05}_{SUFFIX}")
    write(bridge, path)
    return path.relative_to(root).as_posix()


def write(bridge: LinearBridge, path: Path) -> None:
    """Write a bridge to the file `path`."""
    tensors = {f"{m}.{part}": getattr(getattr(bridge, m), part).cpu().contiguous() for m in MAPS for part in PARTS}
    shapes = {role: asdict(getattr(bridge, role)) for role in ROLES}
    safetensors.torch.save_file(tensors, path, {"kind": KIND, "shapes": json.dumps(shapes)})


def load(name: str) -> LinearBridge:
    """Read a bridge from the folder. Raises DeltaError for a file that is not one, or lies elsewhere."""
    return read(_path(name), _shown(name))


def read(path: str | Path, shown: str) -> LinearBridge:
    """Read the bridge in the file `path`, which messages call `shown`. Raises DeltaError for a file that is not one."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("kind") != KIND:
                raise ValueError(f"its kind is {metadata.get('kind')!r} and not {KIND!r}")
            shapes = {role: _shape(json.loads(metadata["shapes"]), role) for role in ROLES}
            maps = [Affine(*(file.get_tensor(f"{m}.{part}") for part in PARTS)) for m in MAPS]
        return _bridge(shapes["source"], shapes["target"], *maps)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise DeltaError(
            f"{shown} is not a latent bridge, or a damaged one: {error}. Choose a file that a Latent Bridge Save has "
            "written, or make one with Latent Bridge Fit."
        ) from error


def _bridge(source: LatentShape, target: LatentShape, to_source: Affine, to_target: Affine) -> LinearBridge:
    fold, unfold = folds(source, target)
    sizes = source.channels * unfold**2, target.channels * fold**2
    for found, (after, before) in ((to_source, sizes), (to_target, sizes[::-1])):
        expected = {"weight": (after, before), "bias": (after,)}
        for part, size in expected.items():
            tensor = getattr(found, part)
            if tensor.shape != size and (part, tensor.shape) != ("weight", (*size, 3, 3)):
                raise ValueError(f"a {part} of the shape {list(size)} was expected, {list(tensor.shape)} was found")
            if not tensor.is_floating_point():
                raise ValueError(f"a {part} of real numbers was expected, {tensor.dtype} was found")
            if bad := not_finite(tensor):
                raise ValueError(f"a {part} of finite numbers was expected, and {bad} are NaN or infinite")
    ways = replace(to_source, fold=fold, unfold=unfold), replace(to_target, fold=unfold, unfold=fold)
    return LinearBridge(source, target, *ways)


def _shape(shapes: Any, role: str) -> LatentShape:
    """Return the shape of one role from a file's metadata. Raises ValueError if it is none."""
    names = [field.name for field in fields(LatentShape)]
    found = shapes.get(role) if isinstance(shapes, dict) else None
    numbers = [found.get(name) for name in names] if isinstance(found, dict) else []
    whole = [number for number in numbers if type(number) is int and number > 0]
    if len(whole) != len(names):
        raise ValueError(f"{' and '.join(names)} of the {role}'s latents were expected, {found!r} was found")
    return LatentShape(*whole)


def _shown(name: str) -> str:
    return f"{name} in the folder models/{FOLDER}"


def _path(name: str) -> str:
    _require_inside(name)
    return folder_paths.get_full_path_or_raise(FOLDER, name)


def _require_inside(name: str) -> None:
    """Raise DeltaError for a name that leads out of the folder by itself; links in the folder may lead anywhere."""
    # Windows' rules know both kinds of slashes, and drives.
    path = PureWindowsPath(name)
    if path.anchor or ".." in path.parts:
        raise DeltaError(
            f"The name {name!r} leads out of the folder models/{FOLDER}, where bridges are kept. Choose a name without "
            "'..' that does not begin with a slash or a drive."
        )
