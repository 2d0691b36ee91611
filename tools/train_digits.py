#!/usr/bin/env python3
"""Trains the sample model `partitions/digits` again; see --help."""

from launcher import launch

launch("tools.training.command")
