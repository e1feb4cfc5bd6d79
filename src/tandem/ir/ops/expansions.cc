#include "tandem/ir/ops/expansions.h"

#include <numbers>

#include "tandem/ir/ops/kit.h"
#include "tandem/ir/ops/recurrent.h"

namespace tandem::ir {
namespace {

using Attrs = std::map<std::string, Attribute>;
using Values = std::vector<ValueId>;
double number(std::int64_t i) { return static_cast<double>(i); }
std::size_t ix(std::int64_t i) { return static_cast<std::size_t>(i); }

// Appends nodes. The node is held by value: appending moves g.nodes.
struct Form {
  Graph& g;
  const Node n;
  const DType t;  // of the numbers: that of the first input
  Form(Graph& graph, const Node& node) : g(graph), n(node), t(graph.values[ix(node.inputs[0])].type.dtype) {}

  bool has(std::size_t i) const { return n.in(i) != kNone; }
  bool known(std::size_t i) const {
    const auto& d = g.values[ix(n.inputs[i])].type.dims;
    return d && all_known(*d);
  }
  bool all_shapes() const {
    for (std::size_t i = 0; i < n.inputs.size(); ++i)
      if (n.inputs[i] != kNone && !known(i)) return false;
    return true;
  }
  Shape shape(std::size_t i) const { return shape_of(g, n.inputs[i]); }
  std::optional<Ints> list(std::size_t i) const {
    const Tensor* c = has(i) ? g.constant(n.inputs[i]) : nullptr;
    return c ? std::optional(int_list(*c)) : std::nullopt;
  }

  ValueId op(const char* name, Values in, Attrs a = {}) const { return g.add_node(name, std::move(in), std::move(a)); }
  ValueId add(ValueId a, ValueId b) const { return op("Add", {a, b}); }
  ValueId sub(ValueId a, ValueId b) const { return op("Sub", {a, b}); }
  ValueId mul(ValueId a, ValueId b) const { return op("Mul", {a, b}); }
  ValueId product(ValueId a, ValueId b) const { return op("MatMul", {a, b}); }
  ValueId numbers(const Shape& s, const std::vector<double>& v) const {
    Tensor c(t, s);
    for (std::int64_t i = 0; i < c.size(); ++i) c.set(i, v[ix(i)]);
    return g.add_constant(g.unique_name("numbers"), std::move(c));
  }
  ValueId num(double v) const { return numbers({}, {v}); }
  ValueId zeros(const Shape& s) const { return numbers(s, std::vector<double>(ix(element_count(s)))); }
  ValueId ints(const Ints& v) const { return ints({static_cast<std::int64_t>(v.size())}, v); }
  ValueId ints(const Shape& s, const Ints& v) const { return g.add_constant(g.unique_name("ints"), Tensor::of<std::int64_t>(s, v)); }
  ValueId reshape(ValueId v, const Shape& s) const { return op("Reshape", {v, ints(s)}); }
  ValueId transpose(ValueId v, const Ints& perm) const { return op("Transpose", {v}, {{"perm", perm}}); }
  ValueId slice(ValueId v, std::int64_t axis, std::int64_t from, std::int64_t to) const { return op("Slice", {v, ints({from}), ints({to}), ints({axis})}); }
  ValueId gather(ValueId v, const Ints& at, std::int64_t axis) const { return op("Gather", {v, ints(at)}, {{"axis", axis}}); }
  ValueId concat(const Values& v, std::int64_t axis) const { return v.size() == 1 ? v[0] : op("Concat", v, {{"axis", axis}}); }
  ValueId cast(ValueId v, DType to) const { return op("Cast", {v}, {{"to", onnx_number(to)}}); }
  ValueId expand(ValueId v, const Shape& s) const { return op("Expand", {v, ints(s)}); }
  ValueId sum_last(ValueId v) const { return op("ReduceSum", {v, ints({-1})}, {{"keepdims", std::int64_t{0}}}); }
  // A float of the truth of a comparison.
  ValueId truth(const char* comparison, ValueId a, ValueId b) const { return cast(op(comparison, {a, b}), t); }
};

// ---- fixed linear maps ------------------------------------------------------------------------------
// [in * parts, out * 2] so that row vectors of (real, imaginary) pairs times it are their transform of n points.
std::vector<double> fourier(std::int64_t in, std::int64_t parts, std::int64_t n, std::int64_t keep, bool inverse) {
  std::vector<double> m(ix(in * parts * keep * 2));
  for (std::int64_t i = 0; i < std::min(in, n); ++i)
    for (std::int64_t k = 0; k < keep; ++k) {
      const double angle = (inverse ? 2 : -2) * std::numbers::pi * number(static_cast<std::int64_t>(static_cast<__int128>(i) * k % n)) / number(n), size = inverse ? 1 / number(n) : 1;
      const double c = size * std::cos(angle), s = size * std::sin(angle);
      double* row = m.data() + (i * parts * keep + k) * 2;
      row[0] = c, row[1] = s;
      if (parts == 2) row[keep * 2] = -s, row[keep * 2 + 1] = c;
    }
  return m;
}
constexpr std::int64_t kMostEntries = std::int64_t{1} << 24;  // of a constant that an expansion makes

}  // namespace

std::vector<ValueId> expand_affine_grid(Graph& g, const Node& node) {
  const Form f(g, node);
  const auto size = f.list(1);
  if (!f.known(0) || !size) return {};
  const std::int64_t axes = f.shape(0)[1];
  const Shape inner(size->begin() + 2, size->end());
  const bool corners = f.n.attr_int("align_corners", 0) != 0;
  const auto coordinate = [&](std::int64_t i, std::int64_t n) { return corners ? (n > 1 ? -1 + 2 * number(i) / number(n - 1) : -1) : (2 * number(i) + 1) / number(n) - 1; };
  std::vector<double> v;  // [places, axes + 1]
  Shape at(inner.size());
  if (element_count(inner)) do {
      for (std::size_t k = inner.size(); k-- > 0;) v.push_back(coordinate(at[k], inner[k]));
      v.push_back(1);
    } while (next(at, inner));
  Shape y{size->at(0)};
  y.insert(y.end(), inner.begin(), inner.end());
  y.push_back(axes);
  return {f.reshape(f.product(f.numbers({element_count(inner), axes + 1}, v), f.transpose(f.n.inputs[0], {0, 2, 1})), y)};
}

std::vector<ValueId> expand_crop_pad(Graph& g, const Node& node) {
  const Form f(g, node);
  const auto shape = f.list(1);
  if (!f.known(0) || !shape) return {};
  const Shape x = f.shape(0);
  const auto rank = static_cast<std::int64_t>(x.size());
  Ints axes = f.n.attr_ints("axes", {});
  if (!f.n.has_attr("axes"))
    for (std::int64_t i = 0; i < rank; ++i) axes.push_back(i);
  Ints pads(2 * x.size());
  ValueId y = f.n.inputs[0];
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::int64_t a = normal_axis(axes[i], rank, g, f.n), from = x[ix(a)], to = shape->at(i);
    if (to < from) y = f.slice(y, a, (from - to) / 2, (from - to) / 2 + to);
    else pads[ix(a)] = (to - from) / 2, pads[ix(rank + a)] = to - from - (to - from) / 2;
  }
  return {f.op("Pad", {y, f.ints(pads)})};
}

