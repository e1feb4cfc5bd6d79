#include "tandem/ir/ops/common.h"

#include <mpfr.h>

namespace tandem::ir {

Error node_error(const Graph& g, const Node& n, std::string what) {
  return Error(Exit::bad_input, std::move(what)).at(g.describe(n));
}

// DType in its order.
constexpr std::int64_t kOnnxNumbers[] = {1, 11, 10, 16, 3, 5, 6, 7, 2, 4, 12, 13, 9};
std::int64_t onnx_number(DType t) { return kOnnxNumbers[static_cast<std::size_t>(t)]; }
std::optional<DType> onnx_dtype(std::int64_t number) {
  const auto at = std::find(std::begin(kOnnxNumbers), std::end(kOnnxNumbers), number);
  if (at == std::end(kOnnxNumbers)) return std::nullopt;
  return static_cast<DType>(at - std::begin(kOnnxNumbers));
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

Broadcaster::Broadcaster(const Shape& in, const Shape& out) {
  auto s = row_major_strides(in);
  TANDEM_CHECK(in.size() <= out.size(), "broadcast of rank {} to rank {}", in.size(), out.size());
  const std::size_t lead = out.size() - in.size();
  for (std::size_t i = out.size(); i-- > 0;) {
    const Axis a{out[i], i < lead || in[i - lead] == 1 ? 0 : s[i - lead]};
    if (!axes_.empty() && a.stride == axes_.back().stride * axes_.back().n) axes_.back().n *= a.n;
    else if (a.n != 1) axes_.push_back(a);
  }
  if (!axes_.empty() && axes_.back().stride == 0) axes_.pop_back();
}
std::int64_t Broadcaster::operator()(std::int64_t flat) const {
  std::int64_t at = 0;
  for (std::size_t i = 0; i < axes_.size(); ++i) {
    const auto [n, stride] = axes_[i];
    if (i + 1 == axes_.size() && n > flat) return at + flat * stride;
    at += flat % n * stride;
    flat /= n;
  }
  return at;
}

Shape Windows::out(const Shape& in) const {
  Shape y(in.size());
  for (std::size_t d = 0; d < in.size(); ++d) y[d] = (in[d] + before[d] + after[d] - dilation[d] * (kernel[d] - 1) - 1) / stride[d] + 1;
  return y;
}
std::vector<std::int64_t> Windows::taps(const Shape& in) const {
  const Shape y = out(in), strides = row_major_strides(in);
  const std::int64_t positions = element_count(y), window = element_count(kernel);
  if (window != 0 && positions > (std::int64_t{1} << 31) / window)
    throw Error(Exit::limit, fmt::format("{} windows of {} elements", positions, window)).fix("smaller windows, or a smaller input");
  std::vector<std::int64_t> t(static_cast<std::size_t>(positions * window));
  for (std::int64_t p = 0, i = 0; p < positions; ++p)
    for (std::int64_t k = 0; k < window; ++k, ++i) {
      std::int64_t at = 0, rp = p, rk = k;
      for (std::size_t d = in.size(); d-- > 0 && at >= 0;) {
        const std::int64_t x = rp % y[d] * stride[d] - before[d] + rk % kernel[d] * dilation[d];
        rp /= y[d], rk /= kernel[d];
        at = x < 0 || x >= in[d] ? -1 : at + x * strides[d];
      }
      t[static_cast<std::size_t>(i)] = at;
    }
  return t;
}
bool Windows::padded() const {
  const auto some = [](const Shape& s) { return std::any_of(s.begin(), s.end(), [](std::int64_t x) { return x != 0; }); };
  return some(before) || some(after);
}

Windows windows_of(const Graph& g, const Node& n, const Shape& in, const Shape& kernel) {
  const std::size_t rank = in.size();
  if (kernel.size() != rank) throw node_error(g, n, fmt::format("a window of {} axes over an input of {}", kernel.size(), rank)).expected("one extent per spatial axis");
  const auto list = [&](std::string_view key, std::size_t size, std::int64_t least) {
    Shape v = n.attr_ints(key, Shape(size, least));
    if (v.size() != size) throw node_error(g, n, fmt::format("{} has {} entries", key, v.size())).expected(fmt::format("{}, for {} spatial axes", size, rank));
    for (auto x : v)
      if (x < least || x > 1'000'000) throw node_error(g, n, fmt::format("{} holds {}, outside [{}, 1000000]", key, x, least));
    return v;
  };
  const Shape pads = list("pads", 2 * rank, 0);
  Windows r{kernel, list("strides", rank, 1), list("dilations", rank, 1), Shape(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(rank)),
            Shape(pads.begin() + static_cast<std::ptrdiff_t>(rank), pads.end())};
  const std::string pad = n.attr_string("auto_pad", "NOTSET");
  if (pad != "NOTSET" && pad != "VALID" && pad != "SAME_UPPER" && pad != "SAME_LOWER")
    throw node_error(g, n, fmt::format("auto_pad '{}' is unknown", pad)).expected("NOTSET, VALID, SAME_UPPER or SAME_LOWER");
  for (std::size_t d = 0; d < rank; ++d) {
    if (kernel[d] < 1) throw node_error(g, n, fmt::format("a window of extent {}", kernel[d])).expected("positive extents");
    const std::int64_t span = r.dilation[d] * (kernel[d] - 1) + 1;
    if (pad == "VALID") r.before[d] = r.after[d] = 0;
    if (pad == "SAME_UPPER" || pad == "SAME_LOWER") {
      const std::int64_t total = std::max<std::int64_t>(0, ((in[d] + r.stride[d] - 1) / r.stride[d] - 1) * r.stride[d] + span - in[d]);
      r.before[d] = pad == "SAME_UPPER" ? total / 2 : total - total / 2;
      r.after[d] = total - r.before[d];
    }
    const std::int64_t room = in[d] + r.before[d] + r.after[d] - span;
    if (room < 0) throw node_error(g, n, fmt::format("window {} does not fit the padded input: axis {} has {} of {}", to_string(kernel), d, room + span, span));
    const std::int64_t rest = room % r.stride[d];
    // The window that ceil_mode adds must begin inside the input or the padding before it.
    if (n.attr_int("ceil_mode", 0) && rest != 0 && (room / r.stride[d] + 1) * r.stride[d] < in[d] + r.before[d]) r.after[d] += r.stride[d] - rest;
  }
  return r;
}

namespace {
std::vector<Rank> named_ranks(const Shape& s, bool reduced, std::string_view names) {
  std::vector<Rank> r;
  for (std::size_t d = 0; d < s.size(); ++d) r.push_back({d < names.size() ? std::string(1, names[d]) : fmt::format("{}{}", names[0], d), s[d], reduced});
  return r;
}
}  // namespace
std::vector<Rank> position_ranks(const Shape& y, bool reduced) { return named_ranks(y, reduced, "pqt"); }
std::vector<Rank> tap_ranks(const Shape& kernel, bool reduced) { return named_ranks(kernel, reduced, "rsu"); }
std::vector<AffineIndex> window_indices(const Windows& w, int position, int tap) {
  std::vector<AffineIndex> r;
  for (std::size_t d = 0; d < w.kernel.size(); ++d)
    r.push_back({{{position + static_cast<int>(d), w.stride[d]}, {tap + static_cast<int>(d), w.dilation[d]}}, -w.before[d]});
  return r;
}

std::vector<std::int64_t> window_counts(const Graph& g, const Node& n, const Windows& w, const Shape& in) {
  const bool pads = n.attr_int("count_include_pad", 0) != 0;
  // Padding that ceil_mode added never counts.
  Shape after = w.after;
  if (n.attr_string("auto_pad", "NOTSET") == "NOTSET") {
    const Shape stated = n.attr_ints("pads", Shape(2 * in.size(), 0));
    after.assign(stated.begin() + static_cast<std::ptrdiff_t>(in.size()), stated.end());
  }
  const Shape y = w.out(in);
  std::vector<std::int64_t> c(static_cast<std::size_t>(element_count(y)), 1);
  for (std::size_t p = 0; p < c.size(); ++p) {
    auto rest = static_cast<std::int64_t>(p);
    for (std::size_t d = in.size(); d-- > 0; rest /= y[d]) {
      std::int64_t inside = 0;
      for (std::int64_t k = 0; k < w.kernel[d]; ++k) {
        const std::int64_t x = rest % y[d] * w.stride[d] - w.before[d] + k * w.dilation[d];
        inside += pads ? x < in[d] + after[d] : x >= 0 && x < in[d];
      }
      c[p] *= inside;
    }
    if (c[p] == 0) throw node_error(g, n, "a pooling window lies entirely in the padding");
  }
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
