// What transformers are made of: attention, rotary positions, caches, routed experts.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/expansions.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Args = EvalArgs<double>;
constexpr std::string_view kMicrosoft = "com.microsoft";

Dim product(const Dim& a, const Dim& b) { return a.known() && b.known() ? Dim(a.n * b.n) : Dim(); }
Dim sum(const Dim& a, const Dim& b) { return a.known() && b.known() ? Dim(a.n + b.n) : Dim(); }
bool differ(const Dim& a, const Dim& b) { return a.known() && b.known() && a.n != b.n; }

// ---- attention --------------------------------------------------------------------------------------
// [batch, length, heads * size] to [batch, heads, length, size], and back.
Array<double> split_heads(const Args& e, const Array<double>& x, std::int64_t heads) {
  if (x.shape.size() == 4) return x;
  if (heads < 1 || x.shape[2] % heads) throw node_error(e.graph, e.node, fmt::format("{} heads share {} columns", heads, x.shape[2]));
  const std::int64_t B = x.shape[0], L = x.shape[1], D = x.shape[2] / heads;
  Array<double> y(Shape{B, heads, L, D});
  for (std::int64_t b = 0; b < B; ++b)
    for (std::int64_t l = 0; l < L; ++l)
      for (std::int64_t h = 0; h < heads; ++h) std::copy_n(x.v.begin() + ((b * L + l) * heads + h) * D, D, y.v.begin() + ((b * heads + h) * L + l) * D);
  return y;
}
Array<double> join_heads(const Array<double>& x) {
  const std::int64_t B = x.shape[0], H = x.shape[1], L = x.shape[2], D = x.shape[3];
  Array<double> y(Shape{B, L, H * D});
  for (std::int64_t b = 0; b < B; ++b)
    for (std::int64_t h = 0; h < H; ++h)
      for (std::int64_t l = 0; l < L; ++l) std::copy_n(x.v.begin() + ((b * H + h) * L + l) * D, D, y.v.begin() + ((b * L + l) * H + h) * D);
  return y;
}
// The cache, then what is new, along the length.
Array<double> extended(const Args& e, const Array<double>* past, Array<double> x) {
  if (!past) return x;
  const Shape &p = past->shape, &s = x.shape;
  if (p.size() != 4 || p[0] != s[0] || p[1] != s[1] || p[3] != s[3]) throw node_error(e.graph, e.node, fmt::format("a cache {} before {}", to_string(p), to_string(s)));
  Array<double> y(Shape{s[0], s[1], p[2] + s[2], s[3]});
  for (std::int64_t n = 0; n < s[0] * s[1]; ++n) {
    std::copy_n(past->v.begin() + n * p[2] * s[3], p[2] * s[3], y.v.begin() + n * (p[2] + s[2]) * s[3]);
    std::copy_n(x.v.begin() + n * s[2] * s[3], s[2] * s[3], y.v.begin() + (n * (p[2] + s[2]) + p[2]) * s[3]);
  }
  return y;
}
struct Attended {
  Array<double> y, scores;  // scores as `mode` asks: 0 products, 1 capped, 2 with the bias, 3 weights
};
// Query head h reads key head h / (query heads / key heads). bias(b, h, i, j) is added to the scores.
template <class F>
Attended attend(const Args& e, const Array<double>& q, const Array<double>& k, const Array<double>& v, double scale, double cap, std::int64_t mode, F bias) {
  const std::int64_t B = q.shape[0], H = q.shape[1], L = q.shape[2], D = q.shape[3], kv = k.shape[1], T = k.shape[2], E = v.shape[3];
  if (k.shape[0] != B || v.shape[0] != B || k.shape[3] != D || v.shape[1] != kv || v.shape[2] != T || kv < 1 || H % kv)
    throw node_error(e.graph, e.node, fmt::format("queries {}, keys {} and values {} do not fit", to_string(q.shape), to_string(k.shape), to_string(v.shape))).expected("one batch, one size of queries and keys, one length of keys and values, heads of queries a multiple of theirs");
  Attended a{Array<double>(Shape{B, H, L, E}), Array<double>(Shape{B, H, L, T})};
  std::vector<double> s(static_cast<std::size_t>(T));
  for (std::int64_t b = 0; b < B; ++b)
    for (std::int64_t h = 0; h < H; ++h)
      for (std::int64_t i = 0; i < L; ++i) {
        const std::int64_t row = (b * H + h) * L + i, from = b * kv + h / (H / kv);
        const double* query = q.v.data() + row * D;
        double* kept = a.scores.v.data() + row * T;
        double most = -INFINITY, total = 0;
        for (std::int64_t j = 0; j < T; ++j) {
          const double* key = k.v.data() + (from * T + j) * D;
          double x = 0;
          for (std::int64_t d = 0; d < D; ++d) x += query[d] * key[d];
          kept[j] = x *= scale;
          if (cap > 0) x = cap * std::tanh(x / cap);
          if (mode == 1) kept[j] = x;
          x += bias(b, h, i, j);
          if (mode == 2) kept[j] = x;
          s[static_cast<std::size_t>(j)] = x;
          most = std::max(most, x);
        }
        for (double& x : s) total += x = std::exp(x - most);
        double* to = a.y.v.data() + row * E;
        for (std::int64_t j = 0; j < T; ++j) {
          const double w = s[static_cast<std::size_t>(j)] / total;
          if (mode == 3) kept[j] = w;
          const double* value = v.v.data() + (from * T + j) * E;
          for (std::int64_t d = 0; d < E; ++d) to[d] += w * value[d];
        }
      }
  return a;
}