std::vector<ValueId> expand_col2im(Graph& g, const Node& node) {
  const Form f(g, node);
  const auto image = f.list(1), block = f.list(2);
  if (!f.known(0) || !image || !block) return {};
  const Shape x = f.shape(0), in(image->begin(), image->end()), kernel(block->begin(), block->end());
  const Windows w = windows_of(g, f.n, in, kernel);
  const std::int64_t taps = element_count(kernel), N = x[0], C = x[1] / taps, L = x[2], size = element_count(in);
  if (x[0] * x[1] * x[2] > kMostEntries) return {};
  const Ints from = w.taps(in);  // [places, taps]; padding goes to one element more, which is cut off
  Ints at;
  for (std::int64_t m = 0; m < N * C; ++m)
    for (std::int64_t k = 0; k < taps; ++k)
      for (std::int64_t p = 0; p < L; ++p) at.push_back(from[ix(p * taps + k)] < 0 ? size : from[ix(p * taps + k)]);
  const ValueId sum = f.op("ScatterElements", {f.zeros({N, C, size + 1}), f.ints({N, C, taps * L}, at), f.reshape(f.n.inputs[0], {N, C, taps * L})}, {{"axis", std::int64_t{2}}, {"reduction", std::string("add")}});
  Shape y{N, C};
  y.insert(y.end(), in.begin(), in.end());
  return {f.reshape(f.slice(sum, 2, 0, size), y)};
}

std::vector<ValueId> expand_dft(Graph& g, const Node& node) {
  const Form f(g, node);
  const auto length = f.list(1), axis_in = f.list(2);
  if (!f.known(0) || (f.has(1) && !length) || (f.has(2) && !axis_in)) return {};
  const Shape x = f.shape(0);
  const auto rank = static_cast<std::int64_t>(x.size());
  const std::int64_t axis = normal_axis(axis_in ? axis_in->at(0) : f.n.attr_int("axis", 1), rank, g, f.n), n = length ? length->at(0) : x[ix(axis)], parts = x.back();
  const std::int64_t keep = f.n.attr_int("onesided", 0) ? n / 2 + 1 : n;
  if (n < 1 || static_cast<__int128>(x[ix(axis)]) * keep * 4 > kMostEntries) return {};
  Ints perm, back(ix(rank));  // the axis in front of the parts
  for (std::int64_t d = 0; d + 1 < rank; ++d)
    if (d != axis) perm.push_back(d);
  perm.push_back(axis), perm.push_back(rank - 1);
  for (std::int64_t d = 0; d < rank; ++d) back[ix(perm[ix(d)])] = d;
  Shape rows, out;
  for (std::int64_t d = 0; d + 2 < rank; ++d) rows.push_back(x[ix(perm[ix(d)])]);
  out = rows;
  rows.push_back(x[ix(axis)] * parts);
  out.push_back(keep), out.push_back(2);
  const ValueId m = f.numbers({x[ix(axis)] * parts, keep * 2}, fourier(x[ix(axis)], parts, n, keep, f.n.attr_int("inverse", 0) != 0));
  return {f.transpose(f.reshape(f.product(f.reshape(f.transpose(f.n.inputs[0], perm), rows), m), out), back)};
}

