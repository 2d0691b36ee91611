#!/usr/bin/env python3
"""Proves that the partitions of a model compute what the whole model computes."""

from launcher import launch

launch("tools.commands.check_accuracy")
