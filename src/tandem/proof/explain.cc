#include "tandem/proof/explain.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "tandem/base/file.h"
#include "tandem/base/hash.h"
#include "tandem/base/json.h"
#include "tandem/base/nearest.h"
#include "tandem/base/table.h"
#include "tandem/exec/exec.h"
#include "tandem/ir/op.h"

namespace tandem::proof {
namespace {
using I = std::int64_t;
using plan::StageKind;

std::vector<I> index_of(I element, const Shape& shape) {
  std::vector<I> at(shape.size());
  for (std::size_t d = shape.size(); d-- > 0;) {
    at[d] = element % shape[d];
    element /= shape[d];
  }
  return at;
}
std::string where_text(const FirstDifference& f) {
  std::string s;
  for (I i : f.index) s += (s.empty() ? "" : ", ") + std::to_string(i);
  return fmt::format("frame {} [{}]", f.frame, s.empty() ? std::to_string(f.element) : s);
}

// The frames, and what each layer must send: all of them.
Stimulus exact_streams(const plan::StageGraph& g, const ir::ExactProgram& p, const Tensor& frames, I most, const Cancel& cancel) {
  Stimulus s;
  exec::Executor x(p);
  const Shape want = p.buffers[static_cast<std::size_t>(p.inputs[0].buffer)].shape;
  if (frames.rank() == 0 || frames.size() / std::max<I>(1, frames.shape()[0]) != element_count(want))
    throw bad_input("the data's samples have shape {}, the model's input has {}", to_string(frames.shape()), to_string(want));
  const DType type = p.inputs[0].dtype;
  const Tensor data = frames.dtype() == type ? frames : frames.cast(type);
  for (I i = 0; i < std::min(most, frames.shape()[0]); ++i) {
    cancel.check();
    x.run({data.rows(i, i + 1).reshaped(want)});
    append_frame(s, g, x, true);
  }
  return s;
}

// Where a tie decides: the input of a quantiser is the first integer of a code, or the last one before it.
std::vector<bool> steps_of(const plan::Layer& l, const std::vector<std::vector<I>>& all) {
  std::vector<bool> on;
  if (l.kind != plan::LayerKind::requant || l.in[0] < -1) return on;
  const std::vector<I>& x = all[static_cast<std::size_t>(l.in[0] + 1)];
  const std::size_t period = l.tables.size();
  for (std::size_t j = 0; j < x.size(); ++j) {
    const ir::Thresholds& t = l.tables[j % period];
    const Int128 v = t.flip ? -Int128(x[j]) : Int128(x[j]);
    const auto at = std::lower_bound(t.t.begin(), t.t.end(), v);
    on.push_back(at != t.t.end() && (*at == v || *at == v + 1));
  }
  return on;
}

template <class T>
void measure(LayerDifference& r, std::span<const T> e, std::span<const T> a, I per) {
  const std::size_t n = std::min(e.size(), a.size());
  r.elements = static_cast<I>(e.size());
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (e[i] == a[i]) continue;
    const double d = std::abs(static_cast<double>(e[i]) - static_cast<double>(a[i]));
    ++r.differing;
    r.max = std::max(r.max, std::isfinite(d) ? d : std::numeric_limits<double>::infinity());
    sum += d;
    if (!r.first) {
      r.first = FirstDifference{};
      r.first->frame = static_cast<I>(i) / per;
      r.first->element = static_cast<I>(i) % per;
      r.first->expected = static_cast<double>(e[i]);
      r.first->actual = static_cast<double>(a[i]);
    }
  }
  r.mean = e.empty() ? 0 : sum / static_cast<double>(e.size());
}

// ---- signals --------------------------------------------------------------------------------------
struct Waves {
  const rtl::Design& d;
  const std::vector<Stream>& streams;
  const BenchRun& run;
  I from;                        // cycle of the first
  std::size_t focus;             // the stream to look at
  I at;                          // the cycle to look at
  std::vector<std::string> layer_of;  // names, by stream; empty: plumbing
};

std::string vcd_id(std::size_t i) {
  std::string s;
  do s += static_cast<char>('!' + i % 94), i /= 94;
  while (i);
  return s;
}
std::string binary(const std::vector<std::uint64_t>& words, I bits) {
  std::string s;
  for (I b = bits; b-- > 0;) s += (words[static_cast<std::size_t>(b / 64)] >> (b % 64)) & 1 ? '1' : '0';
  return s;
}

// Every stream of the top under the names that the RTL gives it. One cycle is ten time steps; TREADY and TVALID are those that
// decide at the clock's rising edge, in its middle.
std::string vcd_of(const Waves& w) {
  std::string t = fmt::format("$comment tandem: design {}, cycles from {} $end\n$timescale 1 ns $end\n$scope module top $end\n$scope module {} $end\n", w.d.hash, w.from, w.d.top);
  std::size_t id = 0;
  const std::string clock = vcd_id(id++);
  t += fmt::format("$var wire 1 {} clk $end\n", clock);
  struct Names { std::string data, valid, ready, last; };
  std::vector<Names> names;
  for (const Stream& s : w.streams) {
    Names n{vcd_id(id), vcd_id(id + 1), vcd_id(id + 2), s.last ? vcd_id(id + 3) : ""};
    id += 4;
    const I bits = s.shape.lanes * s.shape.bits;
    t += fmt::format("$var wire {} {} {}_tdata {}$end\n$var wire 1 {} {}_tvalid $end\n$var wire 1 {} {}_tready $end\n", bits, n.data, s.wire,
                     bits > 1 ? fmt::format("[{}:0] ", bits - 1) : "", n.valid, s.wire, n.ready, s.wire);
    if (s.last) t += fmt::format("$var wire 1 {} {}_tlast $end\n", n.last, s.wire);
    names.push_back(std::move(n));
  }
  t += "$upscope $end\n$upscope $end\n$enddefinitions $end\n";
  std::size_t cycles = 0;
  for (const auto& c : w.run.watched) cycles = std::max(cycles, c.size());
  std::map<std::string, std::string> held;
  const auto put = [&](const std::string& name, std::string value) {
    std::string& h = held[name];
    if (h == value) return;
    t += value + (value[0] == 'b' ? " " : "") + name + "\n";
    h = std::move(value);
  };
  for (std::size_t c = 0; c < cycles; ++c) {
    t += fmt::format("#{}\n0{}\n", (w.from + static_cast<I>(c)) * 10, clock);
    for (std::size_t k = 0; k < w.streams.size(); ++k) {
      if (c >= w.run.watched[k].size()) continue;
      const StreamCycle& x = w.run.watched[k][c];
      const I bits = w.streams[k].shape.lanes * w.streams[k].shape.bits;
      put(names[k].data, bits > 1 ? "b" + binary(x.data, bits) : binary(x.data, 1));
      put(names[k].valid, x.valid ? "1" : "0");
      put(names[k].ready, x.ready ? "1" : "0");
      if (w.streams[k].last) put(names[k].last, x.last ? "1" : "0");
    }
    t += fmt::format("#{}\n1{}\n", (w.from + static_cast<I>(c)) * 10 + 5, clock);
  }
  return t + fmt::format("#{}\n", (w.from + static_cast<I>(cycles)) * 10);
}

// The stream that differs and what its stage reads first, then all others in the order of the data.
std::string gtkw_of(const Waves& w) {
  std::string t = fmt::format("[*] tandem: design {}\n[dumpfile] \"first.vcd\"\n[savefile] \"first.gtkw\"\n[timestart] {}\n*-6.000000 {} -1 -1 -1\n[treeopen] top.\n[treeopen] top.{}.\n", w.d.hash,
                              w.from * 10, w.at * 10 + 5, w.d.top);
  std::vector<std::size_t> first{w.focus}, rest;
  const Stream& f = w.streams[w.focus];
  for (std::size_t k = 0; k < w.streams.size(); ++k) {
    if (k == w.focus) continue;
    (w.streams[k].reader >= 0 && w.streams[k].reader == f.stage ? first : rest).push_back(k);
  }
  const auto list = [&](const std::vector<std::size_t>& of) {
    for (std::size_t k : of) {
      const Stream& s = w.streams[k];
      const std::string name = fmt::format("top.{}.{}", w.d.top, s.wire);
      const I bits = s.shape.lanes * s.shape.bits;
      t += fmt::format("@200\n-{}{}\n@28\n{}_tvalid\n{}_tready\n", describe(w.d, s), w.layer_of[k].empty() ? "" : ": " + w.layer_of[k], name, name);
      if (s.last) t += fmt::format("{}_tlast\n", name);
      t += s.shape.lanes == 1 && s.shape.is_signed ? "@420\n" : s.shape.lanes == 1 ? "@24\n" : "@22\n";
      t += fmt::format("{}_tdata{}\n", name, bits > 1 ? fmt::format("[{}:0]", bits - 1) : "");
    }
  };
  t += fmt::format("@28\ntop.{}.clk\n", w.d.top);
  list(first);
  list(rest);
  return t;
}

report::Waveform wave_of(const Waves& w) {
  report::Waveform r;
  r.id = "first_difference";
  r.title = "Around the first difference";
  r.first_cycle = w.from;
  const Stream& f = w.streams[w.focus];
  r.summary = fmt::format("Cycle {}: {}. A beat passes in a cycle in which TVALID and TREADY are high; the data are element 0 of the beat.", w.at, describe(w.d, f));
  for (std::size_t k = 0; k < w.streams.size(); ++k) {
    if (k != w.focus && (w.streams[k].reader < 0 || w.streams[k].reader != f.stage)) continue;
    const Stream& s = w.streams[k];
    report::Signal valid{s.wire + "_tvalid", 1, {}}, ready{s.wire + "_tready", 1, {}}, data{s.wire + "_tdata[0]", std::max(2, s.shape.bits), {}};
    for (const StreamCycle& c : w.run.watched[k]) {
      valid.values.push_back(c.valid);
      ready.values.push_back(c.ready);
      data.values.push_back(c.valid ? std::optional<I>(unpack(s.shape, c.data.data(), 0)) : std::nullopt);
    }
    for (report::Signal* x : {&valid, &ready, &data}) r.signals.push_back(std::move(*x));
  }
  return r;
}

// ---- values of the graph -----------------------------------------------------------------------------
struct GraphValue {
  std::string name, node;
  Shape shape;                   // of one frame
  std::vector<double> expected, actual;
};

// Multiples of one unit, where all values are: then the experiments on integers apply.
std::optional<double> unit_of(const std::vector<double>& v) {
  std::vector<double> s(v);
  std::sort(s.begin(), s.end());
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t i = 1; i < s.size(); ++i)
    if (s[i] > s[i - 1]) least = std::min(least, s[i] - s[i - 1]);
  if (!std::isfinite(least) || least <= 0) return {};
  for (double x : s)
    if (std::abs(x / least) > 0x1p40 || std::abs(x / least - std::round(x / least)) > 1e-3) return {};
  return least;
}

