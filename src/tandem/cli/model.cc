#include "tandem/train/learn.h"
#include "tandem/cli/model.h"

#include "tandem/exec/exec.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/model_file.h"
#include "tandem/ir/op.h"
#include "tandem/ir/ops/by_table.h"
#include "tandem/ir/ops/kit.h"
#include "tandem/plan/stage_graph.h"

namespace tandem::cli {

using namespace ir;

void ModelArgs::declare(Options& o, const std::string& help, bool required) {
  o.argument("MODEL", file, help, required);
  o.option("--weights", weights, "Arrays (.npz, .safetensors; .h5 for Keras) that replace the model's weights of the same names; random: for those of files that are not there");
  o.option("--dim", dims, "An extent: batch=1 for a symbol, x:0=1 for an axis of an input; seq<=128 bounds a symbol, seq=16*3,128*1 gives values and how often each occurs (may be repeated)");
  o.flag("--as-quantisers", quantisers, "Of a TFLite model: its quantisers (rounded once, as hardware does) instead of TFLite's own integer arithmetic");
  o.flag("--cache", cache, "Of a language model's checkpoint: keys and values are inputs and outputs");
}

Graph ModelArgs::read(const Context& c) const {
  ReadModelOptions r;
  r.invent = look_only || weights == "random";
  if (weights != "random") r.weights = weights;
  r.cache = cache;
  r.quantisers = quantisers;
  r.limits = c.limits;
  Graph g = read_model(file, r);
  if (const auto it = g.metadata.find("onnx.invented"); it != g.metadata.end()) c.note(fmt::format("weights of {} are not there: random ones stand for them", it->second));
  if (dims.empty()) return g;
  try {
    verify(g);  // extents travel through operators
    return bind_extents(g, dims);
  } catch (Error& e) {
    if (e.where() != "--dim") e.at(file + (e.where().empty() ? "" : ": " + e.where()));
    throw;
  }
}

Graph ModelArgs::load(const Context& c) const {
  Graph g = read(c);
  try {
    verify(g);
  } catch (Error& e) {
    e.at(file + (e.where().empty() ? "" : ": " + e.where()));
    if (e.fix().empty()) e.fix("`tandem ops` lists the known operators");
    throw;
  }
  return g;
}

Graph probe_graph(std::string_view domain, std::string_view op, std::vector<Tensor>* drawn) {
  Graph g;
  const OpDef* def = find_op(domain, op);
  if (!def || (domain == "tandem" && op != "Threshold" && op != "Delay" && op != "TableSoftmax" && op != "TableNormalize")) return g;
  g.name = "probe";
  if (def->sample && def->closure == Closure::open) {  // a closed one is asked between quantisers, below
    Rng r(1, op);
    std::vector<Tensor> inputs;
    Sample s{r, g, inputs};
    def->sample(*def, s);
    if (drawn) *drawn = std::move(inputs);
    return g;
  }
  const auto quant = [&](ValueId v, float scale, float bits, bool is_signed, const std::string& name) {
    return g.add_node("Quant", {v, g.add_constant(name + "_scale", Tensor::scalar(scale)), g.add_constant(name + "_zero", Tensor::scalar(0.0f)),
                                g.add_constant(name + "_bits", Tensor::scalar(bits))},
                      {{"signed", std::int64_t{is_signed}}, {"narrow", std::int64_t{0}}, {"rounding_mode", std::string("ROUND")}}, name, "qonnx.custom_op.general");
  };
  const auto floats = [&](const char* name, Shape s, float first, float step) {
    std::vector<float> v(static_cast<std::size_t>(element_count(s)));
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = first + step * static_cast<float>(i % 5);
    return g.add_constant(name, Tensor::of<float>(s, v));
  };
  const auto ints = [&](const char* name, std::vector<std::int64_t> v) {
    return g.add_constant(name, Tensor::of<std::int64_t>({static_cast<std::int64_t>(v.size())}, v));
  };
  const bool matrix = op == "MatMul" || op == "Gemm" || op == "Softmax" || op == "ArgMax" || op == "TopK" || op == "TableSoftmax" || op == "TableNormalize";
  const std::int64_t channels = op == "DepthToSpace" ? 4 : 2;
  const ValueId x = g.add_input("x", DType::f32, matrix ? Dims{Dim(1), Dim(4)} : Dims{Dim(1), Dim(channels), Dim(4), Dim(4)});
  ValueId q = quant(x, 0.5f, 4, true, "input");
  std::vector<ValueId> in{q};
  std::map<std::string, Attribute> attrs;
  if (op == "Conv") in.push_back(quant(floats("w", {3, 2, 3, 3}, -1, 0.5f), 0.5f, 4, true, "weights"));
  else if (op == "MatMul" || op == "Gemm") in.push_back(quant(floats("w", {4, 3}, -1, 0.5f), 0.5f, 4, true, "weights"));
  else if (op == "Add" || op == "Sub" || op == "Mul" || op == "Div") in.push_back(floats("c", {1, 2, 1, 1}, 0.5f, 0.5f));
  else if (op == "Pow") in.push_back(g.add_constant("c", Tensor::scalar(2.0f)));
  else if (op == "BatchNormalization") for (const char* k : {"gamma", "beta", "mean", "var"}) in.push_back(floats(k, {2}, 0.5f, 0.25f));
  else if (op == "Clip") in.push_back(g.add_constant("lo", Tensor::scalar(0.0f))), in.push_back(g.add_constant("hi", Tensor::scalar(2.0f)));
  else if (op == "MaxPool" || op == "AveragePool") attrs = {{"kernel_shape", std::vector<std::int64_t>{2, 2}}, {"strides", std::vector<std::int64_t>{2, 2}}};
  else if (op == "Reshape") in.push_back(ints("shape", {1, 2, 16}));
  else if (op == "Squeeze") in.push_back(ints("axes", {0}));
  else if (op == "Unsqueeze") in.push_back(ints("axes", {4}));
  else if (op == "Concat") in.push_back(q), attrs["axis"] = std::int64_t{1};
  else if (op == "Gather") in.push_back(ints("indices", {1, 0})), attrs["axis"] = std::int64_t{1};
  else if (op == "Quant" || op == "BipolarQuant") in.push_back(g.add_constant("scale", Tensor::scalar(0.25f)));
  else if (op == "QuantizeLinear") in.push_back(g.add_constant("scale", Tensor::scalar(0.25f))), in.push_back(g.add_constant("zero", Tensor::scalar(std::int8_t{3})));
  else if (op == "DequantizeLinear") {
    const ValueId scale = g.add_constant("scale", Tensor::scalar(0.5f)), zero = g.add_constant("zero", Tensor::scalar(std::int8_t{3}));
    in = {g.add_node("QuantizeLinear", {q, scale, zero}, {}, "codes"), scale, zero};
  } else if (op == "Threshold") in.push_back(floats("steps", {1, 3}, -1, 0.5f));
  else if (op == "Delay") attrs["shape"] = std::vector<std::int64_t>{1, 2, 4, 4};
  else if (op == "ArgMax") attrs["axis"] = std::int64_t{1};
  else if (op == "TopK") in.push_back(ints("k", {2}));
  else if (op == "TableSoftmax" || op == "TableNormalize") {
    const std::vector<std::int32_t> t = op == "TableSoftmax" ? tflite_exponentials(0.5f, 1, 16) : root_table(5, 12);
    in.push_back(g.add_constant("table", Tensor::of<std::int32_t>({static_cast<std::int64_t>(t.size())}, t)));
    attrs = {{"x_scale", 0.5}};
    if (op == "TableNormalize") attrs["root_bits"] = std::int64_t{12};
  }
  else if (op == "Slice") in.insert(in.end(), {ints("starts", {1}), ints("ends", {3}), ints("axes", {2})});
  else if (op == "Split") attrs = {{"axis", std::int64_t{1}}, {"num_outputs", std::int64_t{1}}};
  else if (op == "Pad") in.push_back(ints("pads", {0, 0, 1, 1, 0, 0, 1, 1}));
  else if (op == "Tile") in.push_back(ints("repeats", {1, 1, 1, 2}));
  else if (op == "Expand") in.push_back(ints("shape", {1, 2, 4, 4}));
  else if (op == "DepthToSpace" || op == "SpaceToDepth") attrs["blocksize"] = std::int64_t{2};
  else if (op == "Resize") in.insert(in.end(), {kNone, g.add_constant("scales", Tensor::of<float>({4}, std::vector<float>{1, 1, 2, 2}))}), attrs["coordinate_transformation_mode"] = std::string("asymmetric");
  if (op == "Quant") in.push_back(g.add_constant("zero", Tensor::scalar(0.0f))), in.push_back(g.add_constant("bits", Tensor::scalar(3.0f)));
  ValueId y = g.add_node(std::string(op), in, attrs, "probe", std::string(domain));
  if (op == "Shape") y = g.add_node("Reshape", {q, y}, {}, "reader");
  if (def->closure != Closure::index && def->closure != Closure::open && def->closure != Closure::quantiser)
    y = quant(y, 0.5f, 4, true, "output");
  g.outputs = {y};
  return g;
}

OpCells cells_of(std::string_view domain, std::string_view op) {
  const OpDef* def = find_op(domain, op);
  OpCells c;
  c.ref = def->eval.as_rational ? "exact" : def->eval.as_double ? "f32" : "no";
  c.adjoint = def->adjoint ? "yes" : "no";
  // The learning library lowers the ONNX operators and QONNX's quantisers (train/eager.cc).
  c.train = train::is_trained(domain, op) ? "yes" : "no";
  std::vector<Tensor> drawn;
  Graph g = probe_graph(domain, op, &drawn);
  if (g.nodes.empty()) {  // operators of gradients: f32 only
    c.carrier = c.exec = "f32";
    c.rtl = "no";
    return c;
  }
  const auto refused = [](const Error& e) { return "no: " + e.message(); };
  std::optional<ExactProgram> p;
  try {
    infer_shapes(g);
    p = lower_exact(g);
    const bool folded = std::none_of(g.nodes.begin(), g.nodes.end(), [&](const Node& n) { return n.name == "probe"; });
    const bool host = std::any_of(p->host_nodes.begin(), p->host_nodes.end(), [](const std::string& s) { return s.find("'probe'") != std::string::npos; });
    c.carrier = folded ? "folded" : host ? "f32" : "exact";
  } catch (const Error& e) {
    c.carrier = refused(e);
  }
  try {
    if (p) {
      std::vector<Tensor> in = drawn;
      if (in.empty()) for (ValueId v : g.inputs) {
        Shape s;
        for (const Dim& d : *g.values[static_cast<std::size_t>(v)].type.dims) s.push_back(d.n);
        Tensor t(g.values[static_cast<std::size_t>(v)].type.dtype, s);
        for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, static_cast<double>(i % 7) * 0.4 - 1);
        in.push_back(t);
      }
      exec::Executor e(*p);
      e.run(in);
      c.exec = c.carrier;
    } else {
      c.exec = c.carrier;
    }
  } catch (const Error& e) {
    c.exec = refused(e);
  }
  try {
    if (!p) c.rtl = "no";
    else if (c.carrier != "exact") c.rtl = c.carrier == "folded" ? "folded" : "no: runs on the host in f32";
    else plan::stages_from(lower_exact(g, 64)), c.rtl = "exact";
  } catch (const Error& e) {
    c.rtl = refused(e);
  }
  return c;
}

}  // namespace tandem::cli
