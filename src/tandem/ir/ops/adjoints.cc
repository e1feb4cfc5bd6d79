#include "tandem/ir/ops/adjoints.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

namespace tandem::ir {
namespace {

using Grads = std::vector<ValueId>;
using Attrs = std::map<std::string, Attribute>;

// The node by value: appending to the graph moves g.nodes.
#define TANDEM_PROLOGUE                         \
  const Node n = node;                          \
  const ValueId dy = grad.empty() ? kNone : grad[0]; \
  Grads out(n.inputs.size(), kNone);            \
  if (dy == kNone) return out;

std::string base_name(const Graph& g, const Node& n) {
  if (!n.name.empty()) return n.name;
  return g.values[static_cast<std::size_t>(n.outputs.at(0))].name;
}

const Dims& dims_of_value(const Graph& g, const Node& n, ValueId v) {
  const auto& d = g.values[static_cast<std::size_t>(v)].type.dims;
  if (!d)
    throw bad_input("the gradient of {} needs the rank of '{}'", g.describe(n), g.values[static_cast<std::size_t>(v)].name)
        .fix("run shape inference on the graph before differentiating it");
  return *d;
}

ValueId emit(Graph& g, const char* op, std::vector<ValueId> in, const std::string& name, Attrs attrs = {}) {
  return g.add_node(op, std::move(in), std::move(attrs), name, "");
}
ValueId emit_tandem(Graph& g, const char* op, std::vector<ValueId> in, const std::string& name, Attrs attrs = {}) {
  return g.add_node(op, std::move(in), std::move(attrs), name, "tandem");
}

ValueId scalar_like(Graph& g, ValueId like, double v, const std::string& name) {
  DType t = g.values[static_cast<std::size_t>(like)].type.dtype;
  Tensor c(t, {});
  c.set(0, v);
  return g.add_constant(g.unique_name(name), std::move(c));
}

ValueId scaled(Graph& g, ValueId dy, ValueId like, double k, const std::string& name) {
  if (k == 1) return dy;
  return emit(g, "Mul", {dy, scalar_like(g, like, k, name + "_k")}, name);
}

// dy, of the shape of n's output, reduced to the shape of `like` (undoes broadcasting).
ValueId sum_to(Graph& g, const Node& n, ValueId dy, ValueId like, const std::string& name) {
  const auto& y = g.values[static_cast<std::size_t>(n.outputs[0])].type.dims;
  const auto& x = g.values[static_cast<std::size_t>(like)].type.dims;
  if (y && x && *y == *x) return dy;
  return emit_tandem(g, "SumTo", {dy, like}, name);
}

// Attributes of `n` that exist, by name.
Attrs keep(const Node& n, std::initializer_list<const char*> names) {
  Attrs a;
  for (const char* k : names)
    if (auto it = n.attrs.find(k); it != n.attrs.end()) a.insert(*it);
  return a;
}

std::vector<std::int64_t> swap_last(std::size_t rank) {
  std::vector<std::int64_t> p(rank);
  std::iota(p.begin(), p.end(), 0);
  std::swap(p[rank - 1], p[rank - 2]);
  return p;
}

ValueId transpose_last(Graph& g, ValueId v, std::size_t rank, const std::string& name) {
  return emit(g, "Transpose", {v}, name, {{"perm", swap_last(rank)}});
}

ValueId unsqueeze(Graph& g, ValueId v, std::int64_t axis, const std::string& name) {
  ValueId axes = g.add_constant(g.unique_name(name + "_axes"), Tensor::of<std::int64_t>({1}, std::vector<std::int64_t>{axis}));
  return emit(g, "Unsqueeze", {v, axes}, name);
}

Shape known_shape(const Graph& g, const Node& n, ValueId v) {
  Shape s;
  for (const Dim& d : dims_of_value(g, n, v)) {
    if (!d.known())
      throw bad_input("the gradient of {} needs the extents of '{}'", g.describe(n), g.values[static_cast<std::size_t>(v)].name)
          .fix("bind the symbolic extents of the graph's inputs to numbers first");
    s.push_back(d.n);
  }
  return s;
}
ValueId ints(Graph& g, const std::vector<std::int64_t>& v, const std::string& name) {
  return g.add_constant(g.unique_name(name), Tensor::of<std::int64_t>({static_cast<std::int64_t>(v.size())}, v));
}
ValueId zeros(Graph& g, ValueId like, const Shape& s, const std::string& name) {
  return g.add_constant(g.unique_name(name), Tensor(g.values[static_cast<std::size_t>(like)].type.dtype, s));
}
// 1, 2, 3, ... in a shape: sent through a move they tell where each element came from, 0: from nowhere.
ValueId counting(Graph& g, const Shape& s, const std::string& name) {
  Tensor t(DType::i64, s);
  for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, static_cast<double>(i + 1));
  return g.add_constant(g.unique_name(name), std::move(t));
}
ValueId chosen(Graph& g, const Node& n, ValueId condition, ValueId dy, const std::string& name) {  // dy where the condition holds, else 0
  return emit(g, "Where", {condition, dy, scalar_like(g, n.outputs[0], 0, name + "_zero")}, name);
}

}  // namespace