std::vector<ValueId> expand_stft(Graph& g, const Node& node) {
  const Form f(g, node);
  const auto step = f.list(1), stated = f.list(3);
  if (!f.known(0) || !step || step->at(0) < 1 || (f.has(3) && !stated) || (!f.has(3) && (!f.has(2) || !f.known(2)))) return {};
  const Shape x = f.shape(0);
  const std::int64_t length = stated ? stated->at(0) : f.shape(2)[0], parts = x.size() == 3 ? x[2] : 1, frames = (x[1] - length) / step->at(0) + 1, keep = f.n.attr_int("onesided", 1) ? length / 2 + 1 : length;
  if (length < 1 || length > x[1] || static_cast<__int128>(length) * keep * 4 > kMostEntries || frames * length > kMostEntries) return {};
  Ints at;
  for (std::int64_t i = 0; i < frames; ++i)
    for (std::int64_t k = 0; k < length; ++k) at.push_back(i * step->at(0) + k);
  ValueId v = f.reshape(f.gather(f.reshape(f.n.inputs[0], {x[0], x[1], parts}), at, 1), {x[0], frames, length, parts});
  if (f.has(2)) v = f.mul(v, f.reshape(f.n.inputs[2], {length, 1}));
  return {f.reshape(f.product(f.reshape(v, {x[0], frames, length * parts}), f.numbers({length * parts, keep * 2}, fourier(length, parts, length, keep, false))), {x[0], frames, keep, 2})};
}

std::vector<ValueId> expand_lrn(Graph& g, const Node& node) {
  const Form f(g, node);
  if (!f.known(0)) return {};
  const Shape x = f.shape(0);
  const std::int64_t C = x[1], size = f.n.attr_int("size", 1);
  if (C > 4096) return {};
  std::vector<double> band(ix(C * C));
  for (std::int64_t k = 0; k < C; ++k)
    for (std::int64_t j = std::max<std::int64_t>(0, k - (size - 1) / 2); j <= std::min(C - 1, k + size / 2); ++j) band[ix(k * C + j)] = f.n.attr_float("alpha", 1e-4) / number(size);
  const ValueId square = f.reshape(f.mul(f.n.inputs[0], f.n.inputs[0]), {x[0], C, element_count(spatial(x))});
  const ValueId sum = f.add(f.reshape(f.product(f.numbers({C, C}, band), square), x), f.num(f.n.attr_float("bias", 1)));
  return {f.op("Div", {f.n.inputs[0], f.op("Pow", {sum, f.num(f.n.attr_float("beta", 0.75))})})};
}

std::vector<ValueId> expand_lp_pool(Graph& g, const Node& node) {
  const Form f(g, node);
  if (!f.known(0)) return {};
  const Shape x = f.shape(0), in = spatial(x);
  const Windows w = windows_of(g, f.n, in, f.n.attr_ints("kernel_shape", {}));
  Ints pads = w.before;
  pads.insert(pads.end(), w.after.begin(), w.after.end());
  const double p = number(f.n.attr_int("p", 2));
  Shape kernel{x[1], 1};
  kernel.insert(kernel.end(), w.kernel.begin(), w.kernel.end());
  const ValueId ones = f.numbers(kernel, std::vector<double>(ix(element_count(kernel)), 1));
  const ValueId size = f.op("Pow", {f.op("Abs", {f.n.inputs[0]}), f.num(p)});
  const ValueId sum = f.op("Conv", {size, ones}, {{"kernel_shape", w.kernel}, {"strides", w.stride}, {"dilations", w.dilation}, {"pads", pads}, {"group", x[1]}});
  return {f.op("Pow", {sum, f.num(1 / p)})};
}

std::vector<ValueId> expand_det(Graph& g, const Node& node) {
  const Form f(g, node);
  if (!f.known(0)) return {};
  Shape x = f.shape(0);
  const std::int64_t n = x.back();
  if (n < 1 || n > 16) return {};
  std::vector<double> unit(ix(n * n));
  for (std::int64_t i = 0; i < n; ++i) unit[ix(i * n + i)] = 1;
  const ValueId one = f.numbers({n, n}, unit);
  ValueId m = one, c = kNone;
  for (std::int64_t k = 1; k <= n; ++k) {
    const ValueId am = f.product(f.n.inputs[0], m);
    c = f.mul(f.op("ReduceSum", {f.mul(am, one), f.ints({-2, -1})}), f.num(-1 / number(k)));
    m = f.add(am, f.mul(c, one));
  }
  x.resize(x.size() - 2);
  return {f.reshape(n % 2 ? f.op("Neg", {c}) : c, x)};
}

std::vector<ValueId> expand_simplified_layer(Graph& g, const Node& node) {
  const Form f(g, node);
  if (!f.known(0)) return {};
  const Shape x = f.shape(0);
  const auto rank = static_cast<std::int64_t>(x.size());
  const std::int64_t axis = normal_axis(f.n.attr_int("axis", -1), rank, g, f.n);
  Ints axes;
  for (std::int64_t a = axis; a < rank; ++a) axes.push_back(a);
  const ValueId mean = f.op("ReduceMean", {f.mul(f.n.inputs[0], f.n.inputs[0])}, {{"axes", axes}, {"keepdims", std::int64_t{1}}});
  const ValueId inverse = f.op("Reciprocal", {f.op("Sqrt", {f.add(mean, f.num(f.n.attr_float("epsilon", 1e-5)))})});
  Values y{f.mul(f.mul(f.n.inputs[0], inverse), f.reshape(f.n.inputs[1], Shape(x.begin() + static_cast<std::ptrdiff_t>(axis), x.end())))};
  if (f.n.outputs.size() > 1) y.push_back(f.cast(inverse, DType::f32));
  return y;
}

