// Operators that only move elements, and those on shapes: Flatten, Reshape, Squeeze, Unsqueeze, Shape,
// Gather, Transpose, Concat.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/cascade.h"

namespace tandem::ir {
namespace {

struct ReshapeEval {  // the output's extents are inferred: the graph knows them
  template <class T>
  static void run(EvalArgs<T>& e) {
    Array<T> y = *e.in[0];
    const auto& d = e.graph.values[e.node.outputs[0]].type.dims;
    Shape s;
    std::int64_t known = 1;
    int open = -1;
    TANDEM_CHECK(d.has_value(), "{}: shape not inferred", e.graph.describe(e.node));
    for (std::size_t i = 0; i < d->size(); ++i) {
      s.push_back((*d)[i].n);
      if ((*d)[i].known()) known *= (*d)[i].n;
      else if (open < 0) open = static_cast<int>(i);
      else throw node_error(e.graph, e.node, "two extents are unknown: bind the symbolic extents first");
    }
    std::int64_t total = static_cast<std::int64_t>(y.v.size());
    if (open >= 0) s[open] = known ? total / known : 0;
    if (element_count(s) != total) throw node_error(e.graph, e.node, fmt::format("{} elements do not fill shape {}", total, to_string(s)));
    y.shape = s;
    e.out[0] = std::move(y);
  }
};

// Product of extents with at most one unknown factor, kept as that Dim.
Dim product(std::span<const Dim> d) {
  std::int64_t n = 1;
  Dim open;
  bool has_open = false;
  for (const Dim& x : d) {
    if (x.known()) n *= x.n;
    else if (has_open) return Dim();
    else open = x, has_open = true;
  }
  if (!has_open) return Dim(n);
  return n == 1 ? open : Dim();
}

void infer_flatten(InferContext& c) {
  const Dims& x = c.dims(0);
  std::int64_t axis = c.node.attr_int("axis", 1), r = static_cast<std::int64_t>(x.size());
  if (axis < -r || axis > r) c.fail(fmt::format("axis {} is outside [-{}, {}]", axis, r, r));
  if (axis < 0) axis += r;
  std::span<const Dim> s(x);
  c.out = {TensorType{c.in[0]->dtype, Dims{product(s.subspan(0, axis)), product(s.subspan(axis))}}};
}

void infer_reshape(InferContext& c) {
  if (!c.in_constant[1]) {
    const Dims& s = c.dims(1);
    TensorType t{c.in[0]->dtype, std::nullopt};
    if (s.size() == 1 && s[0].known() && s[0].n > 64) c.fail(fmt::format("the new shape has {} axes", s[0].n), "at most 64");
    if (s.size() == 1 && s[0].known()) t.dims = Dims(static_cast<std::size_t>(s[0].n));
    c.out = {t};
    return;
  }
  const Dims& x = c.dims(0);
  auto want = int_list(*c.in_constant[1]);
  bool allow_zero = c.node.attr_int("allowzero", 0);
  Dims y;
  int open = -1;
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (want[i] == 0 && !allow_zero) {
      if (i >= x.size()) c.fail(fmt::format("shape has 0 at position {}, the input has rank {}", i, x.size()));
      y.push_back(x[i]);
    } else if (want[i] == -1) {
      if (open >= 0) c.fail("shape has two extents of -1");
      open = static_cast<int>(i);
      y.push_back(Dim());
    } else if (want[i] < 0) {
      c.fail(fmt::format("shape has a negative extent {}", want[i]));
    } else {
      y.push_back(want[i]);
    }
  }
  // Cancel equal unknown factors, then what is left on both sides must agree.
  std::vector<Dim> left(x.begin(), x.end()), right;
  for (std::size_t i = 0; i < y.size(); ++i)
    if (static_cast<int>(i) != open) right.push_back(y[i]);
  for (auto r = right.begin(); r != right.end();) {
    auto same = std::find_if(left.begin(), left.end(), [&](const Dim& d) { return !d.known() && !d.symbol.empty() && d == *r; });
    if (!r->known() && same != left.end()) {
      left.erase(same);
      r = right.erase(r);
    } else {
      ++r;
    }
  }
  std::int64_t a = 1, b = 1;
  std::vector<Dim> ua, ub;
  const auto times = [&](std::int64_t& n, std::int64_t by) {
    if (__builtin_mul_overflow(n, by, &n)) c.fail(fmt::format("shape {} has too many elements", to_string(y)));
  };
  for (auto& d : left) d.known() ? times(a, d.n) : ua.push_back(d);
  for (auto& d : right) d.known() ? times(b, d.n) : ub.push_back(d);
  if (ua.empty() && ub.empty()) {
    if (open >= 0) {
      if (b == 0 || a % b) c.fail(fmt::format("{} elements cannot be split by {}", a, b));
      y[open] = a / b;
    } else if (a != b) {
      c.fail(fmt::format("{} elements do not fill shape {}", a, to_string(y)));
    }
  } else if (open >= 0 && ua.size() == 1 && ub.empty() && a == b) {
    y[open] = ua[0];  // -1 stands for the symbol
  }
  c.out = {TensorType{c.in[0]->dtype, y}};
}

// nullopt: not known yet; then only the type of the output is.
std::optional<std::vector<std::int64_t>> axes_of(InferContext& c) {
  if (c.in.size() < 2 || !c.in[1]) return std::vector<std::int64_t>{};
  if (c.in_constant[1]) return int_list(*c.in_constant[1]);
  c.out = {TensorType{c.in[0]->dtype, std::nullopt}};
  return std::nullopt;
}
void infer_squeeze(InferContext& c) {
  const Dims& x = c.dims(0);
  const auto axes = axes_of(c);
  if (!axes) return;
  Dims y;
  std::vector<bool> drop(x.size());
  if (c.node.inputs.size() < 2 || c.node.inputs[1] == kNone) {
    for (std::size_t i = 0; i < x.size(); ++i) drop[i] = x[i].n == 1;
  }
  for (auto a : *axes) {
    a = normal_axis(a, static_cast<std::int64_t>(x.size()), c.graph, c.node);
    if (x[a].known() && x[a].n != 1) c.fail(fmt::format("axis {} has extent {}, not 1", a, x[a].n));
    drop[a] = true;
  }
  for (std::size_t i = 0; i < x.size(); ++i)
    if (!drop[i]) y.push_back(x[i]);
  c.out = {TensorType{c.in[0]->dtype, y}};
}
void infer_unsqueeze(InferContext& c) {
  const Dims& x = c.dims(0);
  const auto axes = axes_of(c);
  if (!axes) return;
  std::int64_t r = static_cast<std::int64_t>(x.size() + axes->size());
  std::vector<bool> one(r);
  for (auto a : *axes) {
    a = normal_axis(a, r, c.graph, c.node);
    if (one[a]) c.fail("axes holds an axis twice");
    one[a] = true;
  }
  Dims y;
  std::size_t j = 0;
  for (std::int64_t i = 0; i < r; ++i) y.push_back(one[i] ? Dim(1) : x[j++]);
  c.out = {TensorType{c.in[0]->dtype, y}};
}

struct Range {
  std::int64_t start, end;
};
Range shape_range(const Node& n, std::int64_t r) {
  std::int64_t s = n.attr_int("start", 0), e = n.attr_int("end", r);
  if (s < 0) s += r;
  if (e < 0) e += r;
  s = std::clamp<std::int64_t>(s, 0, r);
  e = std::clamp<std::int64_t>(e, s, r);
  return {s, e};
}
void infer_shape_op(InferContext& c) {
  auto [s, e] = shape_range(c.node, static_cast<std::int64_t>(c.dims(0).size()));
  c.out = {TensorType{DType::i64, Dims{Dim(e - s)}}};
}
struct ShapeEval {
  template <class T>
  static void run(EvalArgs<T>& a) {
    const Shape& x = a.in[0]->shape;
    auto [s, e] = shape_range(a.node, static_cast<std::int64_t>(x.size()));
    Array<T> y(Shape{e - s});
    for (std::int64_t i = s; i < e; ++i) y.v[i - s] = T(static_cast<long>(x[i]));
    a.out[0] = std::move(y);
  }
};

void infer_gather(InferContext& c) {
  const Dims &x = c.dims(0), &i = c.dims(1);
  std::int64_t axis = normal_axis(c.node.attr_int("axis", 0), static_cast<std::int64_t>(x.size()), c.graph, c.node);
  Dims y(x.begin(), x.begin() + axis);
  y.insert(y.end(), i.begin(), i.end());
  y.insert(y.end(), x.begin() + axis + 1, x.end());
  c.out = {TensorType{c.in[0]->dtype, y}};
}
struct GatherEval {
  static std::int64_t to_index(double v) { return static_cast<std::int64_t>(v); }
  static std::int64_t to_index(const Rational& v) { return v.get_num().get_si(); }
  template <class T>
  static void run(EvalArgs<T>& e) {
    const Array<T>&x = *e.in[0], &idx = *e.in[1];
    std::int64_t r = static_cast<std::int64_t>(x.shape.size());
    std::int64_t axis = normal_axis(e.node.attr_int("axis", 0), r, e.graph, e.node);
    std::int64_t outer = element_count(Shape(x.shape.begin(), x.shape.begin() + axis)), n = x.shape[axis];
    std::int64_t inner = element_count(Shape(x.shape.begin() + axis + 1, x.shape.end()));
    Shape s(x.shape.begin(), x.shape.begin() + axis);
    s.insert(s.end(), idx.shape.begin(), idx.shape.end());
    s.insert(s.end(), x.shape.begin() + axis + 1, x.shape.end());
    Array<T> y(s);
    std::int64_t m = static_cast<std::int64_t>(idx.v.size());
    for (std::int64_t o = 0; o < outer; ++o)
      for (std::int64_t j = 0; j < m; ++j) {
        std::int64_t k = to_index(idx.v[j]);
        if (k < 0) k += n;
        if (k < 0 || k >= n) throw node_error(e.graph, e.node, fmt::format("index {} is outside [0, {})", k, n));
        for (std::int64_t i = 0; i < inner; ++i) y.v[(o * m + j) * inner + i] = x.v[(o * n + k) * inner + i];
      }
    e.out[0] = std::move(y);
  }
};

std::vector<std::int64_t> permutation(const Graph& g, const Node& n, std::size_t rank) {
  std::vector<std::int64_t> p(rank);
  for (std::size_t i = 0; i < rank; ++i) p[i] = static_cast<std::int64_t>(rank - 1 - i);
  p = n.attr_ints("perm", p);
  std::vector<bool> seen(rank);
  if (p.size() != rank) throw node_error(g, n, fmt::format("perm has {} entries for rank {}", p.size(), rank));
  for (auto a : p) {
    if (a < 0 || a >= static_cast<std::int64_t>(rank) || seen[a]) throw node_error(g, n, "perm is not a permutation");
    seen[a] = true;
  }
  return p;
}
void infer_transpose(InferContext& c) {
  const Dims& x = c.dims(0);
  Dims y;
  for (auto a : permutation(c.graph, c.node, x.size())) y.push_back(x[a]);
  c.out = {TensorType{c.in[0]->dtype, y}};
}
struct TransposeEval {
  template <class T>
  static void run(EvalArgs<T>& e) {
    const Array<T>& x = *e.in[0];
    auto p = permutation(e.graph, e.node, x.shape.size());
    Shape s;
    for (auto a : p) s.push_back(x.shape[a]);
    auto xs = row_major_strides(x.shape), ys = row_major_strides(s);
    Array<T> y(s);
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(y.v.size()); ++i) {
      std::int64_t rest = i, j = 0;
      for (std::size_t d = 0; d < s.size(); ++d) {
        j += rest / ys[d] * xs[p[d]];
        rest %= ys[d];
      }
      y.v[i] = x.v[j];
    }
    e.out[0] = std::move(y);
  }
};

