// Forms of TensorFlow Lite that later networks brought: hard swish, PReLU, bilinear resizing, products of two varying matrices.
#include "tandem/ir/ops/tflite_kit.h"

namespace tandem::ir {
namespace {

using namespace tflite;

// ---- hard swish -----------------------------------------------------------------------------------
Swish swish_of(const Node& n) { return swish_scales(quantised(n, "x").scale, quantised(n, "y").scale); }
void infer_hard_swish(InferContext& c) {
  need_type(c, 0, {DType::i8});
  infer_map(c);
  const Swish s = swish_of(c.node);
  need(c, s.out > 0 && s.out_shift <= 0 && s.out_shift >= -15, "x_scale and y_scale lie too far apart", "x_scale / y_scale from 2^-9 to 2^7");
  need(c, s.gate > 0 && s.gate_shift >= -15 && s.gate_shift <= 16, fmt::format("x_scale is {}", quantised(c.node, "x").scale), "2^-22 to 2^9");
}
void hard_swish_eval(Args& e) {
  const Quantised x = quantised(e.node, "x"), y = quantised(e.node, "y");
  const Swish s = swish_of(e.node);
  const Range range = range_of(DType::i8);
  map(e, [&](std::int32_t v) { return clamped(static_cast<std::int64_t>(hard_swish(v - x.zero, s)) + y.zero, range); });
}
void sample_hard_swish(const OpDef& op, Sample& s) {
  s.node(op, {some_input(s, s.shape(), DType::i8)},
         {{"x_scale", some_scale(s)}, {"x_zero", some_zero(s, DType::i8)}, {"y_scale", some_scale(s)}, {"y_zero", some_zero(s, DType::i8)}});
}

// ---- PReLU ----------------------------------------------------------------------------------------
struct PReluScales {
  Multiplier one, alpha;
};
PReluScales prelu_scales(const Node& n) {
  const double x = quantised(n, "x").scale, y = quantised(n, "y").scale, a = quantised(n, "alpha").scale;
  return {multiplier(x / y), multiplier(x * a / y)};
}
void infer_prelu(InferContext& c) {
  need_type(c, 0, {DType::i8, DType::i16}), need_type(c, 1, {DType::i8});
  for (const char* p : {"x", "y"}) need_quantised(c, p, type_at(c, 0));
  need_quantised(c, "alpha", DType::i8);
  const PReluScales s = prelu_scales(c.node);
  need_multiplier(c, s.one), need_multiplier(c, s.alpha);
  const auto x = extents(c, 0), a = extents(c, 1);
  if (x && a) need(c, broadcast_dims(c, *c.in[0]->dims, *c.in[1]->dims) == *c.in[0]->dims, fmt::format("slopes of the shape {} for {}", to_string(*a), to_string(*x)), "a shape that broadcasts to x");
  c.out.assign(1, *c.in[0]);
}
void prelu_eval(Args& e) {
  const Quantised x = quantised(e.node, "x"), y = quantised(e.node, "y"), a = quantised(e.node, "alpha");
  const PReluScales s = prelu_scales(e.node);
  const Range range = range_of(out_type(e));
  const Broadcaster slope(e.in[1]->shape, e.in[0]->shape);
  Array<double> out(e.in[0]->shape);
  for (std::size_t i = 0; i < out.v.size(); ++i) {
    const std::int32_t d = static_cast<std::int32_t>(e.in[0]->v[i]) - x.zero;
    const std::int32_t by = static_cast<std::int32_t>(e.in[1]->v[static_cast<std::size_t>(slope(static_cast<std::int64_t>(i)))]) - a.zero;
    out.v[i] = static_cast<double>(clamped(static_cast<std::int64_t>(d >= 0 ? scaled(d, s.one) : scaled(d * by, s.alpha)) + y.zero, range));
  }
  e.out[0] = std::move(out);
}
void sample_prelu(const OpDef& op, Sample& s) {
  const DType t = some_type(s);
  const Shape shape = s.shape(1, 4), slopes = s.r.chance(0.3) ? shape : Shape{s.r.chance(0.3) ? 1 : shape.back()};
  s.node(op, {some_input(s, shape, t), s.constant(slopes, -128, 127, DType::i8)},
         {{"x_scale", some_scale(s)}, {"x_zero", some_zero(s, t)}, {"alpha_scale", some_scale(s)}, {"alpha_zero", some_zero(s, DType::i8)}, {"y_scale", some_scale(s)}, {"y_zero", some_zero(s, t)}});
}

// ---- bilinear resizing ----------------------------------------------------------------------------
// Where an output element lies between two input elements, in 2^-10.
struct Between {
  std::int64_t low, high, at;
};
Between between(std::int64_t i, std::int64_t in, std::int64_t out, bool corners, bool centres) {
  const std::int64_t from = corners && out > 1 ? in - 1 : in, to = corners && out > 1 ? out - 1 : out, step = (1024 * from + to / 2) / to;
  const std::int64_t at = i * step + (centres ? step / 2 - 512 : 0);
  const std::int64_t low = std::min(std::max<std::int64_t>(at / 1024, 0), in - 1);
  return {low, std::max(std::min((at + 1023) / 1024, in - 1), std::int64_t{0}), at - 1024 * low};
}
void infer_bilinear(InferContext& c) {
  need_type(c, 0, {DType::i8, DType::i16});
  need_rank(c, 0, 4);
  const Shape size = c.node.attr_ints("size", {});
  const auto fits = [](std::int64_t d) { return d >= 1 && d <= 1'000'000; };
  need(c, size.size() == 2 && fits(size[0]) && fits(size[1]), fmt::format("size is {}", to_string(size)), "height and width from 1 to 1000000");
  need(c, !c.node.attr_int("align_corners", 0) || !c.node.attr_int("half_pixel_centers", 0), "align_corners and half_pixel_centers", "one of them");
  c.out = {unknown_extents(type_at(c, 0), 4)};
  if (const auto x = extents(c, 0)) {
    need(c, fits((*x)[1]) && fits((*x)[2]), fmt::format("an image of the shape {}", to_string(*x)), "height and width from 1 to 1000000");
    c.out = {typed(type_at(c, 0), {(*x)[0], size[0], size[1], (*x)[3]})};
  }
}
void bilinear_eval(Args& e) {
  const Shape &xs = e.in[0]->shape, size = e.node.attr_ints("size", {});
  const bool corners = e.node.attr_int("align_corners", 0) != 0, centres = e.node.attr_int("half_pixel_centers", 0) != 0;
  Array<double> y({xs[0], size[0], size[1], xs[3]});
  double* to = y.v.data();
  for (std::int64_t b = 0; b < xs[0]; ++b)
    for (std::int64_t i = 0; i < size[0]; ++i) {
      const Between v = between(i, xs[1], size[0], corners, centres);
      for (std::int64_t j = 0; j < size[1]; ++j) {
        const Between h = between(j, xs[2], size[1], corners, centres);
        const auto pixel = [&](std::int64_t r, std::int64_t c) { return e.in[0]->v.data() + ((b * xs[1] + r) * xs[2] + c) * xs[3]; };
        const double *a = pixel(v.low, h.low), *below = pixel(v.high, h.low), *right = pixel(v.low, h.high), *across = pixel(v.high, h.high);
        for (std::int64_t k = 0; k < xs[3]; ++k) {
          const auto q = [&](const double* p) { return static_cast<std::int64_t>(p[k]); };
          const std::int64_t sum = (q(a) * (1024 - v.at) + q(below) * v.at) * (1024 - h.at) + (q(right) * (1024 - v.at) + q(across) * v.at) * h.at;
          *to++ = static_cast<double>((sum + (sum > 0 ? 1 << 19 : -(1 << 19))) / (1 << 20));
        }
      }
    }
  e.out[0] = std::move(y);
}
void sample_bilinear(const OpDef& op, Sample& s) {
  const std::int64_t corners = s.r.range(0, 1);
  s.node(op, {some_input(s, {s.r.range(1, 2), s.r.range(1, 5), s.r.range(1, 5), s.r.range(1, 3)}, some_type(s))},
         {{"size", Ints{s.r.range(1, 9), s.r.range(1, 9)}}, {"align_corners", corners}, {"half_pixel_centers", corners ? 0 : s.r.range(0, 1)}});
}

// ---- products of matrices -------------------------------------------------------------------------
struct Matrices {
  std::int64_t rows, sums, columns;
  Shape batch_a, batch_b, batch;
  bool turn_a, turn_b;
};
Matrices matrices_of(const Node& n, const Shape& a, const Shape& b) {
  Matrices m;
  m.turn_a = n.attr_int("adj_x", 0) != 0, m.turn_b = n.attr_int("adj_y", 0) != 0;
  m.rows = a[a.size() - (m.turn_a ? 1 : 2)], m.sums = a[a.size() - (m.turn_a ? 2 : 1)], m.columns = b[b.size() - (m.turn_b ? 2 : 1)];
  m.batch_a = Shape(a.begin(), a.end() - 2), m.batch_b = Shape(b.begin(), b.end() - 2);
  m.batch = broadcast(m.batch_a, m.batch_b);
  return m;
}
Multiplier product_multiplier(const Node& n) {
  return multiplier(static_cast<double>(quantised(n, "a").scale) * static_cast<double>(quantised(n, "b").scale) / static_cast<double>(quantised(n, "y").scale));
}
void infer_batch_matmul(InferContext& c) {
  need_type(c, 0, {DType::i8, DType::i16});
  const DType t = type_at(c, 0);
  need(c, type_at(c, 1) == t, fmt::format("operands of {} and {}", to_string(t), to_string(type_at(c, 1))), "one type");
  for (const char* p : {"a", "b", "y"}) need_quantised(c, p, t, t == DType::i16);
  need_multiplier(c, product_multiplier(c.node), t == DType::i16);
  const auto a = extents(c, 0), b = extents(c, 1);
  c.out = {unknown_rank(t)};
  if (!a || !b) return;
  need(c, a->size() >= 2 && b->size() >= 2, fmt::format("operands of the shapes {} and {}", to_string(*a), to_string(*b)), "two axes or more");
  broadcast_dims(c, dims_of(Shape(a->begin(), a->end() - 2)), dims_of(Shape(b->begin(), b->end() - 2)));
  const Matrices m = matrices_of(c.node, *a, *b);
  const std::int64_t other = (*b)[b->size() - (m.turn_b ? 1 : 2)];
  need(c, other == m.sums, fmt::format("rows of {} times columns of {}", m.sums, other), "the same number");
  need(c, m.sums <= (std::int64_t{1} << 30), fmt::format("sums of {} products", m.sums), "at most 2^30");
  Shape y = m.batch;
  y.push_back(m.rows), y.push_back(m.columns);
  c.out = {typed(t, y)};
}
void batch_matmul_eval(Args& e) {
  const Matrices m = matrices_of(e.node, e.in[0]->shape, e.in[1]->shape);
  const Quantised a = quantised(e.node, "a"), b = quantised(e.node, "b"), y = quantised(e.node, "y");
  const DType t = out_type(e);
  const Multiplier f = product_multiplier(e.node);
  const Range range = range_of(t);
  const Broadcaster pa(m.batch_a, m.batch), pb(m.batch_b, m.batch);
  Shape ys = m.batch;
  ys.push_back(m.rows), ys.push_back(m.columns);
  Array<double> out(ys);
  double* to = out.v.data();
  const std::int64_t step_a = m.turn_a ? m.rows : 1, step_b = m.turn_b ? 1 : m.columns;
  for (std::int64_t k = 0; k < element_count(m.batch); ++k) {
    const double *A = e.in[0]->v.data() + pa(k) * m.rows * m.sums, *B = e.in[1]->v.data() + pb(k) * m.sums * m.columns;
    for (std::int64_t r = 0; r < m.rows; ++r)
      for (std::int64_t c = 0; c < m.columns; ++c) {
        const double *row = A + (m.turn_a ? r : r * m.sums), *column = B + (m.turn_b ? c * m.sums : c);
        std::int64_t sum = 0;
        for (std::int64_t i = 0; i < m.sums; ++i) sum += (static_cast<std::int64_t>(row[i * step_a]) - a.zero) * (static_cast<std::int64_t>(column[i * step_b]) - b.zero);
        const std::int32_t v = t == DType::i16 ? scaled_wide(sum, f) : scaled(wrapped(sum), f);
        *to++ = static_cast<double>(clamped(static_cast<std::int64_t>(v) + y.zero, range));
      }
  }
  e.out[0] = std::move(out);
}
void sample_batch_matmul(const OpDef& op, Sample& s) {
  const DType t = some_type(s);
  const std::int64_t rows = s.r.range(1, 4), sums = s.r.range(1, 5), columns = s.r.range(1, 4), turn_a = s.r.range(0, 1), turn_b = s.r.range(0, 1);
  Shape batch = s.shape(0, 2), a, b;
  for (std::int64_t d : batch) a.push_back(s.r.chance(0.3) ? 1 : d);
  b = batch;
  if (!b.empty() && s.r.chance(0.3)) b.erase(b.begin());
  for (const auto& [shape, p, q] : {std::tuple(&a, turn_a ? sums : rows, turn_a ? rows : sums), std::tuple(&b, turn_b ? columns : sums, turn_b ? sums : columns)}) shape->push_back(p), shape->push_back(q);
  const double wide = t == DType::i16 ? 64 : 1;  // sums of 30 bits and more
  s.node(op, {some_input(s, a, t), some_input(s, b, t)},
         {{"a_scale", some_scale(s) / wide},
          {"a_zero", some_zero(s, t)},
          {"b_scale", some_scale(s) / wide},
          {"b_zero", some_zero(s, t)},
          {"y_scale", some_scale(s)},
          {"y_zero", some_zero(s, t)},
          {"adj_x", turn_a},
          {"adj_y", turn_b}});
}

}  // namespace

std::span<const OpDef> tflite_recent_ops() {
  static const std::vector<PortDef> y{{"y", "type of x"}};
  static const OpDef ops[] = {
      OpDef{.domain = kDomain,
            .name = "HardSwish",
            .summary = "x times a ramp from -3 to 3, in 16 bits.",
            .doc = "d = 128 (x - x_zero). Its ramp: d times x_scale / 384 as a fraction of 15 bits, saturated to [-1, 1], moved to [0, 1]. y = clamp((ramp * "
                   "(d times x_scale / (128 y_scale)) / 2^15 towards zero, shifted) + y_zero); both factors keep 15 bits and round to the nearest, ties up.",
            .source = kSource,
            .inputs = {{"x", "i8"}},
            .outputs = y,
            .attributes = attributes({scale_of("x_scale"), zero_of("x_zero"), scale_of("y_scale"), zero_of("y_zero")}),
            .infer = infer_hard_swish,
            .eval = {hard_swish_eval, nullptr},
            .sample = sample_hard_swish},
      OpDef{.domain = kDomain,
            .name = "PRelu",
            .summary = "Rectifier with a slope of its own below zero, for each element or channel.",
            .doc = "d = x - x_zero. y = clamp(scaled(d, m) + y_zero), m of x_scale / y_scale, where d >= 0; else y = clamp(scaled(d * (alpha - alpha_zero), m) + "
                   "y_zero), m of x_scale * alpha_scale / y_scale.",
            .source = kSource,
            .inputs = {{"x", "i8 or i16"}, {"alpha", "i8, broadcasts to x"}},
            .outputs = y,
            .attributes = attributes({scale_of("x_scale"), zero_of("x_zero"), scale_of("alpha_scale"), zero_of("alpha_zero"), scale_of("y_scale"), zero_of("y_zero")}),
            .infer = infer_prelu,
            .eval = {prelu_eval, nullptr},
            .sample = sample_prelu},
      OpDef{.domain = kDomain,
            .name = "ResizeBilinear",
            .summary = "Images at other extents, between neighbours in proportion.",
            .doc = "Along height and width element i lies at i * step in units of 2^-10, step = round(2^10 in / out) (align_corners: of in - 1 and out - 1; "
                   "half_pixel_centers adds step / 2 - 2^9). y is the mean of its four neighbours weighted by the distances, rounded to the nearest, ties away from zero. "
                   "Neighbours outside the image are those at its edge.",
            .source = kSource,
            .inputs = {{"x", "[n, h, w, c], i8 or i16"}},
            .outputs = y,
            .attributes = attributes({{"size", AttrType::integers, "required", "height, width"},
                                      {"align_corners", AttrType::integer, "0", "1: the corners coincide"},
                                      {"half_pixel_centers", AttrType::integer, "0", "1: elements stand for areas"}}),
            .infer = infer_bilinear,
            .eval = {bilinear_eval, nullptr},
            .sample = sample_bilinear},
      OpDef{.domain = kDomain,
            .name = "BatchMatMul",
            .summary = "Products of quantised matrices.",
            .doc = "acc = sum over k of (a[r,k] - a_zero) * (b[k,c] - b_zero), y = clamp(scaled(acc, m) + y_zero), m of a_scale * b_scale / y_scale; sums of 64 bits "
                   "for i16. Leading axes broadcast.",
            .source = kSource,
            .inputs = {{"a", "[..., r, k], i8 or i16"}, {"b", "[..., k, c], type of a"}},
            .outputs = {{"y", "[..., r, c]"}},
            .attributes = attributes({scale_of("a_scale"), zero_of("a_zero"), scale_of("b_scale"), zero_of("b_zero"), scale_of("y_scale"), zero_of("y_zero")},
                                     {{"adj_x", AttrType::integer, "0", "1: a is [..., k, r]"}, {"adj_y", AttrType::integer, "0", "1: b is [..., c, k]"}}),
            .infer = infer_batch_matmul,
            .eval = {batch_matmul_eval, nullptr},
            .einsum = contraction_einsum,
            .sample = sample_batch_matmul},
  };
  return ops;
}

}  // namespace tandem::ir
