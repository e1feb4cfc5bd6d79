// Reductions over axes, running sums, the largest k.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/cascade.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

// The axes a reduction runs over: the attribute, or (where the operator takes them so) the second input. nullopt: not known yet.
template <class E>
std::optional<std::vector<bool>> reduced(const E& e, std::size_t rank, const std::optional<Ints>& input) {
  std::vector<bool> r(rank, false);
  Ints axes = e.node.attr_ints("axes", {});
  if (input) axes = *input;
  if (axes.empty()) return std::vector<bool>(rank, e.node.attr_int("noop_with_empty_axes", 0) == 0);
  for (std::int64_t a : axes) r[static_cast<std::size_t>(axis_of(e, a, rank))] = true;
  return r;
}
void infer_reduce(InferContext& c) {
  const Dims& x = c.dims(0);
  const bool keep = c.node.attr_int("keepdims", 1) != 0;
  std::optional<Ints> input;
  if (has(c, 1)) {
    if (!c.in_constant[1]) {
      c.out = {keep ? unknown_extents(c.in[0]->dtype, x.size()) : unknown_rank(c.in[0]->dtype)};
      return;
    }
    input = int_list(*c.in_constant[1]);
  }
  const auto r = *reduced(c, x.size(), input);
  Dims y;
  for (std::size_t i = 0; i < x.size(); ++i)
    if (!r[i]) y.push_back(x[i]);
    else if (keep) y.push_back(1);
  c.out = {TensorType{c.in[0]->dtype, y}};
}
struct Reduction {
  double start;
  double (*map)(double);
  double (*join)(double, double);
  double (*finish)(double, double n);
};
template <const Reduction* r>
void reduce_eval(EvalArgs<double>& e) {
  const Array<double>& x = *e.in[0];
  const std::size_t rank = x.shape.size();
  const auto over = *reduced(e, rank, has(e, 1) ? std::optional<Ints>(to_ints(*e.in[1])) : std::nullopt);
  Shape kept = x.shape, y_shape;
  double n = 1;
  for (std::size_t i = 0; i < rank; ++i) {
    if (over[i]) n *= static_cast<double>(x.shape[i]), kept[i] = 1;
    if (!over[i] || e.node.attr_int("keepdims", 1)) y_shape.push_back(kept[i]);
  }
  Array<double> y(y_shape);
  std::fill(y.v.begin(), y.v.end(), r->start);
  const Broadcaster to(kept, x.shape);
  // Log-sum-exp is taken around the largest element, so that it neither overflows nor loses all of them.
  const bool shifted = r->map == nullptr;
  Array<double> largest(y_shape);
  std::fill(largest.v.begin(), largest.v.end(), -INFINITY);
  if (shifted)
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(x.v.size()); ++i) largest.v[to(i)] = std::max(largest.v[to(i)], x.v[i]);
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(x.v.size()); ++i) {
    double& v = y.v[to(i)];
    const double m = shifted && std::isfinite(largest.v[to(i)]) ? largest.v[to(i)] : 0;
    v = r->join(v, shifted ? std::exp(x.v[i] - m) : r->map(x.v[i]));
  }
  for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = shifted ? std::log(y.v[i]) + (std::isfinite(largest.v[i]) ? largest.v[i] : 0) : r->finish(y.v[i], n);
  e.out[0] = std::move(y);
}
double same(double x) { return x; }
double plus(double a, double b) { return a + b; }
double keep(double v, double) { return v; }
constexpr Reduction kSumR{0, same, plus, keep}, kMeanR{0, same, plus, [](double v, double n) { return v / n; }},
    kProdR{1, same, [](double a, double b) { return a * b; }, keep}, kMaxR{-INFINITY, same, [](double a, double b) { return std::isnan(a) || a > b ? a : b; }, keep},
    kMinR{INFINITY, same, [](double a, double b) { return std::isnan(a) || a < b ? a : b; }, keep}, kL1R{0, [](double x) { return std::abs(x); }, plus, keep},
    kL2R{0, [](double x) { return x * x; }, plus, [](double v, double) { return std::sqrt(v); }}, kLogSumR{0, same, plus, [](double v, double) { return std::log(v); }},
    kLogSumExpR{0, nullptr, plus, keep}, kSumSquareR{0, [](double x) { return x * x; }, plus, keep};