LayerDifference compare(const GraphValue& v, const std::string& where) {
  LayerDifference r;
  r.layer = v.name;
  r.node = v.node;
  r.where = where;
  const I per = std::max<I>(1, element_count(v.shape));
  measure<double>(r, v.expected, v.actual, per);
  if (!r.first) return r;
  r.first->index = index_of(r.first->element, v.shape);
  double relative = 0;
  for (std::size_t i = 0; i < v.expected.size(); ++i)
    if (v.expected[i] != v.actual[i]) relative = std::max(relative, std::abs(v.expected[i] - v.actual[i]) / std::max(std::abs(v.expected[i]), std::abs(v.actual[i])));
  if (relative < 1e-5) {
    r.cause = {CauseKind::rounding, fmt::format("all {} elements that differ agree to {:.1e} of their value: rounding of floats", r.differing, relative)};
    return r;
  }
  // The actual side is ours: its values tell the step, and how far they may reach.
  const std::optional<double> unit = unit_of(v.actual);
  const auto codes = [&](const std::vector<double>& x, double u) {
    std::optional<std::vector<I>> n(std::in_place);
    for (double y : x) {
      const double k = y / u;
      if (!(std::abs(k) < 0x1p52)) return std::optional<std::vector<I>>();
      n->push_back(static_cast<I>(std::llround(k)));
    }
    return n;
  };
  if (!unit) {
    r.cause = {CauseKind::other, fmt::format("differences up to {:g} in {} of {} elements; the values have no common step", r.max, r.differing, r.elements)};
    return r;
  }
  const auto e = codes(v.expected, *unit), a = codes(v.actual, *unit);
  if (!e || !a) {
    r.cause = {CauseKind::range, fmt::format("values beyond 2^52 steps of {:g}", *unit)};
    return r;
  }
  if (*e == *a) {
    r.cause = {CauseKind::rounding, fmt::format("the same multiples of {:g}: rounding of floats", *unit)};
    return r;
  }
  const auto [lo, hi] = std::minmax_element(a->begin(), a->end());
  r.cause = find_cause(*e, *a, per, {.bits = 62, .is_signed = *lo < 0, .lo = *lo, .hi = *hi, .on_step = {}});
  r.cause.evidence += fmt::format(" (in steps of {:g})", *unit);
  return r;
}

