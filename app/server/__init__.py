"""What faces the network: TLS, HTTP framing, the event loop and the worker threads."""
