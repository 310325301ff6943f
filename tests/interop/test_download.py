"""Downloads: resumed, limited, and from addresses of HTTPS or of this machine alone."""

import pytest

from jaxvision.core import InputError
from jaxvision.interop import download as module
from jaxvision.interop.download import check_address, download
from tests.interop.weights_server import serving

CONTENT = bytes(range(256)) * 2000


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "_SECONDS", 0.5)
    with serving() as found:
        found.files["/x.pth"] = CONTENT
        yield found


def fetch(server, folder, most=1 << 20):
    download(f"{server.address}/x.pth", folder / "part", most=most)
    return (folder / "part").read_bytes()


@pytest.mark.parametrize(
    ("failures", "ranges"),
    [
        ([], [None]),
        (["slow"], [None]),
        (["no length"], [None]),
        (["cut 1000"], [None, "bytes=1000-"]),
        (["cut 1000", "cut 500", 503], [None, "bytes=1000-", "bytes=1500-", "bytes=1500-"]),
        (["stall 1000"], [None, "bytes=1000-"]),
        (["cut 1000", "no ranges"], [None, "bytes=1000-"]),
        ([500, 429], [None, None, None]),
    ],
)
def test_a_file_comes_whole(tmp_path, server, failures, ranges):
    server.failures = list(failures)
    assert fetch(server, tmp_path) == CONTENT
    assert [wanted for _, wanted in server.asked] == ranges


def test_a_later_call_resumes(tmp_path, server):
    server.failures = ["cut 1000"] + [503] * 5
    with pytest.raises(InputError, match=r"503 .*; 1,000 bytes are here, and the next try begins"):
        fetch(server, tmp_path)
    server.asked.clear()
    assert fetch(server, tmp_path) == CONTENT
    assert server.asked == [("/x.pth", "bytes=1000-")]
    assert fetch(server, tmp_path) == CONTENT  # it is there, and nothing follows


@pytest.mark.parametrize("failures", [[], ["no length"], ["slow"]])
def test_no_more_bytes_than_the_file_has(tmp_path, server, failures):
    server.failures = failures
    with pytest.raises(InputError, match=r"is not the file that it should be: .* at most 1,000"):
        fetch(server, tmp_path, most=1000)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_there(tmp_path, server):
    server.failures = [404]
    with pytest.raises(InputError, match=r"/x\.pth cannot be downloaded: the server answers 404"):
        fetch(server, tmp_path)
    assert len(server.asked) == 1


def test_no_server(tmp_path, server):
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match=r"x\.pth cannot be downloaded: .*refused"):
        fetch(server, tmp_path)


def test_redirections(tmp_path, server):
    server.failures = [f"{server.address}/x.pth"]
    assert fetch(server, tmp_path) == CONTENT
    (tmp_path / "part").unlink()
    server.failures = ["http://example.org/x.pth"]
    with pytest.raises(InputError, match=r"http://example\.org/x\.pth is not an address"):
        fetch(server, tmp_path)


@pytest.mark.parametrize(
    "address", ["http://example.org/x", "ftp://localhost/x", "file:///x", "/x", "http://[", ""]
)
def test_other_addresses_are_refused(address):
    with pytest.raises(InputError, match="is not an address that weights are downloaded from"):
        check_address(address)
    check_address("https://example.org/x")
    check_address("http://localhost:80/x")
