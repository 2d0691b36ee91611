#!/usr/bin/env python3
"""Asks a running appliance: infer, classify, metadata, ready, load, unload."""

from launcher import launch

launch("tools.commands.client")
