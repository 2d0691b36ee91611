"""Right requests for the models of `tests.served`."""

from __future__ import annotations

import io

from PIL import Image

INFER = {
    "id": "a",
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]},
        {"name": "count", "datatype": "INT64", "shape": [1], "data": [10]},
    ],
}
SUMS = "/v2/models/sums/infer"
SHADES = "/v1/models/shades/classify"


def picture(kind: str = "PNG", shade: int = 255) -> bytes:
    """A picture of one shade."""
    file = io.BytesIO()
    Image.new("L", (8, 8), shade).save(file, kind)
    return file.getvalue()
