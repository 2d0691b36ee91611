#!/usr/bin/env python3
"""Measures speed and memory."""

# The measuring processes import this file too.
if __name__ == "__main__":
    from launcher import launch

    launch("tools.commands.benchmark")
