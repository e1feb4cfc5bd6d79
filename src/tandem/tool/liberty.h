// Liberty files (.lib): the cells of a library, as far as netlists need them. Delays are read by yosys and OpenSTA.
#pragma once
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::tool {

struct LibertyPin {
  std::string name;
  bool output = false, clock = false;
  double capacitance = 0;       // pF
  double energy = 0;            // pJ inside the cell for each transition of this pin (middle of the tables; 0 for plain inputs)
  std::string function;         // Verilog expression of the cell's pins; empty for an input, or where it is not a plain function
};
struct LibertyCell {
  std::string name;
  double area = 0;              // um2
  double leakage = 0;           // nW
  std::vector<LibertyPin> pins;
  std::string next_state, clock;  // of a flip-flop: Verilog expressions
  std::string state, inverse;   // names of its state and of the complement, as output functions say them
  bool other = false;           // latch, three-state, clear or preset: no model is written
  const LibertyPin* pin(std::string_view name) const;
};
struct Liberty {
  std::string name;
  double voltage = 0;
  std::map<std::string, LibertyCell> cells;
  double gate_area = 0;         // of the smallest NAND of two inputs: one gate equivalent
  std::string buffer;           // the largest cell that repeats its input, clock buffers aside
};
// Error(bad_input) with a line where it is no Liberty file, or has no NAND of two inputs, no buffer or no flip-flop.
Liberty read_liberty(std::string_view text, std::string_view file);

// A Verilog model for each of `cells`: plain functions and flip-flops, without delays. With RANDOM_STATE defined
// flip-flops begin at random, else unknown. Error(no) naming a cell that has no model.
std::string cell_models(const Liberty& l, const std::set<std::string>& cells);

}  // namespace tandem::tool
