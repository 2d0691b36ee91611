"""The unmodified tritonclient against the server over TLS, with every call that it has."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as sync
from numpy.typing import NDArray
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from app.server.oip.describe import EXTENSIONS
from tests.integration.protocol import Served, protocol_server

Tensor = NDArray[Any]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with protocol_server(tmp_path_factory.mktemp("triton")) as found:
        yield found


@pytest.fixture
def client(served: Served) -> Iterator[sync.InferenceServerClient]:
    found = sync.InferenceServerClient(
        served.address, ssl=True, ssl_options={"ca_certs": str(served.certificate)}
    )
    yield found
    found.close()


def tensors() -> list[Tensor]:
    """One array of every element type of the protocol, with the numbers at its edges."""
    found: list[Tensor] = [np.array([[True, False, True]])]
    for dtype in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        edges = np.iinfo(dtype)
        found.append(np.array([[edges.min, 1, edges.max]], dtype))
    found += [np.array([[-0.0, 1.5, 65504]], dtype) for dtype in ("f2", "f4", "f8")]
    found.append(np.array([[-0.0, 1.5, -3e38]], ml_dtypes.bfloat16))
    found.append(np.array([["wörd", b"", "x" * 1000]], object))
    return found


TENSORS = [pytest.param(array, id=np_to_triton_dtype(array.dtype)) for array in tensors()]


def as_input(array: Tensor, *, binary: bool = True) -> sync.InferInput:
    found = sync.InferInput("IN", list(array.shape), np_to_triton_dtype(array.dtype))
    found.set_data_from_numpy(array, binary_data=binary)
    return found


def echo_of(array: Tensor) -> str:
    return f"echo-{np_to_triton_dtype(array.dtype).lower()}"


def assert_same(found: Tensor, sent: Tensor) -> None:
    assert found.shape == sent.shape
    if sent.dtype == object:
        plain = [item.decode() if isinstance(item, bytes) else item for item in found.flat]
        assert plain == [item.decode() if isinstance(item, bytes) else item for item in sent.flat]
        return
    assert found.dtype == sent.dtype
    assert found.tobytes() == sent.tobytes(), "-0.0 and 0.0 are told apart"


@pytest.mark.parametrize("array", TENSORS)
def test_every_datatype_in_binary(client: sync.InferenceServerClient, array: Tensor) -> None:
    answer = client.infer(echo_of(array), [as_input(array)], request_id="r1")
    assert answer.get_response()["id"] == "r1"
    assert_same(answer.as_numpy("OUT"), array)


@pytest.mark.parametrize("array", TENSORS)
@pytest.mark.parametrize("binary", [True, False])
def test_every_datatype_in_json(
    client: sync.InferenceServerClient, array: Tensor, binary: bool
) -> None:
    """The request in JSON, or where the client can't in binary, and the answer in JSON."""
    binary = binary or array.dtype == ml_dtypes.bfloat16
    wanted = [sync.InferRequestedOutput("OUT", binary_data=False)]
    answer = client.infer(echo_of(array), [as_input(array, binary=binary)], outputs=wanted)
    assert_same(answer.as_numpy("OUT"), array)


