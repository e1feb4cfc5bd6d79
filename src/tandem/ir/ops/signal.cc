// Signal processing: windows, discrete Fourier transforms, the mel scale.
#include <complex>
#include <numbers>

#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/expansions.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Args = EvalArgs<double>;
using Complex = std::complex<double>;
constexpr double kPi = std::numbers::pi;

std::optional<std::int64_t> scalar(const InferContext& c, std::size_t i) {
  if (!has(c, i) || !c.in_constant[i]) return std::nullopt;
  if (c.in_constant[i]->size() != 1) c.fail(fmt::format("input {} has {} elements", i, c.in_constant[i]->size()), "one number");
  return c.in_constant[i]->int_at(0);
}
std::int64_t scalar(const Args& e, std::size_t i) {
  if (e.in[i]->v.size() != 1) throw node_error(e.graph, e.node, fmt::format("input {} has {} elements", i, e.in[i]->v.size())).expected("one number");
  return to_int(e.in[i]->v[0]);
}
DType stated_type(const InferContext& c) {
  const auto t = onnx_dtype(c.node.attr_int("output_datatype", 1));
  if (!t) c.fail(fmt::format("output_datatype {}", c.node.attr_int("output_datatype", 1)), "a type of floats or integers");
  return *t;
}

// ---- windows ----------------------------------------------------------------------------------------
void infer_window(InferContext& c) {
  const auto n = scalar(c, 0);
  if (n && *n < 0) c.fail(fmt::format("a size of {}", *n));
  c.out = {n ? typed(stated_type(c), {*n}) : unknown_extents(stated_type(c), 1)};
}
struct Cosines {
  double a, b, c;  // a - b cos(2 pi k / n) + c cos(4 pi k / n)
};
constexpr Cosines kHann{0.5, 0.5, 0}, kHamming{25.0 / 46, 21.0 / 46, 0}, kBlackman{0.42, 0.5, 0.08};
template <const Cosines* w>
void window_eval(Args& e) {
  const std::int64_t size = scalar(e, 0);
  if (size < 0 || size > (std::int64_t{1} << 31)) throw node_error(e.graph, e.node, fmt::format("a size of {}", size));
  const double n = static_cast<double>(e.node.attr_int("periodic", 1) ? size : std::max<std::int64_t>(size - 1, 1));
  Array<double> y(Shape{size});
  for (std::int64_t k = 0; k < size; ++k) {
    const double t = 2 * kPi * static_cast<double>(k) / n;
    y.v[static_cast<std::size_t>(k)] = w->a - w->b * std::cos(t) + w->c * std::cos(2 * t);
  }
  e.out[0] = std::move(y);
}
void sample_window(const OpDef& op, Sample& s) {
  s.inputs.push_back(Tensor::of<std::int64_t>({}, {s.r.range(2, 9)}));
  s.node(op, {s.g.add_input("size", DType::i64, Dims{})}, {{"periodic", s.r.range(0, 1)}});
}

