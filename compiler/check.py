"""``sdp check MODEL.onnx``: can this network run? Everything that is in the way at once, or the table of its layers."""

from compiler import onnx_import
from compiler.network import Conv, Network, NetworkError, Node, Pool, macs
from compiler.onnx_problems import Obstacles, Problem
from sdp.config import Config


def problems(network: Network, config: Config) -> list[Problem]:
    """What a configuration is too small for: each output's sum must fit the accumulators."""
    found, shapes = [], network.shapes()
    for node in network.nodes:
        if isinstance(node, Conv) and not node.depthwise:
            height, width = node.kernel
            channels = shapes[node.input][2]
            words = -(-channels // config.word) * height * width
            if node.input == network.input and channels < config.group:
                # The host lays windows of shallow images out as channels.
                words = -(-channels * height * width // config.word)
            if words > config.steps_max:
                found.append(Problem(node.name, "Conv", f"each output sums over {words * config.word} codes, the accumulators of {config.name!r} hold "
                                     f"{config.reduction}", f"use a configuration with reduction = {words * config.word} or more"))
    return found


def kind(node: Node) -> str:
    """What a layer is, in a word or two."""
    if isinstance(node, Pool):
        if node.kernel == (1, 1):
            return "add" if node.residual is not None else "copy"
        return "maximum" if node.kind == "max" else "average"
    return "depthwise" if node.depthwise else "convolution"


def table(network: Network) -> list[tuple[str, str, str, int]]:
    """(name, kind with kernel and what is fused, output shape, multiplications) of every layer."""
    shapes, rows = network.shapes(), []
    for node in network.nodes:
        size = f" {node.kernel[0]}x{node.kernel[1]}" if node.kernel != (1, 1) or isinstance(node, Conv) else ""
        stride = f"/{node.stride[0]}" + (f"x{node.stride[1]}" if node.stride[0] != node.stride[1] else "") if max(node.stride) > 1 else ""
        fused = (" + residual" if node.residual is not None and kind(node) != "add" else "") + (" + relu" if node.relu else "")
        fused += f" <= {node.clip:g}" if node.clip is not None else ""
        shape = shapes[node.name]
        rows.append((node.name, f"{kind(node)}{size}{stride}{fused}", " x ".join(map(str, shape)), macs(node, shape)))
    return rows


def main(args) -> int:
    """The exit code: 0 if ``args.model`` can run on ``args.config``, else 1."""
    try:
        network = onnx_import.read(args.model)
        if found := problems(network, args.config):
            raise Obstacles(str(args.model).rsplit("/", 1)[-1], found)
    except (NetworkError, OSError) as error:
        print(error)
        return 1
    rows = table(network)
    body = [("layer", "kind", "height x width x channels", "MACs")]
    body += [(name, what, shape, f"{count:,}") for name, what, shape, count in rows]
    widths = [max(len(row[at]) for row in body) for at in range(4)]
    for name, what, shape, count in body:
        print(f"{name:{widths[0]}}  {what:{widths[1]}}  {shape:{widths[2]}}  {count:>{widths[3]}}")
    shape = " x ".join(map(str, network.input_shape))
    print(f"{len(rows)} layers, {sum(row[3] for row in rows):,} MACs per image of {shape}; "
          f"{network.name} can run on {args.config.name!r}" + (", it came quantised" if network.codes else ""))
    return 0
