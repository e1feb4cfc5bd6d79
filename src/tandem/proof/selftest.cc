#include "tandem/proof/selftest.h"

#include <charconv>
#include <chrono>
#include <cmath>
#include <optional>

#include "tandem/base/file.h"
#include "tandem/base/nearest.h"
#include "tandem/exec/exec.h"
#include "tandem/exec/float.h"
#include "tandem/ir/dump.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"
#include "tandem/ir/random_graph.h"
#include "tandem/map/queues.h"
#include "tandem/plan/stage_graph.h"
#include "tandem/proof/alone.h"
#include "tandem/proof/extremes.h"
#include "tandem/proof/shrink.h"
#include "tandem/proof/verify.h"
#include "tandem/rtl/generate.h"
#include "tandem/tensor/npy.h"
#include "tandem/train/learn.h"

namespace tandem::proof {
namespace {

using namespace tandem::ir;

// "" when all outputs agree to the bit, else the first element that does not.
std::string differ(const std::vector<Tensor>& want, const std::vector<Tensor>& got, std::string_view engine) {
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (want[i].shape() != got[i].shape())
      return fmt::format("output {}: ref has shape {}, {} has {}", i, tandem::to_string(want[i].shape()), engine, tandem::to_string(got[i].shape()));
    for (std::int64_t k = 0; k < want[i].size(); ++k)
      if (!(want[i].at(k) == got[i].at(k)))
        return fmt::format("output {} element {}: ref {}, {} {}", i, k, want[i].at(k), engine, got[i].at(k));
  }
  return "";
}

std::int64_t count(const std::vector<Tensor>& t) {
  std::int64_t n = 0;
  for (const Tensor& x : t) n += x.size();
  return n;
}

constexpr const char *kEngineKey = "tandem.selftest.engine", *kSeedKey = "tandem.selftest.seed";

class Selftest {
 public:
  Selftest(const SelftestParams& p, const Cancel& cancel) : p_(p), cancel_(cancel) {
    for (const std::string& e : p.engines) {
      auto known = selftest_engines();
      if (std::find(known.begin(), known.end(), e) == known.end())
        throw bad_input("engine '{}' is unknown", e).expected(fmt::format("{}", fmt::join(known, ", "))).fix(suggest(e, known));
      stats_.engines[e];
    }
    if (p.operators != "quantised" && p.operators != "all") throw bad_input("operators '{}'", printable(p.operators)).expected("quantised or all");
    if (p.operators == "all")
      for (const auto& [e, count] : stats_.engines)
        if (e != "ref" && e != "exec") throw bad_input("engine {} runs quantised graphs only", e).fix("--engines ref,exec, or --operators quantised");
    if (stats_.engines.count("train")) learner_ = &train::open_learner();
  }

  SelftestStats run() {
    auto start = std::chrono::steady_clock::now();
    bool rtl = stats_.engines.count("rtl") != 0;
    try {
      for (std::int64_t i = 0; i < p_.graphs && !cancel_.requested(); ++i) {
        std::uint64_t seed = p_.seed * 1'000'003 + static_cast<std::uint64_t>(i);
        RandomGraphOptions o;
        if (p_.operators == "all") {
          o.all_operators = true;
          any(random_graph(o, seed), seed);
          ++stats_.graphs;
          if (p_.progress) p_.progress(i + 1, p_.graphs);
          continue;
        }
        o.streaming = rtl || i % 4 == 3;
        o.max_bits = i % 8 == 7 ? 16 : i % 8 == 3 ? 12 : 8;
        o.batch = rtl ? 1 : 1 + i % 2;
        o.moves = !learner_;
        if (!rtl && i % 10 == 5) o.state = true, o.joins = false;
        one(random_graph(o, seed), seed, o);
        ++stats_.graphs;
        if (p_.progress) p_.progress(i + 1, p_.graphs);
      }
      if (rtl) flush_rtl();
    } catch (const Error&) {
      if (!cancel_.requested()) throw;  // else what was counted is not lost
    }
    stats_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return std::move(stats_);
  }