// ---- Fourier transforms -----------------------------------------------------------------------------
// The first `keep` of n coefficients; x counts as zero beyond its end. O(n^2) from a table of roots: no length is special.
std::vector<Complex> transform(const std::vector<Complex>& x, std::int64_t n, bool inverse, std::int64_t keep) {
  std::vector<Complex> roots(static_cast<std::size_t>(n)), y(static_cast<std::size_t>(keep));
  for (std::int64_t k = 0; k < n; ++k) roots[static_cast<std::size_t>(k)] = std::polar(1.0, (inverse ? 2 : -2) * kPi * static_cast<double>(k) / static_cast<double>(n));
  for (std::int64_t k = 0; k < keep; ++k) {
    Complex s = 0;
    for (std::int64_t i = 0; i < std::min<std::int64_t>(n, static_cast<std::int64_t>(x.size())); ++i)
      s += x[static_cast<std::size_t>(i)] * roots[static_cast<std::size_t>(static_cast<__int128>(i) * k % n)];
    y[static_cast<std::size_t>(k)] = inverse ? s / static_cast<double>(n) : s;
  }
  return y;
}
void check_length(const Graph& g, const Node& n, std::int64_t length) {
  if (length < 1 || length > (std::int64_t{1} << 24)) throw node_error(g, n, fmt::format("a transform of {} points", length)).expected("1 to 2^24");
}
// Opset 20 takes the axis as an input, opset 17 as an attribute.
std::optional<std::int64_t> dft_axis(const InferContext& c, std::size_t rank) {
  if (!has(c, 2)) return axis_of(c, c.node.attr_int("axis", 1), rank);
  const auto a = scalar(c, 2);
  return a ? std::optional(axis_of(c, *a, rank)) : std::nullopt;
}
void infer_dft(InferContext& c) {
  const Dims& x = c.dims(0);
  if (x.size() < 2 || (x.back().known() && x.back().n != 1 && x.back().n != 2)) c.fail(fmt::format("input {}", to_string(x)), "[..., 1] (real) or [..., 2] (complex)");
  Dims y = x;
  y.back() = 2;
  const auto axis = dft_axis(c, x.size());
  if (!axis) {
    c.out = {unknown_extents(c.in[0]->dtype, x.size())};
    return;
  }
  if (*axis + 1 == static_cast<std::int64_t>(x.size())) c.fail("its axis is that of the real and imaginary parts");
  Dim& n = y[static_cast<std::size_t>(*axis)];
  if (has(c, 1)) n = scalar(c, 1) ? Dim(*scalar(c, 1)) : Dim();
  if (c.node.attr_int("onesided", 0) && n.known()) n = n.n / 2 + 1;
  c.out = {TensorType{c.in[0]->dtype, y}};
}
void dft_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  const std::size_t rank = x.shape.size();
  const std::int64_t axis = axis_of(e, has(e, 2) ? scalar(e, 2) : e.node.attr_int("axis", 1), rank);
  const bool complex = x.shape.back() == 2, inverse = e.node.attr_int("inverse", 0) != 0, onesided = e.node.attr_int("onesided", 0) != 0;
  if (inverse && onesided) throw node_error(e.graph, e.node, "an inverse transform cannot be onesided");
  const std::int64_t n = has(e, 1) ? scalar(e, 1) : x.shape[static_cast<std::size_t>(axis)], keep = onesided ? n / 2 + 1 : n;
  check_length(e.graph, e.node, n);
  Shape ys = x.shape;
  ys[static_cast<std::size_t>(axis)] = keep;
  ys.back() = 2;
  Array<double> y(ys);
  // Around the axis, without the last one of parts.
  const Shape bare(x.shape.begin(), x.shape.end() - 1), bare_y(ys.begin(), ys.end() - 1);
  const Around from(bare, axis), to(bare_y, axis);
  std::vector<Complex> line(static_cast<std::size_t>(from.n));
  for (std::int64_t o = 0; o < from.outer; ++o)
    for (std::int64_t i = 0; i < from.inner; ++i) {
      for (std::int64_t k = 0; k < from.n; ++k) {
        const auto at = static_cast<std::size_t>(from.at(o, k, i));
        line[static_cast<std::size_t>(k)] = complex ? Complex(x.v[2 * at], x.v[2 * at + 1]) : Complex(x.v[at]);
      }
      const std::vector<Complex> f = transform(line, n, inverse, keep);
      for (std::int64_t k = 0; k < keep; ++k) {
        const auto at = static_cast<std::size_t>(to.at(o, k, i));
        y.v[2 * at] = f[static_cast<std::size_t>(k)].real(), y.v[2 * at + 1] = f[static_cast<std::size_t>(k)].imag();
      }
    }
  e.out[0] = std::move(y);
}
void sample_dft(const OpDef& op, Sample& s) {
  Shape x = s.shape(2, 3);
  const std::int64_t axis = s.r.range(0, static_cast<std::int64_t>(x.size()) - 1), mode = s.r.range(0, 2);
  x.push_back(s.r.range(1, 2));
  s.node(op, {s.input(x)}, {{"axis", axis}, {"inverse", std::int64_t{mode == 1}}, {"onesided", std::int64_t{mode == 2}}});
}

