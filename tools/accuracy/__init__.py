"""Compares what the partitions compute with what the whole model computes, rung by rung."""
