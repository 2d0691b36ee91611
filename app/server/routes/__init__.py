"""The routes, one module for each part of the protocol; `app.server.application` assembles them."""