@pytest.mark.parametrize("packed", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_compression_both_ways(
    client: sync.InferenceServerClient, packed: str, binary: bool
) -> None:
    array = np.arange(3000, dtype=np.float32).reshape(3, 1000)
    answer = client.infer(
        "echo-fp32",
        [as_input(array, binary=binary)],
        outputs=[sync.InferRequestedOutput("OUT", binary_data=binary)],
        request_compression_algorithm=packed,
        response_compression_algorithm=packed,
    )
    assert_same(answer.as_numpy("OUT"), array)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
@pytest.mark.parametrize("binary", [True, False])
def test_empty_tensor(
    client: sync.InferenceServerClient, shape: tuple[int, int], binary: bool
) -> None:
    array = np.zeros(shape, np.float32)
    wanted = [sync.InferRequestedOutput("OUT", binary_data=binary)]
    answer = client.infer("echo-fp32", [as_input(array, binary=binary)], outputs=wanted)
    assert_same(answer.as_numpy("OUT"), array)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_json_lacks(client: sync.InferenceServerClient, number: float) -> None:
    array = np.array([[number]], np.float32)
    answer = client.infer("echo-fp32", [as_input(array)])
    assert_same(answer.as_numpy("OUT"), array)


@pytest.mark.parametrize("binary", [True, False])
def test_classification(client: sync.InferenceServerClient, binary: bool) -> None:
    picture = sync.InferInput("image", [1, 1, 2, 2], "FP32")
    picture.set_data_from_numpy(np.ones((1, 1, 2, 2), np.float32))
    wanted = [sync.InferRequestedOutput("scores", binary_data=binary, class_count=3)]
    found = client.infer("shades", [picture], outputs=wanted).as_numpy("scores")
    texts = [each.decode() if isinstance(each, bytes) else each for each in found[0]]
    assert texts == ["1.000000:1:light", "0.000000:0:dark"]


def test_priority_timeout_and_hints_reach_the_model(
    client: sync.InferenceServerClient, served: Served
) -> None:
    array = np.ones((1, 1), np.float32)
    client.infer(
        "echo-fp32",
        [as_input(array)],
        model_version="1",
        priority=2,
        timeout=5_000_000,
        parameters={"hint": "x"},
    )
    call = served.models.served["echo-fp32"].calls[-1]
    assert (call.priority, call.timeout_us) == (2, 5_000_000)


def test_raw_form(client: sync.InferenceServerClient) -> None:
    """The client has no call for it; its parts of a request have."""
    pixels = np.ones((2, 1, 2, 2), "<f4")
    response = client._post(
        request_uri="v2/models/shades/infer",
        request_body=pixels.tobytes(),
        headers={"Inference-Header-Content-Length": "0"},
        query_params=None,
    )
    assert response.status_code == 200
    answer = sync.InferResult(response, verbose=False)
    assert answer.as_numpy("scores").tolist() == [[0, 1], [0, 1]]


def test_body_made_and_parsed_apart(client: sync.InferenceServerClient) -> None:
    array = np.ones((1, 5), np.int16)
    body, size = client.generate_request_body([as_input(array)])
    response = client._post(
        request_uri="v2/models/echo-int16/infer",
        request_body=body,
        headers={"Inference-Header-Content-Length": str(size)},
        query_params=None,
    )
    raw = response.read()
    head = int(response.get("Inference-Header-Content-Length"))
    assert_same(client.parse_response_body(raw, header_length=head).as_numpy("OUT"), array)


def test_async_infer(client: sync.InferenceServerClient) -> None:
    array = np.ones((1, 5), np.uint8)
    asked = [client.async_infer("echo-uint8", [as_input(array)]) for _ in range(4)]
    for each in asked:
        assert_same(each.get_result().as_numpy("OUT"), array)


def test_what_the_server_says_of_itself(client: sync.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sums")
    assert client.is_model_ready("sums", "1")
    assert not client.is_model_ready("sums", "2")
    assert not client.is_model_ready("none")
    assert client.get_server_metadata()["extensions"] == list(EXTENSIONS)
    assert client.get_model_metadata("sums")["platform"] == "onnx_onnxv1"
    assert client.get_model_metadata("sums", "1")["versions"] == ["1"]
    assert client.get_model_config("sums")["input"][0]["dims"] == [-1, 4]
    assert client.get_model_config("sums", "1")["name"] == "sums"


def test_repository_and_statistics(client: sync.InferenceServerClient, served: Served) -> None:
    names = {entry["name"] for entry in client.get_model_repository_index()}
    assert {"sums", "shades", "echo-fp32"} <= names
    client.load_model("sums")
    client.unload_model("sums")
    client.unload_model("sums", unload_dependents=True)
    assert served.models.changes[-3:] == [("load", "sums"), ("unload", "sums"), ("unload", "sums")]
    client.infer("echo-bool", [as_input(np.array([[True]]))])
    one = client.get_inference_statistics("echo-bool", "1")["model_stats"]
    assert one[0]["inference_count"] >= 1
    assert len(client.get_inference_statistics()["model_stats"]) == len(names)


@pytest.mark.parametrize(
    ("call", "status", "said"),
    [
        (lambda c: c.get_model_metadata("none"), "404", "no model 'none'"),
        (lambda c: c.get_model_metadata("a b/c?d"), "404", ""),
        (lambda c: c.get_model_metadata("sums", "7"), "404", "no version '7'"),
        (lambda c: c.infer("sums", [as_input(np.ones((1, 4), "f4"))]), "400", "'x' or 'count'"),
        (lambda c: c.infer("echo-fp32", [as_input(np.ones((1, 4)))]), "400", "expects FP32"),
        (lambda c: c.infer("echo-fp32", [as_input(np.ones(4, "f4"))]), "400", "expected shape"),
        (lambda c: c.load_model("sums", config="{}"), "400", "owner has signed"),
        (lambda c: c.load_model("none"), "404", "no model"),
        (lambda c: c.get_system_shared_memory_status(), "501", "shared memory"),
        (lambda c: c.register_system_shared_memory("a", "/a", 16), "501", "shared memory"),
        (lambda c: c.unregister_system_shared_memory(), "501", "shared memory"),
        (lambda c: c.get_cuda_shared_memory_status(), "501", "shared memory"),
        (lambda c: c.register_cuda_shared_memory("a", b"handle", 0, 16), "501", "shared memory"),
        (lambda c: c.get_trace_settings(), "501", "tracing"),
        (lambda c: c.update_trace_settings("sums", {"trace_level": "OFF"}), "501", "tracing"),
        (lambda c: c.get_log_settings(), "501", "log settings"),
        (lambda c: c.update_log_settings({"log_info": True}), "501", "log settings"),
    ],
)
def test_refusal_reaches_the_client(
    client: sync.InferenceServerClient, call: Callable[[Any], Any], status: str, said: str
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        call(client)
    assert refused.value.status() == status
    assert said in refused.value.message()


def test_shared_memory_input_is_refused(client: sync.InferenceServerClient) -> None:
    hidden = sync.InferInput("IN", [1, 4], "FP32")
    hidden.set_shared_memory("region", 16)
    with pytest.raises(InferenceServerException, match="doesn't accept shared memory"):
        client.infer("echo-fp32", [hidden])


def run(
    served: Served, work: Callable[[aio.InferenceServerClient], Coroutine[Any, Any, None]]
) -> None:
    async def inside() -> None:
        context = ssl.create_default_context(cafile=str(served.certificate))
        async with aio.InferenceServerClient(
            served.address, ssl=True, ssl_context=context
        ) as client:
            await work(client)

    asyncio.run(inside())


def test_aio_infers_every_datatype(served: Served) -> None:
    """aiohttp says that it takes compressed answers; the client inflates those of infer alone."""

    async def work(client: aio.InferenceServerClient) -> None:
        asked = [client.infer(echo_of(array), [as_input(array)]) for array in tensors()]
        for answer, array in zip(await asyncio.gather(*asked), tensors(), strict=True):
            assert_same(answer.as_numpy("OUT"), array)
        for packed in ("gzip", "deflate"):
            answer = await client.infer(
                "echo-fp32",
                [as_input(np.ones((1, 4), np.float32))],
                request_compression_algorithm=packed,
                response_compression_algorithm=packed,
            )
            assert answer.as_numpy("OUT").tolist() == [[1, 1, 1, 1]]

    run(served, work)


def test_aio_tells_and_refuses(served: Served) -> None:
    async def work(client: aio.InferenceServerClient) -> None:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("sums")
        assert not await client.is_model_ready("none")
        assert (await client.get_server_metadata())["name"] == "cloister"
        assert (await client.get_model_metadata("sums", "1"))["name"] == "sums"
        assert (await client.get_model_config("sums"))["name"] == "sums"
        assert await client.get_model_repository_index()
        assert (await client.get_inference_statistics("sums"))["model_stats"]
        await client.load_model("sums")
        await client.unload_model("sums")
        with pytest.raises(InferenceServerException, match="tracing"):
            await client.get_trace_settings()
        with pytest.raises(InferenceServerException, match="no model 'none'"):
            await client.infer("none", [as_input(np.ones((1, 4), np.float32))])

    run(served, work)
