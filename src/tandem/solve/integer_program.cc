#include "tandem/solve/integer_program.h"

#include <dlfcn.h>

#include <cmath>
#include <mutex>

#include "tandem/base/error.h"

namespace tandem {
namespace {

// The C interface of CBC 2.10, as far as it is used.
struct Cbc {
  using Model = void;
  Model* (*make)() = nullptr;
  void (*drop)(Model*) = nullptr;
  void (*load)(Model*, int columns, int rows, const int* start, const int* index, const double* value, const double* lo, const double* hi, const double* cost, const double* row_lo, const double* row_hi) = nullptr;
  void (*set_integer)(Model*, int) = nullptr;
  void (*set_parameter)(Model*, const char*, const char*) = nullptr;
  void (*start)(Model*, int, const int*, const double*) = nullptr;
  int (*run)(Model*) = nullptr;
  int (*is_optimal)(Model*) = nullptr;
  int (*is_infeasible)(Model*) = nullptr;
  int (*solutions)(Model*) = nullptr;
  double (*value)(Model*) = nullptr;
  double (*bound)(Model*) = nullptr;
  const double* (*solution)(Model*) = nullptr;
  bool ok = false;
};
const Cbc& cbc() {
  static const Cbc c = [] {
    Cbc r;
    void* h = dlopen("libCbcSolver.so.3", RTLD_NOW | RTLD_LOCAL);
    if (!h) return r;
    r.ok = true;
    auto find = [&](auto& f, const char* name) {
      f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(dlsym(h, name));
      r.ok = r.ok && f;
    };
    find(r.make, "Cbc_newModel");
    find(r.drop, "Cbc_deleteModel");
    find(r.load, "Cbc_loadProblem");
    find(r.set_integer, "Cbc_setInteger");
    find(r.set_parameter, "Cbc_setParameter");
    find(r.start, "Cbc_setMIPStartI");
    find(r.run, "Cbc_solve");
    find(r.is_optimal, "Cbc_isProvenOptimal");
    find(r.is_infeasible, "Cbc_isProvenInfeasible");
    find(r.solutions, "Cbc_numberSavedSolutions");
    find(r.value, "Cbc_getObjValue");
    find(r.bound, "Cbc_getBestPossibleObjValue");
    find(r.solution, "Cbc_getColSolution");
    return r;
  }();
  return c;
}

}  // namespace

int IntegerProgram::variable(double c, double from, double to, bool whole) {
  cost.push_back(c);
  lo.push_back(from);
  hi.push_back(to);
  integer.push_back(whole);
  return static_cast<int>(cost.size()) - 1;
}
void IntegerProgram::row(std::vector<std::pair<int, double>> terms, double from, double to) { rows.push_back({std::move(terms), from, to}); }

bool integer_solver_available() { return cbc().ok; }

IntegerSolution solve(const IntegerProgram& p, const IntegerOptions& o) {
  const Cbc& c = cbc();
  if (!c.ok) throw Error(Exit::tool_missing, "the solver of integer programs, CBC, was not found").expected("libCbcSolver.so.3").fix("apt-get install coinor-libcbc3");
  static std::mutex one;  // CBC keeps state of its own
  const std::lock_guard lock(one);
  const int n = static_cast<int>(p.cost.size()), m = static_cast<int>(p.rows.size());
  std::vector<int> count(static_cast<std::size_t>(n) + 1, 0);
  for (const auto& r : p.rows)
    for (const auto& [v, f] : r.terms) {
      if (v < 0 || v >= n) throw bad_input("a row of the integer program names variable {} of {}", v, n);
      ++count[static_cast<std::size_t>(v) + 1];
    }
  for (std::size_t i = 1; i < count.size(); ++i) count[i] += count[i - 1];
  std::vector<int> at(count.begin(), count.end() - 1), index(static_cast<std::size_t>(count.back()));
  std::vector<double> value(index.size()), lo, hi;
  for (int r = 0; r < m; ++r) {
    const auto& row = p.rows[static_cast<std::size_t>(r)];
    for (const auto& [v, f] : row.terms) {
      const std::size_t k = static_cast<std::size_t>(at[static_cast<std::size_t>(v)]++);
      index[k] = r;
      value[k] = f;
    }
    lo.push_back(std::isinf(row.lo) ? -1e30 : row.lo);
    hi.push_back(std::isinf(row.hi) ? 1e30 : row.hi);
  }
  Cbc::Model* model = c.make();
  c.load(model, n, m, count.data(), index.data(), value.data(), p.lo.data(), p.hi.data(), p.cost.data(), lo.data(), hi.data());
  std::vector<int> whole;
  for (int i = 0; i < n; ++i)
    if (p.integer[static_cast<std::size_t>(i)]) {
      c.set_integer(model, i);
      whole.push_back(i);
    }
  c.set_parameter(model, "logLevel", "0");
  c.set_parameter(model, "ratioGap", "0");
  c.set_parameter(model, "allowableGap", "1e-9");
  c.set_parameter(model, "seconds", fmt::format("{}", o.seconds).c_str());
  if (o.start.size() == p.cost.size()) {
    std::vector<int> all(static_cast<std::size_t>(n));
    for (int i = 0; i < n; ++i) all[static_cast<std::size_t>(i)] = i;
    c.start(model, n, all.data(), o.start.data());
  }
  c.run(model);
  IntegerSolution s;
  // A program without integers has no saved solutions.
  s.found = c.solutions(model) > 0 || (whole.empty() && c.is_optimal(model));
  s.status = s.found && c.is_optimal(model) ? IntegerSolution::optimal : !s.found && c.is_infeasible(model) ? IntegerSolution::infeasible : IntegerSolution::unfinished;
  if (s.found) {
    s.x.assign(c.solution(model), c.solution(model) + n);
    for (int i : whole) s.x[static_cast<std::size_t>(i)] = std::round(s.x[static_cast<std::size_t>(i)]);
    for (std::size_t i = 0; i < s.x.size(); ++i) s.value += p.cost[i] * s.x[i];
    s.bound = s.status == IntegerSolution::optimal ? s.value : c.bound(model);
  }
  c.drop(model);
  return s;
}

}  // namespace tandem