void infer_stft(InferContext& c) {
  const Dims& x = c.dims(0);
  if (x.size() != 2 && x.size() != 3) c.fail(fmt::format("signal {}", to_string(x)), "[batch, points] or [batch, points, 1 or 2]");
  const auto step = scalar(c, 1);
  std::optional<std::int64_t> length = scalar(c, 3);
  if (!length && has(c, 2) && c.dims(2).size() == 1 && c.dims(2)[0].known()) length = c.dims(2)[0].n;
  if ((step && *step < 1) || (length && *length < 1)) c.fail("a step or a frame of no points");
  Dims y{x[0], Dim(), Dim(), Dim(2)};
  if (step && length && x[1].known() && x[1].n >= *length) y[1] = (x[1].n - *length) / *step + 1;
  if (length) y[2] = c.node.attr_int("onesided", 1) ? *length / 2 + 1 : *length;
  c.out = {TensorType{c.in[0]->dtype, y}};
}
void stft_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  const bool complex = x.shape.size() == 3 && x.shape[2] == 2, onesided = e.node.attr_int("onesided", 1) != 0;
  if (!has(e, 2) && !has(e, 3)) throw node_error(e.graph, e.node, "it has neither a window nor a frame_length");
  const std::int64_t points = x.shape[1], step = scalar(e, 1), length = has(e, 3) ? scalar(e, 3) : static_cast<std::int64_t>(e.in[2]->v.size());
  check_length(e.graph, e.node, length);
  if (step < 1 || length > points) throw node_error(e.graph, e.node, fmt::format("frames of {} points, {} apart, in {}", length, step, points));
  if (has(e, 2) && static_cast<std::int64_t>(e.in[2]->v.size()) != length) throw node_error(e.graph, e.node, fmt::format("a window of {} for frames of {}", e.in[2]->v.size(), length));
  const std::int64_t frames = (points - length) / step + 1, keep = onesided ? length / 2 + 1 : length;
  Array<double> y(Shape{x.shape[0], frames, keep, 2});
  std::vector<Complex> line(static_cast<std::size_t>(length));
  for (std::int64_t b = 0; b < x.shape[0]; ++b)
    for (std::int64_t f = 0; f < frames; ++f) {
      for (std::int64_t k = 0; k < length; ++k) {
        const auto at = static_cast<std::size_t>(b * points + f * step + k);
        line[static_cast<std::size_t>(k)] = (complex ? Complex(x.v[2 * at], x.v[2 * at + 1]) : Complex(x.v[at])) * (has(e, 2) ? e.in[2]->v[static_cast<std::size_t>(k)] : 1.0);
      }
      const std::vector<Complex> z = transform(line, length, false, keep);
      for (std::int64_t k = 0; k < keep; ++k) {
        const auto at = static_cast<std::size_t>(((b * frames + f) * keep + k) * 2);
        y.v[at] = z[static_cast<std::size_t>(k)].real(), y.v[at + 1] = z[static_cast<std::size_t>(k)].imag();
      }
    }
  e.out[0] = std::move(y);
}
void sample_stft(const OpDef& op, Sample& s) {
  const std::int64_t length = s.r.range(2, 5), step = s.r.range(1, 3);
  const ValueId x = s.input({s.r.range(1, 2), length + s.r.range(0, 9), 1}), by = s.scalar(static_cast<double>(step), DType::i64);
  s.node(op, {x, by, s.constant({length}, 0, 1)}, {{"onesided", s.r.range(0, 1)}});
}

// ---- the mel scale ----------------------------------------------------------------------------------
void infer_mel(InferContext& c) {
  const auto bins = scalar(c, 0), length = scalar(c, 1);
  if ((bins && *bins < 1) || (length && *length < 1)) c.fail("no bins, or a transform of no points");
  c.out = {TensorType{stated_type(c), Dims{length ? Dim(*length / 2 + 1) : Dim(), bins ? Dim(*bins) : Dim()}}};
}
void mel_eval(Args& e) {
  const std::int64_t bins = scalar(e, 0), length = scalar(e, 1), rate = scalar(e, 2);
  check_length(e.graph, e.node, length);
  if (bins < 1 || bins > (1 << 20) || rate < 1) throw node_error(e.graph, e.node, fmt::format("{} bins at a rate of {}", bins, rate));
  const double lower = e.in[3]->v.at(0), upper = e.in[4]->v.at(0);
  const auto mel = [](double hz) { return 2595 * std::log10(1 + hz / 700); };
  // The bins' edges are equally far apart in mel, and whole points of the spectrum.
  const double low = mel(lower), stride = (mel(upper) - low) / static_cast<double>(bins + 2);
  Ints edge;
  for (std::int64_t i = 0; i < bins + 2; ++i)
    edge.push_back(to_int(std::floor(static_cast<double>(length + 1) * (700 * (std::pow(10.0, (low + stride * static_cast<double>(i)) / 2595) - 1)) / static_cast<double>(rate))));
  const std::int64_t rows = length / 2 + 1;
  Array<double> y(Shape{rows, bins});
  for (std::int64_t b = 0; b < bins; ++b) {
    const std::int64_t first = edge[static_cast<std::size_t>(b)], centre = edge[static_cast<std::size_t>(b) + 1], last = edge[static_cast<std::size_t>(b) + 2];
    const auto put = [&](std::int64_t row, double v) {
      if (row >= 0 && row < rows) y.v[static_cast<std::size_t>(row * bins + b)] = v;
    };
    for (std::int64_t j = first; j < centre; ++j) put(j, static_cast<double>(j - first) / static_cast<double>(centre - first));
    put(centre, 1);
    for (std::int64_t j = centre + 1; j < last; ++j) put(j, static_cast<double>(last - j) / static_cast<double>(last - centre));
  }
  e.out[0] = std::move(y);
}
void sample_mel(const OpDef& op, Sample& s) {
  const ValueId bins = s.scalar(static_cast<double>(s.r.range(1, 4)), DType::i64), length = s.scalar(static_cast<double>(s.r.range(8, 32)), DType::i64), rate = s.scalar(8192, DType::i64), low = s.scalar(0);
  s.inputs.push_back(Tensor::scalar(4096.0f));
  s.node(op, {bins, length, rate, low, s.g.add_input("upper", DType::f32, Dims{})});
}

