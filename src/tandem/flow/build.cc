#include "tandem/flow/build.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>

#include "tandem/flow/precision.h"
#include "tandem/flow/report.h"
#include "tandem/base/file.h"
#include "tandem/base/json.h"
#include "tandem/base/machine.h"
#include "tandem/base/rng.h"
#include "tandem/base/table.h"
#include "tandem/exec/exec.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"
#include "tandem/map/folding.h"
#include "tandem/map/optimise.h"
#include "tandem/map/queues.h"
#include "tandem/map/multipliers.h"
#include "tandem/plan/clock.h"
#include "tandem/plan/constants.h"
#include "tandem/numerics/format.h"
#include "tandem/plan/timing.h"
#include "tandem/proof/rewritten.h"
#include "tandem/rtl/registers.h"
#include "tandem/tensor/npy.h"
#include "tandem/tool/liberty.h"
#include "tandem/tool/work.h"

namespace tandem::flow {
namespace {
using I = std::int64_t;
namespace fs = std::filesystem;

double seconds_since(std::chrono::steady_clock::time_point t) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
}

// Random values that reach every code of the design's input.
Tensor random_frames(const ir::ExactProgram& p, const plan::StageGraph& g, I n, std::uint64_t seed) {
  const ir::Port& port = p.inputs[0];
  const ir::Buffer& b = p.buffers[static_cast<std::size_t>(port.buffer)];
  Shape s{n};
  s.insert(s.end(), b.shape.begin() + 1, b.shape.end());
  Tensor t(port.dtype, s);
  Rational scale = 1;
  for (const ir::Step& st : p.steps)
    if (auto* q = std::get_if<ir::QuantizeFloat>(&st.params); q && st.out == g.input_buffer && !q->cast.casts.empty()) scale = q->cast.casts[0].scale;
  Rng r(seed, "frames");
  for (I i = 0; i < t.size(); ++i)
    t.set(i, nearest_double(scale * Rational(static_cast<long>(r.range(g.input.lo, g.input.hi)))));
  return t;
}

// Rough, measured on two processors of a server: a Verilator model compiled and run, yosys and nextpnr on iCE40, yosys on
// the stages of xcup. Seconds; per LUT and cycle; per LUT.
constexpr double kCompile = 1.2, kSimulate = 5e-10, kPlace = 4, kPlaceLut = 0.008, kStages = 5, kStageLut = 0.003;
constexpr double kModelBytes = 8e6, kNetlistBytes = 4000;

constexpr I kRewrittenFrames = 64;

// The closed forms count gates of tandem45, whose flip-flops are of so many. Libraries differ most in these.
constexpr double kFlipFlopGates = 4.522 / 0.798;
// Of a target's library: of its smallest flip-flop. That of tandem45 where the library is not on this machine.
double flip_flop_gates(const hardware::Target& t) {
  std::string text;
  try {
    text = read_file(hardware::liberty_file(t));
  } catch (const Error& e) {
    if (e.code() != Exit::tool_missing) throw;
    return kFlipFlopGates;
  }
  const tool::Liberty l = tool::read_liberty(text, t.liberty);
  double least = 0;
  for (const auto& [name, c] : l.cells)
    if (!c.next_state.empty() && !c.other && (least == 0 || c.area < least)) least = c.area;
  return least > 0 ? least / l.gate_area : kFlipFlopGates;
}

struct Exact {
  ir::ExactProgram program;
  plan::StageGraph stages;
};
Exact lower(const ir::Graph& g, std::string_view name) {
  Exact e{ir::lower_exact(g, 64), {}};
  e.stages = plan::stages_from(e.program, name);
  return e;
}

// The graph's output from the words of all frames: the host's last step, scale and offset of the carrier.
Tensor output_values(const Exact& e, const std::vector<I>& words) {
  const ir::Port& port = e.program.outputs[0];
  Shape shape = e.program.buffers[static_cast<std::size_t>(e.stages.output_buffer)].shape;
  const std::size_t per = static_cast<std::size_t>(element_count(shape)), n = words.size() / per;
  Shape all = shape;
  all[0] = static_cast<I>(n);
  if (!port.exact) {  // a float tail stays on the host: the words themselves
    Tensor t(DType::i64, all);
    std::copy(words.begin(), words.end(), t.data<I>());
    return t;
  }
  Tensor t(port.dtype, all);
  for (std::size_t f = 0; f < n; ++f) {
    const std::vector<Int128> frame(words.begin() + static_cast<std::ptrdiff_t>(f * per), words.begin() + static_cast<std::ptrdiff_t>((f + 1) * per));
    const auto x = ir::carrier_values(port.carrier, shape, frame);
    for (std::size_t k = 0; k < per; ++k) {
      const I at = static_cast<I>(f * per + k);
      if (port.dtype == DType::f32) t.data<float>()[at] = nearest_float(x[k]);
      else t.set(at, nearest_double(x[k]));
    }
  }
  return t;
}

// Every frame through exec: what the hardware receives and what it must send.
proof::Stimulus exact_frames(const Exact& e, const Tensor& frames, std::vector<I>* logical, const Cancel& cancel) {
  proof::Stimulus s;
  exec::Executor x(e.program);
  const Shape want = e.program.buffers[static_cast<std::size_t>(e.program.inputs[0].buffer)].shape;
  Shape row = frames.shape();
  if (row.empty()) throw bad_input("the data has no axis of samples");
  const I n = row[0];
  row[0] = 1;
  if (element_count(row) != element_count(want))
    throw bad_input("the data's samples have shape {}, the model's input has {}", to_string(frames.shape()), to_string(want));
  const DType type = e.program.inputs[0].dtype;
  const Tensor all = frames.dtype() == type ? frames : frames.cast(type);
  for (I i = 0; i < n; ++i) {
    cancel.check();
    x.run({all.rows(i, i + 1).reshaped(want)});
    proof::append_frame(s, e.stages, x, proof::look_inside(e.stages, i));
    if (!logical) continue;
    const std::vector<I> y = x.integers(e.stages.output_buffer);
    logical->insert(logical->end(), y.begin(), y.end());
  }
  return s;
}

std::string shape_text(const Shape& s) {
  std::string r;
  for (I d : s) r += (r.empty() ? "" : "x") + std::to_string(d);
  return r.empty() ? "1" : r;
}

report::Waveform waveform(const proof::VerifyResult& v, const plan::StageGraph& g) {
  report::Waveform w;
  w.id = "wave";
  w.title = "Both streams around the first output";
  w.summary = fmt::format("Recorded in the run in which either side stalls with probability {}. A beat passes in a cycle in which TVALID and TREADY are high; the data are element 0 of the beat.", v.trace_stall);
  w.first_cycle = v.trace_first;
  w.signals = {{"s_axis_tvalid", 1, {}}, {"s_axis_tready", 1, {}}, {"s_axis_tdata[0]", std::max(2, g.input.bits), {}},
               {"m_axis_tvalid", 1, {}}, {"m_axis_tready", 1, {}}, {"m_axis_tdata[0]", std::max(2, g.output.bits), {}}};
  for (const proof::TracedCycle& c : v.trace) {
    w.signals[0].values.push_back(c.in_valid);
    w.signals[1].values.push_back(c.in_ready);
    w.signals[2].values.push_back(c.in_valid ? std::optional<I>(c.in) : std::nullopt);
    w.signals[3].values.push_back(c.out_valid);
    w.signals[4].values.push_back(c.out_ready);
    w.signals[5].values.push_back(c.out_valid ? std::optional<I>(c.out) : std::nullopt);
  }
  return w;
}

std::string driver_text(const BuildResult& r, const plan::StageGraph& g, const rtl::Design& d) {
  std::string t = fmt::format("# Driving {}\n\nDesign {}. ", r.name, d.hash);
  t += "A frame goes in as a stream of integer codes and comes out as a stream of integers, element 0 of a beat in the low bits.\n\n";
  auto port = [&](std::string_view what, const std::string& name, const Shape& s, const plan::Values& v, const rtl::StreamPort& p) {
    t += fmt::format("- {}: `{}`, shape {}, {} {}-bit elements from {} to {}; {} beats a frame of {} lanes, TDATA {} bits{}\n", what, name,
                     shape_text(s), v.is_signed ? "signed" : "unsigned", v.bits, v.lo, v.hi, p.beats, p.lanes, p.width(),
                     s.size() == 3 ? "; order: row, column, channel (channels fastest)" : "");
  };
  port("in", g.input_port, g.input_shape, g.input, d.in);
  port("out", g.output_port, g.output_shape, g.output, d.out);
  t += "\nOver serial8 (UART 115200 8N1) each beat is its TDATA in bytes, least significant first.\n\n## On the host\n";
  for (const std::string& h : r.host) t += "- " + h + "\n";
  if (r.host.empty()) t += "- nothing\n";
  return t;
}

// Why a contraction on floats cannot be built, and the line that would make it buildable.
Error on_floats(const ir::Graph& model, const BuildParams& p, const std::string& node) {
  Error e(Exit::no, fmt::format("{} works on floats: hardware works on integer codes", node));
  const bool quantised = std::any_of(model.nodes.begin(), model.nodes.end(), [](const ir::Node& n) {
    const ir::OpDef* op = ir::find_op(n.domain, n.op);
    return op && op->closure == ir::Closure::quantiser;
  });
  if (!quantised) return e.expected("a quantised model").fix(fmt::format("`{}`, or on the way `{}`; `tandem train RECIPE` loses less", quantize_line(p.model_file, p.data, false), quantize_line(p.model_file, p.data, true)));
  return e.expected("an input with a format").fix("add " + proposed_input_format(model) + " to this line");
}

Error folder_error(const fs::path& f, std::string what) { return bad_input("{}", what).at(f.string()).fix("give a folder written by `tandem build`"); }

}  // namespace

