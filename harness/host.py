"""Finding ComfyUI, and having it in this process."""

import asyncio
import inspect
import os
import sys
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
LAB = REPOSITORY / "lab"


def find_host() -> Path | None:
    """Return ComfyUI's folder: $COMFYUI_PATH, or comfy-cli's default, or None."""
    path = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
    return path if (path / "main.py").exists() else None


def host_options() -> list[str]:
    """Return the options that ComfyUI is to have: $COMFYUI_OPTIONS, as on its command line."""
    return os.environ.get("COMFYUI_OPTIONS", "").split()


def _asset_managers(server: type) -> list:
    """Return the asset manager that ComfyUI's server takes beside its loop, on hosts where it takes one."""
    if "asset_manager" not in inspect.signature(server).parameters:
        return []
    from app.assets.manager import default_asset_manager

    return [default_asset_manager()]


@cache
def load_host(*packs: Path, cpu: bool = True) -> None:
    """Make ComfyUI importable, with its own nodes and those of `packs` loaded as it loads them; once."""
    sys.path.insert(0, str(find_host()))
    import comfy.options

    comfy.options.enable_args_parsing()
    arguments, sys.argv = sys.argv, [sys.argv[0], *(["--cpu"] if cpu else []), *host_options()]
    # As in ComfyUI's main.py, before all else: later a module of older releases takes the name `utils`.
    import utils.extra_config as _  # noqa: F401

    sys.argv = arguments
    if not cpu:
        # As in main.py: modules of the host look for the library of dynamic memory while they are imported.
        import comfy_aimdo.control

        comfy_aimdo.control.init()
    import nodes
    import server

    async def load() -> None:
        # The server comes first, as in ComfyUI: a node of the pack registers with it.
        server.PromptServer(asyncio.get_running_loop(), *_asset_managers(server.PromptServer))
        await nodes.init_builtin_extra_nodes()
        for pack in packs:
            if not await nodes.load_custom_node(str(pack)):
                raise RuntimeError(f"ComfyUI could not load {pack}; its log says why")

    asyncio.run(load())