  SelftestStats replay(const std::filesystem::path& file) {
    auto start = std::chrono::steady_clock::now();
    replaying_ = true;
    Failing f{read_onnx(file), {}};
    auto data = file;
    const Archive a = std::filesystem::exists(data.replace_extension(".npz")) ? read_npz(data) : Archive{};
    for (std::size_t t = 0;; ++t) {
      std::vector<Tensor> x;
      for (std::size_t i = 0; i < f.graph.inputs.size(); ++i)
        if (const auto it = a.find(fmt::format("t{}_{}", t, i)); it != a.end()) x.push_back(it->second);
      if (x.size() != f.graph.inputs.size()) break;
      f.inputs.push_back(std::move(x));
    }
    std::uint64_t seed = p_.seed;
    if (const auto it = f.graph.metadata.find(kSeedKey); it != f.graph.metadata.end()) std::from_chars(it->second.data(), it->second.data() + it->second.size(), seed);
    for (std::size_t k = f.inputs.size(); k < 2; ++k) f.inputs.push_back(random_inputs(f.graph, seed * 8 + k));
    ++stats_.graphs;
    if (p_.operators == "all") {
      any({f.graph, f.inputs[0]}, seed);
    } else {
      software(f, seed);
      if (stats_.engines.count("rtl") && lowers_) {
        try {
          queue_.push_back(design_of(f, seed, "g0", false, true));
        } catch (const Error& e) {
          if (e.code() != Exit::no) throw;
          ++stats_.engines["rtl"].refused;
        }
        flush_rtl();
      }
    }
    stats_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return std::move(stats_);
  }

 private:
  // The reference: literal, then the carrier against it. Returns the outputs of each tick, or nothing when
  // the graph has no carrier within 128 bits.
  std::optional<std::vector<std::vector<Tensor>>> reference(const Graph& g, const std::vector<std::vector<Tensor>>& in, const ExactProgram& p,
                                                            std::string& fault) {
    LiteralState state;
    std::vector<std::vector<std::int64_t>> states;
    std::vector<std::vector<Tensor>> out;
    for (const auto& x : in) {
      out.push_back(to_tensors(g, evaluate_literal(g, x, &state)));
      std::vector<Tensor> got = evaluate_carrier(p, x, &states);
      if (p_.tamper) p_.tamper("ref", g, got);
      fault = differ(out.back(), got, "carrier");
      if (!fault.empty()) break;
    }
    return out;
  }

  std::string check_exec(const Graph& g, const ExactProgram& p, const std::vector<std::vector<Tensor>>& in, const std::vector<std::vector<Tensor>>& want) {
    exec::Executor e(p);
    for (std::size_t t = 0; t < in.size(); ++t) {
      std::vector<Tensor> got = e.run(in[t]);
      if (p_.tamper) p_.tamper("exec", g, got);
      if (std::string d = differ(want[t], got, "exec"); !d.empty()) return d;
    }
    return "";
  }
  std::string check_train(const Graph& g, const std::vector<std::vector<Tensor>>& in, const std::vector<std::vector<Tensor>>& want) {
    auto model = learner_->exact(g);
    for (std::size_t t = 0; t < in.size(); ++t)
      if (std::string d = differ(want[t], model->run(in[t]), "train"); !d.empty()) return d;
    return "";
  }

  // What the engine's results differ in; "" where they agree or where it refuses the graph.
  std::string fault_of(const std::string& engine, const Failing& f) {
    const ExactProgram p = lower_exact(f.graph);
    std::string fault;
    const auto want = reference(prepare(f.graph), f.inputs, p, fault);
    if (engine == "ref" || !fault.empty()) return engine == "ref" ? fault : "";
    return engine == "exec" ? check_exec(f.graph, p, f.inputs, *want) : check_train(f.graph, f.inputs, *want);
  }

