"""Where an appliance may be."""

from __future__ import annotations

import pytest

from tools.errors import ServingError
from tools.serving_client.connection import parse_url


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://localhost:8443", ("localhost", 8443)),
        ("https://host.example/", ("host.example", 443)),
        ("https://[::1]:9", ("::1", 9)),
    ],
)
def test_addresses(url: str, address: tuple[str, int]) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:1",
        "localhost:8443",
        "https://",
        "https://h:70000",
        "https://h:x",
        "https://h/v2/models",
        "https://h?x=1",
        "https://user:word@h",
        "",
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ServingError, match="expected https://HOST:PORT"):
        parse_url(url)
