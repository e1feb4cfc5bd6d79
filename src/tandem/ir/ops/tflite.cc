// Forms of TensorFlow Lite: integer evaluators that are the meaning of their nodes, on the stored integers, images as
// [batch, height, width, channels].
#include "tandem/ir/ops/tflite.h"

#include <array>

#include "tandem/ir/ops/tflite_kit.h"

namespace tandem::ir {
namespace {

using namespace tflite;

// ---- contractions ---------------------------------------------------------------------------------
// One factor per output channel; 32 or 64 bits of accumulator.
std::vector<Multiplier> channel_multipliers(const Node& n, std::size_t channels) {
  const std::vector<float> w = scales(n, "w_scale");
  const double x = quantised(n, "x").scale, y = quantised(n, "y").scale;
  std::vector<Multiplier> m;
  for (std::size_t c = 0; c < channels; ++c) m.push_back(multiplier(x * static_cast<double>(w[w.size() == 1 ? 0 : c]) / y));
  return m;
}
// A dense layer with one scale multiplies the scales in f32 first.
Multiplier dense_multiplier(float x, float w, float y) { return multiplier(static_cast<double>(x * w) / static_cast<double>(y)); }

struct Requantise {
  std::vector<Multiplier> m;
  bool wide;
  std::int32_t zero;
  Range range;
  double operator()(std::int64_t sum, std::size_t channel) const {
    const Multiplier f = m[m.size() == 1 ? 0 : channel];
    const std::int32_t y = wide ? scaled_wide(sum, f) : scaled(wrapped(sum), f);
    return static_cast<double>(clamped(wrapped(static_cast<std::int64_t>(y) + zero), range));
  }
};
bool wide_sums(const Node& n) { return n.attr_int("accumulator", 32) == 64; }

// Sum of products; |a b| < 2^23, so 128 products stay below 2^30.
std::int64_t dot(const std::int16_t* a, const std::int16_t* b, std::int64_t n) {
  std::int64_t total = 0;
  for (std::int64_t i = 0; i < n;) {
    const std::int64_t end = std::min<std::int64_t>(n, i + 128);
    std::int32_t part = 0;
    for (; i < end; ++i) part += static_cast<std::int32_t>(a[i]) * b[i];
    total += part;
  }
  return total;
}
std::vector<std::int16_t> narrow(const Array<double>& x, std::int32_t zero) {
  std::vector<std::int16_t> y(x.v.size());
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<std::int16_t>(static_cast<std::int32_t>(x.v[i]) - zero);
  return y;
}
std::vector<std::int64_t> biases(const Args& e, std::size_t i, std::size_t channels) {
  std::vector<std::int64_t> b(channels);
  if (has(e, i) && e.in[i]->v.size() != channels) throw node_error(e.graph, e.node, fmt::format("a bias of {} elements for {} channels", e.in[i]->v.size(), channels));
  if (has(e, i))
    for (std::size_t k = 0; k < channels; ++k) b[k] = static_cast<std::int64_t>(e.in[i]->v[k]);
  return b;
}

// Geometry of a window over height and width.
struct Window2 {
  std::int64_t stride[2], dilation[2];
  bool same;
};
Window2 window_of(const Node& n) {
  const auto s = n.attr_ints("strides", {1, 1}), d = n.attr_ints("dilations", {1, 1});
  return {{s[0], s[1]}, {d[0], d[1]}, n.attr_string("padding", "VALID") == "SAME"};
}
void need_window(const InferContext& c) {
  for (const char* key : {"strides", "dilations"}) {
    const auto v = c.node.attr_ints(key, {1, 1});
    need(c, v.size() == 2 && std::all_of(v.begin(), v.end(), [](std::int64_t x) { return x >= 1 && x <= 1'000'000; }),
         fmt::format("{} is {}", key, to_string(Shape(v))), "two numbers from 1 to 1000000");
  }
  const std::string p = c.node.attr_string("padding", "VALID");
  need(c, p == "SAME" || p == "VALID", fmt::format("padding '{}'", p), "SAME or VALID");
}
// Height and width of the output; the window must fit.
Shape window_out(const InferContext& c, const Shape& x, std::int64_t kh, std::int64_t kw) {
  const Window2 w = window_of(c.node);
  const std::int64_t k[] = {kh, kw};
  Shape out;
  for (std::size_t d = 0; d < 2; ++d) {
    need(c, k[d] >= 1 && k[d] <= 1'000'000, fmt::format("a window of {} elements", k[d]), "1 to 1000000");
    const Axis a = window_axis(w.same, x[d + 1], k[d], w.stride[d], w.dilation[d]);
    need(c, a.out >= 1, fmt::format("a window of {} elements does not fit into {}", k[d], x[d + 1]));
    out.push_back(a.out);
  }
  return out;
}
// Types, scales and bias of a contraction with `channels` outputs; weights are input 1, the bias input 2.
void need_contraction(const InferContext& c, std::int64_t channels, bool narrow_bias_for_16 = false) {
  need_type(c, 0, {DType::i8, DType::i16});
  need_type(c, 1, {DType::i8});
  const bool wide16 = type_at(c, 0) == DType::i16;
  const std::int64_t acc = c.node.attr_int("accumulator", 32);
  need(c, acc == 32 || (acc == 64 && wide16), fmt::format("an accumulator of {} bits for {}", acc, to_string(type_at(c, 0))), wide16 ? "32 or 64" : "32");
  need(c, acc == 64 || !wide16 || narrow_bias_for_16, "an accumulator of 32 bits for i16", "64");
  if (has(c, 2)) {
    need_type(c, 2, {acc == 64 ? DType::i64 : DType::i32});
    need(c, !c.in[2]->dims || (c.in[2]->dims->size() == 1 && (!(*c.in[2]->dims)[0].known() || (*c.in[2]->dims)[0].n == channels)), "the bias has other extents",
         fmt::format("one element for each of {} channels", channels));
  }
  need_quantised(c, "x", type_at(c, 0), wide16);
  need_quantised(c, "y", type_at(c, 0), wide16);
  need_activation(c);
  const std::vector<float> w = scales(c.node, "w_scale");
  need(c, w.size() == 1 || static_cast<std::int64_t>(w.size()) == channels, fmt::format("{} scales of weights", w.size()), fmt::format("one, or {}", channels));
  for (float s : w) need(c, s > 0 && std::isfinite(s), fmt::format("w_scale holds {}", s), "positive numbers");
  for (const Multiplier f : channel_multipliers(c.node, w.size())) need_multiplier(c, f, acc == 64);
}
Requantise requantise_of(const Args& e, std::size_t channels) {
  const Quantised y = quantised(e.node, "y");
  return {channel_multipliers(e.node, channels), wide_sums(e.node), y.zero, activation_range(e.node, out_type(e), y)};
}

void infer_conv2d(InferContext& c) {
  need_rank(c, 0, 4), need_rank(c, 1, 4), need_window(c);
  const auto x = extents(c, 0), w = extents(c, 1);
  c.out = {unknown_extents(type_at(c, 0), 4)};
  if (!w) c.fail("weights have unknown extents");
  need_contraction(c, (*w)[0], true);
  need(c, (*w)[0] >= 1 && (*w)[3] >= 1, "weights without elements");
  if (!x) return;
  need(c, (*x)[3] % (*w)[3] == 0 && (*w)[0] % std::max<std::int64_t>((*x)[3] / (*w)[3], 1) == 0 && (*x)[3] >= (*w)[3],
       fmt::format("{} channels with weights of the shape {}", (*x)[3], to_string(*w)), "channels in whole groups");
  const Shape o = window_out(c, *x, (*w)[1], (*w)[2]);
  c.out = {typed(type_at(c, 0), {(*x)[0], o[0], o[1], (*w)[0]})};
}
void conv2d_eval(Args& e) {
  const Shape &xs = e.in[0]->shape, &ws = e.in[1]->shape;
  const Window2 win = window_of(e.node);
  const Axis ay = window_axis(win.same, xs[1], ws[1], win.stride[0], win.dilation[0]), ax = window_axis(win.same, xs[2], ws[2], win.stride[1], win.dilation[1]);
  const std::int64_t O = ws[0], C = xs[3], Cg = ws[3], per_group = O / (C / Cg), row = ws[2] * Cg;
  const std::vector<std::int16_t> x = narrow(*e.in[0], quantised(e.node, "x").zero), w = narrow(*e.in[1], 0);
  const std::vector<std::int64_t> bias = biases(e, 2, static_cast<std::size_t>(O));
  const Requantise requantise = requantise_of(e, static_cast<std::size_t>(O));
  struct Run {
    const std::int16_t* x;
    std::int64_t w, n;
  };
  std::vector<Run> runs;  // stretches that lie together both in the image and in the weights
  Array<double> y({xs[0], ay.out, ax.out, O});
  double* to = y.v.data();
  for (std::int64_t b = 0; b < xs[0]; ++b)
    for (std::int64_t oy = 0; oy < ay.out; ++oy)
      for (std::int64_t ox = 0; ox < ax.out; ++ox) {
        std::int64_t group = -1;
        for (std::int64_t o = 0; o < O; ++o) {
          if (o / per_group != group) {
            group = o / per_group;
            runs.clear();
            for (std::int64_t ky = 0; ky < ws[1]; ++ky) {
              const std::int64_t iy = oy * win.stride[0] - ay.before + ky * win.dilation[0];
              if (iy < 0 || iy >= xs[1]) continue;
              for (std::int64_t kx = 0; kx < ws[2]; ++kx) {
                const std::int64_t ix = ox * win.stride[1] - ax.before + kx * win.dilation[1];
                if (ix < 0 || ix >= xs[2]) continue;
                const std::int16_t* from = x.data() + ((b * xs[1] + iy) * xs[2] + ix) * C + group * Cg;
                if (const std::int64_t at = ky * row + kx * Cg; !runs.empty() && runs.back().x + runs.back().n == from && runs.back().w + runs.back().n == at) runs.back().n += Cg;
                else runs.push_back({from, at, Cg});
              }
            }
          }
          std::int64_t sum = bias[static_cast<std::size_t>(o)];
          const std::int16_t* of = w.data() + o * ws[1] * row;
          for (const Run& r : runs) sum += dot(r.x, of + r.w, r.n);
          *to++ = requantise(sum, static_cast<std::size_t>(o));
        }
      }
  e.out[0] = std::move(y);
}

void infer_depthwise(InferContext& c) {
  need_rank(c, 0, 4), need_rank(c, 1, 4), need_window(c);
  const auto x = extents(c, 0), w = extents(c, 1);
  c.out = {unknown_extents(type_at(c, 0), 4)};
  if (!w) c.fail("weights have unknown extents");
  need_contraction(c, (*w)[3]);
  need(c, (*w)[0] == 1 && (*w)[3] >= 1, fmt::format("weights of the shape {}", to_string(*w)), "[1, height, width, channels]");
  if (!x) return;
  need(c, (*x)[3] >= 1 && (*w)[3] % (*x)[3] == 0, fmt::format("{} channels with weights of the shape {}", (*x)[3], to_string(*w)), "a multiple of the channels");
  const Shape o = window_out(c, *x, (*w)[1], (*w)[2]);
  c.out = {typed(type_at(c, 0), {(*x)[0], o[0], o[1], (*w)[3]})};
}
void depthwise_eval(Args& e) {
  const Shape &xs = e.in[0]->shape, &ws = e.in[1]->shape;
  const Window2 win = window_of(e.node);
  const Axis ay = window_axis(win.same, xs[1], ws[1], win.stride[0], win.dilation[0]), ax = window_axis(win.same, xs[2], ws[2], win.stride[1], win.dilation[1]);
  const std::int64_t C = xs[3], O = ws[3], each = O / C;
  const std::vector<std::int16_t> x = narrow(*e.in[0], quantised(e.node, "x").zero), w = narrow(*e.in[1], 0);
  const std::vector<std::int64_t> bias = biases(e, 2, static_cast<std::size_t>(O));
  const Requantise requantise = requantise_of(e, static_cast<std::size_t>(O));
  std::vector<std::int64_t> sum(static_cast<std::size_t>(O));
  Array<double> y({xs[0], ay.out, ax.out, O});
  double* to = y.v.data();
  for (std::int64_t b = 0; b < xs[0]; ++b)
    for (std::int64_t oy = 0; oy < ay.out; ++oy)
      for (std::int64_t ox = 0; ox < ax.out; ++ox) {
        sum = bias;
        for (std::int64_t ky = 0; ky < ws[1]; ++ky) {
          const std::int64_t iy = oy * win.stride[0] - ay.before + ky * win.dilation[0];
          if (iy < 0 || iy >= xs[1]) continue;
          for (std::int64_t kx = 0; kx < ws[2]; ++kx) {
            const std::int64_t ix = ox * win.stride[1] - ax.before + kx * win.dilation[1];
            if (ix < 0 || ix >= xs[2]) continue;
            const std::int16_t* from = x.data() + ((b * xs[1] + iy) * xs[2] + ix) * C;
            const std::int16_t* by = w.data() + (ky * ws[2] + kx) * O;
            if (each == 1)
              for (std::int64_t o = 0; o < O; ++o) sum[static_cast<std::size_t>(o)] += static_cast<std::int32_t>(from[o]) * by[o];
            else
              for (std::int64_t o = 0; o < O; ++o) sum[static_cast<std::size_t>(o)] += static_cast<std::int32_t>(from[o / each]) * by[o];
          }
        }
        for (std::int64_t o = 0; o < O; ++o) *to++ = requantise(sum[static_cast<std::size_t>(o)], static_cast<std::size_t>(o));
      }
  e.out[0] = std::move(y);
}

Shape transpose_out(const Node& n) { return n.attr_ints("output_shape", {}); }
void infer_transpose_conv(InferContext& c) {
  need_rank(c, 0, 4), need_rank(c, 1, 4), need_window(c);
  const auto x = extents(c, 0), w = extents(c, 1);
  if (!w) c.fail("weights have unknown extents");
  need_contraction(c, (*w)[0]);
  const Shape o = transpose_out(c.node);
  need(c, o.size() == 4 && std::all_of(o.begin(), o.end(), [](std::int64_t d) { return d >= 1 && d <= 1'000'000; }),
       fmt::format("output_shape is {}", to_string(o)), "four extents from 1 on");
  need(c, o[3] == (*w)[0], fmt::format("output_shape has {} channels", o[3]), fmt::format("{}, as the weights", (*w)[0]));
  if (x) {
    need(c, (*x)[3] == (*w)[3], fmt::format("{} channels with weights of the shape {}", (*x)[3], to_string(*w)), "the same number");
    need(c, (*x)[0] == o[0], fmt::format("output_shape has a batch of {}", o[0]), fmt::format("{}", (*x)[0]));
    const Shape k = window_out(c, o, (*w)[1], (*w)[2]);  // the windows whose positions are the input's
    need(c, k[0] == (*x)[1] && k[1] == (*x)[2], fmt::format("output_shape {} has {} windows", to_string(o), to_string(k)), fmt::format("as many as the input, {}", to_string(*x)));
  }
  c.out = {typed(type_at(c, 0), o)};
}
void transpose_conv_eval(Args& e) {
  const Shape &xs = e.in[0]->shape, &ws = e.in[1]->shape, ys = transpose_out(e.node);
  const Window2 win = window_of(e.node);
  const Axis ay = window_axis(win.same, ys[1], ws[1], win.stride[0], 1), ax = window_axis(win.same, ys[2], ws[2], win.stride[1], 1);
  const std::int64_t O = ws[0], C = xs[3];
  const std::vector<std::int16_t> x = narrow(*e.in[0], quantised(e.node, "x").zero), w = narrow(*e.in[1], 0);
  const std::vector<std::int64_t> bias = biases(e, 2, static_cast<std::size_t>(O));
  const Requantise requantise = requantise_of(e, static_cast<std::size_t>(O));
  std::vector<std::int64_t> sum(static_cast<std::size_t>(element_count(ys)));
  for (std::int64_t b = 0; b < xs[0]; ++b)
    for (std::int64_t iy = 0; iy < xs[1]; ++iy)
      for (std::int64_t ix = 0; ix < xs[2]; ++ix) {
        const std::int16_t* from = x.data() + ((b * xs[1] + iy) * xs[2] + ix) * C;
        for (std::int64_t ky = 0; ky < ws[1]; ++ky) {
          const std::int64_t oy = iy * win.stride[0] - ay.before + ky;
          if (oy < 0 || oy >= ys[1]) continue;
          for (std::int64_t kx = 0; kx < ws[2]; ++kx) {
            const std::int64_t ox = ix * win.stride[1] - ax.before + kx;
            if (ox < 0 || ox >= ys[2]) continue;
            std::int64_t* to = sum.data() + ((b * ys[1] + oy) * ys[2] + ox) * O;
            for (std::int64_t o = 0; o < O; ++o) to[o] += dot(from, w.data() + ((o * ws[1] + ky) * ws[2] + kx) * C, C);
          }
        }
      }
  Array<double> y(ys);
  for (std::size_t i = 0; i < sum.size(); ++i) y.v[i] = requantise(sum[i] + bias[i % static_cast<std::size_t>(O)], i % static_cast<std::size_t>(O));
  e.out[0] = std::move(y);
}

void infer_dense(InferContext& c) {
  need_rank(c, 1, 2);
  const auto x = extents(c, 0), w = extents(c, 1);
  if (!w) c.fail("weights have unknown extents");
  need_contraction(c, (*w)[0]);
  const std::vector<float> ws = scales(c.node, "w_scale");
  if (ws.size() == 1) need_multiplier(c, dense_multiplier(quantised(c.node, "x").scale, ws[0], quantised(c.node, "y").scale), wide_sums(c.node));
  if (!x) {
    c.out = {unknown_rank(type_at(c, 0))};
    return;
  }
  need(c, (*w)[1] >= 1 && element_count(*x) % (*w)[1] == 0, fmt::format("{} elements with weights of the shape {}", element_count(*x), to_string(*w)), "a multiple of the weights' columns");
  Shape y{element_count(*x) / (*w)[1], (*w)[0]};
  if (c.node.attr_int("keep_num_dims", 0)) {
    need(c, !x->empty() && x->back() == (*w)[1], fmt::format("the last axis has {} elements", x->empty() ? 0 : x->back()), fmt::format("{}", (*w)[1]));
    y = *x;
    y.back() = (*w)[0];
  }
  c.out = {typed(type_at(c, 0), y)};
}
void dense_eval(Args& e) {
  const Shape &xs = e.in[0]->shape, &ws = e.in[1]->shape;
  const std::int64_t O = ws[0], K = ws[1], rows = element_count(xs) / K;
  const std::vector<std::int16_t> x = narrow(*e.in[0], quantised(e.node, "x").zero), w = narrow(*e.in[1], 0);
  const std::vector<std::int64_t> bias = biases(e, 2, static_cast<std::size_t>(O));
  Requantise requantise = requantise_of(e, static_cast<std::size_t>(O));
  if (const std::vector<float> s = scales(e.node, "w_scale"); s.size() == 1) requantise.m = {dense_multiplier(quantised(e.node, "x").scale, s[0], quantised(e.node, "y").scale)};
  Shape ys{rows, O};
  if (e.node.attr_int("keep_num_dims", 0)) ys = xs, ys.back() = O;
  Array<double> y(ys);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t o = 0; o < O; ++o)
      y.v[static_cast<std::size_t>(r * O + o)] = requantise(bias[static_cast<std::size_t>(o)] + dot(x.data() + r * K, w.data() + o * K, K), static_cast<std::size_t>(o));
  e.out[0] = std::move(y);
}

// ---- element by element ---------------------------------------------------------------------------
void infer_elementwise(InferContext& c) {
  need_type(c, 0, {DType::i8, DType::i16});
  need(c, type_at(c, 1) == type_at(c, 0), fmt::format("operands of {} and {}", to_string(type_at(c, 0)), to_string(type_at(c, 1))), "one type");
  const bool mul = c.node.op == "Mul", wide = type_at(c, 0) == DType::i16;
  for (const char* p : {"a", "b", "y"}) need_quantised(c, p, type_at(c, 0), wide && mul);
  need_activation(c);
  const Quantised a = quantised(c.node, "a"), b = quantised(c.node, "b"), y = quantised(c.node, "y");
  if (mul) {
    need_multiplier(c, multiplier(static_cast<double>(a.scale) * static_cast<double>(b.scale) / static_cast<double>(y.scale)));
  } else {
    const SumScales s = sum_scales(a.scale, b.scale, y.scale, wide);
    for (const Multiplier& f : {s.a, s.b, s.y})
      need(c, f.m > 0 && f.shift <= 0 && f.shift >= -31, "the scales of the operands and of the result lie too far apart",
           fmt::format("twice the larger scale below 2^{} times the result's", s.left));
  }
  const auto xs = extents(c, 0), zs = extents(c, 1);
  if (!xs || !zs) c.out = {unknown_rank(type_at(c, 0))};
  else c.out = {TensorType{type_at(c, 0), broadcast_dims(c, *c.in[0]->dims, *c.in[1]->dims)}};
}
void elementwise_eval(Args& e) {
  const Quantised a = quantised(e.node, "a"), b = quantised(e.node, "b"), y = quantised(e.node, "y");
  const Range range = activation_range(e.node, out_type(e), y);
  const Shape s = broadcast(e.in[0]->shape, e.in[1]->shape);
  const Broadcaster pa(e.in[0]->shape, s), pb(e.in[1]->shape, s);
  const bool mul = e.node.op == "Mul", minus = e.node.op == "Sub";
  const Multiplier f = multiplier(static_cast<double>(a.scale) * static_cast<double>(b.scale) / static_cast<double>(y.scale));
  const SumScales sum = mul ? SumScales{} : sum_scales(a.scale, b.scale, y.scale, out_type(e) == DType::i16);
  Array<double> out(s);
  for (std::size_t i = 0; i < out.v.size(); ++i) {
    const std::int32_t p = static_cast<std::int32_t>(e.in[0]->v[static_cast<std::size_t>(pa(static_cast<std::int64_t>(i)))]) - a.zero;
    const std::int32_t q = static_cast<std::int32_t>(e.in[1]->v[static_cast<std::size_t>(pb(static_cast<std::int64_t>(i)))]) - b.zero;
    const std::int32_t r = mul ? scaled(wrapped(static_cast<std::int64_t>(p) * q), f) : scaled_sum(p, q, sum, minus);
    out.v[i] = static_cast<double>(clamped(wrapped(static_cast<std::int64_t>(r) + y.zero), range));
  }
  e.out[0] = std::move(out);
}

struct LeakyScales {
  Multiplier one, alpha;
  bool negative;
};
LeakyScales leaky_scales(const Node& n) {
  const float x = quantised(n, "x").scale, y = quantised(n, "y").scale, alpha = static_cast<float>(n.attr_float("alpha", 0));
  LeakyScales s{multiplier(static_cast<double>(x / y)), multiplier(static_cast<double>(x * alpha / y)), alpha < 0};
  s.alpha.m = std::abs(s.alpha.m);
  return s;
}
void infer_leaky(InferContext& c) {
  infer_map(c);
  need(c, std::isfinite(c.node.attr_float("alpha", 0)) && std::isfinite(static_cast<float>(c.node.attr_float("alpha", 0))), "alpha is not finite", "a number");
  const LeakyScales s = leaky_scales(c.node);
  need_multiplier(c, s.one), need_multiplier(c, s.alpha);
}
void leaky_eval(Args& e) {
  const Quantised x = quantised(e.node, "x"), y = quantised(e.node, "y");
  const LeakyScales s = leaky_scales(e.node);
  const Range range = range_of(out_type(e));
  map(e, [&](std::int32_t v) {
    const std::int32_t d = v - x.zero, r = scaled(d, d >= 0 ? s.one : s.alpha);
    return clamped(static_cast<std::int64_t>(y.zero) + (d < 0 && s.negative ? -static_cast<std::int64_t>(r) : r), range);
  });
}

Multiplier relu_multiplier(const Node& n) { return multiplier(static_cast<double>(quantised(n, "x").scale / quantised(n, "y").scale)); }
void infer_relu(InferContext& c) {
  infer_map(c);
  need_multiplier(c, relu_multiplier(c.node));
}
void relu_eval(Args& e) {
  const Quantised x = quantised(e.node, "x"), y = quantised(e.node, "y");
  const Multiplier f = relu_multiplier(e.node);
  Range range = range_of(out_type(e));
  range.least = std::max<std::int64_t>(range.least, y.zero);
  map(e, [&](std::int32_t v) { return clamped(wrapped(static_cast<std::int64_t>(scaled(v - x.zero, f)) + y.zero), range); });
}
void infer_relu6(InferContext& c) {
  infer_map(c);
  const Quantised x = quantised(c.node, "x"), y = quantised(c.node, "y");
  need(c, x.scale == y.scale && x.zero == y.zero, "input and output have other scales", "the same scale and zero point: the integers are only clamped");
}
void relu6_eval(Args& e) {
  const Quantised x = quantised(e.node, "x");
  Range range = range_of(out_type(e));
  range.most = clamped(x.zero + static_cast<std::int64_t>(std::clamp(std::round(6.0f / x.scale), 0.f, 2147483520.f)), range);
  range.least = x.zero;
  map(e, [&](std::int32_t v) { return clamped(v, range); });
}

// 8 bits: x * scale in 4 integer bits, a radius beyond which the result saturates.
struct Curve8 {
  Multiplier f;
  std::int32_t radius;
};
Curve8 curve8(const Node& n) {
  Curve8 k;
  k.f = multiplier(static_cast<double>(quantised(n, "x").scale) * (1 << 27));
  k.radius = static_cast<std::int32_t>(std::floor(15.0 * (1 << 27) / std::ldexp(1.0, k.f.shift)));
  return k;
}
// 16 bits: the multiplier of the table's input; 0 where the scale is the power of two 2^(shift - 12).
struct Curve16 {
  std::int32_t multiplier = 0;
  int shift = 0;
};
// Whether x is a power of two to 1e-3 of an octave, in f32; its exponent.
bool power_of_two(float x, int& exponent) {
  const float l = std::log(x) * (1.0f / std::log(2.0f)), r = std::round(l);
  exponent = static_cast<int>(r);
  return std::abs(l - r) < 1e-3f;
}
Curve16 curve16(const Node& n) {
  const float scale = quantised(n, "x").scale;
  Curve16 k;
  int exponent = 0;
  if (power_of_two(scale, exponent) && (exponent == -12 || (n.op == "Tanh" && exponent == -11))) {
    k.shift = 12 + exponent;
    return k;
  }
  double m = static_cast<double>(scale) * 4096.0 * 3.0;
  for (; m <= 32767.0 / 2.0 && k.shift <= 30; m *= 2) ++k.shift;
  k.multiplier = static_cast<std::int32_t>(std::min(m, 65536.0));
  return k;
}
void infer_curve(InferContext& c) {
  infer_map(c);
  const Quantised y = quantised(c.node, "y");
  const bool sigmoid = c.node.op == "Logistic";
  if (type_at(c, 0) == DType::i8) {
    const float scale = sigmoid ? 1.0f / 256 : 1.0f / 128;
    const std::int32_t zero = sigmoid ? -128 : 0;
    need(c, y.scale == scale && y.zero == zero, fmt::format("an output of scale {} and zero point {}", y.scale, y.zero), fmt::format("scale {} and zero point {}", scale, zero));
    const Multiplier f = curve8(c.node).f;
    need(c, f.shift >= 0 && f.shift <= 30 && f.m > 0, fmt::format("x_scale is {}", quantised(c.node, "x").scale), "2^-27 to 8");
  } else {
    need(c, quantised(c.node, "x").zero == 0 && y.zero == 0, "a zero point that is not 0", "0: integers of 16 bits are symmetric");
    int exponent = 0;
    need(c, power_of_two(y.scale, exponent) && exponent == -15, fmt::format("an output of scale {}", y.scale), "2^-15");
    const Curve16 k = curve16(c.node);
    need(c, k.multiplier <= 32767 && k.shift <= 30, fmt::format("x_scale is {}", quantised(c.node, "x").scale), "about 2^-28 to 2.66");
  }
}
void curve_eval(Args& e) {
  const bool sigmoid = e.node.op == "Logistic";
  const std::int32_t zero = quantised(e.node, "x").zero;
  if (out_type(e) == DType::i16) {
    const Curve16 k = curve16(e.node);
    map(e, [&](std::int32_t v) { return sigmoid ? logistic16(v, k.multiplier, k.shift) : tanh16(v, k.multiplier, k.shift); });
    return;
  }
  const Curve8 k = curve8(e.node);
  map(e, [&](std::int32_t v) -> std::int64_t {
    const std::int32_t d = v - zero;
    if (d <= -k.radius) return -128;
    if (d >= k.radius) return 127;
    const std::int32_t in = scaled(d, k.f);
    const std::int32_t y = sigmoid ? rounding_shift(logistic(in, 4), 23) - 128 : rounding_shift(hyperbolic_tangent(in, 4), 24);
    return std::clamp(y, -128, 127);
  });
}

// ---- to and from real numbers, and between scales -------------------------------------------------
void infer_quantize(InferContext& c) {
  need_type(c, 0, {DType::f32, DType::i8, DType::u8, DType::i16, DType::i32});
  const auto to = onnx_dtype(c.node.attr_int("to", 0));
  need(c, to && (*to == DType::i8 || *to == DType::u8 || *to == DType::i16 || *to == DType::i32), "the output's type", "i8, u8, i16 or i32");
  need_quantised(c, "y", *to);
  if (!is_float(type_at(c, 0))) {
    need_quantised(c, "x", type_at(c, 0));
    need_multiplier(c, multiplier(static_cast<double>(quantised(c.node, "x").scale) / static_cast<double>(quantised(c.node, "y").scale)));
  } else {
    need(c, *to != DType::i32, "real numbers to i32", "i8, u8 or i16");
  }
  c.out = {TensorType{*to, c.in[0]->dims}};
}
void quantize_eval(Args& e) {
  const Quantised x = quantised(e.node, "x"), y = quantised(e.node, "y");
  const Range range = range_of(out_type(e));
  if (is_float(in_type(e))) {
    Array<double> out(e.in[0]->shape);
    for (std::size_t i = 0; i < out.v.size(); ++i) {
      const float q = std::round(static_cast<float>(e.in[0]->v[i]) / y.scale);
      if (std::isnan(q)) throw node_error(e.graph, e.node, fmt::format("NaN at element {}: no integer stands for it", i));
      out.v[i] = static_cast<double>(clamped(static_cast<std::int64_t>(std::clamp(q, -2147483648.f, 2147483520.f)) + y.zero, range));
    }
    e.out[0] = std::move(out);
    return;
  }
  const Multiplier f = multiplier(static_cast<double>(x.scale) / static_cast<double>(y.scale));
  map(e, [&](std::int32_t v) { return clamped(wrapped(static_cast<std::int64_t>(scaled(wrapped(static_cast<std::int64_t>(v) - x.zero), f)) + y.zero), range); });
}
void infer_dequantize(InferContext& c) {
  need_type(c, 0, {DType::i8, DType::u8, DType::i16});
  need_quantised(c, "x", type_at(c, 0));
  c.out = {TensorType{DType::f32, c.in[0]->dims}};
}
void dequantize_eval(Args& e) {
  const Quantised x = quantised(e.node, "x");
  Array<double> y(e.in[0]->shape);
  for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = static_cast<float>(static_cast<double>(x.scale) * (e.in[0]->v[i] - x.zero));
  e.out[0] = std::move(y);
}

// ---- windows and means ----------------------------------------------------------------------------
void infer_pool2d(InferContext& c) {
  need_type(c, 0, {DType::i8, DType::i16});
  need_rank(c, 0, 4), need_window(c), need_activation(c);
  need_quantised(c, "y", type_at(c, 0));
  const auto k = c.node.attr_ints("kernel_shape", {});
  need(c, k.size() == 2, fmt::format("kernel_shape is {}", to_string(Shape(k))), "two extents");
  c.out = {unknown_extents(type_at(c, 0), 4)};
  if (const auto x = extents(c, 0)) {
    const Shape o = window_out(c, *x, k[0], k[1]);
    c.out = {typed(type_at(c, 0), {(*x)[0], o[0], o[1], (*x)[3]})};
  }
}
void pool2d_eval(Args& e) {
  const Shape& xs = e.in[0]->shape;
  const auto k = e.node.attr_ints("kernel_shape", {});
  const Window2 win = window_of(e.node);
  const Axis ay = window_axis(win.same, xs[1], k[0], win.stride[0], 1), ax = window_axis(win.same, xs[2], k[1], win.stride[1], 1);
  const Range range = activation_range(e.node, out_type(e), quantised(e.node, "y"));
  const bool mean = e.node.op == "AveragePool2D";
  Array<double> y({xs[0], ay.out, ax.out, xs[3]});
  double* to = y.v.data();
  for (std::int64_t b = 0; b < xs[0]; ++b)
    for (std::int64_t oy = 0; oy < ay.out; ++oy)
      for (std::int64_t ox = 0; ox < ax.out; ++ox) {
        const std::int64_t y0 = std::max<std::int64_t>(oy * win.stride[0] - ay.before, 0), y1 = std::min(oy * win.stride[0] - ay.before + k[0], xs[1]);
        const std::int64_t x0 = std::max<std::int64_t>(ox * win.stride[1] - ax.before, 0), x1 = std::min(ox * win.stride[1] - ax.before + k[1], xs[2]);
        const std::int64_t count = std::max<std::int64_t>(y1 - y0, 0) * std::max<std::int64_t>(x1 - x0, 0);
        if (count == 0) throw node_error(e.graph, e.node, fmt::format("the window at ({}, {}) holds padding only", oy, ox));
        for (std::int64_t c = 0; c < xs[3]; ++c) {
          std::int64_t sum = 0, most = std::numeric_limits<std::int64_t>::min();
          for (std::int64_t iy = y0; iy < y1; ++iy)
            for (std::int64_t ix = x0; ix < x1; ++ix) {
              const auto v = static_cast<std::int64_t>(e.in[0]->v[static_cast<std::size_t>(((b * xs[1] + iy) * xs[2] + ix) * xs[3] + c)]);
              sum += v, most = std::max(most, v);
            }
          *to++ = static_cast<double>(clamped(mean ? rounded_mean(sum, count) : most, range));
        }
      }
  e.out[0] = std::move(y);
}

// Which axes are reduced, and the output's extents.
std::vector<bool> reduced_axes(const Graph& g, const Node& n, std::size_t rank) {
  std::vector<bool> r(rank);
  for (std::int64_t a : n.attr_ints("axes", {})) r[static_cast<std::size_t>(normal_axis(a, static_cast<std::int64_t>(rank), g, n))] = true;
  return r;
}
Shape reduced_shape(const Node& n, const Shape& x, const std::vector<bool>& r) {
  Shape y;
  for (std::size_t d = 0; d < x.size(); ++d) {
    if (!r[d]) y.push_back(x[d]);
    else if (n.attr_int("keep_dims", 0)) y.push_back(1);
  }
  return y;
}
std::int64_t reduced_count(const Shape& x, const std::vector<bool>& r) {
  std::int64_t n = 1;
  for (std::size_t d = 0; d < x.size(); ++d)
    if (r[d]) n *= x[d];
  return n;
}
Multiplier reduce_multiplier(const Node& n, std::int64_t count) {
  const Quantised x = quantised(n, "x"), y = quantised(n, "y");
  return n.op == "Mean" ? mean_multiplier(x.scale, y.scale, count) : multiplier(static_cast<double>(x.scale) / static_cast<double>(y.scale));
}
void infer_mean(InferContext& c) {
  need_type(c, 0, {DType::i8, DType::i16});
  need_quantised(c, "x", type_at(c, 0)), need_quantised(c, "y", type_at(c, 0));
  c.out = {unknown_rank(type_at(c, 0))};
  const auto x = extents(c, 0);
  if (!x) return;
  const auto r = reduced_axes(c.graph, c.node, x->size());
  need(c, element_count(*x) > 0, "a mean of no elements");
  need_multiplier(c, reduce_multiplier(c.node, reduced_count(*x, r)));
  c.out = {typed(type_at(c, 0), reduced_shape(c.node, *x, r))};
}
void mean_eval(Args& e) {
  const Shape& xs = e.in[0]->shape;
  const Quantised x = quantised(e.node, "x"), y = quantised(e.node, "y");
  const auto r = reduced_axes(e.graph, e.node, xs.size());
  const std::int64_t count = reduced_count(xs, r);
  const Multiplier f = reduce_multiplier(e.node, count);
  Shape kept = xs;
  for (std::size_t d = 0; d < xs.size(); ++d)
    if (r[d]) kept[d] = 1;
  const Broadcaster to(kept, xs);
  Array<double> out(reduced_shape(e.node, xs, r));
  std::vector<std::int64_t> sum(out.v.size());
  for (std::size_t i = 0; i < e.in[0]->v.size(); ++i) sum[static_cast<std::size_t>(to(static_cast<std::int64_t>(i)))] += static_cast<std::int64_t>(e.in[0]->v[i]);
  const Range range = range_of(out_type(e));
  for (std::size_t i = 0; i < sum.size(); ++i)
    out.v[i] = static_cast<double>(clamped(wrapped(static_cast<std::int64_t>(scaled(wrapped(sum[i] - x.zero * count), f)) + y.zero), range));
  e.out[0] = std::move(out);
}

// ---- softmax --------------------------------------------------------------------------------------
struct SoftmaxScale {
  Multiplier f;
  std::int32_t least;  // of a difference that still counts
};
SoftmaxScale softmax_scale(const Node& n) {
  const double beta = static_cast<float>(n.attr_float("beta", 1)), scale = quantised(n, "x").scale;
  SoftmaxScale s;
  s.f = multiplier(std::min(beta * scale * (1 << 26), 2147483647.0));
  s.least = static_cast<std::int32_t>(-std::floor(31.0 * (1 << 26) / std::ldexp(1.0, s.f.shift)));
  return s;
}
void infer_softmax(InferContext& c) {
  need_type(c, 0, {DType::i8});
  need_quantised(c, "x", type_at(c, 0));
  const auto to = onnx_dtype(c.node.attr_int("to", onnx_number(DType::i8)));
  need(c, to && (*to == DType::i8 || *to == DType::i16), "the output's type", "i8 or i16");
  const Quantised y = quantised(c.node, "y");
  const float scale = *to == DType::i8 ? 1.0f / 256 : 1.0f / 65536;
  const std::int32_t zero = *to == DType::i8 ? -128 : -32768;
  need(c, std::abs(y.scale - scale) <= 0.001f * scale && y.zero == zero, fmt::format("an output of scale {} and zero point {}", y.scale, y.zero),
       fmt::format("scale {} and zero point {}", scale, zero));
  const double beta = c.node.attr_float("beta", 1);
  need(c, beta > 0 && std::isfinite(beta) && beta * quantised(c.node, "x").scale * (1 << 26) > 1, fmt::format("beta is {}", beta), "beta * x_scale above 2^-26");
  need(c, !c.in[0]->dims || !c.in[0]->dims->empty(), "a single number", "at least one axis");
  c.out = {TensorType{*to, c.in[0]->dims}};
}
void softmax_eval(Args& e) {
  const SoftmaxScale s = softmax_scale(e.node);
  const Range range = range_of(out_type(e));
  const int bits = out_type(e) == DType::i8 ? 8 : 16;
  const std::int64_t depth = e.in[0]->shape.back(), rows = depth ? element_count(e.in[0]->shape) / depth : 0;
  Array<double> y(e.in[0]->shape);
  std::vector<std::int32_t> part(static_cast<std::size_t>(depth));  // exp of each difference, no integer bits; -1: too small to count
  for (std::int64_t r = 0; r < rows; ++r) {
    const double* x = e.in[0]->v.data() + r * depth;
    const auto most = static_cast<std::int32_t>(*std::max_element(x, x + depth));
    std::int64_t sum = 0;  // 12 integer bits
    for (std::int64_t i = 0; i < depth; ++i) {
      const std::int32_t d = static_cast<std::int32_t>(x[i]) - most;
      std::int32_t& p = part[static_cast<std::size_t>(i)] = -1;
      if (d < s.least) continue;
      p = exp_negative(high_product(wrapped(static_cast<std::int64_t>(d) * (std::int64_t{1} << s.f.shift)), s.f.m), 5);
      sum += rounding_shift(p, 12);
    }
    if (sum > std::numeric_limits<std::int32_t>::max()) throw node_error(e.graph, e.node, fmt::format("the sum of {} exponentials does not fit its 12 integer bits", depth));
    const Reciprocal inverse = reciprocal(static_cast<std::int32_t>(sum), 12);
    const int shift = inverse.bits_over_unit + 31 - bits;
    if (shift > 31) throw node_error(e.graph, e.node, fmt::format("the sum of {} exponentials is above {}: the form has no result", depth, 1 << (bits + 1)));
    for (std::int64_t i = 0; i < depth; ++i) {
      const std::int32_t p = part[static_cast<std::size_t>(i)];
      y.v[static_cast<std::size_t>(r * depth + i)] = static_cast<double>(p < 0 ? range.least : clamped(rounding_shift(high_product(inverse.raw, p), shift) + range.least, range));
    }
  }
  e.out[0] = std::move(y);
}

// ---- recurrence -----------------------------------------------------------------------------------
struct SvdfScales {
  Multiplier feature, time;
};
SvdfScales svdf_scales(const Node& n) {
  const float x = quantised(n, "x").scale, state = quantised(n, "state").scale, y = quantised(n, "y").scale;
  const auto feature = static_cast<float>(n.attr_float("feature_scale", 1)), time = static_cast<float>(n.attr_float("time_scale", 1));
  return {multiplier(static_cast<double>(x * feature / state)), multiplier(static_cast<double>(state * time / y))};
}
void infer_svdf(InferContext& c) {
  need_type(c, 0, {DType::i8}), need_type(c, 1, {DType::i8}), need_type(c, 2, {DType::i8, DType::i16}), need_type(c, 3, {DType::i32});
  need(c, type_at(c, 4) == type_at(c, 2), fmt::format("a state of {}", to_string(type_at(c, 4))), std::string(to_string(type_at(c, 2))));
  need_quantised(c, "x", DType::i8), need_quantised(c, "y", DType::i8), need_quantised(c, "state", type_at(c, 4));
  for (const char* key : {"feature_scale", "time_scale"})
    need(c, c.node.attr_float(key, 0) > 0 && std::isfinite(c.node.attr_float(key, 0)), fmt::format("{} is {}", key, c.node.attr_float(key, 0)),
         "a positive number");
  const SvdfScales s = svdf_scales(c.node);
  need_multiplier(c, s.feature), need_multiplier(c, s.time);
  const auto x = extents(c, 0), f = extents(c, 1), t = extents(c, 2), state = extents(c, 4);
  if (!x || !f || !t || !state) c.fail("unknown extents");
  const std::int64_t rank = c.node.attr_int("rank", 1);
  need(c, x->size() == 2 && f->size() == 2 && t->size() == 2 && rank >= 1,
       fmt::format("rank {} with operands {}, {}, {}", rank, to_string(*x), to_string(*f), to_string(*t)), "three matrices");
  need(c, (*f)[1] == (*x)[1] && (*t)[0] == (*f)[0] && (*f)[0] % rank == 0 && (*t)[1] >= 1,
       fmt::format("weights {} and {} with an input {}", to_string(*f), to_string(*t), to_string(*x)), "filters as rows of both, in whole units");
  need(c, element_count(*state) == (*x)[0] * (*f)[0] * (*t)[1], fmt::format("a state of the shape {}", to_string(*state)), fmt::format("{} elements", (*x)[0] * (*f)[0] * (*t)[1]));
  if (const auto b = extents(c, 3)) need(c, *b == Shape{(*f)[0] / rank}, fmt::format("a bias of the shape {}", to_string(*b)), fmt::format("[{}]", (*f)[0] / rank));
  c.out = {typed(DType::i8, {(*x)[0], (*f)[0] / rank}), typed(type_at(c, 4), *state)};
}
void svdf_eval(Args& e) {
  const Array<double>&x = *e.in[0], &wf = *e.in[1], &wt = *e.in[2];
  const Quantised qx = quantised(e.node, "x"), qs = quantised(e.node, "state"), qy = quantised(e.node, "y");
  const SvdfScales s = svdf_scales(e.node);
  const std::int64_t batch = x.shape[0], in = x.shape[1], filters = wf.shape[0], memory = wt.shape[1], rank = e.node.attr_int("rank", 1), units = filters / rank;
  const Range state_range = range_of(in_type(e, 4)), range = range_of(DType::i8);
  Array<double> state(e.in[4]->shape), y({batch, units});
  const std::vector<std::int64_t> bias = biases(e, 3, static_cast<std::size_t>(units));
  const auto at = [](const Array<double>& a, std::int64_t i) { return static_cast<std::int64_t>(a.v[static_cast<std::size_t>(i)]); };
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t u = 0; u < units; ++u) {
      std::int64_t sum = bias[static_cast<std::size_t>(u)];
      for (std::int64_t f = u * rank; f < (u + 1) * rank; ++f) {
        double* row = state.v.data() + (b * filters + f) * memory;
        for (std::int64_t m = 0; m + 1 < memory; ++m) row[m] = e.in[4]->v[static_cast<std::size_t>((b * filters + f) * memory + m + 1)];
        std::int64_t fresh = 0;
        for (std::int64_t i = 0; i < in; ++i) fresh += at(wf, f * in + i) * (at(x, b * in + i) - qx.zero);
        row[memory - 1] = static_cast<double>(qs.zero + clamped(scaled(wrapped(fresh), s.feature), state_range));
        row[memory - 1] = held_as(in_type(e, 4), row[memory - 1]);
        for (std::int64_t m = 0; m < memory; ++m) sum += at(wt, f * memory + m) * (static_cast<std::int64_t>(row[m]) - qs.zero);
      }
      y.v[static_cast<std::size_t>(b * units + u)] = static_cast<double>(clamped(wrapped(static_cast<std::int64_t>(scaled(wrapped(sum), s.time)) + qy.zero), range));
    }
  e.out[0] = std::move(y), e.out[1] = std::move(state);
}

