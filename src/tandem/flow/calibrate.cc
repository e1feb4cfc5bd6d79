#include "tandem/flow/calibrate.h"

#include <algorithm>
#include <cmath>

#include "tandem/base/file.h"
#include "tandem/base/rng.h"
#include "tandem/flow/cells.h"
#include "tandem/flow/synthesis.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"
#include "tandem/ir/ops/by_table.h"
#include "tandem/plan/constants.h"

namespace tandem::flow {
namespace {
using I = std::int64_t;
using ir::ValueId;

// A network of quantised layers with random shapes and widths.
struct Maker {
  Rng r;
  ir::Graph g;
  ValueId x = 0;
  Shape shape;  // of x, batch included
  bool is_signed = false;

  explicit Maker(Rng rng) : r(rng) {}

  ValueId constant(Shape s, const std::vector<float>& v) { return g.add_constant(g.unique_name("c"), Tensor::of<float>(s, v)); }
  ValueId scalar(double v) { return constant({}, {static_cast<float>(v)}); }
  ValueId quant(ValueId v, double scale, I bits, bool sign, bool narrow) {
    return g.add_node("Quant", {v, scalar(scale), scalar(0), scalar(static_cast<double>(bits))},
                      {{"signed", I(sign)}, {"narrow", I(narrow)}, {"rounding_mode", std::string("ROUND")}}, "", "qonnx.custom_op.general");
  }
  ValueId weights(Shape s, I bits) {
    std::vector<float> w(static_cast<std::size_t>(element_count(s)));
    const I most = bits == 1 ? 1 : (I(1) << (bits - 1)) - 1;
    for (float& v : w) v = static_cast<float>(r.range(-most, most));
    return quant(constant(s, w), 1, bits, true, bits > 1);
  }
  // Behind a contraction of `terms` products: codes spread over the range that occurs.
  void requantise(I terms, I channels) {
    const I bits = r.range(1, 8);
    is_signed = bits > 1 && r.chance(0.4);
    const double reach = std::sqrt(static_cast<double>(terms)) * 8;
    if (r.chance(0.6)) {  // an offset per channel, as a batch normalisation leaves
      std::vector<float> b(static_cast<std::size_t>(channels));
      for (float& v : b) v = static_cast<float>(r.range(-20, 20)) / 4;
      Shape s(shape.size(), 1);
      s[1] = channels;
      x = g.add_node("Add", {x, constant(s, b)});
    }
    x = quant(x, std::ldexp(1.0, static_cast<int>(std::lround(std::log2(reach / std::ldexp(1.0, static_cast<int>(bits)))))), bits, is_signed && bits > 1, false);
  }
  void conv(bool depthwise) {
    const I c = shape[1], k = std::min<I>(r.range(1, 3), std::min(shape[2], shape[3])), m = depthwise ? c : r.range(1, 12), pad = k > 1 && r.chance(0.5) ? 1 : 0;
    const I stride = r.chance(0.25) ? 2 : 1;
    x = g.add_node("Conv", {x, weights({m, depthwise ? 1 : c, k, k}, r.range(1, 6))},
                   {{"pads", std::vector<I>{pad, pad, pad, pad}}, {"strides", std::vector<I>{stride, stride}}, {"group", depthwise ? c : I(1)}});
    shape = {1, m, (shape[2] + 2 * pad - k) / stride + 1, (shape[3] + 2 * pad - k) / stride + 1};
    requantise((depthwise ? 1 : c) * k * k, m);
  }
  void pool() {
    if (shape[2] < 2 || shape[3] < 2) return;
    x = g.add_node(r.chance(0.7) ? "MaxPool" : "AveragePool", {x}, {{"kernel_shape", std::vector<I>{2, 2}}, {"strides", std::vector<I>{2, 2}}});
    shape = {1, shape[1], shape[2] / 2, shape[3] / 2};
    x = quant(x, 1, r.range(2, 6), is_signed, false);
  }
  void skip() {
    const ValueId a = quant(x, 2, r.range(2, 5), is_signed, false), b = quant(x, 1, r.range(2, 5), is_signed, false);
    x = quant(g.add_node("Add", {a, b}), 2, r.range(2, 6), is_signed, false);
  }
  void dense(I m) {
    x = g.add_node("MatMul", {x, weights({shape[1], m}, r.range(1, 6))});
    const I terms = shape[1];
    shape = {1, m};
    requantise(terms, m);
  }

