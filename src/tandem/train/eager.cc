// Forward by operator on libtorch; its autograd does the rest. One closure per node, made once: no
// graph analysis happens per step.
#include "tandem/train/lowered.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/api/include/torch/version.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <set>

#include "tandem/ir/op.h"
#include "tandem/ir/quantize.h"

namespace tandem::train {
namespace {

using ir::Graph;
using ir::Node;
using ir::ValueId;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// ---- the quantiser ---------------------------------------------------------------------------------
struct QuantParams {
  std::int64_t kmin = 0, kmax = 0;
  bool bipolar = false;
  Rounding rounding = Rounding::half_even;
};

// x as [outer, groups, inner] for a scale that varies along one axis at most.
struct Groups {
  std::int64_t outer = 1, groups = 1, inner = 1;
};
Groups groups_of(const at::Tensor& x, const at::Tensor& p) {
  Groups g;
  g.inner = x.numel();
  if (p.numel() == 1) return g;
  const std::int64_t off = x.dim() - p.dim();
  std::int64_t axis = -1;
  for (std::int64_t d = 0; d < p.dim(); ++d)
    if (p.size(d) != 1) {
      if (axis >= 0 || d + off < 0 || p.size(d) != x.size(d + off))
        throw bad_input("a quantiser scale that varies along several axes cannot be trained").expected("one scale, or one per channel");
      axis = d + off;
    }
  g.inner = g.outer = 1;
  for (std::int64_t d = 0; d < axis; ++d) g.outer *= x.size(d);
  for (std::int64_t d = axis + 1; d < x.dim(); ++d) g.inner *= x.size(d);
  g.groups = x.size(axis);
  return g;
}

// Rounds in double: for f32 operands the quotient is never rounded across a tie (a difference from a
// tie is at least 2^-50 relative), so this is the cast of numerics/cast.h.
inline double round_even(double v) {
  constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
  return (v + magic) - magic;
}
double round_any(double v, Rounding r) {
  const double f = std::floor(v), d = v - f;
  switch (r) {
    case Rounding::half_even: return round_even(v);
    case Rounding::half_up: return d < 0.5 ? f : f + 1;
    case Rounding::half_down: return d <= 0.5 ? f : f + 1;
    case Rounding::half_away: return d != 0.5 ? (d < 0.5 ? f : f + 1) : (v > 0 ? f + 1 : f);
    case Rounding::half_zero: return d != 0.5 ? (d < 0.5 ? f : f + 1) : (v > 0 ? f : f + 1);
    case Rounding::floor: return f;
    case Rounding::ceil: return std::ceil(v);
    case Rounding::to_zero: return std::trunc(v);
    case Rounding::away: return v > 0 ? std::ceil(v) : f;
  }
  return v;
}

template <class T, bool Even>
void quant_forward(const T* x, T* y, const Groups& g, const T* s, const T* z, bool zg, const QuantParams& p) {
  const double lo = static_cast<double>(p.kmin), hi = static_cast<double>(p.kmax);
  for (std::int64_t o = 0; o < g.outer; ++o)
    for (std::int64_t c = 0; c < g.groups; ++c) {
      const double S = s[c], Z = z[zg ? c : 0];
      const T* a = x + (o * g.groups + c) * g.inner;
      T* b = y + (o * g.groups + c) * g.inner;
      if (p.bipolar) {
        for (std::int64_t i = 0; i < g.inner; ++i) b[i] = static_cast<T>(a[i] >= 0 ? S : -S);
        continue;
      }
      for (std::int64_t i = 0; i < g.inner; ++i) {
        double q = a[i] / S + Z;
        q = std::min(std::max(q, lo), hi);
        b[i] = static_cast<T>(((Even ? round_even(q) : round_any(q, p.rounding)) - Z) * S);
      }
    }
}
template <class T>
void quant_backward(const T* x, const T* dy, T* dx, double* ds, const Groups& g, const T* s, const T* z, bool zg,
                    const QuantParams& p) {
  for (std::int64_t o = 0; o < g.outer; ++o)
    for (std::int64_t c = 0; c < g.groups; ++c) {
      const double S = s[c], Z = p.bipolar ? 0 : static_cast<double>(z[zg ? c : 0]);
      const double lo = p.bipolar ? -1 : static_cast<double>(p.kmin) - Z, hi = p.bipolar ? 1 : static_cast<double>(p.kmax) - Z;
      const std::int64_t first = (o * g.groups + c) * g.inner;
      double sum = 0;
      for (std::int64_t i = first; i < first + g.inner; ++i) {
        const double q = x[i] / S;
        const bool inside = lo <= q && q <= hi;
        dx[i] = inside ? dy[i] : T(0);
        const double slope = p.bipolar ? (q >= 0 ? 1 : -1)
                             : !inside ? (q < lo ? lo : hi)
                                       : (p.rounding == Rounding::half_even ? round_even(q + Z) : round_any(q + Z, p.rounding)) - Z - q;
        sum += dy[i] * slope;
      }
      ds[c] += sum;
    }
}

struct QuantFunction : public torch::autograd::Function<QuantFunction> {
  static at::Tensor forward(AutogradContext* ctx, at::Tensor x0, at::Tensor s, at::Tensor z, std::int64_t params) {
    const auto& p = *reinterpret_cast<const QuantParams*>(params);
    const at::Tensor x = x0.contiguous();
    const Groups g = groups_of(x, s);
    const bool zg = z.numel() > 1;
    if (zg && z.numel() != s.numel())
      throw bad_input("a quantiser whose zero points and scales are grouped differently cannot be trained");
    at::Tensor y = at::empty_like(x);
    auto go = [&](auto tag) {
      using T = decltype(tag);
      auto f = p.rounding == Rounding::half_even ? quant_forward<T, true> : quant_forward<T, false>;
      f(x.data_ptr<T>(), y.data_ptr<T>(), g, s.data_ptr<T>(), z.data_ptr<T>(), zg, p);
    };
    if (x.scalar_type() == at::kFloat) go(float{});
    else go(double{});
    ctx->save_for_backward({x, s, z});
    ctx->saved_data["p"] = params;
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &s = saved[1], &z = saved[2];
    const auto& p = *reinterpret_cast<const QuantParams*>(ctx->saved_data["p"].toInt());
    const at::Tensor dy = grads[0].contiguous();
    at::Tensor dx = at::empty_like(x);
    const Groups g = groups_of(x, s);
    std::vector<double> ds(static_cast<std::size_t>(g.groups), 0);
    at::Tensor dscale = at::empty_like(s);
    auto go = [&](auto tag) {
      using T = decltype(tag);
      quant_backward<T>(x.data_ptr<T>(), dy.data_ptr<T>(), dx.data_ptr<T>(), ds.data(), g, s.data_ptr<T>(), z.data_ptr<T>(), z.numel() > 1, p);
      for (std::size_t i = 0; i < ds.size(); ++i) dscale.data_ptr<T>()[i] = static_cast<T>(ds[i]);
    };
    if (x.scalar_type() == at::kFloat) go(float{});
    else go(double{});
    return {dx, dscale, at::Tensor(), at::Tensor()};
  }
};

// The scale of one group that quantises `v` with the least squared error: absmax / kmax times one of 33
// factors. Good starting points matter at 2 to 4 bits, where absmax wastes codes on outliers.
double best_scale(const std::vector<double>& v, const QuantParams& p) {
  double top = 0;
  for (double x : v) top = std::max(top, p.kmin == 0 ? x : std::abs(x));
  if (p.bipolar) {
    double sum = 0;
    for (double x : v) sum += std::abs(x);
    return v.empty() || sum == 0 ? 1 : sum / static_cast<double>(v.size());
  }
  if (top <= 0) return 1;
  const double full = top / static_cast<double>(std::max<std::int64_t>(p.kmax, 1));
  double best = full, least = INFINITY;
  for (int i = 4; i <= 32; ++i) {
    const double s = full * i / 32;
    double e = 0;
    for (double x : v) {
      const double q = round_any(std::clamp(x / s, double(p.kmin), double(p.kmax)), p.rounding) * s - x;
      e += q * q;
    }
    if (e < least) { least = e; best = s; }
  }
  return best;
}

// ---- tensors across the border -----------------------------------------------------------------------
at::ScalarType torch_type(DType t) {
  switch (t) {
    case DType::f64: return at::kDouble;
    case DType::i8: return at::kChar;
    case DType::u8: return at::kByte;
    case DType::i16: return at::kShort;
    case DType::i32: return at::kInt;
    case DType::i64: return at::kLong;
    case DType::boolean: return at::kBool;
    default: return at::kFloat;
  }
}

at::Tensor to_torch(const Tensor& t, at::ScalarType real, bool force_real = false) {
  const bool f = force_real || is_float(t.dtype());
  const DType want = f ? (real == at::kDouble ? DType::f64 : DType::f32) : DType::i64;
  const Tensor c = t.dtype() == want ? t : t.cast(want);
  at::Tensor r = at::empty(c.shape(), at::TensorOptions().dtype(torch_type(want)));
  if (c.bytes()) std::memcpy(r.data_ptr(), c.raw(), c.bytes());
  return r;
}
Tensor from_torch(const at::Tensor& t0) {
  const at::Tensor t = t0.detach().contiguous();
  DType d = t.scalar_type() == at::kDouble ? DType::f64 : t.scalar_type() == at::kLong ? DType::i64 : DType::f32;
  Tensor r(d, t.sizes().vec());
  const at::Tensor c = t.to(torch_type(d));
  if (r.bytes()) std::memcpy(r.raw_mutable(), c.data_ptr(), r.bytes());
  return r;
}

// Runs f; a foreign exception becomes an Error that names the node.
template <class F>
auto guarded(const std::string& where, F&& f) {
  try {
    return f();
  } catch (const Error&) {
    throw;
  } catch (const c10::Error& e) {
    throw bad_input("the learning library refused: {}", printable(e.what_without_backtrace())).at(where);
  } catch (const std::exception& e) {
    throw bad_input("the learning library failed: {}", printable(e.what())).at(where);
  }
}

struct Run {
  std::vector<at::Tensor> v;
  Mode mode = Mode::evaluation;
  bool calibrate = false;
  Rng rng{0};
};

struct Part {
  at::Tensor x, label;
};

class Lowering final : public Lowered {
 public:
  Lowering(const Graph& g, DType precision);
  std::vector<Tensor> run(const std::vector<Tensor>& inputs, Mode mode) override;
  std::vector<Tensor> gradients(const std::vector<Tensor>& inputs, const std::vector<Tensor>& cotangents,
                                const std::vector<std::string>& wrt, Mode mode) override;
  Tensor get(std::string_view name) const override;
  void set(std::string_view name, const Tensor& t) override;
  std::vector<Leaf>& leaves(const std::vector<std::string>& freeze) override;
  void load(int part, const Examples& e) override;
  StepResult step(int part, std::span<const std::int64_t> rows, double smoothing, int shift, const Rng& rng) override;
  StepResult score(int part, std::int64_t batch) override;
  void calibrate(int part, std::span<const std::int64_t> rows) override;
  void refresh() override;
  std::string first_non_finite(int part, std::span<const std::int64_t> rows) override;
  std::vector<std::string> state_names() const override;

