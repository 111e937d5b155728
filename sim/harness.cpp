// Runs programs on the accelerator: feeds the input stream, collects the output stream, reads the counters. No Python in the loop.
// Sizes and register addresses come from sdp_registers.h and from macros that harness.py sets; it also documents both file formats.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "Vaccelerator.h"
#include "sdp_registers.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

// Port a__b: Verilator writes the second of two underscores as a code, for it keeps the pair for itself (and calls `interrupt` __SYM__interrupt).
#define PORT(a, b) a##___05F##b

namespace {

constexpr size_t kWord = SDP_WORD;            // bytes per beat
constexpr size_t kLogLayers = SDP_LOG_LAYERS;  // entries of the layer log
constexpr size_t kLogWords = 4;

// Payloads of up to 64 bits are integers, wider ones arrays of 32-bit words; `last` is the bit above the data.
template <typename T> void put(T& port, const uint8_t* data, bool last) {
    uint64_t value = 0;
    std::memcpy(&value, data, kWord);
    port = static_cast<T>(value | static_cast<uint64_t>(last) << (8 * kWord));
}
template <std::size_t N> void put(VlWide<N>& port, const uint8_t* data, bool last) {
    for (size_t i = 0; i < kWord / 4; ++i) std::memcpy(&port[i], data + 4 * i, 4);
    port[kWord / 4] = last;
}
template <typename T> bool get(const T& port, uint8_t* data) {
    const uint64_t value = port;
    std::memcpy(data, &value, kWord);
    return value >> (8 * kWord) & 1;
}
template <std::size_t N> bool get(const VlWide<N>& port, uint8_t* data) {
    for (size_t i = 0; i < kWord / 4; ++i) std::memcpy(data + 4 * i, &port[i], 4);
    return port[kWord / 4] & 1;
}

struct Options {
    std::string input, output, trace;
    uint64_t limit = 0, trace_program = 0, trace_first = 0, trace_last = 0, seed = 1;
    unsigned idle = 0, stall = 0;  // of 256 cycles, how many without input or without readiness for output
    int reset = 0;                 // Verilator's initial values: 0 zeros, 1 ones, 2 random
};

class Machine {
public:
    explicit Machine(const Options& options) : options_(options), random_(options.seed * 2 + 1) {
        context_.randReset(options.reset);
        context_.randSeed(static_cast<int>(options.seed));
#if VM_TRACE
        context_.traceEverOn(true);
#endif
        top_ = std::make_unique<Vaccelerator>(&context_);
#if VM_TRACE
        if (!options.trace.empty()) {
            trace_ = std::make_unique<VerilatedVcdC>();
            top_->trace(trace_.get(), 99);
            trace_->open(options.trace.c_str());
        }
#endif
        top_->clk = 0;
        reset();
    }
    ~Machine() {
#if VM_TRACE
        if (trace_) trace_->close();
#endif
        top_->final();
    }

    void reset() {
        stream_ = nullptr;
        beats_ = at_ = 0;
        held_ = false;
        top_->PORT(registers, write_enable) = 0;
        top_->rst = 1;
        for (int i = 0; i < 4; ++i) tick();
        top_->rst = 0;
        write(SDP_CONTROL, SDP_CONTROL_INTERRUPT_WRITE | SDP_CONTROL_INTERRUPT_VALUE);
    }

    void write(uint32_t address, uint32_t data) {
        top_->PORT(registers, address) = address;
        top_->PORT(registers, write_data) = data;
        top_->PORT(registers, write_enable) = 1;
        tick();
        top_->PORT(registers, write_enable) = 0;
    }

    uint32_t read(uint32_t address) {
        top_->PORT(registers, address) = address;
        tick();
        return top_->PORT(registers, read_data);
    }

    // Feeds the program until the interrupt; false if the limit came first.
    bool run(uint64_t index, const std::vector<uint8_t>& program) {
        stream_ = program.data();
        beats_ = program.size() / kWord;
        at_ = 0;
        held_ = false;
        output.clear();
        lasts.clear();
        tracing_ = trace_wanted() && index == options_.trace_program;
        cycle = 0;
        write(SDP_CONTROL, SDP_CONTROL_START | SDP_CONTROL_CLEAR);
        while (!top_->__SYM__interrupt && cycle < options_.limit) tick();
        const bool ended = top_->__SYM__interrupt;
        tracing_ = false;
        stream_ = nullptr;
        return ended;
    }

    std::vector<uint8_t> output;
    std::vector<uint64_t> lasts;  // beats of output up to and with each one flagged `last`
    uint64_t cycle = 0, total = 0;

private:
    unsigned dice() {  // xorshift; the low bits are good enough
        random_ ^= random_ << 13;
        random_ ^= random_ >> 7;
        random_ ^= random_ << 17;
        return random_ >> 24 & 255;
    }
    bool trace_wanted() const { return !options_.trace.empty(); }

