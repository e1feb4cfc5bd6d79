#include "tandem/ir/ops/sources.h"

#include <cmath>

#include "tandem/ir/ops/common.h"

namespace tandem::ir {

std::vector<Sources> sources_of(const Graph& g, const Node& n, const Shape& x, const std::vector<const Array<Rational>*>& in) {
  std::vector<Array<double>> places(in.size()), out(n.outputs.size());
  EvalArgs<double> e{g, n, {}, out};
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (i == 0) {
      places[0] = Array<double>(x);
      for (std::size_t k = 0; k < places[0].v.size(); ++k) places[0].v[k] = static_cast<double>(k + 1);
    } else if (in[i]) {
      places[i] = Array<double>(in[i]->shape);
      const bool filling = n.op == "Pad" && i == 2;  // 0 marks it
      for (std::size_t k = 0; k < places[i].v.size() && !filling; ++k) places[i].v[k] = nearest_double(in[i]->v[k]);
    }
    e.in.push_back(i == 0 || in[i] ? &places[i] : nullptr);
  }
  op_of(g, n).eval.as_double(e);
  std::vector<Sources> r;
  for (const Array<double>& y : out) {
    Sources s{y.shape, {}};
    for (double v : y.v) s.from.push_back(static_cast<std::int64_t>(v) - 1);
    r.push_back(std::move(s));
  }
  return r;
}

bool only_moves(const Graph& g, const Node& n) {
  if (n.op == "Resize")
    return n.attr_string("mode", "nearest") == "nearest" && n.attr_string("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize";
  if (n.op == "Pad" && n.in(2) != kNone)
    if (const Tensor* t = g.constant(n.in(2)))
      for (std::int64_t i = 0; i < t->size(); ++i)
        if (!std::isfinite(t->at(i))) return false;
  return true;
}

void move_exactly(EvalArgs<Rational>& e) {
  const std::vector<Sources> from = sources_of(e.graph, e.node, e.in[0]->shape, e.in);
  const Rational filling = e.node.op == "Pad" && e.in.size() > 2 && e.in[2] && !e.in[2]->v.empty() ? e.in[2]->v[0] : Rational(0);
  for (std::size_t o = 0; o < from.size(); ++o) {
    Array<Rational> y(from[o].shape);
    for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = from[o].from[i] < 0 ? filling : e.in[0]->v[static_cast<std::size_t>(from[o].from[i])];
    e.out[o] = std::move(y);
  }
}

}  // namespace tandem::ir
