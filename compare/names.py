"""What methods are called in the document, and in which order they come."""

NAMES = {"sdp": "SDP", "static": "static INT4/INT8", "int8": "INT8", "int16": "INT16", "drq": "DRQ", "olaccel": "OLAccel", "eyeriss": "Eyeriss"}


def label(method: str, report: dict) -> str:
    """A method's name, and whether training left it out."""
    return NAMES[method] + (", not trained" if report.get("untrained") else "")


def relative(ours: float | None, theirs: float | None) -> str:
    return f"{theirs / ours:.2f}" if ours and theirs else ""
