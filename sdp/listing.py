"""Programs as text, for people."""

from dataclasses import fields

from sdp.program import Command, End, Layer, Load, Store


def disassemble(commands: list[Command]) -> str:
    """A listing, one command per line; fields at their default are left out."""
    lines = []
    for command in commands:
        match command:
            case Load():
                lines.append(f"{command.opcode.name.lower()} address={command.address} count={command.data.shape[-2]}{' sync' if command.sync else ''}")
            case Layer():
                shown = (f"{f.name}={int(getattr(command, f.name))}" for f in fields(command)
                         if f.name not in ("tag", "kind") and getattr(command, f.name) != f.default)
                lines.append(f"layer {command.kind.name.lower()} {' '.join(shown)}{f'  ; {command.tag}' if command.tag else ''}")
            case Store():
                lines.append(f"store address={command.address} count={command.count} tail={command.tail}")
            case End():
                lines.append("end")
    return "\n".join(lines)
