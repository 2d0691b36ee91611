"""TLS on either of two libraries behind one seam."""
