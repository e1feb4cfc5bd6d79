#include "tandem/cli/model.h"
#include "tandem/ir/dump.h"
#include "tandem/ir/op.h"
#include "tandem/ir/ops/common.h"

namespace tandem::cli {
namespace {
using namespace ir;

struct Row {
  std::string node, op, shape, format, weights;
  std::int64_t parameters = 0, macs = 0, bytes = 0;
  bool counted = true;  // its MACs
};

bool has_parameters(const OpDef& d) {
  return d.closure == Closure::linear || d.closure == Closure::affine || d.closure == Closure::join || d.name == "Threshold" || d.name == "BatchNormalization" || d.domain == "tflite" || d.domain == "ai.onnx.ml";
}

std::vector<Row> rows_of(const Graph& g) {
  const std::vector<std::string> kinds = kinds_of(g);
  // Values that do not vary, and how their elements are stored: weights may pass Quant, Transpose, Reshape.
  struct Held { bool constant = false; std::string format; std::int64_t bits = 0; };
  std::vector<Held> held(g.values.size());
  const auto of_type = [](DType t) { return Held{true, std::string(to_string(t)), 8 * static_cast<std::int64_t>(size_of(t))}; };
  for (const auto& [v, t] : g.initialisers) held[static_cast<std::size_t>(v)] = of_type(t.dtype());
  std::vector<Row> rows;
  for (const Node& n : g.nodes) {
    const OpDef& def = op_of(g, n);
    const bool constant = !n.inputs.empty() && def.closure != Closure::state &&
                          std::all_of(n.inputs.begin(), n.inputs.end(), [&](ValueId v) { return v == kNone || held[static_cast<std::size_t>(v)].constant; });
    if (constant) {  // counted with the node that reads the result
      for (ValueId o : n.outputs) {
        const TensorType& t = g.values[static_cast<std::size_t>(o)].type;
        Held& h = held[static_cast<std::size_t>(o)];
        h = def.closure == Closure::move || n.op == "DequantizeLinear" ? held[static_cast<std::size_t>(n.inputs[0])] : of_type(t.dtype);
        if (def.closure != Closure::quantiser) continue;
        Shape s;
        for (const Dim& d : *t.dims) s.push_back(d.n);
        const QuantiserCasts spec = quant_spec(g, n, s);
        h.format = spec.format, h.bits = spec.bits;
      }
      continue;
    }
    Row r;
    const Value& out = g.values[static_cast<std::size_t>(n.outputs[0])];
    r.node = n.name.empty() ? out.name : n.name;
    r.op = n.op;
    r.shape = out.type.dims ? to_string(*out.type.dims) : "?";
    r.format = kinds[static_cast<std::size_t>(n.outputs[0])];
    const auto known = [&](ValueId v) { return v == kNone || (g.values[static_cast<std::size_t>(v)].type.dims && all_known(*g.values[static_cast<std::size_t>(v)].type.dims)); };
    if (def.einsum && std::all_of(n.inputs.begin(), n.inputs.end(), known) && std::all_of(n.outputs.begin(), n.outputs.end(), known)) r.macs = def.einsum(g, n).macs();
    if (has_parameters(def))
      for (ValueId v : n.inputs) {
        if (v == kNone || !held[static_cast<std::size_t>(v)].constant) continue;
        const auto& [constant_value, format, bits] = held[static_cast<std::size_t>(v)];
        std::int64_t count = 1;
        for (const Dim& d : *g.values[static_cast<std::size_t>(v)].type.dims) count *= d.n;
        r.parameters += count;
        r.bytes += (count * bits + 7) / 8;
        if (r.weights.find(format) == std::string::npos) r.weights += (r.weights.empty() ? "" : " ") + format;
      }
    r.counted = def.einsum || r.parameters == 0;
    rows.push_back(std::move(r));
  }
  return rows;
}

Run setup(Options& o) {
  struct Args { ModelArgs model; bool text = false; };
  auto a = std::make_shared<Args>();
  a->model.look_only = true;
  a->model.declare(o, "Model file");
  o.flag("--text", a->text, "The graph itself, one line per value and node");
  return [a](Context& c) {
    const Graph loaded = a->model.load(c);
    if (a->text) {
      c.print(to_text(loaded));
      return Exit::done;
    }
    std::vector<std::string> notes;
    const Graph g = bind_free(loaded, &notes);
    const std::vector<Row> rows = rows_of(g);
    std::int64_t parameters = 0, macs = 0, bytes = 0;
    for (const Row& r : rows) parameters += r.parameters, macs += r.macs, bytes += r.bytes;
    std::optional<double> mean;  // over the extents whose shares are known
    for_each_extent(loaded, [&](const Graph& x, double share) {
      double sum = 0;
      for (const Row& r : rows_of(x)) sum += static_cast<double>(r.macs);
      mean = mean.value_or(0) + share * sum;
    });
    if (c.json) {
      JsonWriter j;
      j.object().field("model", a->model.file).field("graph", g.name).field("bound", notes);
      const auto ports = [&](const char* key, const std::vector<ValueId>& vs) {
        j.key(key).array();
        for (ValueId v : vs) {
          const Value& x = g.values[static_cast<std::size_t>(v)];
          j.object().field("name", x.name).field("dtype", to_string(x.type.dtype)).key("shape").array();
          for (const Dim& d : *x.type.dims) j.value(d.n);
          j.end().end();
        }
        j.end();
      };
      ports("inputs", g.inputs);
      ports("outputs", g.outputs);
      j.key("layers").array();
      for (const Row& r : rows)
        j.object().field("node", r.node).field("op", r.op).field("output", r.shape).field("format", r.format).field("weights", r.weights)
            .field("parameters", r.parameters).field("macs", r.macs).field("macs_counted", r.counted).field("bytes", r.bytes).end();
      j.end().key("total").object().field("parameters", parameters).field("macs", macs).field("bytes", bytes);
      if (mean) j.field("mean_macs", *mean);
      j.end().end();
      c.print(j);
      return Exit::done;
    }
    Table t;
    t.columns = {{"node"}, {"op"}, {"output"}, {"format"}, {"weights"}, {"parameters", true}, {"MACs", true}, {"bytes", true}};
    const auto n = [](std::int64_t v) { return v ? grouped(v) : std::string(); };
    for (const Row& r : rows) t.add({r.node, r.op, r.shape, r.format, r.weights, n(r.parameters), n(r.macs), n(r.bytes)});
    t.foot = {"total", fmt::format("{} nodes", rows.size()), "", "", "", grouped(parameters), grouped(macs), grouped(bytes)};
    for (const std::string& s : notes) c.note("bound: " + s);
    c.print(t);
    for (const Row& r : rows)
      if (!r.counted) c.note(fmt::format("the MACs of '{}' ({}) are not counted", r.node, r.op));
    if (mean) c.note(fmt::format("MACs in the mean over the extents: {}", grouped(std::llround(*mean))));
    return Exit::done;
  };
}

}  // namespace

extern const Command cmd_show;
const Command cmd_show{
    .name = "show",
    .group = "Models",
    .summary = "Layer table of a model: shapes, formats, parameters, MACs, bytes",
    .description = "Prints one line per node: output shape, how the value is held (a format, exact, or a float type), parameters with their format, "
                   "multiply-accumulates from the operator's Einsum, bytes of the parameters. Free extents (batch) are bound to 1.",
    .examples = {{"tandem show model.onnx"}, {"tandem show model.onnx --json --out layers.json"}},
    .setup = setup,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["model", "graph", "bound", "inputs", "outputs", "layers", "total"], "additionalProperties": false,
  "properties": {
    "model": {"type": "string"}, "graph": {"type": "string"}, "bound": {"type": "array", "items": {"type": "string"}},
    "inputs": {"type": "array", "items": {"$ref": "#/$defs/port"}}, "outputs": {"type": "array", "items": {"$ref": "#/$defs/port"}},
    "layers": {"type": "array", "items": {"type": "object", "additionalProperties": false,
      "required": ["node", "op", "output", "format", "weights", "parameters", "macs", "macs_counted", "bytes"],
      "properties": {"node": {"type": "string"}, "op": {"type": "string"}, "output": {"type": "string"}, "format": {"type": "string"},
        "weights": {"type": "string"}, "parameters": {"type": "integer"}, "macs": {"type": "integer"}, "macs_counted": {"type": "boolean"}, "bytes": {"type": "integer"}}}},
    "total": {"type": "object", "required": ["parameters", "macs", "bytes"], "additionalProperties": false,
      "properties": {"parameters": {"type": "integer"}, "macs": {"type": "integer"}, "bytes": {"type": "integer"}, "mean_macs": {"type": "number"}}}
  },
  "$defs": {"port": {"type": "object", "required": ["name", "dtype", "shape"], "additionalProperties": false,
    "properties": {"name": {"type": "string"}, "dtype": {"type": "string"}, "shape": {"type": "array", "items": {"type": "integer"}}}}}
}
)"};

}  // namespace tandem::cli
