"""Where a request ends: strict HTTP/1 framing on decrypted bytes, without any I/O.

Whatever two parsers could read differently is refused: RFC 9112 §2 to §6 and
§11.2 (request smuggling).
Nothing returned by this module was authenticated by anybody; it is merely well
formed.
"""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from app.limits import MAX_BODY_BYTES, MAX_HEAD_BYTES

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
"""Sent once to a client that waits for it before it sends a body."""

PLAIN_HTTP: Final = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|TRACE|CONNECT) ")
"""How a request without TLS begins; a record of TLS begins with 0x16."""

_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_REQUEST_LINE: Final = re.compile(rb"([A-Z]{1,16}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
# A token of RFC 9110 §5.6.2 without the underscore: CGI maps "_" and "-" to the same variable.
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_DIGITS: Final = re.compile(rb"[0-9]+")
_MAX_LENGTH_DIGITS: Final = 19
_SINGLE: Final = (
    *(b"host", b"content-length", b"content-type", b"authorization", b"expect"),
    *(b"origin", b"sec-fetch-site"),
)
_USED_HERE: Final = (b"expect", b"authorization")
"""Not passed on: "100 Continue" is sent once, and credentials are nobody's business further in."""


class FramingError(Exception):
    """A request that isn't read any further; the connection closes after the answer.

    Attributes:
        status: the HTTP status to answer with.
        reason: what was expected; holds no byte of the request.
    """

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"{status}: {reason}")


@dataclass(frozen=True, slots=True)
class Head:
    """A checked request line with its headers.

    Attributes:
        headers: names in small letters and values, in their order; without what is used here.
        consumed_bytes: how many bytes of the input belong to the head.
        body_bytes: how many bytes of body follow.
        method: in capitals, as in b"GET".
        target: the path, with the query.
        minor_version: of HTTP/1: 0 or 1.
        authorization: the header's value. It goes no further: `headers` doesn't hold it.
        expects_continue: the client waits for `CONTINUE` before it sends the body.
        keep_alive: another request may follow on this connection.
        host, origin, fetch_site, content_type: the values of these headers; None without.
    """

    headers: Sequence[tuple[bytes, bytes]]
    consumed_bytes: int
    body_bytes: int
    method: bytes
    target: bytes
    minor_version: int
    authorization: bytes | None
    expects_continue: bool
    keep_alive: bool
    host: bytes | None
    origin: bytes | None
    fetch_site: bytes | None
    content_type: bytes | None

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]


