#include <algorithm>
#include <memory>

#include "tandem/base/progress.h"
#include "tandem/cli/command.h"
#include "tandem/flow/calibrate.h"
#include "tandem/flow/clocks.h"
#include "tandem/hardware/target.h"

namespace tandem::cli {
namespace {

Exit clocks(Context& c, const std::string& name, std::int64_t networks) {
  const hardware::Target target = hardware::find_target(name);
  const auto parts = plan::clock_parts();
  const auto part = std::find_if(parts.begin(), parts.end(), [&](const plan::ClockPart& p) { return p.device == target.device; });
  if (part == parts.end()) throw Error(Exit::no, fmt::format("clocks of '{}' are not estimated", target.name)).expected("an iCE40 target").fix("--target hx8k or up5k");
  std::vector<flow::ClockSample> samples;
  Progress progress("calibrate", static_cast<std::uint64_t>(2 * networks));
  // Numbers away from those that estimates and clocks are judged by.
  for (const std::int64_t first : {flow::kClockFit, flow::kForms + flow::kClockFit})
    for (std::int64_t i = 0, got = 0; got < networks; ++i) {
      auto s = flow::place_sample(target, first + i, 1, 250, 1300, *c.cancel);
      if (!s) continue;
      s->fitted = true;
      samples.push_back(std::move(*s));
      ++got;
      progress.update(samples.size(), fmt::format("network {}", first + i));
    }
  progress.finish();
  const plan::ClockPart p = flow::fit_clock(samples, *part);
  if (c.json) {
    JsonWriter j;
    j.object().field("target", name).field("device", std::string(p.device)).field("networks", static_cast<std::int64_t>(samples.size()));
    j.field("ns", std::vector<double>(p.ns.begin(), p.ns.end())).field("spread", std::vector<double>{p.spread.low, p.spread.middle, p.spread.high});
    j.key("samples").array();
    for (const flow::ClockSample& s : samples) j.object().field("network", s.network).field("lut4", s.lut).field("mhz", s.median()).end();
    c.print(j.end().end());
  } else {
    for (const flow::ClockSample& s : samples) c.print(flow::to_line(s) + "\n");
    c.print(flow::to_text(p));
  }
  return Exit::done;
}

Run setup(Options& o) {
  struct Args {
    std::string target = "xcup";
    std::int64_t networks = 40;
    bool clock = false;
  };
  auto a = std::make_shared<Args>();
  o.option("--target", a->target, "Device whose family is calibrated (default xcup)");
  o.option("--networks", a->networks, "How many random networks of each sort: chains; with branches, moves and every form of the matrix unit; single layers; requantised channels (default 40)");
  o.flag("--clock", a->clock, "Fit the estimate of Fmax instead (iCE40): the networks are placed, those of about 250 to 1,300 LUTs");
  return [a](Context& c) {
    if (a->networks < 1 || a->networks > 10000) throw bad_input("--networks is {}", a->networks).expected("1 to 10000");
    const plan::Family family = plan::family_of(hardware::find_target(a->target).family);
    if (a->clock) return clocks(c, a->target, a->networks);
    std::vector<flow::StageSample> samples;
    std::string tool;
    constexpr std::int64_t kGroup = 10;
    Progress progress("calibrate", static_cast<std::uint64_t>(a->networks));
    for (std::int64_t i = 0; i < a->networks; i += kGroup) {
      const std::int64_t n = std::min(kGroup, a->networks - i);
      for (const std::int64_t first : {i, flow::kForms + i, flow::kLayers + i, flow::kChannels + i})
        for (auto& s : flow::sample_stages(family, c.seed, first, n, &tool, *c.cancel)) samples.push_back(s);
      progress.update(static_cast<std::uint64_t>(i + n), fmt::format("{} stages", samples.size()));
    }
    progress.finish();
    flow::CalibrationFit f = flow::fit(samples, plan::calibration(family));
    f.tool = tool;
    if (c.json) {
      JsonWriter j;
      j.object().field("target", a->target).field("tool", f.tool).field("networks", a->networks).field("seed", c.seed).field("stages", f.samples).field("bram_differs", f.bram_differs).field("dsp_differs", f.dsp_differs);
      j.key("kinds").array();
      for (const flow::KindFit& k : f.kinds)
        j.object().field("kind", plan::stage_def(k.kind).name).field("samples", k.samples).field("median_error", k.median_error).field("largest_error", k.largest_error)
            .field("coefficients", std::vector<double>(k.lut.begin(), k.lut.end())).field("ff", std::vector<double>(k.ff.begin(), k.ff.end())).end();
      c.print(j.end().end());
    } else {
      c.print(flow::rows_text(f));
      c.print(fmt::format("{} stages of {} networks, seed {}, {}; block RAMs differ from the rule in {}, DSPs in {}\n", f.samples, a->networks, c.seed, f.tool, f.bram_differs, f.dsp_differs));
    }
    return Exit::done;
  };
}

}  // namespace

extern const Command cmd_calibrate;
const Command cmd_calibrate{
    .name = "calibrate",
    .group = "Trust",
    .summary = "Fit the closed forms of LUTs to this machine's yosys, that of Fmax to its nextpnr",
    .description = "Random networks are folded and generated, every distinct stage is synthesised alone, and the coefficients of the closed forms of LUTs (gates of "
                   "standard cells) and flip-flops are fitted to the counts (least relative errors, none negative). Prints the rows of plan/calibration.cc with their errors: "
                   "how far `build` may be off before synthesis. With --clock networks are placed, and the row of plan/clock.cc is fitted: nanoseconds of what lies on "
                   "the slowest path.",
    .examples = {{"tandem calibrate --target up5k --networks 1", "yosys"}, {"tandem calibrate --target xcup --networks 1 --json", "yosys"},
                 {"tandem calibrate --target hx8k --clock --networks 1", "yosys nextpnr-ice40"}},
    .setup = setup,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["target", "networks"],
  "properties": {"ns": {"type": "array", "items": {"type": "number"}}, "kinds": {"type": "array", "items": {"type": "object", "required": ["kind", "samples", "median_error", "largest_error", "coefficients"]}}}
}
)"};

}  // namespace tandem::cli
