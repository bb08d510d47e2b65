"""Delta Sampling for ComfyUI: use a LoRA, fine-tune or ControlNet of one base model on another."""

import logging
import re

REQUIRES = "0.16.0"  # as in pyproject.toml


def version_of_host() -> str:
    """Return the version of the ComfyUI that loads this pack; old ones do not know theirs."""
    try:
        from comfyui_version import __version__
    except ImportError:
        return "of unknown version"
    return __version__


def is_new_enough(version: str) -> bool:
    """Say whether the pack supports a ComfyUI of this version."""
    return [int(part) for part in re.findall(r"\d+", version)] >= [int(part) for part in REQUIRES.split(".")]


if is_new_enough(version_of_host()):
    WEB_DIRECTORY = "./web"

    async def comfy_entrypoint():
        """Return the extension. Imported only here, so that the pack's pure parts need no ComfyUI."""
        from .nodes import DeltaSamplingExtension

        return DeltaSamplingExtension()

else:
    # No nodes, said the way in which every ComfyUI has understood it.
    NODE_CLASS_MAPPINGS = {}
    logging.warning(
        f"Delta Sampling needs ComfyUI {REQUIRES} or newer, and this is ComfyUI {version_of_host()}. "
        "Its nodes are left out. Update ComfyUI to use them."
    )
