// The plug-in: oneDNN behind exec/library.h. The only file that includes it.
#include <dnnl.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tandem/exec/library.h"

extern "C" void omp_set_num_threads(int);

namespace tandem::exec {
namespace {

using dnnl::memory;
using dims = memory::dims;
using tag = memory::format_tag;
constexpr auto f32 = memory::data_type::f32;

class Desc : public Layout {
 public:
  explicit Desc(memory::desc d) : desc(std::move(d)) {}
  bool same(const Layout& o) const override { return desc == static_cast<const Desc&>(o).desc; }
  memory::desc desc;
};

dims row_major(const Shape& s) {
  dims d(s.size(), 1);
  for (std::size_t i = s.size(); i-- > 1;) d[i - 1] = d[i] * s[i];
  return d;
}
memory::desc plain(const Shape& s) { return {dims(s.begin(), s.end()), f32, row_major(s)}; }
memory::desc any(const Shape& s) { return {dims(s.begin(), s.end()), f32, tag::any}; }
LayoutPtr layout_of(const memory::desc& d, const Shape& s) { return d == plain(s) ? nullptr : std::make_shared<Desc>(d); }
memory::desc desc_of(const LayoutPtr& l, const Shape& s) { return l ? static_cast<const Desc&>(*l).desc : plain(s); }

// A primitive with its memories; pointers are told only when they change.
struct Bound {
  dnnl::primitive primitive;
  std::vector<int> slots;               // argument names of the inputs, the output, the scratch
  std::vector<memory> held;             // prepared weights
  std::unordered_map<int, memory> args;
  dnnl::stream stream;
  void run(const void* const* in, void* out, std::byte* scratch) {
    const std::size_t n = slots.size() - 2;
    for (std::size_t i = 0; i < n; ++i) point(slots[i], const_cast<void*>(in[i]));
    point(slots[n], out);
    if (slots[n + 1]) point(slots[n + 1], scratch);
    primitive.execute(stream, args);
    stream.wait();
  }
  void point(int slot, void* p) {
    memory& m = args.at(slot);
    if (m.get_data_handle() != p) m.set_data_handle(p);
  }
};

class OneDnn : public Library {
 public:
  OneDnn() : engine_(dnnl::engine::kind::cpu, 0) {}
  std::string version() const override {
    const auto* v = dnnl::version();
    return "oneDNN " + std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
  }
  void set_threads(int n) override { omp_set_num_threads(n); }

  std::optional<Operation> convolution(const ConvolutionSpec& s) override {
    return guarded([&]() -> Operation {
      const std::size_t rank = s.x.size() - 2;
      dims dilation;
      for (auto d : s.dilation) dilation.push_back(d - 1);
      const dims stride(s.stride.begin(), s.stride.end()), before(s.before.begin(), s.before.end()), after(s.after.begin(), s.after.end());
      // ONNX's weights: [o, i/g, ...], transposed [i, o/g, ...].
      Shape w = s.w;
      dims w_strides = row_major(s.w);
      if (s.group > 1) w[0] /= s.group, w.insert(w.begin(), s.group), w_strides = row_major(w);
      const std::size_t o = s.group > 1 ? 1 : 0;
      if (s.transposed) std::swap(w[o], w[o + 1]), std::swap(w_strides[o], w_strides[o + 1]);
      const memory::desc given(dims(w.begin(), w.end()), f32, w_strides);
      const memory::desc bias = s.bias ? memory::desc({s.y[1]}, f32, tag::x) : memory::desc();
      dnnl::primitive_attr attr = attributes();
      dnnl::post_ops post;
      if (s.sum) post.append_sum(1.f);
      if (s.clamp) add_clamp(post, *s.clamp);
      attr.set_post_ops(post);
      (void)rank;
      if (!s.transposed) {
        const dnnl::convolution_forward::desc d(dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, any(s.x), any(w), bias, any(s.y), stride, dilation, before, after);
        const dnnl::convolution_forward::primitive_desc p(d, attr, engine_);
        return weighted(dnnl::convolution_forward(p), p, s, given);
      }
      const dnnl::deconvolution_forward::desc d(dnnl::prop_kind::forward_inference, dnnl::algorithm::deconvolution_direct, any(s.x), any(w), bias, any(s.y), stride, dilation, before, after);
      const dnnl::deconvolution_forward::primitive_desc p(d, attr, engine_);
      return weighted(dnnl::deconvolution_forward(p), p, s, given);
    });
  }

