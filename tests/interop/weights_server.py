"""A server of files on this machine, which can fail in the ways that servers do."""

import contextlib
import http.server
import threading
import time


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, and notes what was asked.

    Attributes:
      files: path -> bytes.
      failures: what goes wrong with the next requests, one each; see `_Handler`.
      asked: (path, the header Range or None) of every request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.failures, self.asked = {}, [], []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """A client that has left is no error."""


@contextlib.contextmanager
def serving():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Failures: a status code; "cut N": the connection ends after N bytes; "stall N": nothing comes
    after them; "slow", "no length", "no ranges"; or the address that it redirects to."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        failure = str(server.failures.pop(0)) if server.failures else ""
        content = server.files.get(self.path)
        if failure.isdecimal() or content is None:
            self.send_error(int(failure or 404))
            return
        if ":" in failure:
            self.send_response(302)
            self.send_header("Location", failure)
            self.end_headers()
            return
        start = int(wanted[len("bytes=") : -1]) if wanted and failure != "no ranges" else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
        content = content[start:]
        if failure != "no length":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        word, _, number = failure.partition(" ")
        if word == "slow":
            for first in range(0, len(content), 100_000):
                self.wfile.write(content[first : first + 100_000])
                time.sleep(0.05)
            return
        self.wfile.write(content[: int(number)] if word in ("cut", "stall") else content)
        if word == "stall":
            self.wfile.flush()
            time.sleep(1)
