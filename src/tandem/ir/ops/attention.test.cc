// Masks and lengths of attention, rotations as complex products, caches, and routed experts against a loop.
#include <gtest/gtest.h>

#include <cmath>
#include <complex>

#include "tandem/ir/arrays.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Attrs = std::map<std::string, Attribute>;

std::vector<Tensor> run(std::string domain, const char* op, const Attrs& attrs, const std::vector<const Tensor*>& in, std::size_t outputs = 1) {
  Graph g;
  std::vector<ValueId> ids;
  std::vector<Tensor> data;
  for (const Tensor* t : in) {
    ids.push_back(t ? g.add_input(g.unique_name("x"), t->dtype(), dims_of(t->shape())) : kNone);
    if (t) data.push_back(*t);
  }
  std::vector<ValueId> out{g.add_node(op, ids, attrs, "probe", domain)};
  for (std::size_t i = 1; i < outputs; ++i) out.push_back(g.add_value(g.unique_name("more")));
  g.nodes.back().outputs = out;
  g.outputs = out;
  verify(g);
  infer_shapes(g);
  return evaluate_float(g, data);
}
Tensor random(Rng& r, const Shape& s) {
  Tensor t(DType::f32, s);
  for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, static_cast<double>(r.range(-64, 64)) / 64);
  return t;
}

// Booleans are 0 and -infinity; lengths cut the keys; a causal query block behind a static cache ends with its length.
TEST(Attention, Masks) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Rng r(seed, "masks");
    const std::int64_t B = r.range(1, 2), H = r.range(1, 2), L = r.range(1, 3), T = L + r.range(0, 3), D = r.range(1, 3);
    const Tensor q = random(r, {B, H, L, D}), k = random(r, {B, H, T, D}), v = random(r, {B, H, T, D});
    Tensor truth(DType::boolean, {B, 1, L, T}), added(DType::f32, {B, 1, L, T});
    for (std::int64_t i = 0; i < truth.size(); ++i) {
      const bool seen = i % T == 0 || r.chance(0.6);  // every query sees the first key
      truth.set(i, seen), added.set(i, seen ? 0 : -INFINITY);
    }
    EXPECT_TRUE(run("", "Attention", {}, {&q, &k, &v, &truth})[0].same(run("", "Attention", {}, {&q, &k, &v, &added})[0])) << seed;
    Tensor lengths(DType::i64, {B});
    for (std::int64_t b = 0; b < B; ++b) lengths.set(b, static_cast<double>(r.range(L, T)));
    for (const std::int64_t causal : {0, 1}) {
      Tensor cut(DType::f32, {B, 1, L, T});
      for (std::int64_t b = 0; b < B; ++b)
        for (std::int64_t i = 0; i < L; ++i)
          for (std::int64_t j = 0; j < T; ++j) cut.set((b * L + i) * T + j, j < lengths.at(b) && (!causal || j <= i + lengths.at(b) - static_cast<double>(L)) ? 0 : -INFINITY);
      EXPECT_TRUE(run("", "Attention", {{"is_causal", causal}}, {&q, &k, &v, nullptr, nullptr, nullptr, &lengths})[0].same(run("", "Attention", {}, {&q, &k, &v, &cut})[0])) << seed;
    }
    // A mask of fewer columns hides the keys behind it.
    if (T > 1) {
      Tensor shorter(DType::f32, {L, T - 1}), whole(DType::f32, {L, T});
      for (std::int64_t i = 0; i < L; ++i) whole.set(i * T + T - 1, -INFINITY);
      EXPECT_TRUE(run("", "Attention", {}, {&q, &k, &v, &shorter})[0].same(run("", "Attention", {}, {&q, &k, &v, &whole})[0])) << seed;
    }
  }
}