// Every value of the graph with its node, in order, and what it is for each frame: exactly and in float32.
std::vector<GraphValue> graph_values(const ir::Graph& graph, const Tensor& frames, bool floats, const Cancel& cancel, const Archive* only = nullptr) {
  const ir::Graph g = ir::prepare(graph);
  std::vector<GraphValue> out;
  std::vector<ir::ValueId> ids;
  for (const ir::Node& n : g.nodes)
    for (ir::ValueId v : n.outputs) {
      if (v == ir::kNone || (only && !only->contains(g.values[static_cast<std::size_t>(v)].name))) continue;
      ids.push_back(v);
      out.push_back({g.values[static_cast<std::size_t>(v)].name, g.describe(n), {}, {}, {}});
    }
  if (g.inputs.size() != 1) throw Error(Exit::no, fmt::format("a model of one input can be explained, this one has {}", g.inputs.size()));
  Shape want;
  for (const ir::Dim& d : *g.values[static_cast<std::size_t>(g.inputs[0])].type.dims) want.push_back(d.n);
  if (frames.rank() == 0 || frames.size() / std::max<I>(1, frames.shape()[0]) != element_count(want))
    throw bad_input("the data's samples have shape {}, the model's input has {}", to_string(frames.shape()), to_string(want));
  const Tensor data = frames.cast(g.values[static_cast<std::size_t>(g.inputs[0])].type.dtype);
  for (I i = 0; i < frames.shape()[0]; ++i) {
    cancel.check();
    const std::vector<Tensor> x{data.rows(i, i + 1).reshaped(want)};
    std::vector<ir::LiteralValue> exact;
    ir::evaluate_literal(g, x, nullptr, &exact);
    std::vector<Tensor> f32;
    if (floats) ir::evaluate_float(g, x, &f32);
    for (std::size_t k = 0; k < ids.size(); ++k) {
      const ir::LiteralValue& v = exact[static_cast<std::size_t>(ids[k])];
      out[k].shape = v.shape.empty() ? v.shape : Shape(v.shape.begin() + 1, v.shape.end());
      if (v.exact)
        for (const Rational& q : v.q) out[k].actual.push_back(nearest_double(q));
      else out[k].actual.insert(out[k].actual.end(), v.f.begin(), v.f.end());
      if (!floats) continue;
      const Tensor& t = f32[static_cast<std::size_t>(ids[k])];
      for (I e = 0; e < t.size(); ++e) out[k].expected.push_back(t.at(e));
    }
  }
  return out;
}

}  // namespace

