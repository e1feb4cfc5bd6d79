// Operators that move elements by indices, cut and join, and those that make tensors from shapes.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/cascade.h"
#include "tandem/ir/ops/kit.h"
#include "tandem/ir/ops/sources.h"

namespace tandem::ir {
namespace {

using Args = EvalArgs<double>;
using Attrs = std::map<std::string, Attribute>;

template <class E>
std::size_t axis_attr(const E& e, std::int64_t fallback, std::size_t rank) {
  return static_cast<std::size_t>(axis_of(e, e.node.attr_int("axis", fallback), rank));
}
Shape out_shape(const Args& e, std::size_t i = 0) { return shape_of(e.graph, e.node.outputs[i]); }

// Y[p] = X[source(p)], the position `source` fills in; false: `fill`.
template <class F>
Array<double> pick(const Array<double>& x, const Shape& s, F source, double fill = 0) {
  Array<double> y(s);
  if (y.v.empty()) return y;
  Shape at(s.size(), 0), from(x.shape.size());
  std::size_t i = 0;
  do y.v[i++] = source(at, from) ? x.v[static_cast<std::size_t>(flat(from, x.shape))] : fill;
  while (next(at, s));
  return y;
}

// ---- Slice -----------------------------------------------------------------------------------
struct Cut {
  std::int64_t start, step, n;
};
std::vector<Cut> cuts(const Graph& g, const Node& n, const Shape& x, const Ints& starts, const Ints& ends, std::optional<Ints> axes, std::optional<Ints> steps) {
  std::vector<Cut> c;
  for (std::int64_t d : x) c.push_back({0, 1, d});
  if (!axes) axes = Ints(starts.size()), std::iota(axes->begin(), axes->end(), 0);
  if (!steps) steps = Ints(starts.size(), 1);
  if (ends.size() != starts.size() || axes->size() != starts.size() || steps->size() != starts.size())
    throw node_error(g, n, fmt::format("{} starts, {} ends, {} axes and {} steps", starts.size(), ends.size(), axes->size(), steps->size())).expected("as many of each");
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const auto a = static_cast<std::size_t>(normal_axis((*axes)[i], static_cast<std::int64_t>(x.size()), g, n));
    const std::int64_t d = x[a], step = std::clamp<std::int64_t>((*steps)[i], -(std::int64_t{1} << 40), std::int64_t{1} << 40);
    if (step == 0) throw node_error(g, n, "a step of 0");
    const auto place = [&](std::int64_t p, std::int64_t lo, std::int64_t hi) { return std::clamp(p < 0 ? p + d : p, lo, hi); };
    const std::int64_t start = step > 0 ? place(starts[i], 0, d) : place(starts[i], -1, d - 1);
    const std::int64_t end = step > 0 ? place(ends[i], 0, d) : (ends[i] < -d ? -1 : place(ends[i], -1, d - 1));
    const std::int64_t span = step > 0 ? end - start : start - end, by = std::abs(step);
    c[a] = {start, step, span <= 0 ? 0 : (span + by - 1) / by};
  }
  return c;
}
void infer_slice(InferContext& c) {
  const Dims& x = c.dims(0);
  for (std::size_t i = 1; i < c.in.size(); ++i)
    if (c.in[i] && !c.in_constant[i]) {
      c.out = {unknown_extents(c.in[0]->dtype, x.size())};
      return;
    }
  const auto list = [&](std::size_t i) { return has(c, i) ? std::optional<Ints>(int_list(*c.in_constant[i])) : std::nullopt; };
  // An unknown extent that no axis touches stays; a touched one is unknown.
  const auto sliced = cuts(c.graph, c.node, [&] { Shape s; for (const Dim& d : x) s.push_back(d.known() ? d.n : 1 << 20); return s; }(), *list(1), *list(2), list(3), list(4));
  Dims y;
  for (std::size_t i = 0; i < x.size(); ++i)
    y.push_back(x[i].known() ? Dim(sliced[i].n) : sliced[i].start == 0 && sliced[i].step == 1 && sliced[i].n == 1 << 20 ? x[i] : Dim());
  c.out = {TensorType{c.in[0]->dtype, y}};
}
void slice_eval(Args& e) {
  const auto list = [&](std::size_t i) { return has(e, i) ? std::optional<Ints>(to_ints(*e.in[i])) : std::nullopt; };
  const auto c = cuts(e.graph, e.node, e.in[0]->shape, *list(1), *list(2), list(3), list(4));
  Shape s;
  for (const Cut& k : c) s.push_back(k.n);
  e.out[0] = pick(*e.in[0], s, [&](const Shape& at, Shape& from) {
    for (std::size_t d = 0; d < at.size(); ++d) from[d] = c[d].start + at[d] * c[d].step;
    return true;
  });
}
void sample_slice(const OpDef& op, Sample& s) {
  const Shape x = s.shape();
  Ints starts, ends, axes, steps;
  for (std::size_t i = 0; i < x.size(); ++i)
    if (s.r.chance(0.7)) {
      axes.push_back(static_cast<std::int64_t>(i));
      steps.push_back(s.r.chance(0.5) ? 1 : s.r.chance(0.5) ? -1 : 2);
      starts.push_back(s.r.range(-x[i] - 1, x[i]));
      ends.push_back(s.r.chance(0.3) ? (steps.back() < 0 ? INT64_MIN : INT64_MAX) : s.r.range(-x[i] - 1, x[i] + 1));
    }
  const ValueId v = s.input(x);
  s.node(op, {v, s.ints(starts), s.ints(ends), s.ints(axes), s.ints(steps)});
}

// ---- Split -----------------------------------------------------------------------------------
void infer_split(InferContext& c) {
  const Dims& x = c.dims(0);
  const std::size_t a = axis_attr(c, 0, x.size()), parts = c.node.outputs.size();
  std::optional<Ints> sizes;
  if (has(c, 1)) {
    if (c.in_constant[1]) sizes = int_list(*c.in_constant[1]);
  } else if (x[a].known()) {
    const std::int64_t each = (x[a].n + static_cast<std::int64_t>(parts) - 1) / static_cast<std::int64_t>(parts);
    sizes = Ints(parts, each);
    sizes->back() = x[a].n - each * static_cast<std::int64_t>(parts - 1);
    if (sizes->back() < 0 || (x[a].n % static_cast<std::int64_t>(parts) && !c.node.has_attr("num_outputs"))) c.fail(fmt::format("an extent of {} is not split into {} equal parts", x[a].n, parts));
  }
  if (sizes && sizes->size() != parts) c.fail(fmt::format("{} sizes for {} outputs", sizes->size(), parts));
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < parts; ++i) {
    Dims y = x;
    y[a] = sizes ? Dim((*sizes)[i]) : Dim();
    if (sizes && (*sizes)[i] < 0) c.fail(fmt::format("a part of {}", (*sizes)[i]));
    if (sizes) sum += (*sizes)[i];
    c.out.push_back({c.in[0]->dtype, y});
  }
  if (sizes && x[a].known() && sum != x[a].n) c.fail(fmt::format("parts of {} in all for an extent of {}", sum, x[a].n));
}
void split_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  const std::size_t a = axis_attr(e, 0, x.shape.size());
  std::int64_t at = 0;
  for (std::size_t i = 0; i < e.out.size(); ++i) {
    const Shape s = out_shape(e, i);
    e.out[i] = pick(x, s, [&](const Shape& p, Shape& from) {
      from = p;
      from[a] += at;
      return true;
    });
    at += s[a];
  }
}
void sample_split(const OpDef& op, Sample& s) {
  Shape x = s.shape();
  const std::int64_t axis = s.axis(x.size()), parts = s.r.range(1, 3), each = s.r.range(1, 3);
  std::int64_t& d = x[static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(x.size()) : axis)];
  Ints sizes(static_cast<std::size_t>(parts), each);
  const bool given = s.r.chance(0.5);
  if (given)
    for (auto& v : sizes) v = s.r.range(1, 3);
  d = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
  std::vector<ValueId> in{s.input(x)};
  if (given) in.push_back(s.ints(sizes));
  s.node(op, in, {{"axis", axis}}, static_cast<std::size_t>(parts));
}

