#include "tandem/ir/ops/common.h"

#include <mpfr.h>

namespace tandem::ir {

Error node_error(const Graph& g, const Node& n, std::string what) {
  return Error(Exit::bad_input, std::move(what)).at(g.describe(n));
}

Shape broadcast(const Shape& a, const Shape& b) {
  Shape y(std::max(a.size(), b.size()));
  for (std::size_t i = 0; i < y.size(); ++i) {
    std::int64_t x = i < y.size() - a.size() ? 1 : a[i - (y.size() - a.size())];
    std::int64_t z = i < y.size() - b.size() ? 1 : b[i - (y.size() - b.size())];
    if (x != z && x != 1 && z != 1) throw bad_input("shapes {} and {} do not broadcast", to_string(a), to_string(b));
    y[i] = x == 1 ? z : x;
  }
  return y;
}

Broadcaster::Broadcaster(const Shape& in, const Shape& out) : out_(out), stride_(out.size(), 0), same_(in == out) {
  auto s = row_major_strides(in);
  TANDEM_CHECK(in.size() <= out.size(), "broadcast of rank {} to rank {}", in.size(), out.size());
  std::size_t lead = out.size() - in.size();
  for (std::size_t i = 0; i < in.size(); ++i) stride_[lead + i] = in[i] == 1 ? 0 : s[i];
}
std::int64_t Broadcaster::operator()(std::int64_t flat) const {
  if (same_) return flat;
  std::int64_t at = 0;
  for (std::size_t i = out_.size(); i-- > 0;) {
    at += flat % out_[i] * stride_[i];
    flat /= out_[i];
  }
  return at;
}

Window window_of(const Graph& g, const Node& n, std::int64_t h, std::int64_t w, std::int64_t kh, std::int64_t kw) {
  auto two = [&](std::string_view key, std::int64_t fallback) {
    auto v = n.attr_ints(key, {fallback, fallback});
    if (v.size() != 2) throw node_error(g, n, fmt::format("{} has {} entries", key, v.size())).expected("two (height, width)");
    for (auto x : v)
      if (x < 1 || x > 1'000'000) throw node_error(g, n, fmt::format("{} holds {}, outside [1, 1000000]", key, x));
    return v;
  };
  auto s = two("strides", 1), d = two("dilations", 1);
  auto p = n.attr_ints("pads", {0, 0, 0, 0});
  if (p.size() != 4) throw node_error(g, n, fmt::format("pads has {} entries", p.size())).expected("four: top, left, bottom, right");
  for (auto x : p)
    if (x < 0 || x > 1'000'000) throw node_error(g, n, fmt::format("pads holds {}, outside [0, 1000000]", x));
  Window r{kh, kw, s[0], s[1], d[0], d[1], p[0], p[1], p[2], p[3]};
  std::string pad = n.attr_string("auto_pad", "NOTSET");
  if (pad == "SAME_UPPER" || pad == "SAME_LOWER") {
    auto split = [&](std::int64_t in, std::int64_t stride, std::int64_t span, std::int64_t& a, std::int64_t& b) {
      std::int64_t out = (in + stride - 1) / stride, total = std::max<std::int64_t>(0, (out - 1) * stride + span - in);
      a = pad == "SAME_UPPER" ? total / 2 : total - total / 2;
      b = total - a;
    };
    split(h, r.sh, r.dh * (kh - 1) + 1, r.pt, r.pb);
    split(w, r.sw, r.dw * (kw - 1) + 1, r.pl, r.pr);
  } else if (pad == "VALID") {
    r.pt = r.pl = r.pb = r.pr = 0;
  } else if (pad != "NOTSET") {
    throw node_error(g, n, fmt::format("auto_pad '{}' is unknown", pad)).expected("NOTSET, VALID, SAME_UPPER or SAME_LOWER");
  }
  if (n.attr_int("ceil_mode", 0)) {
    auto grow = [](std::int64_t in, std::int64_t a, std::int64_t& b, std::int64_t span, std::int64_t stride) {
      std::int64_t rest = (in + a + b - span) % stride;
      if (in + a + b < span || rest == 0) return;
      std::int64_t out = (in + a + b - span) / stride + 1;      // start of the extra window:
      if (out * stride < in + a) b += stride - rest;             // it must begin inside the input or its left padding
    };
    grow(h, r.pt, r.pb, r.dh * (kh - 1) + 1, r.sh);
    grow(w, r.pl, r.pr, r.dw * (kw - 1) + 1, r.sw);
  }
  return r;
}

std::vector<std::int64_t> window_counts(const Graph& g, const Node& n, const Window& w, std::int64_t h, std::int64_t width) {
  bool pads = n.attr_int("count_include_pad", 0) != 0;
  // Padding that ceil_mode added never counts.
  auto explicit_pads = n.attr_string("auto_pad", "NOTSET") == "NOTSET" ? n.attr_ints("pads", {0, 0, 0, 0})
                                                                      : std::vector<std::int64_t>{w.pt, w.pl, w.pb, w.pr};
  std::int64_t P = w.out_h(h), Q = w.out_w(width);
  std::vector<std::int64_t> c(static_cast<std::size_t>(P * Q));
  for (std::int64_t p = 0; p < P; ++p)
    for (std::int64_t q = 0; q < Q; ++q)
      for (std::int64_t r = 0; r < w.kh; ++r)
        for (std::int64_t s = 0; s < w.kw; ++s) {
          std::int64_t y = p * w.sh - w.pt + r * w.dh, x = q * w.sw - w.pl + s * w.dw;
          bool inside = pads ? y < h + explicit_pads[2] && x < width + explicit_pads[3] : y >= 0 && y < h && x >= 0 && x < width;
          c[p * Q + q] += inside;
        }
  for (auto v : c)
    if (v == 0) throw node_error(g, n, "a pooling window lies entirely in the padding");
  return c;
}

Dims broadcast_dims(const InferContext& c, const Dims& a, const Dims& b) {
  Dims y(std::max(a.size(), b.size()));
  for (std::size_t i = 0; i < y.size(); ++i) {
    Dim x = i < y.size() - a.size() ? Dim(1) : a[i - (y.size() - a.size())];
    Dim z = i < y.size() - b.size() ? Dim(1) : b[i - (y.size() - b.size())];
    if (x.known() && z.known()) {
      if (x.n != z.n && x.n != 1 && z.n != 1) c.fail(fmt::format("shapes {} and {} do not broadcast", to_string(a), to_string(b)));
      y[i] = x.n == 1 ? z : x;
    } else if (x.known()) {
      y[i] = x.n == 1 ? z : x;
    } else if (z.known()) {
      y[i] = z.n == 1 ? x : z;
    } else {
      y[i] = x == z ? x : Dim();
    }
  }
  return y;
}

std::int64_t normal_axis(std::int64_t axis, std::int64_t rank, const Graph& g, const Node& n) {
  if (axis < -rank || axis >= rank) throw node_error(g, n, fmt::format("axis {} is outside [-{}, {})", axis, rank, rank));
  return axis < 0 ? axis + rank : axis;
}

std::vector<std::int64_t> int_list(const Tensor& t) {
  std::vector<std::int64_t> v(static_cast<std::size_t>(t.size()));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = t.int_at(static_cast<std::int64_t>(i));
  return v;
}

float batchnorm_factor(float gamma, float var, float epsilon) {
  if (!std::isfinite(gamma) || !std::isfinite(var) || !std::isfinite(epsilon))
    throw bad_input("BatchNormalization parameters hold NaN or infinity");
  Rational v = exact(var) + exact(epsilon), g = exact(gamma);
  if (v <= 0) throw bad_input("BatchNormalization: variance + epsilon = {} is not positive", nearest_double(v));
  if (mpz_perfect_square_p(v.get_num_mpz_t()) && mpz_perfect_square_p(v.get_den_mpz_t()))
    return nearest_float(g * Rational(sqrt(v.get_den()), sqrt(v.get_num())));
  // Irrational, so never a tie: refine until both ends of the interval round to the same float.
  for (mpfr_prec_t bits = 96;; bits *= 2) {
    mpfr_t lo, hi;
    mpfr_inits2(bits, lo, hi, static_cast<mpfr_ptr>(nullptr));
    mpfr_set_q(lo, v.get_mpq_t(), MPFR_RNDU);
    mpfr_set_q(hi, v.get_mpq_t(), MPFR_RNDD);
    mpfr_rec_sqrt(lo, lo, MPFR_RNDD);
    mpfr_rec_sqrt(hi, hi, MPFR_RNDU);
    Rational a, b;
    mpfr_get_q(a.get_mpq_t(), lo);
    mpfr_get_q(b.get_mpq_t(), hi);
    mpfr_clears(lo, hi, static_cast<mpfr_ptr>(nullptr));
    float fa = nearest_float(a * g), fb = nearest_float(b * g);
    if (fa == fb) return fa;
  }
}

Shape shape_of(const Graph& g, ValueId v) {
  TANDEM_CHECK(v != kNone, "shape of an absent value");
  const Value& x = g.values[v];
  if (!x.type.dims || !all_known(*x.type.dims))
    throw bad_input("value '{}' has unknown extents {}", x.name, x.type.dims ? to_string(*x.type.dims) : "(rank unknown)")
        .fix("bind them, e.g. --dim batch=1");
  Shape s;
  for (const Dim& d : *x.type.dims) s.push_back(d.n);
  return s;
}

}  // namespace tandem::ir
