"""The host in this process: ComfyUI on the CPU, with the pack loaded as it loads custom nodes."""

import asyncio
import sys

import pytest
import torch

from tests.conftest import HOST, PACK

sys.path.insert(0, str(HOST))
from comfy.cli_args import args

args.cpu = True
torch.set_num_threads(1)

import nodes as host_nodes  # noqa: E402
import server  # noqa: E402


async def _load_pack() -> bool:
    # A node of the pack registers with the server, which ComfyUI makes before it loads any node.
    server.PromptServer(asyncio.get_running_loop())
    await host_nodes.init_builtin_extra_nodes()
    return await host_nodes.load_custom_node(str(PACK))


assert asyncio.run(_load_pack()), "ComfyUI could not load the pack; its log says why"


@pytest.fixture(autouse=True)
def as_the_queue_runs():
    """ComfyUI executes nodes in inference mode."""
    with torch.inference_mode():
        yield
