"""An HTTP proxy on loopback that passes requests on, except for those that it was told to spoil."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit


@dataclass(slots=True)
class Spoil:
    """What becomes of the next requests of a method."""

    method: str
    kind: Literal["answer", "drop", "duplicate", "lose_answer", "cut_body", "stall"]
    times: int
    status: int = 0
    body: bytes = b""
    num_bytes: int = 0


class FaultProxy(ThreadingHTTPServer):
    """Stands between a client and an HTTP server; ``url`` is the endpoint to give to the client.

    Faults apply to the next requests of their method, in the order in which they were asked for.
    """

    daemon_threads = True

    latency_s = 0.0
    """That each request waits before it is passed on."""

    def __init__(self, target_url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target_url).netloc
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.requests: list[str] = []  # "METHOD /path", as they came
        self._faults: list[Spoil] = []
        self._lock = threading.Lock()
        self.is_ending = threading.Event()

    def answer(self, method: str, status: int, code: str = "", *, body: bytes = b"", times: int = 1) -> None:
        """Answer without asking the server: with an S3 error of this code, or with this body."""
        if code:
            body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        self._add(Spoil(method, "answer", times, status=status, body=body))

    def lose_answers(self, method: str, *, times: int = 1) -> None:
        """Let the server do its work, then close the connection instead of answering."""
        self._add(Spoil(method, "lose_answer", times))

    def cut_bodies(self, method: str, num_bytes: int, *, times: int = 1) -> None:
        """Close the connection after this many bytes of the answer's body."""
        self._add(Spoil(method, "cut_body", times, num_bytes=num_bytes))

    def stall(self, method: str, *, times: int = 1) -> None:
        """Do not answer before the proxy ends; the server is not asked."""
        self._add(Spoil(method, "stall", times))

    def take_fault(self, method: str, path: str) -> Spoil | None:
        with self._lock:
            self.requests.append(f"{method} {path}")
            for fault in self._faults:
                if fault.method == method and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the game."""

    def _add(self, fault: Spoil) -> None:
        with self._lock:
            self._faults.append(fault)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(self.server.latency_s)
        fault = self.server.take_fault(self.command, self.path)
        if fault is not None and fault.kind == "answer":
            self._send(fault.status, [], fault.body, len(fault.body))
            return
        if fault is not None and fault.kind in ("drop", "stall"):
            if fault.kind == "stall":
                self.server.is_ending.wait()
            self.close_connection = True
            return
        status, headers, answer, length = self._forward(body)
        if fault is not None and fault.kind == "duplicate":
            self._forward(body)  # a network that delivers twice; the first answer counts
        elif fault is not None:
            self.close_connection = True
            if fault.kind == "cut_body":
                self._send(status, headers, answer[: fault.num_bytes], length)
            return
        self._send(status, headers, answer, length)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes, int]:
        with closing(http.client.HTTPConnection(self.server.target, timeout=30)) as connection:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)  # Host too: the signature covers it
            connection.endheaders(body)
            response = connection.getresponse()
            answer = response.read()
            length = int(response.getheader("Content-Length") or len(answer))
            own = ("connection", "content-length", "transfer-encoding", "date", "server")
            return response.status, [h for h in response.getheaders() if h[0].lower() not in own], answer, length

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes, length: int) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the proxy keeps its own list of requests."""


@contextmanager
def running_fault_proxy(target_url: str, kind: type[FaultProxy] = FaultProxy) -> Iterator[FaultProxy]:
    with kind(target_url) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, name="fault-proxy")
        thread.start()
        try:
            yield proxy
        finally:
            proxy.is_ending.set()
            proxy.shutdown()
            thread.join()
