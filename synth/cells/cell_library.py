"""What a mapped cell costs: from a Liberty file in um2, or without one in NAND2 equivalents."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from sdp import UserError

_TRANSISTORS = {
    "NOT": 2, "BUF": 4, "NAND": 4, "NOR": 4, "AND": 6, "OR": 6, "ANDNOT": 6, "ORNOT": 6, "AOI3": 6, "OAI3": 6, "AOI4": 8, "OAI4": 8,
    "MUX": 12, "NMUX": 10, "XOR": 12, "XNOR": 12, "DFF_P": 24, "DFF_N": 24,
}
"""Per generic gate of Yosys. The gates as in Yosys' own CMOS costs, so that what ABC minimises is what is reported; a flip-flop as a
static master and slave of transmission gates with its clock inverters. A NAND2 is four transistors."""


class LibraryError(UserError, ValueError):
    """A cell library that cannot be used; the message names the file."""


@dataclass(frozen=True)
class CellLibrary:
    """Cell areas.

    Attributes
    ----------
    name, unit : str
    area : area by cell type
    sequential : cell types that hold state
    text : contents of the Liberty file, empty for generic gates
    """

    name: str
    unit: str
    area: dict[str, float]
    sequential: frozenset[str]
    text: str = ""

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode() or repr(sorted(self.area.items())).encode()).hexdigest()

    @property
    def mapping(self) -> str:
        """Yosys commands from generic cells to those of the library; beside the script lie ``library.lib`` and ``abc.script``.

        Without a library, enables and synchronous resets of flip-flops become gates; most libraries need that, too.
        """
        if self.text:
            return "dfflibmap -liberty library.lib\nopt -fast\nabc -liberty library.lib -script abc.script"
        return "dfflegalize -cell $_DFF_P_ 01\nopt -fast -nodffe -nosdff\nabc -g cmos -script abc.script"


def generic_gates() -> CellLibrary:
    area = {f"$_{gate}_": transistors / 4 for gate, transistors in _TRANSISTORS.items()}
    return CellLibrary("generic gates", "NAND2", area, frozenset(cell for cell in area if cell.startswith("$_DFF")))


def read_liberty(path: str | Path) -> CellLibrary:
    """The area of every cell, and whether it has a flip-flop or latch.

    Raises
    ------
    LibraryError
        The file cannot be read, is not Liberty, or has no flip-flop.
    """
    try:
        text = Path(path).read_text(errors="replace")
    except OSError as error:
        raise LibraryError(f"liberty {path}: {error.strerror}") from None
    if not (name := re.search(r"^\s*library\s*\(\s*\"?([^\s\")]+)", text, re.MULTILINE)):
        raise LibraryError(f"liberty {path}: no 'library (...)' in it, so this is not a Liberty file")
    area, sequential = {}, set()
    parts = re.split(r"^\s*cell\s*\(\s*\"?([^\s\")]+)\"?\s*\)", text, flags=re.MULTILINE)
    for cell, body in zip(parts[1::2], parts[2::2], strict=True):
        if found := re.search(r"\barea\s*:\s*\"?([0-9.eE+-]+)", body):
            area[cell] = float(found[1])
        if re.search(r"\b(ff|latch|ff_bank|latch_bank|statetable)\s*\(", body):
            sequential.add(cell)
    if not sequential:
        raise LibraryError(f"liberty {path}: library {name[1]} has no flip-flop, so nothing can be mapped to it")
    return CellLibrary(name[1], "um2", area, frozenset(sequential), text)
