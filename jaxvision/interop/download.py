"""Downloads files over HTTPS: resumed where they broke off, with a limit of their size."""

import hashlib
import http.client
import pathlib
import re
import urllib.error
import urllib.parse
import urllib.request

from tqdm import tqdm

from jaxvision.core import InputError, one_line, reason_of
from jaxvision.core.files import writing

_LOCAL = ("localhost", "127.0.0.1", "::1")
_SECONDS = 30  # without a byte, after which the connection is given up
_ATTEMPTS = 5  # without a byte, after which the download is given up
_PIECE = 1 << 18


def check_address(address: str) -> None:
    """Raises InputError unless an address is of HTTPS, or of HTTP on this machine."""
    try:
        parts = urllib.parse.urlsplit(address)
        local = parts.scheme == "http" and parts.hostname in _LOCAL
    except ValueError:
        local = False
    if not (local or address.startswith("https://")):
        raise InputError(
            f"{one_line(address)} is not an address that weights are downloaded from: they begin "
            "with https://, or on this machine with http://localhost"
        )


def digest_of(path: pathlib.Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(address: str, part: pathlib.Path, *, most: int) -> None:
    """Downloads a file.

    A connection that breaks is opened again, and what is there already is not asked for again, if
    the server can send the rest alone. The same holds for the next call with the same `part`.

    Args:
      address: of the file, see `check_address`; so are those that the server redirects to.
      part: where it is written, without a lock.
      most: bytes that it has at most.
    Raises:
      InputError: the address is of another kind; the server cannot be reached, or has no such file;
        the connection broke several times; or the file is larger. If the rest of the file may still
        come, the message says so and `part` remains.
      NoRoomError: the disk is full.
    """
    check_address(address)
    failures = 0
    name = address.rpartition("/")[2]
    with tqdm(desc=name, unit="B", unit_scale=True, unit_divisor=1024, disable=None) as shown:
        while True:
            before = _size(part)
            try:
                if _receive(address, part, most, shown):
                    return
                reason = "the connection broke"
            except urllib.error.HTTPError as error:
                reason = f"the server answers {error.code} {error.reason}"
                if error.code == 416 and before:  # nothing follows what is there
                    return
                if error.code not in (408, 429, 500, 502, 503, 504):
                    raise InputError(f"{address} cannot be downloaded: {reason}") from error
            except (OSError, http.client.HTTPException) as error:
                cause = getattr(error, "reason", None)
                reason = str(cause) if cause else reason_of(error)
            failures = 0 if _size(part) > before else failures + 1
            if failures == _ATTEMPTS:
                have = _size(part)
                kept = f"; {have:,} bytes are here, and the next try begins after them"
                raise InputError(
                    f"{address} cannot be downloaded: {one_line(reason)}{kept if have else ''}"
                )


def _size(path: pathlib.Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _receive(address: str, part: pathlib.Path, most: int, shown: tqdm) -> bool:
    """Receives a file, or what is missing of it; returns whether it is complete."""
    have = _size(part)
    headers = {"User-Agent": "jaxvision", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(address, headers=headers)
    with _OPENER.open(request, timeout=_SECONDS) as response:
        start = _start(response.headers.get("Content-Range", ""))
        if response.status != 206 or start != have:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None and length.isdecimal() else None
        if total is not None and total > most:
            raise _too_large(address, part, f"{total:,} bytes", most)
        shown.total, shown.n = total, have
        shown.refresh()
        with writing(part), part.open("ab" if have else "wb") as file:
            while piece := response.read1(_PIECE):
                have += len(piece)
                if have > most:
                    raise _too_large(address, part, "more", most)
                file.write(piece)
                shown.update(len(piece))
    return total is None or have == total


def _start(content_range: str) -> int | None:
    """The first byte of "bytes 100-199/200"."""
    found = re.match(r"bytes (\d+)-", content_range)
    return int(found[1]) if found else None


def _too_large(address: str, part: pathlib.Path, found: str, most: int) -> InputError:
    part.unlink(missing_ok=True)
    return InputError(
        f"{address} is not the file that it should be: it has {found}, and the file has at most "
        f"{most:,} bytes"
    )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to addresses that `check_address` accepts, and to no others."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_Redirects)