// ---- elements at computed places --------------------------------------------------------------------
namespace {

// x is [rows..., channels, size]; `at` (whole numbers within 0..size-1) and `weight` are [rows..., places]: sum over the
// alternatives of weight * x[at], [rows..., channels, places].
ValueId picked(const Form& f, ValueId x, const Shape& rows, std::int64_t channels, std::int64_t places, ValueId at, ValueId weight) {
  Shape one = rows, all = rows;
  one.push_back(1), one.push_back(places);
  all.push_back(channels), all.push_back(places);
  const ValueId index = f.expand(f.reshape(f.cast(at, DType::i64), one), all);
  return f.mul(f.op("GatherElements", {x, index}, {{"axis", static_cast<std::int64_t>(rows.size()) + 1}}), f.reshape(weight, one));
}
// A triangle wave that is x within [lo, hi].
ValueId mirrored(const Form& f, ValueId x, double lo, double hi) {
  const double range = hi - lo;
  if (range <= 0) return f.add(f.mul(x, f.num(0)), f.num(lo));
  const ValueId from = f.sub(x, f.num(lo)), turns = f.op("Floor", {f.op("Div", {from, f.num(2 * range)})});
  const ValueId within = f.sub(from, f.mul(turns, f.num(2 * range)));  // 0 to 2 range
  return f.sub(f.num(lo + range), f.op("Abs", {f.sub(within, f.num(range))}));
}
ValueId clipped(const Form& f, ValueId x, double lo, double hi) { return f.op("Clip", {x, f.num(lo), f.num(hi)}); }
ValueId within(const Form& f, ValueId x, double lo, double hi) { return f.mul(f.truth("GreaterOrEqual", x, f.num(lo)), f.truth("LessOrEqual", x, f.num(hi))); }

struct Taken {
  ValueId at, weight;
};

}  // namespace

std::vector<ValueId> expand_grid_sample(Graph& g, const Node& node) {
  const Form f(g, node);
  if (!f.all_shapes()) return {};
  const Shape x = f.shape(0), grid = f.shape(1), in = spatial(x), strides = row_major_strides(in);
  const std::string mode = f.n.attr_string("mode", "linear"), padding = f.n.attr_string("padding_mode", "zeros");
  const bool align = f.n.attr_int("align_corners", 0) != 0, cubic = mode == "bicubic" || mode == "cubic", nearest = mode == "nearest";
  const std::int64_t N = x[0], C = x[1];
  Shape y{N, C};
  y.insert(y.end(), grid.begin() + 1, grid.end() - 1);
  const std::int64_t P = element_count(spatial(y)), axes = static_cast<std::int64_t>(in.size());
  std::vector<std::vector<Taken>> terms(in.size());
  for (std::size_t d = 0; d < in.size(); ++d) {
    const double size = number(in[d]), lo = align ? 0 : -0.5, hi = align ? size - 1 : size - 0.5;
    const ValueId place = f.add(f.reshape(f.gather(f.n.inputs[1], {axes - 1 - static_cast<std::int64_t>(d)}, -1), {N, P}), f.num(1));  // the last axis comes first
    ValueId v = align ? f.mul(f.op("Div", {place, f.num(2)}), f.num(size - 1)) : f.op("Div", {f.sub(f.mul(place, f.num(size)), f.num(1)), f.num(2)});
    if (!cubic && padding == "border") v = clipped(f, v, 0, size - 1);
    if (!cubic && padding == "reflection") v = mirrored(f, v, lo, hi);
    const auto take = [&](ValueId whole, ValueId weight) {
      if (padding == "zeros") {
        const ValueId inside = within(f, whole, 0, size - 1);
        weight = weight == kNone ? inside : f.mul(weight, inside);
      } else if (padding == "reflection") {
        whole = mirrored(f, whole, lo, hi);
      }
      if (weight == kNone) weight = f.add(f.mul(whole, f.num(0)), f.num(1));
      terms[d].push_back({clipped(f, whole, 0, size - 1), weight});
    };
    if (nearest) {
      take(f.op("Round", {v}), kNone);
      continue;
    }
    const ValueId base = f.op("Floor", {v}), part = f.sub(v, base);
    for (int k = cubic ? -1 : 0; k < (cubic ? 3 : 2); ++k) {
      const ValueId at = f.add(base, f.num(k));
      if (!cubic) {
        take(at, k ? part : f.sub(f.num(1), part));
        continue;
      }
      // The kernel's inner and outer piece, of the distance to the tap.
      const double a = -0.75;
      const ValueId s = k <= 0 ? f.add(part, f.num(-k)) : f.sub(f.num(k), part);
      const bool outer = k == -1 || k == 2;
      const std::array<double, 4> c = outer ? std::array<double, 4>{a, -5 * a, 8 * a, -4 * a} : std::array<double, 4>{a + 2, -(a + 3), 0, 1};
      ValueId w = f.num(c[0]);
      for (int i = 1; i < 4; ++i) w = f.add(f.mul(w, s), f.num(c[ix(i)]));
      take(at, w);
    }
  }
  const ValueId flat = f.reshape(f.n.inputs[0], {N, C, element_count(in)});
  std::size_t combinations = 1;
  for (const auto& t : terms) combinations *= t.size();
  ValueId sum = kNone;
  for (std::size_t k = 0; k < combinations; ++k) {
    std::size_t rest = k;
    ValueId at = kNone, weight = kNone;
    for (std::size_t d = in.size(); d-- > 0; rest /= terms[d].size()) {
      const Taken& one = terms[d][rest % terms[d].size()];
      const ValueId step = f.mul(one.at, f.num(number(strides[d])));
      at = at == kNone ? step : f.add(at, step);
      weight = weight == kNone ? one.weight : f.mul(weight, one.weight);
    }
    const ValueId v = picked(f, flat, {N}, C, P, at, weight);
    sum = sum == kNone ? v : f.add(sum, v);
  }
  return {f.reshape(sum, y)};
}

