"""The module hierarchy of an exported Verilog text: bodies, instances, and what a body needs to be read alone."""

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Body:
    """One module: its text, and how often it instantiates which other modules of the text."""

    name: str
    text: str
    children: dict[str, int] = field(compare=False)

    @property
    def stub(self) -> str:
        """The module as a black box: ports and nothing else."""
        header = re.match(r"module [^;]*;", self.text)[0]
        outside = re.sub(r"^ *function .*?^ *endfunction", "", self.text, flags=re.MULTILINE | re.DOTALL)
        ports = re.findall(r"^ *(?:input|output)\b[^;=]*", outside, re.MULTILINE)
        return "\n".join(["(* blackbox *)", header, *(f"{port.rstrip()};" for port in ports), "endmodule"])


def parse(verilog: str) -> dict[str, Body]:
    """All modules by name. Relies on ``write_verilog``'s layout: ``module`` and instances begin their lines."""
    texts = {}
    for text in re.findall(r"^module .*?^endmodule", verilog, re.MULTILINE | re.DOTALL):
        texts[re.match(r"module (\w+)", text)[1]] = text
    bodies = {}
    for name, text in texts.items():
        children = {}
        for child in re.findall(r"^ +(\w+) \w+ \(", text, re.MULTILINE):
            if child in texts:
                children[child] = children.get(child, 0) + 1
        bodies[name] = Body(name, text, children)
    return bodies


def standalone(body: Body, bodies: dict[str, Body]) -> str:
    """The body with its children as black boxes, so that it can be mapped without them."""
    return "\n\n".join([*(bodies[child].stub for child in sorted(body.children)), body.text]) + "\n"


def instances(bodies: dict[str, Body], top: str) -> dict[str, int]:
    """How often every module exists in one ``top``; modules outside of it are left out."""
    order, seen = [], set()

    def visit(name):
        if name not in seen:
            seen.add(name)
            for child in bodies[name].children:
                visit(child)
            order.append(name)

    visit(top)
    counts = dict.fromkeys(reversed(order), 0)
    counts[top] = 1
    for name in counts:  # parents first
        for child, number in bodies[name].children.items():
            counts[child] += counts[name] * number
    return counts
