#include <memory>

#include "tandem/base/file.h"
#include "tandem/cli/model.h"
#include "tandem/flow/quantize.h"
#include "tandem/ir/onnx.h"

namespace tandem::cli {
namespace {

#define TANDEM_LAYERS_SCHEMA R"("layers": {"type": "array", "items": {"type": "object", "required": ["layer", "of", "format", "scale", "max_error", "mean_error", "sqnr_db", "clipped"], "additionalProperties": false, "properties": {"layer": {"type": "string"}, "of": {"type": "string"}, "format": {"type": "string"}, "scale": {"type": "number"}, "max_error": {"type": "number"}, "mean_error": {"type": "number"}, "sqnr_db": {"type": ["number", "null"]}, "clipped": {"type": "number"}}}})"

Run setup(Options& o) {
  struct Args {
    ModelArgs model;
    flow::QuantizeParams p;
  };
  auto a = std::make_shared<Args>();
  a->model.declare(o, "Model file, in float");
  o.option("--format", a->p.format, "Of weights and activations: int8 (default), intN, uintN (zero points) or \"fixed<W,I>\", 2 to 16 bits");
  o.option("--weight-format", a->p.weight_format, "Of the weights only");
  o.option("--activation-format", a->p.activation_format, "Of the input and the values between layers only");
  o.flag("--per-channel", a->p.per_channel, "One weight scale per output channel");
  o.flag("--by-table", a->p.by_table, "Softmax and LayerNormalization as integers with a table, what enters them quantised: then hardware has them too");
  o.option("--method", a->p.method, "How ranges are found: minmax (default), what occurs in the data");
  o.option("--data", a->p.data, "Samples: digits, mnist, .npz, .npy, .csv, IDX or a folder of images");
  o.option("--calibrate", a->p.calibration, "Most samples for the ranges, of the train split where there is one (default 512, 0: all)");
  o.option("--limit", a->p.limit, "Most samples for errors and accuracy, of the test split where there is one (default 1000, 0: all)");
  return [a](Context& c) {
    flow::QuantizeParams p = a->p;
    if (p.calibration < 0 || p.limit < 0) throw bad_input("--calibrate and --limit must not be negative");
    p.limits = c.limits;
    p.say = [&](std::string_view s) { c.note(s); };
    if (!c.out.empty() && !c.force && std::filesystem::exists(c.out)) throw bad_input("'{}' exists", c.out).at("--out").fix("--force overwrites it");
    const ir::Graph g = a->model.load(c);
    flow::QuantizeResult r;
    try {
      r = flow::quantize(g, p, *c.cancel);
    } catch (Error& e) {
      if (e.where().empty()) e.at(a->model.file);
      throw;
    }
    if (!c.out.empty()) write_file(c.out, ir::onnx_bytes(r.graph));
    if (c.json) c.print(flow::to_json(r, c.out));
    else c.print(flow::to_text(r));
    return Exit::done;
  };
}

Run setup_eval(Options& o) {
  struct Args {
    ModelArgs model;
    flow::EvalParams p;
    bool confusion = false;
  };
  auto a = std::make_shared<Args>();
  a->model.declare(o, "Model file");
  o.option("--data", a->p.data, "Samples with labels: digits, mnist, .npz (x and y), .csv, IDX or a folder of images per class");
  o.option("--task", a->p.task, "classification or regression (default: what the labels are)");
  o.option("--limit", a->p.limit, "Most samples, evenly spaced (default 0: the whole test split)");
  o.flag("--confusion", a->confusion, "Print the confusion matrix too");
  return [a](Context& c) {
    if (a->p.limit < 0) throw bad_input("--limit is {}", a->p.limit).expected("0 or more");
    flow::EvalParams p = a->p;
    p.limits = c.limits;
    const flow::EvalResult r = flow::evaluate(a->model.load(c), p, *c.cancel);
    if (c.json) c.print(flow::to_json(r, a->model.file));
    else c.print(flow::to_text(r, a->confusion));
    return Exit::done;
  };
}

}  // namespace

extern const Command cmd_quantize;
const Command cmd_quantize{
    .name = "quantize",
    .group = "Models",
    .summary = "Quantise a float model after training",
    .description = "Finds the range of every value on data and writes the model with QONNX Quant nodes: the input, the weights, what enters a layer, "
                   "biases on the grid of the sums, one scale at joins. Logits stay exact, but for --by-table. Prints the error of each quantiser against the float model "
                   "and, where the data has labels, the accuracy before and after. --out receives the ONNX file.",
    .examples = {{"tandem quantize float.onnx --format int8 --data digits --limit 100 --out int8.onnx --force"},
                 {"tandem quantize float.onnx --format int4 --per-channel --data digits --limit 100 --json"}},
    .setup = setup,
    .own_out = true,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["weights", "activations", "per_channel", "calibrated_on", "judged_on", "out", "layers", "before", "after"], "additionalProperties": false,
  "properties": {"weights": {"type": "string"}, "activations": {"type": "string"}, "per_channel": {"type": "boolean"}, "calibrated_on": {"type": "string"},
    "judged_on": {"type": "string"}, "out": {"type": "string"}, "before": {"type": ["object", "null"]}, "after": {"type": ["object", "null"]},
    )" TANDEM_LAYERS_SCHEMA R"(}
}
)"};

extern const Command cmd_eval;
const Command cmd_eval{
    .name = "eval",
    .group = "Models",
    .summary = "How good a model is on data, float and exact side by side",
    .description = "Accuracy with its 95 % Wilson interval (or mean squared error), of the exact result and of the same network without its quantisers, how "
                   "often both agree, the confusion matrix, and the error that each quantiser leaves.",
    .examples = {{"tandem eval float.onnx --data digits --limit 100 --confusion"}, {"tandem eval float.onnx --data digits --task classification --limit 100 --json"}},
    .setup = setup_eval,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["model", "task", "data", "n", "quantised", "float", "exact", "baseline", "agreeing", "classes", "confusion", "layers"], "additionalProperties": false,
  "properties": {"model": {"type": "string"}, "task": {"enum": ["classification", "regression"]}, "data": {"type": "string"}, "n": {"type": "integer"}, "quantised": {"type": "boolean"},
    "float": {"type": "object"}, "exact": {"type": ["object", "null"]}, "baseline": {"type": ["object", "null"]}, "agreeing": {"type": ["integer", "null"]},
    "classes": {"type": "array", "items": {"type": "string"}}, "confusion": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
    )" TANDEM_LAYERS_SCHEMA R"(}
}
)"};

}  // namespace tandem::cli