std::string quantize_line(const std::string& model, const std::string& data, bool build) {
  const auto word = [](const std::string& w, const char* placeholder) { return w.empty() ? std::string(placeholder) : shell_word(w); };
  const std::string m = word(model, "MODEL"), d = word(data, "DATA");
  return build ? fmt::format("tandem build {} --quantize int8 --data {}", m, d) : fmt::format("tandem quantize {} --format int8 --data {} --out int8.onnx", m, d);
}

std::string proposed_input_format(const ir::Graph& g) {
  const auto& dims = g.values[static_cast<std::size_t>(g.inputs.at(0))].type.dims;
  const bool image = dims && dims->size() == 4 && ((*dims)[1].n == 1 || (*dims)[1].n == 3);
  return image ? "--input-format uint8/255" : "--input-format \"fixed<16,6>\"";
}

ir::Graph hardware_graph(const ir::Graph& model, std::string_view format) {
  ir::Graph g = model;
  if (g.inputs.size() != 1)
    throw Error(Exit::no, fmt::format("the streaming hardware takes one input, the model has {}", g.inputs.size()));
  const ir::ValueId in = g.inputs[0];
  if (!format.empty()) {
    const std::size_t slash = format.find('/');
    const Format f = Format::parse(format.substr(0, slash));
    if (f.elem.kind != Element::Kind::integer || f.elem.bits > 16)
      throw bad_input("--input-format {}: the input's format must be an integer or fixed point of at most 16 bits", format).expected("for example fixed<16,6>, uint8/255 or bipolar");
    double divisor = 1;
    if (slash != std::string_view::npos) {
      const std::string_view d = format.substr(slash + 1);
      const auto [end, ec] = std::from_chars(d.data(), d.data() + d.size(), divisor);
      if (ec != std::errc() || end != d.data() + d.size() || !(divisor > 0)) throw bad_input("--input-format {}: '{}' is no positive number", format, d);
    }
    auto scalar = [&](const char* n, float v) { return g.add_constant(g.unique_name(n), Tensor::scalar<float>(v)); };
    const ir::ValueId scale = scalar("input_scale", static_cast<float>(std::ldexp(1 / divisor, -f.elem.fraction_bits))), zero = scalar("input_zero", 0), bits = scalar("input_bits", static_cast<float>(f.elem.bits));
    const std::size_t before = g.nodes.size();
    const ir::ValueId q = g.add_node("Quant", {in, scale, zero, bits},
                                     {{"signed", I(f.elem.is_signed)}, {"narrow", I(f.elem.narrow)}, {"rounding_mode", std::string("ROUND")}},
                                     g.unique_name("input_quant"), "qonnx.custom_op.general");
    for (std::size_t i = 0; i < before; ++i)
      for (ir::ValueId& v : g.nodes[i].inputs)
        if (v == in) v = q;
    std::rotate(g.nodes.begin(), g.nodes.end() - 1, g.nodes.end());
  }
  if (!g.values[static_cast<std::size_t>(in)].type.dims || g.values[static_cast<std::size_t>(in)].type.dims->empty())
    throw bad_input("input '{}' has no shape: hardware needs one", g.values[static_cast<std::size_t>(in)].name);
  std::map<std::string, I> symbols;
  ir::Dims& dims = *g.values[static_cast<std::size_t>(in)].type.dims;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i].known()) continue;
    if (i > 0) throw Error(Exit::no, fmt::format("input '{}' has the free extent '{}': hardware is built for fixed ones", g.values[static_cast<std::size_t>(in)].name, dims[i].symbol));
    symbols[dims[i].symbol] = 1;
  }
  if (dims[0].known() && dims[0].n != 1) dims[0] = ir::Dim(1);
  return ir::bind(g, symbols);
}

