// RNN, GRU and LSTM over whole sequences.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/cascade.h"
#include "tandem/ir/ops/expansions.h"
#include "tandem/ir/ops/kit.h"
#include "tandem/ir/ops/recurrent.h"

namespace tandem::ir {
namespace {

using Args = EvalArgs<double>;

int gates_of(const Node& n) { return n.op == "LSTM" ? 4 : n.op == "GRU" ? 3 : 1; }
void infer_recurrent(InferContext& c) {
  const Dims &x = c.dims(0), &w = c.dims(1), &r = c.dims(2);
  if (x.size() != 3 || w.size() != 3 || r.size() != 3) c.fail("X, W and R must have rank 3", "[seq, batch, in], [directions, gates * hidden, in], [directions, gates * hidden, hidden]");
  const std::int64_t gates = gates_of(c.node), hidden = r[2].known() ? r[2].n : -1;
  const std::string way = c.node.attr_string("direction", "forward");
  if (way != "forward" && way != "reverse" && way != "bidirectional") c.fail(fmt::format("direction '{}'", way), "forward, reverse or bidirectional");
  const std::int64_t dirs = way == "bidirectional" ? 2 : 1;
  const auto expect = [&](std::size_t i, const Dims& want, std::string_view what) {
    if (!has(c, i)) return;
    const Dims& d = c.dims(i);
    bool ok = d.size() == want.size();
    for (std::size_t k = 0; ok && k < d.size(); ++k) ok = !d[k].known() || !want[k].known() || d[k].n == want[k].n;
    if (!ok) c.fail(fmt::format("{} has shape {}", what, to_string(d)), to_string(want));
  };
  const bool batch_first = c.node.attr_int("layout", 0) != 0;
  const Dim seq = x[batch_first ? 1 : 0], batch = x[batch_first ? 0 : 1], H = hidden < 0 ? Dim() : Dim(hidden);
  const std::int64_t rows = hidden < 0 ? -1 : gates * hidden;
  const Dim G = rows < 0 ? Dim() : Dim(rows), D(dirs);
  expect(1, {D, G, x[2]}, "W");
  expect(2, {D, G, H}, "R");
  expect(3, {D, rows < 0 ? Dim() : Dim(2 * rows)}, "B");
  expect(4, {batch}, "sequence_lens");
  const Dims state = batch_first ? Dims{batch, D, H} : Dims{D, batch, H};
  expect(5, state, "initial_h");
  if (gates == 4) expect(6, state, "initial_c"), expect(7, {D, hidden < 0 ? Dim() : Dim(3 * hidden)}, "P");
  if (hidden >= 0 && c.node.attr_int("hidden_size", hidden) != hidden) c.fail(fmt::format("hidden_size = {}", c.node.attr_int("hidden_size", hidden)), fmt::format("{}, as R has", hidden));
  const auto f = c.node.attrs.find("activations");
  if (f != c.node.attrs.end())
    if (const auto* names = std::get_if<std::vector<std::string>>(&f->second); !names || static_cast<std::int64_t>(names->size()) != dirs * (gates == 1 ? 1 : gates - 1))
      c.fail("activations do not fit", fmt::format("{} names", dirs * (gates == 1 ? 1 : gates - 1)));
  const DType t = c.in[0]->dtype;
  c.out = {TensorType{t, batch_first ? Dims{batch, seq, D, H} : Dims{seq, D, batch, H}}, TensorType{t, state}};
  if (gates == 4) c.out.push_back(TensorType{t, state});
}
// An activation by its name in ONNX: those of our unary operators, and two more.
void activate(const Args& e, const std::string& name, std::optional<double> alpha, std::optional<double> beta, std::vector<double>& v) {
  if (name == "Affine" || name == "ScaledTanh") {
    for (double& x : v) x = name == "Affine" ? alpha.value_or(1) * x + beta.value_or(0) : alpha.value_or(1) * std::tanh(beta.value_or(1) * x);
    return;
  }
  static const std::set<std::string> known{"Relu", "Tanh", "Sigmoid", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "Elu", "Softsign", "Softplus"};
  const OpDef* op = known.contains(name) ? find_op("", name) : nullptr;
  if (!op) throw node_error(e.graph, e.node, fmt::format("activation '{}'", name)).expected("one of ONNX's activation functions");
  Node n{.op = name, .outputs = {e.node.outputs[0] == kNone ? e.node.inputs[0] : e.node.outputs[0]}};
  if (alpha) n.attrs["alpha"] = *alpha;
  if (beta) n.attrs["beta"] = *beta;
  Array<double> x{Shape{static_cast<std::int64_t>(v.size())}};
  x.v = std::move(v);
  std::vector<Array<double>> out(1);
  EvalArgs<double> a{e.graph, n, {&x}, out};
  op->eval.as_double(a);
  v = std::move(out[0].v);
}
void recurrent_eval(Args& e) {
  const Node& n = e.node;
  const Array<double>&x = *e.in[0], &w = *e.in[1], &r = *e.in[2];
  const bool lstm = n.op == "LSTM", gru = n.op == "GRU", batch_first = n.attr_int("layout", 0) != 0;
  const std::int64_t G = gates_of(n), S = x.shape[batch_first ? 1 : 0], B = x.shape[batch_first ? 0 : 1], I = x.shape[2], H = r.shape[2], D = w.shape[0];
  const std::string way = n.attr_string("direction", "forward");
  const double clip = n.attr_float("clip", INFINITY);
  const bool after = n.attr_int("linear_before_reset", 0) != 0, coupled = n.attr_int("input_forget", 0) != 0;
  const std::vector<Activation> f = activations_of(n, D);
  const std::size_t per = f.size() / static_cast<std::size_t>(D);
  const auto state_at = [&](std::int64_t d, std::int64_t b) { return static_cast<std::size_t>((batch_first ? b * D + d : d * B + b) * H); };
  const Shape state = batch_first ? Shape{B, D, H} : Shape{D, B, H};
  Array<double> y(batch_first ? Shape{B, S, D, H} : Shape{S, D, B, H}), last(state), last_cell(state);
  for (std::int64_t d = 0; d < D; ++d)
    for (std::int64_t b = 0; b < B; ++b) {
      const std::int64_t length = has(e, 4) ? to_int(e.in[4]->v[static_cast<std::size_t>(b)]) : S;
      if (length < 0 || length > S) throw node_error(e.graph, n, fmt::format("a sequence of length {} in {}", length, S));
      std::vector<double> h(static_cast<std::size_t>(H)), cell(h);
      for (std::int64_t k = 0; k < H; ++k) {
        if (has(e, 5)) h[static_cast<std::size_t>(k)] = e.in[5]->v[state_at(d, b) + static_cast<std::size_t>(k)];
        if (lstm && has(e, 6)) cell[static_cast<std::size_t>(k)] = e.in[6]->v[state_at(d, b) + static_cast<std::size_t>(k)];
      }
      const bool backwards = way == "reverse" || d == 1;
      const auto bias = [&](std::int64_t which, std::int64_t row) { return has(e, 3) ? e.in[3]->v[static_cast<std::size_t>((d * 2 + which) * G * H + row)] : 0; };
      const auto by_state = [&](std::int64_t row, const std::vector<double>& v) {
        double s = 0;
        for (std::int64_t k = 0; k < H; ++k) s += r.v[static_cast<std::size_t>((d * G * H + row) * H + k)] * v[static_cast<std::size_t>(k)];
        return s;
      };
      const auto peephole = [&](std::int64_t which, std::int64_t k) { return lstm && has(e, 7) ? e.in[7]->v[static_cast<std::size_t>((d * 3 + which) * H + k)] : 0; };
      for (std::int64_t step = 0; step < length; ++step) {
        const std::int64_t t = backwards ? length - 1 - step : step;
        const double* in = x.v.data() + (batch_first ? b * S + t : t * B + b) * I;
        const auto by_input = [&](std::int64_t row) {
          double s = 0;
          for (std::int64_t k = 0; k < I; ++k) s += w.v[static_cast<std::size_t>((d * G * H + row) * I + k)] * in[k];
          return s;
        };
        // One gate before its activation: its rows of W and R, its biases.
        const auto gate = [&](std::int64_t g) {
          std::vector<double> v(static_cast<std::size_t>(H));
          for (std::int64_t k = 0; k < H; ++k) v[static_cast<std::size_t>(k)] = by_input(g * H + k) + by_state(g * H + k, h) + bias(0, g * H + k) + bias(1, g * H + k);
          return v;
        };
        const auto act = [&](std::vector<double>& v, std::size_t which) {
          for (double& z : v) z = std::clamp(z, -clip, clip);
          const Activation& a = f[static_cast<std::size_t>(d) * per + which];
          activate(e, a.name, a.alpha, a.beta, v);
        };
        if (lstm) {  // gates i, o, f, c
          std::vector<double> i = gate(0), o = gate(1), forget = gate(2), c = gate(3);
          for (std::int64_t k = 0; k < H; ++k) {
            const auto u = static_cast<std::size_t>(k);
            i[u] += peephole(0, k) * cell[u], forget[u] += peephole(2, k) * cell[u];
          }
          act(i, 0), act(forget, 0), act(c, 1);
          for (std::size_t u = 0; u < h.size(); ++u) {
            if (coupled) forget[u] = 1 - i[u];
            cell[u] = forget[u] * cell[u] + i[u] * c[u];
            o[u] += peephole(1, static_cast<std::int64_t>(u)) * cell[u];
          }
          act(o, 0);
          std::vector<double> shown = cell;
          const Activation& a = f[static_cast<std::size_t>(d) * per + 2];
          activate(e, a.name, a.alpha, a.beta, shown);
          for (std::size_t u = 0; u < h.size(); ++u) h[u] = o[u] * shown[u];
        } else if (gru) {  // gates z, r, h
          std::vector<double> z = gate(0), reset = gate(1), c(h.size());
          act(z, 0), act(reset, 0);
          std::vector<double> damped = h;
          for (std::size_t u = 0; u < h.size(); ++u) damped[u] *= reset[u];
          for (std::int64_t k = 0; k < H; ++k) {
            const std::int64_t row = 2 * H + k;
            c[static_cast<std::size_t>(k)] = by_input(row) + bias(0, row) + (after ? reset[static_cast<std::size_t>(k)] * (by_state(row, h) + bias(1, row)) : by_state(row, damped) + bias(1, row));
          }
          act(c, 1);
          for (std::size_t u = 0; u < h.size(); ++u) h[u] = (1 - z[u]) * c[u] + z[u] * h[u];
        } else {
          std::vector<double> v = gate(0);
          act(v, 0);
          h = std::move(v);
        }
        std::copy(h.begin(), h.end(), y.v.begin() + (batch_first ? (b * S + t) * D + d : (t * D + d) * B + b) * H);
      }
      std::copy(h.begin(), h.end(), last.v.begin() + static_cast<std::ptrdiff_t>(state_at(d, b)));
      std::copy(cell.begin(), cell.end(), last_cell.v.begin() + static_cast<std::ptrdiff_t>(state_at(d, b)));
    }
  e.out[0] = std::move(y);
  if (e.out.size() > 1) e.out[1] = std::move(last);
  if (e.out.size() > 2) e.out[2] = std::move(last_cell);
}
// H[t+1] from H[t], one statement after the other within a step; H[0] is the initial state.
Einsum recurrent_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0)), w = shape_of(g, n.in(1)), r = shape_of(g, n.in(2));
  const bool lstm = n.op == "LSTM", gru = n.op == "GRU", batch_first = n.attr_int("layout", 0) != 0, after = n.attr_int("linear_before_reset", 0) != 0, lengths = n.in(4) != kNone;
  const std::int64_t G = gates_of(n), S = x[batch_first ? 1 : 0], H = r[2], D = w[0];
  const std::vector<Activation> f = activations_of(n, D);
  const std::size_t per = f.size() / static_cast<std::size_t>(D);
  Cascade c(g, n);
  c.rank("t", S), c.rank("b", x[batch_first ? 0 : 1]), c.rank("h", H), c.rank("i", x[2]), c.rank("k", H);
  const std::string length = lengths ? "floor(sequence_lens[b])" : fmt::format("{}", S), guard = lengths ? " where {floor(sequence_lens[b])-t}" : "";
  for (std::int64_t d = 0; d < D; ++d) {
    const bool backwards = n.attr_string("direction", "forward") == "reverse" || d == 1;
    const std::string time = backwards ? length + "-1-t" : "t", input = batch_first ? fmt::format("X[b,{},i]", time) : fmt::format("X[{},b,i]", time);
    const auto named = [&](std::string_view s) { return D > 1 ? fmt::format("{}{}", s, d) : std::string(s); };
    const auto step = [&](std::string_view s) { return named(s) + "[t,b,h]"; };
    const std::string before = named("H") + "[t,b,h]", now = named("H") + "[t+1,b,h]", cell = named("C") + "[t,b,h]", cell_now = named("C") + "[t+1,b,h]";
    const auto line = [&](const std::string& to, const std::string& from, const char* how = "=") { c.line("for t: {} {} {}{}", to, how, from, guard); };
    const auto activated = [&](const std::string& to, std::string from, std::size_t which, bool clipped = true) {
      if (clipped && n.has_attr("clip")) {
        const double bound = n.attr_float("clip", 0);
        line(to, fmt::format("clip({},{},{})", from, -bound, bound));
        from = to;
      }
      const Activation& a = f[static_cast<std::size_t>(d) * per + which];
      std::string name = a.name, more;
      for (char& ch : name) ch = static_cast<char>(std::tolower(static_cast<unsigned char>(ch)));
      if (a.alpha) more += fmt::format(",{}", *a.alpha);
      if (a.beta) more += fmt::format(",{}", *a.beta);
      line(to, fmt::format("{}({}{})", name, from, more));
    };
    const auto row = [&](std::int64_t gate) { return fmt::format("{},h+{}", d, gate * H); };
    const auto bias = [&](std::int64_t which, std::int64_t gate) { return fmt::format("B[{},h+{}]", d, (which * G + gate) * H); };
    // `to` = W X (+ R state) + biases + more.
    const auto gate = [&](const char* to, std::int64_t k, const std::string& more = "", const std::string& state = "") {
      const std::string sum = step(fmt::format("sum_{}", to));
      line(sum, fmt::format("W[{},i] * {}", row(k), input), "+=");
      line(sum, fmt::format("R[{},k] * {}[t,b,k]", row(k), state.empty() ? named("H") : state), "+=");
      std::string all = sum;
      if (n.in(3) != kNone) all += fmt::format(" + {} + {}", bias(0, k), bias(1, k));
      line(step(to), all + more);
    };
    const auto peephole = [&](const char* to, std::int64_t k, const std::string& of) -> std::string {
      if (!lstm || n.in(7) == kNone) return "";
      const std::string p = step(fmt::format("peep_{}", to));
      line(p, fmt::format("P[{},h+{}] * {}", d, k * H, of));
      return " + " + p;
    };
    const auto first = [&](const std::string& name, std::size_t port) {
      const std::string given = batch_first ? fmt::format("{}[b,{},h]", c.in(port), d) : fmt::format("{}[{},b,h]", c.in(port), d);
      c.line("{}[0,b,h] = {}", name, n.in(port) == kNone ? "0" : given);
    };
    first(named("H"), 5);
    if (lstm) {
      first(named("C"), 6);
      gate("i", 0, peephole("i", 0, cell));
      activated(step("i"), step("i"), 0);
      if (n.attr_int("input_forget", 0)) {
        line(step("f"), "1 - " + step("i"));
      } else {
        gate("f", 2, peephole("f", 2, cell));
        activated(step("f"), step("f"), 0);
      }
      gate("c", 3);
      activated(step("c"), step("c"), 1);
      line(step("keep"), fmt::format("{} * {}", step("f"), cell));
      line(step("add"), fmt::format("{} * {}", step("i"), step("c")));
      line(cell_now, fmt::format("{} + {}", step("keep"), step("add")));
      gate("o", 1, peephole("o", 1, cell_now));
      activated(step("o"), step("o"), 0);
      activated(step("shown"), cell_now, 2, false);
      line(now, fmt::format("{} * {}", step("o"), step("shown")));
    } else if (gru) {
      gate("z", 0);
      activated(step("z"), step("z"), 0);
      gate("r", 1);
      activated(step("r"), step("r"), 0);
      if (after) {
        line(step("by_state"), fmt::format("R[{},k] * {}[t,b,k]", row(2), named("H")), "+=");
        line(step("by_input"), fmt::format("W[{},i] * {}", row(2), input), "+=");
        std::string state = step("by_state"), in = step("by_input");
        if (n.in(3) != kNone) {
          line(step("biased"), fmt::format("{} + {}", state, bias(1, 2)));
          state = step("biased"), in += " + " + bias(0, 2);
        }
        line(step("damped"), fmt::format("{} * {}", step("r"), state));
        line(step("c"), fmt::format("{} + {}", in, step("damped")));
      } else {
        line(step("damped"), fmt::format("{} * {}", step("r"), before));
        gate("c", 2, "", named("damped"));
      }
      activated(step("c"), step("c"), 1);
      line(step("rest"), "1 - " + step("z"));
      line(step("new"), fmt::format("{} * {}", step("rest"), step("c")));
      line(step("keep"), fmt::format("{} * {}", step("z"), before));
      line(now, fmt::format("{} + {}", step("new"), step("keep")));
    } else {
      gate("a", 0);
      activated(now, step("a"), 0);
    }
    if (n.outputs[0] != kNone) line(batch_first ? fmt::format("Y[b,{},{},h]", time, d) : fmt::format("Y[{},{},b,h]", time, d), now);
    for (std::size_t o = 1; o < n.outputs.size(); ++o)
      if (n.outputs[o] != kNone) c.line("{}[{},h] = {}[{},b,h]", c.out(o), batch_first ? fmt::format("b,{}", d) : fmt::format("{},b", d), named(o == 1 ? "H" : "C"), length);
  }
  return c.done();
}
void sample_recurrent(const OpDef& op, Sample& s) {
  static const char* ways[] = {"forward", "reverse", "bidirectional"};
  const std::string way = ways[s.r.range(0, 2)];
  const std::int64_t D = way == "bidirectional" ? 2 : 1, G = op.name == "LSTM" ? 4 : op.name == "GRU" ? 3 : 1, H = s.r.range(1, 3), I = s.r.range(1, 3), S = s.r.range(1, 4), B = s.r.range(1, 2);
  const bool batch_first = s.r.chance(0.3);
  const ValueId x = s.input(batch_first ? Shape{B, S, I} : Shape{S, B, I}), w = s.constant({D, G * H, I}, -1, 1), r = s.constant({D, G * H, H}, -1, 1);
  std::vector<ValueId> in{x, w, r, s.r.chance(0.5) ? s.constant({D, 2 * G * H}, -1, 1) : kNone, s.r.chance(0.3) ? s.constant({B}, 1, static_cast<double>(S), DType::i32) : kNone,
                          s.r.chance(0.5) ? s.input(batch_first ? Shape{B, D, H} : Shape{D, B, H}) : kNone};
  if (op.name == "LSTM" && s.r.chance(0.5)) in.insert(in.end(), {kNone, s.constant({D, 3 * H}, -1, 1)});
  std::map<std::string, Attribute> attrs{{"hidden_size", H}, {"direction", way}, {"layout", std::int64_t{batch_first}}};
  if (op.name == "GRU") attrs["linear_before_reset"] = s.r.range(0, 1);
  s.node(op, in, attrs, op.name == "LSTM" ? 3 : 2);
}
std::vector<PortDef> inputs(std::string_view gates, bool lstm) {
  std::vector<PortDef> p{{"X", "[seq, batch, in]"}, {"W", "[directions, gates * hidden, in]"}, {"R", "[directions, gates * hidden, hidden]"},
                         {"B", gates, true}, {"sequence_lens", "[batch]; default seq", true}, {"initial_h", "[directions, batch, hidden]; default 0", true}};
  if (lstm) p.insert(p.end(), {{"initial_c", "as initial_h", true}, {"P", "[directions, 3 * hidden]: peepholes of i, o, f", true}});
  return p;
}
std::vector<AttrDef> attributes(std::vector<AttrDef> more) {
  std::vector<AttrDef> a{{"activation_alpha", AttrType::reals, "", "parameters of the activations, in order"}, {"activation_beta", AttrType::reals, "", "parameters of the activations, in order"},
                         {"activations", AttrType::strings, "Sigmoid, Tanh, Tanh; Sigmoid, Tanh; Tanh", "per direction"}, {"clip", AttrType::real, "none", "bound of what enters an activation"},
                         {"direction", AttrType::string, "forward", "forward, reverse or bidirectional"}, {"hidden_size", AttrType::integer, "", "as R has"},
                         {"layout", AttrType::integer, "0", "1: batch comes first in X, Y and the states"}};
  a.insert(a.end(), more.begin(), more.end());
  return a;
}
const PortDef kY{"Y", "[seq, directions, batch, hidden]", true}, kLast{"Y_h", "[directions, batch, hidden]: after the last step", true}, kCell{"Y_c", "as Y_h", true};
const OpDef kOps[] = {
    OpDef{.domain = "", .name = "RNN", .summary = "Simple recurrent layer.", .doc = "H = f(W X + R H + b_W + b_R).", .source = "ONNX RNN-14", .inputs = inputs("[directions, 2 * hidden]", false), .outputs = {kY, kLast},
          .attributes = attributes({}), .infer = infer_recurrent, .eval = {recurrent_eval, nullptr}, .einsum = recurrent_einsum, .adjoint = adjoint_expanded, .expansion = expand_recurrent, .sample = sample_recurrent},
    OpDef{.domain = "", .name = "GRU", .summary = "Gated recurrent unit.", .doc = "z, r = f(W X + R H + b); c = g(W X + R (r * H) + b), or with linear_before_reset g(W X + b_W + r * (R H + b_R)); H = (1 - z) * c + z * H. Gates in the order z, r, h.",
          .source = "ONNX GRU-14", .inputs = inputs("[directions, 6 * hidden]", false), .outputs = {kY, kLast}, .attributes = attributes({{"linear_before_reset", AttrType::integer, "0", "1: the reset comes after R"}}),
          .infer = infer_recurrent, .eval = {recurrent_eval, nullptr}, .einsum = recurrent_einsum, .adjoint = adjoint_expanded, .expansion = expand_recurrent, .sample = sample_recurrent},
    OpDef{.domain = "", .name = "LSTM", .summary = "Long short-term memory.", .doc = "i, f, o = s(W X + R H + P * C + b); c = g(W X + R H + b); C = f * C + i * c; H = o * h(C). Gates in the order i, o, f, c.", .source = "ONNX LSTM-14",
          .inputs = inputs("[directions, 8 * hidden]", true), .outputs = {kY, kLast, kCell}, .attributes = attributes({{"input_forget", AttrType::integer, "0", "1: f = 1 - i"}}),
          .infer = infer_recurrent, .eval = {recurrent_eval, nullptr}, .einsum = recurrent_einsum, .adjoint = adjoint_expanded, .expansion = expand_recurrent, .sample = sample_recurrent},
};

}  // namespace

