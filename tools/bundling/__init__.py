"""Makes keys and writes encrypted bundles. The enclave has none of this code."""
