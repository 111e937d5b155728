"""Banks, halves, write masks and the residual port, against a list of words."""

import cocotb

from hw.types import read_layout
from tests.bench import SEED, Bench, config, generator, pack

CONFIG = config()
PORTS, DEPTH, BITS = CONFIG.ports, CONFIG.activation_words, CONFIG.stream_bits
MASKS, CHUNK = CONFIG.word // CONFIG.outputs, 8 * CONFIG.outputs


@cocotb.test()
async def random_accesses(dut):
    rng = generator()
    bench = Bench(dut)
    await bench.begin(read=0, residual_valid=0, residual_address=0, write_mask=0, write_address=0, write_data=0)
    half = DEPTH // 2
    # A few rows of both halves in every bank, the first and the last among them.
    rows = sorted({0, half // PORTS - 1, *(rng.randrange(half // PORTS) for _ in range(3))})
    memory = {}
    for address in (h * half + row * PORTS + bank for h in (0, 1) for row in rows for bank in range(PORTS)):
        memory[address] = rng.getrandbits(BITS)
        await bench.cycle(write_mask=(1 << MASKS) - 1, write_address=address, write_data=memory[address])
    await bench.cycle(write_mask=0)
    expected, residual, read_ports, moved = [0] * PORTS, None, set(), (0, 0)
    for _ in range(1200):
        # The residual is read from the half that this cycle's reads leave alone; every read of its own bank.
        read_half = rng.randrange(2)
        banks = rng.sample(range(PORTS), PORTS)
        valid = [rng.random() < 0.7 for _ in range(PORTS)]
        addresses = [read_half * half + rng.choice(rows) * PORTS + bank for bank in banks]
        # What is not valid may ask for anything.
        addresses = [a if v else rng.randrange(DEPTH) for a, v in zip(addresses, valid)]
        residual_valid = rng.random() < 0.6
        residual_address = (1 - read_half) * half + rng.choice(rows) * PORTS + rng.randrange(PORTS)
        mask = rng.choice([0, 1 << rng.randrange(MASKS), rng.getrandbits(MASKS)])
        at, data = rng.choice(list(memory)), rng.getrandbits(BITS)
        if at in [a for a, v in zip(addresses, valid) if v] or at == residual_address and residual_valid:
            mask = 0
        await bench.cycle(
            read=pack(read_layout(CONFIG), {"valid": sum(v << i for i, v in enumerate(valid)), "address": addresses}),
            residual_valid=int(residual_valid), residual_address=residual_address, write_mask=mask, write_address=at, write_data=data)
        words = bench["data"]
        for port in range(PORTS):
            assert words >> port * BITS & (1 << BITS) - 1 == expected[port], f"cycle {bench.now}, port {port}, seed {SEED}"
        assert (bench["reads"], bench["writes"]) == moved, f"cycle {bench.now}, seed {SEED}"
        if residual is not None:
            assert bench["residual_data"] == residual, f"cycle {bench.now}, residual, seed {SEED}"
        expected = [memory[a] if v else 0 for a, v in zip(addresses, valid)]
        residual = memory[residual_address] if residual_valid else None
        moved = (sum(valid) + residual_valid, mask.bit_count())
        read_ports |= {(port, a % PORTS, a // half) for port, (a, v) in enumerate(zip(addresses, valid)) if v}
        for chunk in range(MASKS):
            if mask >> chunk & 1:
                bits = (1 << CHUNK) - 1 << chunk * CHUNK
                memory[at] = memory[at] & ~bits | data & bits
    assert len(read_ports) == PORTS * PORTS * 2  # every port read every bank
    # All that was written, once more.
    for address, word in memory.items():
        await bench.cycle(read=pack(read_layout(CONFIG), {"valid": 1, "address": [address] + [0] * (PORTS - 1)}), write_mask=0, residual_valid=0)
        await bench.cycle(read=0)
        assert bench["data"] & (1 << BITS) - 1 == word, f"address {address}, seed {SEED}"