struct HeadDims {
  Dim batch, heads, length, size;
};
HeadDims head_dims(const InferContext& c, std::size_t i, std::string_view attribute) {
  const Dims& x = c.dims(i);
  if (x.size() == 4) return {x[0], x[1], x[2], x[3]};
  if (x.size() != 3) c.fail(fmt::format("input {} has rank {}", i, x.size()), "[batch, length, columns] or [batch, heads, length, size]");
  const std::int64_t heads = c.node.attr_int(attribute, 0);
  if (heads < 1 || (x[2].known() && x[2].n % heads)) c.fail(fmt::format("{} is {} for {} columns", attribute, heads, to_string(x)), "a divisor of the columns");
  return {x[0], Dim(heads), x[1], x[2].known() ? Dim(x[2].n / heads) : Dim()};
}
void infer_attention(InferContext& c) {
  const HeadDims q = head_dims(c, 0, "q_num_heads"), k = head_dims(c, 1, "kv_num_heads"), v = head_dims(c, 2, "kv_num_heads");
  if (c.dims(0).size() != c.dims(1).size() || c.dims(0).size() != c.dims(2).size()) c.fail("Q, K and V have different ranks");
  if (differ(q.batch, k.batch) || differ(q.batch, v.batch) || differ(q.size, k.size) || differ(k.heads, v.heads) || differ(k.length, v.length)) c.fail(fmt::format("Q {}, K {} and V {} do not fit", to_string(c.dims(0)), to_string(c.dims(1)), to_string(c.dims(2))));
  if (q.heads.known() && k.heads.known() && (k.heads.n < 1 || q.heads.n % k.heads.n)) c.fail(fmt::format("{} heads of queries share {} of keys", q.heads.n, k.heads.n), "a multiple");
  if (has(c, 4) != has(c, 5)) c.fail("past_key without past_value, or the other way round");
  const std::int64_t mode = c.node.attr_int("qk_matmul_output_mode", 0);
  if (mode < 0 || mode > 3) c.fail(fmt::format("qk_matmul_output_mode is {}", mode), "0 to 3");
  const Dim past = has(c, 4) ? (c.dims(4).size() == 4 ? c.dims(4)[2] : Dim()) : Dim(0), total = sum(past, k.length);
  const DType t = c.in[0]->dtype;
  c.out = {TensorType{t, c.dims(0).size() == 4 ? Dims{q.batch, q.heads, q.length, v.size} : Dims{q.batch, q.length, product(q.heads, v.size)}}, TensorType{c.in[1]->dtype, Dims{q.batch, k.heads, total, k.size}},
           TensorType{c.in[2]->dtype, Dims{q.batch, k.heads, total, v.size}}, TensorType{t, Dims{q.batch, q.heads, q.length, total}}};
}
// A mask that broadcasts to [batch, heads, length, total]; one that is shorter along the last axis ends in "no".
struct Mask {
  const Array<double>* m = nullptr;
  bool truth = false;
  Shape s;
  std::int64_t stride[4] = {};
  Mask(const Args& e, std::size_t input, const Shape& of) {
    if (!has(e, input)) return;
    m = e.in[input], truth = in_type(e, input) == DType::boolean;
    if (m->shape.size() > 4) throw node_error(e.graph, e.node, fmt::format("a mask {} for scores {}", to_string(m->shape), to_string(of)));
    s.assign(4 - m->shape.size(), 1);
    s.insert(s.end(), m->shape.begin(), m->shape.end());
    std::int64_t step = 1;
    for (std::size_t d = 4; d-- > 0; step *= s[d]) {
      if (s[d] != of[d] && s[d] != 1 && !(d == 3 && s[d] < of[d])) throw node_error(e.graph, e.node, fmt::format("a mask {} for scores {}", to_string(m->shape), to_string(of)));
      stride[d] = s[d] == 1 && (d != 3 || of[d] == 1) ? 0 : step;
    }
    if (s[3] == 1 && of[3] > 1 && m->shape.empty()) stride[3] = 0;
  }
  double operator()(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) const {
    if (!m) return 0;
    if (stride[3] && j >= s[3]) return -INFINITY;
    const double v = m->v[static_cast<std::size_t>(b * stride[0] + h * stride[1] + i * stride[2] + j * stride[3])];
    return truth ? (v != 0 ? 0 : -INFINITY) : v;
  }
};
void attention_eval(Args& e) {
  const std::int64_t qh = e.node.attr_int("q_num_heads", 0), kh = e.node.attr_int("kv_num_heads", 0);
  const Array<double> q = split_heads(e, *e.in[0], qh);
  const bool cached = has(e, 4);
  Array<double> k = extended(e, cached ? e.in[4] : nullptr, split_heads(e, *e.in[1], kh)), v = extended(e, cached ? e.in[5] : nullptr, split_heads(e, *e.in[2], kh));
  const std::int64_t B = q.shape[0], L = q.shape[2], T = k.shape[2], past = cached ? e.in[4]->shape[2] : 0;
  const Mask mask(e, 3, Shape{B, q.shape[1], L, T});
  const Array<double>* valid = has(e, 6) ? e.in[6] : nullptr;
  if (valid && static_cast<std::int64_t>(valid->v.size()) != B) throw node_error(e.graph, e.node, fmt::format("{} lengths for a batch of {}", valid->v.size(), B));
  const bool causal = e.node.attr_int("is_causal", 0) != 0;
  Attended a = attend(e, q, k, v, e.node.attr_float("scale", 1 / std::sqrt(static_cast<double>(q.shape[3]))), e.node.attr_float("softcap", 0), e.node.attr_int("qk_matmul_output_mode", 0), [&](std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) -> double {
    const std::int64_t length = valid ? to_int(valid->v[static_cast<std::size_t>(b)]) : T;
    if (j >= length || (causal && j > i + (valid && !cached ? length - L : past))) return -INFINITY;
    return mask(b, h, i, j);
  });
  e.out[0] = e.in[0]->shape.size() == 3 ? join_heads(a.y) : std::move(a.y);
  if (e.out.size() > 1) e.out[1] = std::move(k);
  if (e.out.size() > 2) e.out[2] = std::move(v);
  if (e.out.size() > 3) e.out[3] = std::move(a.scores);
}
void sample_attention(const OpDef& op, Sample& s) {
  const std::int64_t B = s.r.range(1, 2), kv = s.r.range(1, 2), H = kv * s.r.range(1, 2), L = s.r.range(1, 3), past = s.r.range(1, 2), D = s.r.range(1, 3), E = s.r.range(1, 3);
  const bool cached = s.r.chance(0.4), joined = s.r.chance(0.5);
  const std::int64_t T = L + (cached ? past : 0);
  std::map<std::string, Attribute> a{{"is_causal", s.r.range(0, 1)}, {"qk_matmul_output_mode", s.r.range(0, 3)}, {"softcap", s.r.chance(0.5) ? 2.0 : 0.0}};
  if (joined) a["q_num_heads"] = H, a["kv_num_heads"] = kv;
  if (s.r.chance(0.5)) a["scale"] = 0.25;
  const auto x = [&](std::int64_t heads, std::int64_t size) { return s.input(joined ? Shape{B, L, heads * size} : Shape{B, heads, L, size}); };
  std::vector<ValueId> in{x(H, D), x(kv, D), x(kv, E), kNone};
  if (s.r.chance(0.5)) in[3] = s.input(s.r.chance(0.5) ? Shape{L, T} : Shape{B, 1, L, T});
  if (cached) in.push_back(s.input({B, kv, past, D})), in.push_back(s.input({B, kv, past, E}));
  s.node(op, in, a, static_cast<std::size_t>(s.r.range(1, 4)));
}

