"""The archive that users get: comfy-cli accepts it, and it works alone in an empty custom_nodes."""

import os
import re
import shutil
import subprocess
import urllib.request
import zipfile
from pathlib import Path

import pytest

from harness import headless
from harness.host import REPOSITORY, find_host

OWN_UV = REPOSITORY / ".uv" / "bin" / "uv"
UV = shutil.which("uv") or (str(OWN_UV) if OWN_UV.exists() else None)
# Of what developers have, users get what they can read.
FOR_DEVELOPERS = ("tests/", "lab/", "benchmarks/", "harness/", "docs/", ".", "Makefile")
FOR_READERS = (".md", ".png", ".jpg")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module")
def comfy_cli(tmp_path_factory):
    """Run comfy-cli's command in a clone of the repository: (clone, function of arguments)."""
    if UV is None:
        pytest.skip("no uv on the PATH to run comfy-cli with (`make setup` brings it)")
    clone = tmp_path_factory.mktemp("pack") / "clone"
    subprocess.run(["git", "clone", "-q", REPOSITORY, clone], check=True)
    version = re.search(r'host = \["(.+?)"\]', (REPOSITORY / "pyproject.toml").read_text())[1]

    def run(*arguments):
        command = [UV, "tool", "run", "--from", version, "comfy", "--skip-prompt", "--no-enable-telemetry", *arguments]
        return subprocess.run(command, cwd=clone, capture_output=True, text=True, timeout=300)

    return clone, run


def test_comfy_cli_accepts_the_pack(comfy_cli):
    _, run = comfy_cli
    done = run("node", "validate")
    assert "All validation checks passed" in done.stdout + done.stderr


def test_the_archive_holds_what_users_need_and_works_alone(comfy_cli, tmp_path):
    clone, run = comfy_cli
    run("node", "pack")
    archive = zipfile.ZipFile(clone / "node.zip")
    names = archive.namelist()
    assert not [name for name in names if name.startswith(FOR_DEVELOPERS) and not name.endswith(FOR_READERS)]
    folders = {parent.as_posix() for name in names for parent in Path(name).parents}
    for page in (name for name in names if name.endswith(".md")):
        for link in LINK.findall(archive.read(page).decode()):
            leads_to = os.path.normpath(os.path.join(os.path.dirname(page), link))
            assert leads_to in names or leads_to in folders, f"{page} links to {link}, which is not in the archive"
    assert sum(each.compress_size for each in archive.infolist()) < 1.2e6
    packed = {Path(name).stem for name in names if name.startswith("web/docs/")}
    assert {"__init__.py", "pyproject.toml", "README.md", "LICENSE"} <= set(names)
    for files in ("web/*.js", "subgraphs/*.json"):
        assert {path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.glob(files)} <= set(names)
    archive.extractall(tmp_path / "pack")
    packs = {"comfyui-delta-sampling": tmp_path / "pack"}
    with headless.server(find_host(), threads=1, packs=packs, expected=["DeltaKSampler"]) as alone:
        ours = {
            name
            for name, node in alone.get("/object_info").items()
            if node["python_module"] == "custom_nodes.comfyui-delta-sampling" and not node["deprecated"]
        }
        assert ours == packed
        for name in ours:
            page = f"http://{alone.address}/extensions/comfyui-delta-sampling/docs/{name}.md"
            with urllib.request.urlopen(page, timeout=30) as reply:
                assert reply.read().startswith(b"# ")