std::vector<ValueId> expand_deform_conv(Graph& g, const Node& node) {
  const Form f(g, node);
  if (!f.all_shapes()) return {};
  const Shape x = f.shape(0), w = f.shape(1), in = spatial(x);
  const Windows win = windows_of(g, f.n, in, spatial(w));
  const Shape out = win.out(in);
  const std::int64_t N = x[0], C = x[1], taps = element_count(win.kernel), P = element_count(out), G = f.n.attr_int("offset_group", 1), group = f.n.attr_int("group", 1), each = C / G;
  const ValueId offset = f.reshape(f.n.inputs[2], {N, G, taps, 2, P});
  std::vector<Taken> terms[2];
  for (std::int64_t d = 0; d < 2; ++d) {
    std::vector<double> start;
    for (std::int64_t k = 0; k < taps; ++k)
      for (std::int64_t p = 0; p < P; ++p) {
        const std::int64_t place = d ? p % out[1] : p / out[1], tap = d ? k % win.kernel[1] : k / win.kernel[1];
        start.push_back(number(place * win.stride[ix(d)] - win.before[ix(d)] + tap * win.dilation[ix(d)]));
      }
    const ValueId v = f.reshape(f.add(f.reshape(f.gather(offset, {d}, 3), {N, G, taps, P}), f.numbers({taps, P}, start)), {N, G, taps * P}), base = f.op("Floor", {v}), part = f.sub(v, base);
    for (int i = 0; i < 2; ++i) {
      const ValueId at = f.add(base, f.num(i)), top = f.num(number(in[ix(d)] - 1));
      terms[d].push_back({f.op("Clip", {at, f.num(0), top}), f.mul(i ? part : f.sub(f.num(1), part), within(f, at, 0, number(in[ix(d)] - 1)))});
    }
  }
  const ValueId flat = f.reshape(f.n.inputs[0], {N, G, each, in[0] * in[1]});
  ValueId sum = kNone;
  for (const Taken& a : terms[0])
    for (const Taken& b : terms[1]) {
      const ValueId v = picked(f, flat, {N, G}, each, taps * P, f.add(f.mul(a.at, f.num(number(in[1]))), b.at), f.mul(a.weight, b.weight));
      sum = sum == kNone ? v : f.add(sum, v);
    }
  if (f.has(4)) sum = f.mul(sum, f.reshape(f.n.inputs[4], {N, G, 1, taps * P}));
  const std::int64_t O = w[0] / group, columns = C / group * taps;
  ValueId y = f.product(f.reshape(f.n.inputs[1], {1, group, O, columns}), f.reshape(sum, {N, group, columns, P}));
  y = f.reshape(y, {N, w[0], out[0], out[1]});
  return {f.has(3) ? f.add(y, f.reshape(f.n.inputs[3], {w[0], 1, 1})) : y};
}

std::vector<ValueId> expand_roi_align(Graph& g, const Node& node) {
  const Form f(g, node);
  const std::int64_t ratio = f.n.attr_int("sampling_ratio", 0);
  const Tensor* rois = g.constant(f.n.inputs[1]);
  if (!f.all_shapes() || (ratio <= 0 && !rois)) return {};
  const Shape x = f.shape(0);
  const std::int64_t R = f.shape(1)[0], C = x[1];
  const std::array<std::int64_t, 2> in{x[2], x[3]}, bins{f.n.attr_int("output_height", 1), f.n.attr_int("output_width", 1)};
  const double scale = f.n.attr_float("spatial_scale", 1);
  const bool half = f.n.attr_string("coordinate_transformation_mode", "half_pixel") == "half_pixel", most = f.n.attr_string("mode", "avg") == "max";
  struct Axis {
    std::int64_t samples;                 // of a bin, the most of all regions
    ValueId share, inside;                // [R or 1, bins * samples]: 1 over the region's samples, 0 beyond them; 1 within the image
    std::vector<Taken> terms;
  } axis[2];
  for (std::int64_t d = 0; d < 2; ++d) {
    Axis& a = axis[d];
    const auto column = [&](std::int64_t i) { return f.sub(f.mul(f.gather(f.n.inputs[1], {i}, 1), f.num(scale)), f.num(half ? 0.5 : 0)); };
    const ValueId first = column(1 - d);
    ValueId extent = f.sub(column(3 - d), first);
    if (!half) extent = f.op("Max", {extent, f.num(1)});
    const ValueId bin = f.op("Div", {extent, f.num(number(bins[ix(d)]))});
    Ints counts(ix(R), ratio);
    for (std::int64_t r = 0; ratio <= 0 && r < R; ++r) {
      const double off = half ? 0.5 : 0, from = rois->at(4 * r + 1 - d) * scale - off, size = rois->at(4 * r + 3 - d) * scale - off - from;
      counts[ix(r)] = to_int(std::ceil((half ? size : std::max(size, 1.0)) / number(bins[ix(d)])));
      if (counts[ix(r)] < 1 || counts[ix(r)] > 256) return {};
    }
    a.samples = R ? *std::max_element(counts.begin(), counts.end()) : 1;
    std::vector<double> place, share;
    for (std::int64_t r = 0; r < R; ++r)
      for (std::int64_t p = 0; p < bins[ix(d)]; ++p)
        for (std::int64_t i = 0; i < a.samples; ++i) {
          place.push_back(number(p) + (number(std::min(i, counts[ix(r)] - 1)) + 0.5) / number(counts[ix(r)]));  // beyond the last one it stands again
          share.push_back(i < counts[ix(r)] ? 1 / number(counts[ix(r)]) : 0);
        }
    const Shape all{R, bins[ix(d)] * a.samples};
    a.share = f.numbers(all, share);
    const ValueId v = f.add(first, f.mul(f.numbers(all, place), bin)), held = clipped(f, v, 0, number(in[ix(d)] - 1));
    a.inside = within(f, v, -1, number(in[ix(d)]));
    const ValueId base = f.op("Floor", {held}), part = f.sub(held, base);
    a.terms = {{base, f.sub(f.num(1), part)}, {f.op("Min", {f.add(base, f.num(1)), f.num(number(in[ix(d)] - 1))}), part}};
  }
  const std::int64_t S = bins[0] * axis[0].samples, T = bins[1] * axis[1].samples;
  const auto both = [&](const char* how, ValueId a, ValueId b) { return f.reshape(f.op(how, {f.reshape(a, {R, S, 1}), f.reshape(b, {R, 1, T})}), {R, S * T}); };
  const ValueId flat = f.reshape(f.op("Gather", {f.n.inputs[0], f.n.inputs[2]}, {{"axis", std::int64_t{0}}}), {R, C, in[0] * in[1]});
  const ValueId inside = both("Mul", axis[0].inside, axis[1].inside);
  ValueId y = kNone;
  for (const Taken& a : axis[0].terms)
    for (const Taken& b : axis[1].terms) {
      const ValueId v = picked(f, flat, {R}, C, S * T, both("Add", f.mul(a.at, f.num(number(in[1]))), b.at), f.mul(both("Mul", a.weight, b.weight), inside));
      y = y == kNone ? v : f.op(most ? "Max" : "Add", {y, v});
    }
  if (!most) y = f.mul(y, f.reshape(both("Mul", axis[0].share, axis[1].share), {R, 1, S * T}));
  y = f.reshape(y, {R, C, bins[0], axis[0].samples, bins[1], axis[1].samples});
  return {most ? f.op("ReduceMax", {y}, {{"axes", Ints{3, 5}}, {"keepdims", std::int64_t{0}}}) : f.op("ReduceSum", {y, f.ints({3, 5})}, {{"keepdims", std::int64_t{0}}})};
}

