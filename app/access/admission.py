"""Whether a request is let in, decided on its head alone, before a byte of its body is read.

    1. health is open to everybody; so is the page, which asks for a token, where there is a policy
    2. who is it: an API token, or a client certificate that TLS has verified
    3. without a token, does another site ask through the client's browser
    4. what does it want: the right that its path needs, and the model
    5. how much has its tenant asked for already

The routes check rights and models again, and they have the last word: here a
path is only looked at so that a large body needn't be received to be refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from app.access.policy import Policy, Quotas, Tenant
from app.access.quota import Usage
from app.access.tokens import TokenRecord, find_token

OPEN_PATHS: Final = frozenset({b"/v2/health/live", b"/v2/health/ready"})
"""Served to everybody, policy or not."""

PAGE_PATHS: Final = frozenset({b"/", b"/page/style.css", b"/page/script.js", b"/page/icon.svg"})
"""The page for people, which asks for a token: open where tokens count. It tells no more than a
TLS handshake and the header `Server` do."""

OPEN_TENANT: Final = Tenant("(everybody)", None, frozenset({"infer", "metadata", "metrics"}))
"""Who everybody is with `insecure_open_access`: may do all but change what is loaded. No tenant of
a policy can have this name."""

_BEARER: Final = re.compile(rb"bearer +([\x21-\x7e]+)", re.IGNORECASE)
_NEEDS: Final = (
    (re.compile(rb"/v[12]/models/([a-z0-9._-]+)/(?:versions/[^/]+/)?(?:infer|classify)"), "infer"),
    (re.compile(rb"/v2/repository/models/([a-z0-9._-]+)/(?:load|unload)"), "manage"),
)
"""Paths of requests that may bring a body, their model, and the right that the routes ask for."""

_CHANGES_NOTHING: Final = re.compile(
    rb"/v[12]/models/[^%]+/(?:infer|classify)|/v2/repository/index"
)
"""What may be posted in any form."""

_OWN_SITES: Final = (None, b"same-origin", b"none")
"""Values of `Sec-Fetch-Site` that a page of this server, or a person, makes a browser send."""


class Head(Protocol):
    """What is looked at of a request."""

    @property
    def method(self) -> bytes:
        """In capitals."""
        ...

    @property
    def path(self) -> bytes:
        """What is asked for, without the query."""
        ...

    @property
    def authorization(self) -> bytes | None:
        """The value of the header of that name, if it came."""
        ...

    @property
    def host(self) -> bytes | None:
        """The value of the header of that name, if it came; so for the three that follow."""
        ...

    @property
    def origin(self) -> bytes | None:
        """The site whose page asks, as browsers say it."""
        ...

    @property
    def fetch_site(self) -> bytes | None:
        """`Sec-Fetch-Site`: how that site is related to this one."""
        ...

    @property
    def content_type(self) -> bytes | None:
        """What the body is."""
        ...

    @property
    def consumed_bytes(self) -> int:
        """Size of the head."""
        ...

    @property
    def body_bytes(self) -> int:
        """Size of the body, as announced and within the limits."""
        ...


@dataclass(slots=True)
class Admission:
    """What a client was found to be, for one request.

    Attributes:
        tenant: whose request it is.
        models: what the tenant may know of; None for every model.
        rights: among `app.access.policy.RIGHTS`.
        further_bytes: what the request turned out to hold beyond what it brought. Its worker adds
            to it; it counts in the tenant's quota when the answer does.
    """

    tenant: str
    models: frozenset[str] | None
    rights: frozenset[str]
    further_bytes: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request isn't let in.

    Attributes:
        status: 401, 403, 404 or 429.
        message: for the client; holds no credential.
        retry_after_s: when another try makes sense, for 429.
    """

    status: int
    message: str
    retry_after_s: int | None = None

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """What the answer needs beside its message."""
        if self.status == 401:
            return (("WWW-Authenticate", "Bearer"),)  # RFC 9110 §11.6.1 asks for one
        if self.retry_after_s is not None:
            return (("Retry-After", str(self.retry_after_s)),)
        return ()


class Pass:
    """A request that was let in.

    Args:
        admission: None for what is open to everybody.
        usage: where it counts as running until `release`, and what its answers are taken from.
    """

    def __init__(self, admission: Admission | None, usage: Usage | None = None) -> None:
        self.admission = admission
        self._usage = usage
        self._is_running = True

    def charge(self, answer_bytes: int, now: float) -> None:
        """Counts an answer in its tenant's quota; `now` is on the clock of `Gate.admit`."""
        if self._usage is not None and self.admission is not None:
            self._usage.charge(answer_bytes + self.admission.further_bytes, now)

    def release(self) -> None:
        """Ends the request for its tenant's quota; a second time does nothing."""
        if self._usage is not None and self._is_running:
            self._usage.end()
        self._is_running = False


@dataclass(slots=True)
class _Guest:
    """A tenant with what it uses."""

    tenant: Tenant
    usage: Usage | None = None

    def admission(self) -> Admission:
        """What a request of this tenant may do."""
        return Admission(self.tenant.name, self.tenant.models, self.tenant.rights)


