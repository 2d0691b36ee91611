"""A server on loopback over TLS, whose models give back what they get, for standard clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.access.admission import Gate, Head, Pass, Refusal
from app.card import ModelCard
from app.server.oip.datatypes import DATATYPES
from app.server.server import ApplianceServer
from app.tensors import Array, TensorSpec
from tests import served
from tests.unit.app.server.clients import identity, serving

ECHOES = {f"echo-{datatype.lower()}": dtype for dtype, datatype in DATATYPES.items()}
"""Models with one input IN and one output OUT of each element type."""


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        server: over TLS.
        models: what reached them.
        certificate: that clients have to trust.
    """

    server: ApplianceServer
    models: served.Models
    certificate: Path

    @property
    def address(self) -> str:
        """Host and port."""
        return f"localhost:{self.server.address[1]}"


def echo(model_id: str, dtype: str) -> served.Model:
    """A model that gives back what it gets."""

    def compute(values: Mapping[str, Array]) -> dict[str, Array]:
        return {"OUT": values["IN"]}

    tensors = (
        (TensorSpec("IN", dtype, ("batch", "n")),),
        (TensorSpec("OUT", dtype, ("batch", "n")),),
    )
    return served.Model(
        model_id, 1, ModelCard("", "tensors", (), "logits", None, *tensors), compute
    )


class OpenDoor(Gate):
    """Lets everybody in, with every right."""

    def admit(self, head: Head, peer_fingerprint: str | None, now: float) -> Pass | Refusal:
        """See `Gate.admit`."""
        return Pass(served.TESTER)


@contextmanager
def protocol_server(folder: Path) -> Iterator[Served]:
    """Serves the models of `tests.served` and the echoes."""
    models = served.models(**{name: echo(name, dtype) for name, dtype in ECHOES.items()})
    certificate = folder / "certificate.pem"
    certificate.write_bytes(identity().certificate_pem)
    with serving(served.application(models), gate=OpenDoor(None)) as server:
        yield Served(server, models, certificate)
