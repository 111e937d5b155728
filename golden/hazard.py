"""What only the golden machine notices."""

from sdp import UserError


class HazardError(UserError, ValueError):
    """A program whose result depends on timing: it writes what a layer is still reading. The hardware does not notice."""