// com.microsoft's: rows of queries, keys and values, a bias for all three, padding of keys.
void infer_multi_head(InferContext& c) {
  for (std::size_t i = 0; i < 3; ++i)
    if (!has(c, i) || (c.in[i]->dims && c.in[i]->dims->size() != 3)) c.fail(fmt::format("input {} is no [batch, length, columns]", i), "queries, keys and values in three tensors; packed ones are not read");
  const HeadDims q = head_dims(c, 0, "num_heads"), k = head_dims(c, 1, "num_heads"), v = head_dims(c, 2, "num_heads");
  if (differ(q.batch, k.batch) || differ(q.batch, v.batch) || differ(q.size, k.size) || differ(k.length, v.length)) c.fail(fmt::format("queries {}, keys {} and values {} do not fit", to_string(c.dims(0)), to_string(c.dims(1)), to_string(c.dims(2))));
  if (has(c, 3) && c.dims(3).size() != 1) c.fail("the bias is no vector");
  if (has(c, 4) && c.dims(4).size() != 1 && c.dims(4).size() != 2) c.fail("a padding mask of rank 3", "[batch] or [batch, total]");
  if (has(c, 6) != has(c, 7)) c.fail("past_key without past_value, or the other way round");
  const Dim total = sum(has(c, 6) ? (c.dims(6).size() == 4 ? c.dims(6)[2] : Dim()) : Dim(0), k.length);
  c.out = {TensorType{c.in[0]->dtype, Dims{q.batch, q.length, product(q.heads, v.size)}}, TensorType{c.in[1]->dtype, Dims{q.batch, k.heads, total, k.size}}, TensorType{c.in[2]->dtype, Dims{q.batch, k.heads, total, v.size}}};
}
void multi_head_eval(Args& e) {
  const std::int64_t heads = e.node.attr_int("num_heads", 1);
  std::int64_t first = 0;
  const auto part = [&](std::size_t i) {
    Array<double> x = *e.in[i];
    const std::int64_t width = x.shape[2];
    if (has(e, 3)) {
      const auto& bias = e.in[3]->v;
      if (first + width > static_cast<std::int64_t>(bias.size()) || (i == 2 && first + width != static_cast<std::int64_t>(bias.size()))) throw node_error(e.graph, e.node, fmt::format("a bias of {} elements", bias.size())).expected("the columns of queries, keys and values");
      for (std::size_t n = 0; n < x.v.size(); ++n) x.v[n] += bias[static_cast<std::size_t>(first + static_cast<std::int64_t>(n) % width)];
      first += width;
    }
    return split_heads(e, x, heads);
  };
  const Array<double> q = part(0);
  Array<double> k = part(1), v = part(2);
  const bool cached = has(e, 6);
  k = extended(e, cached ? e.in[6] : nullptr, std::move(k)), v = extended(e, cached ? e.in[7] : nullptr, std::move(v));
  const std::int64_t B = q.shape[0], T = k.shape[2], past = T - e.in[1]->shape[1];
  const Mask bias(e, 5, Shape{B, heads, q.shape[2], T});
  const Array<double>* padding = has(e, 4) ? e.in[4] : nullptr;
  const bool rows = padding && padding->shape.size() == 2;
  if (padding && (padding->shape[0] != B || (rows && padding->shape[1] != T))) throw node_error(e.graph, e.node, fmt::format("a padding mask {} for {} keys of a batch of {}", to_string(padding->shape), T, B)).expected("[batch] or [batch, total]");
  const double filter = e.node.attr_float("mask_filter_value", -10000);
  const bool causal = e.node.attr_int("unidirectional", 0) != 0;
  const double scale = e.node.attr_float("scale", 0);
  Attended a = attend(e, q, k, v, scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(q.shape[3])), 0, 0, [&](std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) -> double {
    double x = bias(b, h, i, j);
    if (padding && (rows ? padding->v[static_cast<std::size_t>(b * T + j)] == 0 : j >= to_int(padding->v[static_cast<std::size_t>(b)]))) x += filter;
    if (causal && j > i + past) x += filter;
    return x;
  });
  e.out[0] = join_heads(a.y);
  if (e.out.size() > 1) e.out[1] = std::move(k);
  if (e.out.size() > 2) e.out[2] = std::move(v);
}
void sample_multi_head(const OpDef& op, Sample& s) {
  const std::int64_t B = s.r.range(1, 2), H = s.r.range(1, 2), L = s.r.range(1, 3), M = s.r.range(1, 3), D = s.r.range(1, 3), E = s.r.range(1, 3);
  std::vector<ValueId> in{s.input({B, L, H * D}), s.input({B, M, H * D}), s.input({B, M, H * E}), kNone, kNone};
  if (s.r.chance(0.5)) in[3] = s.constant({H * (2 * D + E)}, -1, 1);
  if (s.r.chance(0.5)) in[4] = s.r.chance(0.5) ? s.input({B}, 1, 3, DType::i32) : s.input({B, M}, 0, 1, DType::i32);
  if (s.r.chance(0.5)) in.push_back(s.input({1, H, L, M}));
  s.node(op, in, {{"num_heads", H}, {"unidirectional", s.r.range(0, 1)}, {"mask_filter_value", -64.0}}, static_cast<std::size_t>(s.r.range(1, 3)));
}