// ---- Pad, Tile, Expand -------------------------------------------------------------------------
// [begin, end] per axis.
std::vector<std::pair<std::int64_t, std::int64_t>> pads_of(const Graph& g, const Node& n, std::size_t rank, const Ints& pads, const std::optional<Ints>& axes) {
  std::vector<std::pair<std::int64_t, std::int64_t>> p(rank, {0, 0});
  Ints a(rank);
  std::iota(a.begin(), a.end(), 0);
  if (axes) a = *axes;
  if (pads.size() != 2 * a.size()) throw node_error(g, n, fmt::format("pads has {} entries for {} axes", pads.size(), a.size())).expected("a begin and an end for each");
  for (std::size_t i = 0; i < a.size(); ++i) p[static_cast<std::size_t>(normal_axis(a[i], static_cast<std::int64_t>(rank), g, n))] = {pads[i], pads[a.size() + i]};
  return p;
}
void infer_pad(InferContext& c) {
  const Dims& x = c.dims(0);
  if (!c.in_constant[1] || (has(c, 3) && !c.in_constant[3])) {
    c.out = {unknown_extents(c.in[0]->dtype, x.size())};
    return;
  }
  const auto p = pads_of(c.graph, c.node, x.size(), int_list(*c.in_constant[1]), has(c, 3) ? std::optional<Ints>(int_list(*c.in_constant[3])) : std::nullopt);
  Dims y;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (std::abs(p[i].first) > 1 << 30 || std::abs(p[i].second) > 1 << 30) c.fail("a padding of more than 2^30");
    y.push_back(x[i].known() ? Dim(x[i].n + p[i].first + p[i].second) : p[i].first + p[i].second == 0 ? x[i] : Dim());
    if (x[i].known() && y[i].n < 0) c.fail(fmt::format("axis {} would have an extent of {}", i, x[i].n + p[i].first + p[i].second));
  }
  c.out = {TensorType{c.in[0]->dtype, y}};
}
void pad_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  const auto p = pads_of(e.graph, e.node, x.shape.size(), to_ints(*e.in[1]), has(e, 3) ? std::optional<Ints>(to_ints(*e.in[3])) : std::nullopt);
  const std::string mode = e.node.attr_string("mode", "constant");
  if (mode != "constant" && mode != "edge" && mode != "reflect" && mode != "wrap") throw node_error(e.graph, e.node, fmt::format("mode '{}'", mode)).expected("constant, edge, reflect or wrap");
  Shape s = x.shape;
  for (std::size_t i = 0; i < s.size(); ++i) {
    s[i] += p[i].first + p[i].second;
    if (mode != "constant" && x.shape[i] == 0 && s[i] > 0) throw node_error(e.graph, e.node, "nothing to repeat: an extent of 0");
  }
  e.out[0] = pick(x, s, [&](const Shape& at, Shape& from) {
    for (std::size_t d = 0; d < at.size(); ++d) {
      const std::int64_t n = x.shape[d];
      std::int64_t i = at[d] - p[d].first;
      if (mode == "constant") {
        if (i < 0 || i >= n) return false;
      } else if (mode == "edge") {
        i = std::clamp<std::int64_t>(i, 0, n - 1);
      } else if (mode == "wrap") {
        i = ((i % n) + n) % n;
      } else {  // reflected about the ends, which are not repeated
        const std::int64_t period = std::max<std::int64_t>(1, 2 * (n - 1));
        i = ((i % period) + period) % period;
        if (i >= n) i = period - i;
      }
      from[d] = i;
    }
    return true;
  }, has(e, 2) && !e.in[2]->v.empty() ? e.in[2]->v[0] : 0);
}
void sample_pad(const OpDef& op, Sample& s) {
  static const char* modes[] = {"constant", "edge", "reflect", "wrap"};
  const Shape x = s.shape();
  Ints pads(2 * x.size());
  for (auto& v : pads) v = s.r.range(0, 3);
  const ValueId v = s.input(x);
  s.node(op, {v, s.ints(pads), s.scalar(0.5)}, {{"mode", std::string(modes[s.r.range(0, 3)])}});
}

void infer_tile(InferContext& c) {
  const Dims& x = c.dims(0);
  Dims y(x.size());
  if (c.in_constant[1]) {
    const Ints by = int_list(*c.in_constant[1]);
    if (by.size() != x.size()) c.fail(fmt::format("{} repeats for rank {}", by.size(), x.size()));
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (by[i] < 0 || by[i] > 1 << 30) c.fail(fmt::format("{} repeats", by[i]));
      y[i] = x[i].known() ? Dim(x[i].n * by[i]) : by[i] == 1 ? x[i] : Dim();
    }
  }
  c.out = {TensorType{c.in[0]->dtype, y}};
}
void tile_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  e.out[0] = pick(x, out_shape(e), [&](const Shape& at, Shape& from) {
    for (std::size_t d = 0; d < at.size(); ++d) from[d] = at[d] % x.shape[d];
    return true;
  });
}
void sample_tile(const OpDef& op, Sample& s) {
  const Shape x = s.shape();
  Ints by(x.size());
  for (auto& v : by) v = s.r.range(1, 3);
  const ValueId v = s.input(x);
  s.node(op, {v, s.ints(by)});
}
void infer_expand(InferContext& c) {
  if (!c.in_constant[1]) {
    c.out = {unknown_rank(c.in[0]->dtype)};
    return;
  }
  Dims want;
  for (std::int64_t d : int_list(*c.in_constant[1])) {
    if (d < 0) c.fail(fmt::format("an extent of {}", d));
    want.push_back(d);
  }
  c.out = {TensorType{c.in[0]->dtype, broadcast_dims(c, c.dims(0), want)}};
}
void expand_eval(Args& e) {
  Array<double> y(out_shape(e));
  const Broadcaster from(e.in[0]->shape, y.shape);
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(y.v.size()); ++i) y.v[i] = e.in[0]->v[from(i)];
  e.out[0] = std::move(y);
}
void sample_expand(const OpDef& op, Sample& s) {
  const Shape y = s.shape();
  Shape x = y;
  for (auto& d : x)
    if (s.r.chance(0.5)) d = 1;
  if (s.r.chance(0.3)) x.erase(x.begin());
  const ValueId v = s.input(x);
  s.node(op, {v, s.ints(y)});
}

