// Drawn numbers. Every draw is a pure function of the node's seed, its name and the element: the same at every run, other than other runtimes'.
#include <bit>

#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Args = EvalArgs<double>;

Rng stream(const Args& e) {
  const std::string& name = e.node.name.empty() ? e.graph.values[static_cast<std::size_t>(e.node.outputs[0])].name : e.node.name;
  return Rng(std::bit_cast<std::uint32_t>(static_cast<float>(e.node.attr_float("seed", 0))), name);
}
DType drawn_type(const InferContext& c, DType fallback) {
  if (!c.node.has_attr("dtype")) return fallback;
  const auto t = onnx_dtype(c.node.attr_int("dtype", 0));
  if (!t) c.fail(fmt::format("its dtype is the type number {} of ONNX", c.node.attr_int("dtype", 0)), "a type of floats, integers or booleans");
  return *t;
}
TensorType floats(const InferContext& c, DType fallback, std::optional<Dims> dims) {
  const DType t = drawn_type(c, fallback);
  if (!is_float(t)) c.fail(fmt::format("it draws {}", to_string(t)), "floats");
  return {t, std::move(dims)};
}
void infer_draw(InferContext& c) {
  const Ints shape = c.node.attr_ints("shape", {});
  for (std::int64_t d : shape)
    if (d < 0) c.fail(fmt::format("an extent of {}", d));
  c.out = {floats(c, DType::f32, dims_of(shape))};
}
void infer_draw_like(InferContext& c) { c.out = {floats(c, is_float(c.in[0]->dtype) ? c.in[0]->dtype : DType::f32, c.in[0]->dims)}; }
void draw(Args& e) {
  Rng r = stream(e);
  Array<double> y(e.in.empty() ? e.node.attr_ints("shape", {}) : e.in[0]->shape);
  const double low = e.node.attr_float("low", 0), high = e.node.attr_float("high", 1), mean = e.node.attr_float("mean", 0), scale = e.node.attr_float("scale", 1);
  const bool normal = e.node.op.starts_with("RandomNormal");
  for (double& v : y.v) v = normal ? mean + scale * r.normal() : low + (high - low) * r.uniform();
  e.out[0] = std::move(y);
}
template <bool normal, bool like>
void sample_draw(const OpDef& op, Sample& s) {
  std::map<std::string, Attribute> a{{"seed", static_cast<double>(s.r.range(0, 9))}};
  if (normal) a["mean"] = 2.0, a["scale"] = 0.5;
  else a["low"] = -1.0, a["high"] = 3.0;
  static constexpr std::int64_t types[] = {1, 10, 11};
  if (s.r.chance(0.5)) a["dtype"] = types[s.r.range(0, 2)];
  if (like) s.node(op, {s.input(s.shape(0))}, a);
  else a["shape"] = s.shape(), s.node(op, {}, a);
}

void infer_bernoulli(InferContext& c) { c.out = {TensorType{drawn_type(c, c.in[0]->dtype), c.in[0]->dims}}; }
void bernoulli(Args& e) {
  Rng r = stream(e);
  Array<double> y = *e.in[0];
  for (double& v : y.v) {
    if (!(v >= 0 && v <= 1)) throw node_error(e.graph, e.node, fmt::format("a probability of {}", v)).expected("0 to 1");
    v = r.chance(v);
  }
  e.out[0] = std::move(y);
}
void sample_bernoulli(const OpDef& op, Sample& s) { s.node(op, {s.input(s.shape(0), 0, 1)}, {{"dtype", std::int64_t{s.r.chance(0.5) ? 1 : 9}}}); }

void infer_multinomial(InferContext& c) {
  const Dims& d = c.dims(0);
  if (d.size() != 2) c.fail(fmt::format("input has rank {}", d.size()), "[batch, classes]");
  const std::int64_t n = c.node.attr_int("sample_size", 1);
  if (n < 1) c.fail(fmt::format("sample_size is {}", n), "1 or more");
  const DType t = drawn_type(c, DType::i32);
  if (t != DType::i32 && t != DType::i64) c.fail(fmt::format("it draws {}", to_string(t)), "i32 or i64");
  c.out = {TensorType{t, Dims{d[0], Dim(n)}}};
}
void multinomial(Args& e) {
  Rng r = stream(e);
  const std::int64_t batch = e.in[0]->shape[0], classes = e.in[0]->shape[1], n = e.node.attr_int("sample_size", 1);
  if (batch && classes < 1) throw node_error(e.graph, e.node, "no classes to draw from");
  Array<double> y(Shape{batch, n});
  std::vector<double> upto(static_cast<std::size_t>(classes));  // sums of exp(x - max)
  for (std::int64_t b = 0; b < batch; ++b) {
    const double* x = e.in[0]->v.data() + b * classes;
    const double most = *std::max_element(x, x + classes);
    double sum = 0;
    for (std::int64_t k = 0; k < classes; ++k) upto[static_cast<std::size_t>(k)] = sum += std::exp(x[k] - most);
    if (!(sum > 0)) throw node_error(e.graph, e.node, "log-probabilities that are not numbers, or all -infinity");
    for (std::int64_t i = 0; i < n; ++i)
      y.v[static_cast<std::size_t>(b * n + i)] = static_cast<double>(std::min<std::int64_t>(classes - 1, std::upper_bound(upto.begin(), upto.end(), r.uniform() * sum) - upto.begin()));
  }
  e.out[0] = std::move(y);
}
void sample_multinomial(const OpDef& op, Sample& s) { s.node(op, {s.input({s.r.range(1, 3), s.r.range(1, 4)})}, {{"sample_size", s.r.range(1, 5)}, {"dtype", std::int64_t{s.r.chance(0.5) ? 6 : 7}}}); }

