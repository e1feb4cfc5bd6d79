// onnxruntime's products of quantised matrices: packed weights, dynamic and stored scales; and its pool of channels behind.
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Args = EvalArgs<double>;
constexpr std::string_view kMicrosoft = "com.microsoft";
std::int64_t count(const Array<double>& a) { return static_cast<std::int64_t>(a.v.size()); }

void infer_matmul(InferContext& c, std::size_t a, std::size_t b, DType t) {
  InferContext sub{c.graph, c.node, {c.in[a], c.in[b]}, {nullptr, nullptr}, {}};
  kMatMul.infer(sub);
  c.out = {TensorType{t, sub.out[0].dims}};
}
Array<double> matmul(const Args& e, const Array<double>& a, const Array<double>& b) {
  std::vector<Array<double>> out(1);
  EvalArgs<double> sub{e.graph, e.node, {&a, &b}, out};
  kMatMul.eval.as_double(sub);
  return std::move(out[0]);
}
void eight_bits(const InferContext& c, std::size_t i) {
  if (c.in[i]->dtype != DType::i8 && c.in[i]->dtype != DType::u8) c.fail(fmt::format("input {} holds {}", i, to_string(c.in[i]->dtype)), "i8 or u8");
}
double scalar(const Args& e, std::size_t i, double absent) {
  if (!has(e, i)) return absent;
  if (e.in[i]->v.size() != 1) throw node_error(e.graph, e.node, fmt::format("input {} has {} elements", i, e.in[i]->v.size())).expected("one");
  return e.in[i]->v[0];
}
// (x - zero) * scale, each one number or one per entry of an axis.
Array<double> real_values(const Args& e, const Array<double>& x, const Array<double>* scale, const Array<double>* zero, std::int64_t axis) {
  Array<double> y = x;
  const Around a(x.shape, axis);
  for (const Array<double>* p : {scale, zero})
    if (p && count(*p) != 1 && count(*p) != a.n) throw node_error(e.graph, e.node, fmt::format("{} scales or zero points for an axis of {}", count(*p), a.n));
  for (std::size_t i = 0; i < y.v.size(); ++i) {
    const auto k = static_cast<std::size_t>(static_cast<std::int64_t>(i) / a.inner % a.n);
    y.v[i] = (y.v[i] - (zero ? zero->v[zero->v.size() == 1 ? 0 : k] : 0)) * (scale ? scale->v[scale->v.size() == 1 ? 0 : k] : 1);
  }
  return y;
}
void add_columns(const Args& e, std::size_t i, Array<double>& y) {
  if (!has(e, i)) return;
  const std::int64_t n = y.shape.empty() ? 1 : y.shape.back();
  if (count(*e.in[i]) != n) throw node_error(e.graph, e.node, fmt::format("a bias of {} for {} columns", count(*e.in[i]), n));
  for (std::size_t k = 0; k < y.v.size(); ++k) y.v[k] += e.in[i]->v[k % static_cast<std::size_t>(n)];
}
const Array<double>* given(const Args& e, std::size_t i) { return has(e, i) ? e.in[i] : nullptr; }

