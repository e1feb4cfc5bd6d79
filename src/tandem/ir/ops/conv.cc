// Conv, ConvTranspose and the pooling operators, over any number of spatial axes.
#include "tandem/ir/ops/expansions.h"
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/cascade.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

Dims spatial_dims(const InferContext& c) {
  const Dims& x = c.dims(0);
  if (x.size() < 3) c.fail(fmt::format("input has rank {}", x.size()), "[batch, channels, spatial axes]");
  return Dims(x.begin() + 2, x.end());
}
Shape extents(const Dims& d) {
  Shape s;
  for (const Dim& x : d) s.push_back(x.n);
  return s;
}
void infer_window(InferContext& c, const Shape& kernel, Dim channels) {
  const Dims in = spatial_dims(c);
  Dims y(c.dims(0).size());
  y[0] = c.dims(0)[0], y[1] = channels;
  if (all_known(in)) {
    const Shape s = extents(in), out = windows_of(c.graph, c.node, s, kernel).out(s);
    std::copy(out.begin(), out.end(), y.begin() + 2);
  } else if (kernel.size() != in.size()) {
    c.fail(fmt::format("a window of {} axes over an input of {}", kernel.size(), in.size()), "one extent per spatial axis");
  }
  c.out = {TensorType{c.in[0]->dtype, y}};
}
// The extents of the taps, from the weights; checked against the attribute.
Shape kernel_of_weights(const InferContext& c, std::size_t weights) {
  const Dims& w = c.dims(weights);
  if (w.size() != c.dims(0).size()) c.fail(fmt::format("weights have rank {}, the input {}", w.size(), c.dims(0).size()), "the same number of spatial axes");
  if (w.size() < 3) c.fail(fmt::format("weights have rank {}", w.size()), "two axes of channels and at least one of space");
  if (!all_known(w)) c.fail("weights have unknown extents");
  const Shape kernel = extents(Dims(w.begin() + 2, w.end()));
  if (c.node.attr_ints("kernel_shape", kernel) != kernel) c.fail("kernel_shape disagrees with the weights' extents");
  return kernel;
}
void check_bias(const InferContext& c, std::size_t i, std::int64_t channels) {
  if (!has(c, i)) return;
  const Dims& b = c.dims(i);
  if (b.size() != 1 || (b[0].known() && b[0].n != channels)) c.fail("bias must have one element per output channel");
}
void infer_conv(InferContext& c) {
  infer_convolution(c, 1);
  check_bias(c, 2, c.dims(1)[0].n);
}
struct ConvEval {
  template <class T>
  static void run(EvalArgs<T>& a) {
    const Windows w = windows_of(a.graph, a.node, spatial(a.in[0]->shape), spatial(a.in[1]->shape));
    a.out[0] = convolve(*a.in[0], *a.in[1], a.in.size() > 2 ? a.in[2] : nullptr, w);
  }
};
// Y = B first where there is a bias: the contraction goes on from it.
void start_at_bias(const Graph& g, const Node& n, Einsum& e, const AffineIndex& channel) {
  if (n.in(2) == kNone) return;
  Einsum b;
  const Shape y = shape_of(g, n.outputs[0]);
  b.ranks = {{"n", y[0], false}, e.ranks[1], e.ranks[2]};
  b.output = {"Y", {index_of(0), channel}};
  for (Rank& r : position_ranks(spatial(y), false)) {
    b.output.indices.push_back(index_of(static_cast<int>(b.ranks.size())));
    b.ranks.push_back(std::move(r));
  }
  b.inputs = {{"B", {channel}}};
  b.map = "copy", b.reduce = "none";
  e.before.push_back(std::move(b));
}
Einsum conv_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0)), w = shape_of(g, n.in(1)), y = shape_of(g, n.outputs[0]);
  const Windows win = windows_of(g, n, spatial(x), spatial(w));
  const std::int64_t group = n.attr_int("group", 1);
  const int rank = static_cast<int>(win.kernel.size());
  enum { N, G, O, P };  // then the positions, c, the taps
  const int C = P + rank, R = C + 1;
  Einsum e;
  e.ranks = {{"n", y[0], false}, {"g", group, false}, {"o", w[0] / group, false}};
  for (Rank& r : position_ranks(spatial(y), false)) e.ranks.push_back(std::move(r));
  e.ranks.push_back({"c", w[1], true});
  for (Rank& r : tap_ranks(win.kernel, true)) e.ranks.push_back(std::move(r));
  const AffineIndex oc{{{G, w[0] / group}, {O, 1}}, 0};
  Access xa{"X", {index_of(N), {{{G, w[1]}, {C, 1}}, 0}}}, wa{"W", {oc, index_of(C)}}, ya{"Y", {index_of(N), oc}};
  for (AffineIndex& i : window_indices(win, P, R)) xa.indices.push_back(std::move(i));
  for (int d = 0; d < rank; ++d) wa.indices.push_back(index_of(R + d)), ya.indices.push_back(index_of(P + d));
  e.inputs = {xa, wa};
  e.output = ya;
  start_at_bias(g, n, e, oc);
  return e;
}

