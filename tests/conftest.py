"""Says loudly which tests did not run where there is no ComfyUI."""

import os
from pathlib import Path

import pytest

from harness.host import find_host


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if find_host() is None and collection_path.name == "host" else None


def pytest_sessionstart() -> None:
    if os.environ.get("REQUIRE_COMFYUI") == "1" and find_host() is None:
        pytest.exit("REQUIRE_COMFYUI=1, and there is no ComfyUI (set COMFYUI_PATH, or run `make host`)", returncode=1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if find_host() is None:
        terminalreporter.section("SKIPPED: every test that needs ComfyUI", sep="!")
        terminalreporter.line("No ComfyUI was found. Set COMFYUI_PATH to one, or run `make host` to install it.")