  void run() {
    const bool image = r.chance(0.6);
    shape = image ? Shape{1, r.range(1, 8), r.range(3, 12), r.range(3, 12)} : Shape{1, I(4) << r.range(1, 6)};
    x = g.add_input("x", DType::f32, ir::dims_of(shape));
    is_signed = r.chance(0.5);
    x = quant(x, 1, r.range(2, 8), is_signed, false);
    if (image) {
      const I layers = r.range(1, 3);
      for (I i = 0; i < layers; ++i) {
        const double u = r.uniform();
        if (u < 0.5) conv(false);
        else if (u < 0.65) conv(true);
        else if (u < 0.85) pool();
        else skip();
      }
      if (r.chance(0.6)) {
        x = g.add_node("Flatten", {x});
        shape = {1, shape[1] * shape[2] * shape[3]};
        if (shape[1] <= 400) dense(r.range(2, 16));
      }
    } else {
      const I layers = r.range(1, 3);
      for (I i = 0; i < layers; ++i) dense(I(2) << r.range(0, 5));
    }
    if (shape.size() == 2 && shape[1] > 1 && r.chance(0.3)) x = g.add_node("ArgMax", {x}, {{"axis", I(1)}, {"keepdims", I(0)}});
    g.outputs = {x};
    ir::infer_shapes(g);
  }
};

// Networks whose streams part, meet and change their order, with every form of the matrix unit.
struct FormsMaker : Maker {
  using Maker::Maker;

  ValueId add(const std::string& op, std::vector<ValueId> in, std::map<std::string, ir::Attribute> a = {}) {
    const ValueId y = g.add_node(op, std::move(in), std::move(a), "", op.starts_with("Table") ? "tandem" : "");
    ir::infer_shapes(g);
    return y;
  }
  ValueId ints(std::vector<I> v) { return g.add_constant(g.unique_name("i"), Tensor::of<I>({static_cast<I>(v.size())}, v)); }
  ValueId again(ValueId v, I bits) { return quant(v, 2, bits, is_signed, false); }
  void conv() {
    const I c = shape[1], k = std::min<I>(r.chance(0.4) ? 1 : r.range(2, 3), std::min(shape[2], shape[3])), m = r.range(2, 12), bits = r.range(2, 8);
    x = add("Conv", {x, weights({m, c, k, k}, bits)});
    shape = {1, m, shape[2] - k + 1, shape[3] - k + 1};
    requantise(c * k * k, m);
  }
  void depthwise() {
    const I c = shape[1], k = std::min<I>(r.range(2, 3), std::min(shape[2], shape[3])), bits = r.range(2, 8);
    x = add("Conv", {x, weights({c, 1, k, k}, bits)}, {{"group", c}});
    shape = {1, c, shape[2] - k + 1, shape[3] - k + 1};
    requantise(k * k, c);
  }
  void turn() {
    const bool swap = r.chance(0.5);
    x = add("Transpose", {x}, {{"perm", swap ? std::vector<I>{0, 1, 3, 2} : std::vector<I>{0, 2, 3, 1}}});
    shape = swap ? Shape{1, shape[1], shape[3], shape[2]} : Shape{1, shape[2], shape[3], shape[1]};
    conv();
  }
  void gather() {
    std::vector<I> places;
    for (I i = r.range(2, 6); i-- > 0;) places.push_back(r.range(0, shape[1] - 1));
    const I axis = r.range(1, 3);
    for (I& p : places) p = r.range(0, shape[static_cast<std::size_t>(axis)] - 1);
    x = add("Gather", {x, ints(places)}, {{"axis", axis}});
    shape[static_cast<std::size_t>(axis)] = static_cast<I>(places.size());
    conv();
  }
  void cut() {
    const I axis = r.range(1, 3), n = shape[static_cast<std::size_t>(axis)];
    if (n < 2) return;
    const I from = r.range(0, n - 2), to = r.range(from + 1, n), step = r.chance(0.3) ? 2 : 1;
    x = add("Slice", {x, ints({from}), ints({to}), ints({axis}), ints({step})});
    shape[static_cast<std::size_t>(axis)] = (to - from + step - 1) / step;
    x = again(x, r.range(2, 6));
  }
  void put() {
    const I t = r.range(0, 2), l = r.range(0, 2), b = r.range(0, 1), e = r.range(0, 2);
    if (t + l + b + e == 0) return;
    x = add("Pad", {x, ints({0, 0, t, l, 0, 0, b, e}), constant({}, {is_signed && r.chance(0.5) ? -1.f : 1.f})});
    shape[2] += t + b, shape[3] += l + e;
    x = again(x, r.range(2, 6));
  }
  void together() {
    const I axis = r.range(1, 3);
    const ValueId a = again(x, r.range(2, 6)), b = quant(x, 1, r.range(2, 6), is_signed, false);
    x = again(add("Concat", {a, b}, {{"axis", axis}}), r.range(2, 6));
    shape[static_cast<std::size_t>(axis)] *= 2;
  }
  void times() {
    const ValueId a = quant(x, 1, r.range(2, 8), is_signed, false), b = quant(x, 1, r.range(2, 8), is_signed, false);
    x = quant(add("Mul", {a, b}), 8, r.range(2, 6), is_signed, false);
  }
  void whole() {
    x = add(r.chance(0.5) ? "GlobalAveragePool" : "GlobalMaxPool", {x});
    shape = {1, shape[1], 1, 1};
    x = again(x, r.range(2, 6));
  }
  void run() {
    shape = Shape{1, r.range(2, 8), r.range(3, 8), r.range(3, 8)};
    x = g.add_input("x", DType::f32, ir::dims_of(shape));
    is_signed = r.chance(0.5);
    x = quant(x, 1, r.range(2, 8), is_signed, false);
    ir::infer_shapes(g);
    const I layers = r.range(2, 4);
    for (I i = 0; i < layers; ++i)
      switch (r.range(0, 10)) {
        case 0: turn(); break;
        case 1: gather(); break;
        case 2: cut(); break;
        case 3: put(); break;
        case 4: together(); break;
        case 5: times(); break;
        case 6: depthwise(); break;
        case 7: whole(); break;
        default: conv();
      }
    g.outputs = {x};
    ir::infer_shapes(g);
  }
};

// A layer of many channels, each requantised for itself.
struct ChannelsMaker : FormsMaker {
  using FormsMaker::FormsMaker;

