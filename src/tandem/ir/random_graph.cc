#include "tandem/ir/random_graph.h"

#include <cmath>
#include <set>

#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"
#include "tandem/ir/ops/by_table.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

const char* kQonnx = "qonnx.custom_op.general";

class Generator {
 public:
  Generator(const RandomGraphOptions& o, std::uint64_t seed) : o_(o), r_(seed, "random_graph") {}

  RandomGraph run() {
    g_.name = "random";
    bool image = r_.chance(0.65);
    Dims d{Dim(o_.batch)};
    if (image) {
      std::int64_t c = pick(1, 3), h = pick(3, o_.max_extent), w = pick(3, o_.max_extent);
      d.insert(d.end(), {Dim(c), Dim(h), Dim(w)});
    } else {
      d.push_back(Dim(pick(2, 12)));
    }
    ValueId x = g_.add_input("x", DType::f32, d);
    if (!o_.streaming && r_.chance(0.3)) x = affine(x);   // element-wise float arithmetic before the first quantiser
    x = quant(x, true);
    int layers = static_cast<int>(pick(1, o_.max_layers));
    for (int i = 0; i < layers; ++i) x = block(x, i + 1 == layers);
    if (r_.chance(0.3) && !o_.streaming) x = add(rank(x) == 4 && r_.chance(0.5) ? "Identity" : "Dropout", {x});
    if (r_.chance(0.15)) {
      x = add("ArgMax", {x}, {{"axis", r_.chance(0.5) || rank(x) < 3 ? std::int64_t{1} : std::int64_t{-1}}, {"keepdims", std::int64_t{r_.chance(0.5)}}});
    } else if (o_.moves && r_.chance(0.25)) {
      x = vector_operator(x);
    } else if (o_.float_tail && !o_.streaming && r_.chance(0.15)) {
      x = add("Softmax", {x}, {{"axis", std::int64_t{1}}});
    }
    g_.outputs = {x};
    infer_shapes(g_);
    RandomGraph out{std::move(g_), {}};
    out.inputs = random_inputs(out.graph, r_.u64());
    return out;
  }

 private:
  std::int64_t pick(std::int64_t lo, std::int64_t hi) { return r_.range(lo, hi); }
  ValueId add(const std::string& op, std::vector<ValueId> in, std::map<std::string, Attribute> a = {}, const std::string& domain = "") {
    ValueId y = g_.add_node(op, std::move(in), std::move(a), "", domain);
    infer_shapes(g_);
    return y;
  }
  Shape shape(ValueId v) const {
    Shape s;
    for (const Dim& d : *g_.values[v].type.dims) s.push_back(d.n);
    return s;
  }
  std::size_t rank(ValueId v) const { return shape(v).size(); }
  ValueId constant(Shape s, const std::vector<float>& v) { return g_.add_constant(g_.unique_name("c"), Tensor::of<float>(std::move(s), v)); }
  ValueId scalar(float v) { return constant({}, {v}); }

  // Scales that hit many cases: powers of two, arbitrary floats, tiny and large.
  float scale() {
    switch (pick(0, 3)) {
      case 0: return std::ldexp(1.f, static_cast<int>(pick(-6, 2)));
      case 1: return static_cast<float>(0.01 + r_.uniform());
      case 2: return static_cast<float>(pick(1, 9)) / 8.f;
      default: return static_cast<float>(std::exp(4 * r_.uniform() - 4));
    }
  }

