"""Who may do what, and how much of it. Pure: bytes and a clock in, decisions out."""
