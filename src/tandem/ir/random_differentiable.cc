#include "tandem/ir/random_differentiable.h"

#include <algorithm>

#include "tandem/base/rng.h"
#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {

class Builder {
 public:
  Builder(std::uint64_t seed, bool quantisers) : r_(seed, "differentiable"), quantisers_(quantisers) {}

  DifferentiableGraph run() {
    shape_ = {r_.range(1, 3), r_.range(1, 3), r_.range(3, 6), r_.range(3, 6)};
    v_ = g_.add_input("x", DType::f64, dims_of(shape_));
    out_.inputs.push_back(values(shape_, -2, 2));
    out_.wrt.push_back(v_);
    const std::int64_t blocks = r_.range(1, 5);
    for (std::int64_t i = 0; i < blocks; ++i) image_block();
    if (r_.chance(0.7)) tail();
    g_.outputs = {v_};
    infer_shapes(g_);
    verify(g_);
    out_.graph = std::move(g_);
    return std::move(out_);
  }

 private:
  using Ints = std::vector<std::int64_t>;

  Tensor values(const Shape& s, double lo, double hi) {
    Tensor t(DType::f64, s);
    for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, lo + (hi - lo) * r_.uniform());
    return t;
  }
  ValueId constant(Tensor t, bool gradient = true) {
    const ValueId v = g_.add_constant(g_.unique_name("c"), std::move(t));
    if (gradient) out_.wrt.push_back(v);
    return v;
  }
  ValueId ints(const Ints& v) { return g_.add_constant(g_.unique_name("i"), Tensor::of<std::int64_t>({static_cast<std::int64_t>(v.size())}, v)); }
  void node(const char* op, std::vector<ValueId> in, std::map<std::string, Attribute> a = {}, const char* domain = "") {
    v_ = g_.add_node(op, std::move(in), std::move(a), "n" + std::to_string(g_.nodes.size()), domain);
  }
  // Extents that broadcast against the present shape.
  Shape broadcastable() {
    Shape s(shape_.begin() + r_.range(0, static_cast<std::int64_t>(shape_.size())), shape_.end());
    for (auto& e : s)
      if (r_.chance(0.4)) e = 1;
    return s;
  }
  // A same-shaped second branch.
  ValueId branch() {
    const ValueId here = v_;
    switch (r_.range(0, 2)) {
      case 0: node("Relu", {v_}); break;
      case 1: node("Mul", {v_, constant(values(broadcastable(), -1, 1))}); break;
      default: node("Identity", {v_});
    }
    const ValueId b = v_;
    v_ = here;
    return b;
  }

  void elementwise() {
    switch (r_.range(0, quantisers_ ? 8 : 7)) {
      case 0: node(r_.chance(0.5) ? "Add" : "Sub", {v_, constant(values(broadcastable(), -1, 1))}); break;
      case 1: node("Sub", {constant(values(broadcastable(), -1, 1)), v_}); break;
      case 2: node("Mul", {v_, constant(values(broadcastable(), -1.5, 1.5))}); break;
      case 3: node("Div", {v_, constant(values(broadcastable(), 0.5, 2))}); break;
      case 4:
        if (powers_++) break;  // one: values must stay of order one
        node("Pow", {v_, constant(Tensor::scalar<double>(static_cast<double>(r_.range(2, 3))), false)});
        break;
      case 5: node("Relu", {v_}); break;
      case 6:
        node("Clip", {v_, r_.chance(0.8) ? constant(Tensor::scalar<double>(-0.7), false) : kNone, constant(Tensor::scalar<double>(0.9), false)});
        break;
      case 7: {
        const ValueId b = branch();
        const char* ops[] = {"Add", "Sub", "Mul"};
        node(ops[r_.range(0, 2)], {v_, b});
        break;
      }
      default: quant();
    }
  }

  void quant() {
    Shape s;
    if (shape_.size() >= 2 && r_.chance(0.5)) {
      s.assign(shape_.size(), 1);
      s[1] = shape_[1];
    }
    const ValueId scale = constant(values(s, 0.05, 0.4));
    if (r_.chance(0.2)) return node("BipolarQuant", {v_, scale}, {}, "qonnx.custom_op.general");
    const bool is_signed = r_.chance(0.6);
    const char* modes[] = {"ROUND", "CEIL", "FLOOR", "HALF_UP", "UP", "DOWN"};
    const double zero = is_signed || r_.chance(0.5) ? 0 : 2;
    node("Quant", {v_, scale, constant(Tensor::scalar<double>(zero), false), constant(Tensor::scalar<double>(static_cast<double>(r_.range(2, 5))), false)},
         {{"signed", std::int64_t{is_signed}}, {"narrow", r_.range(0, 1)}, {"rounding_mode", std::string(modes[r_.chance(0.5) ? 0 : r_.range(0, 5)])}},
         "qonnx.custom_op.general");
  }

  void conv() {
    const bool depthwise = r_.chance(0.3);
    const std::int64_t c = shape_[1], group = depthwise ? c : 1, o = depthwise ? c * r_.range(1, 2) : r_.range(1, 3);
    const std::int64_t kh = r_.range(1, std::min<std::int64_t>(3, shape_[2])), kw = r_.range(1, std::min<std::int64_t>(3, shape_[3]));
    const std::int64_t dh = kh > 1 && (kh - 1) * 2 < shape_[2] ? r_.range(1, 2) : 1;
    const Ints stride{r_.range(1, 2), r_.range(1, 2)}, dil{dh, 1}, pads{r_.range(0, 1), r_.range(0, 1), r_.range(0, 1), r_.range(0, 1)};
    std::vector<ValueId> in{v_, constant(values({o, c / group, kh, kw}, -1, 1))};
    if (r_.chance(0.5)) in.push_back(constant(values({o}, -1, 1)));
    node("Conv", in, {{"kernel_shape", Ints{kh, kw}}, {"strides", stride}, {"dilations", dil}, {"pads", pads}, {"group", group}});
    shape_ = {shape_[0], o, (shape_[2] + pads[0] + pads[2] - (kh - 1) * dh - 1) / stride[0] + 1, (shape_[3] + pads[1] + pads[3] - kw) / stride[1] + 1};
  }

  void pool(bool max) {
    const std::int64_t k0 = std::min<std::int64_t>(r_.range(1, 3), shape_[2]), k1 = std::min<std::int64_t>(r_.range(1, 3), shape_[3]);
    const Ints kernel{k0, k1}, stride{r_.range(1, 2), r_.range(1, 2)};
    Ints pads{0, 0, 0, 0};
    for (std::size_t i = 0; i < 4; ++i)
      if (kernel[i % 2] > 1) pads[i] = r_.range(0, 1);
    std::map<std::string, Attribute> a{{"kernel_shape", kernel}, {"strides", stride}, {"pads", pads}};
    if (!max) a["count_include_pad"] = r_.range(0, 1);
    node(max ? "MaxPool" : "AveragePool", {v_}, a);
    for (std::size_t d = 0; d < 2; ++d) shape_[d + 2] = (shape_[d + 2] + pads[d] + pads[d + 2] - kernel[d]) / stride[d] + 1;
  }

  void batchnorm() {
    const Shape c{shape_[1]};
    const ValueId gamma = constant(values(c, 0.5, 1.5)), beta = constant(values(c, -1, 1));
    node("BatchNormalization", {v_, gamma, beta, constant(values(c, -1, 1)), constant(values(c, 0.5, 2))}, {{"epsilon", 1e-3}});
  }

  void image_block() {
    switch (r_.range(0, 9)) {
      case 0: case 1: case 2: conv(); break;
      case 3: pool(true); break;
      case 4: pool(false); break;
      case 5: case 6: batchnorm(); break;
      case 7: {
        const ValueId b = branch();
        const std::int64_t axis = r_.range(0, 3);
        node("Concat", {v_, b}, {{"axis", r_.chance(0.3) ? axis - 4 : axis}});
        shape_[static_cast<std::size_t>(axis)] *= 2;
        break;
      }
      case 8: {
        const std::int64_t axis = r_.range(0, 3), n = shape_[static_cast<std::size_t>(axis)];
        Ints idx(static_cast<std::size_t>(r_.range(1, 4)));
        for (auto& i : idx) i = r_.range(-n, n - 1);
        node("Gather", {v_, ints(idx)}, {{"axis", axis}});
        shape_[static_cast<std::size_t>(axis)] = static_cast<std::int64_t>(idx.size());
        break;
      }
      default: {
        Ints perm{0, 1, 2, 3};
        r_.shuffle(perm);
        node("Transpose", {v_}, {{"perm", perm}});
        const Shape s = shape_;
        for (std::size_t d = 0; d < 4; ++d) shape_[d] = s[static_cast<std::size_t>(perm[d])];
      }
    }
    elementwise();
  }

  void tail() {
    switch (r_.range(0, 3)) {
      case 0:
        node("GlobalAveragePool", {v_});
        node("Squeeze", {v_, ints({2, 3})});
        shape_ = {shape_[0], shape_[1]};
        break;
      case 1:
        node("Reshape", {v_, ints({shape_[0], -1})});
        shape_ = {shape_[0], shape_[1] * shape_[2] * shape_[3]};
        break;
      case 2:
        node("Flatten", {v_}, {{"axis", std::int64_t{2}}});
        shape_ = {shape_[0] * shape_[1], shape_[2] * shape_[3]};
        break;
      default: break;  // batched MatMul
    }
    const std::int64_t k = shape_.back(), m = r_.range(1, 4);
    if (shape_.size() == 2 && r_.chance(0.6)) {
      const bool ta = r_.chance(0.3), tb = r_.chance(0.5);
      if (ta) node("Transpose", {v_}, {{"perm", Ints{1, 0}}});
      const ValueId w = constant(values(tb ? Shape{m, k} : Shape{k, m}, -1, 1));
      std::vector<ValueId> in{v_, w};
      if (r_.chance(0.6)) in.push_back(constant(values(r_.chance(0.5) ? Shape{m} : Shape{1, m}, -1, 1)));
      node("Gemm", in, {{"transA", std::int64_t{ta}}, {"transB", std::int64_t{tb}}, {"alpha", 0.75}, {"beta", 1.5}});
      shape_ = {shape_[0], m};
    } else if (r_.chance(0.25)) {
      node("MatMul", {v_, constant(values({k}, -1, 1))});
      shape_.pop_back();
    } else if (shape_.size() == 4 && r_.chance(0.4)) {  // both operands have batch axes, one broadcasts
      node("MatMul", {v_, constant(values({r_.chance(0.5) ? 1 : shape_[1], k, m}, -1, 1))});
      shape_.back() = m;
    } else {
      node("MatMul", {v_, constant(values({k, m}, -1, 1))});
      shape_.back() = m;
    }
    if (r_.chance(0.3)) node("Dropout", {v_});
    if (r_.chance(0.3)) {
      const std::int64_t axis = r_.range(0, static_cast<std::int64_t>(shape_.size()));
      node("Unsqueeze", {v_, ints({axis})});
      shape_.insert(shape_.begin() + axis, 1);
    }
    if (r_.chance(0.4)) node("Softmax", {v_}, {{"axis", r_.range(0, static_cast<std::int64_t>(shape_.size()) - 1)}});
    if (r_.chance(0.5)) elementwise();
  }

  Rng r_;
  bool quantisers_;
  int powers_ = 0;
  Graph g_;
  DifferentiableGraph out_;
  ValueId v_ = kNone;
  Shape shape_;
};

}  // namespace

DifferentiableGraph random_differentiable(std::uint64_t seed, bool quantisers) { return Builder(seed, quantisers).run(); }

}  // namespace tandem::ir
