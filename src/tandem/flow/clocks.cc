#include "tandem/flow/clocks.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "tandem/base/error.h"
#include "tandem/flow/calibrate.h"
#include "tandem/flow/synthesis.h"

namespace tandem::flow {
namespace {

constexpr std::uint64_t kSeed = 1;

std::vector<std::vector<plan::Path>> paths_of(const ClockSample& s) {
  return plan::paths(sample_shapes(plan::Family::ice40, kSeed, s.network), s.device == "up5k");
}

}  // namespace

std::optional<ClockSample> place_sample(const hardware::Target& target, std::int64_t network, int seeds, double least_luts, double most_luts, const Cancel& cancel) {
  const auto d = sample_design(plan::Family::ice40, kSeed, network);
  if (!d) return {};
  double luts = 0;
  for (const plan::StageShape& s : d->stages) luts += plan::stage_def(s.kind).cost(s, plan::ice40_calibration()).lut4;
  if (luts < least_luts || luts > most_luts) return {};
  SynthesisParams p;
  p.device = target.device;
  p.package = target.package;
  p.clock_mhz = target.clock_mhz;
  p.dsp = target.dsp;
  p.seeds = seeds;
  const SynthesisResult s = synthesise(*d, p, cancel);
  if (!s.place.fits) return {};
  ClockSample r;
  r.device = target.device;
  r.network = network;
  r.lut = s.cells.lut4;
  r.fmax = s.fmax;
  if (!s.place.path.empty()) r.stage = stage_of_cell(s.place.path.back().cell);
  return r;
}

std::string to_line(const ClockSample& s) {
  std::string line = fmt::format("{},{},{},{},{}", s.fitted ? "fit" : "judge", s.device, s.network, s.lut, s.stage);
  for (double f : s.fmax) line += fmt::format(",{:.2f}", f);
  return line;
}

std::vector<ClockSample> read_samples(const std::string& text) {
  std::vector<ClockSample> r;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream l(line);
    ClockSample s;
    std::string set;
    char c = 0;
    std::getline(l, set, ',');
    std::getline(l, s.device, ',');
    l >> s.network >> c >> s.lut >> c >> s.stage;
    for (double f = 0; l >> c >> f;) s.fmax.push_back(f);
    if ((set != "fit" && set != "judge") || s.fmax.empty()) throw bad_input("not a line of placed clocks: '{}'", printable(line));
    s.fitted = set == "fit";
    r.push_back(std::move(s));
  }
  return r;
}

std::string to_text(const plan::ClockPart& p) {
  std::string ns;
  for (double x : p.ns) ns += fmt::format("{}{}", ns.empty() ? "" : ", ", x);
  return fmt::format("{{\"{}\", {{{}}}, {{{:.2f}, {:.2f}, {:.2f}}}}},\n", p.device, ns, p.spread.low, p.spread.middle, p.spread.high);
}

std::vector<double> estimated(const std::vector<ClockSample>& samples, const plan::ClockPart& part) {
  std::vector<double> r;
  for (const ClockSample& s : samples)
    if (s.device == part.device) r.push_back(plan::clock_of(paths_of(s), part).mhz);
  return r;
}

plan::ClockPart fit_clock(const std::vector<ClockSample>& samples, const plan::ClockPart& start) {
  struct One {
    std::vector<std::vector<plan::Path>> paths;
    double mhz;
  };
  std::vector<One> all;
  for (const ClockSample& s : samples)
    if (s.fitted && s.device == start.device) all.push_back({paths_of(s), s.median()});
  plan::ClockPart best = start;
  if (all.empty()) return best;
  const auto error = [&](const plan::ClockPart& p) {
    double sum = 0;
    for (const One& o : all) sum += std::abs(std::log(plan::clock_of(o.paths, p).mhz / o.mhz));
    return sum;
  };
  double least = error(best);
  for (double step = 0.3; step > 0.005;) {
    bool better = false;
    const auto attempt = [&](plan::ClockPart p) {
      for (std::size_t i = 0; i < p.ns.size(); ++i) p.ns[i] = std::clamp(p.ns[i], start.ns[i] / 1.5, start.ns[i] * 1.5);
      if (const double e = error(p); e < least - 1e-9) {
        least = e;
        best = p;
        better = true;
      }
    };
    for (std::size_t i = 0; i < best.ns.size(); ++i)
      for (double a : {1 + step, 1 / (1 + step)}) {
        plan::ClockPart p = best;
        p.ns[i] *= a;
        attempt(p);
        for (std::size_t j = 0; j < i; ++j)  // one up, one down
          for (double b : {1 + step, 1 / (1 + step)}) {
            plan::ClockPart q = best;
            q.ns[i] *= a, q.ns[j] *= b;
            attempt(q);
          }
      }
    if (!better) step /= 2;
  }
  for (double& x : best.ns) x = std::round(x * 1000) / 1000;
  std::vector<double> ratios;
  for (const One& o : all) ratios.push_back(o.mhz / plan::clock_of(o.paths, best).mhz);
  std::sort(ratios.begin(), ratios.end());
  best.spread = {quantile(ratios, 0.05), quantile(ratios, 0.5), quantile(ratios, 0.95)};
  return best;
}

}  // namespace tandem::flow
