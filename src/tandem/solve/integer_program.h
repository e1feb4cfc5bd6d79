// Mixed integer linear programs, solved exactly by CBC (COIN-OR), whose library is opened when it is first used:
// Debian's coinor-libcbc3. Nothing is linked to it.
#pragma once
#include <limits>
#include <utility>
#include <vector>

namespace tandem {

struct IntegerProgram {
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();
  struct Row {
    std::vector<std::pair<int, double>> terms;  // variable, factor; a variable once
    double lo = -kInfinity, hi = kInfinity;
  };
  std::vector<double> cost, lo, hi;             // of each variable; the sum of cost * x is made least
  std::vector<bool> integer;
  std::vector<Row> rows;

  int variable(double cost, double lo = 0, double hi = 1, bool integer = true);
  void row(std::vector<std::pair<int, double>> terms, double lo, double hi);
};
struct IntegerOptions {
  double seconds = 60;
  std::vector<double> start;  // a solution to begin with; empty: none
};
struct IntegerSolution {
  enum Status { optimal, infeasible, unfinished } status = unfinished;
  bool found = false;         // x is feasible
  std::vector<double> x;
  double value = 0, bound = 0;  // no solution is better than the bound
};
// Throws Error(tool_missing) with the package to install where there is no CBC, Error(bad_input) for a row that names an
// unknown variable. One program at a time; others wait.
IntegerSolution solve(const IntegerProgram& p, const IntegerOptions& options = {});
bool integer_solver_available();

}  // namespace tandem