map::Budget budget_of(const hardware::Target& t) {
  map::Budget b;
  b.device = t.aliases.empty() ? t.name : t.aliases[0];
  b.family = plan::family_of(t.family);
  if (b.family == plan::Family::xcup) {
    b.lut4 = static_cast<double>(t.available("lut6"));
    b.bram = static_cast<double>(t.available("bram"));
    b.dsp = t.dsp ? static_cast<double>(t.available("dsp")) : 0;
    b.fill = 0.7;  // logic across stages, routing and the shell are not counted there
    return b;
  }
  if (b.family == plan::Family::cells) {
    b.lut4 = static_cast<double>(t.available("gates"));
    b.bram = static_cast<double>(t.available("macros"));
    b.dsp = 0;
    b.fill = 0.7;
    return b;
  }
  b.lut4 = static_cast<double>(t.available("lut4"));
  b.bram = static_cast<double>(t.available("bram")) - 1;  // the shell's queue
  b.dsp = t.dsp ? static_cast<double>(t.available("dsp")) : 0;
  b.reserved_lut4 = 250;                                  // the shell
  return b;
}

namespace {

// What a part held less of than the closed forms promised.
struct Less {
  double fill = 0;  // share of the LUTs that may be planned; 0: the target's
  double bram = 0, dsp = 0;
};

// At most 100 frames: gates are simulated some ten times slower.
proof::VerifyResult verify_netlist(const rtl::Design& netlist, const proof::Stimulus& all, std::uint64_t seed, const Cancel& cancel) {
  const std::size_t in = static_cast<std::size_t>(netlist.in.lanes * netlist.in.beats), out = static_cast<std::size_t>(netlist.out.lanes * netlist.out.beats);
  const std::size_t n = std::min<std::size_t>(100, all.in.size() / in);
  const proof::Stimulus s{{all.in.begin(), all.in.begin() + static_cast<std::ptrdiff_t>(n * in)}, {all.expected.begin(), all.expected.begin() + static_cast<std::ptrdiff_t>(n * out)}};
  proof::VerifyOptions o;
  o.seed = seed;
  o.stalls = {0.3};
  return proof::verify({&netlist, 1}, {&s, 1}, o, cancel)[0];
}

// Once through, with one folding. `tried` is that of the folder's record.
BuildResult build_once(const ir::Graph& model, const BuildParams& p, const Less& less, const std::vector<std::string>& tried, const Cancel& cancel) {
  auto say = [&](std::string_view s) { if (p.say) p.say(s); };
  auto start = std::chrono::steady_clock::now();
  BuildResult r;
  r.tried = tried;
  r.name = p.name;
  r.quantised = p.quantised;
  r.provenance = {{"tandem", TANDEM_VERSION}, {"made", utc_now()}, {"processor", processor()}, {"seed", std::to_string(p.seed)}};
  if (!p.command.empty()) r.provenance.emplace_back("command", p.command);
  r.target = p.target.name;
  say("lowering to integers");
  ir::Graph graph = hardware_graph(model, p.input_format);
  if (!p.writable.empty()) {
    for (const std::string& n : ir::writable_of(p.writable).nodes)
      if (std::none_of(graph.nodes.begin(), graph.nodes.end(), [&](const ir::Node& x) { return x.name == n; })) throw bad_input("no node is named '{}'", printable(n)).at("--writable");
    graph.metadata[ir::kWritable] = p.writable;
  }
  Exact e{ir::lower_exact(graph, 64), {}};
  // A contraction on floats must not move to the host without a word.
  for (const ir::Step& st : e.program.steps)
    if (auto* f = std::get_if<ir::FloatOp>(&st.params)) {
      const ir::Graph& lowered = *e.program.graph;
      const ir::Node& n = lowered.nodes[static_cast<std::size_t>(f->node)];
      if (ir::op_of(lowered, n).closure == ir::Closure::linear)
        throw on_floats(model, p, lowered.describe(n));
    }

  e.stages = plan::stages_from(e.program, p.name);
  const plan::StageGraph& g = e.stages;
  r.host = g.host;
  const double clock = p.clock_mhz > 0 ? p.clock_mhz : p.target.clock_mhz;
  if (!(clock > 0)) throw bad_input("no clock: target '{}' has no default", p.target.name).fix("--clock MHZ");
  map::Budget budget = budget_of(p.target);
  if (less.fill > 0) budget.fill = less.fill;
  budget.bram -= less.bram;
  budget.dsp -= less.dsp;
  const plan::Calibration& family = plan::calibration(budget.family);
  const double more = budget.family == plan::Family::cells ? flip_flop_gates(p.target) - kFlipFlopGates : 0;
  const auto cost_of = [&](const plan::StageShape& s) {
    plan::Cost c = stage_def(s.kind).cost(s, family);
    c.lut4 += c.ff * more;
    return c;
  };
  const bool placed = budget.family == plan::Family::ice40;
  r.lut = family.lut, r.bram = family.bram, r.dsp = family.dsp;
  budget.multipliers = p.multipliers > 0 ? p.multipliers : !placed && !p.folding && !(p.throughput > 0) ? 64 : 0;
  const I interval = p.throughput > 0 ? static_cast<I>(std::floor(clock * 1e6 / p.throughput)) : 0;
  if (p.throughput > 0 && interval < 1) throw Error(Exit::no, fmt::format("{} frames/s are more than one a cycle at {} MHz", p.throughput, clock));
  say("choosing the folding");
  map::Choice choice;
  std::vector<plan::StageShape> shapes;
  if (p.folding) {
    map::MultiplierChoice m = map::choose_multipliers(g, plan::folding_from_json(g, *p.folding, p.folding_file), budget);
    choice.folding = std::move(m.folding);
    choice.estimate = map::evaluate(g, choice.folding, shapes, family);
    choice.uses_dsp = m.uses_dsp;
    choice.limit = "the folding was given";
  } else if (!p.method.empty() || !p.objective.empty()) {
    if (!p.method.empty() && p.method != "exact" && p.method != "heuristic") throw bad_input("no method '{}'", printable(p.method)).expected("exact or heuristic");
    choice = map::optimise_folding(g, budget, {.objective = map::objective_of(p.objective.empty() ? "throughput" : p.objective),
                                               .method = p.method == "exact" ? map::Method::exact : map::Method::heuristic, .interval = interval});
    // The tables know plain multipliers; another form where it costs less and no cycle.
    const map::MultiplierChoice m = map::choose_multipliers(g, choice.folding, budget);
    if (const map::Estimate e = map::evaluate(g, m.folding, shapes, family); e.interval <= choice.estimate.interval && map::why_not(g, e, budget, m.uses_dsp, shapes).empty()) {
      choice.folding = m.folding;
      choice.estimate = e;
      choice.uses_dsp = m.uses_dsp;
    }
  } else {
    choice = map::choose_folding(g, budget, interval);
  }
  // Depths given by hand stand.
  const bool by_hand = std::any_of(choice.folding.of.begin(), choice.folding.of.end(), [](const plan::Fold& x) { return !x.queues.empty(); });
  if (!by_hand) map::size_queues(g, choice.folding);
  map::Estimate estimate = map::evaluate(g, choice.folding, shapes, family);
  // The search takes typical constants, what is printed takes the model's.
  plan::measure_constants(g, shapes);
  estimate.cost = {};
  for (const plan::StageShape& s : shapes) {
    const plan::Cost c = cost_of(s);
    estimate.cost.lut4 += c.lut4, estimate.cost.bram += c.bram, estimate.cost.dsp += c.dsp, estimate.cost.dsp_lut4 += c.dsp_lut4, estimate.cost.ff += c.ff, estimate.cost.dsp_ff += c.dsp_ff;
  }
  r.limit = choice.limit;
  r.uses_dsp = choice.uses_dsp;
  r.multipliers = map::multipliers(g, choice.folding);
  r.planned = budget.lut4 > 0 ? (estimate.lut4(choice.uses_dsp) + budget.reserved_lut4) / budget.lut4 : 0;
  const bool stored = !p.out.empty() && !p.dry_run;
  if (p.seeds < 1 || p.seeds > 100) throw bad_input("{} placements", p.seeds).expected("1 to 100");

  say("writing Verilog");
  const rtl::Design d = rtl::generate(g, choice.folding, "net", budget.family);
  r.hash = d.hash;
  r.generate_s = seconds_since(start);

  for (std::size_t i = 0; i < g.layers.size(); ++i) {
    const plan::Layer& l = g.layers[i];
    BuildLayer row{l.name, l.node, std::string(plan::to_string(l.kind)), {}, choice.folding.of[i].pe, choice.folding.of[i].simd,
                   l.macs, static_cast<I>(l.weights.size()), l.weights.empty() ? 0 : l.weight_bits, l.out.bits, 0, {}};
    if (l.kind == plan::LayerKind::dense && l.window && l.window->kh * l.window->kw > 1) row.kind = "conv";
    row.shape = l.window ? fmt::format("{}x{}x{} -> {}x{}x{}", l.window->c, l.window->h, l.window->w, l.mh, l.window->oh, l.window->ow)
                : l.kind == plan::LayerKind::dense ? fmt::format("{} -> {}", l.mw, l.mh) : std::to_string(l.out.elements);
    for (const plan::StageShape& s : shapes)
      if (s.layer == static_cast<int>(i)) {
        const plan::Cost c = cost_of(s);
        row.cycles = std::max(row.cycles, stage_def(s.kind).cycles(s));
        row.cost.lut4 += choice.uses_dsp ? c.lut4 - c.dsp_lut4 : c.lut4;
        row.cost.bram += c.bram;
        row.cost.dsp += choice.uses_dsp ? c.dsp : 0;
        row.cost.ff += choice.uses_dsp ? c.ff - c.dsp_ff : c.ff;
        const auto& spread = family.stage[static_cast<std::size_t>(s.kind)];
        row.low += (choice.uses_dsp ? c.lut4 - c.dsp_lut4 : c.lut4) * spread.low;
        row.high += (choice.uses_dsp ? c.lut4 - c.dsp_lut4 : c.lut4) * spread.high;
      }
    r.layers.push_back(std::move(row));
  }
  auto metric = [&](std::string name, double v, std::string unit, Fidelity f, std::string source) {
    r.metrics.push_back({std::move(name), {v, std::move(unit), f, std::move(source), {}, {}}});
  };
  const std::string closed = "closed form of the slowest stage", stepped = "control logic stepped cycle by cycle, streams never stalled", fitted = std::string(family.source) + (placed ? ", without the shell" : "");
  const plan::Timing timing = plan::simulate(shapes);
  if (timing.deadlock) throw Error(Exit::no, "the design stands still for ever: a queue in front of a join is too short").fix("leave \"queues\" out of the folding: they are then computed");
  if (timing.steady()) {
    metric("cycles per frame", timing.interval(), "cycles", Fidelity::simulated, stepped);
    metric("latency", static_cast<double>(timing.latency()), "cycles", Fidelity::simulated, stepped);
  } else {  // too much to step
    metric("cycles per frame", static_cast<double>(estimate.interval), "cycles", Fidelity::estimated, closed);
    metric("latency", static_cast<double>(estimate.latency), "cycles", Fidelity::estimated, "closed form, first input to first output beat");
  }
  metric("multipliers", static_cast<double>(r.multipliers), "at once", Fidelity::estimated, "PE * SIMD of all contractions");
  metric(placed ? "LUT4" : budget.family == plan::Family::cells ? "gates" : "LUT", std::round(estimate.lut4(choice.uses_dsp)), r.lut, Fidelity::estimated, fitted);
  const auto spread = [&](const plan::Calibration::Spread& s) {
    Metric& m = r.metrics.back().metric;
    m.low = std::round(m.value * s.low), m.high = std::round(m.value * s.high);
  };
  spread(family.design);
  metric("FF", std::round(estimate.cost.ff - (choice.uses_dsp ? estimate.cost.dsp_ff : 0)), "FF", Fidelity::estimated, fitted);
  spread(family.design_ff);
  metric("BRAM", estimate.cost.bram, r.bram, Fidelity::estimated, fitted);
  if (const auto c = plan::clock_estimate(shapes, choice.uses_dsp, p.target.device); c && placed) {
    const auto tenth = [](double mhz) { return std::round(mhz * 10) / 10; };
    metric("Fmax", tenth(c->mhz), "MHz", Fidelity::estimated, fmt::format("{}; the slowest path in {}", plan::clock_source(), c->stage < 0 ? "the shell" : d.modules[static_cast<std::size_t>(c->stage)]));
    r.metrics.back().metric.low = tenth(c->low), r.metrics.back().metric.high = tenth(c->high);
  }
  if (budget.family == plan::Family::xcup) metric("DSP", choice.uses_dsp ? estimate.cost.dsp : 0, r.dsp, Fidelity::estimated, fitted);

  {
    Effort& f = r.effort;
    const double lut = estimate.lut4(choice.uses_dsp), n = p.verify ? static_cast<double>(p.frames ? p.frames->shape().at(0) : p.random_frames) : 0;
    // Twice through: without stalls and with.
    if (p.verify) f.seconds += kCompile + kSimulate * lut * 2 * static_cast<double>(estimate.interval) * n;
    if (p.place) f.seconds += placed ? kPlace + kPlaceLut * lut : kStages + kStageLut * lut;
    for (const rtl::File& file : d.files) f.bytes += static_cast<double>(file.text.size());
    f.bytes += 400e3 + n * 8 * static_cast<double>(element_count(g.input_shape));
    f.work_bytes = (p.verify ? kModelBytes + 100 * lut : 0) + (p.place ? kNetlistBytes * lut : 0);
    if (p.dry_run) {
      r.ok = true;
      return r;
    }
    if (f.seconds > 2) say("about " + f.text());
    if (stored) require_space(p.out, f.bytes, "the design");
    require_space(tool::work_root(), f.work_bytes, "what the tools write");
  }

  proof::Stimulus stimulus;
  Tensor frames;
  if (p.verify) {
    frames = p.frames ? *p.frames : random_frames(e.program, g, p.random_frames, p.seed);
    r.frames_source = p.frames ? p.frames_source : fmt::format("{} frames of random codes, seed {}", p.random_frames, p.seed);
    say("computing the exact results");
    stimulus = exact_frames(e, frames, &r.outputs, cancel);
    r.values = output_values(e, r.outputs);
    r.precision = precision_profile(e.program, frames, 32, cancel);
  }

  if (stored) {
    // Nothing of an earlier design may lie between the files of this one.
    std::error_code none;
    if (fs::exists(p.out / "build.json") || !tried.empty())
      for (const char* folder : {"rtl", "bench", "netlist"}) fs::remove_all(p.out / folder, none);
    fs::create_directories(p.out / "rtl");
    fs::create_directories(p.out / "bench");
    for (const rtl::File& f : d.files) write_file(p.out / "rtl" / f.name, f.text);
    write_file(p.out / "bench" / "top.v", proof::bench_verilog({&d, 1}));
    write_file(p.out / "bench" / "bench.cpp", proof::bench_cpp({&d, 1}));
    if (!d.windows.empty()) {
      write_file(p.out / "registers.md", rtl::registers_markdown(d));
      write_file(p.out / "registers.h", rtl::registers_header(d));
      std::string words;
      for (const auto& [address, word] : d.writes) words += fmt::format("{:08x} {:08x}\n", address, word);
      write_file(p.out / "registers.hex", words);
      write_file(p.out / "bench" / (d.top + "_writes.hex"), proof::bench_writes(d, {}));
    }
    write_file(p.out / "folding.json", plan::to_json(g, choice.folding));
    write_file(p.out / "model.onnx", ir::onnx_bytes(graph));
    write_file(p.out / "driver.md", driver_text(r, g, d));
    if (p.verify) write_npz(p.out / "frames.npz", {{"x", frames}});
  }

  r.ok = true;
  if (p.verify) {
    start = std::chrono::steady_clock::now();
    say(fmt::format("verifying {} frames in Verilator", frames.shape()[0]));
    proof::VerifyOptions o;
    o.seed = p.seed;
    o.trace_cycles = 64;
    r.verified = proof::verify({&d, 1}, {&stimulus, 1}, o, cancel)[0];
    r.verify_s = seconds_since(start);
    if (!r.verified->trace.empty()) r.wave = waveform(*r.verified, g);
    if (!r.verified->ok) {
      r.ok = false;
      r.reason = "the Verilog differs from the exact result: " + r.verified->text();
    }
    if (r.verified->interval > 0) {
      r.metrics.push_back({"cycles per frame", r.verified->interval_metric()});
      metric("throughput", clock * 1e6 / r.verified->interval, "frames/s", Fidelity::rtl_simulated, fmt::format("at {} MHz{}, streams never stalled", clock, placed ? "" : " (an assumption: nothing is placed)"));
    }
    r.metrics.push_back({"latency", r.verified->latency_metric()});
    metric("mismatches", static_cast<double>(r.verified->mismatches), "words", Fidelity::rtl_simulated,
           fmt::format("{} words of {} compared with exec; {}", r.verified->words, r.frames_source, r.verified->tool));
    if (!d.windows.empty() && r.ok) {
      say(fmt::format("verifying {} words written over the bus", d.writes.size()));
      Exact other{proof::rewritten(e.program, p.seed), {}};
      other.stages = plan::stages_from(other.program, p.name);
      proof::Stimulus s = exact_frames(other, frames.shape()[0] > kRewrittenFrames ? frames.rows(0, kRewrittenFrames) : frames, nullptr, cancel);
      s.writes = rtl::generate(other.stages, choice.folding, d.top, budget.family).writes;
      r.rewritten = proof::verify({&d, 1}, {&s, 1}, {.seed = p.seed}, cancel)[0];
      r.verify_s = seconds_since(start);
      metric("mismatches after rewriting", static_cast<double>(r.rewritten->mismatches), "words", Fidelity::rtl_simulated,
             fmt::format("{} words random in {} windows, {} results compared with exec; {}", d.writes.size(), d.windows.size(), r.rewritten->words, r.rewritten->tool));
      if (!r.rewritten->ok) {
        r.ok = false;
        r.reason = "with other words written over its bus the Verilog differs from the exact result: " + r.rewritten->text();
      }
    }
  }
  if (p.place && r.ok && budget.family == plan::Family::cells && !d.windows.empty()) {
    say("standard cells: a design with a bus is not synthesised as a whole");
  } else if (p.place && r.ok) {
    if (budget.family == plan::Family::cells) {
      start = std::chrono::steady_clock::now();
      say(fmt::format("synthesis of {} stages to cells", d.stages.size()));
      CellsParams cp;
      cp.target = p.target;
      cp.clock_mhz = clock;
      r.cells = synthesise_cells(d, cp, p.verify ? &stimulus : nullptr, r.verified ? r.verified->interval : 0, cancel);
      r.synthesis_s = seconds_since(start);
      for (const NamedMetric& m : r.cells->metrics) r.metrics.push_back(m);
      for (const std::string& n : r.cells->notes) say(n);
      if (r.cells->gates() > static_cast<double>(p.target.available("gates"))) {
        r.ok = false;
        r.full = "lut4";
        r.reason = fmt::format("it does not fit {}: {:.0f} gates of {}", p.target.name, r.cells->gates(), p.target.available("gates"));
      } else if (r.cells->timing && r.cells->timing->fmax_mhz < clock) {
        r.ok = false;
        r.reason = fmt::format("{} MHz are asked for, {:.1f} MHz are reached", clock, r.cells->timing->fmax_mhz);
      }
      if (stored) {
        fs::create_directories(p.out / "netlist");
        write_file(p.out / "netlist" / "netlist.v", r.cells->netlist);
        write_file(p.out / "netlist" / "cells.v", r.cells->models);
      }
      if (p.verify) {
        say("simulating the netlist");
        r.netlist = verify_netlist(netlist_design(d, *r.cells), stimulus, p.seed, cancel);
      }
    } else if (!placed || !d.windows.empty()) {  // a design with a bus is part of a larger one: no shell, nothing to place
      start = std::chrono::steady_clock::now();
      say(fmt::format("synthesis of {} stages", d.stages.size()));
      StageSynthesisParams sp;
      sp.dsp = choice.uses_dsp;
      if (placed) sp.fabric = tool::Fabric::ice40;
      r.stages = synthesise_stages(d, sp, cancel);
      r.synthesis_s = seconds_since(start);
      for (const NamedMetric& m : r.stages->metrics) r.metrics.push_back(m);
      const tool::FabricCells& c = r.stages->total;
      auto over = [&](std::string_view what, I n, std::string_view key) {
        if (n <= p.target.available(key) || !r.ok) return;
        r.ok = false;
        r.full = key;
        r.excess = static_cast<double>(n - p.target.available(key));
        r.reason = fmt::format("it does not fit {}: {} {} of {}", p.target.name, n, what, p.target.available(key));
      };
      over(r.lut, c.lut, placed ? "lut4" : "lut6");
      over("flip-flops", c.ff, placed ? "lut4" : "ff");
      over(fmt::format("block RAMs of {}", placed ? "4 kbit" : "18 kbit"), c.bram, "bram");
      over("DSPs", c.dsp, "dsp");
    } else {
      start = std::chrono::steady_clock::now();
      say("synthesis, placement and routing");
      SynthesisParams sp;
      sp.device = p.target.device;
      sp.package = p.target.package;
      sp.clock_mhz = clock;
      sp.dsp = choice.uses_dsp;
      sp.seeds = p.seeds;
      r.synthesis = synthesise(d, sp, cancel);
      r.synthesis_s = seconds_since(start);
      for (const NamedMetric& m : r.synthesis->metrics) r.metrics.push_back(m);
      if (!r.synthesis->place.fits) {
        r.ok = false;
        r.reason = fmt::format("it does not fit {}: {}", p.target.name, r.synthesis->place.reason);
        const tool::Ice40Cells& c = r.synthesis->cells;
        r.full = "lut4";
        for (auto [n, key] : {std::pair<I, const char*>{c.bram, "bram"}, {c.dsp, "dsp"}})
          if (n > p.target.available(key)) r.full = key, r.excess = static_cast<double>(n - p.target.available(key));
      } else if (const auto lc = r.synthesis->place.utilisation.find("ICESTORM_LC"); lc != r.synthesis->place.utilisation.end() && lc->second.used > p.target.available("lut4")) {
        // A target of the user's may leave less than the part has.
        r.ok = false;
        r.full = "lut4";
        r.reason = fmt::format("it does not fit {}: {} logic cells of {}", p.target.name, lc->second.used, p.target.available("lut4"));
      } else if (r.synthesis->place.fmax > 0 && r.synthesis->place.fmax < clock) {
        r.ok = false;
        r.reason = fmt::format("{} MHz are asked for, {:.1f} MHz are reached", clock, r.synthesis->place.fmax);
      }
      if (p.netlist && p.verify) {
        say("simulating the netlist");
        const rtl::Design netlist = ice40_netlist(d, choice.uses_dsp, cancel);
        r.netlist = verify_netlist(netlist, stimulus, p.seed, cancel);
        if (stored) {
          fs::create_directories(p.out / "netlist");
          for (const rtl::File& f : netlist.files) write_file(p.out / "netlist" / f.name, f.text);
        }
      }
      if (stored) {
        for (const rtl::File& f : r.synthesis->shell.files) write_file(p.out / "rtl" / f.name, f.text);
        if (!r.synthesis->shell.pcf.empty()) write_file(p.out / "board.pcf", r.synthesis->shell.pcf);
        if (!r.synthesis->bitstream.empty()) write_file(p.out / "net.bin", r.synthesis->bitstream);
      }
    }
  }
  if (r.stages || r.cells)
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      const plan::Cost c = cost_of(shapes[i]);
      const plan::Calibration::Spread& s = family.stage[static_cast<std::size_t>(shapes[i].kind)];
      const double lut = choice.uses_dsp ? c.lut4 - c.dsp_lut4 : c.lut4;
      r.stage_counts.push_back({d.modules[i], lut, lut * s.low, lut * s.high, r.stages ? static_cast<double>(r.stages->stages[i].cells.lut) : r.cells->stages[i].count.area_um2 / r.cells->gate_area});
    }
  if (r.netlist) {
    metric("mismatches of the netlist", static_cast<double>(r.netlist->mismatches), "words", Fidelity::rtl_simulated,
           fmt::format("what synthesis left, {} frames, {} words compared with exec; {}", r.netlist->frames, r.netlist->words, r.netlist->tool));
    if (!r.netlist->ok) {
      r.ok = false;
      r.reason = "the netlist differs from the exact result: " + r.netlist->text();
    }
  }
  if (stored) {
    write_file(p.out / "summary.txt", summary_text(r));
    write_file(p.out / "build.json", to_json(r));
    write_file(p.out / "report.html", report_page(p.out, p.out));
  }
  return r;
}

}  // namespace

