"""Measures what the planner predicted."""