Grads adjoint_conv(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  Attrs a = keep(n, {"strides", "pads", "dilations", "group", "auto_pad", "kernel_shape"});
  out[0] = emit_tandem(g, "ConvGradInput", {dy, n.inputs[1], n.inputs[0]}, b + "/dX", a);
  out[1] = emit_tandem(g, "ConvGradWeight", {dy, n.inputs[0], n.inputs[1]}, b + "/dW", a);
  if (n.in(2) != kNone) out[2] = emit_tandem(g, "SumTo", {dy, n.inputs[2]}, b + "/dB", {{"axis", std::int64_t{1}}});
  return out;
}

Grads adjoint_matmul(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  const ValueId a0 = n.inputs[0], b0 = n.inputs[1];
  const std::size_t ra = dims_of_value(g, n, a0).size(), rb = dims_of_value(g, n, b0).size();
  // One-dimensional operands count as a row and a column; the gradient gets the same extents back.
  ValueId A = a0, B = b0, dY = dy;
  if (rb == 1) {
    B = unsqueeze(g, b0, 1, b + "/W_col");
    dY = unsqueeze(g, dY, -1, b + "/dY_col");
  }
  if (ra == 1) {
    A = unsqueeze(g, a0, 0, b + "/X_row");
    dY = unsqueeze(g, dY, -2, b + "/dY_row");
  }
  ValueId bt = transpose_last(g, B, std::max<std::size_t>(rb, 2), b + "/Wt");
  ValueId at = transpose_last(g, A, std::max<std::size_t>(ra, 2), b + "/Xt");
  ValueId da = emit(g, "MatMul", {dY, bt}, b + "/dX");
  ValueId db = emit(g, "MatMul", {at, dY}, b + "/dW");
  // Batch axes broadcast: summed away. SumTo sees [.., 1, K] against [K] as a leading axis to sum.
  out[0] = (ra == 1 || rb > ra || (ra > 2 && rb > 2)) ? emit_tandem(g, "SumTo", {da, A}, b + "/dX_sum") : da;
  out[1] = (rb == 1 || ra > rb || (ra > 2 && rb > 2)) ? emit_tandem(g, "SumTo", {db, B}, b + "/dW_sum") : db;
  if (ra == 1) out[0] = emit_tandem(g, "ReshapeLike", {out[0], a0}, b + "/dX_flat");
  if (rb == 1) out[1] = emit_tandem(g, "ReshapeLike", {out[1], b0}, b + "/dW_flat");
  return out;
}

Grads adjoint_gemm(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  const bool ta = n.attr_int("transA", 0) != 0, tb = n.attr_int("transB", 0) != 0;
  const double alpha = n.attr_float("alpha", 1), beta = n.attr_float("beta", 1);
  auto gemm = [&](ValueId l, bool tl, ValueId r, bool tr, const char* name) {
    return emit(g, "Gemm", {l, r}, b + name,
                {{"alpha", alpha}, {"transA", std::int64_t{tl}}, {"transB", std::int64_t{tr}}});
  };
  out[0] = ta ? gemm(n.inputs[1], tb, dy, true, "/dX") : gemm(dy, false, n.inputs[1], !tb, "/dX");
  out[1] = tb ? gemm(dy, true, n.inputs[0], ta, "/dW") : gemm(n.inputs[0], !ta, dy, false, "/dW");
  if (n.in(2) != kNone) out[2] = sum_to(g, n, scaled(g, dy, n.inputs[2], beta, b + "/dY_beta"), n.inputs[2], b + "/dB");
  return out;
}