// ---- MatMulIntegerToFloat, DynamicQuantizeMatMul ----------------------------------------------------
void infer_to_float(InferContext& c) {
  if (c.dims(0).empty() || c.dims(1).size() < 2) c.fail("operands without a matrix");
  eight_bits(c, 1);
  if (c.node.op == "MatMulIntegerToFloat") eight_bits(c, 0);
  infer_matmul(c, 0, 1, DType::f32);
}
void to_float(Args& e) {
  const bool dynamic = e.node.op == "DynamicQuantizeMatMul";
  Array<double> a = *e.in[0];
  if (dynamic) {  // as DynamicQuantizeLinear: u8, the range holds 0; in f32
    double lo = 0, hi = 0;
    for (double v : a.v) lo = std::min(lo, v), hi = std::max(hi, v);
    const float scale = (static_cast<float>(hi) - static_cast<float>(lo)) / 255.0f;
    const double zero = scale == 0 ? 0 : std::clamp<double>(std::nearbyint(-static_cast<float>(lo) / scale), 0, 255);
    for (double& v : a.v) v = scale == 0 ? 0 : (std::clamp<double>(std::nearbyint(static_cast<float>(v) / scale) + zero, 0, 255) - zero) * static_cast<double>(scale);
  } else {
    const double scale = scalar(e, 2, 1), zero = scalar(e, 4, 0);
    for (double& v : a.v) v = (v - zero) * scale;
  }
  const std::size_t scale = dynamic ? 2 : 3, zero = dynamic ? 3 : 5;
  Array<double> y = matmul(e, a, real_values(e, *e.in[1], given(e, scale), given(e, zero), static_cast<std::int64_t>(e.in[1]->shape.size()) - 1));
  add_columns(e, zero + 1, y);
  e.out[0] = std::move(y);
}
void sample_to_float(const OpDef& op, Sample& s) {
  const bool dynamic = op.name == "DynamicQuantizeMatMul";
  const std::int64_t n = s.r.range(1, 4), k = s.r.range(1, 4), m = s.r.range(1, 4);
  const ValueId a = dynamic ? s.input({n, k}) : s.input({n, k}, 0, 255, DType::u8), b = s.constant({k, m}, -128, 127, DType::i8);
  const Shape each = s.r.chance(0.5) ? Shape{m} : Shape{};
  std::vector<ValueId> in{a, b};
  if (!dynamic) in.push_back(s.scalar(0.125));
  in.push_back(s.constant(each, 0.25, 0.5));
  if (!dynamic) in.push_back(s.r.chance(0.5) ? s.scalar(9, DType::u8) : kNone);
  in.push_back(s.r.chance(0.5) ? s.constant(each, -9, 9, DType::i8) : kNone);
  if (s.r.chance(0.5)) in.push_back(s.constant({m}, -1, 1));
  s.node(op, in);
}

// ---- QGemm ------------------------------------------------------------------------------------------
bool turned(const Node& n, const char* key) { return n.attr_int(key, 0) != 0; }
void infer_qgemm(InferContext& c) {
  eight_bits(c, 0), eight_bits(c, 3);
  const Dims &a = c.dims(0), &b = c.dims(3);
  if (a.size() != 2 || b.size() != 2) c.fail("operands that are no matrices");
  const Dim n = a[turned(c.node, "transA")], k = a[!turned(c.node, "transA")], l = b[turned(c.node, "transB")], m = b[!turned(c.node, "transB")];
  if (k.known() && l.known() && k.n != l.n) c.fail(fmt::format("inner extents {} and {}", k.n, l.n));
  c.out = {TensorType{has(c, 7) ? (has(c, 8) ? c.in[8]->dtype : DType::u8) : DType::f32, Dims{n, m}}};
}
Array<double> matrix(const Array<double>& x, bool turn) {
  if (!turn) return x;
  const std::int64_t n = x.shape[0], m = x.shape[1];
  Array<double> y(Shape{m, n});
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < m; ++j) y.v[static_cast<std::size_t>(j * n + i)] = x.v[static_cast<std::size_t>(i * m + j)];
  return y;
}
void qgemm(Args& e) {
  const double az = scalar(e, 2, 0), as = scalar(e, 1, 1), alpha = e.node.attr_float("alpha", 1);
  Array<double> a = matrix(*e.in[0], turned(e.node, "transA")), b = real_values(e, matrix(*e.in[3], turned(e.node, "transB")), nullptr, given(e, 5), 1);
  for (double& v : a.v) v -= az;
  Array<double> y = matmul(e, a, b);
  if (has(e, 6)) {  // whole numbers of scale a_scale * b_scale
    if (broadcast(e.in[6]->shape, y.shape) != y.shape) throw node_error(e.graph, e.node, fmt::format("C is {} for {}", to_string(e.in[6]->shape), to_string(y.shape)));
    const Broadcaster at(e.in[6]->shape, y.shape);
    for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] += e.in[6]->v[static_cast<std::size_t>(at(static_cast<std::int64_t>(i)))];
  }
  y = real_values(e, y, e.in[4], nullptr, 1);
  for (double& v : y.v) v *= alpha * as;
  if (has(e, 7)) {
    const auto scale = static_cast<float>(scalar(e, 7, 1));
    if (!(scale > 0)) throw node_error(e.graph, e.node, fmt::format("a scale of {}", scale)).expected("a positive number");
    const double zero = scalar(e, 8, 0);
    const auto [lo, hi] = integer_range(out_type(e));
    for (double& v : y.v) v = std::clamp(static_cast<double>(std::nearbyint(static_cast<float>(v) / scale)) + zero, lo, hi);
  }
  e.out[0] = std::move(y);
}
void sample_qgemm(const OpDef& op, Sample& s) {
  const std::int64_t n = s.r.range(1, 4), k = s.r.range(1, 4), m = s.r.range(1, 4), ta = s.r.range(0, 1), tb = s.r.range(0, 1);
  const ValueId a = s.input(ta ? Shape{k, n} : Shape{n, k}, 0, 255, DType::u8), as = s.scalar(0.125), az = s.scalar(7, DType::u8);
  const ValueId b = s.constant(tb ? Shape{m, k} : Shape{k, m}, -128, 127, DType::i8), bs = s.scalar(0.25), bz = s.scalar(-3, DType::i8);
  std::vector<ValueId> in{a, as, az, b, bs, bz, s.r.chance(0.5) ? s.constant({m}, -99, 99, DType::i32) : kNone};
  if (s.r.chance(0.5)) in.push_back(s.scalar(16)), in.push_back(s.scalar(5, DType::i8));
  s.node(op, in, {{"alpha", 0.5}, {"transA", ta}, {"transB", tb}});
}

