// Properties that every operator literal must have, on random graphs; known answers on small cases.
#include <gtest/gtest.h>

#include <charconv>
#include <cmath>
#include <numeric>
#include <set>

#include "tandem/ir/arrays.h"
#include "tandem/ir/dump.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"
#include "tandem/ir/ops/cascade.h"
#include "tandem/ir/ops/tflite_kit.h"
#include "tandem/ir/ops/kit.h"
#include "tandem/ir/random_graph.h"

namespace tandem::ir {
namespace {

// What a map makes of its operands.
template <class T>
T by_map(const std::string& map, const std::vector<T>& v, const Graph& g, const Node& n) {
  if (map == "mul") return std::accumulate(v.begin(), v.end(), T(1), [](const T& a, const T& b) { return T(a * b); });
  if (map == "add") return std::accumulate(v.begin(), v.end(), T(0), [](const T& a, const T& b) { return T(a + b); });
  if (map == "sub") return v.at(0) - v.at(1);
  if (map == "div") return v.at(0) / v.at(1);
  if (map == "copy" || map == "pair") return v.at(0);
  if constexpr (std::is_same_v<T, double>) {
    const double x = v.at(0);
    const auto arg = [&](std::size_t i) { return v.at(i); };
    const auto reflected = [](double p, double lo, double hi) {  // to and fro between two walls
      if (hi <= lo) return lo;
      while (p < lo || p > hi) p = p < lo ? 2 * lo - p : 2 * hi - p;
      return p;
    };
    if (map == "hat") return std::max(0.0, 1 - std::abs(x - arg(1)));
    if (map == "fromend") return x < 0 ? x + arg(1) : x;
    if (map == "reflect") return reflected(x, arg(1), arg(2));
    if (map == "border") return x >= arg(1) && x <= arg(2) ? x : std::clamp(x, 0.0, arg(3));
    if (map == "pow") return std::pow(x, arg(1));
    if (map == "cubic") {
      const double d = std::abs(x - arg(1)), a = arg(2);
      return d <= 1 ? (a + 2) * d * d * d - (a + 3) * d * d + 1 : d < 2 ? a * d * d * d - 5 * a * d * d + 8 * a * d - 4 * a : 0;
    }
    if (map == "requantise") {
      const auto [lo, hi] = integer_range(g.values[static_cast<std::size_t>(n.outputs[0])].type.dtype);
      const float scale = static_cast<float>(arg(1)) * static_cast<float>(arg(2)) / static_cast<float>(arg(3));
      return std::clamp(static_cast<double>(std::nearbyint(static_cast<float>(x) * scale)) + arg(4), lo, hi);
    }
    if (map == "scaled" || map == "feature_scaled" || map == "time_scaled") {  // forms of TensorFlow Lite
      using namespace tflite;
      const std::size_t port = map == "feature_scaled" ? 1 : 0;
      const DType t = g.values[static_cast<std::size_t>(n.outputs[port])].type.dtype;
      const Quantised to = quantised(n, port == 1 ? "state" : "y");
      const std::vector<float> ws = scales(n, "w_scale");
      const float a = quantised(n, "x").scale, w = ws.empty() ? 1 : ws[ws.size() == 1 ? 0 : static_cast<std::size_t>(arg(1))], s = quantised(n, "state").scale;
      const auto real = [&](const char* key) { return static_cast<float>(n.attr_float(key, 1)); };
      const double factor = map == "feature_scaled"                       ? static_cast<double>(a * real("feature_scale") / s)
                            : map == "time_scaled"                        ? static_cast<double>(s * real("time_scale") / to.scale)
                            : n.op == "BatchMatMul"                       ? static_cast<double>(real("a_scale")) * static_cast<double>(real("b_scale")) / static_cast<double>(to.scale)
                            : n.op == "FullyConnected" && ws.size() == 1 ? static_cast<double>(a * w) / static_cast<double>(to.scale)
                                                                         : static_cast<double>(a) * static_cast<double>(w) / static_cast<double>(to.scale);
      const bool wide = n.attr_int("accumulator", 32) == 64 || (n.op == "BatchMatMul" && t == DType::i16);
      const auto sum = static_cast<std::int64_t>(x);
      const Range range = port == 1 ? range_of(t) : activation_range(n, t, to);
      if (port == 1) return static_cast<double>(to.zero + clamped(scaled(wrapped(sum), multiplier(factor)), range));
      return static_cast<double>(clamped(static_cast<std::int64_t>(wide ? scaled_wide(sum, multiplier(factor)) : scaled(wrapped(sum), multiplier(factor))) + to.zero, range));
    }
    // Else it is an operator's name: the node's own, with its attributes, or a plain one.
    const auto low = [](std::string_view s) {
      std::string r;
      for (char c : s) r += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      return r;
    };
    std::vector<Array<double>> in(v.size(), Array<double>(Shape{})), out(std::max<std::size_t>(1, n.outputs.size()));
    for (std::size_t i = 0; i < v.size(); ++i) in[i].v[0] = v[i];
    const bool own = low(n.op) == map;
    if (own && n.op == "BatchNormalization") {
      in[0] = Array<double>(Shape{1, 1});
      in[0].v[0] = x;
      for (std::size_t i = 1; i < in.size(); ++i) in[i].shape = {1};
    }
    static const Graph scratch = [] {
      Graph s;
      s.add_input("x", DType::f64, {});
      return s;
    }();
    for (const OpDef* o : all_ops()) {
      if (low(o->name) != map || (own && o->domain != n.domain)) continue;
      const Node plain{.op = std::string(o->name), .outputs = {0}};
      EvalArgs<double> e{own ? g : scratch, own ? n : plain, {}, out};
      std::size_t k = 0;
      for (std::size_t i = 0; i < (own ? n.inputs.size() : in.size()); ++i) e.in.push_back(own && n.inputs[i] == kNone ? nullptr : k < in.size() ? &in[k++] : nullptr);
      o->eval.as_double(e);
      return out[0].v.at(0);
    }
  }
  throw Error(Exit::bad_input, fmt::format("no map '{}'", map));
}

// Runs an Einsum as it is written: loops over the ranks, statement by statement (stepwise ones together, step by step), operands read
// through their access functions. `tensors` holds the operands and takes the results. Counts the products it sums.
template <class T>
struct Interpreter {
  const Graph& g;
  const Node& n;
  std::map<std::string, Array<T>>& tensors;
  std::map<std::string, std::vector<bool>> set = {};
  std::int64_t macs = 0;
  std::vector<std::int64_t> at = {};

