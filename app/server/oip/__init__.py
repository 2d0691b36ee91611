"""Open Inference Protocol v2 with Triton's extensions: bytes become arrays, arrays become bytes.

Sources: https://github.com/kserve/open-inference-protocol, "Inference Protocol HTTP/REST", and
https://github.com/triton-inference-server/server, docs/protocol. Nothing here knows of Flask.
"""