struct LstmScales {
  std::array<Multiplier, 4> input, recurrent;  // gates i, f, c, o
  Multiplier keep, add, hide;
  int cell_exponent = 0;
  bool cell_is_power = true;
  std::int32_t clip = 0;
};
LstmScales lstm_scales(const Node& n) {
  LstmScales s;
  const float x = quantised(n, "x").scale, h = quantised(n, "h").scale, c = quantised(n, "c").scale, gate = 1.0f / 4096, unit = 1.0f / 32768;
  const auto wi = scales(n, "w_scale"), wr = scales(n, "r_scale");
  for (std::size_t k = 0; k < 4; ++k) s.input[k] = dense_multiplier(x, wi[k], gate), s.recurrent[k] = dense_multiplier(h, wr[k], gate);
  const double u = unit;
  s.keep = multiplier(u * static_cast<double>(c) / static_cast<double>(c)), s.add = multiplier(u * u / static_cast<double>(c)), s.hide = multiplier(u * u / static_cast<double>(h));
  s.cell_is_power = power_of_two(c, s.cell_exponent);
  const double clip = static_cast<float>(n.attr_float("cell_clip", 0));
  s.clip = static_cast<std::int32_t>(std::clamp(clip / static_cast<double>(c), -32768.0, 32767.0));
  return s;
}
void infer_lstm(InferContext& c) {
  need_type(c, 0, {DType::i8, DType::i16});
  for (std::size_t i = 1; i < 9; ++i) need_type(c, i, {DType::i8});
  const bool wide = type_at(c, 0) == DType::i16;
  for (std::size_t i = 9; i < 13; ++i) need_type(c, i, {wide ? DType::i64 : DType::i32});
  need(c, type_at(c, 13) == type_at(c, 0), fmt::format("a hidden state of {}", to_string(type_at(c, 13))), std::string(to_string(type_at(c, 0))));
  need_type(c, 14, {DType::i16});
  need_quantised(c, "x", type_at(c, 0), wide), need_quantised(c, "h", type_at(c, 0), wide), need_quantised(c, "c", DType::i16, true);
  for (const char* key : {"w_scale", "r_scale"}) {
    const auto v = scales(c.node, key);
    need(c, v.size() == 4 && std::all_of(v.begin(), v.end(), [](float s) { return s > 0 && std::isfinite(s); }), fmt::format("{} has {} scales", key, v.size()),
         "four positive numbers, one per gate");
  }
  need(c, c.node.attr_float("cell_clip", 0) >= 0 && std::isfinite(c.node.attr_float("cell_clip", 0)), "cell_clip is negative", "0 (none) or a positive number");
  const LstmScales s = lstm_scales(c.node);
  for (std::size_t k = 0; k < 4; ++k) need_multiplier(c, s.input[k], wide), need_multiplier(c, s.recurrent[k], wide);
  for (const Multiplier f : {s.keep, s.add, s.hide}) need_multiplier(c, f);
  need(c, s.cell_is_power && s.cell_exponent >= -24 && s.cell_exponent <= -2, fmt::format("c_scale is {}", quantised(c.node, "c").scale), "a power of two from 2^-24 to 2^-2");
  const auto x = extents(c, 0), h = extents(c, 13), cell = extents(c, 14);
  if (!x || !h || !cell) c.fail("unknown extents");
  need(c, x->size() == 3 && h->size() == 2, fmt::format("operands {} and {}", to_string(*x), to_string(*h)), "[batch, time, n] and [batch, units]");
  const bool time_major = c.node.attr_int("time_major", 0) != 0;
  const std::int64_t batch = (*x)[time_major ? 1 : 0], units = (*h)[1];
  need(c, *h == Shape{batch, units} && *cell == *h, fmt::format("states {} and {}", to_string(*h), to_string(*cell)), fmt::format("[{}, {}]", batch, units));
  for (std::size_t i = 1; i < 9; ++i) {
    const auto w = extents(c, i);
    need(c, w && *w == Shape{units, i < 5 ? (*x)[2] : units}, fmt::format("weights {} of the shape {}", i, w ? to_string(*w) : "unknown"),
         fmt::format("[{}, {}]", units, i < 5 ? (*x)[2] : units));
  }
  for (std::size_t i = 9; i < 13; ++i) {
    const auto b = extents(c, i);
    need(c, b && *b == Shape{units}, "a bias of other extents", fmt::format("[{}]", units));
  }
  c.out = {typed(type_at(c, 0), {(*x)[0], (*x)[1], units}), typed(type_at(c, 0), *h), typed(DType::i16, *cell)};
}
void lstm_eval(Args& e) {
  const Shape& xs = e.in[0]->shape;
  const bool time_major = e.node.attr_int("time_major", 0) != 0, wide = in_type(e) == DType::i16;
  const std::int64_t batch = xs[time_major ? 1 : 0], time = xs[time_major ? 0 : 1], n = xs[2], units = e.in[13]->shape[1];
  const LstmScales s = lstm_scales(e.node);
  const Quantised qx = quantised(e.node, "x"), qh = quantised(e.node, "h");
  const std::vector<std::int16_t> x = narrow(*e.in[0], qx.zero);
  std::array<std::vector<std::int16_t>, 8> w;
  std::array<std::vector<std::int64_t>, 4> bias;
  for (std::size_t k = 0; k < 8; ++k) w[k] = narrow(*e.in[k + 1], 0);
  for (std::size_t k = 0; k < 4; ++k) bias[k] = biases(e, 9 + k, static_cast<std::size_t>(units));
  const Range r16 = range_of(DType::i16), range = range_of(in_type(e));
  const auto requantised = [&](std::int64_t sum, Multiplier f) { return clamped(wide ? scaled_wide(sum, f) : scaled(wrapped(sum), f), r16); };
  Array<double> y({xs[0], xs[1], units}), h = *e.in[13], c = *e.in[14];
  std::vector<std::int16_t> before(static_cast<std::size_t>(units));
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t t = 0; t < time; ++t) {
      const std::int64_t row = time_major ? t * batch + b : b * time + t;
      for (std::int64_t u = 0; u < units; ++u)
        before[static_cast<std::size_t>(u)] = static_cast<std::int16_t>(static_cast<std::int32_t>(h.v[static_cast<std::size_t>(b * units + u)]) - qh.zero);
      for (std::int64_t u = 0; u < units; ++u) {
        std::array<std::int32_t, 4> gate;
        for (std::size_t k = 0; k < 4; ++k) {
          const std::int64_t in = requantised(bias[k][static_cast<std::size_t>(u)] + dot(x.data() + row * n, w[k].data() + u * n, n), s.input[k]);
          const std::int64_t back = requantised(dot(before.data(), w[k + 4].data() + u * units, units), s.recurrent[k]);
          const auto v = static_cast<std::int32_t>(clamped(in + back, r16));
          gate[k] = k == 2 ? tanh16(v, 0, 0) : logistic16(v, 0, 0);
        }
        double& cell = c.v[static_cast<std::size_t>(b * units + u)];
        const std::int64_t kept = clamped(scaled(gate[1] * static_cast<std::int32_t>(cell), s.keep), r16), added = clamped(scaled(gate[0] * gate[2], s.add), r16);
        std::int64_t next = clamped(kept + added, r16);
        if (s.clip > 0) next = std::clamp<std::int64_t>(next, -s.clip, s.clip);
        cell = static_cast<double>(next);
        const int shift = 12 + s.cell_exponent;
        const std::int32_t squashed = tanh16(static_cast<std::int32_t>(next), shift < 0 ? 3 : 0, std::abs(shift));
        const double out = static_cast<double>(clamped(wrapped(static_cast<std::int64_t>(scaled(squashed * gate[3], s.hide)) + qh.zero), range));
        h.v[static_cast<std::size_t>(b * units + u)] = y.v[static_cast<std::size_t>(row * units + u)] = out;
      }
    }
  e.out[0] = std::move(y), e.out[1] = std::move(h), e.out[2] = std::move(c);
}