Grads adjoint_add(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  out[0] = sum_to(g, n, dy, n.inputs[0], b + "/d0");
  out[1] = sum_to(g, n, dy, n.inputs[1], b + "/d1");
  return out;
}

Grads adjoint_sub(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  out[0] = sum_to(g, n, dy, n.inputs[0], b + "/d0");
  out[1] = sum_to(g, n, scaled(g, dy, n.inputs[1], -1, b + "/neg"), n.inputs[1], b + "/d1");
  return out;
}

Grads adjoint_mul(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  out[0] = sum_to(g, n, emit(g, "Mul", {dy, n.inputs[1]}, b + "/d0_full"), n.inputs[0], b + "/d0");
  out[1] = sum_to(g, n, emit(g, "Mul", {dy, n.inputs[0]}, b + "/d1_full"), n.inputs[1], b + "/d1");
  return out;
}

Grads adjoint_div(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  // d(x/y)/dx = 1/y;  d(x/y)/dy = -(x/y)/y
  ValueId q = emit(g, "Div", {dy, n.inputs[1]}, b + "/d0_full");
  out[0] = sum_to(g, n, q, n.inputs[0], b + "/d0");
  ValueId t = scaled(g, emit(g, "Mul", {q, n.outputs[0]}, b + "/d1_prod"), n.inputs[1], -1, b + "/d1_full");
  out[1] = sum_to(g, n, t, n.inputs[1], b + "/d1");
  return out;
}

Grads adjoint_pow(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  ValueId one = scalar_like(g, n.inputs[1], 1, b + "/one");
  ValueId p1 = emit(g, "Sub", {n.inputs[1], one}, b + "/p_minus_1");
  ValueId x1 = emit(g, "Pow", {n.inputs[0], p1}, b + "/x_p_minus_1");
  ValueId d = emit(g, "Mul", {emit(g, "Mul", {x1, n.inputs[1]}, b + "/slope"), dy}, b + "/d0_full");
  out[0] = sum_to(g, n, d, n.inputs[0], b + "/d0");
  return out;
}

Grads adjoint_batchnorm(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  const bool training = n.attr_int("training_mode", 0) != 0;
  const double eps = n.attr_float("epsilon", 1e-5);
  Attrs a = {{"epsilon", eps}, {"training_mode", std::int64_t{training}}};
  const ValueId x = n.inputs[0], gamma = n.inputs[1], beta = n.inputs[2], mean = n.inputs[3], var = n.inputs[4];
  out[0] = emit_tandem(g, "BatchNormGradInput", {dy, x, gamma, mean, var}, b + "/dX", a);
  out[1] = emit_tandem(g, "BatchNormGradScale", {dy, x, mean, var}, b + "/dscale", a);
  out[2] = emit_tandem(g, "SumTo", {dy, beta}, b + "/dbias", {{"axis", std::int64_t{1}}});
  if (!training) {
    ValueId s = emit_tandem(g, "SumTo", {out[0], mean}, b + "/dmean_neg", {{"axis", std::int64_t{1}}});
    out[3] = scaled(g, s, mean, -1, b + "/dmean");
    // d/dvar = -1/2 * gamma * dgamma / (var + eps)
    ValueId ve = emit(g, "Add", {var, scalar_like(g, var, eps, b + "/eps")}, b + "/var_eps");
    ValueId gg = emit(g, "Mul", {out[1], gamma}, b + "/dscale_scale");
    out[4] = scaled(g, emit(g, "Div", {gg, ve}, b + "/dvar_full"), var, -0.5, b + "/dvar");
  }
  return out;
}

Grads adjoint_relu(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  out[0] = emit_tandem(g, "ReluGrad", {dy, n.inputs[0]}, base_name(g, n) + "/dX");
  return out;
}

Grads adjoint_clip(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  out[0] = emit_tandem(g, "ClipGrad", {dy, n.inputs[0], n.in(1), n.in(2)}, base_name(g, n) + "/dX", keep(n, {"min", "max"}));
  return out;
}

Grads adjoint_maxpool(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  out[0] = emit_tandem(g, "MaxPoolGrad", {dy, n.inputs[0]}, base_name(g, n) + "/dX",
                       keep(n, {"kernel_shape", "strides", "pads", "dilations", "auto_pad", "ceil_mode"}));
  return out;
}