// ---- recurrent layers -------------------------------------------------------------------------------
std::vector<ValueId> expand_recurrent(Graph& g, const Node& node) {
  const Form f(g, node);
  if (!f.all_shapes()) return {};
  const bool lstm = f.n.op == "LSTM", gru = f.n.op == "GRU", batch_first = f.n.attr_int("layout", 0) != 0, after = f.n.attr_int("linear_before_reset", 0) != 0, coupled = f.n.attr_int("input_forget", 0) != 0;
  const ValueId x = batch_first ? f.transpose(f.n.inputs[0], {1, 0, 2}) : f.n.inputs[0];
  const Shape xs = f.shape(0);
  const std::int64_t S = xs[batch_first ? 1 : 0], B = xs[batch_first ? 0 : 1], D = f.shape(1)[0], H = f.shape(2)[2], G = f.shape(1)[1];
  if (S < 1 || S > 1024) return {};
  const std::vector<Activation> acts = activations_of(f.n, D);
  const std::size_t per = acts.size() / ix(D);
  const double clip = f.n.attr_float("clip", INFINITY);
  const auto apply = [&](const Activation& a, ValueId v, bool clips) {
    if (clips && std::isfinite(clip)) v = clipped(f, v, -clip, clip);
    if (a.name == "Affine") return f.add(f.mul(v, f.num(a.alpha.value_or(1))), f.num(a.beta.value_or(0)));
    if (a.name == "ScaledTanh") return f.mul(f.op("Tanh", {f.mul(v, f.num(a.beta.value_or(1)))}), f.num(a.alpha.value_or(1)));
    Attrs attrs;
    if (a.alpha) attrs["alpha"] = *a.alpha;
    if (a.beta) attrs["beta"] = *a.beta;
    return f.op(a.name.c_str(), {v}, attrs);
  };
  const auto of = [&](std::size_t input, std::int64_t d, const Shape& s) { return f.reshape(f.slice(f.n.inputs[input], 0, d, d + 1), s); };
  Values ways, last, last_cell;
  for (std::int64_t d = 0; d < D; ++d) {
    const auto initial = [&](std::size_t input) {
      if (!f.has(input)) return f.zeros({B, H});
      return f.reshape(f.slice(f.n.inputs[input], batch_first ? 1 : 0, d, d + 1), {B, H});
    };
    ValueId h = initial(5), cell = lstm ? initial(6) : kNone;
    const ValueId wt = f.transpose(of(1, d, {G, xs[2]}), {1, 0}), rt = f.transpose(of(2, d, {G, H}), {1, 0});
    const ValueId biases = f.has(3) ? of(3, d, {2, G}) : kNone;
    const auto bias = [&](std::int64_t which) { return f.slice(biases, 0, which, which + 1); };
    ValueId in = f.product(x, wt);  // of all steps at once
    if (f.has(3)) in = f.add(in, f.reshape(bias(0), {G}));
    const auto gate = [&](ValueId v, std::int64_t k) { return f.slice(v, 1, k * H, (k + 1) * H); };
    const auto peephole = [&](std::int64_t k, ValueId v) { return f.mul(f.slice(of(7, d, {1, 3 * H}), 1, k * H, (k + 1) * H), v); };
    const auto act = [&](std::size_t which, ValueId v) { return apply(acts[ix(d) * per + which], v, true); };
    const bool backwards = f.n.attr_string("direction", "forward") == "reverse" || d == 1;
    Values steps(ix(S));
    for (std::int64_t k = 0; k < S; ++k) {
      const std::int64_t t = backwards ? S - 1 - k : k;
      const ValueId of_input = f.reshape(f.slice(in, 0, t, t + 1), {B, G});
      ValueId of_state = f.product(h, rt);
      if (f.has(3)) of_state = f.add(of_state, bias(1));
      ValueId now, cell_now = kNone;
      if (lstm) {  // gates i, o, f, c
        const ValueId sum = f.add(of_input, of_state);
        ValueId i = gate(sum, 0), o = gate(sum, 1), forget = gate(sum, 2);
        if (f.has(7)) i = f.add(i, peephole(0, cell)), forget = f.add(forget, peephole(2, cell));
        i = act(0, i);
        forget = coupled ? f.sub(f.num(1), i) : act(0, forget);
        cell_now = f.add(f.mul(forget, cell), f.mul(i, act(1, gate(sum, 3))));
        if (f.has(7)) o = f.add(o, peephole(1, cell_now));
        now = f.mul(act(0, o), apply(acts[ix(d) * per + 2], cell_now, false));
      } else if (gru) {  // gates z, r, h
        const auto first = [&](std::int64_t k2) { return act(0, f.add(gate(of_input, k2), gate(of_state, k2))); };
        const ValueId z = first(0), reset = first(1);
        ValueId c = gate(of_state, 2);
        if (after) {
          c = f.mul(reset, c);
        } else {
          c = f.product(f.mul(reset, h), f.slice(rt, 1, 2 * H, 3 * H));
          if (f.has(3)) c = f.add(c, gate(bias(1), 2));
        }
        c = act(1, f.add(gate(of_input, 2), c));
        now = f.add(f.mul(f.sub(f.num(1), z), c), f.mul(z, h));
      } else {
        now = act(0, f.add(of_input, of_state));
      }
      ValueId shown = now;
      if (f.has(4)) {  // a sequence that has ended keeps its state and shows zeros
        const ValueId on = f.reshape(f.op("Less", {f.ints({t}), f.cast(f.n.inputs[4], DType::i64)}), {B, 1});
        shown = f.op("Where", {on, now, f.zeros({B, H})});
        now = f.op("Where", {on, now, h});
        if (lstm) cell_now = f.op("Where", {on, cell_now, cell});
      }
      h = now, cell = cell_now;
      steps[ix(t)] = f.reshape(shown, {1, 1, B, H});
    }
    ways.push_back(f.concat(steps, 0));
    const Shape state = batch_first ? Shape{B, 1, H} : Shape{1, B, H};
    last.push_back(f.reshape(h, state));
    if (lstm) last_cell.push_back(f.reshape(cell, state));
  }
  ValueId y = f.concat(ways, 1);
  if (batch_first) y = f.transpose(y, {2, 0, 1, 3});
  Values out{y, f.concat(last, batch_first ? 1 : 0)};
  if (lstm) out.push_back(f.concat(last_cell, batch_first ? 1 : 0));
  out.resize(f.n.outputs.size());
  return out;
}

