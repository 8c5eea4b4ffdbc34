"""`segtool push` and `--run hf:user/name`, with the hub's own client against a small hub in this process."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import Run, Type

from segtool.core.images import read_indices

NETWORK = "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """What the client asks of the hub for one commit of small files and their download."""

    files: ClassVar[dict[str, dict[str, bytes]]] = {}

    def do_POST(self) -> None:
        body = self._body()
        parts = self.path.strip("/").split("/")
        if self.path == "/api/repos/create":
            name = json.loads(body)
            repo = "/".join(filter(None, (name.get("organization"), name["name"])))
            Hub.files.setdefault(repo, {})
            return self._answer({"url": f"{self._address}/{repo}"})
        if self.path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        repo = "/".join(parts[2:4])
        if "preupload" in parts:
            wanted = json.loads(body)["files"]
            return self._answer(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in wanted]}
            )
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                Hub.files[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self._answer(
            {"commitUrl": f"{self._address}/{repo}/commit/{COMMIT}", "commitOid": COMMIT, "success": True}
        )

    def do_HEAD(self) -> None:
        self.do_GET(content=False)

    def do_GET(self, content: bool = True) -> None:
        parts = self.path.strip("/").split("/")
        repo, name = "/".join(parts[:2]), parts[-1]
        if repo not in Hub.files:
            return self._answer({"error": "none"}, 404, {"X-Error-Code": "RepoNotFound"})
        if name not in Hub.files[repo]:
            return self._answer({"error": "none"}, 404, {"X-Error-Code": "EntryNotFound"})
        found = Hub.files[repo][name]
        headers = {"ETag": f'"{len(found)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        return self._send(found if content else b"", 200, {**headers, "Content-Length": str(len(found))})

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    @property
    def _address(self) -> str:
        return f"http://{self.headers['Host']}"

    def _answer(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self._send(body, status, {"Content-Length": str(len(body)), **(headers or {})})

    def _send(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which the client talks to a hub of this test, with a cache of its own."""
    Hub.files = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    yield {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_XET": "1"}
    server.shutdown()
    server.server_close()


def test_a_run_goes_to_the_hub_and_predicts_from_there(
    typed: Type, segtool: Run, tiny: Path, tmp_path: Path, hub: dict[str, str]
) -> None:
    assert typed(f"train tiny -o run --epochs 1 {NETWORK}").status == 0
    assert typed("predict tiny --run run --threads 1 -o one").status == 0
    # In processes of their own: the client reads the environment once.
    pushed = segtool("push", "run", "someone/a-model", **hub)
    assert pushed.returncode == 0, pushed.stderr
    assert "predict with --run hf:someone/a-model" in pushed.stdout
    card = Hub.files["someone/a-model"]["README.md"].decode()
    assert "linknet" in card and '["ground", "box", "stripe"]' in card
    there = segtool("predict", "tiny", "--run", "hf:someone/a-model", "--threads", 1, "-o", "two", **hub)
    assert there.returncode == 0, there.stderr
    for path in sorted((tmp_path / "one/masks").glob("*.png")):
        assert (read_indices(path) == read_indices(tmp_path / "two/masks" / path.name)).all()
    Hub.files["someone/empty"] = {"README.md": b""}
    offline = {**hub, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    for name, environment, status, told in (
        ("hf:someone/another", offline, 1, "the hub cannot be reached, and its cache does not hold the bundle"),
        ("hf:no/repository", hub, 1, "there is no such repository"),
        ("hf:someone/empty", hub, 1, "it was not written by `segtool push`"),
        ("hf:a/b/c", hub, 2, "write hf:user/name"),
    ):
        refused = segtool("predict", "tiny", "--run", name, "-o", "new", **environment)
        assert refused.returncode == status and told in refused.stderr, refused.stderr
        assert refused.stderr.count("\n") == 1 and not (tmp_path / "new").exists()
    # Once in the cache, no hub is needed.
    look = "from pathlib import Path; from segtool.core.models.hub import fetch; fetch(Path('hf:someone/a-model'))"
    assert subprocess.run([sys.executable, "-c", look], env={**os.environ, **offline}).returncode == 0