// ---- nearest neighbours ---------------------------------------------------------------------------
std::int64_t neighbour(std::int64_t i, std::int64_t in, std::int64_t out, bool corners, bool centres) {
  const float scale = corners && out > 1 ? static_cast<float>(in - 1) / static_cast<float>(out - 1) : static_cast<float>(in) / static_cast<float>(out);
  const float at = (static_cast<float>(i) + (centres ? 0.5f : 0.0f)) * scale;
  return std::max<std::int64_t>(std::min(static_cast<std::int64_t>(corners ? std::round(at) : std::floor(at)), in - 1), 0);
}
void infer_resize(InferContext& c) {
  need_rank(c, 0, 4);
  const Shape size = c.node.attr_ints("size", {});
  need(c, size.size() == 2 && size[0] >= 1 && size[1] >= 1 && size[0] <= 1'000'000 && size[1] <= 1'000'000, fmt::format("size is {}", to_string(size)), "height and width from 1 to 1000000");
  c.out = {unknown_extents(type_at(c, 0), 4)};
  if (const auto x = extents(c, 0)) {
    need(c, (*x)[1] >= 1 && (*x)[2] >= 1, "an image without elements");
    c.out = {typed(type_at(c, 0), {(*x)[0], size[0], size[1], (*x)[3]})};
  }
}
void resize_eval(Args& e) {
  const Shape &xs = e.in[0]->shape, size = e.node.attr_ints("size", {});
  const bool corners = e.node.attr_int("align_corners", 0) != 0, centres = e.node.attr_int("half_pixel_centers", 0) != 0;
  Array<double> y({xs[0], size[0], size[1], xs[3]});
  double* to = y.v.data();
  for (std::int64_t b = 0; b < xs[0]; ++b)
    for (std::int64_t i = 0; i < size[0]; ++i)
      for (std::int64_t j = 0; j < size[1]; ++j) {
        const std::int64_t from = ((b * xs[1] + neighbour(i, xs[1], size[0], corners, centres)) * xs[2] + neighbour(j, xs[2], size[1], corners, centres)) * xs[3];
        to = std::copy_n(e.in[0]->v.begin() + from, xs[3], to);
      }
  e.out[0] = std::move(y);
}

