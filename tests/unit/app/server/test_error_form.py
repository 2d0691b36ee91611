"""Every error has one form, whichever part of the server found it."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from app.access.admission import Gate
from app.access.policy import Quotas
from app.audit import Audit
from app.runtime import Runtime
from app.server.application import create_application
from app.server.framing import error_body
from tests import policies, served
from tests.unit.app.server.clients import Client, request_bytes, serving

FORM = re.compile(rb'\{"error":"[^\n]+"\} *\n')


@given(st.text())
def test_any_message_is_one_line_of_json(message: str) -> None:
    body = error_body(message)
    assert json.loads(body) == {"error": message}
    assert body.count(b"\n") == 1
    assert body.endswith(b"}\n")
    assert body.isascii()


def test_all_parts_of_the_server_say_it_alike() -> None:
    """Framing, admission, quotas, the routes, Flask, and the HTTP parser behind them."""
    user, token = policies.tenant("user", rights=served.ALL_RIGHTS - {"manage"})
    slow, slow_token = policies.tenant("slow", quotas=Quotas(bytes_per_s=1))
    application = create_application(served.catalogue(served.models()), Audit(Runtime.PROCESS))
    by_user = policies.bearer(token)
    by_slow = policies.bearer(slow_token)
    asked = {
        400: request_bytes("POST", "/v2/models/sums/infer", b"no JSON", **by_user),
        401: request_bytes("GET", "/v2"),
        403: request_bytes("POST", "/v2/repository/models/sums/load", **by_user),
        404: request_bytes("GET", "/v2/nothing", **by_user),
        405: request_bytes("DELETE", "/v2", **by_user),
        411: request_bytes("POST", "/v2", Transfer_Encoding="chunked"),
        415: request_bytes("POST", "/v1/models/shades/classify", b"text", **by_user),
        429: request_bytes("GET", "/v2", **by_slow),
        501: request_bytes("GET", "/v2/logging", **by_user),
        505: b"GET /v2 HTTP/9.9\r\n\r\n",
    }
    with serving(application, gate=Gate(policies.policy(user, slow))) as server:
        with Client(server.address) as client:
            client.ask("GET", "/v2", b"", **by_slow)
        for status, request in asked.items():
            with Client(server.address) as client:
                client.send(request)
                answer = client.response()
            assert answer.status == status
            assert answer.headers["content-type"] == "application/json"
            assert FORM.fullmatch(answer.body), answer.body
