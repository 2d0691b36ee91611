"""Where to cut a model: dataclasses in, dataclass out. No ONNX, no files."""
