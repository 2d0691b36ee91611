"""Well-known architectures at true size with seeded weights, for benchmarks and tests."""
