// Einsum and determinants.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/expansions.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Args = EvalArgs<double>;

// "ij,jk->ik" with its ellipses spelled out: one label per axis. Labels of an ellipsis are '0', '1', ... from its last axis.
struct Equation {
  std::vector<std::string> in;
  std::string out;
};
Equation parsed(const Graph& g, const Node& n, const std::vector<std::size_t>& ranks) {
  std::string text;
  for (char c : n.attr_string("equation", ""))
    if (c != ' ') text += c;
  const auto bad = [&](std::string what) { return node_error(g, n, fmt::format("equation '{}': {}", printable(text), what)).expected("labels like ij,jk->ik"); };
  const std::size_t arrow = text.find("->");
  std::vector<std::string> terms(1);
  for (char c : text.substr(0, arrow)) {
    if (c == ',') terms.emplace_back();
    else terms.back() += c;
  }
  if (terms.size() != ranks.size()) throw bad(fmt::format("{} operands for {} inputs", terms.size(), ranks.size()));
  std::size_t widest = 0;
  const auto spelled = [&](const std::string& term, std::optional<std::size_t> rank) {
    const std::size_t dots = term.find("...");
    const std::string bare = dots == std::string::npos ? term : term.substr(0, dots) + term.substr(dots + 3);
    for (char c : bare)
      if (!std::isalpha(static_cast<unsigned char>(c))) throw bad(fmt::format("'{}' is no label", c));
    if (rank && (bare.size() > *rank || (dots == std::string::npos && bare.size() != *rank))) throw bad(fmt::format("'{}' for an input of rank {}", term, *rank));
    const std::size_t free = dots == std::string::npos ? 0 : rank ? *rank - bare.size() : widest;
    if (free > 10) throw bad("an ellipsis of more than ten axes");
    widest = std::max(widest, free);
    if (dots == std::string::npos) return bare;
    std::string labels;
    for (std::size_t i = free; i-- > 0;) labels += static_cast<char>('0' + i);
    return bare.substr(0, dots) + labels + bare.substr(dots);
  };
  Equation e;
  for (std::size_t i = 0; i < terms.size(); ++i) e.in.push_back(spelled(terms[i], ranks[i]));
  if (arrow != std::string::npos) {
    e.out = spelled(text.substr(arrow + 2), std::nullopt);
    for (std::size_t i = 0; i < e.out.size(); ++i)
      if (e.out.find(e.out[i], i + 1) != std::string::npos) throw bad(fmt::format("'{}' twice in the output", e.out[i]));
  } else {  // the labels that occur once, in order, behind the ellipsis
    std::map<char, int> uses;
    for (const std::string& t : e.in)
      for (char c : t) ++uses[c];
    for (std::size_t i = widest; i-- > 0;) e.out += static_cast<char>('0' + i);
    for (const auto& [c, k] : uses)
      if (k == 1 && !std::isdigit(static_cast<unsigned char>(c))) e.out += c;
  }
  for (char c : e.out)
    if (std::none_of(e.in.begin(), e.in.end(), [&](const std::string& t) { return t.find(c) != std::string::npos; })) throw bad(fmt::format("'{}' is in no operand", c));
  return e;
}
// Extent of each label; axes of extent 1 under an ellipsis broadcast.
std::map<char, Dim> extents(const Graph& g, const Node& n, const Equation& q, const std::vector<Dims>& dims) {
  std::map<char, Dim> e;
  for (std::size_t i = 0; i < dims.size(); ++i)
    for (std::size_t d = 0; d < dims[i].size(); ++d) {
      const char c = q.in[i][d];
      const auto [at, fresh] = e.emplace(c, dims[i][d]);
      const Dim& x = dims[i][d];
      if (fresh || !x.known()) continue;
      const bool broadcasts = std::isdigit(static_cast<unsigned char>(c)) != 0;
      if (!at->second.known() || (broadcasts && at->second.n == 1)) at->second = x;
      else if (at->second.n != x.n && !(broadcasts && x.n == 1)) throw node_error(g, n, fmt::format("label '{}' stands for {} and {}", c, at->second.n, x.n));
    }
  return e;
}
void infer_einsum(InferContext& c) {
  std::vector<std::size_t> ranks;
  std::vector<Dims> dims;
  for (std::size_t i = 0; i < c.in.size(); ++i) {
    dims.push_back(c.dims(i));
    ranks.push_back(dims.back().size());
    if (c.in[i]->dtype != c.in[0]->dtype) c.fail("inputs have different element types");
  }
  const Equation q = parsed(c.graph, c.node, ranks);
  const auto e = extents(c.graph, c.node, q, dims);
  Dims y;
  for (char l : q.out) y.push_back(e.at(l));
  c.out = {TensorType{c.in[0]->dtype, y}};
}
// Labels in the order output, then contracted; the positions run over all of them.
struct Loops {
  Equation equation;
  std::string labels;
  Shape shape;
};
Loops loops_of(const Graph& g, const Node& n, const std::vector<Shape>& shapes) {
  std::vector<std::size_t> ranks;
  std::vector<Dims> dims;
  for (const Shape& s : shapes) ranks.push_back(s.size()), dims.push_back(dims_of(s));
  Loops l{parsed(g, n, ranks), "", {}};
  const auto e = extents(g, n, l.equation, dims);
  l.labels = l.equation.out;
  for (const auto& [c, d] : e)
    if (l.labels.find(c) == std::string::npos) l.labels += c;
  for (char c : l.labels) l.shape.push_back(e.at(c).n);
  return l;
}
struct EinsumEval {
  template <class T>
  static void run(EvalArgs<T>& e) {
    std::vector<Shape> shapes;
    for (const Array<T>* a : e.in) shapes.push_back(a->shape);
    const Loops l = loops_of(e.graph, e.node, shapes);
    const auto kept = static_cast<std::ptrdiff_t>(l.equation.out.size());
    const Shape ys(l.shape.begin(), l.shape.begin() + kept);
    Array<T> y(ys);
    std::fill(y.v.begin(), y.v.end(), T(0));
    std::vector<Shape> stride(shapes.size(), Shape(l.labels.size(), 0));  // of each operand along each label; a repeated label adds up
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      const Shape s = row_major_strides(shapes[i]);
      for (std::size_t d = 0; d < s.size(); ++d)
        if (shapes[i][d] != 1) stride[i][l.labels.find(l.equation.in[i][d])] += s[d];
    }
    const std::int64_t inner = element_count(Shape(l.shape.begin() + kept, l.shape.end()));
    if (element_count(l.shape) == 0) {
      e.out[0] = std::move(y);
      return;
    }
    Shape at(l.shape.size(), 0);
    std::int64_t k = 0;
    do {
      T product(1);
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        std::int64_t from = 0;
        for (std::size_t d = 0; d < at.size(); ++d) from += at[d] * stride[i][d];
        product *= e.in[i]->v[static_cast<std::size_t>(from)];
      }
      y.v[static_cast<std::size_t>(k++ / inner)] += product;
    } while (next(at, l.shape));
    e.out[0] = std::move(y);
  }
};
Einsum einsum_of(const Graph& g, const Node& n) {
  std::vector<Shape> shapes;
  for (ValueId v : n.inputs) shapes.push_back(shape_of(g, v));
  const Loops l = loops_of(g, n, shapes);
  Einsum e;
  const auto rank = [&](char c) { return static_cast<int>(l.labels.find(c)); };
  for (std::size_t d = 0; d < l.labels.size(); ++d) e.ranks.push_back({std::string(1, l.labels[d]), l.shape[d], d >= l.equation.out.size()});
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    Access a{fmt::format("X{}", i), {}};
    for (std::size_t d = 0; d < shapes[i].size(); ++d)
      a.indices.push_back(shapes[i][d] == 1 && l.shape[static_cast<std::size_t>(rank(l.equation.in[i][d]))] != 1 ? AffineIndex{} : index_of(rank(l.equation.in[i][d])));
    e.inputs.push_back(std::move(a));
  }
  e.output = {"Y", {}};
  for (char c : l.equation.out) e.output.indices.push_back(index_of(rank(c)));
  return e;
}
// dX_i[...] += dY[...] * the other operands, over the same loops.
void einsum_grad_eval(Args& e) {
  const auto which = static_cast<std::size_t>(e.node.attr_int("operand", 0));
  std::vector<Shape> shapes;
  for (std::size_t i = 1; i < e.in.size(); ++i) shapes.push_back(e.in[i]->shape);
  if (which >= shapes.size()) throw node_error(e.graph, e.node, fmt::format("operand {} of {}", which, shapes.size()));
  const Loops l = loops_of(e.graph, e.node, shapes);
  Array<double> d(shapes[which]);
  std::vector<Shape> stride(shapes.size(), Shape(l.labels.size(), 0));
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const Shape s = row_major_strides(shapes[i]);
    for (std::size_t k = 0; k < s.size(); ++k)
      if (shapes[i][k] != 1) stride[i][l.labels.find(l.equation.in[i][k])] += s[k];
  }
  const std::int64_t inner = element_count(Shape(l.shape.begin() + static_cast<std::ptrdiff_t>(l.equation.out.size()), l.shape.end()));
  if (element_count(l.shape) > 0) {
    Shape at(l.shape.size(), 0);
    std::int64_t k = 0;
    do {
      double product = e.in[0]->v.at(static_cast<std::size_t>(k++ / inner));
      std::int64_t to = 0;
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        std::int64_t from = 0;
        for (std::size_t a = 0; a < at.size(); ++a) from += at[a] * stride[i][a];
        if (i == which) to = from;
        else product *= e.in[i + 1]->v[static_cast<std::size_t>(from)];
      }
      d.v[static_cast<std::size_t>(to)] += product;
    } while (next(at, l.shape));
  }
  e.out[0] = std::move(d);
}
void infer_einsum_grad(InferContext& c) {
  const auto i = static_cast<std::size_t>(c.node.attr_int("operand", 0)) + 1;
  c.dims(i);
  c.out = {TensorType{c.in[0]->dtype, c.in[i]->dims}};
}
std::vector<ValueId> adjoint_einsum(Graph& g, const Node& node, std::span<const ValueId> grad) {
  const Node n = node;
  std::vector<ValueId> d(n.inputs.size(), kNone);
  if (grad.empty() || grad[0] == kNone) return d;
  const std::string base = n.name.empty() ? g.values[static_cast<std::size_t>(n.outputs[0])].name : n.name;
  for (std::size_t i = 0; i < d.size(); ++i) {
    std::vector<ValueId> in{grad[0]};
    in.insert(in.end(), n.inputs.begin(), n.inputs.end());
    d[i] = g.add_node("EinsumGrad", in, {{"equation", n.attr_string("equation", "")}, {"operand", static_cast<std::int64_t>(i)}}, fmt::format("{}/d{}", base, i), "tandem");
  }
  return d;
}
void sample_einsum(const OpDef& op, Sample& s) {
  static const char* equations[] = {"ij,jk->ik", "bij,bjk->bik", "...ij,...jk->...ik", "ii->i", "ij->ji", "i,j", "bi,bj,bk->bijk", "ij->"};
  const std::string q = equations[s.r.range(0, 7)];
  std::map<char, std::int64_t> extent;
  std::vector<ValueId> in;
  const std::string left = q.substr(0, q.find("->")) + ",";
  const std::int64_t free = s.r.range(0, 2);
  Shape x;
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (left[i] == ',') {
      in.push_back(s.input(x));
      x.clear();
    } else if (left[i] == '.') {
      if (i + 1 < left.size() && left[i + 1] == '.' && (i == 0 || left[i - 1] != '.'))
        for (std::int64_t d = 0; d < free; ++d) x.push_back(extent.emplace(static_cast<char>('0' + d), s.r.range(1, 3)).first->second);
    } else {
      x.push_back(extent.emplace(left[i], s.r.range(1, 3)).first->second);
    }
  }
  s.node(op, in, {{"equation", q}});
}