// ---- MatMulNBits ------------------------------------------------------------------------------------
struct Packed {
  std::int64_t K, N, bits, block, blocks, bytes;  // bytes of a block
};
Packed packed(const Graph& g, const Node& n) {
  Packed p{n.attr_int("K", 0), n.attr_int("N", 0), n.attr_int("bits", 4), n.attr_int("block_size", 0), 0, 0};
  if (p.K < 1 || p.N < 1) throw node_error(g, n, fmt::format("K is {}, N is {}", p.K, p.N));
  if (p.bits != 2 && p.bits != 4 && p.bits != 8) throw node_error(g, n, fmt::format("bits is {}", p.bits)).expected("2, 4 or 8");
  if (p.block < 8 || (p.block & (p.block - 1)) || p.block > (std::int64_t{1} << 20)) throw node_error(g, n, fmt::format("block_size is {}", p.block)).expected("a power of two, at least 8");
  if (n.in(4) != kNone) throw node_error(g, n, "g_idx gives an order of the columns").expected("blocks of neighbours").fix("quantise the model without act-order");
  p.blocks = (p.K + p.block - 1) / p.block, p.bytes = p.block * p.bits / 8;
  return p;
}
void infer_nbits(InferContext& c) {
  const Packed p = packed(c.graph, c.node);
  Dims y = c.dims(0);
  if (y.empty() || (y.back().known() && y.back().n != p.K)) c.fail(fmt::format("A is {}, K is {}", to_string(y), p.K));
  if (c.in[1]->dtype != DType::u8) c.fail(fmt::format("B holds {}", to_string(c.in[1]->dtype)), "u8: packed codes");
  const Dims& b = c.dims(1);
  if (all_known(b) && b != Dims{Dim(p.N), Dim(p.blocks), Dim(p.bytes)}) c.fail(fmt::format("B is {}", to_string(b)), to_string(Dims{Dim(p.N), Dim(p.blocks), Dim(p.bytes)}));
  y.back() = Dim(p.N);
  c.out = {TensorType{c.in[0]->dtype, y}};
}
void nbits(Args& e) {
  const Packed p = packed(e.graph, e.node);
  const Array<double>&x = *e.in[0], &codes = *e.in[1], &scale = *e.in[2];
  const auto all = p.N * p.blocks, row = (p.blocks * p.bits + 7) / 8;  // bytes of packed zero points of a row
  if (x.shape.back() != p.K || codes.shape != Shape{p.N, p.blocks, p.bytes} || count(scale) != all) throw node_error(e.graph, e.node, fmt::format("A {}, B {} and scales {} do not fit", to_string(x.shape), to_string(codes.shape), to_string(scale.shape)));
  const Array<double>* zero = given(e, 3);
  const bool bytes = zero && in_type(e, 3) == DType::u8;
  if (zero && count(*zero) != (bytes ? p.N * row : all)) throw node_error(e.graph, e.node, fmt::format("{} zero points", count(*zero))).expected(fmt::format("{}", bytes ? p.N * row : all));
  const auto field = [&](double byte, std::int64_t at) { return static_cast<double>(to_int(byte) >> (at * p.bits % 8) & ((1 << p.bits) - 1)); };
  Array<double> w(Shape{p.K, p.N});
  for (std::int64_t n = 0; n < p.N; ++n)
    for (std::int64_t k = 0; k < p.K; ++k) {
      const std::int64_t b = k / p.block, i = k % p.block;
      const double z = !zero ? static_cast<double>(1 << (p.bits - 1)) : bytes ? field(zero->v[static_cast<std::size_t>(n * row + b * p.bits / 8)], b) : zero->v[static_cast<std::size_t>(n * p.blocks + b)];
      w.v[static_cast<std::size_t>(k * p.N + n)] = (field(codes.v[static_cast<std::size_t>((n * p.blocks + b) * p.bytes + i * p.bits / 8)], i) - z) * scale.v[static_cast<std::size_t>(n * p.blocks + b)];
    }
  Array<double> y = matmul(e, x, w);
  add_columns(e, 5, y);
  e.out[0] = std::move(y);
}
void sample_nbits(const OpDef& op, Sample& s) {
  static constexpr std::int64_t widths[] = {2, 4, 8};
  const std::int64_t bits = widths[s.r.range(0, 2)], block = s.r.chance(0.5) ? 8 : 16, K = s.r.range(1, 40), N = s.r.range(1, 4), blocks = (K + block - 1) / block;
  const ValueId x = s.input({s.r.range(1, 3), K}), b = s.constant({N, blocks, block * bits / 8}, 0, 255, DType::u8), scale = s.constant({N, blocks}, 0.25, 0.5);
  std::vector<ValueId> in{x, b, scale, kNone, kNone};
  if (s.r.chance(0.6)) in[3] = s.r.chance(0.5) ? s.constant({N, (blocks * bits + 7) / 8}, 0, 255, DType::u8) : s.constant({N, blocks}, 0, 3);
  if (s.r.chance(0.5)) in.push_back(s.constant({N}, -1, 1));
  s.node(op, in, {{"K", K}, {"N", N}, {"bits", bits}, {"block_size", block}});
}