 private:
  struct Instruction {
    std::string where, node;
    std::vector<ValueId> out;
    std::function<void(Run&)> go;
  };
  struct ScaleRule {
    ValueId x, scale;
    bool weight;             // x is an initialiser
    ScaleSource source;
    bool found;              // by an earlier training run: not calibrated again
    QuantParams params;
    double count = 0;        // N * kmax
  };
  void forward(Run& r);
  void begin(Run& r, Mode mode);
  void compile(const Node& n);
  void compile_quant(const Node& n);
  std::vector<std::int64_t> ints(const Node& n, std::size_t i) const;  // constant integers of input i
  void set_scale(ScaleRule& rule, const at::Tensor& x, bool search, bool follow);
  at::Tensor rows_of(int part, std::span<const std::int64_t> rows, int shift, const Rng* rng, at::Tensor& label);

  Graph g_;
  at::ScalarType real_;
  std::vector<at::Tensor> base_;  // initialisers
  std::vector<Instruction> code_;
  std::vector<std::unique_ptr<QuantParams>> params_;
  std::vector<std::unique_ptr<ScaleRule>> rules_;
  std::vector<Leaf> leaves_;
  std::map<int, Part> parts_;
};

std::size_t ix(ValueId v) { return static_cast<std::size_t>(v); }

Lowering::Lowering(const Graph& g, DType precision) : g_(g), real_(precision == DType::f64 ? at::kDouble : at::kFloat) {
  base_.resize(g_.values.size());
  for (const auto& [v, t] : g_.initialisers) base_[ix(v)] = to_torch(t, real_);
  for (const Node& n : g_.nodes) guarded(g_.describe(n), [&] { compile(n); });
}

std::vector<std::int64_t> Lowering::ints(const Node& n, std::size_t i) const {
  const Tensor* t = g_.constant(n.in(i));
  if (!t)
    throw bad_input("input {} of this node is not a constant", i).at(g_.describe(n)).expected("a constant, for training").fix("fold constants first");
  std::vector<std::int64_t> r;
  for (std::int64_t k = 0; k < t->size(); ++k) r.push_back(t->int_at(k));
  return r;
}

struct Pads {
  std::int64_t top, left, bottom, right;
  bool symmetric() const { return top == bottom && left == right; }
};
Pads pads_of(const Node& n, const at::Tensor& x, std::int64_t kh, std::int64_t kw, const std::vector<std::int64_t>& stride,
             const std::vector<std::int64_t>& dilation) {
  const std::string mode = n.attr_string("auto_pad", "NOTSET");
  if (mode == "SAME_UPPER" || mode == "SAME_LOWER") {
    auto total = [&](int d, std::int64_t k) {
      const std::int64_t size = x.size(d + 2), out = (size + stride[d] - 1) / stride[d];
      return std::max<std::int64_t>((out - 1) * stride[d] + (k - 1) * dilation[d] + 1 - size, 0);
    };
    const std::int64_t h = total(0, kh), w = total(1, kw);
    const bool upper = mode == "SAME_UPPER";
    const std::int64_t t = upper ? h / 2 : h - h / 2, l = upper ? w / 2 : w - w / 2;
    return {t, l, h - t, w - l};
  }
  if (mode == "VALID") return {0, 0, 0, 0};
  const auto p = n.attr_ints("pads", {0, 0, 0, 0});
  return {p.at(0), p.at(1), p.at(2), p.at(3)};
}

void Lowering::compile_quant(const Node& n) {
  const bool bipolar_op = n.op == "BipolarQuant";
  auto p = std::make_unique<QuantParams>();
  at::Tensor zero = at::zeros({}, at::TensorOptions().dtype(real_));
  if (bipolar_op) {
    p->bipolar = true;
    p->kmax = 1;
  } else {
    const bool is_signed = n.attr_int("signed", 1) != 0, narrow = n.attr_int("narrow", 0) != 0;
    const Tensor* width = g_.constant(n.in(3));
    if (!width || width->size() != 1) throw bad_input("the bit width is not one constant").at(g_.describe(n));
    const std::int64_t bits = width->int_at(0);
    if (bits < 1 || bits > 32) throw bad_input("a bit width of {}", bits).at(g_.describe(n)).expected("1 to 32");
    p->bipolar = is_signed && bits == 1;
    p->kmin = is_signed && !p->bipolar ? -(std::int64_t{1} << (bits - 1)) + narrow : 0;
    p->kmax = p->bipolar ? 1 : is_signed ? (std::int64_t{1} << (bits - 1)) - 1 : (std::int64_t{1} << bits) - 1 - narrow;
    p->rounding = parse_rounding(n.attr_string("rounding_mode", "ROUND"));
    if (!g_.constant(n.in(2))) throw bad_input("the zero point is not constant").at(g_.describe(n));
    zero = base_[ix(n.in(2))].to(real_);
  }
  if (!g_.constant(n.in(1))) throw bad_input("the scale is not constant").at(g_.describe(n));
  auto rule = std::make_unique<ScaleRule>();
  rule->x = n.in(0);
  rule->scale = n.in(1);
  rule->weight = g_.constant(n.in(0)) != nullptr;
  const std::string source = ir::scale_source(g_, g_.values[ix(n.in(1))].name);
  rule->source = source == "learned" ? ScaleSource::learned : source == "absmax" ? ScaleSource::absmax : ScaleSource::fixed;
  const auto note = g_.metadata.find("scale:" + g_.values[ix(n.in(1))].name);
  rule->found = note != g_.metadata.end() && note->second.ends_with(";found");
  rule->params = *p;
  ScaleRule* rp = rule.get();
  rules_.push_back(std::move(rule));
  const QuantParams* pp = p.get();
  params_.push_back(std::move(p));
  const ValueId x = n.in(0), s = n.in(1), y = n.outputs[0];
  code_.back().go = [this, x, s, y, zero, pp, rp](Run& r) {
    if (rp->source == ScaleSource::absmax && r.mode == Mode::training && !r.calibrate) set_scale(*rp, r.v[ix(x)], false, !rp->weight);
    if (r.calibrate && rp->source != ScaleSource::fixed && !rp->found) set_scale(*rp, r.v[ix(x)], rp->source == ScaleSource::learned, false);
    if (rp->count == 0) {
      // LSQ's N: weights of a layer, features of a sample; per group of the scale.
      const double n = static_cast<double>(r.v[ix(x)].numel()) / static_cast<double>(rp->weight ? 1 : std::max<std::int64_t>(r.v[ix(x)].size(0), 1));
      rp->count = n / static_cast<double>(r.v[ix(s)].numel()) * static_cast<double>(std::max<std::int64_t>(pp->kmax, 1));
    }
    r.v[ix(y)] = QuantFunction::apply(r.v[ix(x)], r.v[ix(s)], zero, reinterpret_cast<std::int64_t>(pp));
  };
}

void Lowering::set_scale(ScaleRule& rule, const at::Tensor& x0, bool search, bool follow) {
  const at::NoGradGuard guard;
  const at::Tensor x = x0.detach().contiguous().to(at::kDouble);
  at::Tensor s = base_[ix(rule.scale)].detach();
  const Groups g = groups_of(x, s);
  const double* px = x.data_ptr<double>();
  for (std::int64_t c = 0; c < g.groups; ++c) {
    double v = 0;
    if (search || rule.params.bipolar) {
      std::vector<double> all;
      for (std::int64_t o = 0; o < g.outer; ++o) {
        const double* p = px + (o * g.groups + c) * g.inner;
        all.insert(all.end(), p, p + g.inner);
      }
      v = best_scale(all, rule.params);
    } else {
      for (std::int64_t o = 0; o < g.outer; ++o)
        for (std::int64_t i = 0; i < g.inner; ++i) v = std::max(v, std::abs(px[(o * g.groups + c) * g.inner + i]));
      v = v > 0 ? v / static_cast<double>(std::max<std::int64_t>(rule.params.kmax, 1)) : 1;
      if (follow) v = 0.95 * s.view({-1})[c].item<double>() + 0.05 * v;
    }
    s.view({-1})[c].fill_(v);
  }
}

void Lowering::compile(const Node& n) {
  Instruction inst;
  inst.where = g_.describe(n);
  inst.node = n.name;
  inst.out = n.outputs;
  code_.push_back(std::move(inst));
  const ValueId i0 = n.in(0), i1 = n.in(1), i2 = n.in(2), o = n.outputs.at(0);
  auto& go = code_.back().go;
  const Node node = n;  // closures keep what they need
  const std::string& op = n.op;
  const bool onnx = n.domain.empty() || n.domain == "ai.onnx";

  if (op == "Quant" || op == "BipolarQuant") return compile_quant(n);
  if (!onnx)
    throw bad_input("this operator cannot be trained").at(g_.describe(n)).expected("an ONNX operator, Quant or BipolarQuant");

  if (op == "Conv") {
    if (const auto& w = g_.values[ix(i1)].type.dims; w && w->size() != 4) throw bad_input("a convolution over {} axes", w->size() - 2).at(g_.describe(n)).expected("two");
    const auto stride = n.attr_ints("strides", {1, 1}), dilation = n.attr_ints("dilations", {1, 1});
    const std::int64_t group = n.attr_int("group", 1);
    const bool bias = i2 != ir::kNone;
    go = [=](Run& r) {
      at::Tensor x = r.v[ix(i0)];
      const at::Tensor& w = r.v[ix(i1)];
      Pads p = pads_of(node, x, w.size(2), w.size(3), stride, dilation);
      if (!p.symmetric()) {
        x = at::constant_pad_nd(x, {p.left, p.right, p.top, p.bottom}, 0);
        p = {0, 0, 0, 0};
      }
      c10::optional<at::Tensor> b;
      if (bias) b = r.v[ix(i2)];
      r.v[ix(o)] = at::conv2d(x, w, b, stride, {p.top, p.left}, dilation, group);
    };
  } else if (op == "MatMul") {
    go = [=](Run& r) { r.v[ix(o)] = at::matmul(r.v[ix(i0)], r.v[ix(i1)]); };
  } else if (op == "Gemm") {
    const bool ta = n.attr_int("transA", 0) != 0, tb = n.attr_int("transB", 0) != 0;
    const double alpha = n.attr_float("alpha", 1), beta = n.attr_float("beta", 1);
    go = [=](Run& r) {
      const at::Tensor a = ta ? r.v[ix(i0)].t() : r.v[ix(i0)], b = tb ? r.v[ix(i1)].t() : r.v[ix(i1)];
      if (i2 != ir::kNone) r.v[ix(o)] = at::addmm(r.v[ix(i2)], a, b, beta, alpha);
      else r.v[ix(o)] = alpha == 1 ? at::mm(a, b) : at::mm(a, b) * alpha;
    };
  } else if (op == "Add") {
    go = [=](Run& r) { r.v[ix(o)] = at::add(r.v[ix(i0)], r.v[ix(i1)]); };
  } else if (op == "Sub") {
    go = [=](Run& r) { r.v[ix(o)] = at::sub(r.v[ix(i0)], r.v[ix(i1)]); };
  } else if (op == "Mul") {
    go = [=](Run& r) { r.v[ix(o)] = at::mul(r.v[ix(i0)], r.v[ix(i1)]); };
  } else if (op == "Div") {
    go = [=](Run& r) { r.v[ix(o)] = at::div(r.v[ix(i0)], r.v[ix(i1)]); };
  } else if (op == "Pow") {
    go = [=](Run& r) { r.v[ix(o)] = at::pow(r.v[ix(i0)], r.v[ix(i1)].to(r.v[ix(i0)].scalar_type())); };
  } else if (op == "BatchNormalization") {
    const double eps = n.attr_float("epsilon", 1e-5), momentum = n.attr_float("momentum", 0.9);
    const ValueId mean = n.in(3), var = n.in(4);
    go = [=](Run& r) {
      if (r.mode == Mode::evaluation && (r.v[ix(mean)].requires_grad() || r.v[ix(var)].requires_grad())) {
        // batch_norm takes its statistics for constants.
        std::vector<std::int64_t> c(static_cast<std::size_t>(r.v[ix(i0)].dim()), 1);
        c.at(1) = -1;
        auto at_ = [&](ValueId v) { return r.v[ix(v)].view(c); };
        r.v[ix(o)] = (r.v[ix(i0)] - at_(mean)) * at::rsqrt(at_(var) + eps) * at_(i1) + at_(i2);
        return;
      }
      r.v[ix(o)] = at::batch_norm(r.v[ix(i0)], r.v[ix(i1)], r.v[ix(i2)], r.v[ix(mean)], r.v[ix(var)],
                                  r.mode == Mode::training, 1 - momentum, eps, false);
    };
  } else if (op == "Relu") {
    go = [=](Run& r) { r.v[ix(o)] = at::relu(r.v[ix(i0)]); };
  } else if (op == "Clip") {
    auto bound = [&](ValueId v, const char* key) -> c10::optional<at::Scalar> {
      if (v != ir::kNone) {
        const Tensor* t = g_.constant(v);
        if (!t) throw bad_input("the bounds are not constant").at(g_.describe(n));
        return at::Scalar(t->at(0));
      }
      if (n.has_attr(key)) return at::Scalar(n.attr_float(key, 0));
      return c10::nullopt;
    };
    const auto lo = bound(i1, "min"), hi = bound(i2, "max");
    go = [=](Run& r) { r.v[ix(o)] = lo || hi ? at::clamp(r.v[ix(i0)], lo, hi) : r.v[ix(i0)]; };
  } else if (op == "MaxPool" || op == "AveragePool") {
    const auto k = n.attr_ints("kernel_shape", {});
    if (k.size() != 2) throw bad_input("a pool over {} axes", k.size()).at(g_.describe(n)).expected("two");
    const auto stride = n.attr_ints("strides", {1, 1}), dilation = n.attr_ints("dilations", {1, 1});
    const bool ceil = n.attr_int("ceil_mode", 0) != 0, include = n.attr_int("count_include_pad", 0) != 0, max = op == "MaxPool";
    go = [=](Run& r) {
      at::Tensor x = r.v[ix(i0)];
      const Pads p = pads_of(node, x, k[0], k[1], stride, dilation);
      const bool native = p.symmetric() && 2 * p.top <= k[0] && 2 * p.left <= k[1];
      std::vector<std::int64_t> pad{p.top, p.left};
      const std::vector<std::int64_t> all{p.left, p.right, p.top, p.bottom};
      if (max) {
        if (!native) {
          x = at::constant_pad_nd(x, all, -INFINITY);
          pad = {0, 0};
        }
        r.v[ix(o)] = at::max_pool2d(x, k, stride, pad, dilation, ceil);
      } else if (native) {
        r.v[ix(o)] = at::avg_pool2d(x, k, stride, pad, ceil, include);
      } else {
        const at::Tensor padded = at::constant_pad_nd(x, all, 0);
        at::Tensor y = at::avg_pool2d(padded, k, stride, {0, 0}, ceil, true);
        if (!include) {
          const at::Tensor ones = at::constant_pad_nd(at::ones({1, 1, x.size(2), x.size(3)}, x.options()), all, 0);
          y = y / at::avg_pool2d(ones, k, stride, {0, 0}, ceil, true);
        }
        r.v[ix(o)] = y;
      }
    };
  } else if (op == "GlobalAveragePool") {
    go = [=](Run& r) {
      std::vector<std::int64_t> axes(static_cast<std::size_t>(r.v[ix(i0)].dim() - 2));
      std::iota(axes.begin(), axes.end(), 2);
      r.v[ix(o)] = at::mean(r.v[ix(i0)], axes, true);
    };
  } else if (op == "Flatten") {
    const std::int64_t axis0 = n.attr_int("axis", 1);
    go = [=](Run& r) {
      const at::Tensor& x = r.v[ix(i0)];
      const std::int64_t axis = axis0 < 0 ? axis0 + x.dim() : axis0;
      std::int64_t rows = 1;
      for (std::int64_t d = 0; d < axis; ++d) rows *= x.size(d);
      r.v[ix(o)] = x.reshape({rows, rows ? x.numel() / rows : 0});
    };
  } else if (op == "Reshape") {
    const bool allow_zero = n.attr_int("allowzero", 0) != 0;
    go = [=](Run& r) {
      const at::Tensor& x = r.v[ix(i0)];
      const at::Tensor s = r.v[ix(i1)].contiguous();
      std::vector<std::int64_t> shape(s.data_ptr<std::int64_t>(), s.data_ptr<std::int64_t>() + s.numel());
      for (std::size_t d = 0; d < shape.size(); ++d)
        if (shape[d] == 0 && !allow_zero) shape[d] = x.size(static_cast<std::int64_t>(d));
      r.v[ix(o)] = x.reshape(shape);
    };
  } else if (op == "Squeeze" || op == "Unsqueeze") {
    std::vector<std::int64_t> axes = i1 != ir::kNone ? ints(n, 1) : n.attr_ints("axes", {});
    const bool squeeze = op == "Squeeze", every = axes.empty();
    go = [=](Run& r) {
      at::Tensor x = r.v[ix(i0)];
      const std::int64_t rank = squeeze ? x.dim() : x.dim() + static_cast<std::int64_t>(axes.size());
      std::vector<std::int64_t> a = axes;
      for (auto& v : a)
        if (v < 0) v += rank;
      std::sort(a.begin(), a.end());
      if (squeeze && every) x = x.squeeze();
      else if (squeeze)
        for (auto it = a.rbegin(); it != a.rend(); ++it) x = x.squeeze(*it);
      else
        for (auto v : a) x = x.unsqueeze(v);
      r.v[ix(o)] = x;
    };
  } else if (op == "Shape") {
    const std::int64_t start = n.attr_int("start", 0), end = n.attr_int("end", INT64_MAX);
    go = [=](Run& r) {
      const at::Tensor& x = r.v[ix(i0)];
      auto clip = [&](std::int64_t v) { return std::clamp<std::int64_t>(v < 0 ? v + x.dim() : v, 0, x.dim()); };
      std::vector<std::int64_t> s;
      for (std::int64_t d = clip(start); d < clip(end); ++d) s.push_back(x.size(d));
      r.v[ix(o)] = at::tensor(s, at::TensorOptions().dtype(at::kLong));
    };
  } else if (op == "Gather") {
    const std::int64_t axis0 = n.attr_int("axis", 0);
    go = [=](Run& r) {
      const at::Tensor& x = r.v[ix(i0)];
      const std::int64_t axis = axis0 < 0 ? axis0 + x.dim() : axis0;
      at::Tensor index = r.v[ix(i1)].to(at::kLong);
      index = at::where(index < 0, index + x.size(axis), index);
      std::vector<std::int64_t> shape(x.sizes().begin(), x.sizes().begin() + axis);
      shape.insert(shape.end(), index.sizes().begin(), index.sizes().end());
      shape.insert(shape.end(), x.sizes().begin() + axis + 1, x.sizes().end());
      r.v[ix(o)] = at::index_select(x, axis, index.flatten()).reshape(shape);
    };
  } else if (op == "Transpose") {
    const auto perm = n.attr_ints("perm", {});
    go = [=](Run& r) {
      std::vector<std::int64_t> p = perm;
      if (p.empty())
        for (std::int64_t d = r.v[ix(i0)].dim(); d-- > 0;) p.push_back(d);
      r.v[ix(o)] = r.v[ix(i0)].permute(p);
    };
  } else if (op == "Concat") {
    const std::int64_t axis = n.attr_int("axis", 0);
    go = [=](Run& r) {
      std::vector<at::Tensor> parts;
      for (ValueId v : node.inputs) parts.push_back(r.v[ix(v)]);
      r.v[ix(o)] = at::cat(parts, axis);
    };
  } else if (op == "ArgMax") {
    const std::int64_t axis = n.attr_int("axis", 0);
    const bool keep = n.attr_int("keepdims", 1) != 0, last = n.attr_int("select_last_index", 0) != 0;
    go = [=](Run& r) {
      const at::Tensor x = r.v[ix(i0)].detach();
      if (!last) r.v[ix(o)] = std::get<1>(at::max(x, axis, keep));
      else r.v[ix(o)] = x.size(axis) - 1 - std::get<1>(at::max(at::flip(x, {axis}), axis, keep));
    };
  } else if (op == "Softmax") {
    const std::int64_t axis = n.attr_int("axis", g_.opset >= 13 ? -1 : 1);
    go = [=](Run& r) { r.v[ix(o)] = at::softmax(r.v[ix(i0)], axis); };
  } else if (op == "Identity") {
    go = [=](Run& r) { r.v[ix(o)] = r.v[ix(i0)]; };
  } else if (op == "Dropout") {
    double ratio = n.attr_float("ratio", 0.5);
    if (i1 != ir::kNone) {
      const Tensor* t = g_.constant(i1);
      if (!t) throw bad_input("the ratio is not constant").at(g_.describe(n));
      ratio = t->at(0);
    }
    const std::string stream = "dropout:" + g_.values[ix(o)].name;
    go = [=](Run& r) {
      const at::Tensor& x = r.v[ix(i0)];
      if (r.mode != Mode::training || ratio <= 0) {
        r.v[ix(o)] = x;
        return;
      }
      at::Tensor mask = at::empty(x.sizes(), at::TensorOptions().dtype(at::kDouble));
      Rng rng = r.rng.fork(stream);
      double* m = mask.data_ptr<double>();
      for (std::int64_t i = 0; i < mask.numel(); ++i) m[i] = rng.uniform() < ratio ? 0 : 1 / (1 - ratio);
      r.v[ix(o)] = x * mask.to(x.scalar_type());
    };
  } else {
    throw bad_input("this operator cannot be trained").at(g_.describe(n)).expected("an operator that 'tandem ops' lists for train");
  }
}

void Lowering::begin(Run& r, Mode mode) {
  r.mode = mode;
  r.v = base_;
}
void Lowering::forward(Run& r) {
  for (auto& i : code_) guarded(i.where, [&] { i.go(r); });
}

std::vector<Tensor> Lowering::run(const std::vector<Tensor>& inputs, Mode mode) {
  const at::NoGradGuard guard;
  Run r;
  begin(r, mode);
  TANDEM_CHECK(inputs.size() == g_.inputs.size(), "{} inputs for {}", inputs.size(), g_.inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i)
    r.v[ix(g_.inputs[i])] = to_torch(inputs[i], real_, is_float(g_.values[ix(g_.inputs[i])].type.dtype));
  forward(r);
  std::vector<Tensor> out;
  for (ValueId v : g_.outputs) out.push_back(from_torch(r.v[ix(v)]));
  return out;
}

std::vector<Tensor> Lowering::gradients(const std::vector<Tensor>& inputs, const std::vector<Tensor>& cotangents,
                                        const std::vector<std::string>& wrt, Mode mode) {
  Run r;
  begin(r, mode);
  for (std::size_t i = 0; i < inputs.size(); ++i)
    r.v[ix(g_.inputs[i])] = to_torch(inputs[i], real_, is_float(g_.values[ix(g_.inputs[i])].type.dtype));
  std::vector<at::Tensor> at_values;
  for (const std::string& name : wrt) {
    const ValueId v = g_.find(name);
    if (v == ir::kNone || !r.v[ix(v)].defined()) throw bad_input("'{}' is neither an input nor an initialiser", printable(name));
    r.v[ix(v)] = r.v[ix(v)].detach().clone().set_requires_grad(true);
    at_values.push_back(r.v[ix(v)]);
  }
  forward(r);
  return guarded("backward pass", [&] {
    variable_list ys, gs;
    for (std::size_t i = 0; i < g_.outputs.size(); ++i) {
      const at::Tensor& y = r.v[ix(g_.outputs[i])];
      if (!y.requires_grad()) continue;
      ys.push_back(y);
      gs.push_back(to_torch(cotangents[i], real_));
    }
    std::vector<Tensor> out;
    variable_list grads(at_values.size());
    if (!ys.empty()) grads = torch::autograd::grad(ys, at_values, gs, c10::nullopt, false, true);
    for (std::size_t i = 0; i < grads.size(); ++i)
      out.push_back(from_torch(grads[i].defined() ? grads[i] : at::zeros_like(at_values[i])));
    return out;
  });
}

Tensor Lowering::get(std::string_view name) const {
  const ValueId v = g_.find(name);
  if (v == ir::kNone || !base_[ix(v)].defined()) throw bad_input("there is no initialiser '{}'", printable(name));
  return from_torch(base_[ix(v)]);
}
void Lowering::set(std::string_view name, const Tensor& t) {
  const ValueId v = g_.find(name);
  if (v == ir::kNone || !base_[ix(v)].defined()) throw bad_input("there is no initialiser '{}'", printable(name));
  at::Tensor dst = base_[ix(v)].detach();
  if (t.shape() != Shape(dst.sizes().vec()))
    throw bad_input("'{}' has shape {}", printable(name), to_string(t.shape())).expected(to_string(Shape(dst.sizes().vec())));
  dst.copy_(to_torch(t, real_));
}

std::vector<Leaf>& Lowering::leaves(const std::vector<std::string>& freeze) {
  if (!leaves_.empty()) return leaves_;
  TANDEM_CHECK(real_ == at::kFloat, "training runs in f32");
  // A weight may be read through a quantiser: the contraction's operand, or what its Quant reads.
  const ir::UseMap uses(g_);
  std::map<ValueId, Leaf> found;
  auto add = [&](ValueId v, bool decay) {
    if (v == ir::kNone) return;
    const Tensor* t = g_.constant(v);
    if (!t) {
      const int p = uses.producer[ix(v)];
      if (p < 0) return;
      const Node& q = g_.nodes[static_cast<std::size_t>(p)];
      if (q.op != "Quant" && q.op != "BipolarQuant" && q.op != "Identity" && q.op != "Transpose" && q.op != "Reshape") return;
      v = q.in(0);
      t = g_.constant(v);
    }
    if (!t || !is_float(t->dtype())) return;
    Leaf& l = found[v];
    l.decay = l.decay || decay;
  };
  for (const Node& n : g_.nodes) {
    if (n.op == "Conv" || n.op == "Gemm" || n.op == "MatMul") {
      add(n.in(0), true);
      add(n.in(1), true);
      add(n.in(2), false);
    } else if (n.op == "BatchNormalization") {
      add(n.in(1), false);
      add(n.in(2), false);
    } else if (n.op == "Add") {
      add(n.in(0), false);
      add(n.in(1), false);
    }
  }
  for (auto& r : rules_)
    if (r->source == ScaleSource::learned) found[r->scale].scale = true;
  for (auto& [v, l] : found) {
    l.name = g_.values[ix(v)].name;
    if (std::any_of(freeze.begin(), freeze.end(), [&](const std::string& p) { return ir::name_matches(p, l.name); })) continue;
    base_[ix(v)].set_requires_grad(true);
    base_[ix(v)].mutable_grad() = at::zeros_like(base_[ix(v)]);
    l.shape = base_[ix(v)].sizes().vec();
    l.size = base_[ix(v)].numel();
    l.value = base_[ix(v)].data_ptr<float>();
    l.gradient = base_[ix(v)].mutable_grad().data_ptr<float>();
    leaves_.push_back(l);
  }
  return leaves_;
}

void Lowering::load(int part, const Examples& e) {
  Part p;
  p.x = to_torch(e.x, real_, true);
  p.label = at::empty({static_cast<std::int64_t>(e.label.size())}, at::TensorOptions().dtype(at::kLong));
  std::copy(e.label.begin(), e.label.end(), p.label.data_ptr<std::int64_t>());
  parts_[part] = std::move(p);
}

at::Tensor Lowering::rows_of(int part, std::span<const std::int64_t> rows, int shift, const Rng* rng, at::Tensor& label) {
  const Part& p = parts_.at(part);
  at::Tensor index = at::empty({static_cast<std::int64_t>(rows.size())}, at::TensorOptions().dtype(at::kLong));
  std::copy(rows.begin(), rows.end(), index.data_ptr<std::int64_t>());
  label = at::index_select(p.label, 0, index);
  at::Tensor x = at::index_select(p.x, 0, index);
  if (shift > 0 && x.dim() == 4) {
    at::Tensor moved = at::zeros_like(x);
    const std::int64_t c = x.size(1), h = x.size(2), w = x.size(3);
    const float* src = x.data_ptr<float>();
    float* dst = moved.data_ptr<float>();
    Rng r = rng->fork("shift");
    for (std::int64_t b = 0; b < x.size(0); ++b) {
      const std::int64_t dy = r.range(-shift, shift), dx = r.range(-shift, shift);
      for (std::int64_t k = 0; k < c; ++k)
        for (std::int64_t i = std::max<std::int64_t>(0, dy); i < std::min(h, h + dy); ++i)
          for (std::int64_t j = std::max<std::int64_t>(0, dx); j < std::min(w, w + dx); ++j)
            dst[((b * c + k) * h + i) * w + j] = src[((b * c + k) * h + i - dy) * w + j - dx];
    }
    x = moved;
  }
  return x;
}

StepResult Lowering::step(int part, std::span<const std::int64_t> rows, double smoothing, int shift, const Rng& rng) {
  Run r;
  begin(r, Mode::training);
  r.rng = rng;
  at::Tensor label;
  r.v[ix(g_.inputs.at(0))] = rows_of(part, rows, shift, &rng, label);
  forward(r);
  return guarded("loss and backward pass", [&] {
    const at::Tensor& y = r.v[ix(g_.outputs.at(0))];
    const at::Tensor loss = at::cross_entropy_loss(y, label, {}, at::Reduction::Mean, -100, smoothing);
    for (Leaf& l : leaves_) std::memset(l.gradient, 0, sizeof(float) * static_cast<std::size_t>(l.size));
    StepResult s;
    s.loss = loss.item<double>();
    if (!std::isfinite(s.loss)) return s;
    loss.backward();
    s.correct = at::eq(at::argmax(y.detach(), 1), label).sum().item<std::int64_t>();
    for (auto& rule : rules_)
      if (rule->source == ScaleSource::learned)
        for (Leaf& l : leaves_)
          if (l.scale && l.value == base_[ix(rule->scale)].data_ptr<float>()) l.lsq_count = rule->count;
    return s;
  });
}

StepResult Lowering::score(int part, std::int64_t batch) {
  const at::NoGradGuard guard;
  StepResult total;
  const Part& p = parts_.at(part);
  const std::int64_t n = p.x.size(0);
  for (std::int64_t first = 0; first < n; first += batch) {
    const std::int64_t last = std::min(n, first + batch);
    Run r;
    begin(r, Mode::evaluation);
    r.v[ix(g_.inputs.at(0))] = p.x.slice(0, first, last);
    forward(r);
    const at::Tensor& y = r.v[ix(g_.outputs.at(0))];
    const at::Tensor label = p.label.slice(0, first, last);
    total.loss += at::cross_entropy_loss(y, label, {}, at::Reduction::Sum).item<double>();
    total.correct += at::eq(at::argmax(y, 1), label).sum().item<std::int64_t>();
  }
  total.loss /= static_cast<double>(std::max<std::int64_t>(n, 1));
  return total;
}

void Lowering::calibrate(int part, std::span<const std::int64_t> rows) {
  const at::NoGradGuard guard;
  Run r;
  begin(r, Mode::training);  // BatchNorm by this batch: the statistics are still those of no data
  r.calibrate = true;
  at::Tensor label;
  r.v[ix(g_.inputs.at(0))] = rows_of(part, rows, 0, nullptr, label);
  forward(r);
}

void Lowering::refresh() {
  for (auto& rule : rules_)
    if (rule->weight && rule->source == ScaleSource::absmax) set_scale(*rule, base_[ix(rule->x)], false, false);
}

std::string Lowering::first_non_finite(int part, std::span<const std::int64_t> rows) {
  const at::NoGradGuard guard;
  Run r;
  begin(r, Mode::evaluation);
  at::Tensor label;
  r.v[ix(g_.inputs.at(0))] = rows_of(part, rows, 0, nullptr, label);
  auto finite = [](const at::Tensor& t) { return !t.defined() || !t.is_floating_point() || at::isfinite(t).all().item<bool>(); };
  for (auto& i : code_) {
    guarded(i.where, [&] { i.go(r); });
    for (ValueId v : i.out)
      if (v != ir::kNone && !finite(r.v[ix(v)])) return i.where;
  }
  return "";
}

std::vector<std::string> Lowering::state_names() const {
  std::set<ValueId> s;
  for (const Leaf& l : leaves_) s.insert(g_.find(l.name));
  for (const Node& n : g_.nodes)
    if (n.op == "BatchNormalization") {
      s.insert(n.in(3));
      s.insert(n.in(4));
    }
  for (const auto& r : rules_)
    if (r->source != ScaleSource::fixed) s.insert(r->scale);
  std::vector<std::string> names;
  for (ValueId v : s) names.push_back(g_.values[ix(v)].name);
  return names;
}

}  // namespace

std::unique_ptr<Lowered> lower_eager(const ir::Graph& g, DType precision) { return std::make_unique<Lowering>(g, precision); }

void set_learner_threads(int n) { at::set_num_threads(n); }

std::string library_version() {
  const char* cpu = "baseline";
#if defined(__x86_64__)
  __builtin_cpu_init();
  cpu = __builtin_cpu_supports("avx512f") ? "AVX-512" : __builtin_cpu_supports("avx2") ? "AVX2" : "SSE2";
#endif
  return fmt::format("libtorch {}, {}", TORCH_VERSION, cpu);
}

}  // namespace tandem::train
