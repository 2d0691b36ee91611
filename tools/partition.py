#!/usr/bin/env python3
"""Cuts a model into partitions that run inside a budget."""

from launcher import launch

launch("tools.commands.partition")
