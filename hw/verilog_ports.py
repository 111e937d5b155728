"""What can go wrong silently between a component's signature and the ports of a Verilog module, checked before and after conversion."""

import re

from amaranth import Const, Value
from amaranth.lib import wiring

_KEYWORDS = frozenset(
    """alias always and assert assign assume automatic before begin bind bit break buf byte case casex casez cell chandle class clocking
    config const constraint context continue cover cross deassign default defparam design disable do edge else end endcase endfunction
    endgenerate endmodule endtask enum event expect export extends extern final first_match for force foreach forever fork function
    generate genvar highz0 highz1 if iff ifnone import include initial inout input inside int integer interface intersect join large local
    localparam logic longint macromodule matches medium modport module nand negedge new nmos nor not null or output package packed
    parameter pmos posedge primitive priority program property protected pull0 pull1 pulldown pullup pure rand randc real realtime ref reg
    release repeat return scalared sequence shortint shortreal signed small solve specify static string strong0 strong1 struct super
    supply0 supply1 table tagged task this throughout time timeprecision timeunit tran tri tri0 tri1 triand trior trireg type typedef
    union unique unsigned use uwire var vectored virtual void wait wand weak0 weak1 while wildcard wire with within wor xnor xor""".split()
)


class PortError(ValueError):
    """A component whose ports would not survive the way to Verilog; the message names the port and the remedy."""


def flat_ports(component: wiring.Component) -> dict[str, tuple[int, str]]:
    """Ports by their Verilog name: width in bits and ``input`` or ``output``; without clock and reset.

    Raises
    ------
    PortError
        Two members that flatten to one name, a name that Verilog reserves, a port without bits, a constant for a port.
    """
    ports, origins = {}, {}
    for path, member, value in component.signature.flatten(component):
        name, origin = "__".join(map(str, path)), ".".join(map(str, path))
        if name in ports:
            raise PortError(f"members {origins[name]!r} and {origin!r} both become port {name!r}: rename one")
        if name in _KEYWORDS:
            raise PortError(f"member {origin!r} has a name that Verilog reserves: rename it")
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise PortError(f"member {origin!r} becomes port {name!r}, which Verilog must escape: use letters, digits and '_'")
        if name in ("clk", "rst"):
            raise PortError(f"member {origin!r} has the name of the clock or reset of domain 'sync': rename it")
        value = Value.cast(value)
        if isinstance(value, Const):
            raise PortError(f"member {origin!r} is a constant and no port (a stream with always_ready or always_valid): connect it inside")
        if not len(value):
            raise PortError(f"member {origin!r} has no bits: leave it out of the signature")
        ports[name] = (len(value), "input" if member.flow == wiring.In else "output")
        origins[name] = origin
    return ports


def constant_outputs(rtlil_body: list[str], ports: dict[str, tuple[int, str]]) -> list[str]:
    """Outputs of a module (lines of RTLIL) that are wholly constant, as an undriven one is, without an error, in Amaranth."""
    constants = {m[1] for line in rtlil_body if (m := re.fullmatch(r"connect \\(\S+) (?:\d+'[01]+|\{ *\})", line.strip()))}
    return [name for name, (_, direction) in ports.items() if direction == "output" and name in constants]