void cumsum_eval(EvalArgs<double>& e) {
  const Array<double>& x = *e.in[0];
  if (e.in[1]->v.size() != 1) throw node_error(e.graph, e.node, "the axis must be a scalar");
  const Around a(x.shape, axis_of(e, to_int(e.in[1]->v[0]), x.shape.size()));
  const bool exclusive = e.node.attr_int("exclusive", 0) != 0, reverse = e.node.attr_int("reverse", 0) != 0;
  Array<double> y(x.shape);
  for (std::int64_t o = 0; o < a.outer; ++o)
    for (std::int64_t i = 0; i < a.inner; ++i) {
      double sum = 0;
      for (std::int64_t j = 0; j < a.n; ++j) {
        const std::int64_t at = a.at(o, reverse ? a.n - 1 - j : j, i);
        const double before = sum;
        sum += x.v[at];
        y.v[at] = exclusive ? before : sum;
      }
    }
  e.out[0] = std::move(y);
}

void infer_top(InferContext& c) {
  Dims y = c.dims(0);
  const auto a = static_cast<std::size_t>(axis_of(c, c.node.attr_int("axis", -1), y.size()));
  y[a] = Dim();
  if (c.in_constant[1]) {
    const std::int64_t k = c.in_constant[1]->size() == 1 ? c.in_constant[1]->int_at(0) : -1;
    if (k < 0 || (c.dims(0)[a].known() && k > c.dims(0)[a].n)) c.fail(fmt::format("k = {} of an axis of {}", k, c.dims(0)[a].known() ? fmt::format("{}", c.dims(0)[a].n) : "?"));
    y[a] = k;
  }
  c.out = {TensorType{c.in[0]->dtype, y}, TensorType{DType::i64, y}};
}
inline double number_of_double(double x) { return x; }
inline double number_of_double(const Rational& x) { return nearest_double(x); }
struct TopEval {
  template <class T>
  static void run(EvalArgs<T>& e) {
    const Array<T>& x = *e.in[0];
    const std::int64_t axis = normal_axis(e.node.attr_int("axis", -1), static_cast<std::int64_t>(x.shape.size()), e.graph, e.node);
    const Around a(x.shape, axis);
    const std::int64_t k = to_int(number_of_double(e.in[1]->v.at(0)));
    const bool largest = e.node.attr_int("largest", 1) != 0;
    Shape s = x.shape;
    s[static_cast<std::size_t>(axis)] = k;
    const Around b(s, axis);
    Array<T> y(s), index(s);
    Ints order(static_cast<std::size_t>(a.n));
    for (std::int64_t o = 0; o < a.outer; ++o)
      for (std::int64_t i = 0; i < a.inner; ++i) {
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](std::int64_t p, std::int64_t q) {  // equal ones: the lower index first
          const T &u = x.v[static_cast<std::size_t>(a.at(o, p, i))], &v = x.v[static_cast<std::size_t>(a.at(o, q, i))];
          return largest ? u > v : u < v;
        });
        for (std::int64_t j = 0; j < k; ++j) {
          y.v[b.at(o, j, i)] = x.v[a.at(o, order[static_cast<std::size_t>(j)], i)];
          index.v[b.at(o, j, i)] = T(static_cast<double>(order[static_cast<std::size_t>(j)]));
        }
      }
    e.out[0] = std::move(y);
    if (e.out.size() > 1) e.out[1] = std::move(index);
  }
};

