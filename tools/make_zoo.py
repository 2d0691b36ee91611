#!/usr/bin/env python3
"""Makes well-known architectures at true size with seeded weights."""

from launcher import launch

launch("tools.commands.zoo")