Explanation explain(const rtl::Design& d, const plan::StageGraph& g, const ir::ExactProgram& p, const Tensor& frames, const ExplainParams& params, const Cancel& cancel) {
  Explanation r;
  r.against = "Verilog";
  const Stimulus stimulus = exact_streams(g, p, frames, params.frames, cancel);
  const std::vector<std::vector<I>>& all = stimulus.layers;
  r.frames = static_cast<I>(stimulus.in.size()) / g.input.elements;
  const std::vector<Stream> streams = streams_of(d);
  std::vector<std::string> layer_of;
  for (const Stream& s : streams) {
    const int l = s.stage >= 0 && d.stages[static_cast<std::size_t>(s.stage)].layer >= 0 ? d.stages[static_cast<std::size_t>(s.stage)].layer : -1;
    layer_of.push_back(l < 0 ? "" : fmt::format("{} ({})", g.layers[static_cast<std::size_t>(l)].name, g.layers[static_cast<std::size_t>(l)].node));
  }
  double cycles = 0;
  for (const double stall : params.stalls) cycles += expected_cycles(d, r.frames, stall);
  Bench bench({&d, 1}, {BenchForm::Taps::all, true, cycles < kBriefCycles}, params.seconds, cancel);
  BenchParams b;
  b.seed = params.seed;
  b.nonce = fnv1a(d.hash, params.seed);
  b.patience = patience_for({&d, 1}, 20000);
  b.seconds = params.seconds;
  for (double stall : params.stalls) {
    b.stall = r.stall = stall;
    b.watch_cycles = 0;
    const BenchRun run = bench.run({&stimulus, 1}, b, cancel)[0];
    r.layers.clear();
    VerifyResult judged;
    judged.frames = r.frames;
    judge(d, stimulus, run, stall == 0, b, judged);
    r.fault = judged.fault;
    std::size_t focus = streams.size();
    I cycle = -1;
    std::vector<bool> wrong(streams.size(), false);
    for (std::size_t k = 0; k < streams.size(); ++k) {
      const int source = streams[k].source;
      if (source < 0) continue;
      const std::vector<I>& e = all[static_cast<std::size_t>(source)];
      const bool input = source == 0;
      const plan::Layer* layer = input ? nullptr : &g.layers[static_cast<std::size_t>(source - 1)];
      if (layer && layer->buffer < 0) continue;
      const plan::Values& v = input ? g.input : layer->out;
      const I per = v.elements;
      const StreamRecord& tap = run.taps[k];
      LayerDifference row;
      row.layer = input ? g.input_port : layer->name;
      row.node = input ? "the design's input" : layer->node;
      row.where = streams[k].stage < 0 ? fmt::format("wire {}.in", d.top) : fmt::format("{}, wire {}.{}", d.modules[static_cast<std::size_t>(streams[k].stage)], d.top, streams[k].wire);
      measure<I>(row, e, tap.elements, per);
      wrong[k] = row.differing > 0 || tap.elements.size() != e.size();
      // A queue, a converter or a fork is shown where it is the one to blame.
      const bool plumbing = streams[k].stage >= 0 && d.stages[static_cast<std::size_t>(streams[k].stage)].layer < 0;
      if (plumbing) {
        const plan::StageShape& x = d.stages[static_cast<std::size_t>(streams[k].stage)];
        bool before = false;
        for (std::size_t j = 0; j < k; ++j) before = before || (streams[j].stage == x.in[0] && streams[j].port == x.in_port[0] && wrong[j]);
        if (!wrong[k] || before) continue;
        row.layer += fmt::format(", {} behind it", stage_def(x.kind).name);
      }
      if (wrong[k]) {
        CauseContext c{v.bits, v.is_signed, v.lo, v.hi, layer && !plumbing ? steps_of(*layer, all) : std::vector<bool>{}};
        row.cause = find_cause(e, tap.elements, per, c);
        std::size_t at = std::min(tap.elements.size(), e.size());
        if (row.first) {
          at = static_cast<std::size_t>(row.first->frame * per + row.first->element);
          row.first->element = v.order[static_cast<std::size_t>(row.first->element)];
          const Shape full = input ? g.input_shape : p.buffers[static_cast<std::size_t>(layer->buffer)].shape;
          row.first->index = index_of(row.first->element, input || full.size() < 2 ? full : Shape(full.begin() + 1, full.end()));
          row.first->cycle = tap.cycles[at / static_cast<std::size_t>(streams[k].shape.lanes)];
        }
        if (focus == streams.size()) {
          focus = k;
          cycle = row.first ? row.first->cycle : tap.cycles.empty() ? run.cycles : tap.cycles.back();
        }
      }
      r.layers.push_back(std::move(row));
    }
    if (focus == streams.size() && !r.fault.empty()) {  // the values are right, the protocol is not
      for (std::size_t k = streams.size(); k-- > 0;)
        if (run.streams[k]) focus = k;
      if (focus == streams.size()) focus = streams.size() - 1;
      cycle = run.stream_fault_cycle >= 0 ? run.stream_fault_cycle : run.cycles;
    }
    if (focus == streams.size()) continue;
    b.watch_from = std::max<I>(0, cycle - params.around);
    b.watch_cycles = cycle - b.watch_from + params.around + 1;
    const BenchRun watched = bench.run({&stimulus, 1}, b, cancel)[0];
    const Waves w{d, streams, watched, b.watch_from, focus, cycle, layer_of};
    r.vcd = vcd_of(w);
    r.gtkw = gtkw_of(w);
    r.wave = wave_of(w);
    break;
  }
  return r;
}