// ---- samples --------------------------------------------------------------------------------------
void sample_contraction(const OpDef& op, Sample& s) {
  const DType t = some_type(s);
  const bool wide = t == DType::i16, dense = op.name == "FullyConnected", depthwise = op.name == "DepthwiseConv2D", transposed = op.name == "TransposeConv";
  const std::int64_t h = s.r.range(3, 6), w = s.r.range(3, 6), in = s.r.range(1, 4), kh = s.r.range(1, 3), kw = s.r.range(1, 3), stride = s.r.range(1, 2),
                     out = depthwise ? in * s.r.range(1, 2) : s.r.range(1, 5);
  const bool same = s.r.chance(0.5);
  Attributes a{{"x_scale", some_scale(s)},  {"x_zero", some_zero(s, t)},        {"y_scale", some_scale(s)},
               {"y_zero", some_zero(s, t)}, {"activation", some_activation(s)}, {"accumulator", std::int64_t{wide ? 64 : 32}}};
  std::vector<double> scale;
  for (std::int64_t i = s.r.chance(0.5) ? 1 : out; i > 0; --i) scale.push_back(some_scale(s));
  a["w_scale"] = scale;
  Shape xs{s.r.range(1, 2), h, w, in}, ws{out, kh, kw, in};
  if (dense) {
    xs = {s.r.range(1, 3), in}, ws = {out, in};
    a["keep_num_dims"] = s.r.range(0, 1);
  } else {
    a["padding"] = std::string(same ? "SAME" : "VALID"), a["strides"] = std::vector<std::int64_t>{stride, stride};
    if (depthwise) ws = {1, kh, kw, out};
    if (transposed) {
      a["output_shape"] = std::vector<std::int64_t>{xs[0], h, w, out};
      xs[1] = window_axis(same, h, kh, stride, 1).out, xs[2] = window_axis(same, w, kw, stride, 1).out;
    }
  }
  std::vector<ValueId> inputs{some_input(s, xs, t), s.constant(ws, -127, 127, DType::i8)};
  if (s.r.chance(0.7)) inputs.push_back(s.constant({out}, -5000, 5000, wide ? DType::i64 : DType::i32));
  s.node(op, inputs, a);
}
void sample_elementwise(const OpDef& op, Sample& s) {
  const DType t = some_type(s);
  const Shape shape = s.shape(1, 4), other = s.r.chance(0.5) ? shape : Shape{shape.back()};
  s.node(op, {some_input(s, shape, t), some_input(s, other, t)},
         {{"a_scale", some_scale(s)},
          {"a_zero", some_zero(s, t)},
          {"b_scale", some_scale(s)},
          {"b_zero", some_zero(s, t)},
          {"y_scale", some_scale(s)},
          {"y_zero", some_zero(s, t)},
          {"activation", some_activation(s)}});
}
void sample_map(const OpDef& op, Sample& s) {
  const DType t = some_type(s);
  Attributes a{{"x_scale", some_scale(s)}, {"x_zero", some_zero(s, t)}, {"y_scale", some_scale(s)}, {"y_zero", some_zero(s, t)}};
  if (op.name == "Relu6") a["y_scale"] = a["x_scale"], a["y_zero"] = a["x_zero"];
  if (op.name == "LeakyRelu") a["alpha"] = std::round(s.r.uniform() * 128 - 32) / 128;
  if (op.name == "Logistic" || op.name == "Tanh") {
    const bool sigmoid = op.name == "Logistic";
    a["y_scale"] = t == DType::i16 ? 1.0 / 32768 : sigmoid ? 1.0 / 256 : 1.0 / 128;
    a["y_zero"] = std::int64_t{t == DType::i8 && sigmoid ? -128 : 0};
  }
  s.node(op, {some_input(s, s.shape(), t)}, a);
}
void sample_quantize(const OpDef& op, Sample& s) {
  static constexpr DType types[] = {DType::i8, DType::u8, DType::i16, DType::i32};
  const DType to = types[s.r.range(0, 2)];
  if (s.r.chance(0.5)) {
    s.node(op, {s.input(s.shape())}, {{"y_scale", some_scale(s)}, {"y_zero", some_zero(s, to == DType::i8 ? to : DType::i16)}, {"to", onnx_number(to)}});
    return;
  }
  const DType from = types[s.r.range(0, 2)];
  s.node(op, {some_input(s, s.shape(), from)},
         {{"x_scale", some_scale(s)},
          {"x_zero", std::int64_t{1}},
          {"y_scale", some_scale(s)},
          {"y_zero", std::int64_t{2}},
          {"to", onnx_number(types[s.r.range(0, 3)])}});
}
void sample_dequantize(const OpDef& op, Sample& s) {
  const DType t = some_type(s);
  s.node(op, {some_input(s, s.shape(), t)}, {{"x_scale", some_scale(s)}, {"x_zero", some_zero(s, t)}});
}
void sample_pool2d(const OpDef& op, Sample& s) {
  const DType t = some_type(s);
  s.node(op, {some_input(s, {1, s.r.range(3, 6), s.r.range(3, 6), s.r.range(1, 3)}, t)},
         {{"y_scale", some_scale(s)}, {"y_zero", some_zero(s, t)}, {"kernel_shape", std::vector<std::int64_t>{s.r.range(1, 3), s.r.range(1, 3)}},
          {"strides", std::vector<std::int64_t>{s.r.range(1, 2), s.r.range(1, 2)}}, {"padding", std::string(s.r.chance(0.5) ? "SAME" : "VALID")}, {"activation", some_activation(s)}});
}
void sample_mean(const OpDef& op, Sample& s) {
  const DType t = some_type(s);
  s.node(op, {some_input(s, s.shape(3, 4), t)},
         {{"x_scale", some_scale(s)},
          {"x_zero", some_zero(s, t)},
          {"y_scale", some_scale(s)},
          {"y_zero", some_zero(s, t)},
          {"axes", std::vector<std::int64_t>{1, 2}},
          {"keep_dims", s.r.range(0, 1)}});
}
void sample_softmax(const OpDef& op, Sample& s) {
  const bool wide = s.r.chance(0.5);
  s.node(op, {some_input(s, s.shape(), DType::i8)}, {{"x_scale", some_scale(s)}, {"x_zero", some_zero(s, DType::i8)}, {"beta", 1.0}, {"y_scale", wide ? 1.0 / 65536 : 1.0 / 256},
                                                      {"y_zero", std::int64_t{wide ? -32768 : -128}}, {"to", onnx_number(wide ? DType::i16 : DType::i8)}});
}
void sample_svdf(const OpDef& op, Sample& s) {
  const std::int64_t batch = s.r.range(1, 2), in = s.r.range(1, 4), rank = s.r.range(1, 2), units = s.r.range(1, 3), memory = s.r.range(1, 4), filters = rank * units;
  const DType t = some_type(s);
  s.node(op,
         {some_input(s, {batch, in}, DType::i8), s.constant({filters, in}, -127, 127, DType::i8), s.constant({filters, memory}, -127, 127, t),
          s.constant({units}, -500, 500, DType::i32), some_input(s, {batch, filters * memory}, t)},
         {{"x_scale", some_scale(s)},
          {"x_zero", some_zero(s, DType::i8)},
          {"feature_scale", some_scale(s)},
          {"time_scale", some_scale(s)},
          {"state_scale", some_scale(s)},
          {"y_scale", some_scale(s)},
          {"y_zero", std::int64_t{-128}},
          {"rank", rank}},
         2);
}
void sample_lstm(const OpDef& op, Sample& s) {
  const DType t = some_type(s);
  const std::int64_t batch = s.r.range(1, 2), time = s.r.range(1, 3), n = s.r.range(1, 4), units = s.r.range(1, 4), time_major = s.r.range(0, 1);
  std::vector<ValueId> in{some_input(s, time_major ? Shape{time, batch, n} : Shape{batch, time, n}, t)};
  for (int i = 0; i < 8; ++i) in.push_back(s.constant({units, i < 4 ? n : units}, -127, 127, DType::i8));
  for (int i = 0; i < 4; ++i) in.push_back(s.constant({units}, -2000, 2000, t == DType::i8 ? DType::i32 : DType::i64));
  in.push_back(some_input(s, {batch, units}, t)), in.push_back(some_input(s, {batch, units}, DType::i16));
  const double h = t == DType::i8 ? 1.0 / 128 : 1.0 / 32768;
  std::vector<double> w, r;
  for (int i = 0; i < 4; ++i) w.push_back(some_scale(s) / 16), r.push_back(some_scale(s) / 16);
  s.node(op, in,
         {{"x_scale", t == DType::i8 ? some_scale(s) : some_scale(s) / 256},
          {"x_zero", some_zero(s, t)},
          {"h_scale", h},
          {"h_zero", some_zero(s, t)},
          {"c_scale", std::ldexp(1.0, -static_cast<int>(s.r.range(9, 14)))},
          {"w_scale", w},
          {"r_scale", r},
          {"cell_clip", s.r.chance(0.5) ? 0.0 : 8.0},
          {"time_major", time_major}},
         3);
}
void sample_resize(const OpDef& op, Sample& s) {
  s.node(op, {some_input(s, {1, s.r.range(1, 4), s.r.range(1, 4), s.r.range(1, 3)}, DType::i8)},
         {{"size", std::vector<std::int64_t>{s.r.range(1, 6), s.r.range(1, 6)}}, {"align_corners", s.r.range(0, 1)}, {"half_pixel_centers", s.r.range(0, 1)}});
}

