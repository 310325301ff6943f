"""Weights from a hub: one of our own on this machine, that answers as the real one does."""

import hashlib
import http.server
import importlib
import sys
import threading

import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.interop import download_weights, read_state_dict, write_state_dict

pytest.importorskip("huggingface_hub")
COMMIT = "0123456789" * 4


@pytest.fixture
def requests(tmp_path, monkeypatch):
    """A hub with owner/tiny; gives the paths that it was asked for."""
    write_state_dict(tmp_path / "model.safetensors", {"fc.weight": np.arange(6.0)})
    content = (tmp_path / "model.safetensors").read_bytes()
    asked = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append((self.command, self.path))
            found = self.path == "/owner/tiny/resolve/main/model.safetensors"
            self.send_response(200 if found else 404)
            if found:
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("Content-Length", str(len(content)))
            else:
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
            self.end_headers()
            return found

        def do_GET(self):
            if self.do_HEAD():
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    constants = importlib.import_module("huggingface_hub.constants")
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield asked
    server.shutdown()
    server.server_close()


def test_a_file_is_downloaded_once(requests):
    first = download_weights("owner/tiny")
    np.testing.assert_array_equal(read_state_dict(first)["fc.weight"], np.arange(6.0))
    assert ("GET", "/owner/tiny/resolve/main/model.safetensors") in requests
    requests.clear()
    assert download_weights("owner/tiny") == first
    assert "GET" not in {command for command, _ in requests}
    assert download_weights("owner/tiny", revision=COMMIT) == first


@pytest.mark.parametrize("repository", ["owner/gone", "not a name"])
def test_what_is_not_there(requests, repository):
    with pytest.raises(InputError, match=f"model.safetensors of {repository} cannot be downloaded"):
        download_weights(repository)


def test_without_the_library_there_is_a_hint(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'jaxvision\[hub\]'"):
        download_weights("owner/tiny")
