"""What `app.server.tls.openssl` needs of an image: the library, random numbers, a folder."""

from __future__ import annotations

import pytest

from tests.image.instances import TestInstance
from tests.unit.app.server.clients import identity

SHAKE = """
import ssl, tempfile
from pathlib import Path

server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "identity.pem"
    file.write_bytes(IDENTITY)
    server.load_cert_chain(file)
    print(folder)
client = ssl.create_default_context(cadata=CERTIFICATE)
up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
ends = [
    client.wrap_bio(down, up, server_hostname="localhost"),
    server.wrap_bio(up, down, server_side=True),
]
for _ in range(4):
    for end in ends:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pass
print(ends[1].version())
"""


@pytest.mark.usefixtures("sandbox")
def test_the_interpreters_tls_works_in_the_image(built: TestInstance) -> None:
    mine = identity()
    values = {
        "IDENTITY": mine.certificate_pem + mine.private_key_pem,
        "CERTIFICATE": mine.certificate_pem.decode(),
    }
    done = built.probe("\n".join(f"{name} = {value!r}" for name, value in values.items()) + SHAKE)
    assert done.status == 0, done.err
    folder, version = done.out.split()
    assert folder.startswith("/tmp/")
    assert version == "TLSv1.3"