void infer_concat(InferContext& c) {
  Dims y = c.dims(0);
  std::int64_t axis = normal_axis(c.node.attr_int("axis", 0), static_cast<std::int64_t>(y.size()), c.graph, c.node);
  for (std::size_t i = 1; i < c.in.size(); ++i) {
    const Dims& x = c.dims(i);
    if (c.in[i]->dtype != c.in[0]->dtype) c.fail("inputs have different element types");
    if (x.size() != y.size()) c.fail(fmt::format("input {} has rank {}, the first has {}", i, x.size(), y.size()));
    for (std::size_t d = 0; d < y.size(); ++d) {
      if (static_cast<std::int64_t>(d) == axis) {
        y[d] = y[d].known() && x[d].known() ? Dim(y[d].n + x[d].n) : Dim();
      } else if (y[d].known() && x[d].known() && y[d].n != x[d].n) {
        c.fail(fmt::format("extents differ outside the axis: {} and {}", to_string(y), to_string(x)));
      } else if (!y[d].known()) {
        y[d] = x[d];
      }
    }
  }
  c.out = {TensorType{c.in[0]->dtype, y}};
}
struct ConcatEval {
  template <class T>
  static void run(EvalArgs<T>& e) {
    Shape s = e.in[0]->shape;
    std::int64_t axis = normal_axis(e.node.attr_int("axis", 0), static_cast<std::int64_t>(s.size()), e.graph, e.node);
    s[axis] = 0;
    for (auto* x : e.in) s[axis] += x->shape[axis];
    std::int64_t outer = element_count(Shape(s.begin(), s.begin() + axis)), inner = element_count(Shape(s.begin() + axis + 1, s.end()));
    Array<T> y(s);
    std::int64_t at = 0;
    for (auto* x : e.in) {
      std::int64_t n = x->shape[axis];
      for (std::int64_t o = 0; o < outer; ++o)
        for (std::int64_t i = 0; i < n * inner; ++i) y.v[(o * s[axis] + at) * inner + i] = x->v[o * n * inner + i];
      at += n;
    }
    e.out[0] = std::move(y);
  }
};