Explanation explain_values(const ir::Graph& graph, const Tensor& frames, const Archive& expected, const Cancel& cancel) {
  Explanation r;
  r.against = "the values given";
  std::vector<std::string> names;
  for (const ir::Value& v : graph.values) names.push_back(v.name);
  for (const auto& [name, t] : expected) {
    if (std::find(names.begin(), names.end(), name) == names.end())
      throw bad_input("the model has no value '{}'", printable(name)).expected("arrays named as the model's values").fix(suggest(name, names));
    if (t.rank() == 0 || t.shape()[0] < 1) throw bad_input("array '{}' has no axis of frames", printable(name)).expected("[frames, ...]");
  }
  I n = frames.rank() ? frames.shape()[0] : 0;
  for (const auto& [name, t] : expected) n = std::min(n, t.shape()[0]);
  r.frames = n;
  std::vector<GraphValue> values = graph_values(graph, n < frames.shape()[0] ? frames.rows(0, n) : frames, false, cancel, &expected);
  for (GraphValue& v : values) {
    const Tensor& t = expected.at(v.name);
    const I per = t.size() / t.shape()[0];
    if (per != element_count(v.shape))
      throw bad_input("array '{}' has {} elements a frame, the model's value has shape {}", printable(v.name), per, to_string(v.shape)).expected(fmt::format("[{}, ...]", frames.shape()[0]));
    for (I e = 0; e < n * per; ++e) v.expected.push_back(t.at(e));
    r.layers.push_back(compare(v, ""));
  }
  if (values.size() != expected.size()) throw bad_input("some of the arrays are inputs or constants of the model").expected("arrays named as the results of its nodes");
  return r;
}

