#include "tandem/cli/command.h"
#include "tandem/flow/diff.h"

namespace tandem::cli {
namespace {

Run setup(Options& o) {
  struct Args { std::string a, b; };
  auto a = std::make_shared<Args>();
  o.argument("A", a->a, "Model file, or a folder written by `tandem build`");
  o.argument("B", a->b, "what it is compared with: of the same kind");
  return [a](Context& c) {
    const flow::DiffReport r = flow::diff(a->a, a->b, c.limits);
    if (c.json) {
      c.print(flow::to_json(r, a->a, a->b));
    } else if (r.differences.empty()) {
      c.print(fmt::format("equal: the {} say the same\n", r.kind));
    } else {
      Table t;
      t.columns = {{"kind"}, {"what"}, {"A"}, {"B"}};
      for (const flow::Difference& d : r.differences) t.add({d.kind, d.what, d.a, d.b});
      c.print(t);
    }
    return r.differences.empty() ? Exit::done : Exit::no;
  };
}

}  // namespace

extern const Command cmd_diff;
const Command cmd_diff{
    .name = "diff",
    .group = "Models",
    .summary = "What differs between two models, or between two built designs",
    .description = "Two models: graph, attributes, shapes, formats, weights, matched by name. Two folders written by `tandem build`: design, layers, "
                   "cost and figures of build.json, and whether the models are the same. Exit code 0 when they say the same, 1 when they differ.",
    .examples = {{"tandem diff model.onnx model.onnx"}, {"tandem diff model.onnx model.onnx --json"}},
    .setup = setup,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["kind", "a", "b", "equal", "differences"], "additionalProperties": false,
  "properties": {"kind": {"enum": ["models", "designs"]}, "a": {"type": "string"}, "b": {"type": "string"}, "equal": {"type": "boolean"},
    "differences": {"type": "array", "items": {"type": "object", "required": ["kind", "what", "a", "b"], "additionalProperties": false,
      "properties": {"kind": {"enum": ["graph", "attribute", "shape", "format", "weights", "design", "layer", "metric"]}, "what": {"type": "string"},
        "a": {"type": "string"}, "b": {"type": "string"}}}}}
}
)"};

}  // namespace tandem::cli
