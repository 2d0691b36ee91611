"""Every limit of the appliance in one place, with its unit and its reason."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- requests ---------------------------------------------------------------------------------
MAX_BODY_BYTES: Final = 32 * MIB
"""Largest request body of any kind."""

MAX_JSON_BYTES: Final = 4 * MIB
"""Largest JSON body: a picture of 224×224×3 as text. Larger tensors go as binary. The parser needs
up to `JSON_EXPANSION` times as much memory, so this is well below MAX_BODY_BYTES. A model whose
inputs have fixed sizes takes less, `JSON_ITEM_BYTES` for each element."""

JSON_EXPANSION: Final = 32
"""Bytes of Python objects per byte of JSON, measured on the worst text within `MAX_JSON_LISTS`: one
object of many short keys, 24, and 4 for the text itself when a character in it is beyond U+FFFF."""

MAX_HEAD_BYTES: Final = 16 * KIB
"""Largest request line plus headers; browsers and clients stay below 8 KiB."""

MAX_PICTURE_PIXELS: Final = 16_000_000
"""Largest picture by its declared size: 4000×4000, a phone's ordinary camera mode. Three RGBA
copies while transparency is resolved are 192 MB, about what parsing the largest JSON takes."""

MAX_SCANS: Final = 20
"""Scans of a JPEG. Encoders write up to about ten; one more takes as little as 30 bytes."""

MAX_SCANNED_PIXELS: Final = 10 * MAX_PICTURE_PIXELS
"""Pixels of a JPEG times its scans: what encoders make of the largest picture. A pass over 16
million pixels takes 9 ms, so all of them less than unpacking a large picture of one scan."""

MAX_PICTURE_SEGMENTS: Final = 16 * KIB
"""Chunks of a PNG, or segments of a JPEG: 32 MiB in the chunks of 8 KiB that libpng writes are a
quarter of it."""

MAX_TENSOR_ELEMENTS: Final = 8 * MIB
"""Elements of one input tensor: 32 MiB as FP32, as much as a body may hold."""

MAX_DECODED_BYTES: Final = 256 * MIB
"""What decoding requests and writing JSON add to the bodies, for all requests together: the largest
picture, 192 MB, with two of the largest bodies beside it that are inflated, or copied because their
place didn't suit the element type."""

SMALL_BYTES: Final = 2 * MIB
"""What decoding a request may take without being counted, once for each worker thread: a picture of
400×400, or 56 KiB of JSON."""

DECODING_WAIT_S: Final = 30.0
"""How long a request waits for others' decoding before it is answered 503."""

MAX_JSON_LISTS: Final = 64 * KIB
"""Arrays and objects of a JSON body: a picture of 224×224 whose pixels are arrays, and a quarter
more. Each takes several times as long as a number does, and doesn't let other threads run."""

MAX_JSON_STRINGS: Final = 128 * KIB
"""Strings of a JSON body, which the parser makes without letting other threads run: 25 ms. More go
as binary data."""

MAX_JSON_RATIO: Final = 50
"""Bytes of JSON for each byte of its compressed form, beyond `FREE_JSON_BYTES`: texts of numbers
shrink to a half, of pictures' flat parts to a tenth; a bomb to a thousandth."""

FREE_JSON_BYTES: Final = 64 * KIB
"""JSON of any request, whatever its model takes and however well it was compressed."""

JSON_ITEM_BYTES: Final = 64
"""JSON of one element: 24 characters are the longest number, the rest is for indentation."""

MAX_JSON_ELEMENTS: Final = 64 * KIB
"""Elements that an answer may hold as JSON; more are to be had as binary data. A number takes half
a microsecond and up to 25 bytes of text, in binary form nothing and four."""

ANSWER_STEP_BYTES: Final = 512
"""Text answers are padded to the longest that they could be, and that to a multiple of this."""

MAX_STRING_ELEMENTS: Final = 1 << 20
"""Strings of one tensor: short ones take about 60 bytes each in memory, six on the wire."""

MAX_TOP_K: Final = 100
"""Most labels that one classification may ask for."""

MAX_ID_CHARACTERS: Final = 256
"""Length of a request's id, which is sent back."""

MAX_BATCH: Final = 64
"""Requests that may run together: one of each worker."""

MAX_DELAY_US: Final = 1_000_000
"""Longest that a request may be kept waiting for others to run with: a second is a mistake."""

MAX_TIMEOUT_US: Final = 3_600_000_000
"""Longest timeout that a request may ask for, an hour; a longer one counts as this."""