// ---- DepthToSpace, SpaceToDepth, ReverseSequence, Trilu -----------------------------------------
std::int64_t block_of(const Graph& g, const Node& n) {
  const std::int64_t b = n.attr_int("blocksize", 0);
  if (b < 1 || b > 1 << 15) throw node_error(g, n, fmt::format("a blocksize of {}", b));
  return b;
}
void infer_blocks(InferContext& c) {
  const Dims& x = c.dims(0);
  if (x.size() != 4) c.fail(fmt::format("input has rank {}", x.size()), "[batch, channels, height, width]");
  const std::int64_t b = block_of(c.graph, c.node);
  const bool deep = c.node.op == "SpaceToDepth";
  const auto times = [](const Dim& d, std::int64_t by) { return d.known() ? Dim(d.n * by) : Dim(); };
  const auto over = [&](const Dim& d, std::int64_t by) {
    if (d.known() && d.n % by) c.fail(fmt::format("an extent of {} is no multiple of {}", d.n, by));
    return d.known() ? Dim(d.n / by) : Dim();
  };
  c.out = {TensorType{c.in[0]->dtype, deep ? Dims{x[0], times(x[1], b * b), over(x[2], b), over(x[3], b)} : Dims{x[0], over(x[1], b * b), times(x[2], b), times(x[3], b)}}};
}
void blocks_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  const std::int64_t b = block_of(e.graph, e.node);
  const Shape s = out_shape(e);
  const std::string mode = e.node.attr_string("mode", "DCR");
  if (mode != "DCR" && mode != "CRD") throw node_error(e.graph, e.node, fmt::format("mode '{}'", mode)).expected("DCR or CRD");
  const bool deep = e.node.op == "SpaceToDepth";
  e.out[0] = pick(x, s, [&](const Shape& at, Shape& from) {
    if (deep) {
      const std::int64_t c = at[1] % x.shape[1], k = at[1] / x.shape[1];
      from = {at[0], c, at[2] * b + k / b, at[3] * b + k % b};
    } else {
      const std::int64_t k = at[2] % b * b + at[3] % b;
      from = {at[0], mode == "DCR" ? k * s[1] + at[1] : at[1] * b * b + k, at[2] / b, at[3] / b};
    }
    return true;
  });
}
void sample_blocks(const OpDef& op, Sample& s) {
  const std::int64_t b = s.r.range(1, 3);
  const bool deep = op.name == "SpaceToDepth";
  Shape x{s.r.range(1, 2), s.r.range(1, 3) * (deep ? 1 : b * b), s.r.range(1, 3) * (deep ? b : 1), s.r.range(1, 3) * (deep ? b : 1)};
  Attrs a{{"blocksize", b}};
  if (!deep) a["mode"] = std::string(s.r.chance(0.5) ? "DCR" : "CRD");
  s.node(op, {s.input(x)}, a);
}
void reverse_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  const auto time = static_cast<std::size_t>(axis_of(e, e.node.attr_int("time_axis", 0), x.shape.size())),
             batch = static_cast<std::size_t>(axis_of(e, e.node.attr_int("batch_axis", 1), x.shape.size()));
  if (static_cast<std::int64_t>(e.in[1]->v.size()) != x.shape[batch]) throw node_error(e.graph, e.node, fmt::format("{} lengths for a batch of {}", e.in[1]->v.size(), x.shape[batch]));
  for (double l : e.in[1]->v)
    if (l < 0 || l > static_cast<double>(x.shape[time])) throw node_error(e.graph, e.node, fmt::format("a length of {} of {}", l, x.shape[time]));
  e.out[0] = pick(x, x.shape, [&](const Shape& at, Shape& from) {
    from = at;
    const std::int64_t l = to_int(e.in[1]->v[static_cast<std::size_t>(at[batch])]);
    if (at[time] < l) from[time] = l - 1 - at[time];
    return true;
  });
}
void sample_reverse(const OpDef& op, Sample& s) {
  const Shape x = s.shape(2, 4);
  const bool swap = s.r.chance(0.5);
  Ints l(static_cast<std::size_t>(x[swap ? 0 : 1]));
  for (auto& v : l) v = s.r.range(0, x[swap ? 1 : 0]);
  const ValueId v = s.input(x);
  s.node(op, {v, s.ints(l)}, {{"time_axis", std::int64_t{swap}}, {"batch_axis", std::int64_t{!swap}}});
}
void infer_matrices(InferContext& c) {
  if (c.dims(0).size() < 2) c.fail("input needs two axes");
  infer_first(c);
}
void trilu_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  const bool upper = e.node.attr_int("upper", 1) != 0;
  const std::int64_t k = has(e, 1) ? std::clamp<std::int64_t>(to_int(e.in[1]->v.at(0)), -(1LL << 40), 1LL << 40) : 0;
  e.out[0] = pick(x, x.shape, [&](const Shape& at, Shape& from) {
    from = at;
    const std::int64_t i = at[at.size() - 2], j = at[at.size() - 1];
    return upper ? j - i >= k : j - i <= k;
  });
}
void sample_trilu(const OpDef& op, Sample& s) {
  const ValueId v = s.input(s.shape(2, 4));
  s.node(op, {v, s.scalar(static_cast<double>(s.r.range(-2, 2)), DType::i64)}, {{"upper", s.r.range(0, 1)}});
}

