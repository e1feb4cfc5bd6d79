#include "tandem/ir/ops/by_table.h"

#include <bit>

#include "tandem/ir/ops/kit.h"
#include "tandem/ir/ops/tflite.h"

namespace tandem::ir {

std::vector<std::int32_t> tflite_exponentials(float scale, float beta, std::int64_t n) {
  using namespace tflite;
  const Multiplier f = multiplier(std::min(static_cast<double>(beta) * static_cast<double>(scale) * (1 << 26), 2147483647.0));
  const double most = std::floor(31.0 * (1 << 26) / std::ldexp(1.0, f.shift));
  std::vector<std::int32_t> t;
  for (std::int64_t d = 0; d < n; ++d)
    t.push_back(static_cast<double>(d) > most ? 0 : exp_negative(high_product(wrapped(-d * (std::int64_t{1} << f.shift)), f.m), 5));
  return t;
}

void softmax_by_table(std::span<const std::int64_t> below, std::span<const std::int32_t> exps, int bits, std::span<std::int64_t> y) {
  using namespace tflite;
  const auto part = [&](std::int64_t d) { return d < static_cast<std::int64_t>(exps.size()) ? exps[static_cast<std::size_t>(d)] : 0; };
  std::int64_t sum = 0;
  for (std::int64_t d : below) sum += (static_cast<std::int64_t>(part(d)) + (1 << 11)) >> 12;
  if (sum == 0 || sum > std::numeric_limits<std::int32_t>::max())
    throw Error(Exit::bad_input, fmt::format("the sum of {} exponentials of a table softmax is {}: it must be 1 to 2^31 - 1", below.size(), sum));
  const Reciprocal inverse = reciprocal(static_cast<std::int32_t>(sum), 12);
  const int shift = inverse.bits_over_unit + 31 - bits;
  for (std::size_t i = 0; i < below.size(); ++i) {
    const std::int64_t p = high_product(inverse.raw, part(below[i]));
    y[i] = std::min((p + (std::int64_t{1} << (shift - 1))) >> shift, (std::int64_t{1} << bits) - 1);
  }
}

std::vector<std::int32_t> root_table(int address_bits, int root_bits) {
  const std::size_t n = std::size_t{1} << address_bits;
  std::vector<std::int32_t> t(n, 0);
  for (std::size_t i = n / 4; i < n; ++i)
    t[i] = static_cast<std::int32_t>(std::lround(std::ldexp(1.0, root_bits) / std::sqrt((static_cast<double>(i) + 0.5) / static_cast<double>(n / 4))));
  return t;
}

void normalise_by_table(std::span<const std::int64_t> x, std::span<const std::int32_t> roots, int root_bits, int bits, std::int64_t epsilon, std::span<std::int64_t> y) {
  const Int128 n = static_cast<Int128>(x.size());
  Int128 sum = 0, squares = 0;
  for (std::int64_t v : x) sum += v, squares += static_cast<Int128>(v) * v;
  const Int128 spread = n * squares - sum * sum + epsilon;
  if (spread == 0) {
    std::fill(y.begin(), y.end(), 0);
    return;
  }
  const int address = std::bit_width(roots.size() - 1);
  int e = 0;
  while (spread >> (2 * e + 2) != 0) ++e;
  const Int128 at = 2 * e + 2 >= address ? spread >> (2 * e + 2 - address) : spread << (address - 2 * e - 2);
  const int shift = root_bits + e - bits;
  for (std::size_t i = 0; i < x.size(); ++i)
    y[i] = static_cast<std::int64_t>(((n * x[i] - sum) * roots[static_cast<std::size_t>(at)] + (Int128(1) << (shift - 1))) >> shift);
}

std::int64_t normalised_bound(std::int64_t n, std::span<const std::int32_t> roots, int root_bits, int bits) {
  // |D| <= sqrt((n - 1) V), and no root is more than `over` times too large.
  double over = 1;
  const std::size_t quarter = roots.size() / 4;
  for (std::size_t i = quarter; i < roots.size(); ++i)
    over = std::max(over, std::ldexp(static_cast<double>(roots[i]), -root_bits) * std::sqrt(static_cast<double>(i + 1) / static_cast<double>(quarter)));
  return static_cast<std::int64_t>(std::ceil(std::sqrt(static_cast<double>(n - 1)) * over * std::ldexp(1.0, bits))) + 1;
}

namespace {

// x as a whole number of steps above `from`.
std::int64_t steps(double x, double from, double scale) { return static_cast<std::int64_t>(std::nearbyint((x - from) / scale)); }
std::int64_t steps(const Rational& x, const Rational& from, double scale) {
  const Rational q = (x - from) / exact(scale) + Rational(1, 2);
  Integer k = floor_of(q);
  if (is_integer(q) && mpz_odd_p(k.get_mpz_t())) k -= 1;
  return k.get_si();
}
double scale_of(const Node& n) { return static_cast<float>(n.attr_float("x_scale", 1)); }
template <class T>
std::vector<std::int32_t> table_of(const Array<T>& t) {
  std::vector<std::int32_t> r;
  for (const T& v : t.v) r.push_back(static_cast<std::int32_t>(nearest_double(number_exact(v))));
  return r;
}

template <class F>
void check(const InferContext& c, F table) {
  if (c.dims(1).size() != 1) c.fail(fmt::format("a table of rank {}", c.dims(1).size()), "one axis");
  if (c.in[1]->dtype != DType::i32) c.fail("a table of another type", "i32");
  if (!c.dims(0).empty()) axis_of(c, c.node.attr_int("axis", -1), c.dims(0).size());
  else c.fail("a single number", "at least one axis");
  if (!(scale_of(c.node) > 0) || !std::isfinite(scale_of(c.node))) c.fail(fmt::format("x_scale is {}", scale_of(c.node)), "a positive number");
  if (!c.in_constant[1]) return;
  for (std::int64_t i = 0; i < c.in_constant[1]->size(); ++i)
    if (c.in_constant[1]->int_at(i) < 0) c.fail("a negative entry in its table", "0 or more");
  table(c.in_constant[1]->size());
}
void infer_softmax(InferContext& c) {
  check(c, [&](std::int64_t n) {
    if (n < 1 || n > kMostExponentials) c.fail(fmt::format("a table of {} entries", n), fmt::format("1 to {}", kMostExponentials));
    if (c.in_constant[1]->int_at(0) < 1 << 11) c.fail("a table that begins with less than 2^11", "exp(0) of 31 fraction bits");
  });
  const std::int64_t bits = c.node.attr_int("bits", 8);
  if (bits < 1 || bits > 16) c.fail(fmt::format("{} bits", bits), "1 to 16");
  infer_first(c);
}
void infer_normalize(InferContext& c) {
  check(c, [&](std::int64_t n) {
    if (n < 8 || n > kMostExponentials || !std::has_single_bit(static_cast<std::uint64_t>(n))) c.fail(fmt::format("a table of {} entries", n), fmt::format("a power of two, 8 to {}", kMostExponentials));
  });
  const std::int64_t root = c.node.attr_int("root_bits", 15), bits = c.node.attr_int("bits", 8);
  if (bits < 0 || root <= bits || root > 24) c.fail(fmt::format("root_bits {}, bits {}", root, bits), "0 <= bits < root_bits <= 24");
  const double e = c.node.attr_float("epsilon", 1e-5);
  if (!(e >= 0) || !std::isfinite(e)) c.fail(fmt::format("epsilon is {}", e), "0 or more");
  infer_first(c);
}

// f(the elements along the axis as integers, their results), and the value of a result's unit.
template <class T, class F>
void along_integers(EvalArgs<T>& e, int bits, F f) {
  const Array<T>& x = *e.in[0];
  const Around a(x.shape, normal_axis(e.node.attr_int("axis", -1), static_cast<std::int64_t>(x.shape.size()), e.graph, e.node));
  const double scale = scale_of(e.node);
  Array<T> y(x.shape);
  std::vector<std::int64_t> n(static_cast<std::size_t>(a.n)), r(n.size());
  for (std::int64_t o = 0; o < a.outer; ++o)
    for (std::int64_t i = 0; i < a.inner && a.n > 0; ++i) {
      const auto at = [&](std::int64_t k) { return static_cast<std::size_t>(a.at(o, k, i)); };
      const T* most = &x.v[at(0)];
      for (std::int64_t k = 1; k < a.n; ++k)
        if (x.v[at(k)] > *most) most = &x.v[at(k)];
      for (std::int64_t k = 0; k < a.n; ++k) n[static_cast<std::size_t>(k)] = steps(x.v[at(k)], *most, scale);
      f(n, r);
      for (std::int64_t k = 0; k < a.n; ++k) y.v[at(k)] = T(static_cast<double>(r[static_cast<std::size_t>(k)])) * number_of<T>(pow2(-bits));
    }
  e.out[0] = std::move(y);
}
struct SoftmaxEval {
  template <class T>
  static void run(EvalArgs<T>& e) {
    const std::vector<std::int32_t> exps = table_of(*e.in[1]);
    const int bits = static_cast<int>(e.node.attr_int("bits", 8));
    along_integers(e, bits, [&](std::vector<std::int64_t>& n, std::vector<std::int64_t>& y) {
      for (std::int64_t& d : n) d = -d;
      softmax_by_table(n, exps, bits, y);
    });
  }
};
struct NormalizeEval {
  template <class T>
  static void run(EvalArgs<T>& e) {
    const std::vector<std::int32_t> roots = table_of(*e.in[1]);
    const int bits = static_cast<int>(e.node.attr_int("bits", 8)), root_bits = static_cast<int>(e.node.attr_int("root_bits", 15));
    along_integers(e, bits, [&](const std::vector<std::int64_t>& n, std::vector<std::int64_t>& y) {
      normalise_by_table(n, roots, root_bits, bits, normalise_epsilon(e.graph, e.node, static_cast<std::int64_t>(n.size())), y);
    });
  }
};

void sample_softmax(const OpDef& op, Sample& s) {
  const float scale = static_cast<float>(s.r.range(1, 40)) / 64;
  Shape x = s.shape();
  const std::vector<std::int32_t> t = tflite_exponentials(scale, 1, s.r.range(1, 64));
  const ValueId table = s.g.add_constant(s.g.unique_name("t"), Tensor::of<std::int32_t>({static_cast<std::int64_t>(t.size())}, t));
  s.node(op, {s.input(x), table}, {{"axis", s.axis(x.size())}, {"x_scale", static_cast<double>(scale)}, {"bits", s.r.range(1, 16)}});
}
void sample_normalize(const OpDef& op, Sample& s) {
  Shape x = s.shape();
  const std::int64_t root = s.r.range(6, 18);
  const std::vector<std::int32_t> t = root_table(static_cast<int>(s.r.range(3, 9)), static_cast<int>(root));
  const ValueId table = s.g.add_constant(s.g.unique_name("t"), Tensor::of<std::int32_t>({static_cast<std::int64_t>(t.size())}, t));
  s.node(op, {s.input(x), table}, {{"axis", s.axis(x.size())}, {"x_scale", static_cast<double>(s.r.range(1, 8)) / 64}, {"root_bits", root}, {"bits", s.r.range(0, std::min<std::int64_t>(root - 1, 12))}, {"epsilon", 0.0078125}});
}

const AttrDef kAxis{"axis", AttrType::integer, "-1", "the axis"}, kScale{"x_scale", AttrType::real, "1", "X counts in steps of this"};
const OpDef kOps[] = {
    OpDef{.domain = "tandem", .name = "TableSoftmax", .summary = "Softmax as integer arithmetic with a table of exponentials.",
          .doc = "N = nearest integer of X / x_scale, E = exps[max N - N] with 31 fraction bits (0 beyond the table), Y = E / sum E rounded to `bits` fraction bits, below 1; the sum keeps 19 fraction bits, its reciprocal is three steps "
                 "of Newton's method in 32 bits: bit for bit TensorFlow Lite's int8 softmax where the table is.",
          .source = "TensorFlow Lite Micro, reference kernels", .inputs = {{"X", "any shape"}, {"exps", "i32 vector: exp by the difference to the largest element"}}, .outputs = {{"Y", "shape of X, multiples of 2^-bits"}},
          .attributes = {kAxis, kScale, {"bits", AttrType::integer, "8", "fraction bits of Y, 1 to 16"}}, .closure = Closure::index, .infer = infer_softmax, .eval = both<SoftmaxEval>(), .sample = sample_softmax},
    OpDef{.domain = "tandem", .name = "TableNormalize", .summary = "Mean 0 and variance 1 along an axis as integer arithmetic with a table of reciprocal roots.",
          .doc = "N = nearest integer of X / x_scale, n of them; D = n N - sum N, V = n sum N^2 - (sum N)^2 + the nearest integer of n^2 epsilon / x_scale^2 = m 4^e, 1 <= m < 4; Y = D roots[m 2^(A-2)] / 2^(root_bits + e) rounded to `bits` fraction "
                 "bits, ties up; 2^A entries. With the table of ir::root_table |error| <= |y| (2^-A + 2^-root_bits + 1/(4 V)) + 2^-(bits+1).",
          .source = "docs/semantics.md", .inputs = {{"X", "any shape"}, {"roots", "i32 vector of 2^A entries: 2^root_bits / sqrt(m)"}}, .outputs = {{"Y", "shape of X, multiples of 2^-bits"}},
          .attributes = {kAxis, kScale, {"epsilon", AttrType::real, "1e-05", "added to the variance"}, {"root_bits", AttrType::integer, "15", "fraction bits of the table"}, {"bits", AttrType::integer, "8", "fraction bits of Y"}},
          .closure = Closure::index, .infer = infer_normalize, .eval = both<NormalizeEval>(), .sample = sample_normalize},
};

}  // namespace

std::int64_t normalise_epsilon(const Graph& g, const Node& n, std::int64_t elements) {
  const Rational s = exact(scale_of(n));
  const Integer e = floor_of(Rational(exact(static_cast<float>(n.attr_float("epsilon", 1e-5))) * Integer(static_cast<long>(elements)) * Integer(static_cast<long>(elements)) / (s * s)) + Rational(1, 2));
  if (mpz_sizeinbase(e.get_mpz_t(), 2) > 62) throw node_error(g, n, "epsilon is too large for its scale");
  return e.get_si();
}

std::span<const OpDef> by_table_ops() { return kOps; }

}  // namespace tandem::ir