Grads adjoint_averagepool(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  out[0] = emit_tandem(g, "AveragePoolGrad", {dy, n.inputs[0]}, base_name(g, n) + "/dX",
                       keep(n, {"kernel_shape", "strides", "pads", "dilations", "auto_pad", "ceil_mode", "count_include_pad"}));
  return out;
}

Grads adjoint_globalaveragepool(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  out[0] = emit_tandem(g, "GlobalAveragePoolGrad", {dy, n.inputs[0]}, base_name(g, n) + "/dX");
  return out;
}

Grads adjoint_reshape_like(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  out[0] = emit_tandem(g, "ReshapeLike", {dy, n.inputs[0]}, base_name(g, n) + "/dX");
  return out;
}

Grads adjoint_transpose(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::size_t rank = dims_of_value(g, n, n.inputs[0]).size();
  std::vector<std::int64_t> perm = n.attr_ints("perm", {});
  if (perm.empty())
    for (std::size_t i = rank; i-- > 0;) perm.push_back(static_cast<std::int64_t>(i));
  std::vector<std::int64_t> inverse(perm.size());
  for (std::size_t i = 0; i < perm.size(); ++i) inverse[static_cast<std::size_t>(perm[i])] = static_cast<std::int64_t>(i);
  out[0] = emit(g, "Transpose", {dy}, base_name(g, n) + "/dX", {{"perm", inverse}});
  return out;
}

Grads adjoint_concat(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  std::int64_t axis = n.attr_int("axis", 0), start = 0;
  for (std::size_t i = 0; i < n.inputs.size(); ++i) {
    const Dims& d = dims_of_value(g, n, n.inputs[i]);
    const std::int64_t a = axis < 0 ? axis + static_cast<std::int64_t>(d.size()) : axis;
    const Dim& extent = d.at(static_cast<std::size_t>(a));
    if (!extent.known())
      throw bad_input("the gradient of {} needs the extent of '{}' along axis {}", g.describe(n),
                      g.values[static_cast<std::size_t>(n.inputs[i])].name, a)
          .fix("bind the symbolic extents of the graph's inputs to numbers first");
    out[i] = emit_tandem(g, "SliceLike", {dy, n.inputs[i]}, base_name(g, n) + "/d" + std::to_string(i),
                         {{"axis", a}, {"start", start}});
    start += extent.n;
  }
  return out;
}

Grads adjoint_gather(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  out[0] = emit_tandem(g, "GatherGrad", {dy, n.inputs[0], n.inputs[1]}, base_name(g, n) + "/dX", keep(n, {"axis"}));
  return out;
}

Grads adjoint_softmax(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  out[0] = emit_tandem(g, "SoftmaxGrad", {dy, n.outputs[0]}, base_name(g, n) + "/dX", {{"axis", n.attr_int("axis", -1)}});
  return out;
}

Grads adjoint_identity(Graph&, const Node& node, std::span<const ValueId> grad) {
  Grads out(node.inputs.size(), kNone);
  if (!grad.empty()) out[0] = grad[0];
  return out;
}

Grads adjoint_quant(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  std::vector<ValueId> in{dy};
  in.insert(in.end(), n.inputs.begin(), n.inputs.end());
  const bool bipolar = n.op == "BipolarQuant";
  Attrs a = keep(n, {"signed", "narrow", "rounding_mode"});
  out[0] = emit_tandem(g, bipolar ? "BipolarQuantGradInput" : "QuantGradInput", in, b + "/dX", a);
  out[1] = emit_tandem(g, bipolar ? "BipolarQuantGradScale" : "QuantGradScale", in, b + "/dscale", a);
  return out;
}

Grads adjoint_unary(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  Attrs a = n.attrs;
  a["of"] = n.op;
  out[0] = emit_tandem(g, "UnaryGrad", {dy, n.inputs[0]}, base_name(g, n) + "/dX", std::move(a));
  return out;
}

Grads adjoint_cast(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  if (is_float(g.values[static_cast<std::size_t>(n.inputs[0])].type.dtype) && is_float(g.values[static_cast<std::size_t>(n.outputs[0])].type.dtype))
    out[0] = emit(g, "CastLike", {dy, n.inputs[0]}, base_name(g, n) + "/dX");
  return out;
}