std::string Effort::text() const {
  return fmt::format("{:.0f} s on two processors, {:.1f} MB in --out, {:.0f} MB of temporary files (a rough estimate)", std::max(1.0, seconds), bytes / 1e6, work_bytes / 1e6);
}

BuildResult build(const ir::Graph& model, const BuildParams& p, const Cancel& cancel) {
  if (!p.out.empty() && !p.dry_run) {
    require_writable_folder(p.out);
    if (!p.overwrite && fs::exists(p.out / "build.json"))
      throw bad_input("the folder already holds a design").at(p.out.string()).fix("another --out, or --force");
  }
  Less less;
  less.fill = p.fill;
  BuildResult r = build_once(model, p, less, {}, cancel);
  // Closed forms are a few per cent off: what the tools could not fit is folded further, with what they found missing.
  constexpr int kAttempts = 4;
  for (int i = 1; i < kAttempts && !r.ok && !r.full.empty() && !p.folding; ++i) {
    if (r.full == "bram") less.bram += r.excess;
    else if (r.full == "dsp") less.dsp += r.excess;
    else less.fill = 0.85 * r.planned;
    std::vector<std::string> tried = r.tried;
    tried.push_back(fmt::format("a folding of {:.0f} cycles a frame and {} multipliers: {}", r.metrics.at(0).metric.value, r.multipliers, r.reason));
    if (p.say) p.say(tried.back() + "; folding further");
    try {
      r = build_once(model, p, less, tried, cancel);
    } catch (const Error& e) {
      if (e.code() != Exit::no) throw;
      r.reason += fmt::format("; and no smaller folding serves: {}", e.what());  // the folder keeps what was tried last
      break;
    }
  }
  return r;
}