// ---- rotary positions -------------------------------------------------------------------------------
// ONNX: X, cos, sin, positions; com.microsoft: X, positions, cos, sin.
struct RotaryPorts {
  std::size_t cos, sin, positions;
  explicit RotaryPorts(const Node& n) : cos(n.domain.empty() ? 1 : 2), sin(cos + 1), positions(n.domain.empty() ? 3 : 1) {}
};
void infer_rotary(InferContext& c) {
  const Dims& x = c.dims(0);
  if (x.size() != 3 && x.size() != 4) c.fail(fmt::format("input has rank {}", x.size()), "[batch, length, columns] or [batch, heads, length, size]");
  if (x.size() == 3 && c.node.domain.empty() && c.node.attr_int("num_heads", 0) < 1) c.fail("num_heads is missing for an input of rank 3");
  if (c.node.attr_int("is_packed_batching", 0)) c.fail("is_packed_batching is 1", "0");
  const RotaryPorts p(c.node);
  const std::size_t rank = has(c, p.positions) ? 2 : 3;
  for (std::size_t i : {p.cos, p.sin})
    if (c.dims(i).size() != rank) c.fail(fmt::format("a table of rank {}", c.dims(i).size()), rank == 2 ? "[positions, rotated / 2]" : "[batch, length, rotated / 2]");
  infer_first(c);
}
void rotary_eval(Args& e) {
  const RotaryPorts p(e.node);
  const Array<double>&x = *e.in[0], &cosine = *e.in[p.cos], &sine = *e.in[p.sin];
  const Array<double>* at = has(e, p.positions) ? e.in[p.positions] : nullptr;
  const bool joined = x.shape.size() == 3, interleaved = e.node.attr_int("interleaved", 0) != 0;
  std::int64_t heads = e.node.attr_int("num_heads", 0), rotated = e.node.attr_int("rotary_embedding_dim", 0);
  if (joined && heads == 0) {  // com.microsoft: the table's width gives the size of a head
    if (cosine.shape.back() < 1 || x.shape[2] % (2 * cosine.shape.back())) throw node_error(e.graph, e.node, "num_heads is not given, and the columns are no multiple of the table's");
    heads = x.shape[2] / (2 * cosine.shape.back());
  }
  const Array<double> h = joined ? split_heads(e, x, heads) : x;
  const std::int64_t B = h.shape[0], H = h.shape[1], L = h.shape[2], D = h.shape[3];
  if (rotated == 0) rotated = D;
  const std::int64_t half = rotated / 2;
  if (rotated < 0 || rotated > D || rotated % 2 || cosine.shape != sine.shape || cosine.shape.back() != half) throw node_error(e.graph, e.node, fmt::format("tables {} and {} for {} rotated of {} columns", to_string(cosine.shape), to_string(sine.shape), rotated, D)).expected("half as many columns as are rotated");
  if (at && static_cast<std::int64_t>(at->v.size()) != B * L && at->v.size() != 1) throw node_error(e.graph, e.node, fmt::format("{} positions for {} x {}", at->v.size(), B, L));
  if (!at && cosine.shape != Shape{B, L, half}) throw node_error(e.graph, e.node, fmt::format("tables {} without positions", to_string(cosine.shape))).expected(to_string(Shape{B, L, half}));
  Array<double> y = h;
  for (std::int64_t b = 0; b < B; ++b)
    for (std::int64_t l = 0; l < L; ++l) {
      std::int64_t row = b * L + l;
      if (at) {
        row = at->v.size() == 1 && B * L != 1 ? to_int(at->v[0]) + l : to_int(at->v[static_cast<std::size_t>(row)]);
        if (row < 0 || row >= cosine.shape[0]) throw node_error(e.graph, e.node, fmt::format("position {} of {}", row, cosine.shape[0]));
      }
      for (std::int64_t n = 0; n < H; ++n) {
        const std::int64_t from = ((b * H + n) * L + l) * D;
        for (std::int64_t k = 0; k < half; ++k) {
          const auto i = static_cast<std::size_t>(from + (interleaved ? 2 * k : k)), j = static_cast<std::size_t>(from + (interleaved ? 2 * k + 1 : half + k));
          const double cs = cosine.v[static_cast<std::size_t>(row * half + k)], sn = sine.v[static_cast<std::size_t>(row * half + k)];
          y.v[i] = cs * h.v[i] - sn * h.v[j];
          y.v[j] = sn * h.v[i] + cs * h.v[j];
        }
      }
    }
  e.out[0] = joined ? join_heads(y) : std::move(y);
}
void sample_rotary(const OpDef& op, Sample& s) {
  const bool onnx = op.domain.empty(), joined = s.r.chance(0.5), by_position = !onnx || s.r.chance(0.5);
  const std::int64_t B = s.r.range(1, 2), H = s.r.range(1, 3), L = s.r.range(1, 3), half = s.r.range(1, 2), rest = s.r.range(0, 1), D = 2 * half + rest;
  const ValueId x = s.input(joined ? Shape{B, L, H * D} : Shape{B, H, L, D});
  const Shape table = by_position ? Shape{5, half} : Shape{B, L, half};
  const ValueId c = s.constant(table, -1, 1), n = s.constant(table, -1, 1);
  std::vector<ValueId> in{x};
  const auto positions = [&] { return s.constant({B, L}, 0, 4, DType::i64); };
  if (!onnx) in.push_back(positions());
  in.push_back(c), in.push_back(n);
  if (onnx && by_position) in.push_back(positions());
  s.node(op, in, {{"num_heads", joined ? H : std::int64_t{0}}, {"interleaved", s.r.range(0, 1)}, {"rotary_embedding_dim", rest ? 2 * half : std::int64_t{0}}});
}