# --- access -----------------------------------------------------------------------------------
MAX_POLICY_BYTES: Final = 1 * MIB
"""Access policy: 256 tenants with ten tokens each take half of it."""

MAX_TENANTS: Final = 256
"""Tenants of an access policy; each may have its own line in the queue."""

MAX_CREDENTIALS_PER_TENANT: Final = 64
"""API tokens of a tenant, and client certificates of a tenant."""

# --- models -----------------------------------------------------------------------------------
MAX_LOADED_MODELS: Final = 8
"""Models that are loaded at a time: each takes threads of its own, and those are set aside when
the image is built."""

MAX_BUNDLES: Final = 256
"""Bundles looked at in a bundle folder: 64 models of four versions."""

ROOM_TIMEOUT_S: Final = 30.0
"""How long a request waits for memory: a body for other bodies of its client, a model for other
models, which takes some times their loading."""

MAX_DENIED_BUNDLES: Final = 1024
"""Bundles that the configuration may deny of each model: 64 KiB of it."""

RESCAN_S: Final = 1.0
"""How often the bundle folder is looked through for those who ask for the repository's index."""

SCAN_DEADLINE_S: Final = 5.0
"""How long a request waits for the bundle folder, which answers in milliseconds as a rule. One that
takes longer holds up those that asked first, and nobody else."""

FIRST_RETRY_S: Final = 1.0
MOST_RETRY_S: Final = 60.0
"""When a model is tried again that wanted only for something outside of the appliance, its key for
example: twice as long after each failure."""

DRAIN_TIMEOUT_S: Final = 30.0
"""How long a new version waits: for the folder that it lies in, and where it has no room beside the
old one for that one's running requests."""

# --- connections ------------------------------------------------------------------------------
MAX_CONNECTIONS: Final = 512
"""Open connections; below RLIMIT_NOFILE's 1024 soft limit in Occlum."""

MAX_SKIPPED_BYTES: Final = 1 * MIB
"""Largest body of a refused request that is received and thrown away so that its connection can
stay open: to decrypt it takes about as long as the handshake of a new one."""

MAX_REFUSALS: Final = 32
"""Requests in a row that may be refused on one connection before it is closed: more than a client
with a wrong setting tries, few enough that a handshake is due for them."""

CONNECTION_BYTES: Final = 112 * KIB
"""Memory of an open connection beside its requests: Mbed TLS's two record buffers and state of
about 100 KiB, and what was read ahead."""

MAX_HANDSHAKES: Final = 128
"""TLS handshakes in flight: twice the 64 connections that load generators and gateways open at
once, so that a burst of theirs pushes nobody out. Silent ones hold this many times
CONNECTION_BYTES, 14 MiB."""

MAX_CONNECTIONS_PER_ADDRESS: Final = 256
"""Connections of one address, so that one client can't take them all."""

MAX_BUFFERED_BYTES: Final = 96 * MIB
"""Request bodies held for all connections together: three of the largest. As much may be held of
answers that clients don't take."""

HANDSHAKE_TIMEOUT_S: Final = 10.0
"""From accept to the finished handshake. Several round trips on a bad line take under 2 s. While
there are requests, handshakes get a quarter of the time, so 200 clients that come at once, about
3 ms of CPU each, need 2 to 3 s."""

HEAD_TIMEOUT_S: Final = 10.0
"""From a request's first byte to the end of its headers."""

BODY_TIMEOUT_S: Final = 10.0
"""Grace for a body; what came of it at MIN_BODY_BYTES_PER_S is added."""

MIN_BODY_BYTES_PER_S: Final = 64 * KIB
"""An upload that has fallen behind this rate by more than BODY_TIMEOUT_S is dropped."""

RESPONSE_TIMEOUT_S: Final = 30.0
"""A client that doesn't take its answer for this long is dropped."""

KEEP_ALIVE_S: Final = 75.0
"""Idle time of a connection between requests; a new handshake is dear, so it is generous."""

SHUTDOWN_TIMEOUT_S: Final = 10.0
"""How long running requests may take to finish when the server stops."""

TICKET_KEY_S: Final = 3600.0
"""How long keys of TLS session tickets are used: in TLS 1.2 one that is stolen opens what was
recorded meanwhile, and nobody who resumes later than this saves much."""

LINGER_S: Final = 2.0
"""How long a closed connection's input is thrown away, so that the last answer isn't lost to a
reset: RFC 9112 §9.6."""

MAX_QUEUED_REQUESTS: Final = 256
"""Complete requests of all clients that wait for a worker; one client alone may have half of them,
twice the 64 connections that load generators and gateways open by default. They hold a connection
each and no thread."""