  ValueId quant(ValueId x, bool activation, int max_bits = 0) {
    Shape s = shape(x);
    int top = max_bits ? max_bits : o_.max_bits;
    if (!o_.streaming && activation && r_.chance(0.08)) {  // steps given one by one
      std::int64_t levels = pick(1, 5), rows = r_.chance(0.5) ? 1 : s[1];
      std::vector<float> t;
      for (std::int64_t c = 0; c < rows; ++c) {
        std::vector<float> row;
        for (std::int64_t j = 0; j < levels; ++j) row.push_back(static_cast<float>(pick(-40, 40)) * 0.25f);
        std::sort(row.begin(), row.end());
        t.insert(t.end(), row.begin(), row.end());
      }
      return add("Threshold", {x, constant({rows, levels}, t)}, {{"scale", static_cast<double>(scale())}, {"base", pick(-2, 1)}}, "tandem");
    }
    if (r_.chance(0.1)) return add("BipolarQuant", {x, scalar(scale())}, {}, kQonnx);
    bool per_channel = activation ? !o_.streaming && r_.chance(0.2) : r_.chance(0.5);
    Shape qs;
    if (per_channel) qs = Shape(s.size(), 1), qs[activation ? 1 : 0] = s[activation ? 1 : 0];
    std::vector<float> sv;
    for (std::int64_t i = 0; i < element_count(qs); ++i) sv.push_back(scale());
    bool is_signed = r_.chance(activation ? 0.5 : 0.9);
    std::int64_t bits = pick(is_signed ? 1 : 1, top);
    float zero = bits > 1 && activation && r_.chance(0.2) ? static_cast<float>(pick(-3, 3)) : 0.f;
    static const char* modes[] = {"ROUND", "ROUND", "ROUND", "FLOOR", "CEIL", "UP", "DOWN", "HALF_UP", "HALF_DOWN"};
    bool narrow = bits > 1 && r_.chance(0.3);
    return add("Quant", {x, constant(qs, sv), scalar(zero), scalar(static_cast<float>(bits))},
               {{"signed", std::int64_t{is_signed}}, {"narrow", std::int64_t{narrow}}, {"rounding_mode", std::string(modes[pick(0, 8)])}}, kQonnx);
  }

  ValueId weights(const Shape& s) {
    std::vector<float> w;
    for (std::int64_t i = 0; i < element_count(s); ++i) w.push_back(static_cast<float>(r_.normal() * 0.7));
    if (!o_.streaming && r_.chance(0.15)) {  // unquantised, on a coarse grid: still exact
      for (float& v : w) v = std::round(v * 16) / 16;
      return constant(s, w);
    }
    return quant(constant(s, w), false, std::min(o_.max_bits, 8));
  }
  std::vector<float> vector(std::int64_t n, double spread) {
    std::vector<float> v;
    for (std::int64_t i = 0; i < n; ++i) v.push_back(static_cast<float>(r_.normal() * spread));
    return v;
  }

