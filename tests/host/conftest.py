"""The host in this process: ComfyUI on the CPU, with the pack loaded as it loads custom nodes."""

import pytest
import torch

from lab.host import REPOSITORY, load_host

torch.set_num_threads(1)
load_host(REPOSITORY)

from . import tiny  # noqa: E402


@pytest.fixture(scope="module")
def base():
    """A base model, one for each module of tests."""
    return tiny.model(1)


@pytest.fixture(scope="module")
def adapted(base):
    """The base with a LoRA, on the same module."""
    return tiny.with_lora(base, 5)


@pytest.fixture(autouse=True)
def as_the_queue_runs():
    """ComfyUI executes nodes in inference mode."""
    with torch.inference_mode():
        yield
