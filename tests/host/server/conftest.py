"""One real ComfyUI server for the session, with the pack and the lab's nodes."""

import pytest

from lab import headless
from lab.host import find_host


@pytest.fixture(scope="session")
def server():
    """Previews are on, as latent2rgb: they ended every run of the method authors' node."""
    with headless.server(find_host(), "--preview-method", "latent2rgb", threads=1) as client:
        yield client
