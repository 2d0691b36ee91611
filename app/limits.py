"""Every limit of the appliance in one place, with its unit and its reason."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- requests ---------------------------------------------------------------------------------
MAX_BODY_BYTES: Final = 32 * MIB
"""Largest request body: a 224×224×3 FP32 batch of 16 as JSON text is about 24 MiB."""

MAX_HEAD_BYTES: Final = 16 * KIB
"""Largest request line plus headers; browsers and clients stay below 8 KiB."""

MAX_PICTURE_PIXELS: Final = 40_000_000
"""Largest picture by its declared size, 40 megapixels: a phone's camera, 120 MB decoded as RGB."""

MAX_TENSOR_ELEMENTS: Final = 8 * MIB
"""Elements of one input tensor: 32 MiB as FP32, as much as a body may hold."""

MAX_JSON_DEPTH: Final = 64
"""Nesting of a JSON request: a tensor has at most a handful of dimensions."""

MAX_TOP_K: Final = 100
"""Most labels that one classification may ask for."""

# --- connections ------------------------------------------------------------------------------
MAX_CONNECTIONS: Final = 512
"""Open connections; below RLIMIT_NOFILE's 1024 soft limit in Occlum."""

MAX_HANDSHAKES: Final = 64
"""TLS handshakes in flight: each costs about 5 ms of CPU, 64 finish within the deadline."""

MAX_CONNECTIONS_PER_ADDRESS: Final = 256
"""Connections of one address, so that one client can't take them all."""

MAX_BUFFERED_BYTES: Final = 96 * MIB
"""Request bodies held for all connections together: three of the largest."""

HANDSHAKE_TIMEOUT_S: Final = 5.0
"""From accept to the finished handshake; several round trips on a bad line take under 2 s."""

HEAD_TIMEOUT_S: Final = 10.0
"""From a request's first byte to the end of its headers."""

BODY_TIMEOUT_S: Final = 10.0
"""Grace for a body, to which its size at MIN_BODY_BYTES_PER_S is added."""

MIN_BODY_BYTES_PER_S: Final = 64 * KIB
"""A slower upload is dropped: a 32 MiB body then takes at most 8.7 minutes."""

RESPONSE_TIMEOUT_S: Final = 30.0
"""A client that doesn't take its answer for this long is dropped."""

KEEP_ALIVE_S: Final = 75.0
"""Idle time of a connection between requests; a new handshake is dear, so it is generous."""

SHUTDOWN_TIMEOUT_S: Final = 10.0
"""How long running requests may take to finish when the server stops."""