  void run() {
    shape = {1, I(8) << r.range(0, 3)};
    x = g.add_input("x", DType::f32, ir::dims_of(shape));
    is_signed = r.chance(0.5);
    x = quant(x, 1, r.range(2, 4), is_signed, false);
    ir::infer_shapes(g);
    const I m = I(8) << r.range(0, 4), terms = shape[1];
    x = add("MatMul", {x, weights({terms, m}, r.range(2, 4))});
    shape = {1, m};
    requantise(terms, m);
    g.outputs = {x};
    ir::infer_shapes(g);
  }
};

// One layer each: matrices of more shapes than fit into a network above, and the vector operators.
struct LayersMaker : FormsMaker {
  using FormsMaker::FormsMaker;

  ValueId table(const std::vector<std::int32_t>& t) { return g.add_constant(g.unique_name("t"), Tensor::of<std::int32_t>({static_cast<I>(t.size())}, t)); }
  void input(Shape s, double scale, I bits) {
    shape = std::move(s);
    x = g.add_input("x", DType::f32, ir::dims_of(shape));
    is_signed = r.chance(0.5);
    x = quant(x, scale, bits, is_signed, false);
    ir::infer_shapes(g);
  }
  void run() {
    const I what = r.range(0, 12), bits = r.range(2, 8);
    if (what < 6) {
      input({1, I(1) << r.range(2, 8)}, 1, r.range(1, 8));
      x = add("MatMul", {x, weights({shape[1], r.range(2, 32)}, r.range(2, 8))});
    } else if (what < 10) {
      input({1, r.range(2, 12), r.range(3, 6), r.range(3, 6)}, 1, bits);
      depthwise();
    } else {
      const float scale = static_cast<float>(r.range(1, 32)) / 64;
      input({1, r.range(3, 48)}, scale, bits);
      const I root = r.range(8, 16);
      if (what == 10) add("TopK", {x, ints({r.range(1, std::min<I>(6, shape[1]))})}, {{"axis", I(1)}, {"largest", I(r.chance(0.7))}});
      if (what == 11) x = add("TableSoftmax", {x, table(ir::tflite_exponentials(scale, 1, r.range(2, 256)))}, {{"axis", I(1)}, {"x_scale", static_cast<double>(scale)}, {"bits", r.range(1, 16)}});
      if (what == 12)
        x = add("TableNormalize", {x, table(ir::root_table(static_cast<int>(r.range(3, 9)), static_cast<int>(root)))},
                {{"axis", I(1)}, {"x_scale", static_cast<double>(scale)}, {"root_bits", root}, {"bits", r.range(0, root - 1)}, {"epsilon", 0.0078125}});
      if (what == 10) {
        g.nodes.back().outputs.push_back(g.add_value(g.unique_name("places")));
        ir::infer_shapes(g);
        x = g.nodes.back().outputs[r.chance(0.5) ? 1 : 0];
      }
    }
    g.outputs = {x};
    ir::infer_shapes(g);
  }
};

plan::Folding random_folding(const plan::StageGraph& g, plan::Family family, Rng r, bool forms) {
  plan::Folding f = plan::smallest_folding(g);
  auto divisor = [&](I n) {
    std::vector<I> d;
    for (I i = 1; i <= std::min<I>(n, 16); ++i)
      if (n % i == 0) d.push_back(i);
    return r.pick(d);
  };
  for (std::size_t i = 0; i < f.of.size(); ++i) {
    const plan::Layer& l = g.layers[i];
    if (l.kind == plan::LayerKind::dense) {
      f.of[i].pe = divisor(plan::most_pe(l));
      f.of[i].simd = divisor(plan::most_simd(l));
      while (f.of[i].pe * f.of[i].simd > 32) (f.of[i].pe > f.of[i].simd ? f.of[i].pe : f.of[i].simd) = 1;
    }
    if (l.kind == plan::LayerKind::depthwise || l.kind == plan::LayerKind::pool) f.of[i].pe = divisor(l.mh);
    if (!forms) continue;
    using plan::Multipliers;
    const bool dense = l.kind == plan::LayerKind::dense, several = dense && f.of[i].pe > 1 && !l.bipolar && l.weight_bits > 1;
    if (!dense && l.kind != plan::LayerKind::depthwise) continue;
    std::vector all{Multipliers::plain, Multipliers::logic, Multipliers::logic, Multipliers::packed, Multipliers::packed, Multipliers::constant};
    const Multipliers m = r.pick(all);
    if (m == Multipliers::constant && (!dense || l.groups > 1 || l.mw * l.mh > 1000)) continue;
    const plan::Values& in = g.values_of(l.in[0]);
    const I fit = std::min<I>(f.of[i].pe, plan::products_per_dsp(family, in.bits, in.is_signed, l.weight_bits));
    if (m == Multipliers::packed && (!several || fit < 2 || family == plan::Family::cells)) continue;
    f.of[i].multipliers = m;
    f.of[i].per_dsp = static_cast<int>(r.range(2, std::max<I>(2, fit)));
    if (m == Multipliers::constant) f.of[i].pe = l.mh;
  }
  return f;
}

}  // namespace

namespace {

using Row = plan::Calibration::Row;
constexpr std::size_t kColumns = std::tuple_size_v<Row>;

// A closed form is linear in its coefficients: its value for a unit vector is the regressor, of LUTs and of flip-flops.
// What no coefficient scales is taken off the counts.
std::pair<Row, Row> regressors(const StageSample& s, const plan::Calibration& c, double& lut, double& ff) {
  const std::size_t at = static_cast<std::size_t>(s.shape.kind);
  std::pair<Row, Row> x{};
  plan::Calibration unit = c;
  unit.lut4 = unit.ff = {};
  const plan::Cost known = plan::stage_def(s.shape.kind).cost(s.shape, unit);
  lut = s.lut - known.lut4, ff = s.ff - known.ff;
  for (std::size_t j = 0; j < kColumns; ++j) {
    unit.lut4 = unit.ff = {};
    unit.lut4[at][j] = unit.ff[at][j] = 1;
    const plan::Cost k = plan::stage_def(s.shape.kind).cost(s.shape, unit);
    x.first[j] = k.lut4 - known.lut4 - (s.dsp ? k.dsp_lut4 : 0);
    x.second[j] = k.ff - known.ff - (s.dsp ? k.dsp_ff : 0);
  }
  return x;
}
double dot(const Row& a, const Row& b) {
  double y = 0;
  for (std::size_t j = 0; j < kColumns; ++j) y += a[j] * b[j];
  return y;
}

// Coefficients >= 0 of least relative errors, the large ones cut: least squares, its weights renewed by what is left.
Row solve(const std::vector<Row>& rows, const std::vector<double>& y) {
  std::vector<double> weight(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) weight[i] = 1 / std::pow(std::max(y[i], 8.0), 2);
  Row c{};
  for (int round = 0; round < 8; ++round) {
    double n[kColumns][kColumns] = {}, b[kColumns] = {};
    for (std::size_t i = 0; i < rows.size(); ++i)
      for (std::size_t p = 0; p < kColumns; ++p) {
        b[p] += weight[i] * rows[i][p] * y[i];
        for (std::size_t q = 0; q < kColumns; ++q) n[p][q] += weight[i] * rows[i][p] * rows[i][q];
      }
    for (int turn = 0; turn < 3000; ++turn)
      for (std::size_t p = 0; p < kColumns; ++p) {
        if (n[p][p] <= 0) continue;
        double rest = b[p];
        for (std::size_t q = 0; q < kColumns; ++q)
          if (q != p) rest -= n[p][q] * c[q];
        c[p] = std::max(0.0, rest / n[p][p]);
      }
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const double scale = std::max(y[i], 8.0), error = std::abs(dot(rows[i], c) - y[i]) / scale;
      weight[i] = 1 / (scale * scale) / std::max(0.05, error) * 0.05;
    }
  }
  for (double& x : c)
    if (x < 1e-9) x = 0;
  return c;
}

}  // namespace