  ValueId conv(ValueId x) {
    Shape s = shape(x);
    std::int64_t group = 1, O = pick(1, o_.max_channels);
    if (r_.chance(0.25) && s[1] > 1) {
      group = s[1];
      O = group * pick(1, 2);
    } else if (o_.streaming && s[1] % 2 == 0 && r_.chance(0.25)) {
      group = 2;
      O = group * pick(1, 3);
    }
    std::int64_t kh = pick(1, std::min<std::int64_t>(3, s[2])), kw = r_.chance(0.7) ? std::min(kh, s[3]) : pick(1, std::min<std::int64_t>(3, s[3]));
    std::map<std::string, Attribute> a{{"group", group}};
    std::vector<std::int64_t> strides{pick(1, 2), pick(1, 2)};
    if (o_.streaming) strides[1] = strides[0];
    a["strides"] = strides;
    if (r_.chance(0.5)) a["pads"] = std::vector<std::int64_t>{pick(0, kh - 1), pick(0, kw - 1), pick(0, kh - 1), pick(0, kw - 1)};
    else if (!o_.streaming && r_.chance(0.3)) a["auto_pad"] = std::string(r_.chance(0.5) ? "SAME_UPPER" : "SAME_LOWER");
    if (kh * 2 - 1 <= s[2] && kw * 2 - 1 <= s[3] && r_.chance(0.15)) a["dilations"] = std::vector<std::int64_t>{2, 2};
    std::vector<ValueId> in{x, weights({O, s[1] / group, kh, kw})};
    if (r_.chance(0.4)) in.push_back(constant({O}, vector(O, 1)));
    return add("Conv", in, a);
  }
  ValueId dense(ValueId x) {
    if (rank(x) > 2 && (o_.streaming || r_.chance(0.8))) x = flatten(x);
    Shape s = shape(x);
    std::int64_t K = s.back(), M = pick(1, o_.max_channels * 2);
    if (s.size() == 2 && r_.chance(0.4)) {
      bool tb = r_.chance(0.5);
      std::vector<ValueId> in{x, weights(tb ? Shape{M, K} : Shape{K, M})};
      if (r_.chance(0.5)) in.push_back(constant({M}, vector(M, 1)));
      std::map<std::string, Attribute> a{{"transB", std::int64_t{tb}}};
      if (r_.chance(0.2)) a["alpha"] = 0.5;
      return add("Gemm", in, a);
    }
    return add("MatMul", {x, weights({K, M})});
  }
  ValueId flatten(ValueId x) {
    if (r_.chance(0.5)) return add("Flatten", {x});
    std::vector<std::int64_t> want{shape(x)[0], -1};
    return add("Reshape", {x, g_.add_constant(g_.unique_name("shape"), Tensor::of<std::int64_t>({2}, want))});
  }
  ValueId batchnorm(ValueId x) {
    std::int64_t C = shape(x)[1];
    std::vector<float> var;
    for (std::int64_t i = 0; i < C; ++i) var.push_back(static_cast<float>(0.1 + 3 * r_.uniform()));
    auto gamma = vector(C, 1);
    if (r_.chance(0.05)) gamma[0] = 0;
    return add("BatchNormalization", {x, constant({C}, gamma), constant({C}, vector(C, 0.5)), constant({C}, vector(C, 0.5)), constant({C}, var)},
               {{"epsilon", 1e-5}});
  }
  ValueId affine(ValueId x) {
    Shape s = shape(x), c(s.size(), 1);
    bool per_channel = r_.chance(0.4);
    if (per_channel) c[1] = s[1];
    auto value = [&] {
      std::vector<float> v;
      for (std::int64_t i = 0; i < element_count(c); ++i) v.push_back(static_cast<float>(pick(-12, 12)) * 0.375f);
      return v;
    };
    switch (pick(0, 4)) {
      case 0: return add("Add", {x, constant(c, value())});
      case 1: return r_.chance(0.5) ? add("Sub", {x, constant(c, value())}) : add("Sub", {constant(c, value()), x});
      case 2: return add("Mul", {x, constant(c, value())});
      case 3: {
        auto v = value();
        for (float& f : v)
          if (f == 0) f = 1;
        return add("Div", {x, constant(c, v)});
      }
      default: return add("Mul", {constant(c, value()), x});
    }
  }
  ValueId activation(ValueId x) {
    if (r_.chance(0.6)) return add("Relu", {x});
    if (o_.moves && r_.chance(0.4)) return add("LeakyRelu", {x}, {{"alpha", r_.chance(0.9) ? static_cast<double>(static_cast<float>(pick(1, 30)) / 16) : -0.25}});
    float a = static_cast<float>(pick(-4, 2)), b = a + static_cast<float>(pick(0, 6));
    return add("Clip", {x, r_.chance(0.8) ? scalar(a) : kNone, scalar(b)});
  }
  ValueId pool(ValueId x) {
    Shape s = shape(x);
    if (s[2] < 2 || s[3] < 2) return x;
    if (r_.chance(0.15)) return add("GlobalAveragePool", {x});
    std::int64_t k = pick(2, std::min<std::int64_t>({3, s[2], s[3]}));
    std::map<std::string, Attribute> a{{"kernel_shape", std::vector<std::int64_t>{k, k}}, {"strides", std::vector<std::int64_t>(2, pick(1, 2))}};
    bool average = r_.chance(o_.streaming ? 0.3 : 0.5);
    if (!o_.streaming || !average)
      if (r_.chance(0.3)) a["pads"] = std::vector<std::int64_t>{pick(0, 1), pick(0, 1), pick(0, 1), pick(0, 1)};
    if (!o_.streaming && r_.chance(0.2)) a["ceil_mode"] = std::int64_t{1};
    if (average && r_.chance(0.4)) a["count_include_pad"] = std::int64_t{1};
    return add(average ? "AveragePool" : "MaxPool", {x}, a);
  }
  ValueId moves(ValueId x) {
    Shape s = shape(x);
    switch (pick(0, 3)) {
      case 0: {
        std::vector<std::int64_t> p(s.size());
        for (std::size_t i = 0; i < p.size(); ++i) p[i] = static_cast<std::int64_t>(i);
        for (std::size_t i = p.size() - 1; i > 1; --i) std::swap(p[i], p[static_cast<std::size_t>(pick(1, static_cast<std::int64_t>(i)))]);
        return add("Transpose", {x}, {{"perm", p}});
      }
      case 1: {
        std::vector<std::int64_t> idx;
        for (std::int64_t i = 0; i < s[1]; ++i) idx.push_back(pick(-s[1], s[1] - 1));
        return add("Gather", {x, g_.add_constant(g_.unique_name("i"), Tensor::of<std::int64_t>({s[1]}, idx))}, {{"axis", std::int64_t{1}}});
      }
      case 2: {
        ValueId axes = g_.add_constant(g_.unique_name("axes"), Tensor::of<std::int64_t>({1}, std::vector<std::int64_t>{1}));
        return add("Squeeze", {add("Unsqueeze", {x, axes}), axes});
      }
      default: return add("Identity", {x});
    }
  }
  // The largest few, softmax or normalisation along an axis.
  ValueId vector_operator(ValueId x) {
    const std::int64_t axis = pick(1, static_cast<std::int64_t>(rank(x)) - 1), n = shape(x)[static_cast<std::size_t>(axis)];
    const int what = static_cast<int>(pick(0, 2));
    if (what == 0) {
      add("TopK", {x, ints({pick(1, n)})}, {{"axis", r_.chance(0.5) ? axis : axis - static_cast<std::int64_t>(rank(x))}, {"largest", std::int64_t{r_.chance(0.7)}}});
      g_.nodes.back().outputs.push_back(g_.add_value(g_.unique_name("places")));
      infer_shapes(g_);
      return g_.nodes.back().outputs[r_.chance(0.5) ? 1 : 0];
    }
    const float s = static_cast<float>(pick(1, 32)) / 64;
    const bool is_signed = r_.chance(0.5);
    x = add("Quant", {x, scalar(s), scalar(0), scalar(static_cast<float>(pick(2, std::max(2, o_.max_bits))))}, {{"signed", std::int64_t{is_signed}}, {"narrow", std::int64_t{0}}, {"rounding_mode", std::string("ROUND")}}, kQonnx);
    const std::int64_t root = pick(8, 16);
    const std::vector<std::int32_t> t = what == 1 ? tflite_exponentials(s, 1, pick(2, 256)) : root_table(static_cast<int>(pick(3, 9)), static_cast<int>(root));
    const ValueId table = g_.add_constant(g_.unique_name("t"), Tensor::of<std::int32_t>({static_cast<std::int64_t>(t.size())}, t));
    if (what == 1) x = add("TableSoftmax", {x, table}, {{"axis", axis}, {"x_scale", static_cast<double>(s)}, {"bits", pick(1, 16)}}, "tandem");
    else x = add("TableNormalize", {x, table}, {{"axis", axis}, {"x_scale", static_cast<double>(s)}, {"root_bits", root}, {"bits", pick(0, root - 1)}, {"epsilon", 0.0078125}}, "tandem");
    return r_.chance(0.5) ? quant(x, true) : x;
  }
  ValueId join(ValueId a, ValueId b) {
    switch (pick(0, 3)) {
      case 0: return add("Add", {a, b});
      case 1: return add("Sub", {a, b});
      case 2: return add("Mul", {a, b});
      default: return add("Concat", {a, b}, {{"axis", std::int64_t{r_.chance(0.8) ? 1 : -1}}});
    }
  }