// ---- Gather and Scatter --------------------------------------------------------------------------
std::int64_t index_in(const Args& e, double v, std::int64_t n) {
  const std::int64_t i = to_int(v) < 0 ? to_int(v) + n : to_int(v);
  if (i < 0 || i >= n) throw node_error(e.graph, e.node, fmt::format("index {} is outside [-{}, {})", v, n, n));
  return i;
}
void infer_gather_elements(InferContext& c) {
  axis_attr(c, 0, c.dims(0).size());
  if (c.dims(1).size() != c.dims(0).size()) c.fail(fmt::format("indices of rank {} for data of rank {}", c.dims(1).size(), c.dims(0).size()));
  c.out = {TensorType{c.in[0]->dtype, c.dims(1)}};
}
void gather_elements_eval(Args& e) {
  const Array<double>&x = *e.in[0], &index = *e.in[1];
  const std::size_t a = axis_attr(e, 0, x.shape.size());
  for (std::size_t d = 0; d < x.shape.size(); ++d)
    if (d != a && index.shape[d] > x.shape[d]) throw node_error(e.graph, e.node, fmt::format("indices {} reach outside of the data {}", to_string(index.shape), to_string(x.shape)));
  e.out[0] = pick(x, index.shape, [&](const Shape& at, Shape& from) {
    from = at;
    from[a] = index_in(e, index.v[static_cast<std::size_t>(flat(at, index.shape))], x.shape[a]);
    return true;
  });
}
void infer_gather_nd(InferContext& c) {
  const Dims &x = c.dims(0), &i = c.dims(1);
  const std::int64_t b = c.node.attr_int("batch_dims", 0);
  if (i.empty() || x.empty()) c.fail("data and indices need an axis");
  if (!i.back().known()) {
    c.out = {unknown_rank(c.in[0]->dtype)};
    return;
  }
  if (b < 0 || b >= static_cast<std::int64_t>(std::min(x.size(), i.size())) || i.back().n < 1 || i.back().n + b > static_cast<std::int64_t>(x.size()))
    c.fail(fmt::format("indices of {} axes behind {} batch axes for data of rank {}", i.back().n, b, x.size()));
  Dims y(i.begin(), i.end() - 1);
  y.insert(y.end(), x.begin() + b + i.back().n, x.end());
  c.out = {TensorType{c.in[0]->dtype, y}};
}
void gather_nd_eval(Args& e) {
  const Array<double>&x = *e.in[0], &index = *e.in[1];
  const auto b = static_cast<std::size_t>(e.node.attr_int("batch_dims", 0));
  const auto n = static_cast<std::size_t>(index.shape.back());
  const std::size_t lead = index.shape.size() - 1;
  e.out[0] = pick(x, out_shape(e), [&](const Shape& at, Shape& from) {
    std::int64_t row = 0;
    for (std::size_t d = 0; d < lead; ++d) row = row * index.shape[d] + at[d];
    for (std::size_t d = 0; d < b; ++d) from[d] = at[d];
    for (std::size_t d = 0; d < n; ++d) from[b + d] = index_in(e, index.v[static_cast<std::size_t>(row) * n + d], x.shape[b + d]);
    for (std::size_t d = b + n; d < from.size(); ++d) from[d] = at[lead + d - b - n];
    return true;
  });
}
double join(const Args& e, double old, double v) {
  const std::string r = e.node.attr_string("reduction", "none");
  if (r == "none") return v;
  if (r == "add") return old + v;
  if (r == "mul") return old * v;
  if (r == "max") return std::max(old, v);
  if (r == "min") return std::min(old, v);
  throw node_error(e.graph, e.node, fmt::format("reduction '{}'", r)).expected("none, add, mul, max or min");
}
void infer_scatter_elements(InferContext& c) {
  axis_attr(c, 0, c.dims(0).size());
  if (c.dims(1).size() != c.dims(0).size() || c.dims(2).size() != c.dims(0).size()) c.fail("data, indices and updates have different ranks");
  if (c.in[2]->dtype != c.in[0]->dtype) c.fail("data and updates have different element types");
  infer_first(c);
}
void scatter_elements_eval(Args& e) {
  Array<double> y = *e.in[0];
  const Array<double>&index = *e.in[1], &updates = *e.in[2];
  const std::size_t a = axis_attr(e, 0, y.shape.size());
  if (index.shape != updates.shape) throw node_error(e.graph, e.node, fmt::format("indices {} and updates {}", to_string(index.shape), to_string(updates.shape))).expected("one shape");
  for (std::size_t d = 0; d < y.shape.size(); ++d)
    if (d != a && index.shape[d] > y.shape[d]) throw node_error(e.graph, e.node, "indices reach outside of the data");
  if (!index.v.empty()) {
    Shape at(index.shape.size(), 0);
    std::size_t i = 0;
    do {
      Shape to = at;
      to[a] = index_in(e, index.v[i], y.shape[a]);
      double& v = y.v[static_cast<std::size_t>(flat(to, y.shape))];
      v = join(e, v, updates.v[i++]);
    } while (next(at, index.shape));
  }
  e.out[0] = std::move(y);
}
void infer_scatter_nd(InferContext& c) {
  if (c.dims(1).empty() || c.dims(0).empty()) c.fail("data and indices need an axis");
  if (c.in[2]->dtype != c.in[0]->dtype) c.fail("data and updates have different element types");
  infer_first(c);
}
void scatter_nd_eval(Args& e) {
  Array<double> y = *e.in[0];
  const Array<double>&index = *e.in[1], &updates = *e.in[2];
  const auto n = static_cast<std::size_t>(index.shape.back());
  if (n < 1 || n > y.shape.size()) throw node_error(e.graph, e.node, fmt::format("indices of {} axes for data of rank {}", n, y.shape.size()));
  Shape want(index.shape.begin(), index.shape.end() - 1);
  want.insert(want.end(), y.shape.begin() + static_cast<std::ptrdiff_t>(n), y.shape.end());
  if (updates.shape != want) throw node_error(e.graph, e.node, fmt::format("updates {}", to_string(updates.shape))).expected(to_string(want));
  const std::int64_t inner = element_count(Shape(y.shape.begin() + static_cast<std::ptrdiff_t>(n), y.shape.end()));
  for (std::size_t row = 0; row * n < index.v.size(); ++row) {
    std::int64_t to = 0;
    for (std::size_t d = 0; d < n; ++d) to = to * y.shape[d] + index_in(e, index.v[row * n + d], y.shape[d]);
    for (std::int64_t i = 0; i < inner; ++i) {
      double& v = y.v[static_cast<std::size_t>(to * inner + i)];
      v = join(e, v, updates.v[row * static_cast<std::size_t>(inner) + static_cast<std::size_t>(i)]);
    }
  }
  e.out[0] = std::move(y);
}
void sample_elements(const OpDef& op, Sample& s) {
  const Shape x = s.shape();
  const std::int64_t axis = s.axis(x.size());
  const std::int64_t n = x[static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(x.size()) : axis)];
  Shape i = x;
  for (auto& d : i) d = s.r.range(1, d);
  std::vector<ValueId> in{s.input(x)};
  in.push_back(s.constant(i, static_cast<double>(-n), static_cast<double>(n - 1), DType::i64));
  Attrs a{{"axis", axis}};
  if (op.name != "GatherElements") in.push_back(s.input(i));
  if (op.name == "ScatterElements") a["reduction"] = std::string(s.r.chance(0.5) ? "none" : "add");
  s.node(op, in, a);
}
void sample_nd(const OpDef& op, Sample& s) {
  Shape x = s.shape(1, 3);
  for (auto& d : x) d = 3;
  const std::int64_t n = s.r.range(1, static_cast<std::int64_t>(x.size()));
  const Shape i{2, n};
  std::vector<ValueId> in{s.input(x)};
  in.push_back(s.constant(i, -3, 2, DType::i64));
  Shape u{2};
  u.insert(u.end(), x.begin() + n, x.end());
  if (op.name == "ScatterND") in.push_back(s.input(u));
  s.node(op, in);
}

// ---- made from shapes ----------------------------------------------------------------------------
void infer_constant_of_shape(InferContext& c) {
  DType t = DType::f32;
  if (const auto it = c.node.attrs.find("value"); it != c.node.attrs.end()) {
    const Tensor& v = std::get<Tensor>(it->second);
    if (v.size() != 1) c.fail(fmt::format("value has {} elements", v.size()), "one");
    t = v.dtype();
  }
  if (!c.in_constant[0]) {
    c.out = {c.in[0]->dims && c.in[0]->dims->size() == 1 && (*c.in[0]->dims)[0].known() && (*c.in[0]->dims)[0].n <= 64 ? unknown_extents(t, static_cast<std::size_t>((*c.in[0]->dims)[0].n))
                                                                                                                      : unknown_rank(t)};
    return;
  }
  Dims y;
  for (std::int64_t d : int_list(*c.in_constant[0])) {
    if (d < 0) c.fail(fmt::format("an extent of {}", d));
    y.push_back(d);
  }
  c.out = {TensorType{t, y}};
}
void constant_of_shape_eval(Args& e) {
  Array<double> y(out_shape(e));
  const auto it = e.node.attrs.find("value");
  std::fill(y.v.begin(), y.v.end(), it == e.node.attrs.end() ? 0 : std::get<Tensor>(it->second).at(0));
  e.out[0] = std::move(y);
}
void sample_constant_of_shape(const OpDef& op, Sample& s) { s.node(op, {s.ints(s.shape())}, {{"value", Tensor::of<float>({1}, std::vector<float>{1.5f})}}); }

void infer_size(InferContext& c) { c.out = {TensorType{DType::i64, Dims{}}}; }
void size_eval(Args& e) {
  Array<double> y{Shape{}};
  y.v[0] = static_cast<double>(element_count(e.in[0]->shape));
  e.out[0] = std::move(y);
}
void sample_any(const OpDef& op, Sample& s) { s.node(op, {s.input(s.shape())}); }

std::int64_t range_count(const Graph& g, const Node& n, double start, double limit, double delta) {
  if (delta == 0) throw node_error(g, n, "a step of 0");
  const double count = std::max(0.0, std::ceil((limit - start) / delta));
  if (!(count <= 1 << 30)) throw node_error(g, n, fmt::format("a range of {} elements", count)).expected("at most 2^30");
  return static_cast<std::int64_t>(count);
}
void infer_range(InferContext& c) {
  for (std::size_t i = 1; i < 3; ++i)
    if (c.in[i]->dtype != c.in[0]->dtype) c.fail("start, limit and delta have different element types");
  Dim n;
  if (c.in_constant[0] && c.in_constant[1] && c.in_constant[2]) {
    for (std::size_t i = 0; i < 3; ++i)
      if (c.in_constant[i]->size() != 1) c.fail("start, limit and delta must be scalars");
    n = range_count(c.graph, c.node, c.in_constant[0]->at(0), c.in_constant[1]->at(0), c.in_constant[2]->at(0));
  }
  c.out = {TensorType{c.in[0]->dtype, Dims{n}}};
}
void range_eval(Args& e) {
  for (std::size_t i = 0; i < 3; ++i)
    if (e.in[i]->v.size() != 1) throw node_error(e.graph, e.node, "start, limit and delta must be scalars");
  const double start = e.in[0]->v[0], delta = e.in[2]->v[0];
  Array<double> y(Shape{range_count(e.graph, e.node, start, e.in[1]->v[0], delta)});
  for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = start + static_cast<double>(i) * delta;
  e.out[0] = std::move(y);
}
void sample_range(const OpDef& op, Sample& s) {
  const ValueId a = s.scalar(static_cast<double>(s.r.range(-3, 3)), DType::i64), b = s.scalar(static_cast<double>(s.r.range(4, 9)), DType::i64);
  s.node(op, {a, b, s.scalar(static_cast<double>(s.r.range(1, 3)), DType::i64)});
}