// ---- one axis as two --------------------------------------------------------------------------------
ValueId reshaped(Graph& g, ValueId v, const Shape& s) {
  const ValueId shape = g.add_constant(g.unique_name("shape"), Tensor::of<std::int64_t>({static_cast<std::int64_t>(s.size())}, s));
  return g.add_node("Reshape", {v, shape}, {}, g.unique_name("view"));
}
// [n, c, l] as [n, c, 1, l]: the engines know windows of two axes.
std::vector<ValueId> as_two_axes(Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0)), y = shape_of(g, n.outputs[0]);
  if (x.size() != 3 || n.outputs.size() > 1) return {};
  const auto wide = [](const Shape& s) { return Shape{s[0], s[1], 1, s[2]}; };
  Node m = n;
  m.name.clear();
  m.inputs[0] = reshaped(g, n.in(0), wide(x));
  Shape kernel = n.attr_ints("kernel_shape", {});
  if (n.op == "Conv") {
    const Shape w = shape_of(g, n.in(1));
    kernel = spatial(w);
    m.inputs[1] = reshaped(g, n.in(1), wide(w));
  }
  const Windows w = windows_of(g, n, spatial(x), kernel);
  const auto two = [](std::int64_t first, std::int64_t second) { return std::vector<std::int64_t>{first, second}; };
  m.attrs["kernel_shape"] = two(1, kernel[0]);
  m.attrs["strides"] = two(1, w.stride[0]);
  m.attrs["dilations"] = two(1, w.dilation[0]);
  if (m.attrs.contains("pads")) {
    const Shape p = n.attr_ints("pads", {});
    m.attrs["pads"] = std::vector<std::int64_t>{0, p[0], 0, p[1]};
  }
  m.outputs = {g.add_value(g.unique_name(n.op))};
  g.values[static_cast<std::size_t>(m.outputs[0])].type = {g.values[static_cast<std::size_t>(n.outputs[0])].type.dtype, dims_of(wide(y))};
  const ValueId out = m.outputs[0];
  g.nodes.push_back(std::move(m));
  return {reshaped(g, out, y)};
}
std::vector<ValueId> global_as_two_axes(Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0)), y = shape_of(g, n.outputs[0]);
  if (x.size() == 4) return {};
  const ValueId v = reshaped(g, n.in(0), {x[0], x[1], 1, element_count(spatial(x))});
  return {reshaped(g, g.add_node(n.op, {v}, n.attrs, g.unique_name("pool")), y)};
}

