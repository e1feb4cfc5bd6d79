#include "tandem/ir/llama2.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tandem/base/error.h"
#include "tandem/base/rng.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {

struct Checkpoint {
  std::int32_t dim, hidden, layers, heads, kv, vocab, seq;  // vocab < 0: a classifier of its own
  std::vector<float> w;
  std::string bytes() const {
    std::string b(reinterpret_cast<const char*>(this), 28);
    return b.append(reinterpret_cast<const char*>(w.data()), w.size() * 4);
  }
};
Checkpoint random_checkpoint(Rng& r) {
  Checkpoint c{};
  c.kv = static_cast<std::int32_t>(r.range(1, 2)), c.heads = c.kv * static_cast<std::int32_t>(r.range(1, 2));
  const auto head = static_cast<std::int32_t>(2 * r.range(1, 3));
  c.dim = head * c.heads, c.hidden = static_cast<std::int32_t>(r.range(3, 9)), c.layers = static_cast<std::int32_t>(r.range(1, 3));
  c.seq = static_cast<std::int32_t>(r.range(8, 10));
  const bool own = r.chance(0.5);
  const auto vocab = static_cast<std::int32_t>(r.range(5, 12));
  c.vocab = own ? -vocab : vocab;
  const std::int64_t kvd = c.kv * head, d = c.dim;
  const std::int64_t n = vocab * d + c.layers * (2 * d + 2 * d * d + 2 * kvd * d + 3 * c.hidden * d) + d + c.seq * head + (own ? vocab * d : 0);
  for (std::int64_t i = 0; i < n; ++i) c.w.push_back(static_cast<float>(r.uniform() * 2 - 1));
  return c;
}

// The same network written a second time: one token after the other, keys and values kept, in double.
std::vector<std::vector<double>> plain(const Checkpoint& c, const std::vector<std::int64_t>& ids) {
  const std::int64_t d = c.dim, H = c.heads, D = d / H, kvd = c.kv * D, f = c.hidden, V = std::abs(c.vocab), L = c.layers;
  const float* p = c.w.data();
  const auto take = [&](std::int64_t n) { const float* q = p; p += n; return q; };
  const float *emb = take(V * d), *an = take(L * d), *wq = take(L * d * d), *wk = take(L * kvd * d), *wv = take(L * kvd * d), *wo = take(L * d * d), *fn = take(L * d),
              *w1 = take(L * f * d), *w2 = take(L * d * f), *w3 = take(L * f * d), *last = take(d);
  take(c.seq * D);
  const float* cls = c.vocab > 0 ? emb : take(V * d);
  using Vec = std::vector<double>;
  const auto norm = [&](const Vec& x, const float* w) {
    double s = 0;
    for (double v : x) s += v * v;
    Vec y(x);
    for (std::int64_t i = 0; i < d; ++i) y[static_cast<std::size_t>(i)] *= w[i] / std::sqrt(s / static_cast<double>(d) + 1e-5);
    return y;
  };
  const auto times = [](const float* w, const Vec& x, std::int64_t rows) {
    Vec y(static_cast<std::size_t>(rows));
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::size_t j = 0; j < x.size(); ++j) y[static_cast<std::size_t>(i)] += static_cast<double>(w[i * static_cast<std::int64_t>(x.size()) + static_cast<std::int64_t>(j)]) * x[j];
    return y;
  };
  const auto turn = [&](Vec& x, std::size_t pos) {
    for (std::size_t i = 0; i < x.size(); i += 2) {
      const double angle = static_cast<double>(pos) / std::pow(10000.0, static_cast<double>(i % static_cast<std::size_t>(D)) / static_cast<double>(D)), a = x[i], b = x[i + 1];
      x[i] = a * std::cos(angle) - b * std::sin(angle), x[i + 1] = a * std::sin(angle) + b * std::cos(angle);
    }
  };
  std::vector<std::vector<Vec>> keys(static_cast<std::size_t>(L)), values(static_cast<std::size_t>(L));
  std::vector<Vec> out;
  for (std::size_t t = 0; t < ids.size(); ++t) {
    Vec x(emb + ids[t] * d, emb + (ids[t] + 1) * d);
    for (std::int64_t l = 0; l < L; ++l) {
      const auto at = static_cast<std::size_t>(l);
      const Vec n = norm(x, an + l * d);
      Vec q = times(wq + l * d * d, n, d), k = times(wk + l * kvd * d, n, kvd);
      turn(q, t), turn(k, t);
      keys[at].push_back(k), values[at].push_back(times(wv + l * kvd * d, n, kvd));
      Vec y(static_cast<std::size_t>(d));
      for (std::int64_t h = 0; h < H; ++h) {
        const std::int64_t g = h / (H / c.kv);
        Vec s;
        double most = -1e300, sum = 0;
        for (const Vec& key : keys[at]) {
          double v = 0;
          for (std::int64_t i = 0; i < D; ++i) v += q[static_cast<std::size_t>(h * D + i)] * key[static_cast<std::size_t>(g * D + i)];
          s.push_back(v / std::sqrt(static_cast<double>(D)));
          most = std::max(most, s.back());
        }
        for (double& v : s) sum += v = std::exp(v - most);
        for (std::size_t j = 0; j < s.size(); ++j)
          for (std::int64_t i = 0; i < D; ++i) y[static_cast<std::size_t>(h * D + i)] += s[j] / sum * values[at][j][static_cast<std::size_t>(g * D + i)];
      }
      const Vec a = times(wo + l * d * d, y, d);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] += a[i];
      const Vec m = norm(x, fn + l * d), up = times(w3 + l * f * d, m, f);
      Vec gate = times(w1 + l * f * d, m, f);
      for (std::size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
      const Vec b = times(w2 + l * d * f, gate, d);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] += b[i];
    }
    out.push_back(times(cls, norm(x, last), V));
  }
  return out;
}