  void one(const RandomGraph& r, std::uint64_t seed, const RandomGraphOptions& o) {
    Failing f{r.graph, {r.inputs}};
    for (int t = 1; t < (o.state ? 4 : 2); ++t) f.inputs.push_back(random_inputs(r.graph, seed * 8 + static_cast<std::uint64_t>(t)));
    software(f, seed);
    if (stats_.engines.count("rtl") && lowers_) queue_rtl(f, seed);
  }
  void software(const Failing& f, std::uint64_t seed) {
    for (const Node& n : f.graph.nodes) ++stats_.operators[n.op];
    ExactProgram p;
    lowers_ = false;
    try {
      p = lower_exact(f.graph);
    } catch (const Error& e) {
      if (e.code() != Exit::no) throw;
      for (auto& [name, c] : stats_.engines) ++c.refused;
      return;
    }
    lowers_ = true;
    std::string fault;
    auto want = reference(prepare(f.graph), f.inputs, p, fault);
    const std::int64_t values = count(want->front()) * static_cast<std::int64_t>(f.inputs.size());
    note("ref", values);
    if (!fault.empty()) {
      lowers_ = false;  // the others are compared with it
      return report("ref", fault, f, seed);
    }
    if (stats_.engines.count("exec")) {
      note("exec", values);
      if (std::string d = check_exec(f.graph, p, f.inputs, *want); !d.empty()) report("exec", d, f, seed);
    }
    if (learner_) {
      note("train", values);
      if (std::string d = check_train(f.graph, f.inputs, *want); !d.empty()) report("train", d, f, seed);
    }
  }

  // ---- graphs of every operator --------------------------------------------------------------------
  void any(const RandomGraph& r, std::uint64_t seed) {
    for (const Node& n : r.graph.nodes) ++stats_.operators[n.op];
    std::vector<Tensor> all;
    const std::vector<Tensor> want = evaluate_float(r.graph, r.inputs, &all);
    note("ref", count(want));
    if (const std::string d = check_reference(r, want); !d.empty()) save("ref", d, {r.graph, {r.inputs}}, seed);
    if (!stats_.engines.count("exec")) return;
    note("exec", count(want));
    if (const std::string d = check_float(r); !d.empty()) save("exec", d, {r.graph, {r.inputs}}, seed);
  }
  static std::string check_reference(const RandomGraph& r, const std::vector<Tensor>& want) {
    verify(r.graph);
    for (std::size_t i = 0; i < want.size(); ++i) {
      const TensorType& t = r.graph.values[static_cast<std::size_t>(r.graph.outputs[i])].type;
      bool fits = t.dtype == want[i].dtype() && (!t.dims || t.dims->size() == want[i].shape().size());
      for (std::size_t d = 0; fits && t.dims && d < t.dims->size(); ++d) fits = !(*t.dims)[d].known() || (*t.dims)[d].n == want[i].shape()[d];
      if (!fits) return fmt::format("output {}: inferred {}, computed {}", i, t.dims ? to_string(*t.dims) : "?", tandem::to_string(want[i].shape()));
    }
    Graph back = parse_onnx(onnx_bytes(r.graph));
    // Beside a young operator a DFT is written in its young form: then the second time around must say the same.
    const bool reworded = std::any_of(r.graph.nodes.begin(), r.graph.nodes.end(), [](const Node& n) { return n.op == "DFT"; });
    if (std::string d = reworded ? first_difference(back, parse_onnx(onnx_bytes(back))) : first_difference(r.graph, back); !d.empty()) return "exported and imported: " + d;
    infer_shapes(back);
    const std::vector<Tensor> again = evaluate_float(back, r.inputs);
    for (std::size_t i = 0; i < want.size(); ++i)
      if (!want[i].same(again[i])) return fmt::format("exported and imported: output {} differs", i);
    // What is exact, literally and on the carrier, which needs the extents.
    if (!std::all_of(r.graph.values.begin(), r.graph.values.end(), [](const Value& v) { return v.type.dims && all_known(*v.type.dims); })) return "";
    try {
      const ExactProgram p = lower_exact(r.graph);
      const std::vector<Tensor> literal = to_tensors(r.graph, evaluate_literal(prepare(r.graph), r.inputs)), carrier = evaluate_carrier(p, r.inputs);
      for (std::size_t i = 0; i < literal.size(); ++i)
        if (std::string d = near(literal[i], carrier[i], 0, "carrier"); !d.empty()) return fmt::format("output {} {}", i, d);  // of zeros the sign may differ
    } catch (const Error& e) {
      if (e.code() != Exit::no) return e.full();
    }
    return "";
  }
  // Each node of the executor against the evaluator on the executor's own values: no error travels.
  static std::string check_float(const RandomGraph& r) {
    exec::FloatOptions o;
    o.keep_all = true;
    std::vector<Tensor> all;
    exec::FloatExecutor(r.graph, o).run(r.inputs, &all);
    for (const Node& n : r.graph.nodes) {
      Graph one = r.graph;
      one.nodes = {n};
      one.inputs.clear();
      std::vector<Tensor> in;
      for (ValueId v : n.inputs)
        if (v != kNone && !one.constant(v) && std::find(one.inputs.begin(), one.inputs.end(), v) == one.inputs.end()) {
          const Tensor& t = all[static_cast<std::size_t>(v)];
          one.inputs.push_back(v);
          one.values[static_cast<std::size_t>(v)].type = {t.dtype(), dims_of(t.shape())};
          in.push_back(t);
        }
      one.outputs.clear();
      for (ValueId v : n.outputs)
        if (v != kNone) one.outputs.push_back(v);
      const std::vector<Tensor> want = evaluate_float(one, in);
      for (std::size_t i = 0; i < want.size(); ++i)
        if (std::string d = near(want[i], all[static_cast<std::size_t>(one.outputs[i])], 16, "exec"); !d.empty()) return fmt::format("{}: output {} {}", r.graph.describe(n), i, d);
    }
    return "";
  }
  // `units` in the last place of the largest number, or of 1.
  static std::string near(const Tensor& want, const Tensor& got, double units, std::string_view engine) {
    if (want.shape() != got.shape()) return fmt::format("has shape {}, {} {}", tandem::to_string(want.shape()), engine, tandem::to_string(got.shape()));
    double scale = 1;
    for (std::int64_t k = 0; k < want.size(); ++k)
      if (std::isfinite(want.at(k))) scale = std::max(scale, std::abs(want.at(k)));
    const double bound = is_float(want.dtype()) ? units * 0x1p-24 * scale : 0;
    for (std::int64_t k = 0; k < want.size(); ++k) {
      const double a = want.at(k), b = got.at(k);
      if (!(a == b || (std::isnan(a) && std::isnan(b)) || std::abs(a - b) <= bound)) return fmt::format("element {}: ref {}, {} {}", k, a, engine, b);
    }
    return "";
  }

