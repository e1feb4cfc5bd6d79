// ArgMax, ArgMin, Delay.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/cascade.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

void infer_index(InferContext& c) {
  const Dims& x = c.dims(0);
  std::int64_t axis = normal_axis(c.node.attr_int("axis", 0), static_cast<std::int64_t>(x.size()), c.graph, c.node);
  Dims y = x;
  if (c.node.attr_int("keepdims", 1)) y[axis] = 1;
  else y.erase(y.begin() + axis);
  c.out = {TensorType{DType::i64, y}};
}
template <bool largest>
struct IndexEval {
  template <class T>
  static void run(EvalArgs<T>& e) {
    const Array<T>& x = *e.in[0];
    std::int64_t r = static_cast<std::int64_t>(x.shape.size());
    std::int64_t axis = normal_axis(e.node.attr_int("axis", 0), r, e.graph, e.node), n = x.shape[axis];
    bool last = e.node.attr_int("select_last_index", 0);
    std::int64_t outer = element_count(Shape(x.shape.begin(), x.shape.begin() + axis));
    std::int64_t inner = element_count(Shape(x.shape.begin() + axis + 1, x.shape.end()));
    Shape s = x.shape;
    if (e.node.attr_int("keepdims", 1)) s[axis] = 1;
    else s.erase(s.begin() + axis);
    Array<T> y(s);
    for (std::int64_t o = 0; o < outer; ++o)
      for (std::int64_t i = 0; i < inner; ++i) {
        std::int64_t best = 0;
        for (std::int64_t k = 1; k < n; ++k) {
          const T &a = x.v[(o * n + k) * inner + i], &b = x.v[(o * n + best) * inner + i];
          if ((largest ? a > b : a < b) || (last && a == b)) best = k;
        }
        y.v[o * inner + i] = T(static_cast<long>(best));
      }
    e.out[0] = std::move(y);
  }
};
Einsum argmax_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0));
  const auto axis = static_cast<std::size_t>(normal_axis(n.attr_int("axis", 0), static_cast<std::int64_t>(x.size()), g, n));
  const bool least = n.op == "ArgMin", last = n.attr_int("select_last_index", 0) != 0;
  Cascade c(g, n);
  std::vector<std::string> from = c.ranks(x), to = from;
  const std::string all = at("X", from), k = from[axis];
  if (n.attr_int("keepdims", 1)) to[axis] = "0";
  else to.erase(to.begin() + static_cast<std::ptrdiff_t>(axis));
  if (!least && !last) {
    c.line("{} argmax= pair({},{{{}}})", at(c.out(), to), all, k);
    return c.done();
  }
  // The first of equal ones is kept: for the last one the axis is walked backwards.
  from[axis] = last ? fmt::format("{}-{}", x[axis] - 1, k) : k;
  std::string values = at("X", from);
  if (least) {
    std::vector<std::string> plain = c.ranks(x);
    c.line("{} = neg({})", at("Opposite", plain), at("X", plain));
    values = at("Opposite", from);
  }
  c.line("{} argmax= pair({},{{{}}})", at(c.out(), to), values, from[axis]);
  return c.done();
}

void infer_delay(InferContext& c) {
  if (c.node.attr_int("depth", 1) < 1) c.fail("depth must be at least 1", "a delay of one tick or more");
  auto shape = c.node.attr_ints("shape", {});
  TensorType t{DType::f32, Dims(shape.begin(), shape.end())};
  for (auto d : shape)
    if (d < 0) c.fail("shape has a negative extent");
  if (c.in[0] && c.in[0]->dims && all_known(*c.in[0]->dims) && *c.in[0]->dims != *t.dims)
    c.fail(fmt::format("input has shape {}, the delay states {}", to_string(*c.in[0]->dims), to_string(*t.dims)));
  c.out = {t};
}
struct DelayEval {  // the evaluators hold the state; a Delay evaluated as a function would have none
  template <class T>
  static void run(EvalArgs<T>& e) {
    throw node_error(e.graph, e.node, "a Delay has no value without state");
  }
};

const std::vector<AttrDef> kIndexAttributes{{"axis", AttrType::integer, "0", "the axis searched"}, {"keepdims", AttrType::integer, "1", "1: keep the axis with extent 1"},
                                            {"select_last_index", AttrType::integer, "0", "1: ties give the highest index"}};
void sample_index(const OpDef& op, Sample& s) {
  const Shape x = s.shape();
  s.node(op, {s.input(x, 0, 3, DType::i32)}, {{"axis", s.axis(x.size())}, {"keepdims", s.r.range(0, 1)}, {"select_last_index", s.r.range(0, 1)}});
}

}  // namespace

const OpDef kArgMax{.domain = "", .name = "ArgMax", .summary = "Index of the largest element along an axis.",
                    .doc = "Ties give the lowest index (select_last_index = 1: the highest). After an exact value it is taken on the exact value.",
                    .source = "ONNX ArgMax-13", .inputs = {{"X", "any shape"}}, .outputs = {{"Y", "i64"}},
                    .attributes = kIndexAttributes,
                    .closure = Closure::index, .infer = infer_index, .eval = both<IndexEval<true>>(), .einsum = argmax_einsum,
                    .sample = sample_index};
const OpDef kArgMin{.domain = "", .name = "ArgMin", .summary = "Index of the smallest element along an axis.", .doc = "Ties give the lowest index (select_last_index = 1: the highest).",
                    .source = "ONNX ArgMin-13", .inputs = {{"X", "any shape"}}, .outputs = {{"Y", "i64"}}, .attributes = kIndexAttributes,
                    .infer = infer_index, .eval = both<IndexEval<false>>(), .sample = sample_index};
const OpDef kDelay{.domain = "tandem", .name = "Delay", .summary = "The input of an earlier tick: an operator with state.",
                   .doc = "Y(t) = X(t - depth); before that, init. A cycle in the graph is legal iff it contains a Delay.", .source = "docs/semantics.md",
                   .inputs = {{"X", "the stated shape"}, {"init", "constant of that shape; default 0", true}}, .outputs = {{"Y", "the stated shape"}},
                   .attributes = {{"depth", AttrType::integer, "1", "ticks"}, {"shape", AttrType::integers, "required", "extents of the value"}},
                   .closure = Closure::state, .infer = infer_delay, .eval = both<DelayEval>()};

}  // namespace tandem::ir
