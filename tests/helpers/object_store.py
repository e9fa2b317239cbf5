"""Stores on the loopback interface: moto's S3 and a folder over HTTP, both behind a server that can misbehave."""

import http.client
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Answer = tuple[int, dict[str, str], bytes]
Backend = Callable[[str, str, dict[str, str], bytes], Answer]
"""(method, path, headers, body) -> (status, headers, body)."""


class FaultyServer:
    """Passes requests to a backend and spoils some answers.

    fault(name, n): called for a GET of a tar or any other file with its name and how often that was asked for before;
    gives None, or "500", "cut" (a body that ends early), "wrong" (a byte changed), "reset", "slow" (0.3 s late),
    "hang" (no answer until the server stops), "404", "403".
    """

    def __init__(self, backend: Backend) -> None:
        self.fault: Callable[[str, int], str | None] = lambda name, n: None
        self.asked: Counter[str] = Counter()
        self.seen: list[tuple[str, str | None]] = []
        """(file name, fault) of every GET."""
        self.released = threading.Event()
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ConnectionError, TimeoutError):
                    self.close_connection = True

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.serve(self, backend(self.command, self.path, dict(self.headers), body))

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def serve(self, request: BaseHTTPRequestHandler, answer: Answer) -> None:
        status, headers, body = answer
        fault = None
        if request.command == "GET":
            name = request.path.partition("?")[0].rpartition("/")[2]
            with self._lock:
                fault = self.fault(name, self.asked[name])
                self.asked[name] += 1
                self.seen.append((name, fault))
        if fault in ("500", "404", "403"):
            status, headers, body = int(fault), {}, b""
        if fault == "slow":
            time.sleep(0.3)
        if fault == "hang":
            self.released.wait(60)
        if fault == "reset":
            request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True
            return
        if fault == "wrong":
            body = bytes([body[0] ^ 1]) + body[1:]
        request.send_response(status)
        length = str(len(body))
        for key, value in headers.items():
            if key.lower() != "content-length":
                request.send_header(key, value)
            elif request.command == "HEAD":
                length = value
        request.send_header("Content-Length", length)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body[: len(body) // 2] if fault == "cut" else body)
        if fault == "cut":
            request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


def forward_to(host: str, port: int) -> Backend:
    """Another server."""

    def ask(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        connection = http.client.HTTPConnection(host, port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            kept = {
                k: v for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "connection", "date")
            }
            return answer.status, kept, answer.read()
        finally:
            connection.close()

    return ask


def files_of(folder: Path, ranges: bool = True) -> Backend:
    """A folder, with or without range requests."""

    def read(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        file = folder / path.lstrip("/")
        if not file.is_file():
            return 404, {}, b""
        data = file.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("Range", ""))
        if asked and ranges:
            first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
            return 206, {"Content-Range": f"bytes {first}-{last}/{len(data)}"}, data[first : last + 1]
        return 200, {}, data

    return read


def upload(folder: Path, bucket: str) -> str:
    """Put a folder into a bucket; its URL."""
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket=bucket)
    for file in folder.rglob("*"):
        if file.is_file():
            client.put_object(Bucket=bucket, Key=f"set/{file.relative_to(folder)}", Body=file.read_bytes())
    return f"s3://{bucket}/set"
