"""Turns result files into figures, each with the words that it needs to be read."""