Einsum reshape_einsum(const Graph& g, const Node& n) {  // both in row-major order
  Cascade c(g, n);
  c.rank("i", element_count(shape_of(g, n.outputs[0])));
  c.line("{}[i] = {}[i]", c.out(), c.in(0));
  return c.done();
}
Einsum gather_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0)), i = shape_of(g, n.in(1));
  const auto axis = static_cast<std::size_t>(normal_axis(n.attr_int("axis", 0), static_cast<std::int64_t>(x.size()), g, n));
  Cascade c(g, n);
  std::vector<std::string> from = c.ranks(x);
  const std::vector<std::string> picks = c.ranks(i, "xyzuvw");
  std::vector<std::string> to(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(axis));
  to.insert(to.end(), picks.begin(), picks.end());
  to.insert(to.end(), from.begin() + static_cast<std::ptrdiff_t>(axis) + 1, from.end());
  from[axis] = fmt::format("floor({})", at("J", picks));
  c.line("{} = fromend({},{})", at("J", picks), at(c.in(1), picks), x[axis]);
  c.line("{} = {}", at(c.out(), to), at(c.in(0), from));
  return c.done();
}
Einsum transpose_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0));
  std::vector<std::int64_t> perm = n.attr_ints("perm", {});
  if (perm.empty())
    for (std::size_t i = x.size(); i-- > 0;) perm.push_back(static_cast<std::int64_t>(i));
  Cascade c(g, n);
  const std::vector<std::string> from = c.ranks(x);
  std::vector<std::string> to;
  for (std::int64_t i : perm) to.push_back(from.at(static_cast<std::size_t>(i)));
  c.line("{} = {}", at(c.out(), to), at(c.in(0), from));
  return c.done();
}
Einsum concat_einsum(const Graph& g, const Node& n) {
  const Shape y = shape_of(g, n.outputs[0]);
  const auto axis = static_cast<std::size_t>(normal_axis(n.attr_int("axis", 0), static_cast<std::int64_t>(y.size()), g, n));
  Cascade c(g, n);
  std::vector<std::string> ranks = c.ranks(y);
  std::int64_t first = 0;
  for (std::size_t i = 0; i < n.inputs.size(); ++i) {
    const std::int64_t extent = shape_of(g, n.inputs[i])[axis];
    ranks[axis] = c.rank(fmt::format("a{}", i), extent);
    std::vector<std::string> to = ranks;
    to[axis] += fmt::format("+{}", first);
    c.line("{} = {}", at(c.out(), to), at(c.in(i), ranks));
    first += extent;
  }
  return c.done();
}

}  // namespace

