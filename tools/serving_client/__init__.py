"""A client of the appliance: standard library and numpy, verified TLS only.

from tools.serving_client import ServingClient, Trust

with ServingClient("https://localhost:8443", Trust(ca_file=Path("certificate.pem"))) as client:
    answer = client.infer("digits", {"image": pixels})
    answer.outputs["scores"]
"""

from tools.serving_client.answers import Classification, InferAnswer, Label
from tools.serving_client.client import ServingClient
from tools.serving_client.trust import Trust

__all__ = ["Classification", "InferAnswer", "Label", "ServingClient", "Trust"]
