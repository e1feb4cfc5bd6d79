#include "tandem/ir/sequential.h"

#include <cmath>

#include "tandem/base/nearest.h"
#include "tandem/base/rng.h"
#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {

constexpr std::int64_t kMaxExtent = 1 << 16;

Tensor draw(const Rng& rng, const std::string& name, Shape shape, std::int64_t fan_in) {
  Tensor t(DType::f32, std::move(shape));
  Rng r = rng.fork(name);
  const double deviation = std::sqrt(2.0 / static_cast<double>(fan_in));
  float* p = t.data<float>();
  for (std::int64_t i = 0; i < t.size(); ++i) p[i] = static_cast<float>(r.normal() * deviation);
  return t;
}
Tensor filled(Shape shape, float v) {
  Tensor t(DType::f32, std::move(shape));
  std::fill_n(t.data<float>(), t.size(), v);
  return t;
}

}  // namespace

Graph build_sequential(const Config& c, std::uint64_t seed, const std::string& name) {
  Graph g;
  g.name = name;
  const Rng rng(seed, "weights");
  const Config in = c.at("input");
  Shape shape = in.list<std::int64_t>();  // of one sample
  if (shape.empty() || shape.size() > 3) throw in.error("a sample has one to three axes, as [channels, height, width]");
  for (auto e : shape)
    if (e < 1 || e > kMaxExtent) throw in.error("an extent must be between 1 and 65536");
  Dims dims{Dim(std::string("batch"))};
  for (auto e : shape) dims.emplace_back(e);
  ValueId v = g.add_input("x", DType::f32, dims);

  std::map<std::string, int> count;
  const auto layers = c.at("layers").items();
  if (layers.empty()) throw c.at("layers").error("a model needs at least one layer");
  auto kind_of = [](const Config& l) {
    if (l.is_scalar()) return l.as<std::string>();
    const auto keys = l.keys();
    if (keys.size() != 1) throw l.error("a layer is one word, or one word with its parameters");
    return keys[0];
  };
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const Config& l = layers[i];
    const std::string kind = kind_of(l);
    const Config none = Config::parse("", "defaults");
    const Config p = l.is_map() && !l.at(kind).is_null() ? l.at(kind) : none;
    const std::string id = kind + std::to_string(++count[kind]);
    auto constant = [&](const char* suffix, Tensor t) { return g.add_constant(id + suffix, std::move(t)); };
    auto image = [&] {
      if (shape.size() != 3) throw l.error("'" + kind + "' needs an image [channels, height, width], but gets " + tandem::to_string(shape));
    };
    auto window = [&](std::int64_t size, std::int64_t k, std::int64_t pad, std::int64_t stride) {
      if (size + 2 * pad < k) throw l.error("the window of '" + id + "' is larger than its input " + tandem::to_string(shape));
      return (size + 2 * pad - k) / stride + 1;
    };
    auto flatten = [&] {
      if (shape.size() <= 1) return;
      v = g.add_node("Flatten", {v}, {{"axis", std::int64_t{1}}}, "flatten" + std::to_string(std::max(1, count["flatten"])));
      shape = {element_count(shape)};
    };
    if (kind == "conv") {
      image();
      p.only({"channels", "kernel", "stride", "pad", "group", "bias"});
      const std::int64_t o = p.integer("channels", 1, kMaxExtent), k = p.integer("kernel", 1, 64), s = p.integer("stride", 1, 64, 1),
                         pad = p.integer("pad", 0, 64, 0), group = p.integer("group", 1, kMaxExtent, 1);
      if (shape[0] % group || o % group) throw l.error("group must divide the channels going in and out");
      const bool norm_follows = i + 1 < layers.size() && kind_of(layers[i + 1]) == "batchnorm";
      const bool bias = p.optional_or<bool>("bias", !norm_follows);
      std::vector<ValueId> ins{v, constant("_weight", draw(rng, id, {o, shape[0] / group, k, k}, shape[0] / group * k * k))};
      if (bias) ins.push_back(constant("_bias", filled({o}, 0)));
      shape = {o, window(shape[1], k, pad, s), window(shape[2], k, pad, s)};
      v = g.add_node("Conv", ins,
                     {{"kernel_shape", std::vector<std::int64_t>{k, k}}, {"strides", std::vector<std::int64_t>{s, s}},
                      {"pads", std::vector<std::int64_t>{pad, pad, pad, pad}}, {"group", group}},
                     id);
    } else if (kind == "dense") {
      p.only({"features", "bias"});
      flatten();
      const std::int64_t o = p.integer("features", 1, kMaxExtent);
      std::vector<ValueId> ins{v, constant("_weight", draw(rng, id, {o, shape[0]}, shape[0]))};
      const bool norm_follows = i + 1 < layers.size() && kind_of(layers[i + 1]) == "batchnorm";
      if (p.optional_or<bool>("bias", !norm_follows)) ins.push_back(constant("_bias", filled({o}, 0)));
      v = g.add_node("Gemm", ins, {{"transB", std::int64_t{1}}}, id);
      shape = {o};
    } else if (kind == "batchnorm") {
      p.only({"momentum"});
      const Shape ch{shape[0]};
      v = g.add_node("BatchNormalization",
                     {v, constant("_scale", filled(ch, 1)), constant("_shift", filled(ch, 0)), constant("_mean", filled(ch, 0)),
                      constant("_var", filled(ch, 1))},
                     {{"epsilon", 1e-5}, {"momentum", p.real("momentum", 0, 1, 0.9)}}, id);
    } else if (kind == "relu") {
      p.only({});
      v = g.add_node("Relu", {v}, {}, id);
    } else if (kind == "clip") {
      p.only({"min", "max"});
      const double lo = p.real("min", -1e30, 1e30, 0), hi = p.real("max", -1e30, 1e30, 6);
      if (lo > hi) throw l.error("min is above max");
      v = g.add_node("Clip", {v, constant("_min", Tensor::scalar<float>(static_cast<float>(lo))), constant("_max", Tensor::scalar<float>(static_cast<float>(hi)))}, {}, id);
    } else if (kind == "maxpool" || kind == "averagepool") {
      image();
      p.only({"kernel", "stride", "pad"});
      const std::int64_t k = p.integer("kernel", 1, 64, 2), s = p.integer("stride", 1, 64, k), pad = p.integer("pad", 0, 63, 0);
      if (pad >= k) throw l.error("pad must be smaller than the window");
      shape = {shape[0], window(shape[1], k, pad, s), window(shape[2], k, pad, s)};
      v = g.add_node(kind == "maxpool" ? "MaxPool" : "AveragePool", {v},
                     {{"kernel_shape", std::vector<std::int64_t>{k, k}}, {"strides", std::vector<std::int64_t>{s, s}},
                      {"pads", std::vector<std::int64_t>{pad, pad, pad, pad}}},
                     id);
    } else if (kind == "global_average") {
      image();
      p.only({});
      v = g.add_node("GlobalAveragePool", {v}, {}, id);
      shape = {shape[0], 1, 1};
    } else if (kind == "flatten") {
      p.only({});
      flatten();
    } else if (kind == "dropout") {
      p.only({"ratio"});
      v = g.add_node("Dropout", {v, constant("_ratio", Tensor::scalar<float>(static_cast<float>(p.real("ratio", 0, 0.99, 0.5))))}, {}, id);
    } else {
      const std::vector<std::string> known{"conv", "dense", "batchnorm", "relu", "clip", "maxpool", "averagepool", "global_average", "flatten", "dropout"};
      const std::string near = nearest(kind, known);
      throw l.error("unknown layer '" + printable(kind) + "'" + (near.empty() ? "" : "; did you mean '" + near + "'?"));
    }
  }
  // The last value is the output, under a name of its own.
  g.outputs = {v};
  infer_shapes(g);
  verify(g);
  return g;
}

}  // namespace tandem::ir
