"""A server's front end in a real browser, for the tests and the wiring pictures."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

from .headless import Client

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def opened(server: Client) -> Iterator[Page]:
    """Open the front end of `server` in Chromium, without the greeting of a first visit."""
    server.post("/settings", {"Comfy.TutorialCompleted": True})
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"],
        )
        page = browser.new_page()
        page.goto(f"http://{server.address}")
        page.wait_for_function("window.app?.extensionManager?.workflow?.activeWorkflow", timeout=120_000)
        yield page
        browser.close()
