#include <cmath>

#include "tandem/base/nearest.h"
#include "tandem/cli/model.h"
#include "tandem/exec/exec.h"
#include "tandem/exec/float.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"
#include "tandem/numerics/rational.h"
#include "tandem/tensor/npy.h"

namespace tandem::cli {
namespace {
using namespace ir;

std::vector<Tensor> inputs_for(const Graph& g, const std::string& path, const Limits& limits) {
  Archive data;
  if (path.ends_with(".npy")) data.emplace("array", read_npy(path, limits));
  else data = read_npz(path, limits);
  std::vector<std::string> names;
  for (const auto& [k, t] : data) names.push_back(k);
  std::vector<Tensor> r;
  for (ValueId v : g.inputs) {
    const Value& x = g.values[static_cast<std::size_t>(v)];
    auto it = data.find(x.name);
    if (it == data.end() && g.inputs.size() == 1 && data.size() == 1) it = data.begin();  // the only one there is
    if (it == data.end())
      throw bad_input("there is no array for the input '{}'", x.name).at(path).expected(fmt::format("an array called '{}'", x.name)).fix(suggest(x.name, names));
    if (it->second.dtype() != x.type.dtype)
      throw bad_input("the array '{}' holds {}, the input '{}' takes {}", it->first, to_string(it->second.dtype()), x.name, to_string(x.type.dtype))
          .at(path)
          .fix(fmt::format("convert the array to {}", to_string(x.type.dtype)));
    r.push_back(it->second);
  }
  return r;
}

Tensor tensor_of(const LiteralValue& v, DType t) {
  if (t != DType::f32 && t != DType::f64 && !v.exact) t = DType::f32;
  Tensor r(t, v.shape);
  for (std::int64_t i = 0; i < r.size(); ++i) {
    const auto k = static_cast<std::size_t>(i);
    if (!v.exact) r.set(i, v.f[k]);
    else if (t == DType::f32) r.data<float>()[i] = nearest_float(v.q[k]);
    else r.set(i, nearest_double(v.q[k]));
  }
  return r;
}

// Rows that one run of the model takes, where it states another number than `x` has and all else fits; 0: it does not.
std::int64_t stated_batch(const Graph& g, const Tensor& x) {
  if (g.inputs.size() != 1) return 0;
  const auto& dims = g.values[static_cast<std::size_t>(g.inputs[0])].type.dims;
  if (!dims || dims->empty() || dims->size() != x.shape().size() || x.size() == 0) return 0;
  for (std::size_t i = 0; i < dims->size(); ++i)
    if (!(*dims)[i].known() || (i > 0 && (*dims)[i].n != x.shape()[i])) return 0;
  for (const Node& n : g.nodes)  // a state sees one row after the other
    if (const OpDef* op = find_op(n.domain, n.op); op && op->closure == Closure::state) return 0;
  const std::int64_t b = (*dims)[0].n;
  return b > 0 && b != x.shape()[0] ? b : 0;
}

Run setup(Options& o) {
  struct Args { ModelArgs model; std::string input; bool all = false, exact = false; };
  auto a = std::make_shared<Args>();
  a->model.declare(o, "Model file");
  o.option("--input,-i", a->input, "Arrays by the names of the inputs (.npz); one array (.npz or .npy) when there is one input");
  o.flag("--all", a->all, "Every intermediate value, not only the outputs");
  o.flag("--exact", a->exact, "The exact meaning of the quantised graph instead of f32 (docs/semantics.md)");
  return [a](Context& c) {
    if (a->input.empty()) throw bad_input("there is no input").at("tandem run").expected("--input x.npz");
    if (!c.out.empty() && !c.force && std::filesystem::exists(c.out)) throw bad_input("'{}' exists", c.out).at("--out").fix("--force overwrites it");
    const Graph loaded = a->model.load(c);
    const std::vector<Tensor> in = inputs_for(loaded, a->input, c.limits);
    const std::int64_t batch = a->all ? 0 : stated_batch(loaded, in.at(0));
    std::map<std::string, Shape> shapes;
    for (std::size_t i = 0; i < in.size(); ++i) {
      Shape& s = shapes[loaded.values[static_cast<std::size_t>(loaded.inputs[i])].name] = in[i].shape();
      if (batch > 0) s[0] = batch;
    }
    Graph g;
    try {
      g = bind_inputs(loaded, shapes);
    } catch (Error& e) {
      if (e.where().empty()) e.at(a->input);
      throw;
    }
    Archive result;
    const auto put = [&](ValueId v, Tensor t) { result.insert_or_assign(g.values[static_cast<std::size_t>(v)].name, std::move(t)); };
    std::vector<Tensor> out;
    std::optional<exec::FloatExecutor> plan;
    if (!a->exact) {
      exec::FloatOptions o;
      o.keep_all = a->all;
      o.memory_bytes = c.limits.memory_bytes;
      plan.emplace(g, o);
      const double mib = static_cast<double>(plan->peak_bytes()) / (1 << 20);
      if (!c.json) c.note(fmt::format("memory while it runs: {:.1f} MiB{}", mib, plan->bounded() ? "" : ", and what values take whose extents depend on the data"));
    }
    if (batch > 0) {
      c.note(fmt::format("the model takes {} row{} at a time: run {} times", batch, batch == 1 ? "" : "s", (in[0].shape()[0] + batch - 1) / batch));
      out = a->exact ? exec::run_rows(g, in[0]) : exec::in_portions(in[0], batch, [&](const Tensor& portion) { return plan->run({portion}); });
    } else if (!a->exact) {
      std::vector<Tensor> all;
      out = plan->run(in, a->all ? &all : nullptr);
      for (std::size_t v = 0; v < all.size(); ++v)
        if (all[v].defined() && !g.values[v].name.empty() && (all[v].size() > 0 || all[v].rank() > 0)) put(static_cast<ValueId>(v), all[v]);
    } else if (a->all) {
      std::vector<LiteralValue> all;
      out = to_tensors(g, evaluate_literal(g, in, nullptr, &all));
      for (std::size_t v = 0; v < all.size(); ++v)
        if (all[v].q.size() + all[v].f.size() > 0) put(static_cast<ValueId>(v), tensor_of(all[v], g.values[v].type.dtype));
    } else {
      exec::Executor e(lower_exact(g));
      out = e.run(in);
    }
    for (std::size_t i = 0; i < out.size(); ++i) put(g.outputs[i], out[i]);
    if (!c.out.empty()) write_npz(c.out, result, c.force);

    const auto range = [](const Tensor& t) {
      double lo = std::numeric_limits<double>::infinity(), hi = -lo;
      for (std::int64_t i = 0; i < t.size(); ++i) lo = std::min(lo, t.at(i)), hi = std::max(hi, t.at(i));
      return std::pair(lo, hi);
    };
    if (c.json) {
      JsonWriter j;
      j.object().field("model", a->model.file).field("input", a->input).field("engine", a->exact ? "exact" : "float");
      if (c.out.empty()) j.key("out").null();
      else j.field("out", c.out);
      if (plan) j.field("memory_bytes", static_cast<std::int64_t>(plan->peak_bytes()));
      else j.key("memory_bytes").null();
      j.key("values").array();
      for (const auto& [name, t] : result) {
        const auto [lo, hi] = range(t);
        j.object().field("name", name).field("dtype", to_string(t.dtype())).field("shape", t.shape()).field("min", lo).field("max", hi).end();
      }
      c.print(j.end().end());
      return Exit::done;
    }
    Table t;
    t.columns = {{"value"}, {"type"}, {"shape"}, {"min", true}, {"max", true}, {"first"}};
    for (const auto& [name, v] : result) {
      const auto [lo, hi] = range(v);
      std::string first;
      for (std::int64_t i = 0; i < std::min<std::int64_t>(v.size(), 4); ++i) first += fmt::format("{}{:.6g}", i ? " " : "", v.at(i));
      if (v.size() > 4) first += " ...";
      t.add({name, std::string(to_string(v.dtype())), to_string(v.shape()), v.size() ? fmt::format("{:.6g}", lo) : "", v.size() ? fmt::format("{:.6g}", hi) : "", first});
    }
    c.print(t);
    if (!c.out.empty()) c.note(fmt::format("{} arrays in {}", result.size(), c.out));
    return Exit::done;
  };
}

}  // namespace

extern const Command cmd_run;
const Command cmd_run{
    .name = "run",
    .group = "Models",
    .summary = "Runs a model on arrays, in f32 or exactly",
    .description = "Free extents (batch) are taken from the arrays. Without --out a summary of each output is printed; with it the arrays are written "
                   "under the names of the values. --exact computes the one meaning that every engine of tandem shares. "
                   "The memory that f32 needs is told beforehand; more than --memory is refused with exit code 4.",
    .examples = {{"tandem run model.onnx --input x.npz"}, {"tandem run model.onnx --input x.npz --exact --all --out y.npz"}},
    .setup = setup,
    .own_out = true,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["model", "input", "engine", "out", "memory_bytes", "values"], "additionalProperties": false,
  "properties": {
    "model": {"type": "string"}, "input": {"type": "string"}, "engine": {"enum": ["float", "exact"]}, "out": {"type": ["string", "null"]},
    "memory_bytes": {"type": ["integer", "null"], "description": "the most it holds while it runs, known beforehand; null for --exact"},
    "values": {"type": "array", "items": {"type": "object", "required": ["name", "dtype", "shape", "min", "max"], "additionalProperties": false,
      "properties": {"name": {"type": "string"}, "dtype": {"type": "string"}, "shape": {"type": "array", "items": {"type": "integer"}},
        "min": {"type": ["number", "null"]}, "max": {"type": ["number", "null"]}}}}
  }
}
)"};

}  // namespace tandem::cli
