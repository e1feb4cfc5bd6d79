#include "tandem/proof/verify.h"

#include <algorithm>

#include "tandem/base/hash.h"

namespace tandem::proof {
namespace {
using I = std::int64_t;

// The cycles of the run without stalls against those of the twins; "" where they agree.
std::string timing_fault(const plan::Timing& t, const BenchRun& run) {
  if (!t.known) return "";
  const I latency = run.first_out - run.first_in;
  if (t.deadlock || t.latency() != latency)
    return fmt::format("cycles to the first output beat: predicted {}, simulated {}", t.deadlock ? "a deadlock" : std::to_string(t.latency()), latency);
  for (std::size_t f = 0; f < run.ends.size(); ++f)
    if (t.end(static_cast<I>(f)) != run.ends[f]) return fmt::format("cycle of the end of frame {}: predicted {}, simulated {}", f, t.end(static_cast<I>(f)), run.ends[f]);
  return "";
}

std::vector<double> runs_of(const VerifyOptions& o) {
  std::vector<double> runs{0};
  runs.insert(runs.end(), o.stalls.begin(), o.stalls.end());
  return runs;
}
// Of all runs of a design.
double cycles_of(const rtl::Design& d, const Stimulus& s, const VerifyOptions& o) {
  const I frames = static_cast<I>(s.in.size()) / elements_of(d.in);
  double cycles = 0;
  for (const double stall : runs_of(o)) cycles += expected_cycles(d, stall > 0 ? std::min(o.stall_frames, frames) : frames, stall);
  return cycles;
}

// One model of up to designs_per_model designs, all of them brief or none.
void verify_group(std::span<const rtl::Design> designs, std::span<const Stimulus> stimuli, const VerifyOptions& o, bool brief,
                  std::uint64_t group, std::span<VerifyResult> results, const Cancel& cancel) {
  const std::vector<double> runs = runs_of(o);
  for (std::size_t i = 0; i < designs.size(); ++i) {
    results[i].ok = true;
    results[i].frames = static_cast<I>(stimuli[i].in.size()) / elements_of(designs[i].in);
  }
  const bool inside = std::any_of(stimuli.begin(), stimuli.end(), [](const Stimulus& s) { return !s.layers.empty(); });
  Bench bench(designs, {inside ? BenchForm::Taps::results : BenchForm::Taps::none, !o.stalls.empty(), brief}, o.seconds, cancel);
  for (VerifyResult& r : results) r.tool = bench.model().tool;
  BenchParams p;
  p.patience = patience_for(designs, o.patience);
  p.seconds = o.seconds;
  for (std::size_t r = 0; r < runs.size(); ++r) {
    p.stall = runs[r];
    p.nonce = fnv1a(fmt::format("{} {} {} {}", o.seed, group, r, designs[0].hash));
    p.seed = o.seed + group * 1000 + r;
    p.frames = r ? o.stall_frames : 0;
    p.trace_cycles = r + 1 == std::min<std::size_t>(2, runs.size()) ? o.trace_cycles : 0;
    const std::vector<BenchRun> ran = bench.run(stimuli, p, cancel);
    for (std::size_t i = 0; i < designs.size(); ++i) judge(designs[i], stimuli[i], ran[i], r == 0, p, results[i]);
  }
}

}  // namespace

// Idle cycles that no stage may take: its slowest part between two outputs.
std::int64_t patience_for(std::span<const rtl::Design> designs, std::int64_t least) {
  I patience = least;
  for (const rtl::Design& d : designs)
    for (const plan::StageShape& s : d.stages) patience = std::max(patience, 4 * stage_def(s.kind).cycles(s));
  return patience;
}

void judge(const rtl::Design& d, const Stimulus& stimulus, const BenchRun& run, bool unstalled, const BenchParams& p, VerifyResult& v) {
  for (std::size_t c = 0; c + 2 < run.trace.size(); c += 3) {
    v.trace_first = run.trace_first;
    v.trace_stall = p.stall;
    const std::uint64_t f = run.trace[c];
    v.trace.push_back({(f & 1) != 0, (f & 2) != 0, (f & 4) != 0, (f & 8) != 0, unpack(d.in, &run.trace[c + 1], 0), unpack(d.out, &run.trace[c + 2], 0)});
  }
  std::string fault = fault_text(run.fault);
  const std::vector<Stream> streams = streams_of(d);
  for (std::size_t k = 0; k < run.streams.size(); ++k)
    if (run.streams[k]) {
      fault += fmt::format("{}{}: {}", fault.empty() ? "" : "; ", describe(d, streams[k]), stream_fault_text(run.streams[k]));
      break;  // the first in stream order: others follow from it
    }
  if (!fault.empty()) {
    v.ok = false;
    if (v.fault.empty()) v.fault = fault;
  }
  for (std::size_t k = 0; k < streams.size(); ++k) {
    const std::size_t source = static_cast<std::size_t>(std::max(0, streams[k].source));
    if (source < 1 || source >= stimulus.layers.size() || k >= run.taps.size()) continue;
    const std::vector<I>&want = stimulus.layers[source], &got = run.taps[k].elements;
    const I per = elements_of(streams[k].shape);
    const std::size_t n = std::min(want.size(), got.size());
    v.inside_words += static_cast<I>(n);
    const std::size_t at = static_cast<std::size_t>(std::mismatch(want.begin(), want.begin() + static_cast<std::ptrdiff_t>(n), got.begin()).first - want.begin());
    if (at == n) continue;
    v.ok = false;
    if (v.inside.empty())
      v.inside = fmt::format("{}: frame {}, element {} (stall probability {}): expected {}, got {}", describe(d, streams[k]), static_cast<I>(at) / per, static_cast<I>(at) % per, p.stall, want[at], got[at]);
  }
  if (unstalled) {
    v.cycles = run.cycles;
    v.latency = run.first_out - run.first_in;
    // Steady state: the second half of the frames.
    const std::size_t ends = run.ends.size();
    if (ends >= 4) v.interval = static_cast<double>(run.ends[ends - 1] - run.ends[ends / 2]) / static_cast<double>(ends - 1 - ends / 2);
    v.predicted = plan::simulate(d.stages, {.frames = v.frames});
    if (const std::string t = run.fault ? "" : timing_fault(v.predicted, run); !t.empty()) {
      v.ok = false;
      v.fault = t;
    }
  }
  const I n = elements_of(d.out), frames = p.frames ? std::min(v.frames, p.frames) : v.frames;
  if (run.beats != frames * d.out.beats && !run.fault) {
    v.ok = false;
    v.fault = fmt::format("{} beats instead of {}", run.beats, frames * d.out.beats);
  }
  for (I e = 0; e < std::min(run.beats, frames * d.out.beats) * d.out.lanes; ++e) {
    const I y = run.got[static_cast<std::size_t>(e)], want = stimulus.expected[static_cast<std::size_t>(e)];
    ++v.words;
    if (y == want) continue;
    v.ok = false;
    ++v.mismatches;
    if (!v.first) v.first = Divergence{e / n, e % n, want, y, p.stall};
  }
}

std::vector<VerifyResult> verify(std::span<const rtl::Design> designs, std::span<const Stimulus> stimuli, const VerifyOptions& o, const Cancel& cancel) {
  TANDEM_CHECK(designs.size() == stimuli.size(), "{} designs, {} stimuli", designs.size(), stimuli.size());
  std::vector<VerifyResult> r(designs.size());
  std::uint64_t group = 0;
  const auto in_groups = [&](std::span<const rtl::Design> d, std::span<const Stimulus> s, bool brief, std::span<VerifyResult> to) {
    const std::size_t step = static_cast<std::size_t>(std::max<I>(1, o.designs_per_model));
    for (std::size_t i = 0; i < d.size(); i += step) {
      const std::size_t n = std::min(step, d.size() - i);
      verify_group(d.subspan(i, n), s.subspan(i, n), o, brief, group++, to.subspan(i, n), cancel);
    }
  };
  // All designs of a model run for as long as the longest, and are compiled alike: brief ones and others do not share one.
  std::vector<std::size_t> of[2];
  for (std::size_t i = 0; i < designs.size(); ++i) of[cycles_of(designs[i], stimuli[i], o) < kBriefCycles].push_back(i);
  if (of[0].empty() || of[1].empty()) {
    in_groups(designs, stimuli, of[0].empty(), r);
    return r;
  }
  for (const bool brief : {true, false}) {
    std::vector<rtl::Design> d;
    std::vector<Stimulus> s;
    for (std::size_t i : of[brief]) d.push_back(designs[i]), s.push_back(stimuli[i]);
    std::vector<VerifyResult> found(d.size());
    in_groups(d, s, brief, found);
    for (std::size_t k = 0; k < found.size(); ++k) r[of[brief][k]] = std::move(found[k]);
  }
  return r;
}

Metric VerifyResult::interval_metric() const {
  return {interval, "cycles", Fidelity::rtl_simulated, fmt::format("{}, {} frames without stalls", tool, frames), {}, {}};
}
Metric VerifyResult::latency_metric() const {
  return {static_cast<double>(latency), "cycles", Fidelity::rtl_simulated, fmt::format("{}, first input beat to first output beat", tool), {}, {}};
}
std::string VerifyResult::text() const {
  std::string s = fmt::format("{} frames, {} words compared, {} mismatches", frames, words, mismatches);
  if (first)
    s += fmt::format("; first at frame {}, element {} (stall probability {}): expected {}, got {}", first->frame, first->element, first->stall, first->expected, first->actual);
  if (!inside.empty()) s += "; inside first at " + inside;
  if (!fault.empty()) s += "; " + fault;
  return s;
}

}  // namespace tandem::proof