  std::optional<Operation> pool(const PoolSpec& s, const LayoutPtr& x) override {
    return guarded([&] {
      const auto kind = s.kind == PoolSpec::max ? dnnl::algorithm::pooling_max : s.kind == PoolSpec::mean_all ? dnnl::algorithm::pooling_avg_include_padding : dnnl::algorithm::pooling_avg_exclude_padding;
      const dims stride(s.stride.begin(), s.stride.end()), kernel(s.kernel.begin(), s.kernel.end()), before(s.before.begin(), s.before.end()), after(s.after.begin(), s.after.end());
      const dnnl::pooling_forward::desc d(dnnl::prop_kind::forward_inference, kind, desc_of(x, s.x), any(s.y), stride, kernel, before, after);
      const dnnl::pooling_forward::primitive_desc p(d, attributes(), engine_);
      Bound b{dnnl::pooling_forward(p), {}, {}, {}, {}};
      return operation(std::move(b), {{DNNL_ARG_SRC, p.src_desc()}}, p.dst_desc(), p.scratchpad_desc(), x, layout_of(p.dst_desc(), s.y));
    });
  }

  std::optional<Operation> matmul(const MatMulSpec& s) override {
    return guarded([&] {
      const auto matrix = [](const Shape& s, bool trans) {
        Shape t = s;
        dims strides = row_major(s);
        if (trans) std::swap(t[0], t[1]), std::swap(strides[0], strides[1]);
        return memory::desc(dims(t.begin(), t.end()), f32, strides);
      };
      const memory::desc a = matrix(s.a, s.trans_a), given = matrix(s.b, s.trans_b), y = plain(s.y);
      const memory::desc wanted = s.weights ? memory::desc(given.dims(), f32, tag::any) : given;
      dims bias_dims(s.y.size(), 1);
      bias_dims.back() = s.y.back();
      const memory::desc bias = s.bias ? memory::desc(bias_dims, f32, row_major(Shape(bias_dims.begin(), bias_dims.end()))) : memory::desc();
      dnnl::primitive_attr attr = attributes();
      // The scale reaches the bias too: not where there are both.
      if (s.alpha != 1 && s.bias) throw dnnl::error(dnnl_unimplemented, "alpha and bias");
      if (s.alpha != 1) attr.set_output_scales(0, {s.alpha});
      const dnnl::matmul::desc d = s.bias ? dnnl::matmul::desc(a, wanted, bias, y) : dnnl::matmul::desc(a, wanted, y);
      const dnnl::matmul::primitive_desc p(d, attr, engine_);
      Bound b{dnnl::matmul(p), {}, {}, {}, {}};
      std::vector<std::pair<int, memory::desc>> in{{DNNL_ARG_SRC, a}};
      if (s.weights) hold(b, DNNL_ARG_WEIGHTS, s.weights, given, p.weights_desc());
      else in.emplace_back(DNNL_ARG_WEIGHTS, given);
      if (s.bias) hold(b, DNNL_ARG_BIAS, s.bias, bias, bias);
      return operation(std::move(b), in, y, p.scratchpad_desc(), nullptr, nullptr);
    });
  }