  ValueId ints(const std::vector<std::int64_t>& v) {
    return g_.add_constant(g_.unique_name("i"), Tensor::of<std::int64_t>({static_cast<std::int64_t>(v.size())}, v));
  }
  ValueId slice(ValueId x, std::int64_t axis, std::int64_t from, std::int64_t to, std::int64_t step = 1) {
    return add("Slice", {x, ints({from}), ints({to}), ints({axis}), ints({step})});
  }
  // One more layer of the shape of x.
  ValueId same_shape(ValueId x) {
    const Shape s = shape(x);
    if (s.size() == 2) return add("MatMul", {x, weights({s[1], s[1]})});
    const std::int64_t k = s.size() == 4 && r_.chance(0.5) && s[2] > 2 && s[3] > 2 ? 3 : 1, group = s[1] > 1 && r_.chance(0.2) ? s[1] : 1;
    Shape w{s[1], s[1] / group};
    std::map<std::string, Attribute> a{{"group", group}};
    for (std::size_t d = 2; d < s.size(); ++d) w.push_back(k);
    a["pads"] = std::vector<std::int64_t>(2 * (s.size() - 2), k / 2);
    return add("Conv", {x, weights(w)}, a);
  }
  ValueId branch(ValueId x) { return r_.chance(0.3) ? activation(x) : r_.chance(0.8) ? quant(same_shape(x), true) : same_shape(x); }
  ValueId permuted(ValueId x) {
    std::vector<std::int64_t> p(rank(x));
    for (std::size_t i = 0; i < p.size(); ++i) p[i] = static_cast<std::int64_t>(i);
    for (std::size_t i = p.size() - 1; i > 1; --i) std::swap(p[i], p[static_cast<std::size_t>(pick(1, static_cast<std::int64_t>(i)))]);
    return add("Transpose", {x}, {{"perm", p}});
  }
  // A product of two matrices that both vary: every pair of features or their scalar product; rows with rows, in each channel, also
  // with one channel for all.
  ValueId varying(ValueId x) {
    const Shape s = shape(x);
    ValueId y = branch(x);
    if (s.size() == 2) {
      const bool pairs = s[1] <= 8 && r_.chance(0.6);
      const std::vector<std::int64_t> column{s[0], s[1], 1}, row{s[0], 1, s[1]};
      return add("Reshape", {add("MatMul", {add("Reshape", {x, ints(pairs ? column : row)}), add("Reshape", {y, ints(pairs ? row : column)})}), ints({s[0], -1})});
    }
    std::vector<std::int64_t> swap(s.size());
    for (std::size_t i = 0; i < swap.size(); ++i) swap[i] = static_cast<std::int64_t>(i);
    std::swap(swap[s.size() - 1], swap[s.size() - 2]);
    if (o_.moves && s[1] > 1 && r_.chance(0.3)) y = slice(y, 1, 0, 1);
    if (s[s.size() - 1] != s[s.size() - 2] || r_.chance(0.6)) y = add("Transpose", {y}, {{"perm", swap}});
    return r_.chance(0.7) || shape(y)[1] < s[1] ? add("MatMul", {x, y}) : add("MatMul", {y, x});
  }
  // Streams that part, meet, leave elements out, repeat them or change their order.
  ValueId topology(ValueId x) {
    const Shape s = shape(x);
    const std::int64_t last = static_cast<std::int64_t>(s.size()) - 1, axis = pick(1, last);
    const bool image = s.size() == 4;
    switch (pick(0, image ? 15 : 9)) {
      case 0: return add("Add", {branch(x), x});
      case 1: return add("Add", {add("Sub", {branch(x), branch(x)}), branch(x)});
      case 2: return add("Mul", {branch(x), r_.chance(0.5) ? x : branch(x)});
      case 3: return add("Concat", r_.chance(0.5) ? std::vector<ValueId>{branch(x), x} : std::vector<ValueId>{x, branch(x), branch(x)}, {{"axis", axis}});
      case 4: {
        std::vector<std::int64_t> i;
        for (std::int64_t k = pick(1, s[static_cast<std::size_t>(axis)] + 1); k > 0; --k) i.push_back(pick(0, s[static_cast<std::size_t>(axis)] - 1));
        return add("Gather", {x, ints(i)}, {{"axis", axis}});
      }
      case 5: {  // apart, one part worked on, together again
        const std::int64_t n = s[static_cast<std::size_t>(axis)], at = pick(1, n);
        if (!o_.moves || n < 2 || at == n) return permuted(x);
        return add("Concat", {branch(slice(x, axis, 0, at)), slice(x, axis, at, n)}, {{"axis", axis}});
      }
      case 6: {
        const std::int64_t n = s[static_cast<std::size_t>(axis)];
        if (!o_.moves || n < 2) return permuted(x);
        return r_.chance(0.2) ? slice(x, axis, -1, -n - 1, -1) : slice(x, axis, pick(0, 1), n, pick(1, 2));
      }
      case 7: {  // two ways of the same shape, one of them turned over and back
        const ValueId y = permuted(branch(x));
        return shape(y) == s ? add("Add", {y, x}) : y;
      }
      case 8: return permuted(x);
      case 9: {
        Shape c(s.size(), 1);
        c[static_cast<std::size_t>(axis)] = s[static_cast<std::size_t>(axis)];
        return add("Sub", {constant(c, vector(element_count(c), 2)), x});
      }
      case 10: {  // squeeze and excite
        ValueId g = add("GlobalAveragePool", {x});
        if (r_.chance(0.7)) g = quant(g, true);
        if (r_.chance(0.5)) g = quant(same_shape(g), true);
        return add(r_.chance(0.8) ? "Mul" : "Add", {x, g});
      }
      case 11:
        if (!o_.moves || s[2] * s[3] > 20) return x;
        return add("Resize", {x, kNone, constant({4}, {1, 1, static_cast<float>(pick(1, 2)), static_cast<float>(pick(1, 3))})},
                   {{"coordinate_transformation_mode", std::string("asymmetric")}, {"nearest_mode", std::string("floor")}});
      case 12:
        if (!o_.moves) return x;
        return add("Pad", {x, ints({0, pick(0, 1), pick(0, 2), pick(0, 1), 0, 0, pick(0, 1), pick(0, 1)})});
      case 13:
        if (o_.moves && s[1] % 4 == 0) return add("DepthToSpace", {x}, {{"blocksize", std::int64_t{2}}, {"mode", std::string(r_.chance(0.5) ? "DCR" : "CRD")}});
        if (o_.moves && s[2] % 2 == 0 && s[3] % 2 == 0) return add("SpaceToDepth", {x}, {{"blocksize", std::int64_t{2}}});
        return x;
      case 14: {  // one axis
        if (!o_.moves) return x;
        x = add("Reshape", {x, ints({s[0], s[1], s[2] * s[3]})});
        const std::int64_t k = pick(1, 3), O = pick(1, o_.max_channels);
        return add("Conv", {x, weights({O, s[1], std::min(k, s[2] * s[3])})}, {{"strides", std::vector<std::int64_t>{pick(1, 2)}}});
      }
      default: {
        if (s[2] < 2 || s[3] < 2) return x;
        return add("AveragePool", {x}, {{"kernel_shape", std::vector<std::int64_t>{2, 2}}, {"pads", std::vector<std::int64_t>{pick(0, 1), 1, 0, pick(0, 1)}}});
      }
    }
  }

