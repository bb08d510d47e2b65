"""The host in this process: ComfyUI on the CPU, with the pack loaded as it loads custom nodes."""

import pytest
import torch

from harness.host import LAB, REPOSITORY, load_host


def pytest_pycollect_makemodule() -> None:
    """Load ComfyUI before the first module of tests is imported."""
    torch.set_num_threads(1)
    load_host(REPOSITORY, LAB)


@pytest.fixture(scope="module")
def base():
    """A base model, one for each module of tests."""
    from .tiny import model

    return model(1)


@pytest.fixture(scope="module")
def adapted(base):
    """The base with a LoRA, on the same module."""
    from harness.nodes import with_lora

    return with_lora(base, 5)


@pytest.fixture(autouse=True)
def as_the_queue_runs():
    """ComfyUI executes nodes in inference mode."""
    with torch.inference_mode():
        yield