// Of a reduction whose axes are known.
Einsum reduce_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0));
  const auto input = known_ints(g, n.in(1));
  if (n.in(1) != kNone && !input) return {};
  struct Here {
    const Graph& graph;
    const Node& node;
  };
  const std::vector<bool> over = *reduced(Here{g, n}, x.size(), input);
  const bool keep_axes = n.attr_int("keepdims", 1) != 0;
  Cascade c(g, n);
  const std::vector<std::string> from = c.ranks(x);
  std::vector<std::string> to;
  std::int64_t count = 1;
  for (std::size_t d = 0; d < x.size(); ++d) {
    if (over[d]) count *= x[d];
    if (!over[d]) to.push_back(from[d]);
    else if (keep_axes) to.push_back("0");
  }
  const std::string X = at("X", from), Y = at("Y", to), S = at("S", to), op = n.op.substr(6);
  if (op == "Sum") c.line("{} += {}", Y, X);
  else if (op == "Prod") c.line("{} mul= {}", Y, X);
  else if (op == "Max") c.line("{} max= {}", Y, X);
  else if (op == "Min") c.line("{} min= {}", Y, X);
  else if (op == "L1") c.line("{} += abs({})", Y, X);
  else if (op == "SumSquare") c.line("{} += {} * {}", Y, X, X);
  else if (op == "Mean") c.line("{} += {}", S, X), c.line("{} = {} / {}", Y, S, count);
  else if (op == "LogSum") c.line("{} += {}", S, X), c.line("{} = log({})", Y, S);
  else if (op == "L2") c.line("{} += {} * {}", S, X, X), c.line("{} = sqrt({})", Y, S);
  else {
    const std::string M = at("M", to), L = at("L", to), D = at("D", from), E = at("E", from);
    c.line("{} max= {}", M, X);
    c.line("{} = {} - {}", D, X, M);
    c.line("{} = exp({})", E, D);
    c.line("{} += {}", S, E);
    c.line("{} = log({})", L, S);
    c.line("{} = {} + {}", Y, M, L);
  }
  return c.done();
}
Einsum cumsum_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0));
  const auto axis = known_ints(g, n.in(1));
  if (!axis || axis->size() != 1 || x.empty()) return {};
  const auto a = static_cast<std::size_t>(normal_axis(axis->at(0), static_cast<std::int64_t>(x.size()), g, n));
  Cascade c(g, n);
  std::vector<std::string> before = c.ranks(x), after = before, first = before, here = before;
  const std::string k = before[a];
  first[a] = "0", after[a] = k + "+1";
  if (n.attr_int("reverse", 0)) here[a] = fmt::format("{}-{}", x[a] - 1, k);
  c.line("{} = 0", at("S", first));
  c.line("for {}: {} = {} + {}", k, at("S", after), at("S", before), at("X", here));
  c.line("{} = {}", at("Y", here), at("S", n.attr_int("exclusive", 0) ? before : after));
  return c.done();
}

void sample_reduce(const OpDef& op, Sample& s) {
  const Shape x = s.shape();
  std::map<std::string, Attribute> attrs{{"keepdims", s.r.range(0, 1)}};
  std::vector<ValueId> in{s.input(x, op.name == "ReduceLogSum" ? 0.5 : -2, 2)};
  if (s.r.chance(0.7)) {
    Ints axes;
    for (std::size_t i = 0; i < x.size(); ++i)
      if (axes.empty() || s.r.chance(0.5)) axes.push_back(static_cast<std::int64_t>(i) - (s.r.chance(0.5) ? static_cast<std::int64_t>(x.size()) : 0));
    if (op.name == "ReduceSum") in.push_back(s.ints(axes));
    else attrs["axes"] = axes;
  }
  s.node(op, in, attrs);
}
void sample_cumsum(const OpDef& op, Sample& s) {
  const Shape x = s.shape();
  const ValueId v = s.input(x);
  s.node(op, {v, s.scalar(static_cast<double>(s.axis(x.size())), DType::i64)}, {{"exclusive", s.r.range(0, 1)}, {"reverse", s.r.range(0, 1)}});
}
void sample_top(const OpDef& op, Sample& s) {
  const Shape x = s.shape();
  const std::int64_t axis = s.axis(x.size());
  const std::int64_t n = x[static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(x.size()) : axis)];
  const ValueId v = s.input(x);
  s.node(op, {v, s.ints({s.r.range(1, n)})}, {{"axis", axis}, {"largest", s.r.range(0, 1)}}, 2);
}