  static double number(const T& v) {
    if constexpr (std::is_same_v<T, double>) return v;
    else return nearest_double(v);
  }
  bool index(const AffineIndex& a, std::int64_t& i, T* exactly = nullptr) {
    std::int64_t sum = a.offset;
    for (const AffineTerm& t : a.terms) sum += t.coefficient * at[static_cast<std::size_t>(t.rank)];
    i = sum >= 0 ? sum / a.divisor : -((-sum + a.divisor - 1) / a.divisor);
    if (exactly) *exactly = T(static_cast<long>(sum)) / T(static_cast<long>(a.divisor));
    for (const DataTerm& t : a.data) {
      T v;
      if (!read(t.from, v)) return false;
      const auto whole = static_cast<std::int64_t>(std::floor(number(v))) * t.coefficient;
      i += whole;
      if (exactly) *exactly += T(static_cast<long>(whole));
    }
    return true;
  }
  bool place(const Access& a, const Shape& s, std::size_t& flat) {
    flat = 0;
    const bool rows = a.indices.size() == 1 && s.size() != 1;
    if (!rows && a.indices.size() != s.size()) throw Error(Exit::bad_input, fmt::format("{}: {} indices for {}", a.operand, a.indices.size(), to_string(s)));
    for (std::size_t d = 0; d < a.indices.size(); ++d) {
      const std::int64_t extent = rows ? element_count(s) : s[d];
      std::int64_t i;
      if (!index(a.indices[d], i)) return false;
      if (a.indices[d].clamped) i = std::clamp<std::int64_t>(i, 0, extent - 1);
      if (i < 0 || i >= extent) return false;
      flat = flat * static_cast<std::size_t>(extent) + static_cast<std::size_t>(i);
    }
    return true;
  }
  bool read(const Access& a, T& v) {
    std::int64_t i;
    if (a.operand.empty()) return index(a.indices.at(0), i, &v);
    if (std::isdigit(static_cast<unsigned char>(a.operand[0])) || a.operand[0] == '-') {
      double d = 0;
      std::from_chars(a.operand.data(), a.operand.data() + a.operand.size(), d);
      v = number_from<T>(d);
      return true;
    }
    const auto f = tensors.find(a.operand);
    if (f == tensors.end()) throw Error(Exit::bad_input, fmt::format("no operand '{}'", a.operand));
    std::size_t k;
    if (!place(a, f->second.shape, k)) return false;
    v = f->second.v[k];
    return true;
  }
  // Extents of what the statements write, where they are not given: as far as the affine indices reach.
  void make_room(const std::vector<const Einsum*>& all) {
    std::map<std::string, Shape> room;
    for (const Einsum* e : all) {
      Shape s;
      for (const AffineIndex& i : e->output.indices) {
        std::int64_t most = i.offset;
        for (const AffineTerm& t : i.terms) most += std::max<std::int64_t>(0, t.coefficient * (e->ranks[static_cast<std::size_t>(t.rank)].extent - 1));
        s.push_back(most + 1);
      }
      Shape& known = room.try_emplace(e->output.operand, s).first->second;
      for (std::size_t d = 0; d < s.size(); ++d) known.at(d) = std::max(known[d], s[d]);
    }
    for (const auto& [name, s] : room) set[name].assign(tensors.try_emplace(name, s).first->second.v.size(), false);
  }
  void run(const Einsum& e, std::int64_t step) {
    Shape extents, first(e.ranks.size(), 0);
    for (const Rank& r : e.ranks) extents.push_back(r.stepwise ? 1 : r.extent);
    if (element_count(extents) == 0) return;
    bool reduced = false;
    for (const Rank& r : e.ranks) reduced |= r.reduced;
    Shape pos = first;
    do {
      at = pos;
      for (std::size_t r = 0; r < at.size(); ++r)
        if (e.ranks[r].stepwise) at[r] = step;
      bool inside = true;
      std::vector<T> v(e.inputs.size());
      for (const Guard& q : e.guards) {
        T t;
        inside = inside && read(q.test, t) && t > 0;
      }
      for (std::size_t i = 0; inside && i < v.size(); ++i) inside = read(e.inputs[i], v[i]);
      Array<T>& y = tensors.at(e.output.operand);
      std::size_t o;
      if (!inside || !place(e.output, y.shape, o)) continue;
      T z = by_map<T>(e.map, v, g, n);
      const auto known = set.at(e.output.operand).begin() + static_cast<std::ptrdiff_t>(o);
      if (e.reduce == "argmax") {  // the first of equal ones
        auto& best = largest[e.output.operand];
        best.resize(y.v.size());
        if (!*known || z > best[o]) best[o] = z, y.v[o] = v.back();
      } else if (!reduced || e.reduce == "none") {
        y.v[o] = z;
      } else if (e.reduce == "add") {
        y.v[o] += z;
      } else if (e.reduce == "mul") {
        y.v[o] = *known ? T(y.v[o] * z) : z;
      } else {
        y.v[o] = !*known ? z : e.reduce == "max" ? std::max(y.v[o], z) : std::min(y.v[o], z);
      }
      *known = true;
      macs += reduced && e.map == "mul" && v.size() > 1 && e.reduce == "add";
    } while (next(pos, extents));
  }
  void run(const Einsum& e) {
    const std::vector<const Einsum*> all = e.statements();
    const auto steps = [](const Einsum& s) -> std::pair<std::string, std::int64_t> {
      for (const Rank& r : s.ranks)
        if (r.stepwise) return {r.name, r.extent};
      return {"", 1};
    };
    make_room(all);
    for (std::size_t i = 0; i < all.size();) {
      std::size_t end = i + 1;
      const auto [name, count] = steps(*all[i]);
      while (!name.empty() && end < all.size() && steps(*all[end]).first == name) ++end;
      for (std::int64_t t = 0; t < count; ++t)
        for (std::size_t k = i; k < end; ++k) run(*all[k], t);
      i = end;
    }
  }
  std::map<std::string, std::vector<T>> largest = {};
};

// The results of a node's Einsum by the names of its outputs.
template <class T>
std::map<std::string, Array<T>> interpreted(const Graph& g, const Node& n, const Einsum& e, const std::vector<const Array<T>*>& in, const std::vector<Shape>& outputs, std::int64_t* macs = nullptr) {
  const OpDef& op = op_of(g, n);
  std::map<std::string, Array<T>> t;
  for (std::size_t i = 0; i < in.size(); ++i)
    if (in[i]) t[operand_name(op.inputs, i)] = *in[i];
  for (std::size_t i = 0; i < outputs.size(); ++i) t[operand_name(op.outputs, i)] = Array<T>(outputs[i]);
  Interpreter<T> run{g, n, t};
  run.run(e);
  if (macs) *macs = run.macs;
  return t;
}

// Every node of random graphs: executed shape == inferred shape; rational and float evaluators agree; the
// Einsum of contractions and pooling, run as it is written, gives the evaluator's result.
TEST(Ops, PropertiesOnRandomGraphs) {
  std::set<std::string> seen, einsums, stated;
  for (std::uint64_t seed = 0; seed < 250; ++seed) {
    RandomGraph r = random_graph({}, 70'000 + seed);
    Graph g = prepare(r.graph);
    std::vector<LiteralValue> all;
    evaluate_literal(g, r.inputs, nullptr, &all);
    for (const Node& n : g.nodes) {
      const OpDef& op = op_of(g, n);
      seen.insert(n.op);
      const Dims& d = *g.values[static_cast<std::size_t>(n.outputs[0])].type.dims;
      const LiteralValue& y = all[static_cast<std::size_t>(n.outputs[0])];
      ASSERT_EQ(dims_of(y.shape), d) << g.describe(n) << " seed " << seed;
      if (!op.eval.as_rational || op.closure == Closure::state || op.closure == Closure::quantiser) continue;
      std::vector<Array<Rational>> q(n.inputs.size());
      std::vector<Array<double>> f(n.inputs.size());
      std::vector<Array<Rational>> yq(1);
      std::vector<Array<double>> yf(1);
      EvalArgs<Rational> eq{g, n, {}, yq};
      EvalArgs<double> ef{g, n, {}, yf};
      double largest = 0;
      for (std::size_t i = 0; i < n.inputs.size(); ++i) {
        if (n.inputs[i] != kNone) {
          const LiteralValue& x = all[static_cast<std::size_t>(n.inputs[i])];
          q[i].shape = f[i].shape = x.shape;
          for (std::size_t k = 0; k < (x.exact ? x.q.size() : x.f.size()); ++k) {
            double v = x.exact ? nearest_double(x.q[k]) : x.f[k];
            q[i].v.push_back(exact(v));
            f[i].v.push_back(v);
            largest = std::max(largest, std::abs(v));
          }
        }
        eq.in.push_back(n.inputs[i] == kNone ? nullptr : &q[i]);
        ef.in.push_back(n.inputs[i] == kNone ? nullptr : &f[i]);
      }
      op.eval.as_rational(eq);
      op.eval.as_double(ef);
      // Double rounding of at most a few hundred operations on numbers of this size.
      double bound = 1e-12 * (1 + largest * largest * 100);
      if (n.op != "ArgMax")  // its result jumps at ties
        for (std::size_t k = 0; k < yq[0].v.size(); ++k) ASSERT_NEAR(nearest_double(yq[0].v[k]), yf[0].v[k], bound) << g.describe(n) << " seed " << seed;
      if (op.einsum && !n.op.starts_with("Arg")) {
        const Einsum e = op.einsum(g, n);
        const auto z = interpreted<double>(g, n, e, ef.in, {yf[0].shape}).at(operand_name(op.outputs, 0));
        stated.insert(n.op);
        for (std::size_t k = 0; k < z.v.size(); ++k) ASSERT_NEAR(z.v[k], yf[0].v[k], bound) << g.describe(n) << " seed " << seed << " element " << k << "\n" << e.text();
      }
      static const std::set<std::string> contractions{"Conv", "MatMul", "Gemm", "MaxPool", "AveragePool", "GlobalAveragePool"};
      if (!contractions.count(n.op)) continue;
      const Einsum e = op.einsum(g, n);
      einsums.insert(n.op);
      const auto z = interpreted<Rational>(g, n, e, eq.in, {yq[0].shape}).at("Y");
      for (std::size_t k = 0; k < z.v.size(); ++k) ASSERT_EQ(z.v[k], yq[0].v[k]) << g.describe(n) << " seed " << seed << " element " << k << "\n" << e.text();
    }
  }
  for (const char* op : {"Conv", "MatMul", "Gemm", "MaxPool", "AveragePool", "GlobalAveragePool"}) EXPECT_TRUE(einsums.count(op)) << op;
  for (const char* op : {"Add", "Sub", "Mul", "Div", "BatchNormalization", "Relu", "Flatten", "Reshape", "Transpose", "Gather", "Concat", "Identity"}) EXPECT_TRUE(stated.count(op)) << op;
  for (const char* op : {"Add", "Sub", "Mul", "Div", "Pow", "BatchNormalization", "Relu", "Clip", "Flatten", "Reshape", "Transpose", "Gather",
                         "Concat", "ArgMax", "Softmax", "Identity", "Dropout", "Quant", "BipolarQuant", "Threshold", "Squeeze", "Unsqueeze"})
    EXPECT_TRUE(seen.count(op)) << op << " was never drawn";
}

// Every operator that samples itself, on random cases: verified, executed shape == inferred shape, and exported and imported it says the
// same and computes the same.
TEST(Ops, PropertiesOfEverySample) {
  int drawn = 0;
  for (const OpDef* o : all_ops()) {
    if (!o->sample) continue;
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
      Rng r(seed, o->name);
      Graph g;
      std::vector<Tensor> inputs;
      Sample s{r, g, inputs};
      o->sample(*o, s);
      const std::string where = fmt::format("{} seed {}", o->name, seed);
      try {
        verify(g);
        const Graph plain = g;
        infer_shapes(g);
        const std::vector<Tensor> y = evaluate_float(g, inputs);
        ASSERT_EQ(y.size(), g.outputs.size());
        for (std::size_t i = 0; i < y.size(); ++i) {
          const TensorType& t = g.values[static_cast<std::size_t>(g.outputs[i])].type;
          EXPECT_EQ(t.dtype, y[i].dtype()) << where;
          if (!t.dims) continue;
          ASSERT_EQ(t.dims->size(), y[i].shape().size()) << where;
          for (std::size_t d = 0; d < t.dims->size(); ++d)
            if ((*t.dims)[d].known()) EXPECT_EQ((*t.dims)[d].n, y[i].shape()[d]) << where << " axis " << d;
        }
        Graph back = parse_onnx(onnx_bytes(g));
        EXPECT_EQ(first_difference(g, back), "") << where;
        infer_shapes(back);
        const std::vector<Tensor> z = evaluate_float(back, inputs);
        for (std::size_t i = 0; i < y.size(); ++i) EXPECT_TRUE(y[i].same(z[i])) << where;
        ++drawn;
      } catch (const Error& e) {
        ADD_FAILURE() << where << ": " << e.full() << "\n" << to_text(g);
        break;
      }
    }
  }
  EXPECT_GT(drawn, 40 * 60);
}

// Every literal says what it is.
TEST(Ops, LiteralsAreComplete) {
  std::set<std::pair<std::string_view, std::string_view>> names;
  for (const OpDef* o : all_ops()) {
    EXPECT_TRUE(names.insert({o->domain, o->name}).second) << o->name;
    EXPECT_FALSE(o->summary.empty()) << o->name;
    EXPECT_FALSE(o->doc.empty()) << o->name;
    EXPECT_FALSE(o->source.empty()) << o->name;
    EXPECT_FALSE(o->outputs.empty()) << o->name;
    EXPECT_NE(o->infer, nullptr) << o->name;
    EXPECT_NE(o->eval.as_double, nullptr) << o->name;
    if (o->closure != Closure::open && o->domain != "tandem") {
      EXPECT_NE(o->eval.as_rational, nullptr) << o->name;
    }
  }
}

// Products that a contraction sums, from the extents of its operands alone; -1: no contraction.
std::int64_t macs_by_extents(const Graph& g, const Node& n) {
  const auto size = [&](std::size_t i) { return element_count(shape_of(g, n.in(i))); };
  const Shape y = shape_of(g, n.outputs[0]), x = shape_of(g, n.in(0));
  if (n.domain == "tflite") {
    if (n.op == "Conv2D" || n.op == "DepthwiseConv2D") return y[0] * y[1] * y[2] * size(1);
    if (n.op == "TransposeConv") return x[0] * x[1] * x[2] * size(1);
    if (n.op == "FullyConnected") return element_count(y) * shape_of(g, n.in(1))[1];
    if (n.op == "BatchMatMul") return element_count(y) * x[x.size() - (n.attr_int("adj_x", 0) ? 2 : 1)];
    if (n.op == "SVDF") return x[0] * (size(1) + size(2));
    return -1;
  }
  if (n.op == "Conv" || n.op == "ConvInteger") return y[0] * element_count(spatial(y)) * size(1);
  if (n.op == "QLinearConv") return y[0] * element_count(spatial(y)) * size(3);
  if (n.op == "ConvTranspose") return y[0] * element_count(spatial(x)) * size(1);
  if (n.op == "DeformConv") return y[0] * element_count(spatial(y)) * (size(1) + 4 * x[1] * element_count(spatial(shape_of(g, n.in(1)))));  // and four neighbours for each tap
  if (n.op == "MatMul" || n.op == "MatMulInteger" || n.op == "QLinearMatMul") return element_count(y) * x.back();
  if (n.op == "Gemm") return element_count(y) * x[n.attr_int("transA", 0) ? 0 : 1];
  if (n.op == "RNN" || n.op == "GRU" || n.op == "LSTM") return x[0] * x[1] * (size(1) + size(2));
  return -1;
}

// The Einsum of every operator that states one, run as it is written, gives the evaluator's result; and contractions count as their extents say.
TEST(Ops, EinsumOfEverySample) {
  std::map<std::string, int> runs;
  std::set<std::string> stated;
  for (const OpDef* op : all_ops()) {
    if (!op->sample || !op->einsum) continue;
    const std::string name(op->name);
    stated.insert(name);
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
      Rng r(seed, op->name);
      Graph g;
      std::vector<Tensor> inputs;
      Sample s{r, g, inputs};
      op->sample(*op, s);
      infer_shapes(g);
      const Node& n = g.nodes.back();
      std::vector<std::optional<Array<double>>> f(n.inputs.size());
      std::vector<Array<double>> y(n.outputs.size());
      EvalArgs<double> e{g, n, {}, y};
      for (std::size_t i = 0; i < n.inputs.size(); ++i) {
        if (n.inputs[i] != kNone) {
          const auto at = std::find(g.inputs.begin(), g.inputs.end(), n.inputs[i]) - g.inputs.begin();
          f[i] = array_of(g.constant(n.inputs[i]) ? *g.constant(n.inputs[i]) : inputs.at(static_cast<std::size_t>(at)));
        }
        e.in.push_back(f[i] ? &*f[i] : nullptr);
      }
      op->eval.as_double(e);
      const Einsum sum = op->einsum(g, n);
      if (!sum.valid()) continue;
      const std::string where = fmt::format("{} seed {}\n{}\n{}", g.describe(n), seed, to_text(g), sum.text());
      ++runs[name];
      try {
        std::vector<Shape> shapes;
        for (const Array<double>& a : y) shapes.push_back(a.shape);
        std::int64_t counted = 0;
        const auto z = interpreted<double>(g, n, sum, e.in, shapes, &counted);
        for (std::size_t o = 0; o < y.size(); ++o) {
          const Array<double>& got = z.at(operand_name(op->outputs, o));
          if (n.op == "Dropout" && o > 0) continue;
          for (std::size_t k = 0; k < y[o].v.size(); ++k) {
            const double want = y[o].v[k];
            if (std::isnan(want)) ASSERT_TRUE(std::isnan(got.v[k])) << where;
            else if (std::isinf(want)) ASSERT_EQ(want, got.v[k]) << where;
            else ASSERT_NEAR(got.v[k], want, 1e-11 * (1 + std::abs(want))) << where << "\noutput " << o << " element " << k;
          }
        }
        const std::int64_t macs = macs_by_extents(g, n);
        const bool lengths = (n.op == "RNN" || n.op == "GRU" || n.op == "LSTM") && n.in(4) != kNone;
        if (macs >= 0) {
          ASSERT_EQ(sum.macs(), macs) << where;
          // Those at padding, or behind the end of a sequence, are not run.
          const bool all = !lengths && (n.op.starts_with("MatMul") || n.op == "QLinearMatMul" || n.op == "Gemm" || n.op == "RNN" || n.op == "GRU" || n.op == "LSTM");
          if (all) ASSERT_EQ(counted, macs) << where;
          else ASSERT_LE(counted, macs) << where;
        }
      } catch (const Error& fault) {
        FAIL() << where << "\n" << fault.full();
      }
    }
  }
  for (const auto& name : stated) EXPECT_GT(runs[name], 10) << name;  // a few forms have no Einsum: a Pad that reflects
  EXPECT_GT(stated.size(), 110u);
  for (const char* name : {"Conv", "ConvTranspose", "DeformConv", "Resize", "GridSample", "LSTM", "GRU", "RNN", "Softmax", "LayerNormalization", "QLinearConv", "QLinearMatMul", "Einsum"})
    EXPECT_GT(runs[name], 40) << name;
}

// What no operator of ours states: a mixture of experts, whose ranks are guarded by data, and a scan, whose statement reads what it
// wrote a step before. Written as text, run as it is written, against plain loops.
TEST(Ops, EinsumCarriesExpertsAndScans) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Rng r(seed, "experts");
    const std::int64_t B = r.range(1, 4), E = r.range(2, 5), K = r.range(1, E), I = r.range(1, 4), O = r.range(1, 3), T = r.range(1, 5);
    const auto random = [&](Shape s) {
      Array<double> a(std::move(s));
      for (double& v : a.v) v = r.normal();
      return a;
    };
    std::map<std::string, Array<double>> t{{"X", random({B, I})}, {"W", random({E, O, I})}, {"G", random({B, E})}, {"S", Array<double>(Shape{B, E})}, {"A", random({O, O})}, {"V", random({T, O})}};
    // The K experts of the largest gates.
    for (std::int64_t b = 0; b < B; ++b) {
      Ints order(static_cast<std::size_t>(E));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](std::int64_t i, std::int64_t j) { return t.at("G").v[static_cast<std::size_t>(b * E + i)] > t.at("G").v[static_cast<std::size_t>(b * E + j)]; });
      for (std::int64_t k = 0; k < K; ++k) t.at("S").v[static_cast<std::size_t>(b * E + order[static_cast<std::size_t>(k)])] = 1;
    }
    const auto at = [&](const char* name, std::int64_t i) { return t.at(name).v[static_cast<std::size_t>(i)]; };
    std::vector<double> y(static_cast<std::size_t>(B * O)), h(static_cast<std::size_t>(O));
    for (std::int64_t b = 0; b < B; ++b)
      for (std::int64_t e = 0; e < E; ++e)
        for (std::int64_t o = 0; o < O; ++o)
          for (std::int64_t i = 0; at("S", b * E + e) > 0 && i < I; ++i) y[static_cast<std::size_t>(b * O + o)] += at("G", b * E + e) * at("W", (e * O + o) * I + i) * at("X", b * I + i);
    for (std::int64_t k = 0; k < T; ++k) {  // h = tanh(A h + v[k])
      std::vector<double> z(h.size());
      for (std::int64_t o = 0; o < O; ++o) {
        double sum = at("V", k * O + o);
        for (std::int64_t i = 0; i < O; ++i) sum += at("A", o * O + i) * h[static_cast<std::size_t>(i)];
        z[static_cast<std::size_t>(o)] = std::tanh(sum);
      }
      h = z;
    }
    const Einsum experts = parse_einsum(fmt::format("Y[b,o] += G[b,e] * W[e,o,i] * X[b,i] where S[b,e] ({} of e)", K), {{"b", B}, {"e", E}, {"o", O}, {"i", I}});
    const Einsum scan = parse_einsum(fmt::format("H[0,o] = 0\nfor t: Z[t,o] += A[o,k] * H[t,k]\nfor t: U[t,o] = Z[t,o] + V[t,o]\nfor t: H[t+1,o] = tanh(U[t,o])\nlast[o] = H[{},o]", T), {{"t", T}, {"o", O}, {"k", O}});
    Graph g;
    const Node n{.op = "none", .outputs = {}};
    Interpreter<double> run{g, n, t};
    run.run(experts);
    EXPECT_EQ(experts.macs(), B * K * O * I);
    EXPECT_EQ(run.macs, experts.macs());
    run.macs = 0;
    run.run(scan);
    EXPECT_EQ(run.macs, scan.macs());
    EXPECT_EQ(scan.macs(), T * O * O);
    for (std::size_t i = 0; i < y.size(); ++i) ASSERT_NEAR(t.at("Y").v[i], y[i], 1e-12);
    for (std::size_t i = 0; i < h.size(); ++i) ASSERT_NEAR(t.at("last").v[i], h[i], 1e-12);
  }
}

