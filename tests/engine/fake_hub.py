"""A hub that takes one commit: the endpoints that huggingface_hub asks when a repository is made and filled."""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """`files` by name with their content, as they were committed; `tokens` are those that were sent."""

    private: bool = True
    refuses: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    created: list[dict[str, Any]] = field(default_factory=list)
    large: dict[str, bytes] = field(default_factory=dict)
    url: str = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return 200, {"url": f"{self.url}/me/captain", "name": "me/captain", "id": "me/captain"}
        if path == "/api/models/me/captain":
            return 200, {"id": "me/captain", "private": self.private, "siblings": [], "tags": []}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.endswith("/preupload/main") and self.refuses:
            return 403, {"error": "You may not write here"}
        if path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            return 200, {
                "files": [{"path": f["path"], "uploadMode": self.mode(f["path"]), "shouldIgnore": False} for f in files]
            }
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            return 200, {"transfer": "basic", "objects": [self.lfs(one) for one in objects]}
        if path.startswith("/lfs/"):
            self.large[path.rpartition("/")[2]] = body
            return 200, {}
        if path.endswith("/commit/main"):
            self.commit(body)
            return 200, {"success": True, "commitUrl": f"{self.url}/me/captain/commit/1", "commitOid": "1" * 40}
        return 404, {"error": f"{method} {path}"}

    def mode(self, path: str) -> str:
        return "lfs" if path.endswith(".safetensors") else "regular"

    def lfs(self, one: dict[str, Any]) -> dict[str, Any]:
        return {
            **one,
            "authenticated": True,
            "actions": {"upload": {"href": f"{self.url}/lfs/{one['oid']}", "header": {}}},
        }

    def commit(self, body: bytes) -> None:
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            if entry["key"] == "lfsFile":
                assert hashlib.sha256(self.large[value["oid"]]).hexdigest() == value["oid"]
                self.files[value["path"]] = self.large[value["oid"]]


def serve(hub: Hub) -> ThreadingHTTPServer:
    """The hub at `hub.url`, until it is shut down."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._do()

        do_POST = do_PUT = do_GET  # noqa: N815

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.tokens.add(self.headers.get("Authorization", ""))
            status, value = hub.answer(self.command, self.path.partition("?")[0], body)
            text = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