Grads adjoint_extreme(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  ValueId free = kNone;  // where no earlier input attains it
  for (std::size_t i = 0; i < n.inputs.size(); ++i) {
    const std::string at = b + "/d" + std::to_string(i);
    const ValueId attains = emit(g, "Equal", {n.inputs[i], n.outputs[0]}, at + "_attains");
    const ValueId here = free == kNone ? attains : emit(g, "And", {attains, free}, at + "_first");
    out[i] = sum_to(g, n, chosen(g, n, here, dy, at + "_full"), n.inputs[i], at);
    const ValueId other = emit(g, "Not", {attains}, at + "_other");
    free = free == kNone ? other : emit(g, "And", {free, other}, at + "_free");
  }
  return out;
}

Grads adjoint_sum(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  const ValueId d = n.op == "Mean" ? scaled(g, dy, n.outputs[0], 1 / static_cast<double>(n.inputs.size()), b + "/each") : dy;
  for (std::size_t i = 0; i < n.inputs.size(); ++i) out[i] = sum_to(g, n, d, n.inputs[i], b + "/d" + std::to_string(i));
  return out;
}

Grads adjoint_prelu(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  const ValueId below = emit(g, "Less", {n.inputs[0], scalar_like(g, n.outputs[0], 0, b + "/zero")}, b + "/below");
  out[0] = emit(g, "Where", {below, emit(g, "Mul", {dy, n.inputs[1]}, b + "/sloped"), dy}, b + "/dX");
  out[1] = sum_to(g, n, chosen(g, n, below, emit(g, "Mul", {dy, n.inputs[0]}, b + "/by_x"), b + "/dslope_full"), n.inputs[1], b + "/dslope");
  return out;
}

Grads adjoint_where(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  out[1] = sum_to(g, n, chosen(g, n, n.inputs[0], dy, b + "/d1_full"), n.inputs[1], b + "/d1");
  out[2] = sum_to(g, n, chosen(g, n, emit(g, "Not", {n.inputs[0]}, b + "/else"), dy, b + "/d2_full"), n.inputs[2], b + "/d2");
  return out;
}

Grads adjoint_reduce(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n), op = n.op.substr(6);
  const ValueId X = n.inputs[0];
  const Shape x = known_shape(g, n, X);
  std::vector<std::int64_t> axes = n.attr_ints("axes", {});
  if (n.in(1) != kNone) {
    const Tensor* t = g.constant(n.in(1));
    if (!t) throw bad_input("the gradient of {} needs its axes", g.describe(n)).fix("make the axes a constant");
    axes.clear();
    for (std::int64_t i = 0; i < t->size(); ++i) axes.push_back(t->int_at(i));
  }
  Shape kept = x;
  if (axes.empty() && n.attr_int("noop_with_empty_axes", 0) == 0) kept.assign(x.size(), 1);
  for (std::int64_t a : axes) kept.at(static_cast<std::size_t>(a < 0 ? a + static_cast<std::int64_t>(x.size()) : a)) = 1;
  double count = 1;
  for (std::size_t d = 0; d < x.size(); ++d) count *= kept[d] == x[d] ? 1 : static_cast<double>(x[d]);
  const auto wide = [&](ValueId v, const char* name) {  // with the reduced axes as extents of 1
    return emit(g, "Reshape", {v, ints(g, kept, b + name + std::string("_shape"))}, b + name);
  };
  const auto spread = [&](ValueId v) { return emit(g, "Expand", {v, ints(g, x, b + "/shape")}, b + "/dX"); };
  const auto mul = [&](ValueId u, ValueId v, const char* name) { return emit(g, "Mul", {u, v}, b + name); };
  const ValueId d = wide(dy, "/dY_wide");
  if (op == "Sum") out[0] = spread(d);
  else if (op == "Mean") out[0] = spread(scaled(g, d, X, 1 / count, b + "/each"));
  else if (op == "L1") out[0] = mul(d, emit(g, "Sign", {X}, b + "/sign"), "/dX");
  else if (op == "SumSquare") out[0] = mul(scaled(g, d, X, 2, b + "/twice"), X, "/dX");
  else if (op == "LogSum") out[0] = spread(emit(g, "Div", {d, emit(g, "Exp", {wide(n.outputs[0], "/Y_wide")}, b + "/sum")}, b + "/each"));
  else if (op == "L2") out[0] = mul(emit(g, "Div", {d, wide(n.outputs[0], "/Y_wide")}, b + "/over_length"), X, "/dX");
  else if (op == "Prod") out[0] = emit(g, "Div", {mul(d, wide(n.outputs[0], "/Y_wide"), "/by_product"), X}, b + "/dX");
  else if (op == "LogSumExp") out[0] = mul(d, emit(g, "Exp", {emit(g, "Sub", {X, wide(n.outputs[0], "/Y_wide")}, b + "/less")}, b + "/share"), "/dX");
  else out[0] = emit_tandem(g, "ExtremeGrad", {d, X, wide(n.outputs[0], "/Y_wide")}, b + "/dX");
  return out;
}