// ---- transposed -------------------------------------------------------------------------------------
// The windows whose positions are the input's: position p takes part in the elements of its window in the output.
Windows transposed_windows(const Graph& g, const Node& n, const Shape& in, const Shape& kernel, Shape& out) {
  const std::size_t rank = in.size();
  const auto list = [&](std::string_view key, std::size_t size, std::int64_t fallback, std::int64_t least) {
    Shape v = n.attr_ints(key, Shape(size, fallback));
    if (v.size() != size) throw node_error(g, n, fmt::format("{} has {} entries", key, v.size())).expected(fmt::format("{}, for {} spatial axes", size, rank));
    for (auto x : v)
      if (x < least || x > 1'000'000) throw node_error(g, n, fmt::format("{} holds {}, outside [{}, 1000000]", key, x, least));
    return v;
  };
  Windows w{kernel, list("strides", rank, 1, 1), list("dilations", rank, 1, 1), Shape(rank, 0), Shape(rank, 0)};
  const Shape pads = list("pads", 2 * rank, 0, 0), extra = list("output_padding", rank, 0, 0);
  const std::string mode = n.attr_string("auto_pad", "NOTSET");
  const bool same = mode == "SAME_UPPER" || mode == "SAME_LOWER";
  if (!same && mode != "NOTSET" && mode != "VALID") throw node_error(g, n, fmt::format("auto_pad '{}' is unknown", mode)).expected("NOTSET, VALID, SAME_UPPER or SAME_LOWER");
  Shape stated = n.attr_ints("output_shape", {});
  if (stated.size() == rank + 2) stated = spatial(stated);  // some exporters write batch and channels too
  if (!stated.empty() && stated.size() != rank) throw node_error(g, n, fmt::format("output_shape has {} entries", stated.size())).expected(fmt::format("{}", rank));
  out.assign(rank, 0);
  for (std::size_t d = 0; d < rank; ++d) {
    const std::int64_t span = w.dilation[d] * (kernel[d] - 1) + 1, full = w.stride[d] * (in[d] - 1) + extra[d] + span;
    if (!stated.empty() || same) {
      out[d] = stated.empty() ? in[d] * w.stride[d] : stated[d];
      const std::int64_t total = std::max<std::int64_t>(0, full - out[d]);
      w.before[d] = mode == "SAME_UPPER" ? total / 2 : total - total / 2;
    } else {
      w.before[d] = mode == "VALID" ? 0 : pads[d];
      out[d] = full - w.before[d] - (mode == "VALID" ? 0 : pads[d + rank]);
    }
    if (out[d] < 1) throw node_error(g, n, fmt::format("axis {} of the output would have the extent {}", d, out[d])).expected("smaller pads");
    w.after[d] = w.stride[d] * (in[d] - 1) + span - out[d] - w.before[d];
  }
  return w;
}
void infer_transposed(InferContext& c) {
  const Dims in = spatial_dims(c);
  const Shape kernel = kernel_of_weights(c, 1);
  const Dims &x = c.dims(0), &w = c.dims(1);
  const std::int64_t group = c.node.attr_int("group", 1);
  if (group < 1 || w[0].n % group) c.fail(fmt::format("group = {} does not divide {} input channels", group, w[0].n));
  if (x[1].known() && x[1].n != w[0].n) c.fail(fmt::format("input has {} channels, weights expect {}", x[1].n, w[0].n));
  check_bias(c, 2, w[1].n * group);
  Dims y(x.size());
  y[0] = x[0], y[1] = w[1].n * group;
  if (all_known(in)) {
    Shape out;
    transposed_windows(c.graph, c.node, extents(in), kernel, out);
    std::copy(out.begin(), out.end(), y.begin() + 2);
  }
  c.out = {TensorType{c.in[0]->dtype, y}};
}
struct TransposedEval {
  template <class T>
  static void run(EvalArgs<T>& a) {
    const Array<T>&x = *a.in[0], &w = *a.in[1];
    const Shape in = spatial(x.shape);
    Shape out;
    const Windows win = transposed_windows(a.graph, a.node, in, spatial(w.shape), out);
    const std::vector<std::int64_t> taps = win.taps(out);
    const std::int64_t N = x.shape[0], C = x.shape[1], Og = w.shape[1], group = a.node.attr_int("group", 1), Cg = C / group;
    const std::int64_t positions = element_count(in), size = element_count(out), window = element_count(win.kernel);
    Shape ys{N, Og * group};
    ys.insert(ys.end(), out.begin(), out.end());
    Array<T> y(ys);
    for (std::int64_t n = 0; n < N; ++n)
      for (std::int64_t o = 0; o < Og * group; ++o) {
        T* to = y.v.data() + (n * Og * group + o) * size;
        std::fill(to, to + size, a.in.size() > 2 && a.in[2] ? a.in[2]->v[static_cast<std::size_t>(o)] : T(0));
        for (std::int64_t c = o / Og * Cg; c < (o / Og + 1) * Cg; ++c) {
          const T* from = x.v.data() + (n * C + c) * positions;
          const T* by = w.v.data() + (c * Og + o % Og) * window;
          for (std::int64_t p = 0; p < positions; ++p)
            for (std::int64_t k = 0; k < window; ++k)
              if (const std::int64_t at = taps[static_cast<std::size_t>(p * window + k)]; at >= 0) to[at] += from[p] * by[k];
        }
      }
    a.out[0] = std::move(y);
  }
};
Einsum transposed_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0)), w = shape_of(g, n.in(1)), y = shape_of(g, n.outputs[0]);
  Shape out;
  const Windows win = transposed_windows(g, n, spatial(x), spatial(w), out);
  const std::int64_t group = n.attr_int("group", 1);
  const int rank = static_cast<int>(win.kernel.size());
  enum { N, G, O, C, P };
  const int R = P + rank;
  Einsum e;
  e.ranks = {{"n", y[0], false}, {"g", group, false}, {"o", w[1], false}, {"c", w[0] / group, true}};
  for (Rank& r : position_ranks(spatial(x), true)) e.ranks.push_back(std::move(r));
  for (Rank& r : tap_ranks(win.kernel, true)) e.ranks.push_back(std::move(r));
  const AffineIndex ic{{{G, w[0] / group}, {C, 1}}, 0}, oc{{{G, w[1]}, {O, 1}}, 0};
  Access xa{"X", {index_of(N), ic}}, wa{"W", {ic, index_of(O)}}, ya{"Y", {index_of(N), oc}};
  for (AffineIndex& i : window_indices(win, P, R)) ya.indices.push_back(std::move(i));
  for (int d = 0; d < rank; ++d) xa.indices.push_back(index_of(P + d)), wa.indices.push_back(index_of(R + d));
  e.inputs = {xa, wa};
  e.output = ya;
  start_at_bias(g, n, e, oc);
  return e;
}

// Its gradients are a convolution and the gradient of one.
std::vector<ValueId> adjoint_transposed(Graph& g, const Node& node, std::span<const ValueId> grad) {
  const Node n = node;
  std::vector<ValueId> d(n.inputs.size(), kNone);
  if (grad.empty() || grad[0] == kNone) return d;
  Shape out;
  const Windows w = transposed_windows(g, n, spatial(shape_of(g, n.in(0))), spatial(shape_of(g, n.in(1))), out);
  Shape pads = w.before, crop(4 + 2 * out.size(), 0);  // an output that reaches further than the kernel is cropped first
  pads.insert(pads.end(), w.after.begin(), w.after.end());
  for (std::size_t d = 0; d < pads.size(); ++d) crop[d < out.size() ? d + 2 : d + 4] = std::min<std::int64_t>(pads[d], 0), pads[d] = std::max<std::int64_t>(pads[d], 0);
  ValueId dy = grad[0];
  if (std::any_of(crop.begin(), crop.end(), [](std::int64_t p) { return p < 0; }))
    dy = g.add_node("Pad", {dy, g.add_constant(g.unique_name("crop"), Tensor::of<std::int64_t>({static_cast<std::int64_t>(crop.size())}, crop))});
  const std::map<std::string, Attribute> attrs{{"pads", pads}, {"strides", w.stride}, {"dilations", w.dilation}, {"group", n.attr_int("group", 1)}};
  const std::string base = n.name.empty() ? g.values[static_cast<std::size_t>(n.outputs[0])].name : n.name;
  d[0] = g.add_node("Conv", {dy, n.inputs[1]}, attrs, base + "/dX");
  d[1] = g.add_node("ConvGradWeight", {n.inputs[0], dy, n.inputs[1]}, attrs, base + "/dW", "tandem");
  if (n.in(2) != kNone) d[2] = g.add_node("SumTo", {grad[0], n.inputs[2]}, {{"axis", std::int64_t{1}}}, base + "/dB", "tandem");
  return d;
}

