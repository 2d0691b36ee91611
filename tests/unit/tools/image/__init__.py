"""Unit tests of tools.image."""