  ValueId block(ValueId x, bool last) {
    ValueId before = x;
    bool image = rank(x) == 4;
    double what = r_.uniform();
    bool contracted = false;
    if (o_.streaming) {
      if (o_.joins && r_.chance(0.35)) x = topology(x);
      else if (image && what < 0.6) x = conv(x), contracted = true;
      else if (image && what < 0.8) x = pool(x);
      else x = dense(x), contracted = true;
    } else if (r_.chance(0.12)) {
      x = varying(x), contracted = true;
    } else if (image && what < 0.45) {
      x = conv(x), contracted = true;
    } else if (what < 0.7) {
      x = dense(x), contracted = true;
    } else if (image && what < 0.85) {
      x = pool(x);
    } else if (what < 0.95) {
      x = moves(x);
    } else if (shape(x).size() == 2) {
      x = add("Pow", {x, scalar(2)});
    }
    if (contracted && r_.chance(0.4)) x = batchnorm(x);
    if (!o_.streaming && r_.chance(0.3)) x = affine(x);
    if (r_.chance(contracted ? 0.5 : 0.15)) x = activation(x);
    if (!o_.streaming && r_.chance(0.15)) x = activation(affine(x));
    if (o_.joins && !o_.streaming && shape(x) == shape(before) && r_.chance(0.6)) x = join(x, r_.chance(0.5) ? before : activation(before));
    if (o_.state && r_.chance(0.5)) {
      x = quant(x, true);
      // A scale of its own per channel has no place in a state: ask again with one scale.
      if (shape(g_.nodes.back().inputs[1]).size() > 0 && element_count(shape(g_.nodes.back().inputs[1])) > 1) return x;
      x = add("Delay", {x}, {{"shape", shape(x)}, {"depth", pick(1, 2)}}, "tandem");
      return x;
    }
    // Mostly a quantiser follows; without one the exact value travels on.
    if (o_.streaming ? (!last || r_.chance(0.5)) : r_.chance(last ? 0.5 : 0.85)) x = quant(x, true);
    return x;
  }