// ---- TensorScatter ----------------------------------------------------------------------------------
void infer_cache(InferContext& c) {
  const Dims &x = c.dims(0), &u = c.dims(1);
  const auto axis = static_cast<std::size_t>(axis_of(c, c.node.attr_int("axis", -2), x.size()));
  if (axis == 0) c.fail("the axis is the batch", "another axis");
  if (u.size() != x.size()) c.fail(fmt::format("an update {} of a cache {}", to_string(u), to_string(x)));
  for (std::size_t d = 0; d < x.size(); ++d)
    if (x[d].known() && u[d].known() && (d == axis ? u[d].n > x[d].n : u[d].n != x[d].n)) c.fail(fmt::format("an update {} of a cache {}", to_string(u), to_string(x)));
  const std::string mode = c.node.attr_string("mode", "linear");
  if (mode != "linear" && mode != "circular") c.fail(fmt::format("mode '{}' is unknown", printable(mode)), "linear or circular");
  infer_first(c);
}
void cache_eval(Args& e) {
  Array<double> y = *e.in[0];
  const Array<double>& u = *e.in[1];
  const std::int64_t axis = axis_of(e, e.node.attr_int("axis", -2), y.shape.size());
  const Around a(y.shape, axis), b(u.shape, axis);
  if (a.outer != b.outer || a.inner != b.inner || b.n > a.n) throw node_error(e.graph, e.node, fmt::format("an update {} of a cache {}", to_string(u.shape), to_string(y.shape)));
  const bool circular = e.node.attr_string("mode", "linear") == "circular";
  if (has(e, 2) && static_cast<std::int64_t>(e.in[2]->v.size()) != y.shape[0]) throw node_error(e.graph, e.node, fmt::format("{} places for a batch of {}", e.in[2]->v.size(), y.shape[0]));
  for (std::int64_t o = 0; o < a.outer; ++o) {
    const std::int64_t first = has(e, 2) ? to_int(e.in[2]->v[static_cast<std::size_t>(o / (a.outer / y.shape[0]))]) : 0;
    if (first < 0 || (!circular && first > a.n - b.n) || first > (std::int64_t{1} << 53)) throw node_error(e.graph, e.node, fmt::format("{} entries at place {} of {}", b.n, first, a.n));
    for (std::int64_t k = 0; k < b.n; ++k)
      for (std::int64_t i = 0; i < a.inner; ++i) y.v[static_cast<std::size_t>(a.at(o, circular ? (first + k) % a.n : first + k, i))] = u.v[static_cast<std::size_t>(b.at(o, k, i))];
  }
  e.out[0] = std::move(y);
}
void sample_cache(const OpDef& op, Sample& s) {
  Shape x{s.r.range(1, 2), s.r.range(1, 2), s.r.range(2, 5), s.r.range(1, 3)}, u = x;
  u[2] = s.r.range(1, x[2]);
  const bool circular = s.r.chance(0.5);
  const ValueId a = s.input(x), b = s.input(u);
  s.node(op, {a, b, s.constant({x[0]}, 0, static_cast<double>(circular ? 9 : x[2] - u[2]), DType::i64)}, {{"axis", std::int64_t{-2}}, {"mode", std::string(circular ? "circular" : "linear")}});
}

