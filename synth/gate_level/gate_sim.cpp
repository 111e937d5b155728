// Gates and flip-flops, event by event, with the delay of every cell: counts what switches, and why. gate_sim.py writes and reads the files.
//
// A cycle begins with the clock's rising edge: flip-flops take what stood at their data input, ports change, and all settles before the
// next edge. Delays are inertial: an output that is asked back before its delay has passed does not switch.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr uint32_t kPins = 6;
constexpr uint32_t kWheel = 1 << 15;  // picoseconds; longer than any delay

template <typename T> std::vector<T> read(FILE* file, size_t count) {
    std::vector<T> values(count);
    if (count && std::fread(values.data(), sizeof(T), count, file) != count) {
        std::fprintf(stderr, "gate_sim: the netlist file ends early\n");
        std::exit(2);
    }
    return values;
}
template <typename T> void write(FILE* file, const std::vector<T>& values) { std::fwrite(values.data(), sizeof(T), values.size(), file); }

// What drives a net: gates first, then both outputs of flip-flops, then bits of input ports.
struct Driver {
    uint32_t net = 0, due = 0;
    bool pending = false, next = false;
    uint8_t cause = 0;
    uint16_t delay[kPins][2] = {};
};

class Simulation {
public:
    explicit Simulation(FILE* file) {
        const auto sizes = read<uint64_t>(file, 8);
        nets_ = sizes[0], gates_ = sizes[1], flops_ = sizes[2], inputs_ = sizes[3], outputs_ = sizes[4], cycles_ = sizes[5], warm_ = sizes[6], half_ = sizes[7];
        tables_ = read<uint64_t>(file, gates_);
        pins_ = read<uint32_t>(file, gates_ * kPins);
        data_ = read<uint32_t>(file, flops_);
        const auto driven = read<uint32_t>(file, gates_ + 2 * flops_ + inputs_);
        const auto delays = read<uint16_t>(file, driven.size() * kPins * 2);
        drivers_.resize(driven.size());
        for (size_t d = 0; d < driven.size(); ++d) {
            drivers_[d].net = driven[d];
            for (uint32_t k = 0; k < 2 * kPins; ++k) drivers_[d].delay[k / 2][k % 2] = delays[d * kPins * 2 + k];
        }
        watched_ = read<uint32_t>(file, outputs_);
        stimulus_ = read<uint8_t>(file, cycles_ * inputs_);
        expected_ = read<uint8_t>(file, cycles_ * outputs_);

        first_.assign(nets_ + 1, 0);
        for (uint32_t net : pins_) ++first_[net + 1];
        for (size_t n = 0; n < nets_; ++n) first_[n + 1] += first_[n];
        readers_.resize(pins_.size());
        auto at = first_;
        for (uint32_t p = 0; p < pins_.size(); ++p) readers_[at[pins_[p]]++] = p;

        value_.assign(nets_, 0), began_.assign(nets_, 0), seen_.assign(nets_, 0);
        value_[1] = 1;
        state_.assign(gates_, 0);
        toggles_.assign(nets_ * 4, 0), settled_.assign(nets_, 0), high_.assign(nets_, 0);
        caused_.assign(drivers_.size() * kPins * 2, 0), hidden_.assign(gates_ * kPins * 2, 0), edges_.assign(flops_ * 8, 0);
        held_.assign(flops_, 0);
        wheel_.resize(kWheel);
        start();
    }

    void run() {
        for (cycle_ = 0; cycle_ < cycles_; ++cycle_) {
            counting_ = cycle_ >= warm_;
            ++epoch_;
            edge();
            settle();
            finish();
        }
    }

    void save(FILE* file) const {
        write(file, toggles_), write(file, settled_), write(file, high_), write(file, caused_), write(file, hidden_), write(file, edges_);
        write(file, std::vector<uint64_t>{wrong_, first_wrong_, slowest_});
    }

private:
    // All at rest with zeros in flip-flops and at ports: sweep until nothing changes.
    void start() {
        for (size_t f = 0; f < flops_; ++f) set(drivers_[gates_ + 2 * f + 1].net, true);
        for (bool changed = true; changed;) {
            changed = false;
            for (size_t g = 0; g < gates_; ++g) {
                uint32_t state = 0;
                for (uint32_t p = 0; p < kPins; ++p) state |= uint32_t(value_[pins_[g * kPins + p]]) << p;
                state_[g] = state;
                const bool value = tables_[g] >> state & 1;
                if (value_[drivers_[g].net] != value) set(drivers_[g].net, value), changed = true;
            }
        }
    }
    void set(uint32_t net, bool value) {
        if (net > 1) value_[net] = value;
    }

