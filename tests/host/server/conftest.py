"""One real ComfyUI server for the session, with the pack and the lab's nodes."""

import pytest

from lab import browser, headless
from lab.host import find_host


@pytest.fixture(scope="session")
def server():
    """Previews are on, as latent2rgb: they ended every run of the method authors' node."""
    with headless.server(find_host(), "--preview-method", "latent2rgb", threads=1) as client:
        yield client


@pytest.fixture(scope="session")
def page(server):
    """The server's front end in a real browser."""
    if browser.BROWSER is None:
        pytest.skip("no Chromium on the PATH (Debian's package: chromium)")
    with browser.opened(server) as page:
        yield page
