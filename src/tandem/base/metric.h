// A number that says where it comes from.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace tandem {

enum class Fidelity {
  estimated,      // closed form
  simulated,      // event kernel
  rtl_simulated,  // Verilator
  synthesised,    // yosys, static timing
  placed,         // nextpnr
  emulated,       // QEMU
  measured,       // this CPU or GPU
  executed,       // accuracy on stated data (n, split, seed in `source`)
  published,
};
std::string_view to_string(Fidelity f);

struct Metric {
  double value = 0;
  std::string unit;      // "LUT4", "cycles", "MHz", "%", "J" ...
  Fidelity fidelity = Fidelity::estimated;
  std::string source;    // tool and version, formula, data set with n, split and seed
  std::optional<double> low, high;  // interval where one is known
};

}  // namespace tandem