// ---- pooling ----------------------------------------------------------------------------------------
Shape kernel_shape(const Graph& g, const Node& n) {
  Shape k = n.attr_ints("kernel_shape", {});
  if (k.empty()) throw node_error(g, n, "it has no kernel_shape").expected("one extent per spatial axis");
  return k;
}
void infer_pool(InferContext& c) {
  const Dims& x = c.dims(0);
  infer_window(c, kernel_shape(c.graph, c.node), x.size() > 1 ? x[1] : Dim());
}
void infer_maxpool(InferContext& c) {
  infer_pool(c);
  c.out.push_back({DType::i64, c.out[0].dims});
}
// Calls f(channel's values, the taps of one window, index of the output) for every output of a pool.
template <class T, class F>
Array<T> pooled(const Array<T>& x, const Windows& w, F f) {
  const Shape in = spatial(x.shape), out = w.out(in);
  const std::vector<std::int64_t> taps = w.taps(in);
  const std::int64_t size = element_count(in), positions = element_count(out);
  const auto window = static_cast<std::size_t>(element_count(w.kernel));
  Shape ys{x.shape[0], x.shape[1]};
  ys.insert(ys.end(), out.begin(), out.end());
  Array<T> y(ys);
  for (std::int64_t i = 0; i < x.shape[0] * x.shape[1]; ++i)
    for (std::int64_t p = 0; p < positions; ++p)
      y.v[static_cast<std::size_t>(i * positions + p)] =
          f(x.v.data() + i * size, std::span(taps.data() + static_cast<std::size_t>(p) * window, window), static_cast<std::size_t>(i * positions + p));
  return y;
}
struct MaxPoolEval {
  template <class T>
  static void run(EvalArgs<T>& a) {
    const Array<T>& x = *a.in[0];
    const Shape in = spatial(x.shape), strides = row_major_strides(in);
    const Windows w = windows_of(a.graph, a.node, in, kernel_shape(a.graph, a.node));
    const bool indices = a.node.outputs.size() > 1 && a.node.outputs[1] != kNone, columns = a.node.attr_int("storage_order", 0) != 0;
    Array<T> where;
    if (indices) {
      Shape s{x.shape[0], x.shape[1]};
      for (std::int64_t d : w.out(in)) s.push_back(d);
      where = Array<T>(s);
    }
    a.out[0] = pooled(x, w, [&](const T* from, std::span<const std::int64_t> taps, std::size_t i) {
      std::int64_t best = -1;
      for (std::int64_t at : taps)
        if (at >= 0 && (best < 0 || from[at] > from[best])) best = at;  // padding never wins
      if (best < 0) throw node_error(a.graph, a.node, "a pooling window lies entirely in the padding");
      if (indices) {
        std::int64_t at = best;
        if (columns) {  // the first spatial axis fastest
          at = 0;
          for (std::size_t d = in.size(); d-- > 0;) at = at * in[d] + best / strides[d] % in[d];
        }
        where.v[i] = T(static_cast<double>((from - x.v.data()) + at));
      }
      return from[best];
    });
    if (a.out.size() > 1) a.out[1] = std::move(where);
  }
};
struct AveragePoolEval {
  template <class T>
  static void run(EvalArgs<T>& a) {
    const Shape in = spatial(a.in[0]->shape);
    const Windows w = windows_of(a.graph, a.node, in, kernel_shape(a.graph, a.node));
    const std::vector<std::int64_t> counts = window_counts(a.graph, a.node, w, in);
    a.out[0] = pooled(*a.in[0], w, [&](const T* from, std::span<const std::int64_t> taps, std::size_t i) {
      T sum(0);
      for (std::int64_t at : taps)
        if (at >= 0) sum += from[at];
      return T(sum / T(static_cast<long>(counts[i % counts.size()])));
    });
  }
};
double p_norm(const double* from, std::span<const std::int64_t> taps, double p) {
  double sum = 0;
  for (std::int64_t at : taps)
    if (at >= 0) sum += std::pow(std::abs(from[at]), p);
  return std::pow(sum, 1 / p);
}
void lp_eval(EvalArgs<double>& e) {
  const Windows w = windows_of(e.graph, e.node, spatial(e.in[0]->shape), kernel_shape(e.graph, e.node));
  const double p = static_cast<double>(e.node.attr_int("p", 2));
  e.out[0] = pooled(*e.in[0], w, [&](const double* from, std::span<const std::int64_t> taps, std::size_t) { return p_norm(from, taps, p); });
}