TEST(Attention, RotationsAreComplexProducts) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Rng r(seed, "rotary");
    const std::int64_t B = r.range(1, 2), H = r.range(1, 3), L = r.range(1, 4), half = r.range(1, 3), D = 2 * half + r.range(0, 2), P = 6;
    const bool interleaved = r.chance(0.5), joined = r.chance(0.5), positions = r.chance(0.5);
    const Tensor x = random(r, joined ? Shape{B, L, H * D} : Shape{B, H, L, D});
    const Shape table = positions ? Shape{P, half} : Shape{B, L, half};
    Tensor c(DType::f32, table), s(DType::f32, table), ids(DType::i64, {B, L});
    for (std::int64_t i = 0; i < c.size(); ++i) c.set(i, std::cos(static_cast<double>(i) + 0.5)), s.set(i, std::sin(static_cast<double>(i) + 0.5));
    for (std::int64_t i = 0; i < ids.size(); ++i) ids.set(i, static_cast<double>(r.range(0, P - 1)));
    Attrs a{{"interleaved", std::int64_t{interleaved}}, {"rotary_embedding_dim", D == 2 * half ? std::int64_t{0} : 2 * half}};
    if (joined) a["num_heads"] = H;
    const Tensor y = run("", "RotaryEmbedding", a, {&x, &c, &s, positions ? &ids : nullptr})[0];
    if (positions) EXPECT_TRUE(y.same(run("com.microsoft", "RotaryEmbedding", a, {&x, &ids, &c, &s})[0])) << seed;
    for (std::int64_t b = 0; b < B; ++b)
      for (std::int64_t h = 0; h < H; ++h)
        for (std::int64_t l = 0; l < L; ++l) {
          const auto at = [&](std::int64_t d) { return joined ? ((b * L + l) * H + h) * D + d : ((b * H + h) * L + l) * D + d; };
          const std::int64_t row = positions ? ids.int_at(b * L + l) : b * L + l;
          for (std::int64_t k = 0; k < half; ++k) {
            const std::int64_t i = interleaved ? 2 * k : k, j = interleaved ? 2 * k + 1 : half + k;
            const std::complex<double> z = std::complex(x.at(at(i)), x.at(at(j))) * std::complex(c.at(row * half + k), s.at(row * half + k));
            EXPECT_NEAR(y.at(at(i)), z.real(), 1e-6) << seed;
            EXPECT_NEAR(y.at(at(j)), z.imag(), 1e-6) << seed;
          }
          for (std::int64_t d = 2 * half; d < D; ++d) EXPECT_EQ(y.at(at(d)), x.at(at(d))) << seed;
        }
  }
}

TEST(Attention, Caches) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Rng r(seed, "caches");
    const std::int64_t B = r.range(1, 3), H = r.range(1, 2), T = r.range(1, 5), L = r.range(1, T), D = r.range(1, 3);
    const bool circular = r.chance(0.5);
    const Tensor past = random(r, {B, H, T, D}), update = random(r, {B, H, L, D});
    Tensor at(DType::i64, {B});
    for (std::int64_t b = 0; b < B; ++b) at.set(b, static_cast<double>(r.range(0, circular ? 9 : T - L)));
    const Tensor y = run("", "TensorScatter", {{"mode", std::string(circular ? "circular" : "linear")}}, {&past, &update, &at})[0];
    Tensor want = past;
    for (std::int64_t b = 0; b < B; ++b)
      for (std::int64_t h = 0; h < H; ++h)
        for (std::int64_t l = 0; l < L; ++l)
          for (std::int64_t d = 0; d < D; ++d) want.set(((b * H + h) * T + (at.int_at(b) + l) % T) * D + d, update.at(((b * H + h) * L + l) * D + d));
    EXPECT_TRUE(y.same(want)) << seed;
  }
}

TEST(Moe, AgainstALoop) {
  static const std::pair<const char*, double (*)(double)> functions[] = {{"identity", [](double x) { return x; }},
                                                                         {"relu", [](double x) { return x > 0 ? x : 0.0; }},
                                                                         {"gelu", [](double x) { return x * std::erfc(-x / std::sqrt(2.0)) / 2; }},
                                                                         {"silu", [](double x) { return x * (0.5 + 0.5 * std::tanh(x / 2)); }},
                                                                         {"tanh", [](double x) { return 1 - 2 / (1 + std::exp(2 * x)); }}};
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Rng r(seed, "experts");
    const std::int64_t N = r.range(1, 4), D = r.range(1, 4), E = r.range(1, 5), H = r.range(1, 4), O = r.range(1, 3), k = r.range(1, E);
    const bool biased = r.chance(0.5), gated = r.chance(0.5);
    const auto& [name, f] = functions[seed % 5];
    const Tensor x = random(r, {N, D}), gate = random(r, {D, E}), in = random(r, {E, D, H}), out = random(r, {E, H, O}), bi = random(r, {E, H}), bo = random(r, {E, O}), up = random(r, {E, D, H});
    const Tensor y = run("tandem", "MoE", {{"k", k}, {"activation", std::string(name)}}, {&x, &gate, &in, &out, biased ? &bi : nullptr, biased ? &bo : nullptr, gated ? &up : nullptr})[0];
    ASSERT_EQ(y.shape(), (Shape{N, O}));
    for (std::int64_t n = 0; n < N; ++n) {
      std::vector<double> score;
      for (std::int64_t e = 0; e < E; ++e) {
        double s = 0;
        for (std::int64_t d = 0; d < D; ++d) s += x.at(n * D + d) * gate.at(d * E + e);
        score.push_back(s);
      }
      std::vector<bool> chosen(score.size());
      double total = 0;
      for (std::int64_t i = 0; i < k; ++i) {  // the largest that is left, k times
        std::size_t best = score.size();
        for (std::size_t e = 0; e < score.size(); ++e)
          if (!chosen[e] && (best == score.size() || score[e] > score[best])) best = e;
        chosen[best] = true;
        total += std::exp(score[best]);
      }
      for (std::int64_t o = 0; o < O; ++o) {
        double want = 0;
        for (std::int64_t e = 0; e < E; ++e) {
          if (!chosen[static_cast<std::size_t>(e)]) continue;
          double v = biased ? bo.at(e * O + o) : 0;
          for (std::int64_t h = 0; h < H; ++h) {
            double a = biased ? bi.at(e * H + h) : 0, u = gated ? 0 : 1;
            for (std::int64_t d = 0; d < D; ++d) {
              a += x.at(n * D + d) * in.at((e * D + d) * H + h);
              if (gated) u += x.at(n * D + d) * up.at((e * D + d) * H + h);
            }
            v += f(a) * u * out.at((e * H + h) * O + o);
          }
          want += std::exp(score[static_cast<std::size_t>(e)]) / total * v;
        }
        EXPECT_NEAR(y.at(n * O + o), want, 1e-5 * (1 + std::abs(want))) << seed;
      }
    }
  }
}