// ---- literals -------------------------------------------------------------------------------------
}  // namespace

std::span<const OpDef> tflite_ops() {
  static const std::vector<AttrDef> x_y = attributes({scale_of("x_scale"), zero_of("x_zero"), scale_of("y_scale"), zero_of("y_zero")});
  static const auto with = [](std::initializer_list<AttrDef> more) {
    std::vector<AttrDef> a = x_y;
    a.insert(a.end(), more.begin(), more.end());
    return a;
  };
  static const std::vector<AttrDef> sums = attributes({scale_of("a_scale"), zero_of("a_zero"), scale_of("b_scale"), zero_of("b_zero"), scale_of("y_scale"), zero_of("y_zero"), kActivation});
  static const std::vector<PortDef> x{{"x", "i8 or i16"}}, y{{"y", "type of x"}}, a_b{{"a", "i8 or i16"}, {"b", "type of a"}};
  static const OpDef ops[] = {
      OpDef{.domain = kDomain,
            .name = "Conv2D",
            .summary = "Convolution of quantised images.",
            .doc = "acc[n,p,q,o] = bias[o] + sum over r, s, c of (x[n, p*sh - top + r*dh, q*sw - left + s*dw, c] - x_zero) * w[o,r,s,c], taps outside the "
                   "image left out; y = clamp(scaled(acc, m[o]) + y_zero), m[o] the multiplier of "
                   "x_scale * w_scale[o] / y_scale (docs: ir/ops/tflite.h). Groups are given by the extents.",
            .source = kSource,
            .inputs = {{"x", "[n, h, w, c], i8 or i16"},
                       {"w", "[o, r, s, c / groups], i8, symmetric"},
                       {"bias", "[o], i32; i64 with a 64-bit accumulator", true}},
            .outputs = y,
            .attributes = with({kWeightScale, kStrides, kDilations, kPadding, kActivation, kAccumulator}),
            .infer = infer_conv2d,
            .eval = {conv2d_eval, nullptr},
            .einsum = contraction_einsum,
            .sample = sample_contraction},
      OpDef{.domain = kDomain,
            .name = "DepthwiseConv2D",
            .summary = "Convolution of each channel of quantised images by itself.",
            .doc = "As Conv2D with acc[n,p,q,o] = bias[o] + sum over r, s of (x[..., o / (channels of w / channels of x)] - x_zero) * w[0,r,s,o].",
            .source = kSource,
            .inputs = {{"x", "[n, h, w, c], i8 or i16"}, {"w", "[1, r, s, o], i8, symmetric"}, {"bias", "[o], i32; i64 for i16", true}},
            .outputs = y,
            .attributes = with({kWeightScale, kStrides, kDilations, kPadding, kActivation, kAccumulator}),
            .infer = infer_depthwise,
            .eval = {depthwise_eval, nullptr},
            .einsum = contraction_einsum,
            .sample = sample_contraction},
      OpDef{.domain = kDomain,
            .name = "TransposeConv",
            .summary = "Transposed convolution of quantised images.",
            .doc = "Each input element adds (x - x_zero) * w[o,r,s,c] to the output elements of its window; the windows are those of a convolution over the "
                   "output. Then as Conv2D.",
            .source = kSource,
            .inputs = {{"x", "[n, h, w, c], i8 or i16"}, {"w", "[o, r, s, c], i8, symmetric"}, {"bias", "[o], i32; i64 for i16", true}},
            .outputs = y,
            .attributes = with({kWeightScale, kStrides, kPadding, kActivation, kAccumulator, {"output_shape", AttrType::integers, "required", "[n, h, w, o]"}}),
            .infer = infer_transpose_conv,
            .eval = {transpose_conv_eval, nullptr},
            .einsum = contraction_einsum,
            .sample = sample_contraction},
      OpDef{.domain = kDomain,
            .name = "FullyConnected",
            .summary = "Dense layer on quantised rows.",
            .doc = "acc[n,o] = bias[o] + sum over k of (x[n,k] - x_zero) * w[o,k], y = clamp(scaled(acc, m) + y_zero); m of x_scale * w_scale / y_scale, the "
                   "first product in f32 where w_scale is one number.",
            .source = kSource,
            .inputs = {{"x", "i8 or i16; rows of k elements"}, {"w", "[o, k], i8, symmetric"}, {"bias", "[o], i32; i64 for i16", true}},
            .outputs = y,
            .attributes = with(
                {kWeightScale, kActivation, kAccumulator, {"keep_num_dims", AttrType::integer, "0", "1: the leading axes of x stay, else they become one"}}),
            .infer = infer_dense,
            .eval = {dense_eval, nullptr},
            .einsum = contraction_einsum,
            .sample = sample_contraction},
      OpDef{.domain = kDomain,
            .name = "Add",
            .summary = "Sum of quantised tensors.",
            .doc = "Both operands, less their zero points, times 2^20 (i16: 2^15), scaled by their scale over twice the larger one; the sum scaled to y_scale, "
                   "plus y_zero, clamped. The factors are computed in double.",
            .source = kSource,
            .inputs = a_b,
            .outputs = y,
            .attributes = sums,
            .infer = infer_elementwise,
            .eval = {elementwise_eval, nullptr},
            .sample = sample_elementwise},
      OpDef{.domain = kDomain,
            .name = "Sub",
            .summary = "Difference of quantised tensors.",
            .doc = "As Add, with the difference. (TensorFlow Lite Micro computes the factors of Sub in f32 and differs by one step in a few of a thousand "
                   "elements; TensorFlow Lite, whose outputs are stored, does not.)",
            .source = kSource,
            .inputs = a_b,
            .outputs = y,
            .attributes = sums,
            .infer = infer_elementwise,
            .eval = {elementwise_eval, nullptr},
            .sample = sample_elementwise},
      OpDef{.domain = kDomain,
            .name = "Mul",
            .summary = "Product of quantised tensors.",
            .doc = "y = clamp(scaled((a - a_zero) * (b - b_zero), m) + y_zero), m of a_scale * b_scale / y_scale.",
            .source = kSource,
            .inputs = a_b,
            .outputs = y,
            .attributes = sums,
            .infer = infer_elementwise,
            .eval = {elementwise_eval, nullptr},
            .sample = sample_elementwise},
      OpDef{.domain = kDomain,
            .name = "LeakyRelu",
            .summary = "Leaky rectifier between two scales.",
            .doc = "y = clamp(scaled(x - x_zero, m) + y_zero), m of x_scale / y_scale for x >= x_zero, of x_scale * alpha / y_scale below; in f32.",
            .source = kSource,
            .inputs = x,
            .outputs = y,
            .attributes = with({{"alpha", AttrType::real, "0", "slope below zero"}}),
            .infer = infer_leaky,
            .eval = {leaky_eval, nullptr},
            .sample = sample_map},
      OpDef{.domain = kDomain,
            .name = "Relu",
            .summary = "Rectifier between two scales.",
            .doc = "y = clamp(scaled(x - x_zero, m) + y_zero) from y_zero on, m of x_scale / y_scale in f32.",
            .source = kSource,
            .inputs = x,
            .outputs = y,
            .attributes = x_y,
            .infer = infer_relu,
            .eval = {relu_eval, nullptr},
            .sample = sample_map},
      OpDef{.domain = kDomain,
            .name = "Relu6",
            .summary = "Clamp to [0, 6].",
            .doc = "The integers clamped from x_zero to x_zero + round(6 / x_scale); scale and zero point are those of x.",
            .source = kSource,
            .inputs = x,
            .outputs = y,
            .attributes = x_y,
            .infer = infer_relu6,
            .eval = {relu6_eval, nullptr},
            .sample = sample_map},
      OpDef{.domain = kDomain,
            .name = "Logistic",
            .summary = "Logistic function in fixed point.",
            .doc = "i8: x - x_zero to 4 integer bits, exp by a series around -1/8 and seven factors, 1/(1 + e) by three steps of Newton, rounded to 2^-8; the "
                   "ends saturate. i16: interpolation in a table of 256 values at steps of 1/24.",
            .source = kSource,
            .inputs = x,
            .outputs = y,
            .attributes = x_y,
            .infer = infer_curve,
            .eval = {curve_eval, nullptr},
            .sample = sample_map},
      OpDef{.domain = kDomain,
            .name = "Tanh",
            .summary = "Hyperbolic tangent in fixed point.",
            .doc = "As Logistic; i8: (1 - e) / (1 + e) with e = exp(-2|x|), rounded to 2^-7. i16: the table at twice the argument.",
            .source = kSource,
            .inputs = x,
            .outputs = y,
            .attributes = x_y,
            .infer = infer_curve,
            .eval = {curve_eval, nullptr},
            .sample = sample_map},
      OpDef{.domain = kDomain,
            .name = "Quantize",
            .summary = "To integers of a scale, from real numbers or from integers of another.",
            .doc = "f32: y = clamp(round(x / y_scale) + y_zero), the quotient in f32, ties away from zero. Integers: y = clamp(scaled(x - x_zero, m) + "
                   "y_zero), m of x_scale / y_scale.",
            .source = kSource,
            .inputs = {{"x", "f32, i8, u8, i16 or i32"}},
            .outputs = {{"y", "as `to`"}},
            .attributes = with({kTo}),
            .infer = infer_quantize,
            .eval = {quantize_eval, nullptr},
            .sample = sample_quantize},
      OpDef{.domain = kDomain,
            .name = "Dequantize",
            .summary = "Real numbers from integers.",
            .doc = "y = x_scale * (x - x_zero), rounded once to f32.",
            .source = kSource,
            .inputs = {{"x", "i8, u8 or i16"}},
            .outputs = {{"y", "f32"}},
            .attributes = attributes({scale_of("x_scale"), zero_of("x_zero")}),
            .infer = infer_dequantize,
            .eval = {dequantize_eval, nullptr},
            .sample = sample_dequantize},
      OpDef{.domain = kDomain,
            .name = "AveragePool2D",
            .summary = "Mean of windows of quantised images.",
            .doc = "The sum of the window's elements inside the image over their number, to the nearest integer, ties away from zero; clamped.",
            .source = kSource,
            .inputs = x,
            .outputs = y,
            .attributes = attributes(
                {scale_of("y_scale"), zero_of("y_zero"), {"kernel_shape", AttrType::integers, "required", "height, width"}, kStrides, kPadding, kActivation}),
            .infer = infer_pool2d,
            .eval = {pool2d_eval, nullptr},
            .sample = sample_pool2d},
      OpDef{.domain = kDomain,
            .name = "MaxPool2D",
            .summary = "Largest element of windows of quantised images.",
            .doc = "The largest integer of the window inside the image; clamped.",
            .source = kSource,
            .inputs = x,
            .outputs = y,
            .attributes = attributes(
                {scale_of("y_scale"), zero_of("y_zero"), {"kernel_shape", AttrType::integers, "required", "height, width"}, kStrides, kPadding, kActivation}),
            .infer = infer_pool2d,
            .eval = {pool2d_eval, nullptr},
            .sample = sample_pool2d},
      OpDef{.domain = kDomain,
            .name = "Mean",
            .summary = "Mean along axes of a quantised tensor.",
            .doc = "y = clamp(scaled(sum of (x - x_zero), m) + y_zero): the multiplier of x_scale / y_scale shifted left by floor(log2 n), divided by the "
                   "number n of elements and truncated.",
            .source = kSource,
            .inputs = x,
            .outputs = y,
            .attributes =
                with({{"axes", AttrType::integers, "required", "axes"}, {"keep_dims", AttrType::integer, "0", "1: reduced axes stay with one element"}}),
            .infer = infer_mean,
            .eval = {mean_eval, nullptr},
            .sample = sample_mean},
      OpDef{.domain = kDomain,
            .name = "Sum",
            .summary = "Sum along axes of a quantised tensor.",
            .doc = "As Mean, without the division.",
            .source = kSource,
            .inputs = x,
            .outputs = y,
            .attributes = with({{"axes", AttrType::integers, "required", "axes"}, {"keep_dims", AttrType::integer, "0", "as in Mean"}}),
            .infer = infer_mean,
            .eval = {mean_eval, nullptr},
            .sample = sample_mean},
      OpDef{.domain = kDomain,
            .name = "Softmax",
            .summary = "Softmax over the last axis in fixed point.",
            .doc = "Differences to the largest element times beta * x_scale in 5 integer bits, exp as in Logistic, summed with 12 integer bits; the sum's "
                   "reciprocal by Newton; products rounded to the output's bits.",
            .source = kSource,
            .inputs = {{"x", "i8"}},
            .outputs = {{"y", "as `to`: i8 of scale 2^-8 or i16 of scale 2^-16, from the least integer on"}},
            .attributes = with({{"beta", AttrType::real, "1", "factor of the argument"}, kTo}),
            .infer = infer_softmax,
            .eval = {softmax_eval, nullptr},
            .sample = sample_softmax},
      OpDef{.domain = kDomain,
            .name = "SVDF",
            .summary = "One step of a layer of rank-limited filters over time.",
            .doc = "The state, [n, filters, memory], moves by one step; its new element is state_zero + clamp(scaled(sum of w_feature * (x - x_zero))). y = "
                   "clamp(scaled(bias + sum over the filters of a unit and their memory of "
                   "w_time * (state - state_zero)) + y_zero). A fused RELU is the saturation at y_zero = -128.",
            .source = kSource,
            .inputs = {{"x", "[n, k], i8"},
                       {"w_feature", "[filters, k], i8"},
                       {"w_time", "[filters, memory], i8 or i16"},
                       {"bias", "[filters / rank], i32", true},
                       {"state", "[n, filters * memory], type of w_time"}},
            .outputs = {{"y", "[n, filters / rank], i8"}, {"next", "the state afterwards"}},
            .attributes = with({{"feature_scale", AttrType::real, "required", "scale of w_feature"},
                                {"time_scale", AttrType::real, "required", "scale of w_time"},
                                scale_of("state_scale"),
                                zero_of("state_zero"),
                                {"rank", AttrType::integer, "1", "filters per unit"}}),
            .infer = infer_svdf,
            .eval = {svdf_eval, nullptr},
            .einsum = svdf_einsum,
            .sample = sample_svdf},
      OpDef{.domain = kDomain,
            .name = "UnidirectionalSequenceLSTM",
            .summary = "LSTM over a sequence in integers.",
            .doc = "Gates k of i, f, g, o: clamp(scaled(b + W(x - x_zero)) + scaled(R(h - h_zero))) in steps of 2^-12, then the 16-bit logistic function, for "
                   "g the hyperbolic tangent. c = clamp(scaled(f * c) + scaled(i * g)), clipped at "
                   "cell_clip; h = clamp(scaled(tanh(c) * o) + h_zero).",
            .source = kSource,
            .inputs = {{"x", "[n, time, k], i8 or i16"},
                       {"wi", "[units, k], i8"},
                       {"wf", "as wi"},
                       {"wg", "as wi"},
                       {"wo", "as wi"},
                       {"ri", "[units, units], i8"},
                       {"rf", "as ri"},
                       {"rg", "as ri"},
                       {"ro", "as ri"},
                       {"bi", "[units], i32; i64 for i16"},
                       {"bf", "as bi"},
                       {"bg", "as bi"},
                       {"bo", "as bi"},
                       {"h", "[n, units], type of x"},
                       {"c", "[n, units], i16"}},
            .outputs = {{"y", "[n, time, units]"}, {"h_next", "the hidden state afterwards"}, {"c_next", "the cell's state afterwards"}},
            .attributes = attributes({scale_of("x_scale"), zero_of("x_zero"), scale_of("h_scale"), zero_of("h_zero"), scale_of("c_scale")},
                                     {{"w_scale", AttrType::reals, "required", "of wi, wf, wg, wo"},
                                      {"r_scale", AttrType::reals, "required", "of ri, rf, rg, ro"},
                                      {"cell_clip", AttrType::real, "0", "0: none"},
                                      {"time_major", AttrType::integer, "0", "1: [time, n, k]"}}),
            .infer = infer_lstm,
            .eval = {lstm_eval, nullptr},
            .sample = sample_lstm},
      OpDef{.domain = kDomain,
            .name = "ResizeNearestNeighbor",
            .summary = "Nearest element at other extents.",
            .doc = "Along height and width y[i] = x[min(floor(i * in / out), in - 1)], the position in f32; with align_corners round(i * (in - 1) / (out - "
                   "1)); half_pixel_centers takes i + 1/2.",
            .source = kSource,
            .inputs = {{"x", "[n, h, w, c]"}},
            .outputs = y,
            .attributes = attributes({{"size", AttrType::integers, "required", "height, width"},
                                      {"align_corners", AttrType::integer, "0", "1: the corners coincide"},
                                      {"half_pixel_centers", AttrType::integer, "0", "1: elements stand for areas"}}),
            .infer = infer_resize,
            .eval = {resize_eval, nullptr},
            .sample = sample_resize},
  };
  return ops;
}

}  // namespace tandem::ir