// ---- transformers -----------------------------------------------------------------------------------
std::vector<ValueId> expand_attention(Graph& g, const Node& node) {
  const Form f(g, node);
  if (!f.all_shapes()) return {};
  const auto heads = [&](std::size_t i, const char* attribute) {
    const Shape s = f.shape(i);
    if (s.size() == 4) return std::pair(f.n.inputs[i], s);
    const std::int64_t n = f.n.attr_int(attribute, 1), size = s[2] / n;
    return std::pair(f.transpose(f.reshape(f.n.inputs[i], {s[0], s[1], n, size}), {0, 2, 1, 3}), Shape{s[0], n, s[1], size});
  };
  auto [q, qs] = heads(0, "q_num_heads");
  auto [k, ks] = heads(1, "kv_num_heads");
  auto [v, vs] = heads(2, "kv_num_heads");
  const bool cached = f.has(4);
  const std::int64_t past = cached ? f.shape(4)[2] : 0, B = qs[0], H = qs[1], L = qs[2], size = qs[3], kv = ks[1], T = ks[2] + past, E = vs[3];
  if (cached) k = f.concat({f.n.inputs[4], k}, 2), v = f.concat({f.n.inputs[5], v}, 2);
  const double scale = f.n.attr_float("scale", 1 / std::sqrt(number(size))), cap = f.n.attr_float("softcap", 0);
  const std::int64_t mode = f.n.attr_int("qk_matmul_output_mode", 0);
  // Heads that share keys are rows of one product.
  ValueId s = f.reshape(f.product(f.reshape(q, {B, kv, H / kv * L, size}), f.transpose(k, {0, 1, 3, 2})), {B, H, L, T});
  s = f.mul(s, f.num(scale));
  ValueId shown = s;
  if (cap > 0) s = f.mul(f.op("Tanh", {f.op("Div", {s, f.num(cap)})}), f.num(cap));
  if (mode == 1) shown = s;
  const ValueId never = f.num(-INFINITY);
  const auto forbid = [&](ValueId allowed) { s = f.op("Where", {allowed, s, never}); };
  if (f.has(3)) {
    const Shape m = f.shape(3);
    const bool is_truth = g.values[ix(f.n.inputs[3])].type.dtype == DType::boolean;
    ValueId mask = f.n.inputs[3];
    if (is_truth) mask = f.op("Where", {mask, f.num(0), never});
    if (!m.empty() && m.back() < T && !(m.back() == 1 && T == 1)) {  // what it does not reach is forbidden
      Ints pads(2 * m.size());
      pads.back() = T - m.back();
      mask = f.op("Pad", {mask, f.ints(pads), never});
    }
    s = f.add(s, mask);
  }
  Ints keys, limit;
  for (std::int64_t j = 0; j < T; ++j) keys.push_back(j);
  for (std::int64_t i = 0; i < L; ++i) limit.push_back(i);
  const ValueId key = f.ints({T}, keys);
  const ValueId length = f.has(6) ? f.reshape(f.cast(f.n.inputs[6], DType::i64), {B, 1, 1, 1}) : kNone;
  if (length != kNone) forbid(f.op("Less", {key, length}));
  if (f.n.attr_int("is_causal", 0)) {
    ValueId last = f.ints({L, 1}, limit);
    if (length != kNone && !cached) last = f.add(last, f.sub(length, f.ints({L})));
    else last = f.add(last, f.ints({past}));
    forbid(f.op("LessOrEqual", {key, last}));
  }
  if (mode == 2) shown = s;
  const ValueId w = f.op("Softmax", {s}, {{"axis", std::int64_t{-1}}});
  if (mode == 3) shown = w;
  ValueId y = f.reshape(f.product(f.reshape(w, {B, kv, H / kv * L, T}), v), {B, H, L, E});
  if (f.shape(0).size() == 3) y = f.reshape(f.transpose(y, {0, 2, 1, 3}), {B, L, H * E});
  Values out{y, k, v, shown};
  out.resize(f.n.outputs.size());
  return out;
}