// ---- routed experts ---------------------------------------------------------------------------------
using Function = double (*)(double);
Function activation(const Graph& g, const Node& n) {
  static constexpr std::pair<std::string_view, Function> known[] = {
      {"identity", [](double x) { return x; }},
      {"relu", [](double x) { return std::max(x, 0.0); }},
      {"gelu", [](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }},
      {"silu", [](double x) { return x / (1 + std::exp(-x)); }},
      {"tanh", [](double x) { return std::tanh(x); }},
  };
  const std::string s = n.attr_string("activation", "relu");
  for (const auto& [name, f] : known)
    if (name == s) return f;
  throw node_error(g, n, fmt::format("activation '{}' is unknown", printable(s))).expected("identity, relu, gelu, silu or tanh");
}
void infer_experts(InferContext& c) {
  const Dims &x = c.dims(0), &gate = c.dims(1), &in = c.dims(2), &out = c.dims(3);
  if (x.empty()) c.fail("input has no axis");
  if (gate.size() != 2 || in.size() != 3 || out.size() != 3) c.fail(fmt::format("gate {}, in {} and out {}", to_string(gate), to_string(in), to_string(out)), "[D, experts], [experts, D, H] and [experts, H, D']");
  if (differ(gate[0], x.back()) || differ(in[1], x.back()) || differ(gate[1], in[0]) || differ(gate[1], out[0]) || differ(in[2], out[1]))
    c.fail(fmt::format("input {}, gate {}, in {} and out {} do not fit", to_string(x), to_string(gate), to_string(in), to_string(out)));
  const auto fits = [&](std::size_t i, const Dims& want) {
    if (!has(c, i)) return;
    const Dims& d = c.dims(i);
    bool same = d.size() == want.size();
    for (std::size_t k = 0; k < want.size() && same; ++k) same = !differ(d[k], want[k]);
    if (!same) c.fail(fmt::format("input {} is {}", i, to_string(d)), to_string(want));
  };
  fits(4, Dims{in[0], in[2]}), fits(5, Dims{out[0], out[2]}), fits(6, in);
  const std::int64_t k = c.node.attr_int("k", 1);
  if (k < 1 || (gate[1].known() && k > gate[1].n)) c.fail(fmt::format("k is {} of {}", k, to_string(gate)), "at least one expert, at most all");
  activation(c.graph, c.node);
  Dims y = x;
  y.back() = out[2];
  c.out = {TensorType{c.in[0]->dtype, y}};
}
void experts_eval(Args& e) {
  const Array<double>&x = *e.in[0], &gate = *e.in[1], &in = *e.in[2], &out = *e.in[3];
  const std::int64_t D = x.shape.back(), E = gate.shape[1], H = in.shape[2], O = out.shape[2], k = e.node.attr_int("k", 1), tokens = element_count(Shape(x.shape.begin(), x.shape.end() - 1));
  if (gate.shape[0] != D || in.shape != Shape{E, D, H} || out.shape != Shape{E, H, O} || k > E || (has(e, 4) && e.in[4]->shape != Shape{E, H}) || (has(e, 5) && e.in[5]->shape != Shape{E, O}) || (has(e, 6) && e.in[6]->shape != in.shape))
    throw node_error(e.graph, e.node, fmt::format("input {}, gate {}, in {} and out {} do not fit", to_string(x.shape), to_string(gate.shape), to_string(in.shape), to_string(out.shape)));
  const Function f = activation(e.graph, e.node);
  Shape s = x.shape;
  s.back() = O;
  Array<double> y(s);
  std::vector<double> score(static_cast<std::size_t>(E)), hidden(static_cast<std::size_t>(H)), other(hidden.size());
  std::vector<std::int64_t> order(score.size());
  // row of length D times one expert's [D, H].
  const auto times = [&](const double* a, std::int64_t rows, const Array<double>& w, const Array<double>* bias, std::int64_t expert, std::vector<double>& to) {
    const auto columns = static_cast<std::int64_t>(to.size());
    for (std::int64_t c = 0; c < columns; ++c) to[static_cast<std::size_t>(c)] = bias ? bias->v[static_cast<std::size_t>(expert * columns + c)] : 0;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < columns; ++c) to[static_cast<std::size_t>(c)] += a[r] * w.v[static_cast<std::size_t>((expert * rows + r) * columns + c)];
  };
  std::vector<double> result(static_cast<std::size_t>(O));
  for (std::int64_t t = 0; t < tokens; ++t) {
    const double* row = x.v.data() + t * D;
    times(row, D, gate, nullptr, 0, score);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return score[static_cast<std::size_t>(a)] > score[static_cast<std::size_t>(b)]; });
    double total = 0;
    for (std::int64_t i = 0; i < k; ++i) total += std::exp(score[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])] - score[static_cast<std::size_t>(order[0])]);
    for (std::int64_t i = 0; i < k; ++i) {
      const std::int64_t expert = order[static_cast<std::size_t>(i)];
      times(row, D, in, has(e, 4) ? e.in[4] : nullptr, expert, hidden);
      for (double& h : hidden) h = f(h);
      if (has(e, 6)) {
        times(row, D, *e.in[6], nullptr, expert, other);
        for (std::size_t h = 0; h < hidden.size(); ++h) hidden[h] *= other[h];
      }
      times(hidden.data(), H, out, has(e, 5) ? e.in[5] : nullptr, expert, result);
      const double weight = std::exp(score[static_cast<std::size_t>(expert)] - score[static_cast<std::size_t>(order[0])]) / total;
      for (std::int64_t o = 0; o < O; ++o) y.v[static_cast<std::size_t>(t * O + o)] += weight * result[static_cast<std::size_t>(o)];
    }
  }
  e.out[0] = std::move(y);
}
void sample_experts(const OpDef& op, Sample& s) {
  static const char* names[] = {"identity", "relu", "gelu", "silu", "tanh"};
  const std::int64_t D = s.r.range(1, 4), E = s.r.range(1, 4), H = s.r.range(1, 4), O = s.r.range(1, 3);
  Shape x = s.shape(0, 2);
  x.push_back(D);
  std::vector<ValueId> in{s.input(x), s.constant({D, E}, -1, 1), s.constant({E, D, H}, -1, 1), s.constant({E, H, O}, -1, 1), kNone, kNone};
  if (s.r.chance(0.5)) in[4] = s.constant({E, H}, -1, 1), in[5] = s.constant({E, O}, -1, 1);
  if (s.r.chance(0.5)) in.push_back(s.constant({E, D, H}, -1, 1));
  s.node(op, in, {{"k", s.r.range(1, E)}, {"activation", std::string(names[s.r.range(0, 4)])}});
}