class Gate:
    """Lets requests in. Not thread safe: the event loop owns it.

    Args:
        policy: who may do what; None lets nobody in, unless `insecure_open_access`.
        insecure_open_access: lets everybody in as `OPEN_TENANT`.

    Raises:
        ValueError: both were given.
    """

    def __init__(self, policy: Policy | None, *, insecure_open_access: bool = False) -> None:
        if policy is not None and insecure_open_access:
            raise ValueError("an access policy and open access exclude each other")
        self._has_policy = policy is not None
        self._everybody = _Guest(OPEN_TENANT) if insecure_open_access else None
        self._tokens: dict[str, TokenRecord] = {}
        self._by_token: dict[str, _Guest] = {}
        self._by_certificate: dict[str, _Guest] = {}
        for tenant in policy.tenants if policy is not None else ():
            guest = _Guest(tenant)
            self._tokens |= {token.token_id: token for token in tenant.tokens}
            self._by_token |= dict.fromkeys([token.token_id for token in tenant.tokens], guest)
            self._by_certificate |= dict.fromkeys(tenant.certificates, guest)

    def admit(self, head: Head, peer_fingerprint: str | None, now: float) -> Pass | Refusal:
        """Decides on a request.

        Args:
            head: complete and well formed.
            peer_fingerprint: SHA-256 of the DER form of the client certificate, in small
                hexadecimal digits, whose private key TLS has seen at work; None without one.
            now: a monotonic clock, in seconds.

        Returns:
            A `Pass`, to be released when the request has ended, or why there is none.
        """
        path = head.path
        if path in OPEN_PATHS:
            return Pass(None)
        if self._has_policy and head.method == b"GET" and path in PAGE_PATHS:
            return Pass(None)
        guest = self._identify(head.authorization, peer_fingerprint)
        if isinstance(guest, Refusal):
            return guest
        refusal = None
        if head.authorization is None:
            refusal = _cross_site(head, path, is_open=guest is self._everybody)
        admission = guest.admission()
        if refusal is None and head.method == b"POST":
            refusal = _lacks(admission, path)
        return refusal or _begin(guest, admission, head.consumed_bytes + head.body_bytes, now)

    def _identify(self, authorization: bytes | None, fingerprint: str | None) -> _Guest | Refusal:
        if self._everybody is not None:
            return self._everybody
        if not self._has_policy:
            return Refusal(403, "this server has no access policy, so only health is served")
        by_certificate = self._by_certificate.get(fingerprint) if fingerprint else None
        if authorization is None:
            return by_certificate or Refusal(
                401, "this needs credentials; send 'Authorization: Bearer TOKEN' or a certificate"
            )
        by_token = self._find_token(authorization)
        if by_token is None:
            return Refusal(401, "the token isn't valid; it may have been revoked")
        if by_certificate is not None and by_certificate is not by_token:
            return Refusal(401, "the token and the certificate belong to different tenants")
        return by_token

    def _find_token(self, authorization: bytes) -> _Guest | None:
        match = _BEARER.fullmatch(authorization)
        found = find_token(match[1].decode("ascii"), self._tokens) if match else None
        return self._by_token[found.token_id] if found is not None else None


def _cross_site(head: Head, path: bytes, *, is_open: bool) -> Refusal | None:
    """Refuses what another site may have made a browser send.

    A browser shows its certificate, and reaches what is open, for whatever page asks it to. A token
    is put into a request by who knows it, and by no browser on its own. Older browsers say `Origin`
    only, and not with every request: what may change something has to be JSON, which a page of
    another site can't send unasked. Nothing can be changed where access is open.
    """
    is_read = head.method in (b"GET", b"HEAD")
    if is_read and path in PAGE_PATHS:
        return None
    if head.fetch_site not in _OWN_SITES or not _is_own(head.origin, head.host):
        return Refusal(403, "a page of another site asks; without a token that isn't answered")
    if not is_read and not is_open and not _CHANGES_NOTHING.fullmatch(path):
        kind = (head.content_type or b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            return Refusal(
                403, "without a token this needs 'Content-Type: application/json', also when empty"
            )
    return None


def _is_own(origin: bytes | None, host: bytes | None) -> bool:
    """Says whether a request comes from a page of the host that it asks; yes without an origin."""
    if origin is None:
        return True
    scheme, _, site = origin.lower().partition(b"://")
    own = (host or b"").lower().removesuffix(b":443")
    return scheme == b"https" and bool(own) and site.removesuffix(b":443") == own


def lacks_right(admission: Admission, right: str) -> str:
    """Says to a client that it lacks a right, and what to do where credentials don't count."""
    if admission.tenant != OPEN_TENANT.name:
        return f"these credentials don't have the right {right!r}"
    return (
        f"open access doesn't have the right {right!r}, whatever the credentials; start the "
        "server with an access policy instead, and give the right to a tenant there"
    )


def _lacks(admission: Admission, path: bytes) -> Refusal | None:
    """Says what the client may not do, in the words of the routes."""
    for pattern, right in _NEEDS:
        match = pattern.fullmatch(path)
        if match is None:
            continue
        if right not in admission.rights:
            return Refusal(403, lacks_right(admission, right))
        name = match[1].decode("ascii")
        if admission.models is not None and name not in admission.models:
            return Refusal(404, f"there is no model {name[:80]!r}")
    return None


def _begin(guest: _Guest, admission: Admission, size_bytes: int, now: float) -> Pass | Refusal:
    if guest.tenant.quotas == Quotas():
        return Pass(admission)
    guest.usage = guest.usage or Usage(guest.tenant.quotas, now)
    used_up = guest.usage.begin(size_bytes, now)
    if used_up is None:
        return Pass(admission, guest.usage)
    name, wait_s = used_up
    return Refusal(
        429, f"the tenant's quota {name!r} is used up, try again", max(1, math.ceil(wait_s))
    )
