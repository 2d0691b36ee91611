"""What the model owner and the operator run on a host."""
