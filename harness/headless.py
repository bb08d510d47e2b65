"""A ComfyUI server of its own on the CPU, for the demo and the tests: start it, queue prompts, stop it."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import websocket

from .host import LAB, REPOSITORY, host_options

PACKS = {"comfyui-delta-sampling": REPOSITORY, "delta-sampling-lab": LAB}


class PromptError(RuntimeError):
    """The server refused a prompt or failed in it; carries the server's own words."""


class Client:
    """What a script needs of a running server."""

    def __init__(self, port: int, folder: Path, process: subprocess.Popen):
        self.address = f"127.0.0.1:{port}"
        self.output = folder / "output"
        self.process = process

    def get(self, path: str) -> dict:
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=60) as reply:
            return json.load(reply)

    def post(self, path: str, body: dict) -> dict:
        request = urllib.request.Request(f"http://{self.address}{path}", json.dumps(body).encode(), method="POST")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.loads(reply.read() or b"{}")
        except urllib.error.HTTPError as error:
            raise PromptError(error.read().decode()) from error

    def run(self, prompt: dict, on_message: Callable[[str, dict], None] = lambda kind, data: None) -> dict:
        """Queue an API-format prompt, wait for its end and return its outputs by node id.

        `on_message` sees every message about it. Raises PromptError if it is refused, fails or is cancelled.
        """
        client = uuid.uuid4().hex
        with closing(websocket.create_connection(f"ws://{self.address}/ws?clientId={client}", timeout=600)) as events:
            number = self.post("/prompt", {"prompt": prompt, "client_id": client})["prompt_id"]
            while True:
                message = events.recv()
                if isinstance(message, bytes):
                    on_message("preview", {"bytes": len(message)})
                    continue
                message = json.loads(message)
                kind, data = message["type"], message["data"]
                if data.get("prompt_id") not in (None, number):
                    continue
                on_message(kind, data)
                if kind == "execution_error":
                    raise PromptError(f"{data['exception_type']}: {data['exception_message']}")
                if kind == "execution_interrupted":
                    raise PromptError("interrupted")
                if kind == "execution_success":
                    break
        # The server announces success a moment before it files the outputs.
        while not (filed := self.get(f"/history/{number}")):
            time.sleep(0.02)
        return filed[number]["outputs"]


@contextmanager
def server(
    host: Path,
    *options: str,
    threads: int | None = None,
    patience: float = 180,
    packs: Mapping[str, Path] = PACKS,
    expected: Collection[str] = ("DeltaKSampler", "LabModel"),
) -> Iterator[Client]:
    """Run ComfyUI from `host` in a folder of its own, with `packs` (name -> folder), until the end.

    Unless told otherwise these are this pack and the lab's nodes. `expected` are nodes that have to be there.
    """
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="delta-sampling-") as folder:
        nodes = Path(folder) / "custom_nodes"
        nodes.mkdir()
        for name, target in packs.items():
            (nodes / name).symlink_to(target)
        log = Path(folder) / "server.log"
        environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
        command = [sys.executable, host / "main.py", "--cpu", "--disable-auto-launch", "--base-directory", folder]
        command += ["--port", str(port), *options, *host_options()]
        with log.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=folder)
            client = Client(port, Path(folder), process)
            try:
                _wait(client, log, patience, expected)
                yield client
            finally:
                process.terminate()
                process.wait(timeout=30)


def _wait(client: Client, log: Path, patience: float, expected: Collection[str]) -> None:
    end = time.monotonic() + patience
    while time.monotonic() < end and client.process.poll() is None:
        try:
            known = client.get("/object_info")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.3)
            continue
        missing = set(expected) - known.keys()
        if not missing:
            return
        raise RuntimeError(f"ComfyUI started without {', '.join(sorted(missing))}:\n{log.read_text()}")
    raise RuntimeError(f"ComfyUI did not start:\n{log.read_text()}")