const AttrDef kSeed{"seed", AttrType::real, "0", "with the node's name the key of the draws"}, kDtype{"dtype", AttrType::integer, "1", "number of the type in ONNX"}, kDtypeLike{"dtype", AttrType::integer, "type of X", "number of the type in ONNX"};
const AttrDef kLow{"low", AttrType::real, "0", "the smallest"}, kHigh{"high", AttrType::real, "1", "above all"}, kMean{"mean", AttrType::real, "0", "their mean"}, kScale{"scale", AttrType::real, "1", "their deviation"}, kShape{"shape", AttrType::integers, "required", "extents of Y"};
constexpr std::string_view kOwn = " The draws are a function of seed, node name and element (Philox): the same at every run, and not those of other runtimes.";
const std::string kUniformDoc = fmt::format("Y = low + (high - low) * u, u uniform on [0, 1).{}", kOwn), kNormalDoc = fmt::format("Y = mean + scale * z, z normal.{}", kOwn), kBernoulliDoc = fmt::format("Y = u < X, u uniform on [0, 1).{}", kOwn),
                  kMultinomialDoc = fmt::format("Y = k with probability exp(X[k]) / sum of exp(X).{}", kOwn);
const OpDef kOps[] = {
    OpDef{.domain = "", .name = "RandomUniform", .summary = "Uniform numbers.", .doc = kUniformDoc, .source = "ONNX RandomUniform-1", .outputs = {{"Y", "of extents `shape`"}}, .attributes = {kDtype, kHigh, kLow, kSeed, kShape}, .infer = infer_draw, .eval = {draw, nullptr},
          .sample = sample_draw<false, false>},
    OpDef{.domain = "", .name = "RandomNormal", .summary = "Normal numbers.", .doc = kNormalDoc, .source = "ONNX RandomNormal-1", .outputs = {{"Y", "of extents `shape`"}}, .attributes = {kDtype, kMean, kScale, kSeed, kShape}, .infer = infer_draw, .eval = {draw, nullptr},
          .sample = sample_draw<true, false>},
    OpDef{.domain = "", .name = "RandomUniformLike", .summary = "Uniform numbers in the shape of another tensor.", .doc = kUniformDoc, .source = "ONNX RandomUniformLike-1", .inputs = {{"X", "its shape"}}, .outputs = {{"Y", "shape of X"}}, .attributes = {kDtypeLike, kHigh, kLow, kSeed},
          .infer = infer_draw_like, .eval = {draw, nullptr}, .sample = sample_draw<false, true>},
    OpDef{.domain = "", .name = "RandomNormalLike", .summary = "Normal numbers in the shape of another tensor.", .doc = kNormalDoc, .source = "ONNX RandomNormalLike-1", .inputs = {{"X", "its shape"}}, .outputs = {{"Y", "shape of X"}}, .attributes = {kDtypeLike, kMean, kScale, kSeed},
          .infer = infer_draw_like, .eval = {draw, nullptr}, .sample = sample_draw<true, true>},
    OpDef{.domain = "", .name = "Bernoulli", .summary = "1 with a probability, else 0.", .doc = kBernoulliDoc, .source = "ONNX Bernoulli-15", .inputs = {{"X", "probabilities"}}, .outputs = {{"Y", "shape of X"}}, .attributes = {kDtypeLike, kSeed}, .infer = infer_bernoulli,
          .eval = {bernoulli, nullptr}, .sample = sample_bernoulli},
    OpDef{.domain = "", .name = "Multinomial", .summary = "Classes drawn by their log-probabilities.", .doc = kMultinomialDoc, .source = "ONNX Multinomial-7", .inputs = {{"X", "[batch, classes]: log-probabilities, not normalised"}}, .outputs = {{"Y", "[batch, sample_size]"}},
          .attributes = {{"dtype", AttrType::integer, "6", "number of the type in ONNX: i32 or i64"}, {"sample_size", AttrType::integer, "1", "draws per row"}, kSeed}, .infer = infer_multinomial, .eval = {multinomial, nullptr}, .sample = sample_multinomial},
};

}  // namespace

std::span<const OpDef> random_ops() { return kOps; }

}  // namespace tandem::ir
