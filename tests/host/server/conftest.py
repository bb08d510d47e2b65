"""One real ComfyUI server for the session, with the pack and the lab's nodes."""

from pathlib import Path

import pytest

from harness import browser, headless
from harness.host import find_host


@pytest.fixture(scope="session")
def server():
    """Previews are on, as latent2rgb: they ended every run of the method authors' node."""
    packs = headless.PACKS | {"expanding": Path(__file__).parent / "expanding"}
    with headless.server(find_host(), "--preview-method", "latent2rgb", threads=1, packs=packs) as client:
        yield client


@pytest.fixture(scope="module")
def page(server):
    """The server's front end in a real browser, not left open where no test looks: it draws all the time."""
    if browser.BROWSER is None:
        pytest.skip("no Chromium on the PATH (Debian's package: chromium)")
    # Tests that want Nodes 2.0 turn it on.
    server.post("/settings", {"Comfy.VueNodes.Enabled": False})
    with browser.opened(server) as page:
        yield page
