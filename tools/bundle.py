#!/usr/bin/env python3
"""Encrypts a model's partitions into a bundle; makes keys; looks into bundles."""

from launcher import launch

launch("tools.commands.bundle")
