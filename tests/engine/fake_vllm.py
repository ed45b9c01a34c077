"""`vllm serve ...` as far as an export asks it: answers what $FAKE_VLLM says, or ends at once where that is empty."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

NAME = next(word.partition("=")[0] for word in sys.argv if "=" in word)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._say({"data": [{"id": "base"}, {"id": NAME}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = os.environ["FAKE_VLLM"] if asked["model"] == NAME and asked["temperature"] == 0 else "?"
        self._say({"choices": [{"message": {"role": "assistant", "content": answer}}]})

    def _say(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if not os.environ["FAKE_VLLM"]:
    sys.exit("the card has no memory left")
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
