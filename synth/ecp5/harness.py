"""A module with five pins around one with hundreds of ports, so that a device can hold it without a board."""


def harness(module: str, ports: dict[str, tuple[int, str]], name: str = "harness") -> str:
    """Verilog of ``name``: a register at every port of ``module``, all of them one shift register behind the pins.

    So every path begins and ends in a flip-flop on the chip, those of the ports too, as if a neighbour on the same chip used the module, and
    what place and route reports as the highest frequency holds for all of them. The price: a flip-flop per port bit, and a LUT per output bit.
    Nothing can be optimised away, for every input can be set and every output be seen.

    ``ports`` as ``hw.verilog_ports.flat_ports`` gives them: width in bits and direction by name, without ``clk`` and ``rst``.
    """
    connections, next_bit = [], {"input": 0, "output": 0}
    for port, (width, direction) in ports.items():
        low = next_bit[direction]
        next_bit[direction] += width
        connections.append(f".{port}({'to' if direction == 'input' else 'from'}_ports[{low + width - 1}:{low}])")
    inputs, outputs = next_bit["input"], next_bit["output"]
    return f"""\
module {name}(input clk, input rst, input shift, input in, output out);
  reg reset;
  reg [{inputs - 1}:0] to_ports;
  reg [{outputs - 1}:0] results;
  wire [{outputs - 1}:0] from_ports;
  always @(posedge clk) begin
    reset <= rst;
    if (shift)
      to_ports <= {{to_ports, in}};
    results <= shift ? {{results, to_ports[{inputs - 1}]}} : from_ports;
  end
  assign out = results[{outputs - 1}];
  {module} dut(.clk(clk), .rst(reset), {", ".join(connections)});
endmodule
"""
