"""What a scrape tells, and what it doesn't."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from prometheus_client.parser import text_string_to_metric_families as parse

from app.access.admission import Admission, Gate
from app.audit import Audit
from app.limits import MAX_BATCH, MIB
from app.runtime import Runtime
from app.server.application import create_application
from app.server.counters import TRANSPORT, TransportCounters
from app.server.metrics import BATCH_BUCKETS, Figures, families, render
from app.serving.statistics import DURATION_BOUNDS_MS, Recorder, Span, Statistics
from tests import policies, served
from tests.unit.app.server.clients import Client, serving
from tests.unit.app.server.routes.requests import INFER, SUMS
from tests.unit.app.serving.worlds import FakeBundle, World

PROCESS = Audit(Runtime.PROCESS)
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(figures: Figures) -> Series:
    return series(render(figures).decode())


def series(text: str) -> Series:
    """Every sample of a scrape, read by the library's own parser."""
    samples = [sample for family in parse(text) for sample in family.samples]
    found = {(each.name, tuple(sorted(each.labels.items()))): each.value for each in samples}
    assert len(found) == len(samples), "no series twice"
    return found


def figures(*models: Statistics, audit: Audit = PROCESS) -> Figures:
    return Figures(audit, models, 1000, 300, TransportCounters())


def statistics(**more: object) -> Statistics:
    made = Statistics("sums", 1)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def is_time(name: str) -> bool:
    return "_seconds" in name or name.endswith("_us")


VALUES = arrays.arrays(np.float32, (2, 4), elements=st.floats(width=32))


@settings(max_examples=25, deadline=None)
@given(VALUES, VALUES, st.integers(-(1 << 40), 1 << 40))
def test_contents_change_nothing_but_times(one: np.ndarray, other: np.ndarray, count: int) -> None:
    """Two requests of equal shapes change the same series by the same counts."""
    changes = []
    for values, number in ((one, 1), (other, count)):
        world = World([FakeBundle()]).start()
        with np.errstate(all="ignore"):
            model = world.catalogue.find("sums")
            before = scrape(figures(*world.catalogue.statistics(None)))
            inputs = {"x": values, "count": np.array([number], np.int64)}
            model.infer(inputs, tenant="t")
            after = scrape(figures(*world.catalogue.statistics(None)))
        changes.append(
            {key: after[key] - before[key] for key in before if not is_time(key[0])}
            | dict.fromkeys(after.keys() - before.keys())
        )
        world.catalogue.close()
    assert changes[0] == changes[1]
    assert any(changes[0].values()), "something was counted"


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.integers(1, MAX_BATCH), st.integers(1, 1 << 30), max_size=8))
def test_batch_sizes_are_a_histogram(ran: dict[int, int]) -> None:
    found = scrape(figures(statistics(batches={size: Span(n, 0) for size, n in ran.items()})))
    labels = {"model": "sums", "version": "1"}

    def of(name: str, **more: str) -> float:
        return found[f"cloister_batch_size_{name}", tuple(sorted({**labels, **more}.items()))]

    counts = [of("bucket", le=str(size)) for size in BATCH_BUCKETS]
    assert counts == [sum(n for size, n in ran.items() if size <= most) for most in BATCH_BUCKETS]
    assert all(least <= most for least, most in itertools.pairwise(counts))
    assert counts[-1] == of("bucket", le="+Inf") == of("count") == sum(ran.values())
    assert of("sum") == sum(size * n for size, n in ran.items())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 60_000_000_000), max_size=30), st.booleans())
def test_durations_are_histograms_with_coarse_bounds(times: list[int], of_queue: bool) -> None:
    recorder = Recorder("sums", 1)
    for ns in times:
        recorder.succeeded(*((0, ns, 0) if of_queue else (ns, 0, 0)))
    found = scrape(figures(recorder.snapshot()))
    name = f"cloister_{'queue' if of_queue else 'request'}_duration_seconds"
    labels = {"model": "sums", "version": "1"}

    def of(suffix: str, **more: str) -> float:
        return found[f"{name}_{suffix}", tuple(sorted({**labels, **more}.items()))]

    counts = [of("bucket", le=str(bound / 1000)) for bound in DURATION_BOUNDS_MS]
    assert counts == [sum(ns <= bound * 1_000_000 for ns in times) for bound in DURATION_BOUNDS_MS]
    assert of("bucket", le="+Inf") == of("count") == len(times)
    assert of("sum") == sum(times) // 1_000_000 / 1000


def test_bounds_of_durations_are_no_finer_than_sums_and_far_apart() -> None:
    assert min(DURATION_BOUNDS_MS) >= 1
    assert all(3 * least <= most for least, most in itertools.pairwise(DURATION_BOUNDS_MS[::2]))
    assert all(2 * least < most for least, most in itertools.pairwise(DURATION_BOUNDS_MS))


@given(st.integers(0, 1 << 50))
def test_times_are_whole_milliseconds_and_never_go_back(ns: int) -> None:
    def seconds(duration_ns: int) -> float:
        found = scrape(figures(statistics(success=Span(1, duration_ns))))
        labels = (("model", "sums"), ("version", "1"))
        aliased = found["nv_inference_request_duration_us", labels]
        assert aliased % 1000 == 0
        given = found["cloister_request_seconds_total", labels]
        assert aliased == pytest.approx(given * 1e6)
        return given

    assert round(seconds(ns) * 1000) == ns // 1_000_000
    assert seconds(ns) <= seconds(ns + 999_999) <= seconds(ns) + 0.0011