#define REDUCE(op_name, says, formula, from, r)                                                                                                           \
  OpDef {                                                                                                                                                 \
    .domain = "", .name = op_name, .summary = says, .doc = formula, .source = from,                                                                       \
    .inputs = {{"X", "any shape"}, {"axes", "i64 vector; default every axis", true}}, .outputs = {{"Y", "axes dropped or of extent 1"}},                   \
    .attributes = {{"axes", AttrType::integers, "every axis", "the axes reduced, where they are no input"}, {"keepdims", AttrType::integer, "1", "1: keep the axes with extent 1"}, \
                   {"noop_with_empty_axes", AttrType::integer, "0", "1: no axes reduce nothing"}},                                                        \
    .infer = infer_reduce, .eval = {reduce_eval<&r>, nullptr}, .einsum = reduce_einsum, .adjoint = adjoint_reduce, .sample = sample_reduce                                                                    \
  }
const OpDef kOps[] = {
    REDUCE("ReduceSum", "Sum over axes.", "Y = sum X.", "ONNX ReduceSum-13", kSumR),
    REDUCE("ReduceMean", "Mean over axes.", "Y = sum X / n.", "ONNX ReduceMean-18", kMeanR),
    REDUCE("ReduceProd", "Product over axes.", "Y = product X.", "ONNX ReduceProd-18", kProdR),
    REDUCE("ReduceMax", "Maximum over axes.", "Y = max X; NaN wins.", "ONNX ReduceMax-20", kMaxR),
    REDUCE("ReduceMin", "Minimum over axes.", "Y = min X; NaN wins.", "ONNX ReduceMin-20", kMinR),
    REDUCE("ReduceL1", "Sum of magnitudes over axes.", "Y = sum |X|.", "ONNX ReduceL1-18", kL1R),
    REDUCE("ReduceL2", "Euclidean length over axes.", "Y = sqrt(sum X^2).", "ONNX ReduceL2-18", kL2R),
    REDUCE("ReduceLogSum", "Logarithm of the sum over axes.", "Y = ln(sum X).", "ONNX ReduceLogSum-18", kLogSumR),
    REDUCE("ReduceLogSumExp", "Logarithm of the sum of exponentials over axes.", "Y = m + ln(sum exp(X - m)), m = max X.", "ONNX ReduceLogSumExp-18", kLogSumExpR),
    REDUCE("ReduceSumSquare", "Sum of squares over axes.", "Y = sum X^2.", "ONNX ReduceSumSquare-18", kSumSquareR),
    OpDef{.domain = "", .name = "CumSum", .summary = "Running sum along an axis.", .doc = "Y[k] = sum over j <= k of X[j]; exclusive = 1: j < k; reverse = 1: from the end.",
          .source = "ONNX CumSum-14", .inputs = {{"X", "any shape"}, {"axis", "an integer"}}, .outputs = {{"Y", "shape of X"}},
          .attributes = {{"exclusive", AttrType::integer, "0", "1: without the element itself"}, {"reverse", AttrType::integer, "0", "1: from the end"}},
          .infer = infer_first, .eval = {cumsum_eval, nullptr}, .einsum = cumsum_einsum, .adjoint = adjoint_cumsum, .sample = sample_cumsum},
    OpDef{.domain = "", .name = "TopK", .summary = "The k largest (or smallest) elements along an axis, and their indices.",
          .doc = "Sorted; of equal elements the one of the lower index comes first. After an exact value it is taken on the exact value.", .source = "ONNX TopK-11",
          .inputs = {{"X", "any shape"}, {"K", "one integer"}}, .outputs = {{"Values", "k along the axis"}, {"Indices", "i64, as Values", true}},
          .attributes = {{"axis", AttrType::integer, "-1", "the axis sorted"}, {"largest", AttrType::integer, "1", "0: the smallest"}, {"sorted", AttrType::integer, "1", "always sorted"}},
          .closure = Closure::index, .infer = infer_top, .eval = both<TopEval>(), .adjoint = adjoint_topk, .sample = sample_top},
};
#undef REDUCE

}  // namespace

std::span<const OpDef> reduce_ops() { return kOps; }

}  // namespace tandem::ir
