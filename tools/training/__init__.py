"""Trains the sample models; needed only to make them again, never to use them.

Only `network`, `train` and `export` import torch, so `command` loads them
after it has made sure that it is there.
"""