def test_aliases_say_the_same() -> None:
    reasons = {"REJECTED": 1, "CANCELED": 2, "BACKEND": 3, "OTHER": 4}
    made = statistics(success=Span(7, 0), reasons=reasons, waiting=5, batches={2: Span(3, 0)})
    found = scrape(figures(made))

    def of(name: str, **more: str) -> float:
        labels = {"model": "sums", "version": "1", **more}
        return found[name, tuple(sorted(labels.items()))]

    assert of("cloister_requests_total") == of("nv_inference_request_success") == 7
    assert of("nv_inference_count") == 7
    assert of("cloister_model_queue_requests") == of("nv_inference_pending_request_count") == 5
    assert of("cloister_batch_size_count") == of("nv_inference_exec_count") == 3
    for reason, number in reasons.items():
        own = of("cloister_request_failures_total", reason=reason.lower())
        assert own == of("nv_inference_request_failure", reason=reason) == number


def test_measurement_and_insecure_settings_are_told() -> None:
    audit = Audit(
        Runtime.OCCLUM_HARDWARE, "ab" * 32, insecure_settings=("insecure_x", "insecure_y")
    )
    found = scrape(figures(audit=audit))
    info = (("measurement", "ab" * 32), ("runtime", "occlum-hw"))
    assert found["cloister_runtime_info", info] == 1
    assert found["cloister_insecure_settings", ()] == 2
    assert found["cloister_memory_used_bytes", ()] < found["cloister_memory_budget_bytes", ()]


def test_names_follow_the_rules_of_prometheus() -> None:
    """Base units, one prefix beside Triton's, `_total` for counters."""
    for family in families(figures(statistics())):
        assert family.name.startswith(("cloister_", "nv_inference_"))
        assert family.documentation
        assert not family.name.endswith(("_ms", "_ns", "_kib"))


def test_clients_cannot_make_series() -> None:
    """Whatever they ask for: names, versions, ids, tenants and paths appear nowhere."""
    models = served.models()
    client = served.client(models, Admission("clinic-of-tenant", None, served.ALL_RIGHTS))
    before = series(client.get("/metrics").get_data(as_text=True))
    secret = "0123-private"
    client.post(f"/v2/models/{secret}/infer", json=INFER)
    client.post(f"/v2/models/sums/versions/{secret}/infer", json=INFER)
    client.post(SUMS, json={**INFER, "id": secret})
    client.get(f"/{secret}", headers={"X-Tenant": secret})
    answer = client.get("/metrics")
    assert series(answer.get_data(as_text=True)).keys() == before.keys()
    for hidden in (secret, "clinic-of-tenant"):
        assert hidden not in answer.get_data(as_text=True)
    labels = {name for _, pairs in before for name, _ in pairs}
    assert not labels & {"tenant", "client", "address", "id", "path"}


def test_tenant_sees_its_own_models_only() -> None:
    own = served.admitted(models=frozenset({"shades"}), rights=frozenset({"metrics"}))
    answer = served.client(served.models(), own).get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    told = {dict(pairs).get("model") for _, pairs in series(answer.get_data(as_text=True))}
    assert told == {"shades", None}


def test_transport_is_told_where_there_is_one() -> None:
    seen = TransportCounters(accepted=9, handshakes=7, handshake_failures=2, queued=3)
    seen.body_bytes = MIB + 1
    seen.refused(429)
    seen.answered([b"HTTP/1.1 429 Too Many Requests\r\n", b"..."])
    environ = {TRANSPORT: lambda: seen}
    client = served.client(served.models())
    answer = client.get("/metrics", environ_overrides=environ).get_data(as_text=True)
    found = series(answer)
    assert found["cloister_tls_handshakes_total", ()] == 7
    assert found["cloister_tls_handshake_failures_total", ()] == 2
    assert found["cloister_queue_requests", ()] == 3
    assert found["cloister_body_bytes", ()] == 2 * MIB
    assert found["cloister_refusals_total", (("reason", "quota"),)] == 1
    assert found["cloister_refusals_total", (("reason", "credentials"),)] == 0
    assert found["cloister_answers_total", (("status", "429"),)] == 1
    assert not [
        key for key in series(client.get("/metrics").get_data(as_text=True)) if "tls" in key[0]
    ]


def test_scrape_over_tls_needs_the_right_and_counts_itself() -> None:
    world = World([FakeBundle()]).start()
    operator, token = policies.tenant("operator", rights=frozenset({"metrics"}))
    user, users_token = policies.tenant("user", rights=served.ALL_RIGHTS - {"metrics"})
    application = create_application(world.catalogue, PROCESS)
    gate = Gate(policies.policy(operator, user))
    with serving(application, gate=gate) as server, Client(server.address) as client:
        assert client.ask("GET", "/metrics").status == 401
        assert client.ask("GET", "/metrics", b"", **policies.bearer(users_token)).status == 403
        answer = client.ask("GET", "/metrics", b"", **policies.bearer(token))
        assert answer.status == 200
        found = series(answer.body.decode())
    world.catalogue.close()
    assert found["cloister_answers_total", (("status", "401"),)] == 1
    assert found["cloister_answers_total", (("status", "403"),)] == 1
    assert found["cloister_connections", ()] == found["cloister_tls_handshakes_total", ()] == 1
    assert found["cloister_requests_in_progress", ()] == 1
    assert found["cloister_memory_used_bytes", ()] == 100
    assert "operator" not in answer.body.decode()


def test_without_a_policy_nothing_is_told() -> None:
    application = create_application(served.catalogue(served.models()), PROCESS)
    with serving(application, gate=Gate(None)) as server, Client(server.address) as client:
        answer = client.ask("GET", "/metrics")
    assert answer.status == 403
    assert b"cloister_" not in answer.body
