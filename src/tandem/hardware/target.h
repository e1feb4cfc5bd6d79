// A target: what a design may use. One YAML file per device (targets/*.yaml): budgets with their sources, and a
// typed graph of stores, compute units and links that mapper, simulator and generator read.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/base/config.h"

namespace tandem::hardware {

enum class Policy { scratchpad, cache, fifo, row_stationary, weight_stationary, dram };
enum class Topology { bus, broadcast, mesh, tree, crossbar, tsv, serial };
enum class Control { dataflow, tokens, riscv, simd, events };
enum class Reduction { none, column, tree, chain };
std::string_view to_string(Policy p);
std::string_view to_string(Topology t);
std::string_view to_string(Control c);
std::string_view to_string(Reduction r);

struct Energy {  // picojoules of one action
  double low = 0, nominal = 0, high = 0;
  std::string source;
};

struct Store {
  std::string name;
  std::int64_t count = 1;                  // equal blocks
  std::int64_t bits = 0;                   // of one block
  std::int64_t words = 0, word_bits = 0;   // words * word_bits = bits
  int read_ports = 0, write_ports = 0, shared_ports = 0;  // of one block
  int latency_cycles = 1;
  Policy policy = Policy::scratchpad;
  bool initialised = false;                // content at power-up is part of the configuration
  std::map<std::string, Energy> energy;    // "read", "write", "activate", "refresh"
  std::string source;
};

struct OpCost {
  int latency_cycles = 1, interval_cycles = 1, lanes = 1;
  std::optional<Energy> energy;
};
struct Compute {
  std::string name;
  std::vector<std::int64_t> lattice;       // units, e.g. [8] or [256, 256]
  std::map<std::string, OpCost> ops;
  std::vector<std::string> local_stores;   // at every lattice point
  Reduction reduction = Reduction::none;
  Control control = Control::dataflow;
  std::string source;
  std::int64_t units() const;
};

struct Link {
  std::string from, to;                    // names of stores and compute units
  std::int64_t width_bits = 0;
  int latency_cycles = 0;
  Topology topology = Topology::bus;
  std::optional<Energy> energy_per_bit;
};

struct Technology {
  double node_nm = 0, supply_v = 0;        // 0: not said; nothing that depends on it is then estimated
  std::string source;
};

struct Resource {
  std::int64_t count = 0;
  std::string source;
};

struct Target {
  std::string name;                        // "ice40up5k-sg48"
  std::vector<std::string> aliases;        // "up5k"
  std::string family;                      // "ice40"
  std::string summary;
  std::string device, package;             // as the place-and-route tool names them
  bool dsp = false;                        // synthesis may use multipliers
  std::string liberty, liberty_package;    // standard cells: a file beside this one or absolute; the Debian package that has it
  double clock_mhz = 0;                    // default
  std::string clock_source;
  std::map<std::string, Resource> budget;  // lut4, ff, bram, spram, dsp, pins
  std::vector<Store> stores;
  std::vector<Compute> computes;
  std::vector<Link> links;
  Technology technology;
  std::string file;                        // where it was read

  // Count of a budget; 0 for a resource that the part does not have.
  std::int64_t available(std::string_view resource) const;
  const Store* store(std::string_view name) const;      // nullptr when absent
  const Compute* compute(std::string_view name) const;
};

// Reads and checks one description. Errors name file, line and the nearest key.
Target read_target(const Config& c);
// The rules that every target obeys: names unique, extents positive, words * word_bits = bits, at least one port, links
// and local stores point to what exists, budgets agree with the stores and units of the same name. Throws Error(bad_input).
void check(const Target& t);

// All targets of the folder ($TANDEM_TARGETS, else share/targets), by name. A name or alias used twice is an error.
std::vector<Target> all_targets();
// By name, alias, or the path of a YAML file (contains '/' or ends in .yaml). Error names the nearest.
Target find_target(std::string_view name);
std::filesystem::path targets_folder();
// The library of a target of standard cells. Error(tool_missing) naming the package where the file is not there.
std::filesystem::path liberty_file(const Target& t);

}  // namespace tandem::hardware
