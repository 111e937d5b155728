"""Structured Dynamic Precision: an accelerator generator for dynamic-precision neural networks."""

__version__ = "0.1.0"
