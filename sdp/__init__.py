"""Structured Dynamic Precision: an accelerator generator for dynamic-precision neural networks."""

__version__ = "0.1.0"


class UserError(Exception):
    """What a user can set right: the command line shows the message, one clear sentence, and no traceback."""