namespace {

// A design as it lies in its folder, and what to run it on.
struct Stored {
  ir::Graph graph;
  Exact exact;
  rtl::Design design;
  Tensor frames;
};
Stored read_folder(const fs::path& folder, const std::optional<Tensor>& given, std::uint64_t seed) {
  for (const char* f : {"model.onnx", "folding.json", "rtl/net.v"})
    if (!fs::exists(folder / f)) throw folder_error(folder, fmt::format("there is no {}", f));
  Stored s;
  s.graph = hardware_graph(ir::read_onnx(folder / "model.onnx"), "");
  s.exact = lower(s.graph, "net");
  const plan::Folding f = plan::folding_from_json(s.exact.stages, read_file(folder / "folding.json"), (folder / "folding.json").string());
  s.design = rtl::generate(s.exact.stages, f, "net");
  // The files as they lie there, not as they would be generated.
  for (rtl::File& file : s.design.files) {
    if (!fs::exists(folder / "rtl" / file.name)) throw folder_error(folder, fmt::format("there is no rtl/{}", file.name));
    file.text = read_file(folder / "rtl" / file.name);
  }
  if (given) {
    s.frames = *given;
  } else if (fs::exists(folder / "frames.npz")) {
    const Archive a = read_npz(folder / "frames.npz");
    const auto it = a.find("x");
    if (it == a.end()) throw folder_error(folder, "frames.npz has no array 'x'");
    s.frames = it->second;
  } else {
    s.frames = random_frames(s.exact.program, s.exact.stages, 64, seed);
  }
  return s;
}

}  // namespace

