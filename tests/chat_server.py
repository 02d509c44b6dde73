"""A real HTTP server that speaks OpenAI's chat completions, with the faults that servers have."""

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str, str], str]
"""Function of the documents shown and the code that a verdict must repeat, to the reply's text."""


class ChatServer(ThreadingHTTPServer):
    """Answers POSTs to /v1/chat/completions.

    Attributes:
        answer: makes the reply.
        faults: names of faults, one for each request from the first on; then all goes well.
        requests: what was asked: bodies and headers.
    """

    daemon_threads = True

    def __init__(self, answer: Answer, faults: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.faults = answer, faults
        self.requests: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.released = threading.Event()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_: Any) -> None:
        """A client that has gone is no matter."""


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            fault = server.faults.pop(0) if server.faults else ""
            server.requests.append((body, dict(self.headers)))
        if self.path != "/v1/chat/completions":
            self.send(404, b'{"error": {"message": "no such path"}}')
        elif fault:
            self.fail(fault)
        else:
            self.send(200, json.dumps(self.completion(body)).encode())

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        shown = body["messages"][1]["content"]
        (code,) = set(re.findall(r"VERDICT ([0-9a-f]{12}): YES or NO", shown))
        message = {"role": "assistant", "content": self.server.answer(shown, code)}
        return {
            "object": "chat.completion",
            "model": f"{body['model']}-0125",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100},
        }

    def fail(self, fault: str) -> None:
        whole = json.dumps({"choices": [{"message": {"content": "VERDICT"}}]}).encode()
        if fault == "hang":
            self.server.released.wait(30)
        elif fault == "drip":
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            with contextlib.suppress(OSError):
                while not self.server.released.is_set():
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    time.sleep(0.05)
        elif fault == "cut short":  # fewer bytes than promised
            self.send_response(200)
            self.send_header("Content-Length", str(len(whole) + 9))
            self.end_headers()
            self.wfile.write(whole)
        elif fault == "drop":
            self.connection.close()
        elif fault.isdecimal():
            self.send(int(fault), b'{"error": {"message": "said by\\nthe server"}}')
        elif fault == "redirect":
            self.send(302, b"", {"Location": "http://127.0.0.1:1/elsewhere"})
        else:  # a body of its own
            self.send(200, fault.encode())

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""


@contextlib.contextmanager
def chat_server(answer: Answer, faults: list[str] | None = None) -> Iterator[ChatServer]:
    """Serve until the block ends."""
    server = ChatServer(answer, faults or [])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
