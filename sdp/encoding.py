"""Programs as bytes: one stream, which the golden machine and the hardware read alike.

A program is a sequence of commands, each padded to whole beats of ``lanes * group`` bytes, little endian. The last beat of the ``end``
command carries the stream's ``last`` flag and nothing else does.
"""

import numpy as np

from sdp.config import Config
from sdp.program import (
    LOAD_ERROR,
    MASK_FIELDS,
    Command,
    End,
    Error,
    Field,
    Kind,
    Layer,
    Load,
    MaskedLayer,
    Opcode,
    ProgramError,
    Store,
    beats_per_word,
    check_layer,
    fields,
    header_beats,
    header_words,
    memory_words,
)


def _header(config: Config, command: Command) -> list[int]:
    match command:
        case Load():
            return [command.opcode | command.sync << 8, command.address, len(command.data)]
        case Layer():
            words = [0] * header_words(config, Opcode.LAYER)
            words[0] = Opcode.LAYER
            for f in fields(config):
                words[f.word] |= (int(getattr(command, f.name, 0)) & ((1 << f.bits) - 1)) << f.lsb
            return words
        case Store():
            return [Opcode.STORE, command.address, command.count, command.tail]
        case End():
            return [Opcode.END]


def encode(config: Config, commands: list[Command]) -> bytes:
    """The byte stream of a program; a multiple of ``config.word`` bytes, ``last`` belongs to its final beat.

    Raises
    ------
    ValueError
        A field that does not fit its bits, or data of another width than the configuration's words.
    """
    parts = []
    for command in commands:
        if isinstance(command, Layer):
            for f in fields(config):
                value, low = int(getattr(command, f.name, 0)), -(1 << f.bits - 1) if f.signed else 0
                if not low <= value < low + (1 << f.bits):
                    raise ValueError(f"layer {command.tag!r}: {f.name} = {value} does not fit {f.bits} bits")
            if config.array != "drq" and (said := [f.name for f in MASK_FIELDS if getattr(command, f.name, 0)]):
                raise ValueError(f"layer {command.tag!r}: {', '.join(said)} of an array that has no masks, {config.array!r}")
        words = np.array(_header(config, command), dtype="<u4")
        parts.append(np.pad(words, (0, -len(words) % config.header_words)).tobytes())
        if isinstance(command, Load):
            width = beats_per_word(config, command.opcode) * config.word
            if command.data.ndim != 2 or command.data.shape[1] != width or command.data.dtype != np.uint8:
                raise ValueError(f"{command.opcode.name} data: {command.data.dtype} {command.data.shape}, but must be uint8 (words, {width})")
            parts.append(np.ascontiguousarray(command.data).tobytes())
    return b"".join(parts)


def _word_at(words: np.ndarray, f: Field) -> int:
    value = int(words[f.word]) >> f.lsb & (1 << f.bits) - 1
    return value - (1 << f.bits) if f.signed and value >> f.bits - 1 else value


def decode(config: Config, stream: bytes) -> list[Command]:
    """The commands of a byte stream, checked as the hardware's decoder checks them.

    Raises
    ------
    ProgramError
        With the code that the hardware's error register would show.
    """
    if len(stream) % config.word:
        raise ProgramError(Error.TRUNCATED, f"{len(stream)} bytes are no whole number of beats of {config.word} bytes")
    beats = np.frombuffer(stream, dtype=np.uint8).reshape(-1, config.word)
    commands, at = [], 0

    def take(count, what):
        nonlocal at
        # The beat that is flagged `last` must be the final beat of `end` and of nothing else.
        if at + count > len(beats) or (at + count == len(beats) and what is not Opcode.END):
            raise ProgramError(Error.TRUNCATED, f"the stream ends after {len(beats)} beats, inside a command that begins at or before beat {at} or before 'end'")
        at += count
        return beats[at - count : at]

    while True:
        if at == len(beats):
            raise ProgramError(Error.TRUNCATED, "the stream is empty")
        code = int(beats[at, 0])
        if code not in Opcode.__members__.values():
            raise ProgramError(Error.OPCODE, f"unknown command {code} at beat {at}, allowed are {min(Opcode)} ... {max(Opcode)}")
        opcode = Opcode(code)
        begin = at
        words = np.frombuffer(take(header_beats(config, opcode), opcode).tobytes(), dtype="<u4")
        match opcode:
            case Opcode.LOAD_ACTIVATIONS | Opcode.LOAD_WEIGHTS | Opcode.LOAD_SCALES:
                address, count = int(words[1]), int(words[2])
                depth = memory_words(config, opcode)
                if not (1 <= count <= depth and address + count <= depth):
                    raise ProgramError(LOAD_ERROR[opcode], f"{opcode.name} at beat {begin}: words {address} ... {address + count - 1} of a memory of {depth}")
                per_word = beats_per_word(config, opcode)
                data = take(count * per_word, opcode).reshape(count, per_word * config.word)
                commands.append(Load(opcode=opcode, address=address, data=data, sync=bool(words[0] >> 8 & 1)))
            case Opcode.LAYER:
                values = {f.name: _word_at(words, f) for f in fields(config)}
                if values["kind"] not in Kind.__members__.values():
                    raise ProgramError(Error.OPCODE, f"unknown kind of layer {values['kind']} at beat {begin}")
                for f in fields(config):
                    if f.bits == 1:
                        values[f.name] = bool(values[f.name])
                values["kind"] = Kind(values["kind"])
                layer = (MaskedLayer if config.array == "drq" else Layer)(**values, tag=f"beat {begin}")
                check_layer(config, layer)
                commands.append(layer)
            case Opcode.STORE:
                address, count, tail = (int(w) for w in words[1:4])
                depth = config.activation_words
                if not (1 <= count <= depth and address + count <= depth):
                    raise ProgramError(Error.ADDRESS, f"STORE at beat {begin}: words {address} ... {address + count - 1} of a memory of {depth}")
                if not 1 <= tail <= config.word:
                    raise ProgramError(Error.GEOMETRY, f"STORE at beat {begin}: tail = {tail}, allowed are 1 ... {config.word}")
                commands.append(Store(address=address, count=count, tail=tail))
            case Opcode.END:
                if at != len(beats):
                    raise ProgramError(Error.OVERLONG, f"{len(beats) - at} beats after 'end'")
                commands.append(End())
                return commands