proof::VerifyResult verify_folder(const fs::path& folder, const std::optional<Tensor>& given, std::uint64_t seed, const Cancel& cancel) {
  const Stored s = read_folder(folder, given, seed);
  const proof::Stimulus stimulus = exact_frames(s.exact, s.frames, nullptr, cancel);
  proof::VerifyOptions o;
  o.seed = seed;
  return proof::verify({&s.design, 1}, {&stimulus, 1}, o, cancel)[0];
}

std::vector<proof::Explanation> explain_folder(const fs::path& folder, const ExplainFolderParams& p, const Cancel& cancel) {
  const Stored s = read_folder(folder, p.frames, p.seed);
  const Tensor frames = s.frames.rank() && s.frames.shape()[0] > p.most_frames ? s.frames.rows(0, p.most_frames) : s.frames;
  std::vector<proof::Explanation> r;
  proof::ExplainParams e;
  e.seed = p.seed;
  e.frames = p.most_frames;
  if (p.verilog) r.push_back(proof::explain(s.design, s.exact.stages, s.exact.program, frames, e, cancel));
  if (p.expected) r.push_back(proof::explain_values(s.graph, frames, *p.expected, cancel));
  if (p.float32) r.push_back(proof::explain_float(s.graph, frames, cancel));
  return r;
}