void infer_eye(InferContext& c) {
  if (c.dims(0).size() != 2) c.fail(fmt::format("input has rank {}", c.dims(0).size()), "a matrix");
  const auto t = c.node.has_attr("dtype") ? onnx_dtype(c.node.attr_int("dtype", 1)) : c.in[0]->dtype;
  if (!t) c.fail(fmt::format("dtype {}", c.node.attr_int("dtype", 1)), "a type of floats, integers or booleans");
  c.out = {TensorType{*t, c.in[0]->dims}};
}
void eye_eval(Args& e) {
  Array<double> y(e.in[0]->shape);
  const std::int64_t k = e.node.attr_int("k", 0), m = y.shape[1];
  for (std::int64_t i = 0; i < y.shape[0]; ++i)
    if (i + k >= 0 && i + k < m) y.v[static_cast<std::size_t>(i * m + i + k)] = 1;
  e.out[0] = std::move(y);
}
void sample_eye(const OpDef& op, Sample& s) { s.node(op, {s.input(s.shape(2, 2))}, {{"k", s.r.range(-2, 2)}}); }

void infer_one_hot(InferContext& c) {
  Dims y = c.dims(0);
  const std::int64_t a = axis_of(c, c.node.attr_int("axis", -1), y.size() + 1);
  if (c.in_constant[1] && c.in_constant[1]->size() != 1) c.fail("depth must be a scalar");
  if (c.in_constant[1] && c.in_constant[1]->int_at(0) < 0) c.fail("a negative depth");
  y.insert(y.begin() + a, c.in_constant[1] ? Dim(c.in_constant[1]->int_at(0)) : Dim());
  c.out = {TensorType{c.in[2]->dtype, y}};
}
void one_hot_eval(Args& e) {
  const Array<double>& index = *e.in[0];
  if (e.in[1]->v.size() != 1 || e.in[2]->v.size() != 2) throw node_error(e.graph, e.node, "depth must be a scalar and values [off, on]");
  const std::int64_t a = axis_of(e, e.node.attr_int("axis", -1), index.shape.size() + 1), depth = to_int(e.in[1]->v[0]);
  Shape s = index.shape;
  s.insert(s.begin() + a, depth);
  Array<double> y(s);
  std::fill(y.v.begin(), y.v.end(), e.in[2]->v[0]);
  const Around r(s, a);
  for (std::int64_t o = 0; o < r.outer; ++o)
    for (std::int64_t i = 0; i < r.inner; ++i) {
      std::int64_t k = to_int(index.v[static_cast<std::size_t>(o * r.inner + i)]);
      if (k < 0) k += depth;
      if (k >= 0 && k < depth) y.v[static_cast<std::size_t>(r.at(o, k, i))] = e.in[2]->v[1];  // outside: all off
    }
  e.out[0] = std::move(y);
}
void sample_one_hot(const OpDef& op, Sample& s) {
  const Shape x = s.shape(0, 2);
  const ValueId i = s.input(x, -3, 4, DType::i64), d = s.scalar(3, DType::i64);
  s.node(op, {i, d, s.constant({2}, 0, 1)}, {{"axis", s.axis(x.size() + 1)}});
}

// ---- shapes that depend on the data ---------------------------------------------------------------
void infer_nonzero(InferContext& c) { c.out = {TensorType{DType::i64, Dims{Dim(static_cast<std::int64_t>(c.dims(0).size())), Dim()}}}; }
void nonzero_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  std::vector<Shape> found;
  Shape at(x.shape.size(), 0);
  if (!x.v.empty()) {
    std::size_t i = 0;
    do
      if (x.v[i++] != 0) found.push_back(at);
    while (next(at, x.shape));
  }
  Array<double> y(Shape{static_cast<std::int64_t>(x.shape.size()), static_cast<std::int64_t>(found.size())});
  for (std::size_t d = 0; d < x.shape.size(); ++d)
    for (std::size_t k = 0; k < found.size(); ++k) y.v[d * found.size() + k] = static_cast<double>(found[k][d]);
  e.out[0] = std::move(y);
}
void sample_nonzero(const OpDef& op, Sample& s) { s.node(op, {s.input(s.shape(), 0, 1, DType::i32)}); }

void infer_compress(InferContext& c) {
  if (!c.node.has_attr("axis")) {
    c.out = {unknown_extents(c.in[0]->dtype, 1)};
    return;
  }
  Dims y = c.dims(0);
  y[axis_attr(c, 0, y.size())] = Dim();
  c.out = {TensorType{c.in[0]->dtype, y}};
}
void compress_eval(Args& e) {
  Array<double> x = *e.in[0];
  if (!e.node.has_attr("axis")) x.shape = {element_count(x.shape)};
  const std::size_t a = e.node.has_attr("axis") ? axis_attr(e, 0, x.shape.size()) : 0;
  Ints kept;
  for (std::size_t i = 0; i < e.in[1]->v.size(); ++i)
    if (e.in[1]->v[i] != 0) {
      if (static_cast<std::int64_t>(i) >= x.shape[a]) throw node_error(e.graph, e.node, fmt::format("the condition names element {} of {}", i, x.shape[a]));
      kept.push_back(static_cast<std::int64_t>(i));
    }
  Shape s = x.shape;
  s[a] = static_cast<std::int64_t>(kept.size());
  e.out[0] = pick(x, s, [&](const Shape& at, Shape& from) {
    from = at;
    from[a] = kept[static_cast<std::size_t>(at[a])];
    return true;
  });
}
void sample_compress(const OpDef& op, Sample& s) {
  const Shape x = s.shape();
  const ValueId v = s.input(x);
  s.node(op, {v, s.input({x[0]}, 0, 1, DType::boolean)}, {{"axis", std::int64_t{0}}});
}

void infer_unique(InferContext& c) {
  TensorType y = unknown_extents(c.in[0]->dtype, 1);
  if (c.node.has_attr("axis")) {
    y.dims = c.dims(0);
    (*y.dims)[axis_attr(c, 0, y.dims->size())] = Dim();
  }
  const TensorType index = unknown_extents(DType::i64, 1);
  c.out = {y, index, index, index};
}
void unique_eval(Args& e) {
  Array<double> x = *e.in[0];
  if (!e.node.has_attr("axis")) x.shape = {element_count(x.shape)};
  const std::size_t axis = e.node.has_attr("axis") ? axis_attr(e, 0, x.shape.size()) : 0;
  const Around a(x.shape, static_cast<std::int64_t>(axis));
  const auto slice = [&](std::int64_t k) {
    std::vector<double> v;
    for (std::int64_t o = 0; o < a.outer; ++o)
      for (std::int64_t i = 0; i < a.inner; ++i) v.push_back(x.v[static_cast<std::size_t>(a.at(o, k, i))]);
    return v;
  };
  std::vector<std::vector<double>> values;
  Ints first, inverse, count;
  std::map<std::vector<double>, std::size_t> seen;
  for (std::int64_t k = 0; k < a.n; ++k) {
    const auto [it, fresh] = seen.emplace(slice(k), values.size());
    if (fresh) values.push_back(it->first), first.push_back(k), count.push_back(0);
    inverse.push_back(static_cast<std::int64_t>(it->second));
    ++count[it->second];
  }
  Ints order(values.size());
  std::iota(order.begin(), order.end(), 0);
  if (e.node.attr_int("sorted", 1)) std::sort(order.begin(), order.end(), [&](std::int64_t p, std::int64_t q) { return values[static_cast<std::size_t>(p)] < values[static_cast<std::size_t>(q)]; });
  Ints place(order.size());
  for (std::size_t k = 0; k < order.size(); ++k) place[static_cast<std::size_t>(order[k])] = static_cast<std::int64_t>(k);
  Shape s = x.shape;
  s[axis] = static_cast<std::int64_t>(order.size());
  e.out[0] = pick(x, s, [&](const Shape& at, Shape& from) {
    from = at;
    from[axis] = first[static_cast<std::size_t>(order[static_cast<std::size_t>(at[axis])])];
    return true;
  });
  const auto put = [&](std::size_t k, std::size_t n, auto value) {
    if (e.out.size() <= k) return;
    e.out[k] = Array<double>(Shape{static_cast<std::int64_t>(n)});
    for (std::size_t i = 0; i < n; ++i) e.out[k].v[i] = static_cast<double>(value(i));
  };
  put(1, order.size(), [&](std::size_t i) { return first[static_cast<std::size_t>(order[i])]; });
  put(2, inverse.size(), [&](std::size_t i) { return place[static_cast<std::size_t>(inverse[i])]; });
  put(3, order.size(), [&](std::size_t i) { return count[static_cast<std::size_t>(order[i])]; });
}
void sample_unique(const OpDef& op, Sample& s) { s.node(op, {s.input(s.shape(), 0, 2, DType::i32)}, {{"sorted", s.r.range(0, 1)}}, 4); }