double quantile(const std::vector<double>& sorted, double q) {
  if (sorted.empty()) return 1;
  const double at = q * static_cast<double>(sorted.size() - 1);
  const std::size_t i = static_cast<std::size_t>(at), k = std::min(i + 1, sorted.size() - 1);
  return sorted[i] + (at - static_cast<double>(i)) * (sorted[k] - sorted[i]);
}

CalibrationFit fit(const std::vector<StageSample>& samples, const plan::Calibration& start) {
  CalibrationFit r;
  r.family = start.family;
  r.samples = static_cast<I>(samples.size());
  for (const StageSample& s : samples) {
    const plan::Cost k = plan::stage_def(s.shape.kind).cost(s.shape, start);
    r.bram_differs += !s.dsp && k.bram != s.bram;
    r.dsp_differs += s.dsp && k.dsp != s.dsps;
  }
  for (const plan::StageDef& def : plan::all_stages()) {
    const std::size_t at = static_cast<std::size_t>(def.kind);
    KindFit k;
    k.kind = def.kind;
    k.lut = start.lut4[at], k.ff = start.ff[at], k.spread = start.stage[at];
    std::vector<Row> rows, ff_rows;
    std::vector<double> lut, ff;
    std::vector<bool> dsp;
    for (const StageSample& s : samples) {
      if (s.shape.kind != def.kind) continue;
      double lut_left = 0, ff_left = 0;
      const auto [of_lut, of_ff] = regressors(s, start, lut_left, ff_left);
      rows.push_back(of_lut);
      ff_rows.push_back(of_ff);
      lut.push_back(lut_left);
      ff.push_back(ff_left);
      dsp.push_back(s.dsp);
    }
    k.samples = static_cast<I>(rows.size());
    if (!rows.empty()) {
      k.lut = solve(rows, lut);
      k.ff = solve(ff_rows, ff);
      // What shares multipliers is judged with them.
      const bool with_dsp = std::any_of(dsp.begin(), dsp.end(), [](bool x) { return x; });
      std::vector<double> errors, ratios;
      for (std::size_t i = 0; i < rows.size(); ++i) {
        if (with_dsp && !dsp[i]) continue;
        const double y = dot(rows[i], k.lut);
        errors.push_back(std::abs(y - lut[i]) / std::max(lut[i], 8.0));
        if (y > 0) ratios.push_back(lut[i] / y);
      }
      std::sort(errors.begin(), errors.end());
      std::sort(ratios.begin(), ratios.end());
      k.median_error = quantile(errors, 0.5);
      k.largest_error = errors.back();
      k.spread = {quantile(ratios, 0.05), quantile(ratios, 0.5), quantile(ratios, 0.95)};
    }
    r.kinds.push_back(k);
  }
  return r;
}