// Windows over one axis are closed over exact values: the carrier, which sees two axes, against one rational per element.
TEST(Ops, OneAxisIsExact) {
  for (std::uint64_t seed = 0; seed < 80; ++seed) {
    Rng r(seed, "one axis");
    Graph g;
    const auto quant = [&](ValueId v, float scale) {
      return g.add_node("Quant", {v, g.add_constant(g.unique_name("s"), Tensor::scalar(scale)), g.add_constant(g.unique_name("z"), Tensor::scalar(0.0f)), g.add_constant(g.unique_name("b"), Tensor::scalar(4.0f))},
                        {}, "", "qonnx.custom_op.general");
    };
    std::vector<Tensor> inputs;
    Sample s{r, g, inputs};
    const std::int64_t c = r.range(1, 3), k = r.range(1, 3), o = r.range(1, 3);
    ValueId x = quant(s.input({2, c, r.range(4, 9)}), 0.25f);
    using Shape1 = std::vector<std::int64_t>;
    x = g.add_node("Conv", {x, quant(s.constant({o, c, k}, -1, 1), 0.125f), s.constant({o}, -1, 1)}, {{"strides", Shape1{r.range(1, 2)}}, {"pads", Shape1{r.range(0, 2), r.range(0, 2)}}});
    x = quant(g.add_node("Relu", {x}), 0.5f);
    const std::int64_t pool = r.range(0, 2);
    if (pool == 2) x = g.add_node("GlobalAveragePool", {x});
    else x = g.add_node(pool ? "MaxPool" : "AveragePool", {x}, {{"kernel_shape", Shape1{2}}, {"auto_pad", std::string("SAME_UPPER")}});
    g.outputs = {quant(x, 0.25f)};
    infer_shapes(g);
    const Graph p = prepare(g);
    const ExactProgram program = lower_exact(g);
    EXPECT_TRUE(program.host_nodes.empty()) << program.host_nodes.front();
    const std::vector<Tensor> literal = to_tensors(g, evaluate_literal(g, inputs)), carrier = evaluate_carrier(program, inputs);
    ASSERT_TRUE(literal[0].same(carrier[0])) << seed << "\n" << to_text(p);
  }
}