std::vector<std::int64_t> random_ids(Rng& r, std::int64_t n, std::int64_t vocab) {
  std::vector<std::int64_t> ids;
  while (n-- > 0) ids.push_back(r.range(0, vocab - 1));
  return ids;
}
Tensor row(const std::vector<std::int64_t>& ids) { return Tensor::of<std::int64_t>({1, static_cast<std::int64_t>(ids.size())}, ids); }

TEST(Llama2, EqualsTheNetworkWrittenTwice) {
  for (std::uint64_t seed = 0; seed < 24; ++seed) {
    Rng r(seed, "llama2");
    const Checkpoint c = random_checkpoint(r);
    const std::string bytes = c.bytes();
    EXPECT_TRUE(is_llama2(bytes, bytes.size()));
    const Graph g = parse_llama2(bytes);
    verify(g);
    const std::vector<std::int64_t> ids = random_ids(r, r.range(1, 8), std::abs(c.vocab));
    const auto want = plain(c, ids);
    const Graph bound = bind_inputs(g, {{"ids", {1, static_cast<std::int64_t>(ids.size())}}});
    const Tensor y = evaluate_float(bound, {row(ids)})[0];
    ASSERT_EQ(y.shape(), (Shape{1, static_cast<std::int64_t>(ids.size()), std::abs(c.vocab)}));
    for (std::size_t t = 0; t < ids.size(); ++t)
      for (std::size_t k = 0; k < want[t].size(); ++k)  // every node rounds to f32
        EXPECT_NEAR(y.at(static_cast<std::int64_t>(t * want[t].size() + k)), want[t][k], 1e-4 * (1 + std::abs(want[t][k]))) << seed;
  }
}

// Token by token with the cache gives what one run over the whole gives.
TEST(Llama2, CacheGoesOn) {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    Rng r(seed, "llama2 cache");
    const Checkpoint c = random_checkpoint(r);
    const Graph g = parse_llama2(c.bytes(), {.cache = true});
    verify(g);
    const std::vector<std::int64_t> ids = random_ids(r, 6, std::abs(c.vocab));
    const auto want = plain(c, ids);
    std::vector<Tensor> cache(static_cast<std::size_t>(2 * c.layers), Tensor(DType::f32, {1, c.kv, 0, c.dim / c.heads}));
    for (std::size_t t = 0; t < ids.size();) {
      const std::size_t n = t == 0 ? 3 : 1;  // a prompt of three, then one at a time
      std::vector<Tensor> in{row({ids.begin() + static_cast<std::ptrdiff_t>(t), ids.begin() + static_cast<std::ptrdiff_t>(t + n)})};
      in.insert(in.end(), cache.begin(), cache.end());
      std::map<std::string, Shape> shapes;
      for (std::size_t i = 0; i < in.size(); ++i) shapes[g.values[static_cast<std::size_t>(g.inputs[i])].name] = in[i].shape();
      const std::vector<Tensor> out = evaluate_float(bind_inputs(g, shapes), in);
      t += n;
      for (std::size_t k = 0; k < want[0].size(); ++k)
        EXPECT_NEAR(out[0].at(static_cast<std::int64_t>((n - 1) * want[0].size() + k)), want[t - 1][k], 1e-4 * (1 + std::abs(want[t - 1][k]))) << seed;
      // Outputs: key and value of each layer in turn; inputs: likewise.
      cache.assign(out.begin() + 1, out.end());
      ASSERT_EQ(cache[0].shape()[2], static_cast<std::int64_t>(t));
    }
  }
}

// Written for opset 17, which has no RMSNormalization, it is made of what that opset has and computes the same.
TEST(Llama2, OlderOpsets) {
  Rng r(3, "llama2");
  const Checkpoint c = random_checkpoint(r);
  const Graph g = parse_llama2(c.bytes());
  const Graph old = parse_onnx(onnx_bytes(g, 17));
  EXPECT_TRUE(std::none_of(old.nodes.begin(), old.nodes.end(), [](const Node& n) { return n.op == "RMSNormalization"; }));
  const std::vector<std::int64_t> ids = random_ids(r, 5, std::abs(c.vocab));
  const std::map<std::string, Shape> shape{{"ids", {1, 5}}};
  const Tensor y = evaluate_float(bind_inputs(g, shape), {row(ids)})[0], z = evaluate_float(bind_inputs(old, shape), {row(ids)})[0];
  for (std::int64_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y.at(i), z.at(i), 1e-4 * (1 + std::abs(y.at(i))));
}

TEST(Llama2, BadFiles) {
  Rng r(1, "llama2");
  const std::string good = random_checkpoint(r).bytes();
  const auto refused = [](const std::string& b) {
    EXPECT_FALSE(is_llama2(b, b.size()));
    try {
      parse_llama2(b);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input) << e.full();
      EXPECT_FALSE(e.expected().empty());
      EXPECT_FALSE(e.fix().empty());
      return;
    }
    ADD_FAILURE() << "not refused";
  };
  for (const std::size_t cut : {std::size_t{0}, std::size_t{27}, std::size_t{28}, good.size() - 1}) refused(good.substr(0, cut));
  refused(good + "abcd");
  for (int field = 0; field < 7; ++field)
    for (const std::int32_t v : {0, -1, 1 << 30, INT32_MIN, INT32_MAX}) {
      if (field == 5 && v == -1) continue;
      std::string b = good;
      std::memcpy(b.data() + 4 * field, &v, 4);
      refused(b);
    }
  Limits small;
  small.memory_bytes = 100;
  EXPECT_THROW(parse_llama2(good, {}, small), Error);
}

}  // namespace
}  // namespace tandem::ir