const OpDef kFlatten{.domain = "", .name = "Flatten", .summary = "Reshape to a matrix.", .doc = "Extents before `axis` and from it on are multiplied.",
                     .source = "ONNX Flatten-13", .inputs = {{"X", "any shape"}}, .outputs = {{"Y", "matrix"}},
                     .attributes = {{"axis", AttrType::integer, "1", "first axis of the columns"}}, .closure = Closure::move,
                     .infer = infer_flatten, .eval = both<ReshapeEval>(), .einsum = reshape_einsum, .adjoint = adjoint_reshape_like};
const OpDef kReshape{.domain = "", .name = "Reshape", .summary = "The same elements in another shape.",
                     .doc = "0 copies the input's extent, one -1 is computed from the rest.", .source = "ONNX Reshape-14",
                     .inputs = {{"X", "any shape"}, {"shape", "i64 vector, constant at compile time"}}, .outputs = {{"Y", "shape"}},
                     .attributes = {{"allowzero", AttrType::integer, "0", "1: a 0 in shape means an empty extent"}}, .closure = Closure::move,
                     .infer = infer_reshape, .eval = both<ReshapeEval>(), .einsum = reshape_einsum, .adjoint = adjoint_reshape_like};
const OpDef kSqueeze{.domain = "", .name = "Squeeze", .summary = "Drops extents of 1.", .doc = "Drops `axes`, or every extent of 1.", .source = "ONNX Squeeze-13",
                     .inputs = {{"X", "any shape"}, {"axes", "i64 vector, constant", true}}, .outputs = {{"Y", "fewer axes"}},
                     .closure = Closure::move, .infer = infer_squeeze, .eval = both<ReshapeEval>(), .einsum = reshape_einsum, .adjoint = adjoint_reshape_like};