// One window over everything.
Windows whole(const Shape& in) {
  const Shape one(in.size(), 1), zero(in.size(), 0);
  return {in, one, one, zero, zero};
}
Einsum pool_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0)), y = shape_of(g, n.outputs[0]), in = spatial(x);
  const Windows w = n.op.starts_with("Global") ? whole(in) : windows_of(g, n, in, kernel_shape(g, n));
  Cascade c(g, n);
  c.rank("n", y[0]), c.rank("c", y[1]);
  const std::vector<std::string> p = c.ranks(spatial(y), "pqt"), r = c.ranks(w.kernel, "rsu");
  std::vector<std::string> from{"n", "c"}, to{"n", "c"};
  for (std::size_t d = 0; d < p.size(); ++d) {
    from.push_back(fmt::format("{}*{}+{}*{}-{}", w.stride[d], p[d], w.dilation[d], r[d], w.before[d]));
    to.push_back(p[d]);
  }
  const std::string X = at("X", from), Y = at("Y", to), S = at("S", to);
  if (n.op.ends_with("MaxPool")) {
    if (n.outputs.size() > 1 && n.outputs[1] != kNone) {
      const bool columns = n.attr_int("storage_order", 0) != 0;
      std::string place = fmt::format("{}*n+{}*c", x[1] * element_count(in), element_count(in));
      std::int64_t step = 1;
      for (std::size_t k = 0; k < in.size(); ++k) {
        const std::size_t d = columns ? k : in.size() - 1 - k;
        place += fmt::format("+{}*{}+{}*{}-{}", step * w.stride[d], p[d], step * w.dilation[d], r[d], step * w.before[d]);
        step *= in[d];
      }
      c.line("{} argmax= pair({},{{{}}})", at("Indices", to), X, place);
    }
    c.line("{} max= {}", Y, X);
  } else if (n.op.ends_with("LpPool")) {
    const std::int64_t power = n.attr_int("p", 2);
    const std::vector<std::string> all = c.ranks(in, "hwd");
    std::vector<std::string> element{"n", "c"};
    element.insert(element.end(), all.begin(), all.end());
    c.line("{} = abs({})", at("A", element), at("X", element));
    c.line("{} += pow({},{})", S, at("A", from), power);
    c.line("{} = pow({},{})", Y, S, 1 / static_cast<double>(power));
  } else if (n.op == "GlobalAveragePool") {
    c.line("{} += {}", S, X);
    c.line("{} = {} / {}", Y, S, element_count(in));
  } else {
    c.line("{} += {}", S, X);
    const bool pads = n.attr_int("count_include_pad", 0) != 0;
    Shape after(in.size(), 0);  // padding that ceil_mode added never counts
    if (pads) {
      after = w.after;
      if (n.attr_string("auto_pad", "NOTSET") == "NOTSET") {
        const Shape stated = n.attr_ints("pads", Shape(2 * in.size(), 0));
        after.assign(stated.begin() + static_cast<std::ptrdiff_t>(in.size()), stated.end());
      }
    }
    std::vector<std::string> counts;
    for (std::size_t d = 0; d < p.size(); ++d) {
      const std::string i = fmt::format("{}*{}+{}*{}", w.stride[d], p[d], w.dilation[d], r[d]), back = fmt::format("-{}*{}-{}*{}", w.stride[d], p[d], w.dilation[d], r[d]);
      counts.push_back(fmt::format("N{}[{}]", d, p[d]));
      c.line("{} += 1 where {{{}+1-{}}} and {{{}+{}}}", counts.back(), i, pads ? 0 : w.before[d], in[d] + after[d] + w.before[d], back);
    }
    c.line("{} = {}", at("N", p), fmt::join(counts, " * "));
    c.line("{} = {} / {}", Y, S, at("N", p));
  }
  return c.done();
}
void infer_global_pool(InferContext& c) {
  spatial_dims(c);
  Dims y(c.dims(0).size(), Dim(1));
  y[0] = c.dims(0)[0], y[1] = c.dims(0)[1];
  c.out = {TensorType{c.in[0]->dtype, y}};
}
struct GlobalAveragePoolEval {
  template <class T>
  static void run(EvalArgs<T>& a) {
    a.out[0] = pooled(*a.in[0], whole(spatial(a.in[0]->shape)), [](const T* from, std::span<const std::int64_t> taps, std::size_t) {
      T sum(0);
      for (std::int64_t at : taps) sum += from[at];
      return T(sum / T(static_cast<long>(taps.size())));
    });
  }
};
void global_max_eval(EvalArgs<double>& e) {
  e.out[0] = pooled(*e.in[0], whole(spatial(e.in[0]->shape)), [](const double* from, std::span<const std::int64_t> taps, std::size_t) {
    return *std::max_element(from, from + taps.size());
  });
}
void global_lp_eval(EvalArgs<double>& e) {
  const double p = static_cast<double>(e.node.attr_int("p", 2));
  e.out[0] = pooled(*e.in[0], whole(spatial(e.in[0]->shape)), [&](const double* from, std::span<const std::int64_t> taps, std::size_t) { return p_norm(from, taps, p); });
}

