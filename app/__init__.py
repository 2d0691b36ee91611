"""What is measured into the enclave: bundle reader, runner and TLS endpoint."""

__version__ = "0.1.0"