  void note(const std::string& engine, std::int64_t values) {
    auto it = stats_.engines.find(engine);
    if (it == stats_.engines.end()) return;
    ++it->second.graphs;
    it->second.values += values;
  }

  void report(const std::string& engine, const std::string& what, const Failing& f, std::uint64_t seed) {
    Failing small = f;
    std::string said = what;
    if (!replaying_) {
      small = shrink(f, [&](std::span<const Failing> some) {
        std::vector<bool> r;
        for (const Failing& c : some) try {
            r.push_back(!fault_of(engine, c).empty());
          } catch (const Error&) {
            r.push_back(false);
          }
        return r;
      }, 16, p_.shrink_rounds);
      said = fault_of(engine, small);
    }
    save(engine, said, small, seed);
  }
  void save(const std::string& engine, const std::string& what, const Failing& f, std::uint64_t seed) {
    if (auto it = stats_.engines.find(engine); it != stats_.engines.end()) ++it->second.mismatches;
    SelftestMismatch m{engine, what, seed, "", "", static_cast<int>(f.graph.nodes.size())};
    if (!replaying_) {
      const auto file = p_.out / fmt::format("mismatch_{}_{}.onnx", engine, seed);
      Graph g = f.graph;
      g.metadata[kEngineKey] = engine;
      g.metadata[kSeedKey] = std::to_string(seed);
      write_onnx(g, file);
      Archive a;
      for (std::size_t t = 0; t < f.inputs.size(); ++t)
        for (std::size_t i = 0; i < f.inputs[t].size(); ++i) a[fmt::format("t{}_{}", t, i)] = f.inputs[t][i];
      auto data = file;
      write_npz(data.replace_extension(".npz"), a);
      m.file = file.string();
      m.replay = "tandem selftest --replay " + shell_word(m.file);
    }
    stats_.mismatches.push_back(std::move(m));
  }

