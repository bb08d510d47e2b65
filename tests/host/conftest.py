"""The host in this process: ComfyUI on the CPU, with the pack loaded as it loads custom nodes."""

import pytest
import torch

from lab.host import REPOSITORY, load_host

torch.set_num_threads(1)
load_host(REPOSITORY)


@pytest.fixture(autouse=True)
def as_the_queue_runs():
    """ComfyUI executes nodes in inference mode."""
    with torch.inference_mode():
        yield