    void edge() {
        if (counting_) count_edges(1);
        for (size_t f = 0; f < flops_; ++f) {
            const bool d = value_[data_[f]];
            if (d == held_[f]) continue;
            held_[f] = d;
            schedule(gates_ + 2 * f, 0, 0, d);
            schedule(gates_ + 2 * f + 1, 0, 0, !d);
        }
        const uint8_t* row = stimulus_.data() + cycle_ * inputs_;
        for (size_t i = 0; i < inputs_; ++i) {
            const size_t d = gates_ + 2 * flops_ + i;
            if (value_[drivers_[d].net] != row[i]) schedule(d, 0, 0, row[i]);
        }
    }

    void settle() {
        bool low = false;
        uint64_t time = 0;
        for (; waiting_; ++time) {
            if (!low && time >= half_) low = true, counting_ ? count_edges(0) : void();
            auto& bucket = wheel_[time % kWheel];
            for (size_t n = 0; n < bucket.size(); ++n) {  // commits may add to the bucket of another time only: delays are at least 1
                Driver& driver = drivers_[bucket[n]];
                if (!driver.pending || driver.due != uint32_t(time)) continue;
                driver.pending = false;
                commit(bucket[n], driver, time, low);
            }
            waiting_ -= bucket.size();
            bucket.clear();
        }
        if (!low && counting_) count_edges(0);
        if (counting_ && time > slowest_) slowest_ = time;
    }

    void commit(uint32_t d, const Driver& driver, uint64_t time, bool low) {
        const uint32_t net = driver.net;
        if (net < 2) return;
        if (seen_[net] != epoch_) seen_[net] = epoch_, began_[net] = value_[net], touched_.push_back(net);
        const bool value = driver.next;
        value_[net] = value;
        if (counting_) {
            ++toggles_[net * 4 + low * 2 + value];
            ++caused_[(d * kPins + driver.cause) * 2 + value];
        }
        for (uint32_t r = first_[net]; r < first_[net + 1]; ++r) {
            const uint32_t gate = readers_[r] / kPins, pin = readers_[r] % kPins;
            const bool before = tables_[gate] >> state_[gate] & 1;
            state_[gate] ^= 1u << pin;
            const bool after = tables_[gate] >> state_[gate] & 1;
            if (before == after) {
                if (counting_) ++hidden_[(gate * kPins + pin) * 2 + value];
            } else {
                schedule(gate, time, pin, after);
            }
        }
    }

    void schedule(uint32_t d, uint64_t time, uint32_t pin, bool value) {
        Driver& driver = drivers_[d];
        driver.pending = false;
        if (driver.net < 2 || value_[driver.net] == value) return;
        driver.pending = true, driver.next = value, driver.cause = uint8_t(pin);
        driver.due = uint32_t(time) + driver.delay[pin][value];
        wheel_[driver.due % kWheel].push_back(d);
        ++waiting_;
    }

    void count_edges(uint32_t rising) {
        for (size_t f = 0; f < flops_; ++f) ++edges_[f * 8 + rising * 4 + value_[data_[f]] * 2 + held_[f]];
    }

    void finish() {
        if (counting_) {
            for (uint32_t net : touched_) settled_[net] += value_[net] != began_[net];
            for (size_t n = 0; n < nets_; ++n) high_[n] += value_[n];
            for (size_t o = 0; o < outputs_; ++o) {
                if (value_[watched_[o]] == expected_[cycle_ * outputs_ + o]) continue;
                if (!wrong_++) first_wrong_ = cycle_ * outputs_ + o;
            }
        }
        touched_.clear();
    }

    size_t nets_, gates_, flops_, inputs_, outputs_, cycles_, warm_, half_;
    std::vector<uint64_t> tables_;
    std::vector<uint32_t> pins_, data_, watched_, first_, readers_, touched_;
    std::vector<Driver> drivers_;
    std::vector<uint8_t> stimulus_, expected_, value_, began_, state_, held_;
    std::vector<uint32_t> seen_, toggles_, settled_, high_, caused_, hidden_, edges_;
    std::vector<std::vector<uint32_t>> wheel_;
    uint64_t waiting_ = 0, wrong_ = 0, first_wrong_ = 0, slowest_ = 0;
    size_t cycle_ = 0;
    uint32_t epoch_ = 0;
    bool counting_ = false;
};

}  // namespace

int main(int argc, char** argv) {
    FILE* input = argc == 3 ? std::fopen(argv[1], "rb") : nullptr;
    FILE* output = input ? std::fopen(argv[2], "wb") : nullptr;
    if (!output) {
        std::fprintf(stderr, "gate_sim: started by gate_sim.py with two files\n");
        return 2;
    }
    Simulation simulation(input);
    simulation.run();
    simulation.save(output);
    return std::fclose(output) ? 2 : 0;
}