// Without displacement a deformable convolution is one; displaced by half an element it is one of the mean of neighbours.
TEST(Ops, DeformConvAgainstConv) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Rng r(seed, "deform");
    const std::int64_t C = r.range(1, 3), O = r.range(1, 3), H = r.range(3, 6), W = r.range(3, 6), pad = r.range(0, 1), stride = r.range(1, 2);
    const bool half = r.chance(0.5);
    Graph g;
    std::vector<Tensor> inputs;
    Sample s{r, g, inputs};
    const ValueId x = s.input({1, C, H, W}), w = s.constant({O, C, 2, 2}, -1, 1), b = s.constant({O}, -1, 1);
    const std::map<std::string, Attribute> attrs{{"pads", Shape(4, pad)}, {"strides", Shape(2, stride)}};
    const std::int64_t P = (H + 2 * pad - 2) / stride + 1, Q = (W + 2 * pad - 2) / stride + 1;
    Tensor offset(DType::f32, {1, 8, P, Q});
    for (std::int64_t i = 0; i < offset.size(); ++i) offset.set(i, half && i / (P * Q) % 2 == 1 ? 0.5 : 0);  // along the width
    const ValueId shift = g.add_constant("offset", offset);
    const ValueId y = g.add_node("DeformConv", {x, w, shift, b}, attrs);
    const ValueId plain = s.input({1, C, H, W});
    const ValueId z = g.add_node("Conv", {plain, w, b}, attrs);
    g.outputs = {y, z};
    infer_shapes(g);
    inputs[1] = inputs[0];
    if (half) {
      // Outside both are 0, so the mean lives on one element more to the left: compared away from that border only.
      for (std::int64_t i = 0; i < C * H; ++i)
        for (std::int64_t j = 0; j < W; ++j) inputs[1].set(i * W + j, (inputs[0].at(i * W + j) + (j + 1 < W ? inputs[0].at(i * W + j + 1) : 0)) / 2);
    }
    const std::vector<Tensor> t = evaluate_float(g, inputs);
    ASSERT_EQ(t[0].shape(), t[1].shape());
    for (std::int64_t i = 0; i < t[0].size(); ++i)
      if (!half || pad == 0 || i % Q != 0) ASSERT_NEAR(t[0].at(i), t[1].at(i), 1e-5) << seed << " element " << i;
  }
}