std::vector<ValueId> expand_rotary(Graph& g, const Node& node) {
  const Form f(g, node);
  if (!f.all_shapes()) return {};
  const bool onnx = f.n.domain.empty(), interleaved = f.n.attr_int("interleaved", 0) != 0;
  const std::size_t at_cos = onnx ? 1 : 2, at_positions = onnx ? 3 : 1;
  const Shape x = f.shape(0), table = f.shape(at_cos);
  const bool joined = x.size() == 3;
  std::int64_t heads = f.n.attr_int("num_heads", 0);
  if (joined && heads == 0) heads = x[2] / (2 * table.back());
  const Shape s = joined ? Shape{x[0], heads, x[1], x[2] / heads} : x;
  const std::int64_t B = s[0], L = s[2], size = s[3], rotated = f.n.attr_int("rotary_embedding_dim", 0) ? f.n.attr_int("rotary_embedding_dim", 0) : size, half = rotated / 2;
  ValueId v = joined ? f.transpose(f.reshape(f.n.inputs[0], {B, L, heads, size}), {0, 2, 1, 3}) : f.n.inputs[0], rows = kNone;
  if (f.has(at_positions)) {
    rows = f.cast(f.n.inputs[at_positions], DType::i64);
    if (element_count(f.shape(at_positions)) == 1 && B * L != 1) {  // the first one's: the others follow it
      Ints each;
      for (std::int64_t l = 0; l < L; ++l) each.push_back(l);
      rows = f.expand(f.add(f.reshape(rows, {1, 1}), f.ints({1, L}, each)), {B, L});
    }
    rows = f.reshape(rows, {B, L});
  }
  const auto factor = [&](std::size_t i) { return f.reshape(rows == kNone ? f.n.inputs[i] : f.op("Gather", {f.n.inputs[i], rows}, {{"axis", std::int64_t{0}}}), {B, 1, L, half}); };
  const ValueId c = factor(at_cos), n = factor(at_cos + 1);
  Ints even, odd;
  for (std::int64_t k = 0; k < half; ++k) even.push_back(interleaved ? 2 * k : k), odd.push_back(interleaved ? 2 * k + 1 : half + k);
  const ValueId a = f.gather(v, even, 3), b = f.gather(v, odd, 3), real = f.sub(f.mul(c, a), f.mul(n, b)), imaginary = f.add(f.mul(n, a), f.mul(c, b));
  ValueId turned;
  if (interleaved) turned = f.reshape(f.concat({f.reshape(real, {B, s[1], L, half, 1}), f.reshape(imaginary, {B, s[1], L, half, 1})}, 4), {B, s[1], L, rotated});
  else turned = f.concat({real, imaginary}, 3);
  if (rotated < size) turned = f.concat({turned, f.slice(v, 3, rotated, size)}, 3);
  return {joined ? f.reshape(f.transpose(turned, {0, 2, 1, 3}), x) : turned};
}

std::vector<ValueId> expand_cache(Graph& g, const Node& node) {
  const Form f(g, node);
  if (!f.all_shapes()) return {};
  const Shape x = f.shape(0), u = f.shape(1);
  const std::int64_t axis = normal_axis(f.n.attr_int("axis", -2), static_cast<std::int64_t>(x.size()), g, f.n);
  if (element_count(u) > kMostEntries) return {};
  Shape along(x.size(), 1), batch(x.size(), 1);
  along[ix(axis)] = u[ix(axis)], batch[0] = x[0];
  Ints each;
  for (std::int64_t k = 0; k < u[ix(axis)]; ++k) each.push_back(k);
  ValueId at = f.ints(along, each);
  if (f.has(2)) at = f.add(at, f.reshape(f.cast(f.n.inputs[2], DType::i64), batch));
  if (f.n.attr_string("mode", "linear") == "circular") at = f.op("Mod", {at, f.ints({x[ix(axis)]})});
  return {f.op("ScatterElements", {f.n.inputs[0], f.expand(at, u), f.n.inputs[1]}, {{"axis", axis}})};
}

}  // namespace tandem::ir
