"""The register map, once: hardware, simulation, C header and documentation are made from this table.

The port is 32 bits wide and addressed in words; data of the address that is presented in a cycle appears in the next one.
"""

from dataclasses import dataclass

from sdp.config import Config
from sdp.program import Error

ADDRESS_BITS = 11
ID = 0x53445031
"""'SDP1'"""
VERSION = 0x000200
LOG_BASE = 1024
LOG_FIELDS = ("cycles", "waiting", "terms", "empty")
"""Words of a layer's entry in the log, at ``LOG_BASE + 4 * (layer % log_layers)``: cycles from its start to its end; cycles that the
decoder waited for input since the previous layer's end; terms issued; slots left empty."""


@dataclass(frozen=True)
class Register:
    name: str
    address: int
    access: str
    text: str


REGISTERS = (
    Register("id", 0, "r", "0x53445031, 'SDP1'"),
    Register("version", 1, "r", "major << 16 | minor << 8 | patch"),
    Register("geometry0", 2, "r", "group | lanes << 8 | rows << 16 | columns << 24"),
    Register("geometry1", 3, "r", "ports | outputs << 8 | scale_bits << 16 | log_layers - 1 << 24"),
    Register("activation_words", 4, "r", "depth of the activation memory"),
    Register("weight_words", 5, "r", "depth of the weight memory"),
    Register("scale_words", 6, "r", "depth of the scale memory"),
    Register("reduction", 7, "r", "largest number of codes per output"),
    Register("control", 8, "w", "bit 0: start a program; bit 1: reset the machine (memories, timeout and interrupt enable keep their contents); "
             "bit 2: clear the interrupt; bits 4 (write) and 3 (value): interrupt enable"),
    Register("status", 9, "r", "bit 0: running; bit 1: done; bit 2: error; bit 3: interrupt; bit 4: interrupt enable"),
    Register("error", 10, "r", "code of the error that stopped the machine: " + ", ".join(f"{e.value} {e.name}" for e in Error)),
    Register("timeout", 11, "rw", "cycles without input after which a running program stops with TIMEOUT; 0: never"),
    Register("layers", 12, "r", "layers ended since start"),
    Register("cycles", 16, "r", "cycles since start, until done or error"),
    Register("busy", 17, "r", "cycles in which a layer ran"),
    Register("waiting", 18, "r", "cycles in which the decoder waited for input"),
    Register("terms", 19, "r", "terms issued to the MAC array"),
    Register("empty", 20, "r", "term slots left empty"),
    Register("activation_reads", 21, "r", "words read from banks of activation memory"),
    Register("activation_writes", 22, "r", "parts of words, `outputs` codes each, written to activation memory"),
    Register("weight_reads", 23, "r", "beats read from weight memory"),
    Register("weight_writes", 24, "r", "beats written to weight memory"),
    Register("scale_reads", 25, "r", "beats read from scale memory"),
    Register("scale_writes", 26, "r", "beats written to scale memory"),
    Register("beats_in", 27, "r", "beats taken from the input stream"),
    Register("beats_out", 28, "r", "beats given to the output stream"),
)
TRAFFIC = ("activation_reads", "activation_writes", "weight_reads", "weight_writes", "scale_reads", "scale_writes", "beats_in", "beats_out")
"""Counters of what moves, see ``golden.traffic``. Like all counters: 32 bits, since start, and beyond 2**32 from zero again."""
BY_NAME = {r.name: r for r in REGISTERS}
CONTROL_START, CONTROL_RESET, CONTROL_CLEAR, CONTROL_INTERRUPT_VALUE, CONTROL_INTERRUPT_WRITE = 1, 2, 4, 8, 16
STATUS_RUNNING, STATUS_DONE, STATUS_ERROR, STATUS_INTERRUPT, STATUS_INTERRUPT_ENABLE = 1, 2, 4, 8, 16


def constants(config: Config) -> dict[str, int]:
    """Registers whose value is fixed when the machine is generated."""
    c = config
    return {
        "id": ID, "version": VERSION,
        "geometry0": c.group | c.lanes << 8 | c.rows << 16 | c.columns << 24,
        "geometry1": c.ports | c.outputs << 8 | c.scale_bits << 16 | c.log_layers - 1 << 24,
        "activation_words": c.activation_words, "weight_words": c.weight_words, "scale_words": c.scale_words,
        "reduction": c.reduction,
    }


def c_header() -> str:
    """The map as a C header."""
    lines = ["/* Register map; made by sdp.registers. Word addresses. */", "#ifndef SDP_REGISTERS_H", "#define SDP_REGISTERS_H", ""]
    lines += [f"#define SDP_{r.name.upper():<20} {r.address:>5} /* {r.access}: {r.text} */" for r in REGISTERS]
    lines += [f"#define SDP_{'LOG_BASE':<20} {LOG_BASE:>5} /* r: per layer: {', '.join(LOG_FIELDS)} */", f"#define SDP_{'ID_VALUE':<20} 0x{ID:08x}"]
    for name, value in list(globals().items()):
        if name.startswith(("CONTROL_", "STATUS_")):
            lines.append(f"#define SDP_{name:<28} {value}")
    lines += [f"#define SDP_{'ERROR_' + e.name:<28} {e.value}" for e in Error]
    return "\n".join([*lines, "", "#endif", ""])