Grads adjoint_cumsum(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  out[0] = emit(g, "CumSum", {dy, n.inputs[1]}, base_name(g, n) + "/dX", {{"exclusive", n.attr_int("exclusive", 0)}, {"reverse", std::int64_t{n.attr_int("reverse", 0) == 0}}});
  return out;
}

Grads adjoint_move(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  std::vector<ValueId> in = n.inputs;
  in[0] = counting(g, known_shape(g, n, in[0]), b + "/places");
  if (n.op == "Pad" && n.in(2) != kNone) in[2] = g.add_constant(g.unique_name(b + "/nowhere"), Tensor(DType::i64, {}));
  out[0] = emit_tandem(g, "MoveGrad", {dy, n.inputs[0], emit(g, n.op.c_str(), in, b + "/from", n.attrs)}, b + "/dX");
  return out;
}

Grads adjoint_split(Graph& g, const Node& node, std::span<const ValueId> grad) {
  const Node n = node;
  Grads out(n.inputs.size(), kNone);
  const std::string b = base_name(g, n);
  std::vector<ValueId> parts(grad.begin(), grad.end());
  for (std::size_t i = 0; i < parts.size(); ++i)
    if (parts[i] == kNone) parts[i] = zeros(g, n.inputs[0], known_shape(g, n, n.outputs[i]), b + "/nothing");
  out[0] = emit(g, "Concat", parts, b + "/dX", {{"axis", n.attr_int("axis", 0)}});
  return out;
}

Grads adjoint_scatter(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n), how = n.attr_string("reduction", "none");
  if (how != "none" && how != "add")
    throw bad_input("{} has no adjoint with the reduction {}, so no gradient passes it", g.describe(n), how).fix("the reduction none or add");
  const Shape x = known_shape(g, n, n.inputs[0]), u = known_shape(g, n, n.inputs[2]);
  if (how == "add") {
    out[0] = dy;
    out[2] = n.op == "ScatterND" ? emit(g, "GatherND", {dy, n.inputs[1]}, b + "/dupdates") : emit(g, "GatherElements", {dy, n.inputs[1]}, b + "/dupdates", keep(n, {"axis"}));
    return out;
  }
  // Where each element of Y came from: counted among those of X, then among the updates.
  const ValueId kept = emit(g, n.op.c_str(), {counting(g, x, b + "/places"), n.inputs[1], g.add_constant(g.unique_name(b + "/nowhere"), Tensor(DType::i64, u))}, b + "/from_X", n.attrs);
  const ValueId written = emit(g, n.op.c_str(), {g.add_constant(g.unique_name(b + "/nowhere"), Tensor(DType::i64, x)), n.inputs[1], counting(g, u, b + "/places")}, b + "/from_updates", n.attrs);
  out[0] = emit_tandem(g, "MoveGrad", {dy, n.inputs[0], kept}, b + "/dX");
  out[2] = emit_tandem(g, "MoveGrad", {dy, n.inputs[2], written}, b + "/dupdates");
  return out;
}

Grads adjoint_topk(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  if (n.outputs.size() < 2 || n.outputs[1] == kNone) throw bad_input("the gradient of {} needs its indices", g.describe(n)).fix("give it its second output");
  const ValueId from = emit(g, "GatherElements", {counting(g, known_shape(g, n, n.inputs[0]), b + "/places"), n.outputs[1]}, b + "/from", {{"axis", n.attr_int("axis", -1)}});
  out[0] = emit_tandem(g, "MoveGrad", {dy, n.inputs[0], from}, b + "/dX");
  return out;
}