std::optional<rtl::Design> sample_design(plan::Family family, std::uint64_t seed, I i) {
  const Rng r(seed, fmt::format("calibrate {}", i));
  const bool forms = i >= kForms;
  const auto made = [&](auto m) {
    m.run();
    return std::move(m.g);
  };
  ir::Graph net = i >= kChannels ? made(ChannelsMaker(r.fork("net"))) : i >= kLayers ? made(LayersMaker(r.fork("net"))) : forms ? made(FormsMaker(r.fork("net"))) : made(Maker(r.fork("net")));
  plan::StageGraph g;
  try {
    g = plan::stages_from(ir::lower_exact(net, 64), "calibration");
  } catch (const Error& e) {
    if (e.code() != Exit::no) throw;
    return {};  // a network that hardware refuses
  }
  rtl::Design d = rtl::generate(g, random_folding(g, family, r.fork("folding"), forms), fmt::format("n{}", i), family);
  plan::measure_constants(g, d.stages);
  return d;
}

std::vector<plan::StageShape> sample_shapes(plan::Family family, std::uint64_t seed, I network) {
  const auto d = sample_design(family, seed, network);
  return d ? d->stages : std::vector<plan::StageShape>{};
}

std::vector<StageSample> sample_stages(plan::Family family, std::uint64_t seed, I first, I count, std::string* tool, const Cancel& cancel) {
  rtl::Design all;
  all.top = "calibration";
  std::vector<I> network;
  for (I i = first; i < first + count; ++i) {
    auto d = sample_design(family, seed, i);
    if (!d) continue;
    network.insert(network.end(), d->stages.size(), i);
    all.stages.insert(all.stages.end(), d->stages.begin(), d->stages.end());
    all.modules.insert(all.modules.end(), d->modules.begin(), d->modules.end());
    for (rtl::File& f : d->files) all.files.push_back(std::move(f));
  }
  std::vector<StageSample> r;
  if (family == plan::Family::cells) {
    const hardware::Target target = hardware::find_target("asic45");
    const std::vector<CellsStage> n = count_stages(all, target, tool, cancel);
    const double gate = tool::read_liberty(read_file(hardware::liberty_file(target)), target.liberty).gate_area;
    for (std::size_t i = 0; i < all.stages.size(); ++i)
      r.push_back({all.stages[i], n[i].count.area_um2 / gate, static_cast<double>(n[i].count.macros), static_cast<double>(n[i].count.ff), network[i]});
    return r;
  }
  // What shares multipliers is there for DSPs; single layers are measured without them too.
  for (const bool dsp : {false, true}) {
    rtl::Design some;
    some.top = all.top;
    std::vector<I> of;
    for (std::size_t i = 0; i < all.stages.size(); ++i) {
      const bool packed = all.stages[i].kind == plan::StageKind::mvau_packed;
      if (dsp ? !packed : packed && network[i] < kLayers) continue;
      some.stages.push_back(all.stages[i]);
      some.modules.push_back(all.modules[i]);
      of.push_back(network[i]);
    }
    some.files = dsp ? std::move(all.files) : all.files;
    StageSynthesisParams p;
    p.fabric = family == plan::Family::xcup ? tool::Fabric::xcup : tool::Fabric::ice40;
    p.dsp = dsp;
    const StageSynthesis s = synthesise_stages(some, p, cancel);
    if (tool) *tool = s.tool;
    for (std::size_t i = 0; i < of.size(); ++i) {
      const tool::FabricCells& c = s.stages[i].cells;
      r.push_back({some.stages[i], static_cast<double>(c.lut), static_cast<double>(c.bram), static_cast<double>(c.ff), of[i], dsp, dsp ? static_cast<double>(c.dsp) : 0.0});
    }
  }
  return r;
}

