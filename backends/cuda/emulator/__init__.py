"""Runs kernels on the CPU: the same text compiled by g++, one fiber for each thread, and every mistake that a GPU would keep to itself."""