// ---- as Einsums: copies with an affine index, or one read from data -------------------------------
using Names = std::vector<std::string>;
std::size_t axis_in(const Graph& g, const Node& n, std::int64_t fallback, std::size_t rank) {
  return static_cast<std::size_t>(normal_axis(n.attr_int("axis", fallback), static_cast<std::int64_t>(rank), g, n));
}
Einsum slice_einsum(const Graph& g, const Node& n) {
  std::vector<std::optional<Ints>> list;
  for (std::size_t i = 1; i < 5; ++i) {
    list.push_back(known_ints(g, n.in(i)));
    if (n.in(i) != kNone && !list.back()) return {};
  }
  if (!list[0] || !list[1]) return {};
  Cascade c(g, n);
  const Names to = c.ranks(shape_of(g, n.outputs[0]));
  Names from;
  for (const Cut& k : cuts(g, n, shape_of(g, n.in(0)), *list[0], *list[1], list[2], list[3])) from.push_back(fmt::format("{}*{}+{}", k.step, to[from.size()], k.start));
  c.line("{} = {}", at(c.out(), to), at("X", from));
  return c.done();
}
Einsum split_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0));
  const std::size_t a = axis_in(g, n, 0, x.size());
  Cascade c(g, n);
  Names ranks = c.ranks(x);
  std::int64_t first = 0;
  for (std::size_t i = 0; i < n.outputs.size(); ++i) {
    const std::int64_t extent = shape_of(g, n.outputs[i])[a];
    ranks[a] = c.rank(fmt::format("a{}", i), extent);
    Names from = ranks;
    from[a] += fmt::format("+{}", first);
    c.line("{} = {}", at(c.out(i), ranks), at("X", from));
    first += extent;
  }
  return c.done();
}
Einsum pad_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0));
  const auto pads = known_ints(g, n.in(1)), axes = known_ints(g, n.in(3));
  const std::string mode = n.attr_string("mode", "constant");
  if (!pads || (n.in(3) != kNone && !axes) || (mode != "constant" && mode != "edge")) return {};
  const auto p = pads_of(g, n, x.size(), *pads, axes);
  const bool constant = mode == "constant";
  Cascade c(g, n);
  const Names wide = c.ranks(shape_of(g, n.outputs[0]));
  if (constant) c.line("{} = {}", at(c.out(), wide), n.in(2) == kNone ? "0" : one_or_each(c.in(2), shape_of(g, n.in(2)), ""));
  Names from, to;
  const Names ranks = constant ? c.ranks(x, "abcdefgh") : wide;
  for (std::size_t d = 0; d < x.size(); ++d) {
    from.push_back(constant ? ranks[d] : fmt::format("clamp({}-{})", ranks[d], p[d].first));
    to.push_back(constant ? fmt::format("{}+{}", ranks[d], p[d].first) : ranks[d]);
  }
  c.line("{} = {}", at(c.out(), to), at("X", from));
  return c.done();
}
Einsum tile_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0)), y = shape_of(g, n.outputs[0]);
  Cascade c(g, n);
  const Names from = c.ranks(x);
  Names to;
  for (std::size_t d = 0; d < x.size(); ++d) to.push_back(fmt::format("{}*{}+{}", x[d], c.rank(fmt::format("r{}", d), x[d] ? y[d] / x[d] : 0), from[d]));
  c.line("{} = {}", at(c.out(), to), at("X", from));
  return c.done();
}
Einsum expand_einsum(const Graph& g, const Node& n) {
  const Shape y = shape_of(g, n.outputs[0]);
  Cascade c(g, n);
  const Names to = c.ranks(y);
  c.line("{} = {}", at(c.out(), to), broadcast_at("X", shape_of(g, n.in(0)), y, to));
  return c.done();
}
Einsum blocks_einsum(const Graph& g, const Node& n) {
  const bool deep = n.op == "SpaceToDepth";
  const Shape thin = shape_of(g, deep ? n.in(0) : n.outputs[0]);  // the one with fewer channels
  const std::int64_t b = block_of(g, n), C = thin[1];
  Cascade c(g, n);
  c.rank("n", thin[0]), c.rank("c", C), c.rank("h", thin[2] / b), c.rank("w", thin[3] / b), c.rank("i", b), c.rank("j", b);
  const std::string wide = fmt::format("[n,c,{}*h+i,{}*w+j]", b, b);
  const std::string channels = !deep && n.attr_string("mode", "DCR") == "CRD" ? fmt::format("[n,{}*c+{}*i+j,h,w]", b * b, b) : fmt::format("[n,{}*i+{}*j+c,h,w]", b * C, C);
  c.line("Y{} = X{}", deep ? channels : wide, deep ? wide : channels);
  return c.done();
}
Einsum trilu_einsum(const Graph& g, const Node& n) {
  const auto k = known_ints(g, n.in(1));
  if (n.in(1) != kNone && (!k || k->size() != 1)) return {};
  const Shape x = shape_of(g, n.in(0));
  const std::int64_t diagonal = std::clamp<std::int64_t>(k ? k->at(0) : 0, -(std::int64_t{1} << 40), std::int64_t{1} << 40);
  Cascade c(g, n);
  const Names all = c.ranks(x);
  const std::string &i = all[all.size() - 2], &j = all.back();
  c.line("{} = {} where {{{}}}", at(c.out(), all), at("X", all), n.attr_int("upper", 1) ? fmt::format("{}-{}+{}", j, i, 1 - diagonal) : fmt::format("{}-{}+{}", i, j, 1 + diagonal));
  return c.done();
}
Einsum gather_elements_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0)), i = shape_of(g, n.in(1));
  const std::size_t a = axis_in(g, n, 0, x.size());
  Cascade c(g, n);
  const Names all = c.ranks(i);
  Names from = all;
  from[a] = fmt::format("floor({})", at("J", all));
  c.line("{} = fromend({},{})", at("J", all), at("indices", all), x[a]);
  c.line("{} = {}", at(c.out(), all), at("X", from));
  return c.done();
}
// "=" or "+=", "mul=", ...
std::string joined_by(const Node& n) {
  const std::string r = n.attr_string("reduction", "none");
  return r == "none" ? "=" : r == "add" ? "+=" : r + "=";
}
Einsum scatter_elements_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0)), i = shape_of(g, n.in(1));
  const std::size_t a = axis_in(g, n, 0, x.size());
  Cascade c(g, n);
  const Names all = c.ranks(x), from = c.ranks(i, "abcdefgh");
  Names to = from;
  to[a] = fmt::format("floor({})", at("J", from));
  c.line("{} = {}", at(c.out(), all), at("X", all));
  c.line("{} = fromend({},{})", at("J", from), at("indices", from), x[a]);
  c.line("{} {} {}", at(c.out(), to), joined_by(n), at("updates", from));
  return c.done();
}
// The index tuples as one index each: J0, J1, ...; what they and the `batch` axes before them leave of the data keeps its ranks.
Names tuple_index(Cascade& c, const Shape& x, const Shape& i, std::size_t batch, Names& picks, Names& rest) {
  const Names all = c.ranks(x);
  picks = c.ranks(Shape(i.begin(), i.end() - 1), "abcdefgh");
  Names from(picks.begin(), picks.begin() + static_cast<std::ptrdiff_t>(batch));
  for (std::int64_t k = 0; k < i.back(); ++k) {
    Names tuple = picks;
    tuple.push_back(fmt::format("{}", k));
    const std::string J = at(fmt::format("J{}", k), picks);
    c.line("{} = fromend({},{})", J, at("indices", tuple), x[batch + static_cast<std::size_t>(k)]);
    from.push_back(fmt::format("floor({})", J));
  }
  rest.assign(all.begin() + static_cast<std::ptrdiff_t>(batch + static_cast<std::size_t>(i.back())), all.end());
  from.insert(from.end(), rest.begin(), rest.end());
  return from;
}
Einsum gather_nd_einsum(const Graph& g, const Node& n) {
  Cascade c(g, n);
  Names picks, rest;
  const Names from = tuple_index(c, shape_of(g, n.in(0)), shape_of(g, n.in(1)), static_cast<std::size_t>(n.attr_int("batch_dims", 0)), picks, rest);
  picks.insert(picks.end(), rest.begin(), rest.end());
  c.line("{} = {}", at(c.out(), picks), at("X", from));
  return c.done();
}
Einsum scatter_nd_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0));
  Cascade c(g, n);
  Names picks, rest;
  const Names to = tuple_index(c, x, shape_of(g, n.in(1)), 0, picks, rest), all = c.ranks(x);
  c.line("{} = {}", at(c.out(), all), at("X", all));
  picks.insert(picks.end(), rest.begin(), rest.end());
  c.line("{} {} {}", at(c.out(), to), joined_by(n), at("updates", picks));
  return c.done();
}

