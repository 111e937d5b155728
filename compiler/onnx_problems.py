"""What stands in the way of a network: per node a reason and a remedy, all of them at once."""

from dataclasses import dataclass

from compiler.network import NetworkError


class Unsupported(Exception):
    """One node cannot be taken: why, and what the user can do about it."""

    def __init__(self, reason: str, remedy: str):
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


@dataclass(frozen=True)
class Problem:
    node: str
    operator: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"node {self.node!r}: {self.operator}: {self.reason}; remedy: {self.remedy}"


class Obstacles(NetworkError):
    """Every node that cannot be taken; the message has a line for each."""

    def __init__(self, file: str, problems: list[Problem]):
        self.problems = problems
        count = f"{len(problems)} obstacle{'s' if len(problems) > 1 else ''}"
        super().__init__("\n".join([f"{count} in {file}:", *(f"  {problem}" for problem in problems)]))


_RECURRENT = "run the recurrent part on the host, or use convolutions over time instead"
_GATE = "train with Relu or Clip(0, 6) instead, which the output stage does at no cost"
_QDQ = "export the quantised network as QuantizeLinear / DequantizeLinear pairs (QDQ format) with symmetric types"
_HOST = "do it on the host, on the network's output"
REMEDIES = {
    "ConvTranspose": "end the network before it and upsample on the host, or train with an architecture that does not upsample",
    "Upsample": "end the network before it and upsample on the host",
    "Resize": "end the network before it and resize on the host; resize the input before it enters the network",
    "LSTM": _RECURRENT, "GRU": _RECURRENT, "RNN": _RECURRENT,
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Tanh", "Elu", "Selu", "Celu", "Gelu", "Mish", "Softplus", "Softsign", "Erf",
                     "LeakyRelu", "PRelu", "ThresholdedRelu"), _GATE),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "QLinearAdd", "DynamicQuantizeLinear"), _QDQ),
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "GroupNormalization", "LpNormalization", "LRN"),
                    "train with BatchNormalization, which is folded into the weights"),
    **dict.fromkeys(("ArgMax", "TopK", "NonMaxSuppression"), _HOST),
    **dict.fromkeys(("If", "Loop", "Scan"), "export the network for one fixed case, so that no control flow is left"),
    "GlobalMaxPool": "write it as MaxPool whose kernel is the whole map",
    "Attention": "attention multiplies activations by activations, which the array cannot; use convolutions",
}


def remedy_for(operator: str, supported) -> str:
    """What to do about an operator that is not supported at all."""
    return REMEDIES.get(operator) or f"run it on the host, or rewrite it with {', '.join(sorted(supported))}"