std::string summary_text(const BuildResult& r) {
  Table t;
  t.columns = {{"layer"}, {"kind"}, {"shape"}, {"PE", true}, {"SIMD", true}, {"w bits", true}, {"out bits", true}, {"MACs", true}, {"cycles", true}, {r.lut + " est.", true}, {"BRAM est.", true}};
  I macs = 0;
  plan::Cost sum;
  for (const BuildLayer& l : r.layers) {
    const bool fold = l.macs > 0 || l.kind == "pool";
    t.add({l.name, l.kind, l.shape, fold ? std::to_string(l.pe) : "", l.macs ? std::to_string(l.simd) : "", l.weight_bits ? std::to_string(l.weight_bits) : "",
           std::to_string(l.bits), l.macs ? grouped(l.macs) : "", grouped(l.cycles), fmt::format("{:.0f}", l.cost.lut4), fmt::format("{:.0f}", l.cost.bram)});
    macs += l.macs;
    sum.lut4 += l.cost.lut4;
    sum.bram += l.cost.bram;
  }
  t.foot = {"all", "", "", "", "", "", "", grouped(macs), "", fmt::format("{:.0f}", sum.lut4), fmt::format("{:.0f}", sum.bram)};
  Table m;
  m.columns = {{"figure"}, {"value", true}, {"unit"}, {"fidelity"}, {"source"}};
  for (const NamedMetric& n : r.metrics) {
    const auto figure = [](double v) { return v == std::floor(v) && std::abs(v) < 1e15 ? grouped(static_cast<long long>(v)) : fmt::format("{:.2f}", v); };
    std::string range;
    if (n.metric.low && n.metric.high) range = fmt::format(" ({}{} to {})", n.metric.fidelity == Fidelity::estimated ? "90 %: " : "", figure(*n.metric.low), figure(*n.metric.high));
    m.add({n.name, figure(n.metric.value), n.metric.unit + range, std::string(to_string(n.metric.fidelity)), n.metric.source});
  }
  std::string s = fmt::format("{} on {}, design {}\n\n{}\n{}\n", r.name, r.target, r.hash, render(t, TableStyle::text), render(m, TableStyle::text));
  if (!r.quantised.empty()) s += "Quantised on the way: " + r.quantised + "\n";
  for (const std::string& t : r.tried) s += "Tried before: " + t + "\n";
  if (!r.limit.empty()) s += "What limits the speed: " + r.limit + "\n";
  for (const std::string& h : r.host) s += "On the host " + h + "\n";
  if (!r.reason.empty()) s += "NOT DONE: " + r.reason + "\n";
  return s;
}

