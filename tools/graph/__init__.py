"""ONNX graphs: load and check, summarise, extract, separate structure from weights.

The only package that imports onnx and onnx-ir.
"""
