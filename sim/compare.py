"""RTL against golden machine: codes, cycles and counters of a program, all equal or a sentence that says where not."""

import numpy as np

from golden.machine import Result as Golden
from sdp.config import Config
from sim.harness import Result


def of_image(value: int | np.ndarray, image: int) -> int:
    """A number of the golden machine that may be another one for every image."""
    return int(value[image] if isinstance(value, np.ndarray) else value)


def differences(config: Config, got: Result, expected: Golden, image: int = 0) -> list[str]:
    """What differs, worst first; empty if nothing does. ``got`` came from streams that never wait."""
    if got.hung:
        return ["the machine hangs"]
    if not got.ok:
        return [f"the machine stopped with {got.error.name}"]
    found = []
    codes = np.frombuffer(got.outputs, dtype=np.uint8).reshape(-1, config.word)
    wanted = expected.outputs[image]
    if codes.shape != wanted.shape:
        found.append(f"{len(codes)} words of output, expected are {len(wanted)}")
    elif (codes != wanted).any():
        word, code = (int(n) for n in np.argwhere(codes != wanted)[0])
        found.append(f"{int((codes != wanted).sum())} codes differ, first in output word {word}, code {code}: {codes[word, code]}, expected is {wanted[word, code]}")
    if got.layer_count != len(expected.layers):
        found.append(f"{got.layer_count} layers ran, expected are {len(expected.layers)}")
    kept = expected.layers[-config.log_layers :]
    for entry, layer in zip(got.layers, kept):
        for name, value in ((name, of_image(getattr(layer, name), image)) for name in ("cycles", "terms", "empty")):
            if entry[name] != value:
                found.append(f"layer {layer.layer.tag!r}: {name} {entry[name]}, expected are {value}")
    if len(kept) < len(expected.layers):
        # What the log no longer holds is in the sums.
        totals = {name: int(sum(getattr(layer, name)[image] for layer in expected.layers)) for name in ("terms", "empty")}
        for name, value in {"busy": of_image(expected.busy, image), **totals}.items():
            if getattr(got, name) != value:
                found.append(f"{name} {getattr(got, name)} in total, expected are {value}")
    for name, value in expected.traffic.counters().items():
        if got.traffic[name] != value:
            found.append(f"{name} {got.traffic[name]}, expected are {value}")
    if got.cycles != (cycles := of_image(expected.cycles, image)):
        found.append(f"{got.cycles} cycles in total, expected are {cycles}")
    return found
