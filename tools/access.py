#!/usr/bin/env python3
"""Says who may use the appliance: tenants, API tokens, client certificates."""

from launcher import launch

launch("tools.commands.access")