  // ---- Verilog: several graphs in one Verilated model ----------------------------------------------
  struct Queued {
    Failing failing;
    std::uint64_t seed;
    rtl::Design design;
    Stimulus stimulus;
    std::vector<Alone> layers;
  };
  // Error(no) where hardware cannot do it. The frames: those given, and more where the graph came with few. `layers`: each alone too.
  Queued design_of(const Failing& f, std::uint64_t seed, std::string_view prefix, bool more, bool layers) {
    ExactProgram p = lower_exact(f.graph, 64);
    plan::StageGraph g = plan::stages_from(p, prefix);
    Rng random(seed, "folding");
    plan::Folding folding = random_folding(g, random);
    if (random.chance(0.8)) map::size_queues(g, folding);
    Queued q{f, seed, rtl::generate(g, folding, prefix), {}, {}};
    if (p_.tamper_rtl) p_.tamper_rtl(g, q.design);
    for (std::uint64_t k = f.inputs.size(); more && k < kFrames; ++k) q.failing.inputs.push_back(k < 6 ? corner_inputs(f.graph, static_cast<int>(k) - 2) : random_inputs(f.graph, seed * 16 + k));
    if (more && f.graph.inputs.size() == 1)
      for (Tensor& t : extreme_frames(p, g, seed, 200, kExtremes)) q.failing.inputs.push_back({std::move(t)});
    exec::Executor e(p);
    for (std::size_t k = 0; k < q.failing.inputs.size(); ++k) {
      e.run(q.failing.inputs[k]);
      append_frame(q.stimulus, g, e, look_inside(g, static_cast<std::int64_t>(k)));
    }
    if (layers) q.layers = alone(q.design, g, p, fmt::format("{}_alone", prefix), seed);
    return q;
  }
  void queue_rtl(const Failing& f, std::uint64_t seed) {
    try {
      queue_.push_back(design_of(f, seed, fmt::format("g{}", queue_.size()), true, true));
      // All of them would cost about as much again as the graphs themselves: a part, another of every graph. A replay runs all.
      Rng r(seed, "alone");
      if (!replaying_) std::erase_if(queue_.back().layers, [&](const Alone&) { return !r.chance(kLayersAlone); });
    } catch (const Error& e) {
      if (e.code() != Exit::no) throw;
      ++stats_.engines["rtl"].refused;
      return;
    }
    if (queue_.size() == kDesignsPerModel) flush_rtl();
  }
  static plan::Folding random_folding(const plan::StageGraph& g, Rng& r) {
    plan::Folding f = plan::smallest_folding(g);
    for (std::size_t i = 0; i < g.layers.size(); ++i) {
      auto divisor = [&](std::int64_t n) {
        std::vector<std::int64_t> d;
        for (std::int64_t k = 1; k <= n; ++k)
          if (n % k == 0) d.push_back(k);
        return r.pick(d);
      };
      plan::Fold before = f.of[i];
      const plan::Layer& l = g.layers[i];
      f.of[i].pe = divisor(plan::most_pe(l));
      if (l.kind == plan::LayerKind::dense) f.of[i].simd = divisor(plan::most_simd(l));
      if (l.kind == plan::LayerKind::requant)
        f.of[i] = {1, 1, l.rescale && r.chance(0.5) ? plan::Requantiser::arithmetic : r.chance(0.5) ? plan::Requantiser::table : plan::Requantiser::automatic};
      try {
        plan::check_folding(g, f);
      } catch (const Error&) {  // not every pair is legal
        f.of[i] = before;
      }
    }
    return f;
  }
  std::vector<VerifyResult> simulate(const std::vector<Queued>& some) {
    std::vector<rtl::Design> designs;
    std::vector<Stimulus> stimuli;
    for (const Queued& q : some) {
      designs.push_back(q.design);
      stimuli.push_back(q.stimulus);
    }
    for (const Queued& q : some)
      for (const Alone& a : q.layers) {
        designs.push_back(a.design);
        stimuli.push_back(a.stimulus);
      }
    VerifyOptions o;
    o.seed = p_.seed;
    o.designs_per_model = static_cast<std::int64_t>(std::max(designs.size(), kDesignsPerModel));  // modules are shared within a model
    std::vector<VerifyResult> r = verify(designs, stimuli, o, cancel_);
    std::size_t k = some.size();
    for (std::size_t i = 0; i < some.size(); ++i)
      for (const Alone& a : some[i].layers) {
        const VerifyResult& x = r[k++];
        r[i].words += x.words;
        if (x.ok || !r[i].ok) continue;
        r[i].ok = false;
        r[i].fault = fmt::format("{} {}: {}", kAlone, a.layer, x.text());
      }
    r.resize(some.size());
    return r;
  }
  void flush_rtl() {
    if (queue_.empty()) return;
    const std::vector<Queued> all = std::exchange(queue_, {});
    const std::vector<VerifyResult> results = simulate(all);
    for (std::size_t i = 0; i < results.size(); ++i) {
      EngineCount& c = stats_.engines["rtl"];
      ++c.graphs;
      c.values += results[i].words;
      if (!results[i].ok) report_rtl(all[i], results[i]);
    }
  }
  void report_rtl(const Queued& q, const VerifyResult& result) {
    if (replaying_) return save("rtl", result.text(), q.failing, q.seed);
    std::string said = result.text();
    const bool layers = result.fault.starts_with(kAlone);
    const Failing small = shrink(q.failing, [&](std::span<const Failing> some) {
      std::vector<bool> r(some.size(), false);
      std::vector<Queued> built;
      std::vector<std::size_t> of;
      for (std::size_t i = 0; i < some.size(); ++i) try {
          built.push_back(design_of(some[i], q.seed, fmt::format("g{}", built.size()), false, layers));
          of.push_back(i);
        } catch (const Error&) {  // hardware cannot do this one
        }
      if (built.empty()) return r;
      const std::vector<VerifyResult> v = simulate(built);
      for (std::size_t k = 0; k < of.size(); ++k) r[of[k]] = !v[k].ok;
      for (std::size_t k = 0; k < of.size(); ++k)
        if (!v[k].ok) {
          said = v[k].text();
          break;
        }
      return r;
    }, kDesignsPerModel, p_.shrink_rounds);
    save("rtl", said, small, q.seed);
  }
  static constexpr double kLayersAlone = 0.4;
  static constexpr std::string_view kAlone = "alone, layer";
  static constexpr std::uint64_t kFrames = 8;
  static constexpr std::size_t kExtremes = 6;
  static constexpr std::size_t kDesignsPerModel = 20;

  const SelftestParams& p_;
  const Cancel& cancel_;
  SelftestStats stats_;
  train::Learner* learner_ = nullptr;
  std::vector<Queued> queue_;
  bool lowers_ = false;    // the last graph has a reference
  bool replaying_ = false;
};

}  // namespace

std::vector<std::string> selftest_engines() { return {"ref", "exec", "train", "rtl"}; }

SelftestStats selftest(const SelftestParams& params, const Cancel& cancel) { return Selftest(params, cancel).run(); }

SelftestStats selftest_replay(const std::filesystem::path& file, const SelftestParams& params, const Cancel& cancel) {
  SelftestParams p = params;
  const Graph g = read_onnx(file);
  if (const auto it = g.metadata.find(kEngineKey); it != g.metadata.end()) {
    p.engines = {"ref"};
    if (it->second != "ref") p.engines.push_back(it->second);
  }
  return Selftest(p, cancel).replay(file);
}

}  // namespace tandem::proof
