"""Only the whole token opens, and finding that out takes the same time for all others."""

from __future__ import annotations

import hmac

import pytest

from app.access import tokens
from app.access.tokens import TokenRecord, find_token, token_digest, token_id
from tools.access_policy import make_token


def by_id(record: TokenRecord) -> dict[str, TokenRecord]:
    return {record.token_id: record}


def test_a_token_finds_its_record_and_no_other_one() -> None:
    made = [make_token(f"number {number}") for number in range(20)]
    records = {record.token_id: record for _, record in made}
    assert len(records) == 20
    for token, record in made:
        assert find_token(token, records) == record
        others = {key: each for key, each in records.items() if each is not record}
        assert find_token(token, others) is None


def test_every_character_of_a_token_counts() -> None:
    token, record = make_token("")
    for place, character in enumerate(token):
        other = "a" if character != "a" else "b"
        changed = token[:place] + other + token[place + 1 :]
        assert find_token(changed, by_id(record)) is None, place
        assert find_token(token[:place], by_id(record)) is None, place
    assert find_token(token.upper(), by_id(record)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cloister__",
        "cloister_0000000000000000_",
        "{token} ",
        "{token}\n",
        " {token}",
        "{token}=",
        "{token}_",
        "{token}{token}",
        "{token}\0",
        "CLOISTER{rest}",
        "cloister_" + "0" * 1_000_000,
    ],
)
def test_what_is_no_token(text: str) -> None:
    token, record = make_token("")
    shown = text.replace("{token}", token).replace("{rest}", token.removeprefix("cloister"))
    assert token_id(shown) is None
    assert find_token(shown, by_id(record)) is None


def test_secrets_are_compared_in_constant_time_and_unknown_ids_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return original(left, right)

    original = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    token, record = make_token("")
    stranger, _ = make_token("")
    wrong = token[:-43] + stranger[-43:]
    for sent, expected in ((token, record), (wrong, None), (stranger, None)):
        compared.clear()
        assert find_token(sent, by_id(record)) == expected
        assert [(len(left), len(right)) for left, right in compared] == [(32, 32)]


def test_the_record_of_nobody_opens_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a token that collides with what unknown ids are compared with is none."""
    token, _ = make_token("")
    nobody = TokenRecord("", bytes(16), token_digest(bytes(16), token), "")
    monkeypatch.setattr(tokens, "_NOBODY", nobody)
    assert find_token(token, {}) is None


def test_what_is_kept_is_salted() -> None:
    token, record = make_token("")
    assert record.digest == token_digest(record.salt, token)
    assert token_digest(bytes(16), token) != record.digest
    secret = token.rpartition("_")[2]
    assert secret not in repr(record)
