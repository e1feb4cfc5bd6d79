// Evaluation mode, bit-exact: exec runs the program, libtorch takes the contractions whose every partial
// sum is exact in f32 or f64. im2col and a matrix product, not conv2d: convolution libraries may choose
// Winograd or FFT, which are not exact.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "tandem/exec/exec.h"
#include "tandem/train/lowered.h"

namespace tandem::train {
namespace {

std::size_t at_(std::int64_t i) { return static_cast<std::size_t>(i); }

enum class Way { f32, f64, exec };

double magnitude(const ir::Buffer& b) { return std::max(std::abs(static_cast<double>(b.lo)), std::abs(static_cast<double>(b.hi))); }

// Largest sum of absolute products: bounds every partial sum in every order.
double span_of(const ir::Step& s, const ir::ExactProgram& p) {
  const double x = magnitude(p.buffers[at_(s.in[0])]);
  if (const auto* c = std::get_if<ir::IntConv>(&s.params)) {
    const std::int64_t taps = c->in_channels / c->group * c->kh * c->kw;
    double worst = 0;
    for (std::int64_t o = 0; o < c->out_channels; ++o) {
      double sum = 0;
      for (std::int64_t k = 0; k < taps; ++k) sum += std::abs(static_cast<double>(c->weights[at_(o * taps + k)]));
      worst = std::max(worst, sum);
    }
    return std::max({worst * x, x, worst});
  }
  const auto& m = std::get<ir::IntMatMul>(s.params);
  if (m.weights.empty()) return std::max(1.0, x) * std::max(1.0, magnitude(p.buffers[at_(s.in[1])])) * static_cast<double>(m.k);
  double worst = 0;
  for (std::int64_t j = 0; j < m.m; ++j) {
    double sum = 0;
    for (std::int64_t k = 0; k < m.k; ++k) sum += std::abs(static_cast<double>(m.weights[at_(k * m.m + j)]));
    worst = std::max(worst, sum);
  }
  return std::max({worst * x, x, worst});
}

template <class T>
at::Tensor tensor_of(const std::vector<std::int64_t>& v, const std::vector<std::int64_t>& shape) {
  at::Tensor t = at::empty(shape, at::TensorOptions().dtype(sizeof(T) == 4 ? at::kFloat : at::kDouble));
  T* p = t.data_ptr<T>();
  for (std::size_t i = 0; i < v.size(); ++i) p[i] = static_cast<T>(v[i]);
  return t;
}
template <class T>
void copy_out(const at::Tensor& t0, std::vector<std::int64_t>& y) {
  const at::Tensor t = t0.contiguous();
  TANDEM_CHECK(static_cast<std::size_t>(t.numel()) == y.size(), "a contraction gave {} values for {}", t.numel(), y.size());
  const T* p = t.data_ptr<T>();
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<std::int64_t>(p[i]);
}

template <class T>
void conv(const ir::IntConv& c, const Shape& shape, const std::vector<std::int64_t>& x, std::vector<std::int64_t>& y) {
  at::Tensor in = tensor_of<T>(x, shape);
  in = at::constant_pad_nd(in, {c.pad_left, c.pad_right, c.pad_top, c.pad_bottom}, 0);
  const std::int64_t taps = c.in_channels / c.group * c.kh * c.kw;
  const at::Tensor cols = at::im2col(in, {c.kh, c.kw}, {c.dilation_h, c.dilation_w}, {0, 0}, {c.stride_h, c.stride_w})
                              .reshape({shape[0], c.group, taps, -1});
  const at::Tensor w = tensor_of<T>(c.weights, {1, c.group, c.out_channels / c.group, taps});
  copy_out<T>(at::matmul(w, cols), y);
}

template <class T>
void matmul(const ir::IntMatMul& m, const ir::ExactProgram& p, const ir::Step& s, const std::vector<std::vector<std::int64_t>>& x,
            std::vector<std::int64_t>& y) {
  const at::Tensor a = tensor_of<T>(x[0], p.buffers[at_(s.in[0])].shape);
  const at::Tensor b = m.weights.empty() ? tensor_of<T>(x[1], p.buffers[at_(s.in[1])].shape) : tensor_of<T>(m.weights, {m.k, m.m});
  copy_out<T>(at::matmul(a, b), y);
}

class Exact final : public ExactModel {
 public:
  explicit Exact(const ir::Graph& bound) : executor_(ir::lower_exact(bound)) {
    const ir::ExactProgram& p = executor_.program();
    for (const ir::Step& s : p.steps) {
      if (!std::holds_alternative<ir::IntConv>(s.params) && !std::holds_alternative<ir::IntMatMul>(s.params)) continue;
      const double span = span_of(s, p);
      const Way way = span < 16777216.0 ? Way::f32 : span < 9007199254740992.0 ? Way::f64 : Way::exec;
      ways_[&s] = way;
      ++counts_[static_cast<std::size_t>(way)];
    }
    executor_.set_contraction_hook([this](const ir::Step& s, const std::vector<std::vector<std::int64_t>>& x, std::vector<std::int64_t>& y) {
      const auto it = ways_.find(&s);
      if (it == ways_.end() || it->second == Way::exec) return false;
      const at::NoGradGuard guard;
      try {
        const ir::ExactProgram& program = executor_.program();
        const bool f32 = it->second == Way::f32;
        if (const auto* c = std::get_if<ir::IntConv>(&s.params))
          (f32 ? conv<float> : conv<double>)(*c, program.buffers[at_(s.in[0])].shape, x[0], y);
        else
          (f32 ? matmul<float> : matmul<double>)(std::get<ir::IntMatMul>(s.params), program, s, x, y);
      } catch (const c10::Error& e) {
        throw bad_input("the learning library refused: {}", printable(e.what_without_backtrace())).at(s.node);
      }
      return true;
    });
  }
  std::vector<Tensor> run(const std::vector<Tensor>& inputs) override { return executor_.run(inputs); }
  std::array<int, 3> contractions() const override { return counts_; }

 private:
  exec::Executor executor_;
  std::map<const ir::Step*, Way> ways_;
  std::array<int, 3> counts_{};
};

}  // namespace

std::unique_ptr<ExactModel> lower_exact_model(const ir::Graph& bound) { return std::make_unique<Exact>(bound); }

}  // namespace tandem::train