TEST(Attention, Refusals) {
  const auto expect = [](const char* domain, const char* op, const Attrs& a, const std::vector<const Tensor*>& in, std::string_view part) {
    try {
      run(domain, op, a, in);
      ADD_FAILURE() << "accepted: " << part;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input);
      EXPECT_NE(e.full().find(part), std::string::npos) << e.full();
      EXPECT_NE(e.full().find("probe"), std::string::npos) << e.full();
    }
  };
  const Tensor x(DType::f32, {1, 2, 6}), y(DType::f32, {1, 3, 6}), q(DType::f32, {1, 3, 2, 2}), k(DType::f32, {1, 2, 2, 2}), table(DType::f32, {4, 1}), wide(DType::f32, {4, 3});
  const Tensor ids = Tensor::of<std::int64_t>({1, 2}, std::vector<std::int64_t>{0, 4}), far = Tensor::of<std::int64_t>({1}, std::vector<std::int64_t>{3}), scalar(DType::f32, {1, 2, 2, 3});
  expect("", "Attention", {}, {&x, &x, &x}, "q_num_heads");
  expect("", "Attention", {{"q_num_heads", std::int64_t{4}}, {"kv_num_heads", std::int64_t{2}}}, {&x, &x, &x}, "q_num_heads is 4");
  expect("", "Attention", {}, {&q, &k, &k}, "3 heads of queries");
  expect("", "Attention", {{"q_num_heads", std::int64_t{2}}, {"kv_num_heads", std::int64_t{2}}}, {&x, &x, &y}, "do not fit");
  expect("", "Attention", {}, {&k, &k, &k, nullptr, &k}, "without past_value");
  expect("", "Attention", {}, {&k, &k, &k, &scalar}, "a mask");
  expect("", "Attention", {{"qk_matmul_output_mode", std::int64_t{4}}}, {&k, &k, &k}, "is 4");
  expect("", "RotaryEmbedding", {}, {&x, &table, &table, &ids}, "num_heads is missing");
  expect("", "RotaryEmbedding", {{"num_heads", std::int64_t{3}}}, {&x, &table, &table, &ids}, "position 4 of 4");
  expect("", "RotaryEmbedding", {{"num_heads", std::int64_t{3}}}, {&x, &wide, &wide, &ids}, "half as many columns");
  expect("", "TensorScatter", {{"axis", std::int64_t{1}}}, {&x, &y}, "an update");
  expect("", "TensorScatter", {{"axis", std::int64_t{0}}}, {&x, &x}, "the axis is the batch");
  expect("", "TensorScatter", {{"axis", std::int64_t{1}}}, {&y, &x, &far}, "at place 3 of 3");
  expect("com.microsoft", "MultiHeadAttention", {{"num_heads", std::int64_t{5}}}, {&x, &x, &x}, "num_heads is 5");
  expect("com.microsoft", "MultiHeadAttention", {{"num_heads", std::int64_t{2}}}, {&q, &k, &k}, "packed ones");
  const Tensor gate(DType::f32, {6, 2}), in(DType::f32, {2, 6, 3}), out(DType::f32, {2, 3, 4}), bad(DType::f32, {2, 5, 3});
  expect("tandem", "MoE", {{"k", std::int64_t{3}}}, {&x, &gate, &in, &out}, "k is 3");
  expect("tandem", "MoE", {}, {&x, &gate, &bad, &out}, "do not fit");
  expect("tandem", "MoE", {{"activation", std::string("sine")}}, {&x, &gate, &in, &out}, "'sine'");
  expect("tandem", "MoE", {}, {&x, &gate, &in, &out, &gate}, "input 4 is");
}

}  // namespace
}  // namespace tandem::ir
