"""The image, its checks and the stand-in for occlum, run for real."""