Tensor run_float(Graph& g, Tensor x) {
  infer_shapes(g);
  return evaluate_float(g, {std::move(x)})[0];
}

TEST(Ops, MaxPoolCeilMode) {
  Graph g;
  ValueId x = g.add_input("x", DType::f32, {Dim(1), Dim(1), Dim(4), Dim(4)});
  g.outputs = {g.add_node("MaxPool", {x}, {{"kernel_shape", std::vector<std::int64_t>{3, 3}}, {"strides", std::vector<std::int64_t>{2, 2}}, {"ceil_mode", std::int64_t{1}}})};
  std::vector<float> v(16);
  for (int i = 0; i < 16; ++i) v[static_cast<std::size_t>(i)] = static_cast<float>(i + 1);
  Tensor y = run_float(g, Tensor::of<float>({1, 1, 4, 4}, v));
  EXPECT_EQ(y.shape(), (Shape{1, 1, 2, 2}));
  std::vector<float> want{11, 12, 15, 16};  // ONNX's example maxpool_2d_ceil
  EXPECT_TRUE(y.same(Tensor::of<float>({1, 1, 2, 2}, want)));
}

TEST(Ops, AveragePoolCountsPaddingOnlyWhenAsked) {
  for (std::int64_t include : {0, 1}) {
    Graph g;
    ValueId x = g.add_input("x", DType::f32, {Dim(1), Dim(1), Dim(2), Dim(2)});
    g.outputs = {g.add_node("AveragePool", {x}, {{"kernel_shape", std::vector<std::int64_t>{2, 2}}, {"pads", std::vector<std::int64_t>{1, 1, 0, 0}},
                                                 {"count_include_pad", include}})};
    std::vector<float> v{1, 2, 3, 4};
    Tensor y = run_float(g, Tensor::of<float>({1, 1, 2, 2}, v));
    std::vector<float> want = include ? std::vector<float>{0.25f, 0.75f, 1.f, 2.5f} : std::vector<float>{1, 1.5f, 2, 2.5f};
    EXPECT_TRUE(y.same(Tensor::of<float>({1, 1, 2, 2}, want))) << include;
  }
}