// ---- NhwcMaxPool ------------------------------------------------------------------------------------
void infer_nhwc(InferContext& c) {
  eight_bits(c, 0);
  Dims x = c.dims(0);
  if (x.size() < 3) c.fail(fmt::format("input has rank {}", x.size()), "[batch, spatial axes, channels]");
  std::rotate(x.begin() + 1, x.end() - 1, x.end());
  const TensorType t{c.in[0]->dtype, x};
  InferContext sub{c.graph, c.node, {&t}, {nullptr}, {}};
  kMaxPool.infer(sub);
  Dims y = *sub.out[0].dims;
  std::rotate(y.begin() + 1, y.begin() + 2, y.end());
  c.out = {TensorType{c.in[0]->dtype, y}};
}
// The axis 1 to the end, or the last one to place 1: [n, a, b] to [n, b, a].
Array<double> swapped(const Array<double>& x, bool to_front) {
  Shape s = x.shape;
  if (to_front) std::rotate(s.begin() + 1, s.end() - 1, s.end());
  else std::rotate(s.begin() + 1, s.begin() + 2, s.end());
  const std::int64_t N = x.shape[0], channels = to_front ? x.shape.back() : x.shape[1], size = N && channels ? count(x) / N / channels : 0;
  const std::int64_t a = to_front ? size : channels, b = to_front ? channels : size;
  Array<double> y(s);
  for (std::int64_t n = 0; n < N; ++n)
    for (std::int64_t i = 0; i < a; ++i)
      for (std::int64_t j = 0; j < b; ++j) y.v[static_cast<std::size_t>((n * b + j) * a + i)] = x.v[static_cast<std::size_t>((n * a + i) * b + j)];
  return y;
}
void nhwc(Args& e) {
  const Array<double> x = swapped(*e.in[0], true);
  std::vector<Array<double>> out(1);
  EvalArgs<double> sub{e.graph, e.node, {&x}, out};
  kMaxPool.eval.as_double(sub);
  e.out[0] = swapped(out[0], false);
}
void sample_nhwc(const OpDef& op, Sample& s) { s.node(op, {s.input({s.r.range(1, 2), 5, 4, s.r.range(1, 3)}, 0, 255, DType::u8)}, {{"kernel_shape", Shape{2, 3}}, {"strides", Shape{s.r.range(1, 2), 1}}, {"pads", Shape{1, 0, 0, 1}}}); }

}  // namespace