// The extents that MaxPool had before it, where no padding of ceil_mode hides them.
Shape unpooled(const Graph& g, const Node& n, const Shape& x) {
  const Shape in = spatial(x), kernel = kernel_shape(g, n);
  const Shape stride = n.attr_ints("strides", Shape(in.size(), 1)), pads = n.attr_ints("pads", Shape(2 * in.size(), 0));
  if (kernel.size() != in.size() || stride.size() != in.size() || pads.size() != 2 * in.size()) throw node_error(g, n, "kernel_shape, strides and pads do not fit the spatial axes");
  Shape y{x[0], x[1]};
  for (std::size_t d = 0; d < in.size(); ++d) y.push_back((in[d] - 1) * stride[d] + kernel[d] - pads[d] - pads[d + in.size()]);
  for (std::int64_t e : y)
    if (e < 0) throw node_error(g, n, fmt::format("its output would have the shape {}", to_string(y)));
  return y;
}
void infer_unpool(InferContext& c) {
  const Dims& x = c.dims(0);
  spatial_dims(c);
  c.out = {unknown_extents(c.in[0]->dtype, x.size())};
  if (has(c, 2)) {
    if (!c.in_constant[2]) return;
    const Shape y = int_list(*c.in_constant[2]);
    if (y.size() != x.size()) c.fail(fmt::format("output_shape has {} entries", y.size()), fmt::format("{}", x.size()));
    c.out = {typed(c.in[0]->dtype, y)};
  } else if (all_known(x)) {
    c.out = {typed(c.in[0]->dtype, unpooled(c.graph, c.node, extents(x)))};
  }
}
void unpool_eval(EvalArgs<double>& e) {
  const Array<double>& x = *e.in[0];
  const Shape natural = unpooled(e.graph, e.node, x.shape);
  Shape ys = natural;
  if (has(e, 2)) ys = to_ints(*e.in[2]);
  for (std::size_t d = 0; d < ys.size(); ++d)
    if (ys[d] < natural[d]) throw node_error(e.graph, e.node, fmt::format("output_shape {} is smaller than {}", to_string(ys), to_string(natural)));
  Array<double> y(ys);
  const std::int64_t size = element_count(natural);
  const Shape strides = row_major_strides(natural), wide = row_major_strides(ys);
  for (std::size_t i = 0; i < x.v.size(); ++i) {
    const std::int64_t from = to_int(e.in[1]->v.at(i));
    if (from < 0 || from >= size) throw node_error(e.graph, e.node, fmt::format("index {} is outside [0, {})", from, size));
    std::int64_t at = 0;
    for (std::size_t d = 0; d < ys.size(); ++d) at += from / strides[d] % natural[d] * wide[d];
    y.v[static_cast<std::size_t>(at)] = x.v[i];
  }
  e.out[0] = std::move(y);
}

// ---- samples ----------------------------------------------------------------------------------------
using Attrs = std::map<std::string, Attribute>;
struct Drawn {
  Shape in, kernel;  // spatial extents
  Attrs attrs;
};
Drawn draw_window(Sample& s, std::size_t most_axes = 3) {
  Drawn w;
  Shape stride, dilation, pads;
  const auto rank = static_cast<std::size_t>(s.r.range(1, static_cast<std::int64_t>(most_axes)));
  for (std::size_t d = 0; d < rank; ++d) {
    w.kernel.push_back(s.r.range(1, 3));
    stride.push_back(s.r.range(1, 2));
    dilation.push_back(s.r.range(1, 2));
    w.in.push_back(dilation[d] * (w.kernel[d] - 1) + 1 + s.r.range(0, 3));
  }
  for (std::size_t d = 0; d < 2 * rank; ++d) pads.push_back(s.r.range(0, w.kernel[d % rank] - 1));
  w.attrs = {{"strides", stride}, {"dilations", dilation}};
  static const char* modes[] = {"NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"};
  const std::string mode = modes[s.r.range(0, 3)];
  if (mode == "NOTSET") w.attrs["pads"] = pads;
  else w.attrs["auto_pad"] = mode;
  return w;
}
Shape joined(std::int64_t a, std::int64_t b, const Shape& rest) {
  Shape s{a, b};
  s.insert(s.end(), rest.begin(), rest.end());
  return s;
}
void sample_conv(const OpDef& op, Sample& s) {
  Drawn w = draw_window(s);
  const std::int64_t group = s.r.range(1, 2), c = group * s.r.range(1, 2), o = group * s.r.range(1, 2);
  w.attrs["group"] = group;
  const bool transposed = op.name == "ConvTranspose";
  std::vector<ValueId> in{s.input(joined(s.r.range(1, 2), c, w.in)), s.constant(transposed ? joined(c, o / group, w.kernel) : joined(o, c / group, w.kernel), -1, 1)};
  if (s.r.chance(0.5)) in.push_back(s.constant({o}, -1, 1));
  if (transposed && w.attrs.contains("pads")) w.attrs["pads"] = Shape(2 * w.kernel.size(), 0);  // else nothing might be left of the output
  s.node(op, in, w.attrs);
}
void sample_pool(const OpDef& op, Sample& s) {
  Drawn w = draw_window(s);
  w.attrs["kernel_shape"] = w.kernel;
  w.attrs["dilations"] = Shape(w.kernel.size(), 1);  // so that every window has an element inside
  if (op.name == "LpPool") w.attrs["p"] = s.r.range(1, 3);
  else w.attrs["ceil_mode"] = s.r.range(0, 1);
  s.node(op, {s.input(joined(s.r.range(1, 2), s.r.range(1, 2), w.in))}, w.attrs, op.name == "MaxPool" ? static_cast<std::size_t>(s.r.range(1, 2)) : 1);
}
void sample_global(const OpDef& op, Sample& s) { s.node(op, {s.input(s.shape(3, 5))}); }
void sample_unpool(const OpDef& op, Sample& s) {
  const std::int64_t n = s.r.range(1, 3);
  const ValueId x = s.input({1, 1, n});
  Ints at;
  for (std::int64_t i = 0; i < n; ++i) at.push_back(2 * i + s.r.range(0, 1));
  const ValueId index = s.g.add_constant("at", Tensor::of<std::int64_t>({1, 1, n}, at));
  s.node(op, {x, index}, {{"kernel_shape", Shape{2}}, {"strides", Shape{2}}});
}