TEST(Ops, BatchNormFactorIsCorrectlyRounded) {
  EXPECT_EQ(batchnorm_factor(3.f, 4.f, 0.f), 1.5f);
  EXPECT_EQ(batchnorm_factor(-1.f, 0.25f, 0.f), -2.f);
  // Against twice the precision and more of a double: gamma^2 / v lies between the squares of the
  // neighbouring midpoints.
  Rng r(5, "bn");
  for (int i = 0; i < 2000; ++i) {
    float gamma = static_cast<float>(r.normal()), var = static_cast<float>(r.uniform() * 5 + 1e-4), eps = 1e-5f;
    if (gamma == 0) continue;
    float a = std::abs(batchnorm_factor(gamma, var, eps));
    Rational square = exact(gamma) * exact(gamma) / (exact(var) + exact(eps));
    Rational lo = (exact(std::nextafter(a, 0.f)) + exact(a)) / 2, hi = (exact(a) + exact(std::nextafter(a, INFINITY))) / 2;
    EXPECT_LE(lo * lo, square);
    EXPECT_GE(hi * hi, square);
  }
}

TEST(Ops, ShapeArithmeticFolds) {
  // Shape -> Gather -> Concat -> Reshape, as exporters write a flatten, becomes a plain Reshape.
  Graph g;
  ValueId x = g.add_input("x", DType::f32, {Dim("batch"), Dim(3), Dim(2), Dim(2)});
  auto ints = [&](std::vector<std::int64_t> v) { return g.add_constant(g.unique_name("i"), Tensor::of<std::int64_t>({static_cast<std::int64_t>(v.size())}, v)); };
  ValueId s = g.add_node("Shape", {x});
  ValueId n = g.add_node("Gather", {s, ints({0})});
  ValueId shape = g.add_node("Concat", {n, ints({-1})}, {{"axis", std::int64_t{0}}});
  g.outputs = {g.add_node("Reshape", {x, shape})};
  Graph b = prepare(bind(g, {{"batch", 5}}));
  ASSERT_EQ(b.nodes.size(), 1u) << to_text(b);
  EXPECT_EQ(*b.values[static_cast<std::size_t>(b.outputs[0])].type.dims, (Dims{Dim(5), Dim(12)}));
}

