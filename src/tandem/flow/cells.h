// A generated design in standard cells: area stage by stage, timing, power by toggles, and the netlist compared with the exact result.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tandem/base/cancel.h"
#include "tandem/flow/synthesis.h"
#include "tandem/hardware/target.h"
#include "tandem/proof/verify.h"
#include "tandem/tool/liberty.h"
#include "tandem/tool/opensta.h"

namespace tandem::flow {

// A memory that a design leaves to a macro: one read and one write port.
struct Macro {
  std::int64_t words = 0, bits = 0;
  std::string name() const { return fmt::format("tandem_sram_{}x{}", words, bits); }
};
// CACTI 7 at 45 nm, low operating power cells, 350 K, one port (fit of read energy 0.50 pJ (KB)^0.54 (bits/32)^0.55, area 0.0037 mm2
// a KB, access 0.58 ns (KB)^0.30, from 1 KB to 1 MB; smaller ones are extrapolated, a second port is not counted). Other nodes: area
// and energy by the rules of Stillmaker and Baas (2017) where they reach (7 to 130 nm), above by the square of the node and V^2.
struct MacroCost {
  double area_um2 = 0, read_pj = 0, access_ns = 0;
};
MacroCost macro_cost(const Macro& m, double node_nm, double supply_v);

// One module of a netlist. A bit is the number of a net; -1: 0, -2: 1, -3: open.
struct Netlist {
  struct Port {
    std::string name;
    bool output = false;
    std::vector<int> bits;
  };
  struct Cell {
    std::string name, type;
    std::vector<std::pair<std::string, std::vector<int>>> pins;
  };
  std::string name;
  std::vector<Port> ports;
  std::vector<Cell> cells;
  int nets = 0;                 // numbers are below
};
// The modules of yosys' JSON, those they hold first. Cells and nets get short names of their own. Memory macros are found in `macros`.
std::vector<Netlist> read_netlist(const std::string& json, std::vector<Macro>& macros);
// Repeats nets that drive more than `most` pins of cells through trees of buffers (clock pins and instances aside: a clock tree is not
// counted). Returns how many were added.
std::int64_t add_buffers(Netlist& n, const tool::Liberty& l, std::int64_t most = 10);
std::string verilog(const std::vector<Netlist>& n);
// Area of its library cells (macros and instances not counted), and how many and how many flip-flops.
struct CellCount {
  double area_um2 = 0, macro_um2 = 0;
  std::int64_t cells = 0, ff = 0, macros = 0;
};
CellCount count_cells(const Netlist& n, const tool::Liberty& l, double node_nm, double supply_v);

struct CellsStage {
  std::string module;
  CellCount count;
};
struct CellsParams {
  hardware::Target target;
  double clock_mhz = 200;
  std::int64_t power_cycles = 2000;  // of the simulation that counts toggles; 0: no power
  double seconds = 900;              // of one tool
};
struct CellsResult {
  std::string library;
  double gate_area = 0;              // um2 of one gate equivalent
  std::vector<CellsStage> stages;    // in the order of Design::stages
  CellCount total;
  std::int64_t buffers = 0;
  std::optional<tool::StaResult> timing;
  std::int64_t toggle_cycles = 0, toggles = 0;
  // At the clock: toggles times the energies inside the cells and of the loads they drive in their stage (no wires, no clock tree);
  // clock pins of the flip-flops; leakage; reads and writes of the macros.
  double switching_w = 0, clock_w = 0, leakage_w = 0, macro_w = 0;
  double power_w() const { return switching_w + clock_w + leakage_w + macro_w; }
  std::string netlist, models;       // Verilog
  std::vector<std::string> notes;    // what could not be done, and how to get it
  std::vector<NamedMetric> metrics;
  double gates() const { return gate_area > 0 ? total.area_um2 / gate_area : 0; }
};
// Throws Error(tool_missing) naming the package of yosys or of the library. Without OpenSTA there is no timing and no power, and
// a note; without Icarus no power. `stimulus`: frames for the toggles, and `interval` their cycles per frame (energies).
CellsResult synthesise_cells(const rtl::Design& d, const CellsParams& params, const proof::Stimulus* stimulus = nullptr, double interval = 0,
                             const Cancel& cancel = Cancel::never());
// The netlist in the place of the design, for verify().
rtl::Design netlist_design(const rtl::Design& d, const CellsResult& r);

// Gate equivalents and flip-flops of each stage of a design, each for itself, kept by hash (for calibration).
std::vector<CellsStage> count_stages(const rtl::Design& d, const hardware::Target& target, std::string* tool = nullptr, const Cancel& cancel = Cancel::never());

}  // namespace tandem::flow
