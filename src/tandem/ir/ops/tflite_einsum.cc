// The iteration spaces of the forms that sum products.
#include "tandem/ir/ops/cascade.h"
#include "tandem/ir/ops/tflite_kit.h"

namespace tandem::ir::tflite {
namespace {

// An operand less its zero point; gives the name of the difference.
std::string centred(Cascade& c, const Node& n, std::size_t port, const Shape& s, std::string_view names) {
  const std::string name = c.in(port) + "_centred";
  const std::vector<std::string> i = c.ranks(s, names);
  c.line("{} = {} - {{{}}}", at(name, i), at(c.in(port), i), n.attr_int(c.in(port) + "_zero", 0));
  return name;
}
void start(Cascade& c, const Node& n, const std::string& sums, const std::string& channel) {
  if (n.in(2) != kNone) c.line("{} = {}", sums, at(c.in(2), {channel}));
  else c.line("{} = 0", sums);
}
// The offset before a window along height and width.
Shape before(const Node& n, const Shape& image, const Shape& kernel) {
  const Shape s = n.attr_ints("strides", {1, 1}), d = n.attr_ints("dilations", {1, 1});
  const bool same = n.attr_string("padding", "VALID") == "SAME";
  Shape b;
  for (std::size_t i = 0; i < 2; ++i) b.push_back(window_axis(same, image[i], kernel[i], s[i], d[i]).before);
  return b;
}

}  // namespace

Einsum contraction_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0)), w = shape_of(g, n.in(1)), y = shape_of(g, n.outputs[0]);
  Cascade c(g, n);
  if (n.op == "FullyConnected") {
    const std::string X = centred(c, n, 0, {element_count(x)}, "i");
    c.rank("n", element_count(x) / w[1]), c.rank("o", w[0]), c.rank("k", w[1]);
    start(c, n, "acc[n,o]", "o");
    c.line("acc[n,o] += {}[{}*n+k] * w[o,k]", X, w[1]);
    c.line("y[{}*n+o] = scaled(acc[n,o],{{o}})", w[0]);
    return c.done();
  }
  if (n.op == "BatchMatMul") {
    const std::string A = centred(c, n, 0, x, "ijklmnop"), B = centred(c, n, 1, w, "abcdefgh");
    const bool turn_a = n.attr_int("adj_x", 0) != 0, turn_b = n.attr_int("adj_y", 0) != 0;
    const Shape batch(y.begin(), y.end() - 2);
    const std::vector<std::string> names = c.ranks(batch, "stuvwxyz");
    c.rank("q", y[y.size() - 2]), c.rank("r", y.back()), c.rank("sum", x[x.size() - (turn_a ? 2 : 1)]);
    const auto operand = [&](const std::string& name, const Shape& of, const char* row, const char* column) {
      std::vector<std::string> i;
      for (std::size_t d = 0; d + 2 < of.size(); ++d) {
        const std::size_t to = batch.size() + 2 - of.size() + d;
        i.push_back(of[d] == 1 ? "0" : names[to]);
      }
      i.push_back(row), i.push_back(column);
      return at(name, i);
    };
    std::vector<std::string> to = names;
    to.push_back("q"), to.push_back("r");
    c.line("{} += {} * {}", at("acc", to), turn_a ? operand(A, x, "sum", "q") : operand(A, x, "q", "sum"), turn_b ? operand(B, w, "r", "sum") : operand(B, w, "sum", "r"));
    c.line("{} = scaled({},0)", at("y", to), at("acc", to));
    return c.done();
  }
  const bool depthwise = n.op == "DepthwiseConv2D", transposed = n.op == "TransposeConv";
  const std::string X = centred(c, n, 0, x, "ijkl");
  const Shape s = n.attr_ints("strides", {1, 1}), d = n.attr_ints("dilations", {1, 1}), kernel{w[1], w[2]};
  const Shape b = before(n, transposed ? Shape{y[1], y[2]} : Shape{x[1], x[2]}, kernel);
  c.rank("n", y[0]), c.rank("p", y[1]), c.rank("q", y[2]), c.rank("o", y[3]), c.rank("r", w[1]), c.rank("s", w[2]);
  start(c, n, "acc[n,p,q,o]", "o");
  const std::string h = fmt::format("{}*{}+{}*r-{}", s[0], transposed ? "t" : "p", d[0], b[0]), v = fmt::format("{}*{}+{}*s-{}", s[1], transposed ? "u" : "q", d[1], b[1]);
  if (transposed) {
    c.rank("t", x[1]), c.rank("u", x[2]), c.rank("c", x[3]);
    c.line("acc[n,{},{},o] += {}[n,t,u,c] * w[o,r,s,c]", h, v, X);
  } else if (depthwise) {
    const std::int64_t each = y[3] / x[3];
    c.rank("c", x[3]), c.rank("e", each);
    c.line("acc[n,p,q,{0}*c+e] += {1}[n,{2},{3},c] * w[0,r,s,{0}*c+e]", each, X, h, v);
  } else {
    const std::int64_t groups = x[3] / w[3], outputs = w[0] / groups;
    c.rank("g", groups), c.rank("f", outputs), c.rank("c", w[3]);
    c.line("acc[n,p,q,{0}*g+f] += {1}[n,{2},{3},{4}*g+c] * w[{0}*g+f,r,s,c]", outputs, X, h, v, w[3]);
  }
  c.line("y[n,p,q,o] = scaled(acc[n,p,q,o],{{o}})");
  return c.done();
}

Einsum svdf_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0)), f = shape_of(g, n.in(1)), t = shape_of(g, n.in(2));
  const std::int64_t memory = t[1], rank = n.attr_int("rank", 1), filters = f[0];
  Cascade c(g, n);
  const std::string X = centred(c, n, 0, x, "ij");
  c.rank("n", x[0]), c.rank("f", filters), c.rank("k", f[1]), c.rank("m", memory), c.rank("u", filters / rank), c.rank("r", rank), c.rank("e", memory - 1);
  const auto place = [&](const std::string& filter, const std::string& m) { return fmt::format("{}*n+{}+{}", filters * memory, filter, m); };
  const std::string one = fmt::format("{}*f", memory);
  c.line("fresh[n,f] += w_feature[f,k] * {}[n,k]", X);
  if (memory > 1) c.line("next[{}] = state[{}+1]", place(one, "e"), place(one, "e"));
  c.line("next[{}] = feature_scaled(fresh[n,f])", place(one, fmt::format("{}", memory - 1)));
  c.line("held[n,f,m] = next[{}] - {{{}}}", place(one, "m"), n.attr_int("state_zero", 0));
  if (n.in(3) != kNone) c.line("acc[n,u] = bias[u]");
  else c.line("acc[n,u] = 0");
  c.line("acc[n,u] += w_time[{0}*u+r,m] * held[n,{0}*u+r,m]", rank);
  c.line("y[n,u] = time_scaled(acc[n,u])");
  return c.done();
}

}  // namespace tandem::ir::tflite