const std::vector<PortDef> kX{{"X", "any shape"}};
AttrDef axis_def(std::string_view fallback, std::string_view doc = "the axis") { return {"axis", AttrType::integer, fallback, doc}; }

const OpDef kOps[] = {
    OpDef{.domain = "", .name = "Slice", .summary = "A part of a tensor, with steps.", .doc = "Y[i] = X[start + i * step] along each axis; starts and ends are clipped to the tensor, negative ones count from the end.",
          .source = "ONNX Slice-13", .inputs = {{"X", "any shape"}, {"starts", "integers"}, {"ends", "integers"}, {"axes", "integers; default the first ones", true}, {"steps", "integers; default 1", true}},
          .outputs = {{"Y", "the part"}}, .closure = Closure::move, .infer = infer_slice, .eval = {slice_eval, move_exactly}, .einsum = slice_einsum, .adjoint = adjoint_move, .sample = sample_slice},
    OpDef{.domain = "", .name = "Split", .summary = "Parts of a tensor along an axis.", .doc = "Parts of the sizes of `split`, or equal ones (num_outputs: the last one may be smaller).", .source = "ONNX Split-18",
          .inputs = {{"X", "any shape"}, {"split", "sizes", true}}, .outputs = {{.name = "parts", .doc = "in order", .variadic = true}},
          .attributes = {axis_def("0", "the axis split"), {"num_outputs", AttrType::integer, "", "as many as there are outputs"}}, .closure = Closure::move, .infer = infer_split, .eval = {split_eval, move_exactly}, .einsum = split_einsum, .adjoint = adjoint_split, .sample = sample_split},
    OpDef{.domain = "", .name = "Pad", .summary = "More elements around a tensor, or fewer.", .doc = "constant: a value; edge: the outermost element; reflect: mirrored about it; wrap: from the other end. Negative pads cut.",
          .source = "ONNX Pad-19", .inputs = {{"X", "any shape"}, {"pads", "begins, then ends"}, {"constant_value", "scalar, default 0", true}, {"axes", "integers; default all", true}},
          .outputs = {{"Y", "padded"}}, .attributes = {{"mode", AttrType::string, "constant", "constant, edge, reflect or wrap"}}, .closure = Closure::move, .infer = infer_pad, .eval = {pad_eval, move_exactly}, .einsum = pad_einsum, .adjoint = adjoint_move, .sample = sample_pad},
    OpDef{.domain = "", .name = "Tile", .summary = "Repeats a tensor.", .doc = "Y[i] = X[i mod n] along each axis.", .source = "ONNX Tile-13", .inputs = {{"X", "any shape"}, {"repeats", "one per axis"}},
          .outputs = {{"Y", "extents times repeats"}}, .closure = Closure::move, .infer = infer_tile, .eval = {tile_eval, move_exactly}, .einsum = tile_einsum, .adjoint = adjoint_move, .sample = sample_tile},
    OpDef{.domain = "", .name = "Expand", .summary = "Broadcasts a tensor to a shape.", .doc = "Y = X broadcast together with `shape`.", .source = "ONNX Expand-13", .inputs = {{"X", "any shape"}, {"shape", "integers"}},
          .outputs = {{"Y", "broadcast shape"}}, .closure = Closure::move, .infer = infer_expand, .eval = {expand_eval, move_exactly}, .einsum = expand_einsum, .adjoint = adjoint_move, .sample = sample_expand},
    OpDef{.domain = "", .name = "DepthToSpace", .summary = "Channels become blocks of pixels.", .doc = "Y[n,c,h*b+i,w*b+j] = X[n,(i*b+j)*C+c,h,w] (DCR) or X[n,c*b*b+i*b+j,h,w] (CRD).", .source = "ONNX DepthToSpace-13",
          .inputs = {{"X", "[batch, channels, height, width]"}}, .outputs = {{"Y", "[batch, channels/b^2, height*b, width*b]"}},
          .attributes = {{"blocksize", AttrType::integer, "required", "b"}, {"mode", AttrType::string, "DCR", "DCR or CRD"}}, .closure = Closure::move, .infer = infer_blocks, .eval = {blocks_eval, move_exactly}, .einsum = blocks_einsum, .adjoint = adjoint_move, .sample = sample_blocks},
    OpDef{.domain = "", .name = "SpaceToDepth", .summary = "Blocks of pixels become channels.", .doc = "Y[n,(i*b+j)*C+c,h,w] = X[n,c,h*b+i,w*b+j].", .source = "ONNX SpaceToDepth-13",
          .inputs = {{"X", "[batch, channels, height, width]"}}, .outputs = {{"Y", "[batch, channels*b^2, height/b, width/b]"}}, .attributes = {{"blocksize", AttrType::integer, "required", "b"}},
          .closure = Closure::move, .infer = infer_blocks, .eval = {blocks_eval, move_exactly}, .einsum = blocks_einsum, .adjoint = adjoint_move, .sample = sample_blocks},
    OpDef{.domain = "", .name = "ReverseSequence", .summary = "Reverses the first elements of each sequence.", .doc = "Along time_axis, the first lengths[b] elements of sequence b are reversed.", .source = "ONNX ReverseSequence-10",
          .inputs = {{"X", "rank 2 or more"}, {"lengths", "one per sequence"}}, .outputs = {{"Y", "shape of X"}},
          .attributes = {{"batch_axis", AttrType::integer, "1", "the axis of sequences"}, {"time_axis", AttrType::integer, "0", "the axis of time"}}, .infer = infer_matrices, .eval = {reverse_eval, nullptr}, .adjoint = adjoint_move, .sample = sample_reverse},
    OpDef{.domain = "", .name = "Trilu", .summary = "A triangle of each matrix, zeros elsewhere.", .doc = "upper: elements with column - row >= k are kept; lower: <= k.", .source = "ONNX Trilu-14",
          .inputs = {{"X", "matrices"}, {"k", "a diagonal, default 0", true}}, .outputs = {{"Y", "shape of X"}}, .attributes = {{"upper", AttrType::integer, "1", "0: the lower triangle"}},
          .infer = infer_matrices, .eval = {trilu_eval, nullptr}, .einsum = trilu_einsum, .adjoint = adjoint_move, .sample = sample_trilu},
    OpDef{.domain = "", .name = "GatherElements", .summary = "Picks one element per index.", .doc = "Y[i][j][k] = X[indices[i][j][k]][j][k] for axis 0.", .source = "ONNX GatherElements-13",
          .inputs = {{"X", "any shape"}, {"indices", "integers of the rank of X"}}, .outputs = {{"Y", "shape of indices"}}, .attributes = {axis_def("0")}, .infer = infer_gather_elements,
          .eval = {gather_elements_eval, nullptr}, .einsum = gather_elements_einsum, .adjoint = adjoint_move, .sample = sample_elements},
    OpDef{.domain = "", .name = "GatherND", .summary = "Picks slices by index tuples.", .doc = "Y[i] = X[indices[i, 0], indices[i, 1], ...].", .source = "ONNX GatherND-13",
          .inputs = {{"X", "any shape"}, {"indices", "tuples along the last axis"}}, .outputs = {{"Y", "one slice per tuple"}}, .attributes = {{"batch_dims", AttrType::integer, "0", "leading axes shared by both"}},
          .infer = infer_gather_nd, .eval = {gather_nd_eval, nullptr}, .einsum = gather_nd_einsum, .adjoint = adjoint_move, .sample = sample_nd},
    OpDef{.domain = "", .name = "ScatterElements", .summary = "Writes one element per index.", .doc = "Y = X, then Y[indices[i][j]][j] = updates[i][j] for axis 0, joined as `reduction` says.", .source = "ONNX ScatterElements-18",
          .inputs = {{"X", "any shape"}, {"indices", "integers of the rank of X"}, {"updates", "shape of indices"}}, .outputs = {{"Y", "shape of X"}},
          .attributes = {axis_def("0"), {"reduction", AttrType::string, "none", "none, add, mul, max or min"}}, .infer = infer_scatter_elements, .eval = {scatter_elements_eval, nullptr}, .einsum = scatter_elements_einsum, .adjoint = adjoint_scatter, .sample = sample_elements},
    OpDef{.domain = "", .name = "Scatter", .summary = "ScatterElements under its older name.", .doc = "Y = X, then Y[indices[i][j]][j] = updates[i][j] for axis 0.", .source = "ONNX Scatter-9",
          .inputs = {{"X", "any shape"}, {"indices", "integers of the rank of X"}, {"updates", "shape of indices"}}, .outputs = {{"Y", "shape of X"}}, .attributes = {axis_def("0")}, .infer = infer_scatter_elements,
          .eval = {scatter_elements_eval, nullptr}, .einsum = scatter_elements_einsum, .adjoint = adjoint_scatter, .sample = sample_elements},
    OpDef{.domain = "", .name = "ScatterND", .summary = "Writes slices by index tuples.", .doc = "Y = X, then Y[indices[i, 0], ...] = updates[i], joined as `reduction` says.", .source = "ONNX ScatterND-18",
          .inputs = {{"X", "any shape"}, {"indices", "tuples along the last axis"}, {"updates", "one slice per tuple"}}, .outputs = {{"Y", "shape of X"}},
          .attributes = {{"reduction", AttrType::string, "none", "none, add, mul, max or min"}}, .infer = infer_scatter_nd, .eval = {scatter_nd_eval, nullptr}, .einsum = scatter_nd_einsum, .adjoint = adjoint_scatter, .sample = sample_nd},
    OpDef{.domain = "", .name = "ConstantOfShape", .summary = "One value in a given shape.", .doc = "Y = value everywhere.", .source = "ONNX ConstantOfShape-20", .inputs = {{"shape", "integers"}}, .outputs = {{"Y", "the shape"}},
          .attributes = {{"value", AttrType::tensor, "0", "one element"}}, .infer = infer_constant_of_shape, .eval = {constant_of_shape_eval, nullptr}, .sample = sample_constant_of_shape},
    OpDef{.domain = "", .name = "Size", .summary = "The number of elements.", .doc = "Y = the product of the extents of X.", .source = "ONNX Size-19", .inputs = kX, .outputs = {{"Y", "i64 scalar"}},
          .infer = infer_size, .eval = {size_eval, nullptr}, .sample = sample_any},
    OpDef{.domain = "", .name = "Range", .summary = "Numbers at equal steps.", .doc = "Y[i] = start + i * delta, as long as it has not reached limit.", .source = "ONNX Range-11",
          .inputs = {{"start", "scalar"}, {"limit", "scalar"}, {"delta", "scalar"}}, .outputs = {{"Y", "vector"}}, .infer = infer_range, .eval = {range_eval, nullptr}, .sample = sample_range},
    OpDef{.domain = "", .name = "EyeLike", .summary = "Ones on a diagonal.", .doc = "Y[i, j] = 1 where j = i + k, else 0.", .source = "ONNX EyeLike-9", .inputs = {{"X", "a matrix: its shape"}}, .outputs = {{"Y", "shape of X"}},
          .attributes = {{"dtype", AttrType::integer, "type of X", "number of the type in ONNX"}, {"k", AttrType::integer, "0", "the diagonal"}}, .infer = infer_eye, .eval = {eye_eval, nullptr}, .sample = sample_eye},
    OpDef{.domain = "", .name = "OneHot", .summary = "Indices as vectors with one element on.", .doc = "Y = on at indices[i] along `axis`, off elsewhere; an index outside [-depth, depth) is off everywhere.", .source = "ONNX OneHot-11",
          .inputs = {{"indices", "any shape"}, {"depth", "scalar"}, {"values", "[off, on]"}}, .outputs = {{"Y", "one axis more"}}, .attributes = {axis_def("-1", "where the new axis stands")},
          .infer = infer_one_hot, .eval = {one_hot_eval, nullptr}, .sample = sample_one_hot},
    OpDef{.domain = "", .name = "NonZero", .summary = "Where a tensor is not zero.", .doc = "Y[d, k] = index along axis d of the k-th element that is not 0.", .source = "ONNX NonZero-13", .inputs = kX,
          .outputs = {{"Y", "[rank, as many as there are]"}}, .infer = infer_nonzero, .eval = {nonzero_eval, nullptr}, .sample = sample_nonzero},
    OpDef{.domain = "", .name = "Compress", .summary = "The slices a condition chooses.", .doc = "Slices along `axis` (default: of the flat tensor) where the condition holds.", .source = "ONNX Compress-11",
          .inputs = {{"X", "any shape"}, {"condition", "booleans"}}, .outputs = {{"Y", "what was chosen"}}, .attributes = {axis_def("", "default: the tensor is flat")}, .infer = infer_compress, .eval = {compress_eval, nullptr}, .adjoint = adjoint_move, .sample = sample_compress},
    OpDef{.domain = "", .name = "Unique", .summary = "Different elements, or slices along an axis.", .doc = "Each once, sorted or in the order they come; where each came first, which one each was, and how often.", .source = "ONNX Unique-11",
          .inputs = kX, .outputs = {{"Y", "the different ones"}, {"indices", "i64: where each came first", true}, {"inverse", "i64: which one each element is", true}, {"counts", "i64: how often", true}},
          .attributes = {axis_def("", "default: the tensor is flat"), {"sorted", AttrType::integer, "1", "0: in the order they come"}}, .infer = infer_unique, .eval = {unique_eval, nullptr}, .sample = sample_unique},
};

}  // namespace

std::span<const OpDef> move_ops() { return kOps; }

}  // namespace tandem::ir