void infer_det(InferContext& c) {
  const Dims& x = c.dims(0);
  if (x.size() < 2) c.fail(fmt::format("input {}", to_string(x)), "square matrices");
  const Dim &a = x[x.size() - 2], &b = x[x.size() - 1];
  if (a.known() && b.known() && a.n != b.n) c.fail(fmt::format("matrices of {} x {}", a.n, b.n), "square ones");
  c.out = {TensorType{c.in[0]->dtype, Dims(x.begin(), x.end() - 2)}};
}
struct DetEval {
  template <class T>
  static T magnitude(const T& x) { return x < 0 ? T(-x) : x; }
  template <class T>
  static void run(EvalArgs<T>& e) {
    const Array<T>& x = *e.in[0];
    const auto n = static_cast<std::size_t>(x.shape.back());
    Array<T> y(Shape(x.shape.begin(), x.shape.end() - 2));
    for (std::size_t m = 0; m < y.v.size(); ++m) {
      std::vector<T> a(x.v.begin() + static_cast<std::ptrdiff_t>(m * n * n), x.v.begin() + static_cast<std::ptrdiff_t>((m + 1) * n * n));
      T det(1);
      for (std::size_t k = 0; k < n; ++k) {  // Gauss with the largest pivot
        std::size_t p = k;
        for (std::size_t i = k + 1; i < n; ++i)
          if (magnitude(a[i * n + k]) > magnitude(a[p * n + k])) p = i;
        if (a[p * n + k] == 0) {
          det = T(0);
          break;
        }
        if (p != k) {
          for (std::size_t j = k; j < n; ++j) std::swap(a[p * n + j], a[k * n + j]);
          det = -det;
        }
        det *= a[k * n + k];
        for (std::size_t i = k + 1; i < n; ++i) {
          const T f = a[i * n + k] / a[k * n + k];
          for (std::size_t j = k; j < n; ++j) a[i * n + j] -= f * a[k * n + j];
        }
      }
      y.v[m] = det;
    }
    e.out[0] = std::move(y);
  }
};
void sample_det(const OpDef& op, Sample& s) {
  Shape x = s.shape(0, 2);
  const std::int64_t n = s.r.range(1, 4);
  x.insert(x.end(), {n, n});
  s.node(op, {s.input(x)});
}
const OpDef kOps[] = {
    OpDef{.domain = "", .name = "Einsum", .summary = "Sum of products over labelled axes.", .doc = "Y = sum over the labels that the output lacks of the product of the operands; a label that occurs twice in an operand takes its diagonal.",
          .source = "ONNX Einsum-12", .inputs = {{"X", "operands", false, true}}, .outputs = {{"Y", "one axis per label of the output"}},
          .attributes = {{"equation", AttrType::string, "required", "as in ij,jk->ik; ... stands for further axes"}}, .infer = infer_einsum, .eval = both<EinsumEval>(), .einsum = einsum_of, .adjoint = adjoint_einsum, .sample = sample_einsum},
    OpDef{.domain = "tandem", .name = "EinsumGrad", .summary = "Gradient of Einsum to one operand.", .doc = "dX_i = sum over the labels of dY and the other operands' product; a label that only X_i has spreads.",
          .source = "vector-Jacobian product of ONNX Einsum-12", .inputs = {{"dY", "gradient of the output"}, {"X", "operands", false, true}}, .outputs = {{"dX", "of the extents of the operand"}},
          .attributes = {{"equation", AttrType::string, "required", "as in Einsum"}, {"operand", AttrType::integer, "0", "whose gradient"}}, .infer = infer_einsum_grad, .eval = {einsum_grad_eval, nullptr}},
    OpDef{.domain = "", .name = "Det", .summary = "Determinant.", .doc = "Of the matrices in the last two axes, by elimination.", .source = "ONNX Det-11", .inputs = {{"X", "[..., n, n]"}}, .outputs = {{"Y", "[...]"}},
          .infer = infer_det, .eval = both<DetEval>(), .adjoint = adjoint_expanded, .expansion = expand_det, .sample = sample_det},
};

}  // namespace

std::span<const OpDef> algebra_ops() { return kOps; }

}  // namespace tandem::ir