std::vector<Activation> activations_of(const Node& n, std::int64_t dirs) {
  std::vector<std::string> names;
  if (const auto f = n.attrs.find("activations"); f != n.attrs.end()) names = std::get<std::vector<std::string>>(f->second);
  if (names.empty())
    for (std::int64_t d = 0; d < dirs; ++d)
      for (const char* s : n.op == "LSTM" ? std::vector<const char*>{"Sigmoid", "Tanh", "Tanh"} : n.op == "GRU" ? std::vector<const char*>{"Sigmoid", "Tanh"} : std::vector<const char*>{"Tanh"}) names.emplace_back(s);
  const auto reals = [&](const char* key) {
    const auto f = n.attrs.find(key);
    const auto* v = f == n.attrs.end() ? nullptr : std::get_if<std::vector<double>>(&f->second);
    return v ? *v : std::vector<double>{};
  };
  // The lists hold a number for each function that has one, in order.
  const std::vector<double> alphas = reals("activation_alpha"), betas = reals("activation_beta");
  std::size_t a = 0, b = 0;
  std::vector<Activation> r;
  for (const std::string& s : names) {
    Activation f{s, {}, {}};
    static const std::set<std::string> with_alpha{"Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"}, with_beta{"Affine", "ScaledTanh", "HardSigmoid"};
    if (with_alpha.contains(s) && a < alphas.size()) f.alpha = alphas[a++];
    if (with_beta.contains(s) && b < betas.size()) f.beta = betas[b++];
    r.push_back(std::move(f));
  }
  return r;
}

std::span<const OpDef> recurrent_ops() { return kOps; }

}  // namespace tandem::ir