std::string rows_text(const CalibrationFit& f) {
  std::string t;
  const auto row_text = [](const Row& c) {
    std::size_t last = 1;
    for (std::size_t j = 0; j < kColumns; ++j)
      if (c[j] != 0) last = j + 1;
    std::string row;
    for (std::size_t j = 0; j < last; ++j) row += fmt::format("{}{:.3g}", row.empty() ? "" : ", ", c[j]);
    return "{" + row + "},";
  };
  for (const bool ff : {false, true}) {
    t += ff ? "// FF\n" : fmt::format("// {}\n", plan::calibration(f.family).lut);
    for (const KindFit& k : f.kinds) {
      const std::string row = row_text(ff ? k.ff : k.lut);
      t += fmt::format("{:<60} // {}", row, plan::stage_def(k.kind).name);
      if (!ff) t += fmt::format(": {} stages, median error {:.0f} %, largest {:.0f} %", k.samples, k.median_error * 100, k.largest_error * 100);
      t += "\n";
    }
  }
  t += "// synthesised / closed form: 5, 50, 95 %\n";
  for (const KindFit& k : f.kinds) t += fmt::format("{{{:.2f}, {:.2f}, {:.2f}}},\n", k.spread.low, k.spread.middle, k.spread.high);
  return t;
}

}  // namespace tandem::flow