std::span<const OpDef> contrib_matmul_ops() {
  static const OpDef ops[] = {  // not before kMaxPool, whose attributes one takes
      OpDef{.domain = kMicrosoft, .name = "MatMulIntegerToFloat", .summary = "Product of quantised matrices as real numbers.", .doc = "Y = (A - a_zero) a_scale * (B - b_zero) b_scale + bias.", .source = "onnxruntime com.microsoft.MatMulIntegerToFloat",
            .inputs = {{"A", "i8 or u8"}, {"B", "i8 or u8"}, {"a_scale", "one"}, {"b_scale", "one, or one per column"}, {"a_zero_point", "one; default 0", true}, {"b_zero_point", "as b_scale; default 0", true}, {"bias", "one per column", true}}, .outputs = {{"Y", "f32"}}, .infer = infer_to_float, .eval = {to_float, nullptr}, .sample = sample_to_float},
      OpDef{.domain = kMicrosoft, .name = "DynamicQuantizeMatMul", .summary = "Product with a quantised matrix; the other is quantised on the way.", .doc = "A becomes u8 as DynamicQuantizeLinear makes it; then Y = MatMulIntegerToFloat of it and B.", .source = "onnxruntime com.microsoft.DynamicQuantizeMatMul",
            .inputs = {{"A", "floats"}, {"B", "i8 or u8"}, {"b_scale", "one, or one per column"}, {"b_zero_point", "as b_scale; default 0", true}, {"bias", "one per column", true}}, .outputs = {{"Y", "f32"}}, .infer = infer_to_float, .eval = {to_float, nullptr}, .sample = sample_to_float},
      OpDef{.domain = kMicrosoft, .name = "QGemm", .summary = "Gemm of quantised matrices.", .doc = "y = alpha a_scale b_scale ((A' - a_zero) (B' - b_zero) + C); with y_scale Y = saturate(round(y / y_scale) + y_zero), the quotient in f32, half to even; else Y = y.", .source = "onnxruntime com.microsoft.QGemm",
            .inputs = {{"A", "i8 or u8"}, {"a_scale", "one"}, {"a_zero_point", "one"}, {"B", "i8 or u8"}, {"b_scale", "one, or one per column"}, {"b_zero_point", "as b_scale"}, {"C", "i32, broadcasts", true}, {"y_scale", "one", true}, {"y_zero_point", "one; its type is that of Y", true}}, .outputs = {{"Y", "f32, or 8 bits"}},
            .attributes = {{"alpha", AttrType::real, "1", "factor"}, {"transA", AttrType::integer, "0", "1: A transposed"}, {"transB", AttrType::integer, "0", "1: B transposed"}}, .infer = infer_qgemm, .eval = {qgemm, nullptr}, .sample = sample_qgemm},
      OpDef{.domain = kMicrosoft, .name = "MatMulNBits", .summary = "Product with weights of 2, 4 or 8 bits in blocks.", .doc = "Y = A W + bias, W[k, n] = (code - zero) * scale of the block of k in row n; codes and zero points packed, lowest bits first; default zero 2^(bits - 1).", .source = "onnxruntime com.microsoft.MatMulNBits",
            .inputs = {{"A", "[..., K]"}, {"B", "u8 [N, blocks, bytes of a block]"}, {"scales", "[N, blocks]"}, {"zero_points", "u8: packed by row; floats: [N, blocks]", true}, {"g_idx", "refused", true}, {"bias", "[N]", true}}, .outputs = {{"Y", "[..., N]"}},
            .attributes = {{"K", AttrType::integer, "required", "rows of W"}, {"N", AttrType::integer, "required", "columns of W"}, {"bits", AttrType::integer, "4", "2, 4 or 8"}, {"block_size", AttrType::integer, "required", "entries with one scale"}, {"accuracy_level", AttrType::integer, "0", "not read"}}, .infer = infer_nbits,
            .eval = {nbits, nullptr}, .sample = sample_nbits},
      OpDef{.domain = kMicrosoft, .name = "NhwcMaxPool", .summary = "MaxPool with the channels behind.", .doc = "MaxPool of [batch, spatial axes, channels].", .source = "onnxruntime com.microsoft.NhwcMaxPool", .inputs = {{"X", "i8 or u8 [batch, spatial axes, channels]"}}, .outputs = {{"Y", "the same order"}}, .attributes = kMaxPool.attributes, .infer = infer_nhwc,
            .eval = {nhwc, nullptr}, .sample = sample_nhwc},
  };
  return ops;
}

}  // namespace tandem::ir
