"""A real server that speaks OpenAI's chat protocol, on a real socket; who judges is a function."""

import difflib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MARKED = re.compile(r"<<<([A-Za-z ]+?) ([0-9a-f]+)\n(.*?)\nend of \1 \2>>>", re.S)


@dataclass(frozen=True)
class Asked:
    """A call: its body as sent, its headers, and the texts between the marks by their name."""

    body: dict[str, Any]
    headers: dict[str, str]
    number: int

    @property
    def parts(self) -> dict[str, str]:
        return {name: text for name, _, text in MARKED.findall(self.body["messages"][1]["content"])}

    @property
    def repair(self) -> bool:
        return len(self.body["messages"]) > 2


@dataclass(frozen=True)
class Raw:
    """A reply that is not of the protocol. `waits` for the server's end before anything is sent."""

    status: int = 200
    body: str = "{}"
    headers: dict[str, str] = field(default_factory=dict)
    waits: bool = False


Judge = Callable[[Asked], str | Raw]


class JudgeServer(ThreadingHTTPServer):
    """`calls` in their order; `gate` holds every answer back while it is not set."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, judge: Judge, key: str = "", models: tuple[str, ...] = ("judge-1",)) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.judge, self.key, self.models = judge, key, models
        self.calls: list[Asked] = []
        self.lock = threading.Lock()
        self.gate, self.over = threading.Event(), threading.Event()
        self.gate.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, *_: object) -> None:
        """A client that has gone is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: JudgeServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        data = [{"id": name, "object": "model"} for name in self.server.models]
        self._send(Raw(200, json.dumps({"object": "list", "data": data})))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            asked = Asked(body, dict(self.headers.items()), len(self.server.calls) + 1)
            self.server.calls.append(asked)
        self.server.gate.wait(60)
        if self.path != "/v1/chat/completions":
            return self._send(Raw(404, json.dumps({"error": {"message": f"no such path: {self.path}"}})))
        if body["model"] not in self.server.models:
            return self._send(Raw(404, json.dumps({"error": {"message": f"The model {body['model']} does not exist"}})))
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            told = f"Incorrect API key provided: {self.headers.get('Authorization')}"
            return self._send(Raw(401, json.dumps({"error": {"message": told}})))
        said = self.server.judge(asked)
        return self._send(said if isinstance(said, Raw) else Raw(200, completion(said)))

    def _send(self, raw: Raw) -> None:
        if raw.waits:
            self.server.over.wait(60)
            self.close_connection = True
            return
        data = raw.body.encode()
        self.send_response(raw.status)
        for name, value in ({"Content-Type": "application/json"} | raw.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def completion(text: str | None, finish: str = "stop", usage: Any = None) -> str:
    """The document of the protocol."""
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120} if usage is None else usage
    message = {"role": "assistant", "content": text}
    return json.dumps({"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                       "usage": usage})  # fmt: skip


@contextmanager
def serving(judge: Judge, key: str = "", models: tuple[str, ...] = ("judge-1",)) -> Iterator[JudgeServer]:
    server = JudgeServer(judge, key, models)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()


def near(answer: str, reference: str) -> float:
    return difflib.SequenceMatcher(None, answer, reference).ratio()


def verdict(winner: str, reason: str = "because") -> str:
    return json.dumps({"reason": reason, "winner": winner})


def sensible(asked: Asked) -> str:
    """Prefers the answer that is nearer to the reference; alone it is given marks for that."""
    parts = asked.parts
    if "answer" in parts:
        return json.dumps({"reason": "so near", "score": round(1 + 9 * near(parts["answer"], parts["reference"]))})
    a, b = (near(parts[name], parts["reference"]) for name in ("answer A", "answer B"))
    return verdict("tie" if a == b else "A" if a > b else "B", f"A {a:.2f}, B {b:.2f}")


def placed(_: Asked) -> str:
    """Sees no answers, only places."""
    return verdict("A", "it came first")


def nonsense(_: Asked) -> str:
    return "I would say that both have their merits!"