const OpDef kUnsqueeze{.domain = "", .name = "Unsqueeze", .summary = "Inserts extents of 1.", .doc = "`axes` are positions in the output.", .source = "ONNX Unsqueeze-13",
                       .inputs = {{"X", "any shape"}, {"axes", "i64 vector, constant"}}, .outputs = {{"Y", "more axes"}},
                       .closure = Closure::move, .infer = infer_unsqueeze, .eval = both<ReshapeEval>(), .einsum = reshape_einsum, .adjoint = adjoint_reshape_like};
const OpDef kShape{.domain = "", .name = "Shape", .summary = "The extents of a tensor; folded once they are known.", .doc = "Y = extents [start, end) of X.", .source = "ONNX Shape-15",
                   .inputs = {{"X", "any shape"}}, .outputs = {{"Y", "i64 vector"}},
                   .attributes = {{"start", AttrType::integer, "0", "first axis"}, {"end", AttrType::integer, "rank", "one past the last axis"}},
                   .closure = Closure::constant, .infer = infer_shape_op, .eval = both<ShapeEval>()};
const OpDef kGather{.domain = "", .name = "Gather", .summary = "Picks slices along an axis.", .doc = "Y[..., i, ...] = X[..., indices[i], ...]; negative indices count from the end.",
                    .source = "ONNX Gather-13", .inputs = {{"X", "any shape"}, {"indices", "integers, constant in exact graphs"}},
                    .outputs = {{"Y", "axis replaced by the shape of indices"}},
                    .attributes = {{"axis", AttrType::integer, "0", "the axis picked along"}}, .closure = Closure::move,
                    .infer = infer_gather, .eval = both<GatherEval>(), .einsum = gather_einsum, .adjoint = adjoint_gather};
const OpDef kTranspose{.domain = "", .name = "Transpose", .summary = "Permutes axes.", .doc = "Axis i of Y is axis perm[i] of X; default reverses.", .source = "ONNX Transpose-13",
                       .inputs = {{"X", "any shape"}}, .outputs = {{"Y", "permuted"}},
                       .attributes = {{"perm", AttrType::integers, "reversed", "a permutation of the axes"}}, .closure = Closure::move,
                       .infer = infer_transpose, .eval = both<TransposeEval>(), .einsum = transpose_einsum, .adjoint = adjoint_transpose};
const OpDef kConcat{.domain = "", .name = "Concat", .summary = "Joins tensors along an axis.", .doc = "Inputs follow each other along `axis`.", .source = "ONNX Concat-13",
                    .inputs = {{.name = "inputs", .doc = "equal extents outside the axis", .variadic = true}}, .outputs = {{"Y", "joined"}},
                    .attributes = {{"axis", AttrType::integer, "required", "the axis joined along"}}, .closure = Closure::move,
                    .infer = infer_concat, .eval = both<ConcatEval>(), .einsum = concat_einsum, .adjoint = adjoint_concat};

}  // namespace tandem::ir
