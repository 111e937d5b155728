"""Wide words written beat by beat, against a list of words."""

import cocotb

from tests.bench import SEED, Bench, config, generator

CONFIG = config()
BEATS, WIDTH, BEAT, FEW = CONFIG.weight_beats, CONFIG.weight_bits, CONFIG.stream_bits, CONFIG.depthwise_beats


@cocotb.test()
async def random_accesses(dut):
    rng = generator()
    bench = Bench(dut)
    await bench.begin(write_enable=0, write_address=0, write_beat=0, write_data=0, read_enable=0, read_few=0, read_address=0)
    depth = CONFIG.weight_words
    addresses = sorted({0, depth - 1, *(rng.randrange(depth) for _ in range(6))})
    words = {}
    for address in addresses:
        words[address] = rng.getrandbits(BEATS * BEAT)
        for beat in range(BEATS):
            await bench.cycle(write_enable=1, write_address=address, write_beat=beat, write_data=words[address] >> beat * BEAT & (1 << BEAT) - 1)
    await bench.cycle(write_enable=0)
    shown, seen, few = None, set(), 0
    for _ in range(600):
        # What stands on `data` is the word of the last read; a write in the cycle of a read of the same word is not promised to be seen or not.
        write, read = rng.random() < 0.4, rng.random() < 0.6
        at, beat, data, source = rng.choice(addresses), rng.randrange(BEATS), rng.getrandbits(BEAT), rng.choice(addresses)
        if write and read and at == source:
            read = False
        few = int(shown is not None and rng.random() < 0.4)
        await bench.cycle(write_enable=int(write), write_address=at, write_beat=beat, write_data=data, read_enable=int(read), read_few=few,
                          read_address=source)
        assert bench["reads"] == (FEW if few else BEATS) * read
        if shown is not None:
            assert bench["data"] == shown, f"cycle {bench.now}, seed {SEED}"
        if write:
            words[at] = words[at] & ~((1 << BEAT) - 1 << beat * BEAT) | data << beat * BEAT
        if read:
            whole, part = (1 << WIDTH) - 1, (1 << min(WIDTH, FEW * BEAT)) - 1
            shown = words[source] & whole if not few else words[source] & part | shown & ~part
            seen.add(source)
    assert seen == set(addresses)
