"""Synthesis for Lattice's ECP5: every distinct module mapped once to the device's cells, memories to its block RAM."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sdp import UserError
from synth.cells.yosys import YosysError, run_script

LUTS = {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6}
"""4-input LUTs that a cell takes: a carry cell is two of them, distributed RAM stores in four and its write port takes the place of two. PFUMX
and L6MUX21, which join LUTs to wider ones, are there beside the LUTs. Place and route adds some that lead into carry chains."""

RAM, DISTRIBUTED = "DP16KD", "TRELLIS_DPR16X4"
"""Block RAM: 512 words of 36 bits, or 1,024 of 18; distributed RAM: 16 words of 4 bits (Lattice FPGA-DS-02012)."""

RAM_WORDS = 512
"""Of a block RAM at its widest."""

DISTRIBUTED_WORDS = 16
"""A memory of more words must be block RAM; others are distributed RAM or flip-flops, as Yosys finds better."""

# no_rw_check: a word that is read in the cycle that writes it may be anything, as block RAM has it; the other memories get a bypass, which costs
# LUTs and flip-flops, that gives the old word.
# techmap: a nibble multiplier would take a whole 18 x 18 DSP, and there are not enough; so multipliers that narrow are made of LUTs. ABC9's
# script for area: with its default script an element of `small` was 1.7 times as large. Module by module, since flat took six times as
# long and was no smaller.
# deeper: words are narrower in deeper block RAMs, so a memory that is as deep as its address reaches takes a few more of them, but no multiplexer
# behind them: in `small` 30 block RAMs more and 2,600 LUTs less, and after eight rounds of the router 20,000 wires contested instead of 28,000.
_SCRIPT = """\
read_verilog -lib -specify +/ecp5/cells_sim.v
read_verilog design.v
hierarchy -check -top {top}
{attributes}proc
opt_expr
opt_clean
wreduce t:$mul
techmap t:$mul r:A_WIDTH<=5 %i r:B_WIDTH<=5 %i
scratchpad -copy abc9.script.default.area abc9.script
synth_ecp5 -top {top} -noflatten -run begin:map_ram
memory_map -rom-only
setattr -set ram_style "block" t:$mem_v2 r:SIZE>{words} %i
dump -m -o memories.txt t:$mem_v2
{deeper}synth_ecp5 -top {top} -noflatten -run map_ram:
write_json modules.json
flatten
opt_clean
select -set joined t:PFUMX %ci2:+PFUMX[ALUT,BLUT]:+LUT4[Z] t:LUT4 %i
opt_merge -share_all t:LUT4 @joined %d
opt_clean
write_json netlist.json
"""


class MappingError(UserError, RuntimeError):
    """A memory that did not become block RAM; the message names it."""


@dataclass(frozen=True)
class Memory:
    """One memory of a module; ``cells`` by type are what it is made of, none if it became flip-flops."""

    module: str
    name: str
    words: int
    bits: int
    instances: int
    cells: dict[str, int]


@dataclass(frozen=True)
class Synthesis:
    """Cells by type of every module, without those of its children, and its children by module."""

    top: str
    cells: dict[str, Counter]
    children: dict[str, Counter]
    memories: list[Memory]

    @cached_property
    def instances(self) -> Counter:
        """How often every module exists in one ``top``."""
        return _instances(self.top, self.children)

    def total(self, *types: str) -> int:
        return sum(self.instances[module] * cells[kind] for module, cells in self.cells.items() for kind in types)

    @property
    def luts(self) -> int:
        return sum(number * self.total(kind) for kind, number in LUTS.items())


def synthesize(verilog: str, top: str, folder: Path, unchecked: tuple[str, ...] = ()) -> Synthesis:
    """Leaves ``netlist.json``, flat, for nextpnr, and what led to it, in ``folder``.

    ``unchecked`` are modules in whose memories no word is read, and needed, in the cycle that writes it.

    Raises
    ------
    MappingError
        A memory of more than ``DISTRIBUTED_WORDS`` words did not become block RAM.
    YosysError
        Yosys failed otherwise.
    """
    (folder / "design.v").write_text(verilog)
    (folder / "synth.ys").write_text(_SCRIPT.format(
        top=top, words=DISTRIBUTED_WORDS, deeper=_deeper(verilog), attributes="".join(f"setattr -set no_rw_check 1 {module}/m:*\n" for module in unchecked)))
    try:
        run_script(folder / "synth.ys")
    except YosysError as error:
        if found := re.search(r"no valid mapping found for memory (\S+)", str(error)):
            raise MappingError(f"memory {found[1]} does not map to block RAM: it needs one write port and synchronous reads") from None
        raise
    return read(json.loads((folder / "modules.json").read_text()), (folder / "memories.txt").read_text(), top)


def _deeper(verilog: str) -> str:
    """Commands that bring all memories above ``RAM_WORDS`` to the next power of two; nobody reads what is added."""
    depths = {int(last) + 1 for last in re.findall(r"^ *reg (?:\[\d+:0\] )?\S+ \[(\d+):0\];$", verilog, re.MULTILINE)}
    return "".join(f"setparam -set SIZE {1 << depth.bit_length()} t:$mem_v2 r:SIZE={depth} %i\n"
                   for depth in sorted(depths) if depth > RAM_WORDS and depth & (depth - 1))


def read(netlist: dict, dump: str, top: str) -> Synthesis:
    """From the netlist of all modules (``write_json``) and the dump of the memories before they were mapped."""
    modules = {name: module for name, module in netlist["modules"].items() if not module["attributes"].get("blackbox")}
    types = {name: [cell["type"] for cell in module["cells"].values()] for name, module in modules.items()}
    cells = {name: Counter(kind for kind in kinds if kind not in modules) for name, kinds in types.items()}
    children = {name: Counter(kind for kind in kinds if kind in modules) for name, kinds in types.items()}
    instances, memories = _instances(top, children), []
    for module, text in re.findall(r"^module \\(\S+)\n(.*?)^end$", dump, re.MULTILINE | re.DOTALL):
        for name, cell in re.findall(r"^  cell \$mem_v2 \\(\S+)\n(.*?)^  end$", text, re.MULTILINE | re.DOTALL):
            words, bits = (int(re.search(rf"^ *parameter \\{key} (\d+)$", cell, re.MULTILINE)[1]) for key in ("SIZE", "WIDTH"))
            parts = (part["type"] for key, part in modules[module]["cells"].items() if re.fullmatch(rf"{re.escape(name)}\.\d+\.\d+", key))
            memories.append(Memory(module, name, words, bits, instances[module], dict(Counter(parts))))
    for memory in memories:
        if memory.words > DISTRIBUTED_WORDS and set(memory.cells) != {RAM}:
            raise MappingError(f"memory {memory.module}.{memory.name} ({memory.words} words of {memory.bits} bits) became "
                               f"{', '.join(memory.cells) or 'flip-flops'} instead of block RAM")
    return Synthesis(top, cells, children, memories)


def _instances(top, children):
    counts = Counter({top: 1})
    for child, number in children[top].items():
        for module, times in _instances(child, children).items():
            counts[module] += number * times
    return counts