Grads adjoint_maxunpool(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  const auto flat = [&](ValueId v, const char* name) { return emit(g, "Reshape", {v, ints(g, {-1}, b + "/flat")}, b + name); };
  const ValueId d = emit(g, "GatherElements", {flat(dy, "/dY_flat"), flat(n.inputs[1], "/places")}, b + "/dX_flat", {{"axis", std::int64_t{0}}});
  out[0] = emit_tandem(g, "ReshapeLike", {d, n.inputs[0]}, b + "/dX");
  return out;
}

Grads adjoint_globalmaxpool(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  out[0] = emit_tandem(g, "ExtremeGrad", {dy, n.inputs[0], n.outputs[0]}, base_name(g, n) + "/dX");
  return out;
}

Grads adjoint_globallppool(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  const double p = static_cast<double>(n.attr_int("p", 2));
  // d|X|_p / dX = sign(X) * (|X| / Y)^(p-1)
  const ValueId part = emit(g, "Div", {emit(g, "Abs", {n.inputs[0]}, b + "/size"), n.outputs[0]}, b + "/part");
  const ValueId slope = emit(g, "Mul", {emit(g, "Pow", {part, scalar_like(g, n.outputs[0], p - 1, b + "/p_minus_1")}, b + "/power"), emit(g, "Sign", {n.inputs[0]}, b + "/sign")}, b + "/slope");
  out[0] = emit(g, "Mul", {slope, dy}, b + "/dX");
  return out;
}

Grads adjoint_logsoftmax(Graph& g, const Node& node, std::span<const ValueId> grad) {
  TANDEM_PROLOGUE
  const std::string b = base_name(g, n);
  const ValueId sum = emit(g, "ReduceSum", {dy, ints(g, {n.attr_int("axis", -1)}, b + "/axis")}, b + "/sum");
  out[0] = emit(g, "Sub", {dy, emit(g, "Mul", {emit(g, "Exp", {n.outputs[0]}, b + "/share"), sum}, b + "/shared")}, b + "/dX");
  return out;
}

Grads adjoint_expanded(Graph& g, const Node& node, std::span<const ValueId> grad) {
  const Node n = node;
  Grads out(n.inputs.size(), kNone);
  const std::size_t first = g.nodes.size();
  const std::vector<ValueId> y = op_of(g, n).expansion(g, n);
  if (y.empty()) throw bad_input("{} has no adjoint in this form, so no gradient passes it", g.describe(n)).fix("a rule that needs none, or take the value in front of it as the loss");
  infer_shapes(g);
  const std::size_t end = g.nodes.size();
  std::map<ValueId, ValueId> slope;
  const auto add = [&](ValueId v, ValueId d) {
    if (v == kNone || d == kNone) return;
    const auto f = slope.find(v);
    if (f == slope.end()) slope[v] = d;
    else f->second = emit(g, "Add", {f->second, d}, base_name(g, n) + "/both");
  };
  for (std::size_t i = 0; i < y.size() && i < grad.size(); ++i) add(y[i], grad[i]);
  for (std::size_t i = end; i-- > first;) {
    const Node m = g.nodes[i];
    std::vector<ValueId> d;
    bool reached = false;
    for (ValueId v : m.outputs) {
      d.push_back(slope.contains(v) ? slope.at(v) : kNone);
      reached |= d.back() != kNone;
    }
    if (!reached) continue;
    const OpDef& def = op_of(g, m);
    static const std::set<std::string_view> flat{"Floor", "Round"};  // constant between their steps
    const DType t = g.values[static_cast<std::size_t>(m.outputs[0])].type.dtype;
    if (!def.adjoint && (!is_float(t) || flat.contains(m.op))) continue;
    TANDEM_CHECK(def.adjoint, "{}: its expansion has {}, which has no adjoint", g.describe(n), m.op);
    const Grads in = def.adjoint(g, m, d);
    for (std::size_t k = 0; k < in.size(); ++k) add(m.inputs[k], in[k]);
  }
  for (std::size_t i = 0; i < n.inputs.size(); ++i)
    if (n.inputs[i] != kNone && slope.contains(n.inputs[i])) out[i] = slope.at(n.inputs[i]);
  return out;
}

}  // namespace tandem::ir