def scan(
    data: bytes | bytearray,
    max_head_bytes: int = MAX_HEAD_BYTES,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Head | None:
    """Reads the head at the start of what a client has sent so far.

    The outcome doesn't depend on how the bytes were cut on their way.

    Returns:
        The head, or None while it isn't complete.

    Raises:
        FramingError: for whatever isn't a well-formed HTTP/1.0 or 1.1 head within the limits.
    """
    start = 2 if data[:2] == b"\r\n" else 0  # RFC 9112 §2.2: one empty line is ignored
    window = bytes(data[start : start + max_head_bytes])
    end = window.find(b"\r\n\r\n")
    lines = window if end < 0 else window[:end]
    if _BARE_LF.search(lines):
        raise FramingError(400, "lines must end with CR LF, a lone LF came")
    if end < 0:
        if len(window) == max_head_bytes:
            raise FramingError(431, f"request line and headers must fit {max_head_bytes} bytes")
        return None
    return _parse(lines.split(b"\r\n"), start + end + 4, max_body_bytes)


def error_body(message: str) -> bytes:
    """Gives the body of every error, in the form that all other JSON of the server has."""
    return json.dumps({"error": message}, separators=(",", ":")).encode() + b"\n"


def json_answer(
    status: int,
    content: bytes | str,
    server_name: str,
    *,
    keep_alive: bool = False,
    head_only: bool = False,
    headers: Sequence[tuple[str, str]] = (),
) -> bytes:
    """Gives a whole answer as bytes.

    Args:
        status: an HTTP status.
        content: JSON, or the text of an error, which becomes an `error_body`.
        server_name: the value of the `Server:` header.
        keep_alive: False adds `Connection: close`.
        head_only: leaves the body out, as an answer to HEAD has to.
        headers: further names and values.
    """
    body = error_body(content) if isinstance(content, str) else content
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Server: {server_name}",
        f"Date: {email.utils.formatdate(usegmt=True)}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    if not keep_alive:
        lines.append("Connection: close")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head if head_only else head + body


def _parse(lines: list[bytes], consumed_bytes: int, max_body_bytes: int) -> Head:
    method, target, minor = _request_line(lines[0])
    headers = [_header(line) for line in lines[1:]]
    for name in _SINGLE:
        if sum(key == name for key, _ in headers) > 1:
            raise FramingError(400, f"the header {name.decode().title()} may come once")
    fields = dict(headers)
    if minor == 1 and b"host" not in fields:
        raise FramingError(400, "HTTP/1.1 needs one Host header")
    return Head(
        headers=tuple(header for header in headers if header[0] not in _USED_HERE),
        consumed_bytes=consumed_bytes,
        body_bytes=_body_bytes(fields, max_body_bytes),
        method=method,
        target=target,
        minor_version=minor,
        authorization=fields.get(b"authorization"),
        host=fields.get(b"host"),
        origin=fields.get(b"origin"),
        fetch_site=fields.get(b"sec-fetch-site"),
        content_type=fields.get(b"content-type"),
        expects_continue=_expects_continue(fields) and minor == 1,
        keep_alive=_keeps_alive(headers, minor),
    )


def _request_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Gives the method, the target and the minor version."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise FramingError(400, "the first line must read METHOD /path HTTP/1.1")
    method, target, major, minor = match.groups()
    if (major, minor) not in ((b"1", b"0"), (b"1", b"1")):
        raise FramingError(505, "only HTTP/1.0 and HTTP/1.1 are served")
    if not target.startswith(b"/") or target.startswith(b"//") or b"#" in target:
        raise FramingError(400, "the request target must be a path that starts with one slash")
    return method, target, int(minor)


def _header(line: bytes) -> tuple[bytes, bytes]:
    """Gives the name in small letters and the value without surrounding blanks."""
    if line[:1] in (b" ", b"\t"):
        raise FramingError(400, "a header may not continue on the next line")
    name, colon, value = line.partition(b":")
    if not colon:
        raise FramingError(400, "a header needs a colon")
    if name.endswith((b" ", b"\t")):
        raise FramingError(400, "no blank may stand between a header's name and its colon")
    if b"_" in name:
        raise FramingError(400, "header names with an underscore aren't served, use a hyphen")
    if not _NAME.fullmatch(name):
        raise FramingError(400, "a header's name may hold letters, digits and !#$%&'*+-.^`|~")
    if not _VALUE.fullmatch(value):
        raise FramingError(400, "a header's value may not hold control characters")
    return name.lower(), value.strip(b" \t")


def _body_bytes(fields: dict[bytes, bytes], max_body_bytes: int) -> int:
    length = fields.get(b"content-length")
    if b"transfer-encoding" in fields:
        if length is not None:
            raise FramingError(400, "send Content-Length or Transfer-Encoding, not both")
        raise FramingError(411, "Transfer-Encoding isn't served, send Content-Length")
    if length is None:
        return 0
    if not _DIGITS.fullmatch(length):
        raise FramingError(400, "Content-Length must be a number of bytes in decimal digits")
    if len(length) > _MAX_LENGTH_DIGITS or int(length) > max_body_bytes:
        raise FramingError(413, f"a body may have {max_body_bytes} bytes at most")
    return int(length)


def _expects_continue(fields: dict[bytes, bytes]) -> bool:
    expect = fields.get(b"expect")
    if expect is None:
        return False
    if expect.lower() != b"100-continue":
        raise FramingError(417, "the only expectation served is 100-continue")
    return True


def _keeps_alive(headers: list[tuple[bytes, bytes]], minor: int) -> bool:
    values = b",".join(value for name, value in headers if name == b"connection")
    options = {option.strip().lower() for option in values.split(b",")}
    if b"close" in options:
        return False
    return minor == 1 or b"keep-alive" in options