std::string to_json(const BuildResult& r) {
  JsonWriter j;
  j.object().field("format", "tandem.build").field("version", 1).field("name", r.name).field("target", r.target).field("design", r.hash).field("ok", r.ok).field("reason", r.reason).field("quantised", r.quantised);
  j.key("layers").array();
  for (const BuildLayer& l : r.layers)
    j.object().field("name", l.name).field("node", l.node).field("kind", l.kind).field("shape", l.shape).field("pe", l.pe).field("simd", l.simd)
        .field("macs", l.macs).field("weights", l.weights).field("weight_bits", l.weight_bits).field("bits", l.bits).field("cycles", l.cycles)
        .field("lut_estimated", l.cost.lut4).field("bram_estimated", l.cost.bram).field("dsp_estimated", l.cost.dsp).field("ff_estimated", l.cost.ff).field("lut_low", l.low).field("lut_high", l.high).end();
  j.end();
  if (!r.stage_counts.empty()) {
    j.key("stages").array();
    for (const BuildStage& x : r.stage_counts) j.object().field("name", x.name).field("estimated", x.estimated).field("low", x.low).field("high", x.high).field("found", x.found).end();
    j.end();
  }
  j.field("lut", r.lut).field("bram", r.bram).field("dsp", r.dsp).field("multipliers", r.multipliers);
  j.key("metrics").array();
  for (const NamedMetric& m : r.metrics) {
    j.object().field("name", m.name).field("value", m.metric.value).field("unit", m.metric.unit).field("fidelity", to_string(m.metric.fidelity)).field("source", m.metric.source);
    if (m.metric.low && m.metric.high) j.field("low", *m.metric.low).field("high", *m.metric.high);
    j.end();
  }
  j.end().field("limit", r.limit).field("tried", r.tried).field("frames", r.frames_source).field("host", r.host);
  j.key("precision").array();
  for (const report::Distribution& d : r.precision) {
    j.object().field("layer", d.layer).field("format", d.format).field("lo", d.lo).field("hi", d.hi).field("seen_lo", d.seen_lo).field("seen_hi", d.seen_hi).field("n", d.n).field("counts", d.counts);
    if (d.clipped) j.field("clipped", *d.clipped).field("flushed", *d.flushed);
    j.end();
  }
  j.end();
  if (r.wave) {
    j.key("waveform").object().field("title", r.wave->title).field("summary", r.wave->summary).field("first_cycle", r.wave->first_cycle).key("signals").array();
    for (const report::Signal& s : r.wave->signals) {
      j.object().field("name", s.name).field("bits", s.bits).key("values").array();
      for (const auto& v : s.values) v ? j.value(*v) : j.null();
      j.end().end();
    }
    j.end().end();
  }
  j.key("provenance").object();
  for (const auto& [key, value] : r.provenance) j.field(key, value);
  j.end();
  j.field("generate_s", r.generate_s).field("verify_s", r.verify_s).field("synthesis_s", r.synthesis_s).end();
  return j.text();
}

}  // namespace tandem::flow
