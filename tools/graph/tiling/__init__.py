"""Rewrites what is too large for the budget into tiles: weights, and activations by rows."""
