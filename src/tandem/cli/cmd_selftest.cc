#include <memory>

#include "tandem/base/progress.h"
#include "tandem/cli/command.h"
#include "tandem/proof/selftest.h"

namespace tandem::cli {
namespace {

std::vector<std::string> split(const std::string& s) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at <= s.size();) {
    std::size_t comma = std::min(s.find(',', at), s.size());
    if (comma > at) out.push_back(s.substr(at, comma - at));
    at = comma + 1;
  }
  return out;
}

Run setup(Options& o) {
  struct Args {
    std::int64_t graphs = 100;
    std::string engines = "ref,exec", operators = "quantised", replay;
  };
  auto a = std::make_shared<Args>();
  o.option("--graphs", a->graphs, "How many random graphs");
  o.option("--operators", a->operators, "quantised: integer networks; all: graphs of every operator (engines ref and exec)");
  o.option("--engines", a->engines, "Comma-separated: ref, exec, train, rtl");
  o.option("--replay", a->replay, "A mismatch that was saved: the same graph, inputs and folding through the engine that it names");
  return [a](Context& c) {
    if (a->graphs < 1) throw bad_input("--graphs is {}", a->graphs).expected("at least 1");
    proof::SelftestParams p;
    p.graphs = a->graphs;
    p.seed = c.seed;
    p.operators = a->operators;
    p.engines = split(a->engines);
    if (p.engines.empty()) throw bad_input("--engines is empty").expected("ref,exec,train,rtl or some of them");
    if (!c.out.empty()) p.out = c.out;
    Progress progress("selftest", static_cast<std::uint64_t>(a->graphs));
    p.progress = [&](std::int64_t done, std::int64_t) { progress.update(static_cast<std::uint64_t>(done)); };
    const proof::SelftestStats s = a->replay.empty() ? proof::selftest(p, *c.cancel) : proof::selftest_replay(a->replay, p, *c.cancel);
    progress.finish();
    if (c.json) {
      JsonWriter j;
      j.object().field("seed", c.seed).field("drawn", p.operators).field("graphs", s.graphs).field("seconds", s.seconds).key("engines").array();
      for (auto& [name, e] : s.engines)
        j.object().field("engine", name).field("graphs", e.graphs).field("values", e.values).field("refused", e.refused).field("mismatches", e.mismatches).end();
      j.end().key("operators").object();
      for (auto& [name, n] : s.operators) j.field(name, n);
      j.end().key("mismatches").array();
      for (auto& m : s.mismatches)
        j.object().field("engine", m.engine).field("seed", m.seed).field("what", m.what).field("file", m.file).field("nodes", m.nodes).field("replay", m.replay).end();
      c.print(j.end().end());
    } else {
      Table t;
      t.columns = {{"engine"}, {"graphs", true}, {"values compared", true}, {"refused", true}, {"mismatches", true}};
      for (auto& [name, e] : s.engines)
        t.add({name, std::to_string(e.graphs), std::to_string(e.values), std::to_string(e.refused), std::to_string(e.mismatches)});
      c.print(t);
      c.print(fmt::format("seed {}: {} graphs, {} mismatches\n", c.seed, s.graphs, s.mismatches.size()));
      for (auto& m : s.mismatches) c.print(fmt::format("  {}: {} (seed {}, {} nodes)\n", m.engine, m.what, m.seed, m.nodes) + (m.replay.empty() ? "" : "    again: " + m.replay + "\n"));
    }
    c.cancel->check();
    return s.ok() ? Exit::done : Exit::no;
  };
}

}  // namespace

extern const Command cmd_selftest;
const Command cmd_selftest{
    .name = "selftest",
    .group = "Trust",
    .summary = "Compare the engines on random graphs",
    .description = "Draws random quantised graphs and runs them through the engines: the literal evaluator (one rational per element, the "
                   "oracle), the carrier, fast execution, training in evaluation mode, and generated Verilog in Verilator. Every output must "
                   "agree to the bit. With --operators all the graphs hold any operator: they are exported and imported again, and fast float "
                   "execution is compared node by node, to 16 units in the last place. A mismatch is cut down to a few nodes and saved as an ONNX file "
                   "with its inputs (folder: --out); --replay FILE shows it again.",
    .examples = {{"tandem selftest --graphs 50"}, {"tandem selftest --operators all"}, {"tandem selftest --graphs 20 --seed 7 --json"}},
    .setup = setup,
    .own_out = true,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["seed", "drawn", "graphs", "seconds", "engines", "operators", "mismatches"],
  "properties": {
    "seed": {"type": "integer"}, "drawn": {"enum": ["quantised", "all"]}, "graphs": {"type": "integer"}, "seconds": {"type": "number"},
    "engines": {"type": "array", "items": {"type": "object", "required": ["engine", "graphs", "values", "refused", "mismatches"]}},
    "operators": {"type": "object"},
    "mismatches": {"type": "array", "items": {"type": "object", "required": ["engine", "seed", "what", "file", "nodes"]}}
  }
}
)"};

}  // namespace tandem::cli