  std::optional<Operation> clamp(const Shape& x, const LayoutPtr& layout, const Clamp& c) override {
    return guarded([&] {
      const memory::desc m = desc_of(layout, x);
      const bool relu = c.lo == 0 && std::isinf(c.hi);
      const dnnl::eltwise_forward::desc d(dnnl::prop_kind::forward_inference, relu ? dnnl::algorithm::eltwise_relu : dnnl::algorithm::eltwise_clip, m, relu ? 0.f : c.lo, relu ? 0.f : c.hi);
      const dnnl::eltwise_forward::primitive_desc p(d, attributes(), engine_);
      Bound b{dnnl::eltwise_forward(p), {}, {}, {}, {}};
      return operation(std::move(b), {{DNNL_ARG_SRC, m}}, m, p.scratchpad_desc(), layout, layout);
    });
  }
  std::optional<Operation> add(const Shape& x, const LayoutPtr& layout) override {
    return guarded([&] {
      const memory::desc m = desc_of(layout, x);
      const dnnl::binary::desc d(dnnl::algorithm::binary_add, m, m, m);
      const dnnl::binary::primitive_desc p(d, attributes(), engine_);
      Bound b{dnnl::binary(p), {}, {}, {}, {}};
      return operation(std::move(b), {{DNNL_ARG_SRC_0, m}, {DNNL_ARG_SRC_1, m}}, m, p.scratchpad_desc(), layout, layout);
    });
  }
  Operation reorder(const Shape& x, const LayoutPtr& from, const LayoutPtr& to) override {
    const memory::desc a = desc_of(from, x), c = desc_of(to, x);
    const dnnl::reorder::primitive_desc p(engine_, a, engine_, c, attributes());
    Bound b{dnnl::reorder(p), {}, {}, {}, {}};
    return operation(std::move(b), {{DNNL_ARG_FROM, a}}, c, p.scratchpad_desc(), from, to, DNNL_ARG_TO);
  }

 private:
  static dnnl::primitive_attr attributes() {
    dnnl::primitive_attr a;
    a.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return a;
  }
  static void add_clamp(dnnl::post_ops& post, const Clamp& c) {
    if (c.lo == 0 && std::isinf(c.hi)) post.append_eltwise(1.f, dnnl::algorithm::eltwise_relu, 0.f, 0.f);
    else post.append_eltwise(1.f, dnnl::algorithm::eltwise_clip, c.lo, c.hi);
  }
  template <class F>
  std::optional<Operation> guarded(F f) {
    try {
      return f();
    } catch (const dnnl::error&) {
      return std::nullopt;  // it has no implementation of this case
    }
  }
  void hold(Bound& b, int slot, const float* data, const memory::desc& given, const memory::desc& wanted) {
    memory to(wanted, engine_);
    memory from(given, engine_, const_cast<float*>(data));
    dnnl::stream s(engine_);
    dnnl::reorder(from, to).execute(s, from, to);
    s.wait();
    b.args[slot] = to;
    b.held.push_back(to);
  }
  template <class P>
  Operation weighted(dnnl::primitive primitive, const P& p, const ConvolutionSpec& s, const memory::desc& given) {
    Bound b{std::move(primitive), {}, {}, {}, {}};
    hold(b, DNNL_ARG_WEIGHTS, s.weights, given, p.weights_desc());
    if (s.bias) hold(b, DNNL_ARG_BIAS, s.bias, p.bias_desc(), p.bias_desc());
    return operation(std::move(b), {{DNNL_ARG_SRC, p.src_desc()}}, p.dst_desc(), p.scratchpad_desc(), layout_of(p.src_desc(), s.x), layout_of(p.dst_desc(), s.y));
  }
  Operation operation(Bound b, const std::vector<std::pair<int, memory::desc>>& in, const memory::desc& out, const memory::desc& scratch, LayoutPtr from, LayoutPtr to, int out_slot = DNNL_ARG_DST) {
    Operation o;
    for (const auto& [slot, d] : in) b.slots.push_back(slot), b.args[slot] = memory(d, engine_, DNNL_MEMORY_NONE);
    b.slots.push_back(out_slot);
    b.args[out_slot] = memory(out, engine_, DNNL_MEMORY_NONE);
    const bool scratched = scratch.get_size() > 0;
    b.slots.push_back(scratched ? DNNL_ARG_SCRATCHPAD : 0);
    if (scratched) b.args[DNNL_ARG_SCRATCHPAD] = memory(scratch, engine_, DNNL_MEMORY_NONE);
    b.stream = dnnl::stream(engine_);
    for (const memory& m : b.held) o.held += m.get_desc().get_size();
    o.scratch = scratch.get_size();
    o.out_bytes = out.get_size();
    o.in = std::move(from), o.out = std::move(to);
    o.run = [bound = std::make_shared<Bound>(std::move(b))](const void* const* in, void* out, std::byte* scratch) { bound->run(in, out, scratch); };
    return o;
  }

  dnnl::engine engine_;
};

}  // namespace
}  // namespace tandem::exec

tandem::exec::Library* tandem_onednn_v1() {
  static auto* library = new tandem::exec::OneDnn;  // never destroyed: executors may outlive static destruction
  return library;
}