    void tick() {
        if (stream_ && at_ < beats_) {
            // Once offered, a beat stays until it is taken: a rule of the stream.
            if (!held_) held_ = !options_.idle || dice() >= options_.idle;
            if (held_) put(top_->PORT(input, payload), stream_ + at_ * kWord, at_ + 1 == beats_);
        } else {
            held_ = false;
        }
        top_->PORT(input, valid) = held_;
        top_->PORT(output, ready) = !options_.stall || dice() >= options_.stall;
        top_->eval();
        dump(0);
        if (!top_->rst) {
            if (held_ && top_->PORT(input, ready)) {
                ++at_;
                held_ = false;
            }
            if (top_->PORT(output, valid) && top_->PORT(output, ready)) {
                output.resize(output.size() + kWord);
                if (get(top_->PORT(output, payload), output.data() + output.size() - kWord)) lasts.push_back(output.size() / kWord);
            }
        }
        top_->clk = 1;
        top_->eval();
        dump(1);
        top_->clk = 0;
        ++cycle;
        ++total;
    }

    void dump(int half) {
#if VM_TRACE
        if (tracing_ && trace_ && cycle >= options_.trace_first && cycle <= options_.trace_last) trace_->dump(2 * cycle + half);
#else
        (void)half;
#endif
    }

    const Options& options_;
    VerilatedContext context_;
    std::unique_ptr<Vaccelerator> top_;
#if VM_TRACE
    std::unique_ptr<VerilatedVcdC> trace_;
#endif
    const uint8_t* stream_ = nullptr;
    size_t beats_ = 0, at_ = 0;
    bool held_ = false, tracing_ = false;
    uint64_t random_;
};

[[noreturn]] void fail(const std::string& message) {
    std::fprintf(stderr, "harness: %s\n", message.c_str());
    std::exit(2);
}
uint64_t read_number(FILE* file) {
    uint64_t value = 0;
    if (std::fread(&value, sizeof value, 1, file) != 1) fail("the program file ends early");
    return value;
}
void write_numbers(FILE* file, const std::vector<uint64_t>& values) { std::fwrite(values.data(), 8, values.size(), file); }

Options parse(int argc, char** argv) {
    Options options;
    if (argc != 12) fail("wrong number of arguments; it is started by harness.py");
    options.input = argv[1];
    options.output = argv[2];
    const auto number = [&](int i) { return std::strtoull(argv[i], nullptr, 10); };
    options.limit = number(3);
    options.idle = number(4);
    options.stall = number(5);
    options.seed = number(6);
    options.reset = number(7);
    options.trace = argv[8];
    options.trace_program = number(9);
    options.trace_first = number(10);
    options.trace_last = number(11);
    return options;
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse(argc, argv);
    FILE* input = std::fopen(options.input.c_str(), "rb");
    FILE* output = std::fopen(options.output.c_str(), "wb");
    if (!input || !output) fail("cannot open " + (input ? options.output : options.input));
    Machine machine(options);
    if (machine.read(SDP_ID) != SDP_ID_VALUE) fail("register 'id' does not read as the accelerator's");
    const uint64_t programs = read_number(input);
    std::vector<uint8_t> program;
    for (uint64_t index = 0; index < programs; ++index) {
        program.resize(read_number(input));
        if (!program.empty() && std::fread(program.data(), program.size(), 1, input) != 1) fail("the program file ends early");
        const auto begin = std::chrono::steady_clock::now();
        const bool ended = machine.run(index, program);
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        const uint64_t simulated = machine.cycle;
        const uint64_t status = machine.read(SDP_STATUS), layers = machine.read(SDP_LAYERS);
        std::vector<uint64_t> numbers{ended, status, machine.read(SDP_ERROR), machine.read(SDP_CYCLES), machine.read(SDP_BUSY),
                                      machine.read(SDP_WAITING), machine.read(SDP_TERMS), machine.read(SDP_EMPTY), layers, simulated};
        const uint64_t entries = layers < kLogLayers ? layers : kLogLayers;
        std::vector<uint64_t> log;
        for (uint64_t layer = layers - entries; layer < layers; ++layer)
            for (size_t word = 0; word < kLogWords; ++word) log.push_back(machine.read(SDP_LOG_BASE + kLogWords * (layer % kLogLayers) + word));
        numbers.push_back(entries);
        numbers.push_back(machine.lasts.size());
        numbers.push_back(machine.output.size());
        for (const uint32_t address : {SDP_ACTIVATION_READS, SDP_ACTIVATION_WRITES, SDP_WEIGHT_READS, SDP_WEIGHT_WRITES, SDP_SCALE_READS,
                                       SDP_SCALE_WRITES, SDP_BEATS_IN, SDP_BEATS_OUT})
            numbers.push_back(machine.read(address));
        write_numbers(output, numbers);
        write_numbers(output, log);
        write_numbers(output, machine.lasts);
        std::fwrite(machine.output.data(), 1, machine.output.size(), output);
        std::fflush(output);
        std::printf("%llu %llu %.6f\n", static_cast<unsigned long long>(index), static_cast<unsigned long long>(simulated), seconds);
        std::fflush(stdout);
        if (!ended) machine.reset();
        else if (status & SDP_STATUS_ERROR) machine.write(SDP_CONTROL, SDP_CONTROL_RESET | SDP_CONTROL_CLEAR);
    }
    std::fclose(input);
    std::fclose(output);
    return 0;
}