const AttrDef kType{"output_datatype", AttrType::integer, "1", "number of the type in ONNX"};
#define WINDOW(op_name, says, formula, w)                                                                                                                                     \
  OpDef {                                                                                                                                                                     \
    .domain = "", .name = op_name, .summary = says, .doc = formula, .source = "ONNX " op_name "-17", .inputs = {{"size", "one integer"}}, .outputs = {{"Y", "[size]"}},       \
    .attributes = {kType, {"periodic", AttrType::integer, "1", "1: n = size; 0: n = size - 1, symmetric"}}, .infer = infer_window, .eval = {window_eval<&w>, nullptr},        \
    .sample = sample_window                                                                                                                                                   \
  }
const OpDef kOps[] = {
    WINDOW("HannWindow", "Hann's window.", "Y[k] = (1 - cos(2 pi k / n)) / 2.", kHann),
    WINDOW("HammingWindow", "Hamming's window.", "Y[k] = 25/46 - 21/46 cos(2 pi k / n).", kHamming),
    WINDOW("BlackmanWindow", "Blackman's window.", "Y[k] = 0.42 - 0.5 cos(2 pi k / n) + 0.08 cos(4 pi k / n).", kBlackman),
    OpDef{.domain = "", .name = "DFT", .summary = "Discrete Fourier transform along an axis.", .doc = "Y[k] = sum over i of X[i] exp(-2 pi j k i / n); inverse: exp(+...) / n.", .source = "ONNX DFT-20 and -17",
          .inputs = {{"X", "[..., 1] real or [..., 2] complex"}, {"dft_length", "n; default the extent of the axis", true}, {"axis", "one integer", true}}, .outputs = {{"Y", "[..., 2]"}},
          .attributes = {{"axis", AttrType::integer, "1", "where it is no input"}, {"inverse", AttrType::integer, "0", "1: the inverse"}, {"onesided", AttrType::integer, "0", "1: only the first n/2 + 1"}},
          .infer = infer_dft, .eval = {dft_eval, nullptr}, .adjoint = adjoint_expanded, .expansion = expand_dft, .sample = sample_dft},
    OpDef{.domain = "", .name = "STFT", .summary = "Fourier transforms of overlapping frames.", .doc = "Y[b,f] = DFT of X[b, f * step + k] * window[k], k below the length of a frame.", .source = "ONNX STFT-17",
          .inputs = {{"signal", "[batch, points] or [batch, points, 1 or 2]"}, {"frame_step", "one integer"}, {"window", "[frame_length]", true}, {"frame_length", "one integer; default that of the window", true}},
          .outputs = {{"Y", "[batch, frames, frame_length/2 + 1 or frame_length, 2]"}}, .attributes = {{"onesided", AttrType::integer, "1", "1: only the first frame_length/2 + 1"}},
          .infer = infer_stft, .eval = {stft_eval, nullptr}, .adjoint = adjoint_expanded, .expansion = expand_stft, .sample = sample_stft},
    OpDef{.domain = "", .name = "MelWeightMatrix", .summary = "Triangular weights from spectrum to mel bins.", .doc = "Bin b rises from edge b to edge b + 1 and falls to edge b + 2; the edges are equally spaced on the mel scale 2595 log10(1 + f/700).", .source = "ONNX MelWeightMatrix-17",
          .inputs = {{"num_mel_bins", "one integer"}, {"dft_length", "one integer"}, {"sample_rate", "one integer"}, {"lower_edge_hertz", "one number"}, {"upper_edge_hertz", "one number"}},
          .outputs = {{"Y", "[dft_length/2 + 1, num_mel_bins]"}}, .attributes = {kType}, .infer = infer_mel, .eval = {mel_eval, nullptr}, .sample = sample_mel},
};
#undef WINDOW

}  // namespace

std::span<const OpDef> signal_ops() { return kOps; }

}  // namespace tandem::ir
