"""Which ComfyUI the pack runs on: said in one place for the code, the registry and the readers."""

import importlib.util
import sys
import types

import pytest

from harness.host import REPOSITORY


def pack(version=None):
    """Return the pack's `__init__` as a ComfyUI of `version` loads it."""
    spec = importlib.util.spec_from_file_location("pack_under_test", REPOSITORY / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    host = None if version is None else types.SimpleNamespace(__version__=version)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "comfyui_version", host)
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("version", ["0.16.0", "0.16.4", "0.20.1", "0.33.0", "0.100.0", "1.0.0", "v0.33.0-5-gabc"])
def test_a_supported_host_gets_the_extension(version, caplog):
    loaded = pack(version)
    assert callable(loaded.comfy_entrypoint) and loaded.WEB_DIRECTORY
    assert not hasattr(loaded, "NODE_CLASS_MAPPINGS") and not caplog.records


@pytest.mark.parametrize("version", ["0.15.1", "0.11.0", "0.9.2", "0.3.40", None])
def test_an_older_host_gets_no_nodes_and_one_plain_line(version, caplog):
    loaded = pack(version)
    assert loaded.NODE_CLASS_MAPPINGS == {}
    assert not hasattr(loaded, "comfy_entrypoint") and not hasattr(loaded, "WEB_DIRECTORY")
    (record,) = caplog.records
    there = "of unknown version" if version is None else version
    assert record.getMessage().startswith(f"Delta Sampling needs ComfyUI 0.16.0 or newer, and this is ComfyUI {there}.")


def test_all_texts_name_the_same_version():
    required = pack("1.0.0").REQUIRES
    assert f'requires-comfyui = ">={required}"' in (REPOSITORY / "pyproject.toml").read_text()
    assert f"({required} or newer)" in (REPOSITORY / "README.md").read_text()
    assert f"ComfyUI {required}" in (REPOSITORY / "docs" / "guide.md").read_text()
