#include "tandem/flow/doctor.h"

#include <algorithm>
#include <map>
#include <set>

#include "tandem/base/json.h"
#include "tandem/base/parallel.h"
#include "tandem/base/table.h"
#include "tandem/flow/build.h"
#include "tandem/ir/arrays.h"
#include "tandem/ir/bind.h"
#include "tandem/ir/op.h"
#include "tandem/ir/refusal.h"
#include "tandem/map/folding.h"
#include "tandem/plan/refusals.h"
#include "tandem/train/learn.h"

namespace tandem::flow {
namespace {
using namespace ir;

std::size_t ix(ValueId v) { return static_cast<std::size_t>(v); }
std::string op_name(const Node& n) { return n.domain.empty() ? n.op : n.domain + "::" + n.op; }

// What every engine's refusal falls back to when it names no remedy itself.
std::string remedy(std::string_view engine, std::string_view node, std::string fix) {
  if (!fix.empty()) return fix;
  if (node.empty()) return "cut the model so that one quantised input leads to one output, and build the parts";
  if (engine == "train") return "train the model in its float or Quant form and convert it afterwards";
  if (engine == "exec") return "write it with other operators of `tandem ops`, or put a quantiser on its inputs";
  return "write it with operators that have a stage (`tandem ops`), or move it behind the last layer: it then stays on the host";
}

// Walks up the floats that a node reads: where they come from, and what would help.
struct Cause {
  std::string reason, fix;
};
Cause cause_of_floats(const Graph& g, const std::vector<Kind>& kind, const std::set<std::string>& refused, const Node& start) {
  const UseMap uses(g);
  std::vector<ValueId> todo(start.inputs.begin(), start.inputs.end());
  std::set<ValueId> seen;
  bool quantisers = false;
  for (const Node& n : g.nodes) quantisers |= op_of(g, n).closure == Closure::quantiser;
  while (!todo.empty()) {
    const ValueId v = todo.back();
    todo.pop_back();
    if (v == kNone || kind[ix(v)] != Kind::floating || !seen.insert(v).second) continue;
    const int p = uses.producer[ix(v)];
    if (p < 0) {
      const std::string& name = g.values[ix(v)].name;
      if (!quantisers) return {fmt::format("the model is in float: input '{}' and the weights have no quantiser", name), fmt::format("`{}` quantises it, `{}` on the way; `tandem train` with a quantisation recipe loses less", quantize_line("", "", false), quantize_line("", "", true))};
      return {fmt::format("no quantiser stands between it and the float input '{}'", name), "give the input a format, for example --input-format uint8/255, or put a Quant node behind it"};
    }
    const Node& n = g.nodes[static_cast<std::size_t>(p)];
    if (refused.count(g.describe(n))) return {fmt::format("it reads {}, which is refused", g.describe(n)), "see there"};
    if (op_of(g, n).closure == Closure::open)
      return {fmt::format("it reads floats that come from {}", g.describe(n)), fmt::format("put a quantiser behind {}, or end the model before it", g.describe(n))};
    todo.insert(todo.end(), n.inputs.begin(), n.inputs.end());
  }
  return {"it works on floats", "put a quantiser before it"};
}

// The kinds when refused nodes, and what reads them, are left to the host.
std::vector<Kind> kinds_behind(const Graph& g, const std::set<std::string>& refused) {
  std::vector<Kind> kind = classify(g);
  for (const Node& n : g.nodes) {
    bool open = refused.count(g.describe(n)) != 0;
    if (op_of(g, n).closure != Closure::quantiser)
      for (ValueId v : n.inputs) open |= v != kNone && kind[ix(v)] == Kind::floating;
    if (open)
      for (ValueId o : n.outputs)
        if (o != kNone && kind[ix(o)] == Kind::exact) kind[ix(o)] = Kind::floating;
  }
  return kind;
}

struct Hardware {
  std::map<std::string, std::string> cell;  // by Graph::describe()
  bool known = false;
};

// What takes time: the program that hardware would compute, and its stages.
struct Planned {
  std::optional<Error> no_graph;
  std::optional<ExactProgram> program;
  plan::StageGraph stages;
  std::vector<Refusal> lowering, planning;
};
bool of_tflite(const Graph& g) {
  return std::any_of(g.nodes.begin(), g.nodes.end(), [](const Node& n) { return n.domain == "tflite"; });
}
Planned planned(const Graph& model, const Graph& bound, const DoctorParams& p) {
  Planned r;
  if (of_tflite(bound)) return r;
  Graph g = bound;
  try {
    g = hardware_graph(model, p.input_format);
  } catch (const Error& e) {
    if (e.code() == Exit::bug || (!p.input_format.empty() && e.code() == Exit::bad_input)) throw;
    r.no_graph = e;
  }
  r.program = lower_what_can_be(g, 64, r.lowering);
  if (r.program) r.planning = plan::refusals(*r.program, &r.stages);
  return r;
}

Hardware hardware_of(const Planned& done, const Graph& bound, const DoctorParams& p, DoctorReport& r) {
  Hardware h;
  const auto refuse = [&](std::string node, std::string reason, std::string fix) {
    for (const EngineRefusal& e : r.refused)
      if (!node.empty() && e.node == node && (e.engine == "exec" || e.engine == "hardware")) return;  // one reason a node: the first
    if (!node.empty()) h.cell[node] = "no";
    fix = remedy("hardware", node, std::move(fix));
    r.refused.push_back({"hardware", std::move(node), std::move(reason), fix});
  };
  if (of_tflite(bound)) {
    refuse("", "TensorFlow Lite's integer kernels, which round twice, have no stages",
           "`tandem build` reads such a model with Quant nodes of the same weights and scales, rounded once; `tandem doctor --as-quantisers` judges that reading");
    return h;
  }
  if (done.no_graph) refuse("", done.no_graph->message(), done.no_graph->fix());
  const std::optional<ExactProgram>& program = done.program;
  std::set<std::string> refused;
  for (const EngineRefusal& e : r.refused)
    if (e.engine == "exec") h.cell[e.node] = "no";
  for (const Refusal& x : done.lowering) {
    refuse(x.node, x.reason, x.fix);
    refused.insert(x.node);
  }
  if (!program) return h;
  h.known = true;
  const Graph& lowered = *program->graph;
  const std::vector<Kind> kind = kinds_behind(lowered, refused);
  std::set<std::string> present;
  for (const Node& n : lowered.nodes) {
    const std::string d = lowered.describe(n);
    present.insert(d);
    if (h.cell.count(d)) continue;
    const Kind k = n.outputs.empty() || n.outputs[0] == kNone ? Kind::constant : kind[ix(n.outputs[0])];
    h.cell[d] = k == Kind::constant ? "folded" : k == Kind::floating ? "host" : "merged";
    if (k == Kind::floating && op_of(lowered, n).closure == Closure::linear) {
      Cause c = cause_of_floats(lowered, kind, refused, n);
      refuse(d, "a contraction of floats: " + c.reason, c.fix);
    }
  }
  const plan::StageGraph& stages = done.stages;
  for (const Refusal& x : done.planning) {
    std::string reason = x.reason, fix = x.fix;
    for (const Node& n : lowered.nodes)  // a quantiser behind floats: say whose
      if (lowered.describe(n) == x.node && op_of(lowered, n).closure == Closure::quantiser && reason.find("quantises a float") != std::string::npos) {
        const Cause c = cause_of_floats(lowered, kind, refused, n);
        reason += "; " + c.reason;
        fix = c.fix == "see there" ? c.fix : "keep what stands before it exact, or end the model there";
      }
    if (x.node.empty() && !r.refused.empty()) continue;  // what the whole lacks because of a refused part
    refuse(x.node, reason, fix);
  }
  for (const plan::Layer& l : stages.layers)
    if (auto it = h.cell.find(l.node); it != h.cell.end() && it->second != "no") it->second = std::string(plan::to_string(l.kind));
  for (const Node& n : bound.nodes)
    if (const std::string d = bound.describe(n); !present.count(d) && !h.cell.count(d)) h.cell[d] = "folded";
  const bool refused_any = std::any_of(r.refused.begin(), r.refused.end(), [](const EngineRefusal& e) { return e.engine != "train"; });
  if (refused_any) return h;
  for (const std::string& s : stages.host) r.notes.push_back("on the host, " + s);
  if (!p.target) return h;
  const hardware::Target& t = *p.target;
  try {
    const map::Choice c = map::choose_folding(stages, budget_of(t), 0);
    r.fit = fmt::format("{} would hold it: {:.0f} LUT and {:.0f} block RAMs estimated, {} cycles a frame{}; {}", t.name, c.estimate.lut4(c.uses_dsp), c.estimate.cost.bram,
                        grouped(c.estimate.interval), t.clock_mhz > 0 ? fmt::format(" ({:.0f} frames/s at {} MHz)", t.clock_mhz * 1e6 / static_cast<double>(c.estimate.interval), t.clock_mhz) : "",
                        c.limit);
  } catch (const Error& e) {
    if (e.code() != Exit::no) throw;
    refuse("", e.message(), e.fix().empty() ? "a larger target (`tandem targets`), fewer bits, or narrower layers" : e.fix());
  }
  return h;
}

}  // namespace

bool DoctorReport::ok() const {
  return std::all_of(refused.begin(), refused.end(), [](const EngineRefusal& e) { return e.engine == "train"; });
}

DoctorReport examine(const Graph& model, const DoctorParams& p) {
  verify_structure(model);
  DoctorReport r;
  for (const Node& n : model.nodes)
    if (!find_op(n.domain, n.op)) {
      r.refused.push_back({"all", model.describe(n), fmt::format("operator '{}' is not known", op_name(n)), "express it by operators of `tandem ops`"});
    }
  if (!r.refused.empty()) {
    for (const Node& n : model.nodes) {
      const bool known = find_op(n.domain, n.op) != nullptr;
      const std::string cell = known ? "unknown" : "no";
      r.nodes.push_back({model.describe(n), op_name(n), cell, cell, known && train::why_not_trainable(model, n).empty() ? "yes" : "no", cell});
    }
    r.notes.push_back("nodes of known operators are judged once the others are replaced");
    return r;
  }
  verify(model);
  const Graph bound = bind_free(model, &r.notes);
  for (std::string& s : r.notes) s = "bound: " + s;
  std::vector<Refusal> exact;
  Planned hardware;
  parallel_for(2, 1, [&](std::int64_t i) {
    if (i == 0) hardware = planned(model, bound, p);
    else lower_what_can_be(bound, 128, exact);
  });
  for (const Refusal& x : exact) r.refused.push_back({"exec", x.node, x.reason, remedy("exec", x.node, x.fix)});
  const Hardware h = hardware_of(hardware, bound, p, r);
  const std::vector<Kind> kind = classify(bound);
  for (const Node& n : bound.nodes) {
    NodeVerdict v;
    v.node = bound.describe(n);
    v.op = op_name(n);
    const Kind k = n.outputs.empty() || n.outputs[0] == kNone ? Kind::constant : kind[ix(n.outputs[0])];
    v.ref = k == Kind::constant ? "folded" : k == Kind::floating ? "f32" : "exact";
    v.exec = std::any_of(exact.begin(), exact.end(), [&](const Refusal& x) { return x.node == v.node; }) ? "no" : v.ref;
    const std::string why = train::why_not_trainable(bound, n);
    v.train = why.empty() ? "yes" : "no";
    if (!why.empty()) r.refused.push_back({"train", v.node, why, remedy("train", v.node, "")});
    const auto it = h.cell.find(v.node);
    v.hardware = it == h.cell.end() ? "unknown" : it->second;
    r.nodes.push_back(std::move(v));
  }
  return r;
}

std::string to_text(const DoctorReport& r) {
  Table t;
  t.columns = {{"node"}, {"op"}, {"ref"}, {"exec"}, {"train"}, {"hardware"}};
  for (const NodeVerdict& v : r.nodes) t.add({v.node, v.op, v.ref, v.exec, v.train, v.hardware});
  std::string s = render(t, TableStyle::text);
  std::vector<bool> said(r.refused.size());
  for (std::size_t i = 0; i < r.refused.size(); ++i) {  // nodes refused for one reason share a paragraph
    if (said[i]) continue;
    const EngineRefusal& e = r.refused[i];
    std::string who;
    for (std::size_t k = i; k < r.refused.size(); ++k) {
      const EngineRefusal& o = r.refused[k];
      if (o.engine != e.engine || o.reason != e.reason || o.fix != e.fix) continue;
      said[k] = true;
      who += (who.empty() ? "" : ",\n") + (o.node.empty() ? "the model" : printable(o.node));
    }
    s += fmt::format("\n{}: {}\n  refused by: {}\n  help:       {}\n", who, printable(e.reason), e.engine, printable(e.fix));
  }
  if (!r.notes.empty()) s += "\n";
  for (const std::string& n : r.notes) s += printable(n) + "\n";
  if (!r.fit.empty()) s += "\n" + printable(r.fit) + "\n";
  const auto blocking = std::count_if(r.refused.begin(), r.refused.end(), [](const EngineRefusal& e) { return e.engine != "train"; });
  s += r.ok() ? "\nverdict: it runs exactly and can become hardware\n" : fmt::format("\nverdict: {} refusal{}\n", blocking, blocking == 1 ? "" : "s");
  return s;
}

std::string to_json(const DoctorReport& r, std::string_view model, std::string_view target) {
  JsonWriter j;
  j.object().field("model", model).field("target", target).field("ok", r.ok()).key("nodes").array();
  for (const NodeVerdict& v : r.nodes)
    j.object().field("node", v.node).field("op", v.op).field("ref", v.ref).field("exec", v.exec).field("train", v.train).field("hardware", v.hardware).end();
  j.end().key("refused").array();
  for (const EngineRefusal& e : r.refused) j.object().field("engine", e.engine).field("node", e.node).field("reason", e.reason).field("fix", e.fix).end();
  return j.end().field("notes", r.notes).field("fit", r.fit).end().text();
}

}  // namespace tandem::flow
