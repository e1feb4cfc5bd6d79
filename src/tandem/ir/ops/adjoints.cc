#include "tandem/ir/ops/adjoints.h"

#include <algorithm>
#include <numeric>

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

}  // namespace tandem::ir
