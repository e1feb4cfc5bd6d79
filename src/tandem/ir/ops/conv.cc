// Conv and the pooling operators.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/common.h"

namespace tandem::ir {
namespace {

void infer_window(InferContext& c, std::int64_t kh, std::int64_t kw, Dim channels) {
  const Dims& x = c.dims(0);
  if (x.size() != 4) c.fail(fmt::format("input has rank {}", x.size()), "a 4-D tensor [batch, channels, height, width]");
  TensorType t{c.in[0]->dtype, Dims{x[0], channels, Dim(), Dim()}};
  if (x[2].known() && x[3].known()) {
    Window w = window_of(c.graph, c.node, x[2].n, x[3].n, kh, kw);
    if (x[2].n + w.pt + w.pb < w.dh * (kh - 1) + 1 || x[3].n + w.pl + w.pr < w.dw * (kw - 1) + 1)
      c.fail(fmt::format("window {}x{} does not fit the padded input {}x{}", kh, kw, x[2].n + w.pt + w.pb, x[3].n + w.pl + w.pr));
    (*t.dims)[2] = w.out_h(x[2].n);
    (*t.dims)[3] = w.out_w(x[3].n);
  }
  c.out = {t};
}

void infer_conv(InferContext& c) {
  const Dims& w = c.dims(1);
  if (w.size() != 4) c.fail(fmt::format("weights have rank {}", w.size()), "4-D weights [out, in/group, kh, kw] (2-D convolution)");
  if (!all_known(w)) c.fail("weights have unknown extents");
  const Dims& x = c.dims(0);
  std::int64_t group = c.node.attr_int("group", 1);
  if (group < 1 || w[0].n % group) c.fail(fmt::format("group = {} does not divide {} output channels", group, w[0].n));
  if (x.size() == 4 && x[1].known() && x[1].n != w[1].n * group)
    c.fail(fmt::format("input has {} channels, weights expect {} ({} per group, {} groups)", x[1].n, w[1].n * group, w[1].n, group));
  auto ks = c.node.attr_ints("kernel_shape", {w[2].n, w[3].n});
  if (ks.size() != 2 || ks[0] != w[2].n || ks[1] != w[3].n) c.fail("kernel_shape disagrees with the weights' extents");
  if (c.in.size() > 2 && c.in[2]) {
    const Dims& b = c.dims(2);
    if (b.size() != 1 || (b[0].known() && b[0].n != w[0].n)) c.fail("bias must have one element per output channel");
  }
  infer_window(c, w[2].n, w[3].n, w[0]);
}

struct ConvEval {
  template <class T>
  static void run(EvalArgs<T>& a) {
    const Array<T>&x = *a.in[0], &w = *a.in[1];
    std::int64_t N = x.shape[0], C = x.shape[1], H = x.shape[2], W = x.shape[3];
    std::int64_t O = w.shape[0], Cg = w.shape[1], group = a.node.attr_int("group", 1);
    Window win = window_of(a.graph, a.node, H, W, w.shape[2], w.shape[3]);
    std::int64_t P = win.out_h(H), Q = win.out_w(W), Og = O / group;
    Array<T> y(Shape{N, O, P, Q});
    for (std::int64_t n = 0; n < N; ++n)
      for (std::int64_t o = 0; o < O; ++o)
        for (std::int64_t p = 0; p < P; ++p)
          for (std::int64_t q = 0; q < Q; ++q) {
            T acc = a.in.size() > 2 && a.in[2] ? a.in[2]->v[o] : T(0);
            for (std::int64_t c = 0; c < Cg; ++c)
              for (std::int64_t r = 0; r < win.kh; ++r)
                for (std::int64_t s = 0; s < win.kw; ++s) {
                  std::int64_t h = p * win.sh - win.pt + r * win.dh, v = q * win.sw - win.pl + s * win.dw;
                  if (h < 0 || h >= H || v < 0 || v >= W) continue;  // padding is the real 0
                  acc += x.v[((n * C + (o / Og) * Cg + c) * H + h) * W + v] * w.v[((o * Cg + c) * win.kh + r) * win.kw + s];
                }
            y.v[((n * O + o) * P + p) * Q + q] = acc;
          }
    a.out[0] = std::move(y);
  }
};

Einsum conv_einsum(const Graph& g, const Node& n) {
  Shape x = shape_of(g, n.in(0)), w = shape_of(g, n.in(1)), y = shape_of(g, n.outputs[0]);
  Window win = window_of(g, n, x[2], x[3], w[2], w[3]);
  std::int64_t group = n.attr_int("group", 1);
  Einsum e;  // ranks: n g o p q c r s
  e.ranks = {{"n", y[0], false}, {"g", group, false}, {"o", w[0] / group, false}, {"p", y[2], false},
             {"q", y[3], false}, {"c", w[1], true},   {"r", w[2], true},          {"s", w[3], true}};
  AffineIndex oc{{{1, w[0] / group}, {2, 1}}, 0};
  e.inputs = {{"X", {{{{0, 1}}, 0}, {{{1, w[1]}, {5, 1}}, 0}, {{{3, win.sh}, {6, win.dh}}, -win.pt}, {{{4, win.sw}, {7, win.dw}}, -win.pl}}},
              {"W", {oc, {{{5, 1}}, 0}, {{{6, 1}}, 0}, {{{7, 1}}, 0}}}};
  e.output = {"Y", {{{{0, 1}}, 0}, oc, {{{3, 1}}, 0}, {{{4, 1}}, 0}}};
  return e;
}

std::pair<std::int64_t, std::int64_t> kernel_shape(const Graph& g, const Node& n) {
  auto k = n.attr_ints("kernel_shape", {});
  if (k.size() != 2) throw node_error(g, n, "kernel_shape must have two extents (2-D pooling)");
  if (k[0] < 1 || k[1] < 1) throw node_error(g, n, "kernel_shape must be positive");
  return {k[0], k[1]};
}
void infer_pool(InferContext& c) {
  auto [kh, kw] = kernel_shape(c.graph, c.node);
  const Dims& x = c.dims(0);
  infer_window(c, kh, kw, x.size() > 1 ? x[1] : Dim());
}

struct MaxPoolEval {
  template <class T>
  static void run(EvalArgs<T>& a) {
    const Array<T>& x = *a.in[0];
    auto [kh, kw] = kernel_shape(a.graph, a.node);
    std::int64_t NC = x.shape[0] * x.shape[1], H = x.shape[2], W = x.shape[3];
    Window win = window_of(a.graph, a.node, H, W, kh, kw);
    std::int64_t P = win.out_h(H), Q = win.out_w(W);
    Array<T> y(Shape{x.shape[0], x.shape[1], P, Q});
    for (std::int64_t i = 0; i < NC; ++i)
      for (std::int64_t p = 0; p < P; ++p)
        for (std::int64_t q = 0; q < Q; ++q) {
          const T* best = nullptr;
          for (std::int64_t r = 0; r < kh; ++r)
            for (std::int64_t s = 0; s < kw; ++s) {
              std::int64_t h = p * win.sh - win.pt + r * win.dh, v = q * win.sw - win.pl + s * win.dw;
              if (h < 0 || h >= H || v < 0 || v >= W) continue;  // padding never wins
              const T& e = x.v[(i * H + h) * W + v];
              if (!best || e > *best) best = &e;
            }
          if (!best) throw node_error(a.graph, a.node, "a pooling window lies entirely in the padding");
          y.v[(i * P + p) * Q + q] = *best;
        }
    a.out[0] = std::move(y);
  }
};

struct AveragePoolEval {
  template <class T>
  static void run(EvalArgs<T>& a) {
    const Array<T>& x = *a.in[0];
    auto [kh, kw] = kernel_shape(a.graph, a.node);
    std::int64_t NC = x.shape[0] * x.shape[1], H = x.shape[2], W = x.shape[3];
    Window win = window_of(a.graph, a.node, H, W, kh, kw);
    std::int64_t P = win.out_h(H), Q = win.out_w(W);
    auto counts = window_counts(a.graph, a.node, win, H, W);
    Array<T> y(Shape{x.shape[0], x.shape[1], P, Q});
    for (std::int64_t i = 0; i < NC; ++i)
      for (std::int64_t p = 0; p < P; ++p)
        for (std::int64_t q = 0; q < Q; ++q) {
          T sum(0);
          for (std::int64_t r = 0; r < kh; ++r)
            for (std::int64_t s = 0; s < kw; ++s) {
              std::int64_t h = p * win.sh - win.pt + r * win.dh, v = q * win.sw - win.pl + s * win.dw;
              if (h >= 0 && h < H && v >= 0 && v < W) sum += x.v[(i * H + h) * W + v];
            }
          y.v[(i * P + p) * Q + q] = sum / T(static_cast<long>(counts[p * Q + q]));
        }
    a.out[0] = std::move(y);
  }
};

Einsum pool_einsum(const Graph& g, const Node& n) {
  Shape x = shape_of(g, n.in(0)), y = shape_of(g, n.outputs[0]);
  std::int64_t kh = x[2], kw = x[3];
  Window win{kh, kw, 1, 1, 1, 1, 0, 0, 0, 0};
  if (n.op != "GlobalAveragePool") {
    std::tie(kh, kw) = kernel_shape(g, n);
    win = window_of(g, n, x[2], x[3], kh, kw);
  }
  Einsum e;
  e.ranks = {{"n", y[0], false}, {"c", y[1], false}, {"p", y[2], false}, {"q", y[3], false}, {"r", kh, true}, {"s", kw, true}};
  e.inputs = {{"X", {{{{0, 1}}, 0}, {{{1, 1}}, 0}, {{{2, win.sh}, {4, win.dh}}, -win.pt}, {{{3, win.sw}, {5, win.dw}}, -win.pl}}}};
  e.output = {"Y", {{{{0, 1}}, 0}, {{{1, 1}}, 0}, {{{2, 1}}, 0}, {{{3, 1}}, 0}}};
  e.map = "copy";
  e.reduce = n.op == "MaxPool" ? "max" : "add";
  return e;
}

void infer_global_pool(InferContext& c) {
  const Dims& x = c.dims(0);
  if (x.size() != 4) c.fail(fmt::format("input has rank {}", x.size()), "a 4-D tensor [batch, channels, height, width]");
  c.out = {TensorType{c.in[0]->dtype, Dims{x[0], x[1], 1, 1}}};
}
struct GlobalAveragePoolEval {
  template <class T>
  static void run(EvalArgs<T>& a) {
    const Array<T>& x = *a.in[0];
    std::int64_t NC = x.shape[0] * x.shape[1], HW = x.shape[2] * x.shape[3];
    Array<T> y(Shape{x.shape[0], x.shape[1], 1, 1});
    for (std::int64_t i = 0; i < NC; ++i) {
      T sum(0);
      for (std::int64_t j = 0; j < HW; ++j) sum += x.v[i * HW + j];
      y.v[i] = sum / T(static_cast<long>(HW));
    }
    a.out[0] = std::move(y);
  }
};

std::vector<AttrDef> window_attributes(std::vector<AttrDef> more) {
  std::vector<AttrDef> a = {{"auto_pad", AttrType::string, "NOTSET", "NOTSET, VALID, SAME_UPPER or SAME_LOWER"},
                            {"dilations", AttrType::integers, "1s", "spacing of the taps [h, w]"},
                            {"kernel_shape", AttrType::integers, "", "window [h, w]; a Conv takes it from the weights"},
                            {"pads", AttrType::integers, "0s", "[top, left, bottom, right]"},
                            {"strides", AttrType::integers, "1s", "[h, w]"}};
  a.insert(a.end(), more.begin(), more.end());
  return a;
}

}  // namespace

const OpDef kConv{
    .domain = "", .name = "Conv",
    .summary = "2-D convolution, grouped and depthwise included.",
    .doc = "Y[n,o,p,q] = B[o] + sum over c,r,s of X[n, g*C/G + c, p*sh + r*dh - pt, q*sw + s*dw - pl] * W[o,c,r,s]; outside the input X is the real 0.",
    .source = "ONNX Conv-11",
    .inputs = {{"X", "[batch, channels, height, width]"}, {"W", "[out, channels/group, kh, kw]"}, {"B", "[out]", true}},
    .outputs = {{"Y", "[batch, out, out_h, out_w]"}},
    .attributes = window_attributes({{"group", AttrType::integer, "1", "number of groups; channels = depthwise"}}),
    .closure = Closure::linear, .infer = infer_conv, .eval = both<ConvEval>(), .einsum = conv_einsum, .adjoint = adjoint_conv};

const OpDef kMaxPool{
    .domain = "", .name = "MaxPool",
    .summary = "Maximum over 2-D windows; padding never wins.",
    .doc = "Y[n,c,p,q] = max over r,s inside the input of X[n, c, p*sh + r*dh - pt, q*sw + s*dw - pl].",
    .source = "ONNX MaxPool-12 (one output)",
    .inputs = {{"X", "[batch, channels, height, width]"}}, .outputs = {{"Y", "[batch, channels, out_h, out_w]"}},
    .attributes = window_attributes({{"ceil_mode", AttrType::integer, "0", "1: the output extent is rounded up"},
                                     {"storage_order", AttrType::integer, "0", "only 0"}}),
    .closure = Closure::pool, .infer = infer_pool, .eval = both<MaxPoolEval>(), .einsum = pool_einsum, .adjoint = adjoint_maxpool};

const OpDef kAveragePool{
    .domain = "", .name = "AveragePool",
    .summary = "Mean over 2-D windows.",
    .doc = "Sum over the window divided by the number of its elements inside the input (count_include_pad = 1: inside the input or its explicit padding).",
    .source = "ONNX AveragePool-11",
    .inputs = {{"X", "[batch, channels, height, width]"}}, .outputs = {{"Y", "[batch, channels, out_h, out_w]"}},
    .attributes = window_attributes({{"ceil_mode", AttrType::integer, "0", "1: the output extent is rounded up"},
                                     {"count_include_pad", AttrType::integer, "0", "1: padding counts in the divisor"}}),
    .closure = Closure::pool, .infer = infer_pool, .eval = both<AveragePoolEval>(), .einsum = pool_einsum, .adjoint = adjoint_averagepool};

const OpDef kGlobalAveragePool{
    .domain = "", .name = "GlobalAveragePool",
    .summary = "Mean over all positions of a channel.",
    .doc = "Y[n,c,0,0] = sum over h,w of X[n,c,h,w] / (H*W).",
    .source = "ONNX GlobalAveragePool-1",
    .inputs = {{"X", "[batch, channels, height, width]"}}, .outputs = {{"Y", "[batch, channels, 1, 1]"}},
    .closure = Closure::pool, .infer = infer_global_pool, .eval = both<GlobalAveragePoolEval>(), .einsum = pool_einsum,
    .adjoint = adjoint_globalaveragepool};

}  // namespace tandem::ir
