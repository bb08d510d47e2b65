"""One real ComfyUI server for the session, with the pack and the lab's nodes."""

import shutil

import pytest
from playwright.sync_api import sync_playwright

from lab import headless
from lab.host import find_host

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def server():
    """Previews are on, as latent2rgb: they ended every run of the method authors' node."""
    with headless.server(find_host(), "--preview-method", "latent2rgb", threads=1) as client:
        yield client


@pytest.fixture(scope="session")
def page(server):
    """The server's front end in a real browser."""
    if BROWSER is None:
        pytest.skip("no Chromium on the PATH (Debian's package: chromium)")
    # No welcome in front of the graph.
    server.post("/settings", {"Comfy.TutorialCompleted": True})
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"],
        )
        page = browser.new_page()
        page.goto(f"http://{server.address}")
        page.wait_for_function("window.app?.graph && window.app.extensionManager", timeout=120_000)
        yield page
        browser.close()
