"""What is measured into the enclave: bundle reader, runner and TLS endpoint."""
