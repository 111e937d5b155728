"""OpenSTA on a mapped netlist: the latest path to every register, memory and port."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sdp import UserError

PERIOD = 10.0
"""ns; with an ideal clock it moves all slacks alike and no path"""

_CONSTRAINTS = """\
read_liberty library.lib
read_liberty memories.lib
read_verilog netlist.v
link_design {top}
create_clock -name clk -period {period} [get_ports clk]
set_input_delay 0 -clock clk [all_inputs]
set_output_delay 0 -clock clk [all_outputs]
"""
_DONE = "--done--"
_SERVE = f"""while {{[gets stdin command] >= 0}} {{
  if {{[catch $command said]}} {{puts "Error: $said"}}
  puts {_DONE}
  flush stdout
}}
"""
"""OpenSTA's own prompt would repeat what it reads."""


class TimingError(UserError, RuntimeError):
    """OpenSTA is missing or failed; the message is one sentence."""


@dataclass(frozen=True)
class Step:
    """A pin of a path: ``instance/pin``, the cell's type, ns since the clock's edge."""

    pin: str
    cell: str
    time: float


def find_sta() -> str:
    if found := shutil.which("sta"):
        return found
    raise TimingError("no OpenSTA: install it with 'apt-get install opensta' (Debian, Ubuntu)")


def sta_version() -> str:
    return "OpenSTA " + subprocess.run([find_sta(), "-version"], capture_output=True, text=True).stdout.strip()


class Session:
    """A running OpenSTA that has read ``library.lib``, ``memories.lib`` and ``netlist.v`` of ``folder``; a context manager."""

    def __init__(self, folder: Path, top: str):
        (folder / "serve.tcl").write_text(_SERVE)
        self._process = subprocess.Popen([find_sta(), "-no_splash", "-exit", "serve.tcl"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT, text=True, errors="replace")
        for line in _CONSTRAINTS.format(top=top, period=PERIOD).splitlines():
            self.ask(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()

    def ask(self, command: str) -> str:
        """What OpenSTA prints. Raises ``TimingError`` with the first error in it."""
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        lines = []
        for line in self._process.stdout:
            if line.strip() == _DONE:
                break
            lines.append(line)
        else:
            lines.append("Error: it ended without a word\n")
        said = "".join(lines)
        if error := re.search(r"^Error: (.*)$", said, re.MULTILINE):
            raise TimingError(f"OpenSTA: {error[1]}")
        return said

    def ends(self) -> dict[str, float]:
        """Every endpoint (register or memory pin, output port) and the clock period in ns that the latest path to it needs."""
        said = self.ask("report_checks -path_delay max -format end -group_count 10000000 -digits 4")
        found = re.findall(r"^(\S+) \([^)]*\)(?: +-?[\d.]+){2} +(-?[\d.]+) \((?:MET|VIOLATED)\)$", said, re.MULTILINE)
        return {name: PERIOD - float(slack) for name, slack in found}

    def path(self, end: str) -> list[Step]:
        """The latest path to an endpoint: clock pin, then every pin that it goes through."""
        target = f"[get_{'pins' if '/' in end else 'ports'} {{{end}}}]"
        return read_path(self.ask(f"report_checks -path_delay max -format full -digits 4 -to {target}"))


def read_path(report: str) -> list[Step]:
    """From OpenSTA's report of one path."""
    body = report.split("data arrival time")[0]
    return [Step(pin, cell, float(time)) for time, pin, cell in re.findall(r"(-?[\d.]+) [v^] (\S+) \((\S+)\)$", body, re.MULTILINE)]
