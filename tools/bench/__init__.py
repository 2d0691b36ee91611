"""Measures speed and memory: interleaved runs in one process, medians, ratios."""
