#!/usr/bin/env python3
"""Cuts a model into partitions that run inside a budget."""

# The measuring processes import this file too.
if __name__ == "__main__":
    from launcher import launch

    launch("tools.commands.partition")
