"""Pictures of plans, measurements and checks: the only user of matplotlib."""
