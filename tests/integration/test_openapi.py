"""Schemathesis drives the server with the protocol's document; the document's client asks it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.errors import BadRequestError
from open_inference.openapi.types import InferenceRequest
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests import served
from tests.integration.openapi import document
from tests.integration.protocol import Served, protocol_server

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]
"""All that can be said of one answer; which tensors a model takes is not in the document."""

SCHEMA = schemathesis.openapi.from_dict(document(["sums", "shades"]))
SCHEMA.app = served.application(served.models())


@SCHEMA.parametrize()
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_answer_deviates_from_the_document(case: Case[Any]) -> None:
    case.validate_response(case.call(), checks=CHECKS)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with protocol_server(tmp_path_factory.mktemp("openapi")) as found:
        yield found


@pytest.fixture
def client(running: Served) -> Iterator[OpenInferenceClient]:
    context = ssl.create_default_context(cafile=str(running.certificate))
    with httpx.Client(verify=context) as inner:
        yield OpenInferenceClient(base_url=f"https://{running.address}", httpx_client=inner)


def test_the_documents_own_client(client: OpenInferenceClient) -> None:
    client.check_server_liveness()
    client.check_server_readiness()
    client.check_model_readiness("sums")
    client.check_model_version_readiness("sums", "1")
    assert client.read_server_metadata().name == "cloister"
    assert [each.shape for each in client.read_model_metadata("sums").inputs or ()] == [
        [-1, 4],
        [1],
    ]
    assert client.read_model_version_metadata("sums", "1").versions == ["1"]
    tensor = {"name": "IN", "shape": [1, 2], "datatype": "FP32", "data": [[1.5, -2.0]]}
    asked = InferenceRequest.parse_obj({"id": "a", "inputs": [tensor]})
    answer = client.model_infer("echo-fp32", request=asked)
    assert answer.id == "a"
    assert answer.outputs[0].data.__root__ == [1.5, -2.0]
    with pytest.raises(BadRequestError):
        client.model_infer("sums", request=asked)


def test_the_document_is_not_empty() -> None:
    """Otherwise the first test would pass without asking anything."""
    assert len(list(SCHEMA.get_all_operations())) == 7