const std::vector<AttrDef> kRotaryAttributes{{"interleaved", AttrType::integer, "0", "1: pairs are neighbours, 0: the two halves"}, {"num_heads", AttrType::integer, "0", "of an input of rank 3"}, {"rotary_embedding_dim", AttrType::integer, "0", "columns rotated; 0: all"}};
constexpr std::string_view kRotaryDoc = "Pairs (a, b) of columns of a head become (a cos - b sin, a sin + b cos), by the tables' row for the position.";
const OpDef kOps[] = {
    OpDef{.domain = "", .name = "Attention", .summary = "Scaled dot-product attention.",
          .doc = "Y = softmax(softcap(scale Q K^T) + mask) V for each head; query head h reads key head h / (q heads / kv heads). Causal: key j is seen by query i where j <= i + past length (nonpad_kv_seqlen without past: + its length - queries).", .source = "ONNX Attention-24",
          .inputs = {{"Q", "[batch, length, heads * size] or [batch, heads, length, size]"}, {"K", "as Q"}, {"V", "as Q"}, {"attn_mask", "booleans, or added to the scores", true}, {"past_key", "[batch, kv heads, past, size]", true}, {"past_value", "as past_key", true}, {"nonpad_kv_seqlen", "[batch]: keys that count", true}},
          .outputs = {{"Y", "as Q"}, {"present_key", "past and new", true}, {"present_value", "past and new", true}, {"qk_matmul_output", "scores, as qk_matmul_output_mode says", true}},
          .attributes = {{"is_causal", AttrType::integer, "0", "1: no look ahead"}, {"kv_num_heads", AttrType::integer, "0", "of rank 3"}, {"q_num_heads", AttrType::integer, "0", "of rank 3"}, {"qk_matmul_output_mode", AttrType::integer, "0", "0: products, 1: after softcap, 2: with the mask, 3: after softmax"},
                         {"scale", AttrType::real, "1/sqrt(size)", "of the products"}, {"softcap", AttrType::real, "0", "c tanh(x / c); 0: none"}, {"softmax_precision", AttrType::integer, "", "not read: softmax is f64"}},
          .infer = infer_attention, .eval = {attention_eval, nullptr}, .adjoint = adjoint_expanded, .expansion = expand_attention, .sample = sample_attention},
    OpDef{.domain = "", .name = "RotaryEmbedding", .summary = "Rotates columns by the position.", .doc = kRotaryDoc, .source = "ONNX RotaryEmbedding-23; Su et al. 2021",
          .inputs = {{"X", "[batch, length, heads * size] or [batch, heads, length, size]"}, {"cos_cache", "[positions, rotated / 2], or [batch, length, rotated / 2] without position_ids"}, {"sin_cache", "as cos_cache"}, {"position_ids", "[batch, length]", true}},
          .outputs = {{"Y", "shape of X"}}, .attributes = kRotaryAttributes, .infer = infer_rotary, .eval = {rotary_eval, nullptr}, .adjoint = adjoint_expanded, .expansion = expand_rotary, .sample = sample_rotary},
    OpDef{.domain = "", .name = "TensorScatter", .summary = "Writes into a cache.", .doc = "Y = past_cache with `update` along the axis from write_indices[b] on; circular: modulo its length.", .source = "ONNX TensorScatter-24",
          .inputs = {{"past_cache", "[batch, ...]"}, {"update", "not longer along the axis"}, {"write_indices", "[batch]; default 0", true}}, .outputs = {{"Y", "shape of past_cache"}}, .attributes = {{"axis", AttrType::integer, "-2", "not the batch"}, {"mode", AttrType::string, "linear", "linear or circular"}},
          .infer = infer_cache, .eval = {cache_eval, nullptr}, .adjoint = adjoint_expanded, .expansion = expand_cache, .sample = sample_cache},
    OpDef{.domain = kMicrosoft, .name = "RotaryEmbedding", .summary = "Rotates columns by the position.", .doc = kRotaryDoc, .source = "onnxruntime com.microsoft.RotaryEmbedding",
          .inputs = {{"X", "[batch, length, heads * size] or [batch, heads, length, size]"}, {"position_ids", "[batch, length], or [1]: the first"}, {"cos_cache", "[positions, rotated / 2]"}, {"sin_cache", "as cos_cache"}}, .outputs = {{"Y", "shape of X"}},
          .attributes = [] { auto a = kRotaryAttributes; a.push_back({"scale", AttrType::real, "1", "not read"}); a.push_back({"is_packed_batching", AttrType::integer, "0", "only 0"}); return a; }(), .infer = infer_rotary, .eval = {rotary_eval, nullptr}, .adjoint = adjoint_expanded, .expansion = expand_rotary, .sample = sample_rotary},
    OpDef{.domain = kMicrosoft, .name = "MultiHeadAttention", .summary = "Attention over rows of queries, keys and values.", .doc = "As Attention, with a bias for the three, attention_bias added to the scores, and mask_filter_value added where a key is padding or (unidirectional) ahead.",
          .source = "onnxruntime com.microsoft.MultiHeadAttention", .inputs = {{"query", "[batch, length, heads * size]"}, {"key", "as query"}, {"value", "as query"}, {"bias", "columns of all three", true}, {"key_padding_mask", "[batch]: lengths, or [batch, total]: 0 where padding", true}, {"attention_bias", "broadcasts to [batch, heads, length, total]", true},
                     {"past_key", "[batch, heads, past, size]", true}, {"past_value", "as past_key", true}}, .outputs = {{"Y", "[batch, length, heads * size]"}, {"present_key", "past and new", true}, {"present_value", "past and new", true}},
          .attributes = {{"num_heads", AttrType::integer, "required", "heads"}, {"mask_filter_value", AttrType::real, "-10000", "added to what is masked"}, {"scale", AttrType::real, "1/sqrt(size)", "of the products; 0: the default"}, {"unidirectional", AttrType::integer, "0", "1: no look ahead"}},
          .infer = infer_multi_head, .eval = {multi_head_eval, nullptr}, .sample = sample_multi_head},
    OpDef{.domain = "tandem", .name = "MoE", .summary = "A mixture of routed experts.", .doc = "Of each row x the k experts of largest (x gate) are asked (equal ones: the lower index); Y = sum of softmax over the chosen * ((activation(x in + b_in) * (x up)) out + b_out); without `up` that factor is 1.",
          .source = "Shazeer et al. 2017", .inputs = {{"X", "[..., D]"}, {"gate", "[D, experts]"}, {"in", "[experts, D, H]"}, {"out", "[experts, H, D']"}, {"b_in", "[experts, H]", true}, {"b_out", "[experts, D']", true}, {"up", "[experts, D, H]", true}}, .outputs = {{"Y", "[..., D']"}},
          .attributes = {{"k", AttrType::integer, "1", "experts asked"}, {"activation", AttrType::string, "relu", "identity, relu, gelu, silu or tanh"}}, .infer = infer_experts, .eval = {experts_eval, nullptr}, .sample = sample_experts},
};

}  // namespace

std::span<const OpDef> attention_ops() { return kOps; }

}  // namespace tandem::ir