Explanation explain_float(const ir::Graph& graph, const Tensor& frames, const Cancel& cancel) {
  Explanation r;
  r.against = "float32";
  r.frames = frames.rank() ? frames.shape()[0] : 0;
  for (const GraphValue& v : graph_values(graph, frames, true, cancel)) r.layers.push_back(compare(v, ""));
  return r;
}

bool Explanation::equal() const { return fault.empty() && !first(); }
const LayerDifference* Explanation::first() const {
  for (const LayerDifference& l : layers)
    if (l.differing > 0 || l.cause.kind != CauseKind::none) return &l;
  return nullptr;
}

std::string Explanation::text() const {
  Table t;
  t.columns = {{"layer"}, {"elements", true}, {"differ", true}, {"share", true}, {"max", true}, {"mean", true}, {"first"}, {"expected", true}, {"actual", true}, {"cause"}};
  for (const LayerDifference& l : layers)
    t.add({l.layer, grouped(l.elements), grouped(l.differing), l.elements ? fmt::format("{:.2f} %", 100.0 * static_cast<double>(l.differing) / static_cast<double>(l.elements)) : "",
           fmt::format("{:g}", l.max), fmt::format("{:.3g}", l.mean), l.first ? where_text(*l.first) : "", l.first ? fmt::format("{:g}", l.first->expected) : "",
           l.first ? fmt::format("{:g}", l.first->actual) : "", std::string(name_of(l.cause.kind))});
  std::string s = fmt::format("{} frames against {}{}\n\n{}\n", frames, against, against == "Verilog" ? fmt::format(", stall probability {}", stall) : "", render(t, TableStyle::text));
  if (const LayerDifference* l = first()) {
    s += fmt::format("first: {} ({}{})", l->layer, l->node, l->where.empty() ? "" : "; " + l->where);
    if (l->first) s += fmt::format(", {}: expected {:g}, got {:g}{}", where_text(*l->first), l->first->expected, l->first->actual, l->first->cycle >= 0 ? fmt::format(", cycle {}", l->first->cycle) : "");
    s += fmt::format("\ncause: {}: {}\n", name_of(l->cause.kind), l->cause.evidence);
  } else if (fault.empty()) {
    s += "equal: nothing to explain\n";
  }
  if (!fault.empty()) s += "fault: " + fault + "\n";
  return s;
}

std::string to_json(const Explanation& e) {
  JsonWriter j;
  j.object().field("against", e.against).field("equal", e.equal()).field("frames", e.frames).field("stall", e.stall).field("fault", e.fault).key("layers").array();
  for (const LayerDifference& l : e.layers) {
    j.object().field("layer", l.layer).field("node", l.node).field("where", l.where).field("elements", l.elements).field("differing", l.differing).field("max", l.max).field("mean", l.mean);
    if (l.first)
      j.key("first").object().field("frame", l.first->frame).field("element", l.first->element).field("index", l.first->index).field("expected", l.first->expected).field("actual", l.first->actual)
          .field("cycle", l.first->cycle).end();
    j.field("cause", std::string(name_of(l.cause.kind))).field("evidence", l.cause.evidence).end();
  }
  return j.end().end().text();
}

std::vector<std::filesystem::path> write_waves(const Explanation& e, const std::filesystem::path& folder) {
  if (e.vcd.empty()) return {};
  std::filesystem::create_directories(folder);
  write_file(folder / "first.vcd", e.vcd);
  write_file(folder / "first.gtkw", e.gtkw);
  return {folder / "first.vcd", folder / "first.gtkw"};
}

}  // namespace tandem::proof
