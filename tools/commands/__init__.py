"""The command lines: arguments in, one call into the other packages, exit status out."""
