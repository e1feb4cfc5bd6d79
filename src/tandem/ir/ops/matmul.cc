// MatMul and Gemm.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/cascade.h"

namespace tandem::ir {

MatMulShape matmul_shape(const Graph& g, const Node& node, const Shape& a0, const Shape& b0) {
  Shape a = a0, b = b0;
  MatMulShape r{};
  if (a.empty() || b.empty()) throw node_error(g, node, "MatMul of a scalar");
  r.a_vector = a.size() == 1;
  r.b_vector = b.size() == 1;
  if (r.a_vector) a.insert(a.begin(), 1);
  if (r.b_vector) b.push_back(1);
  r.n = a[a.size() - 2];
  r.k = a.back();
  r.m = b.back();
  if (r.k != b[b.size() - 2])
    throw node_error(g, node, fmt::format("inner extents differ: {} x {}", to_string(a0), to_string(b0)));
  r.batch = broadcast(Shape(a.begin(), a.end() - 2), Shape(b.begin(), b.end() - 2));
  r.out = r.batch;
  if (!r.a_vector) r.out.push_back(r.n);
  if (!r.b_vector) r.out.push_back(r.m);
  return r;
}

namespace {

void infer_matmul(InferContext& c) {
  Dims a = c.dims(0), b = c.dims(1);
  if (a.empty() || b.empty()) c.fail("MatMul of a scalar");
  bool av = a.size() == 1, bv = b.size() == 1;
  if (av) a.insert(a.begin(), Dim(1));
  if (bv) b.push_back(Dim(1));
  Dim ka = a.back(), kb = b[b.size() - 2];
  if (ka.known() && kb.known() && ka.n != kb.n)
    c.fail(fmt::format("inner extents differ: {} x {}", to_string(c.dims(0)), to_string(c.dims(1))));
  Dims out = broadcast_dims(c, Dims(a.begin(), a.end() - 2), Dims(b.begin(), b.end() - 2));
  if (!av) out.push_back(a[a.size() - 2]);
  if (!bv) out.push_back(b.back());
  c.out = {TensorType{c.in[0]->dtype, out}};
}

struct MatMulEval {
  template <class T>
  static void run(EvalArgs<T>& e) {
    const Array<T>&a = *e.in[0], &b = *e.in[1];
    MatMulShape s = matmul_shape(e.graph, e.node, a.shape, b.shape);
    Array<T> y(s.out);
    Shape ab = a.shape, bb = b.shape;
    if (s.a_vector) ab.insert(ab.begin(), 1);
    if (s.b_vector) bb.push_back(1);
    Broadcaster ia(Shape(ab.begin(), ab.end() - 2), s.batch), ib(Shape(bb.begin(), bb.end() - 2), s.batch);
    std::int64_t batches = element_count(s.batch);
    for (std::int64_t i = 0; i < batches; ++i) {
      const T *pa = a.v.data() + ia(i) * s.n * s.k, *pb = b.v.data() + ib(i) * s.k * s.m;
      for (std::int64_t r = 0; r < s.n; ++r)
        for (std::int64_t c = 0; c < s.m; ++c) {
          T acc(0);
          for (std::int64_t k = 0; k < s.k; ++k) acc += pa[r * s.k + k] * pb[k * s.m + c];
          y.v[(i * s.n + r) * s.m + c] = acc;
        }
    }
    e.out[0] = std::move(y);
  }
};

Einsum matmul_einsum(const Graph& g, const Node& n) {
  const Shape a = shape_of(g, n.in(0)), b = shape_of(g, n.in(1));
  const MatMulShape s = matmul_shape(g, n, a, b);
  Cascade c(g, n);
  const std::vector<std::string> batch = c.ranks(s.batch, "bcde");
  c.rank("n", s.n), c.rank("m", s.m), c.rank("k", s.k);
  const auto operand = [&](const std::string& name, const Shape& of, bool vector, const char* row, const char* column) {
    if (vector) return name + "[k]";
    std::vector<std::string> i;
    for (std::size_t d = 0; d + 2 < of.size(); ++d) {
      const std::size_t at = s.batch.size() + 2 - of.size() + d;
      i.push_back(of[d] == 1 && s.batch[at] != 1 ? "0" : batch[at]);
    }
    i.insert(i.end(), {row, column});
    return at(name, i);
  };
  std::vector<std::string> y = batch;
  if (!s.a_vector) y.push_back("n");
  if (!s.b_vector) y.push_back("m");
  c.line("{} += {} * {}", at("Y", y), operand("A", a, s.a_vector, "n", "k"), operand("B", b, s.b_vector, "k", "m"));
  return c.done();
}

void infer_gemm(InferContext& c) {
  const Dims &a = c.dims(0), &b = c.dims(1);
  if (a.size() != 2 || b.size() != 2) c.fail("Gemm takes two matrices");
  bool ta = c.node.attr_int("transA", 0), tb = c.node.attr_int("transB", 0);
  Dim ka = ta ? a[0] : a[1], kb = tb ? b[1] : b[0];
  if (ka.known() && kb.known() && ka.n != kb.n)
    c.fail(fmt::format("inner extents differ: {} x {} (transA={}, transB={})", to_string(a), to_string(b), ta, tb));
  Dims y{ta ? a[1] : a[0], tb ? b[0] : b[1]};
  if (c.in.size() > 2 && c.in[2]) broadcast_dims(c, y, c.dims(2));
  c.out = {TensorType{c.in[0]->dtype, y}};
}

struct GemmEval {
  template <class T>
  static void run(EvalArgs<T>& e) {
    const Array<T>&a = *e.in[0], &b = *e.in[1];
    bool ta = e.node.attr_int("transA", 0), tb = e.node.attr_int("transB", 0);
    std::int64_t n = a.shape[ta ? 1 : 0], k = a.shape[ta ? 0 : 1], m = b.shape[tb ? 0 : 1];
    T alpha = number_from<T>(e.node.attr_float("alpha", 1)), beta = number_from<T>(e.node.attr_float("beta", 1));
    Array<T> y(Shape{n, m});
    const Array<T>* c = e.in.size() > 2 ? e.in[2] : nullptr;
    Broadcaster ic(c ? c->shape : Shape{}, y.shape);
    for (std::int64_t r = 0; r < n; ++r)
      for (std::int64_t q = 0; q < m; ++q) {
        T acc(0);
        for (std::int64_t i = 0; i < k; ++i) acc += a.v[ta ? i * n + r : r * k + i] * b.v[tb ? q * k + i : i * m + q];
        T v = alpha * acc;
        if (c) v += beta * c->v[ic(r * m + q)];
        y.v[r * m + q] = v;
      }
    e.out[0] = std::move(y);
  }
};

Einsum gemm_einsum(const Graph& g, const Node& n) {
  const Shape a = shape_of(g, n.in(0)), y = shape_of(g, n.outputs[0]);
  const bool ta = n.attr_int("transA", 0), tb = n.attr_int("transB", 0);
  const double alpha = n.attr_float("alpha", 1), beta = n.attr_float("beta", 1);
  Cascade c(g, n);
  const std::vector<std::string> at{c.rank("n", y[0]), c.rank("m", y[1])};
  c.rank("k", a[ta ? 0 : 1]);
  if (n.in(2) != kNone) {
    const std::string start = broadcast_at("C", shape_of(g, n.in(2)), y, at);
    if (beta == 1) c.line("Y[n,m] = {}", start);
    else c.line("Y[n,m] = {} * {}", beta, start);
  }
  const std::string scale = alpha == 1 ? "" : fmt::format("{} * ", alpha);
  c.line("Y[n,m] += {}{} * {}", scale, ta ? "A[k,n]" : "A[n,k]", tb ? "B[m,k]" : "B[k,m]");
  return c.done();
}

}  // namespace

const OpDef kMatMul{
    .domain = "", .name = "MatMul",
    .summary = "Matrix product with broadcasting over leading axes.",
    .doc = "Y[...,n,m] = sum over k of A[...,n,k] * B[...,k,m].",
    .source = "ONNX MatMul-13",
    .inputs = {{"A", "[..., n, k] or [k]"}, {"B", "[..., k, m] or [k]"}}, .outputs = {{"Y", "[..., n, m]"}},
    .closure = Closure::linear, .infer = infer_matmul, .eval = both<MatMulEval>(), .einsum = matmul_einsum, .adjoint = adjoint_matmul};

const OpDef kGemm{
    .domain = "", .name = "Gemm",
    .summary = "Matrix product of two matrices with scale, transposition and bias.",
    .doc = "Y = alpha * A' * B' + beta * C, where ' transposes when transA/transB is 1 and C broadcasts.",
    .source = "ONNX Gemm-13",
    .inputs = {{"A", "[n, k] (or [k, n])"}, {"B", "[k, m] (or [m, k])"}, {"C", "broadcasts to [n, m]", true}},
    .outputs = {{"Y", "[n, m]"}},
    .attributes = {{"alpha", AttrType::real, "1.0", "factor of the product"}, {"beta", AttrType::real, "1.0", "factor of C"},
                   {"transA", AttrType::integer, "0", "1: A is transposed"}, {"transB", AttrType::integer, "0", "1: B is transposed"}},
    .closure = Closure::linear, .infer = infer_gemm, .eval = both<GemmEval>(), .einsum = gemm_einsum, .adjoint = adjoint_gemm};

}  // namespace tandem::ir