std::vector<AttrDef> window_attributes(std::vector<AttrDef> more) {
  std::vector<AttrDef> a = {{"auto_pad", AttrType::string, "NOTSET", "NOTSET, VALID, SAME_UPPER or SAME_LOWER"},
                            {"dilations", AttrType::integers, "1s", "spacing of the taps, per spatial axis"},
                            {"kernel_shape", AttrType::integers, "", "extents of the window; a convolution takes them from the weights"},
                            {"pads", AttrType::integers, "0s", "before each spatial axis, then behind each"},
                            {"strides", AttrType::integers, "1s", "per spatial axis"}};
  a.insert(a.end(), more.begin(), more.end());
  return a;
}
const AttrDef kCeil{"ceil_mode", AttrType::integer, "0", "1: the output extent is rounded up"}, kPower{"p", AttrType::integer, "2", "the exponent"};
const std::vector<PortDef> kImage{{"X", "[batch, channels, spatial axes]"}}, kPooled{{"Y", "[batch, channels, spatial axes]"}}, kOne{{"Y", "[batch, channels, 1, ...]"}};

}  // namespace

void infer_convolution(InferContext& c, std::size_t weights) {
  const Shape kernel = kernel_of_weights(c, weights);
  const Dims &x = c.dims(0), &w = c.dims(weights);
  const std::int64_t group = c.node.attr_int("group", 1);
  if (group < 1 || w[0].n % group) c.fail(fmt::format("group = {} does not divide {} output channels", group, w[0].n));
  if (x.size() > 1 && x[1].known() && x[1].n != w[1].n * group)
    c.fail(fmt::format("input has {} channels, weights expect {} ({} per group, {} groups)", x[1].n, w[1].n * group, w[1].n, group));
  infer_window(c, kernel, w[0]);
}

const OpDef kConv{
    .domain = "", .name = "Conv",
    .summary = "Convolution over one to three and more axes, grouped and depthwise included.",
    .doc = "Y[n,o,p,q] = B[o] + sum over c,r,s of X[n, g*C/G + c, p*sh + r*dh - pt, q*sw + s*dw - pl] * W[o,c,r,s] (two axes; others alike); outside the input X is the real 0. "
           "Closed over exact values for one and two axes.",
    .source = "ONNX Conv-11",
    .inputs = {{"X", "[batch, channels, spatial axes]"}, {"W", "[out, channels/group, taps]"}, {"B", "[out]", true}},
    .outputs = {{"Y", "[batch, out, spatial axes]"}},
    .attributes = window_attributes({{"group", AttrType::integer, "1", "number of groups; channels = depthwise"}}),
    .closure = Closure::linear, .infer = infer_conv, .eval = both<ConvEval>(), .einsum = conv_einsum, .adjoint = adjoint_conv, .decompose = as_two_axes, .sample = sample_conv};

const OpDef kConvTranspose{
    .domain = "", .name = "ConvTranspose",
    .summary = "Transposed convolution: every input spreads over a window of the output.",
    .doc = "Y[n,o,p*sh + r*dh - pt,...] += X[n,c,p,...] * W[c,o,r,...], starting from B[o]; extents sh*(in - 1) + output_padding + dh*(k - 1) + 1 - pads, or as output_shape says.",
    .source = "ONNX ConvTranspose-11",
    .inputs = {{"X", "[batch, channels, spatial axes]"}, {"W", "[channels, out/group, taps]"}, {"B", "[out]", true}},
    .outputs = {{"Y", "[batch, out, spatial axes]"}},
    .attributes = window_attributes({{"group", AttrType::integer, "1", "number of groups"},
                                     {"output_padding", AttrType::integers, "0s", "added behind each axis of the output"},
                                     {"output_shape", AttrType::integers, "", "spatial extents of the output; the pads follow from them"}}),
    .infer = infer_transposed, .eval = both<TransposedEval>(), .einsum = transposed_einsum, .adjoint = adjoint_transposed, .sample = sample_conv};

