"""Which request is served next, with which others, and by which loaded model."""
