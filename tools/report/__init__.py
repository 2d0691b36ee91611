"""Pages that a person can keep: one HTML file with text, tables and figures."""