  RandomGraphOptions o_;
  Rng r_;
  Graph g_;
};

// Samples of operators, chained: a float input of the next one takes values made before it, adapted to its extents and to the
// interval its sample lies in. Some go through a quantiser.
class Chain {
 public:
  explicit Chain(std::uint64_t seed) : r_(seed, "random_operators") {
    for (const OpDef* o : all_ops())
      // A sub-graph names what it captures: such operators are not fed by others.
      if (o->sample && std::none_of(o->attributes.begin(), o->attributes.end(), [](const AttrDef& a) { return a.type == AttrType::graph; })) ops_.push_back(o);
  }
  RandomGraph run() {
    g_.name = "random";
    for (std::int64_t k = r_.range(3, 8); k > 0; --k) add(*r_.pick(ops_));
    RandomGraph out{std::move(g_), std::move(inputs_)};
    for (ValueId v : made_)
      if (!used_.contains(v)) out.graph.outputs.push_back(v);
    infer_shapes(out.graph);
    return out;
  }

 private:
  Shape shape(ValueId v) const {
    Shape s;
    for (const Dim& d : *g_.values[static_cast<std::size_t>(v)].type.dims) s.push_back(d.n);
    return s;
  }
  ValueId node(const std::string& op, std::vector<ValueId> in, std::map<std::string, Attribute> a = {}, const std::string& domain = "") {
    const ValueId y = g_.add_node(op, std::move(in), std::move(a), "", domain);
    infer_shapes(g_);
    return y;
  }
  ValueId ints(const Shape& v) { return g_.add_constant(g_.unique_name("i"), Tensor::of<std::int64_t>({static_cast<std::int64_t>(v.size())}, v)); }
  ValueId number(float v) { return g_.add_constant(g_.unique_name("f"), Tensor::scalar(v)); }
  // A value made before, in the shape of `like` and within what it spans.
  ValueId adapted(const Tensor& like) {
    const ValueId from = r_.pick(pool_);
    used_.insert(from);
    ValueId v = from;
    const std::int64_t have = element_count(shape(v)), need = like.size();
    if (shape(v) != like.shape()) {
      if (have != need) {
        v = node("Reshape", {v, ints({-1})});
        v = have > need ? node("Slice", {v, ints({0}), ints({need})}) : node("Pad", {v, ints({0, need - have})});
      }
      v = node("Reshape", {v, ints(like.shape())});
    }
    if (r_.chance(0.3))
      v = node("Quant", {v, number(static_cast<float>(r_.range(1, 8)) / 16), number(0), number(static_cast<float>(r_.range(2, 8)))}, {{"signed", std::int64_t{1}}, {"narrow", std::int64_t{0}}, {"rounding_mode", std::string("ROUND")}}, kQonnx);
    double lo = like.at(0), hi = lo;
    for (std::int64_t i = 0; i < need; ++i) lo = std::min(lo, like.at(i)), hi = std::max(hi, like.at(i));
    return node("Clip", {v, number(static_cast<float>(lo)), number(static_cast<float>(hi))});
  }
  void add(const OpDef& op) {
    Graph s;
    std::vector<Tensor> x;
    Sample sample{r_, s, x};
    op.sample(op, sample);
    std::map<ValueId, ValueId> to{{kNone, kNone}};
    for (std::size_t i = 0; i < s.inputs.size(); ++i) {
      const ValueId v = s.inputs[i];
      if (x[i].dtype() == DType::f32 && x[i].size() > 0 && !pool_.empty() && r_.chance(0.7)) {
        to[v] = adapted(x[i]);
      } else {
        to[v] = g_.add_input(g_.unique_name("x"), x[i].dtype(), dims_of(x[i].shape()));
        inputs_.push_back(x[i]);
      }
    }
    for (const auto& [v, t] : s.initialisers) to[v] = g_.add_constant(g_.unique_name("c"), t);
    for (const Node& n : s.nodes) {
      Node m = n;
      m.name = fmt::format("op{}", g_.nodes.size());
      for (ValueId& v : m.inputs) v = to.at(v);
      for (ValueId& v : m.outputs)
        if (v != kNone) {
          const ValueId own = g_.add_value(g_.unique_name(std::string(op.name) + "_y"));
          to[v] = own;
          v = own;
        }
      g_.nodes.push_back(std::move(m));
    }
    infer_shapes(g_);
    for (ValueId v : s.outputs) made(to.at(v));
  }
  // What may be fed on: finite numbers of known extents.
  void made(ValueId v) {
    made_.push_back(v);
    Graph g = g_;
    g.outputs = {v};
    const Tensor y = evaluate_float(g, inputs_)[0];
    const auto& t = g_.values[static_cast<std::size_t>(v)].type;
    if (!t.dims || !all_known(*t.dims) || y.size() == 0) return;
    for (std::int64_t i = 0; i < y.size(); ++i)
      if (!std::isfinite(y.at(i))) return;
    if (t.dtype == DType::f32) return pool_.push_back(v);
    if (!r_.chance(0.5)) return;
    used_.insert(v);
    const ValueId f = node("Cast", {v}, {{"to", onnx_number(DType::f32)}});
    made_.push_back(f);
    pool_.push_back(f);
  }

