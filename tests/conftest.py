"""Finds ComfyUI for the tests that need it, and says so loudly where there is none."""

import os
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parent.parent
HOST = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
NEEDS_HOST = ("host", "server")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    if (HOST / "main.py").exists():
        return None
    return True if collection_path.parent.name in NEEDS_HOST and collection_path.suffix == ".py" else None


def pytest_sessionstart() -> None:
    if os.environ.get("REQUIRE_COMFYUI") == "1" and not (HOST / "main.py").exists():
        pytest.exit(f"REQUIRE_COMFYUI=1, and there is no ComfyUI at {HOST} (set COMFYUI_PATH)", returncode=1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not (HOST / "main.py").exists():
        terminalreporter.section("SKIPPED: every test that needs ComfyUI", sep="!")
        terminalreporter.line(f"There is no ComfyUI at {HOST}. Set COMFYUI_PATH, or run `make host`.")
