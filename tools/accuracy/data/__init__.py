"""Data to evaluate on, one example after another, whatever form it has on disk."""
