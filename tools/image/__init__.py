"""Puts the enclave image together, checks it, and stands in for `occlum` where there is no SGX.

The only package of this project that starts processes.
"""