  Rng r_;
  Graph g_;
  std::vector<const OpDef*> ops_;
  std::vector<Tensor> inputs_;
  std::vector<ValueId> pool_, made_;
  std::set<ValueId> used_;
};

}  // namespace

RandomGraph random_graph(const RandomGraphOptions& options, std::uint64_t seed) { return options.all_operators ? Chain(seed).run() : Generator(options, seed).run(); }

std::vector<Tensor> random_inputs(const Graph& g, std::uint64_t seed) {
  std::vector<Tensor> out;
  Rng r(seed, "random_inputs");
  for (ValueId v : g.inputs) {
    Shape s;
    for (const Dim& d : *g.values[v].type.dims) s.push_back(d.n);
    Tensor t(g.values[v].type.dtype, s);
    double spread = std::exp(3 * r.uniform() - 1);
    bool grid = r.chance(0.5);  // values that hit ties
    for (std::int64_t i = 0; i < t.size(); ++i) {
      double x = r.normal() * spread;
      t.set(i, grid ? std::round(x * 8) / 8 : x);
    }
    out.push_back(std::move(t));
  }
  return out;
}

std::vector<Tensor> corner_inputs(const Graph& g, int which) {
  std::vector<Tensor> out;
  for (ValueId v : g.inputs) {
    Shape s;
    for (const Dim& d : *g.values[v].type.dims) s.push_back(d.n);
    Tensor t(g.values[v].type.dtype, s);
    for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, which == 0 ? -1e6 : which == 1 ? 1e6 : which == 2 ? 0 : i % 2 ? -1e6 : 1e6);
    out.push_back(std::move(t));
  }
  return out;
}

}  // namespace tandem::ir