TEST(Ops, ErrorsNameTheNode) {
  auto expect = [](auto build, std::string_view part) {
    Graph g;
    ValueId x = g.add_input("x", DType::f32, {Dim(1), Dim(2), Dim(4), Dim(4)});
    try {
      g.outputs = {build(g, x)};
      infer_shapes(g);
      if (g.nodes.back().op == "Quant") quant_spec(g, g.nodes.back(), {1, 2, 4, 4});
      FAIL() << "accepted: " << part;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input);
      EXPECT_NE(e.full().find("bad"), std::string::npos) << e.full();
      EXPECT_NE(e.full().find(part), std::string::npos) << e.full();
    }
  };
  auto c = [](Graph& g, Shape s) { return g.add_constant(g.unique_name("c"), Tensor(DType::f32, s)); };
  expect([&](Graph& g, ValueId x) { return g.add_node("Conv", {x, c(g, {3, 5, 1, 1})}, {}, "bad"); }, "5");
  expect([&](Graph& g, ValueId x) { return g.add_node("Conv", {x, c(g, {3, 2, 9, 9})}, {}, "bad"); }, "does not fit");
  expect([&](Graph& g, ValueId x) { return g.add_node("MatMul", {x, c(g, {3, 2})}, {}, "bad"); }, "inner extents");
  expect([&](Graph& g, ValueId x) { return g.add_node("Convolution", {x}, {}, "bad"); }, "Conv");
  expect([&](Graph& g, ValueId x) { return g.add_node("Quant", {x, c(g, {}), c(g, {}), g.add_constant("w", Tensor::scalar(4.f))}, {}, "bad", "qonnx.custom_op.general"); },
         "not a positive number");
  expect([&](Graph& g, ValueId x) { return g.add_node("Quant", {x, g.add_constant("s", Tensor::scalar(1.f)), c(g, {}), g.add_constant("w", Tensor::scalar(3.5f))}, {}, "bad", "qonnx.custom_op.general"); },
         "3.5");
  expect([&](Graph& g, ValueId x) { return g.add_node("Transpose", {x}, {{"perm", std::vector<std::int64_t>{0, 1, 1, 2}}}, "bad"); }, "permutation");
}

}  // namespace
}  // namespace tandem::ir