const OpDef kMaxPool{
    .domain = "", .name = "MaxPool",
    .summary = "Maximum over windows; padding never wins.",
    .doc = "Y[n,c,p,q] = max over r,s inside the input of X[n, c, p*sh + r*dh - pt, q*sw + s*dw - pl]; of equal ones the first. Closed over exact values for one and two axes without Indices.",
    .source = "ONNX MaxPool-12",
    .inputs = kImage, .outputs = {{"Y", "[batch, channels, spatial axes]"}, {"Indices", "i64: flat index into X of each maximum", true}},
    .attributes = window_attributes({kCeil, {"storage_order", AttrType::integer, "0", "1: Indices count the first spatial axis fastest"}}),
    .closure = Closure::pool, .infer = infer_maxpool, .eval = both<MaxPoolEval>(), .einsum = pool_einsum, .adjoint = adjoint_maxpool, .decompose = as_two_axes, .sample = sample_pool};

const OpDef kAveragePool{
    .domain = "", .name = "AveragePool",
    .summary = "Mean over windows.",
    .doc = "Sum over the window divided by the number of its elements inside the input (count_include_pad = 1: inside the input or its explicit padding). Closed over exact values for one and two axes.",
    .source = "ONNX AveragePool-19",
    .inputs = kImage, .outputs = kPooled,
    .attributes = window_attributes({kCeil, {"count_include_pad", AttrType::integer, "0", "1: padding counts in the divisor"}}),
    .closure = Closure::pool, .infer = infer_pool, .eval = both<AveragePoolEval>(), .einsum = pool_einsum, .adjoint = adjoint_averagepool, .decompose = as_two_axes, .sample = sample_pool};

const OpDef kLpPool{
    .domain = "", .name = "LpPool",
    .summary = "p-norm over windows.",
    .doc = "Y = (sum over the window of |X|^p)^(1/p); padding adds nothing.",
    .source = "ONNX LpPool-18",
    .inputs = kImage, .outputs = kPooled, .attributes = window_attributes({kCeil, kPower}),
    .infer = infer_pool, .eval = {lp_eval, nullptr}, .einsum = pool_einsum, .adjoint = adjoint_expanded, .expansion = expand_lp_pool, .sample = sample_pool};

const OpDef kGlobalAveragePool{
    .domain = "", .name = "GlobalAveragePool",
    .summary = "Mean over all positions of a channel.",
    .doc = "Y[n,c,0,0] = sum over h,w of X[n,c,h,w] / (H*W).",
    .source = "ONNX GlobalAveragePool-1",
    .inputs = kImage, .outputs = kOne,
    .closure = Closure::pool, .infer = infer_global_pool, .eval = both<GlobalAveragePoolEval>(), .einsum = pool_einsum,
    .adjoint = adjoint_globalaveragepool, .decompose = global_as_two_axes, .sample = sample_global};

const OpDef kGlobalMaxPool{
    .domain = "", .name = "GlobalMaxPool",
    .summary = "Maximum over all positions of a channel.",
    .doc = "Y[n,c,0,0] = max over h,w of X[n,c,h,w].",
    .source = "ONNX GlobalMaxPool-1",
    .inputs = kImage, .outputs = kOne, .infer = infer_global_pool, .eval = {global_max_eval, nullptr}, .einsum = pool_einsum, .adjoint = adjoint_globalmaxpool, .sample = sample_global};

const OpDef kGlobalLpPool{
    .domain = "", .name = "GlobalLpPool",
    .summary = "p-norm over all positions of a channel.",
    .doc = "Y[n,c,0,0] = (sum over h,w of |X[n,c,h,w]|^p)^(1/p).",
    .source = "ONNX GlobalLpPool-2",
    .inputs = kImage, .outputs = kOne, .attributes = {kPower}, .infer = infer_global_pool, .eval = {global_lp_eval, nullptr}, .einsum = pool_einsum, .adjoint = adjoint_globallppool, .sample = sample_global};

const OpDef kMaxUnpool{
    .domain = "", .name = "MaxUnpool",
    .summary = "Puts each value where MaxPool found it; zeros elsewhere.",
    .doc = "Y[I[i]] = X[i]; extents (in - 1)*stride + kernel - pads, or output_shape, whose first elements along each axis they then are.",
    .source = "ONNX MaxUnpool-11",
    .inputs = {{"X", "[batch, channels, spatial axes]"}, {"I", "i64: flat indices, as MaxPool gives them"}, {"output_shape", "i64 vector", true}}, .outputs = kPooled,
    .attributes = {{"kernel_shape", AttrType::integers, "required", "as in MaxPool"}, {"pads", AttrType::integers, "0s", "as in MaxPool"}, {"strides", AttrType::integers, "1s", "as in MaxPool"}},
    .infer = infer_unpool, .eval = {unpool_eval, nullptr}, .adjoint = adjoint_maxunpool, .sample = sample_unpool};

}  // namespace tandem::ir
