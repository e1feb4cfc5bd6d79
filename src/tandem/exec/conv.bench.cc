// Convolutions and matrix products of ours beside oneDNN's, in one process, turn by turn: the ratio is what counts.
// Goals, of oneDNN's speed with the instructions up to VNNI (DNNL_MAX_CPU_ISA is set here unless it was set; with ALL it is uncapped):
//   exact int8 convolution >= 0.65, exact int8 matrix product >= 0.8, each with one thread and with two;
//   ResNet-18 in f32, planned, within 1.1 of a plain program of oneDNN's primitives on the same layers.
#if __has_include(<dnnl.hpp>)
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dnnl.hpp>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "tandem/base/rng.h"
#include "tandem/exec/float.h"
#include "tandem/exec/library.h"
#include "tandem/ir/op.h"
#include "tandem/numerics/int8.h"
#include "tandem/tool/process.h"
#include "tandem/tool/work.h"

extern "C" void omp_set_num_threads(int);

namespace tandem::exec {
namespace {

using dnnl::memory;
using tag = memory::format_tag;
using type = memory::data_type;

// Both are read when the libraries are loaded: the program starts itself again with them. Waiting passively is what the plug-in has too;
// a thread of OpenMP that spins would take the processor from ours.
const bool g_again = [] {
  if (std::getenv("OMP_WAIT_POLICY") && std::getenv("DNNL_MAX_CPU_ISA")) return false;
  setenv("OMP_WAIT_POLICY", "PASSIVE", 0);
  setenv("DNNL_MAX_CPU_ISA", "AVX512_CORE_VNNI", 0);
  std::ifstream f("/proc/self/cmdline");
  std::vector<std::string> words;
  for (std::string w; std::getline(f, w, '\0');) words.push_back(w);
  std::vector<char*> argv;
  for (std::string& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  if (!words.empty()) execv("/proc/self/exe", argv.data());
  return true;
}();
dnnl::engine& engine() {
  static dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}
dnnl::stream& stream() {
  static dnnl::stream s(engine());
  return s;
}
template <class T>
void fill(T* p, std::size_t n, std::uint64_t seed) {
  Rng r(seed, "bench");
  for (std::size_t i = 0; i < n; ++i) {
    if constexpr (std::is_floating_point_v<T>) p[i] = static_cast<T>(r.uniform() * 2 - 1);
    else p[i] = static_cast<T>(r.range(-128, 127));
  }
}
memory reordered(const memory& from, const memory::desc& to) {
  memory m(to, engine());
  memory source = from;
  dnnl::reorder(source, m).execute(stream(), source, m);
  stream().wait();
  return m;
}
double seconds(const std::function<void()>& f) {
  const auto t = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
}
double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}
// Ours and theirs by turns; the figure is the ratio of the medians: above 1 ours is faster.
void compare(benchmark::State& state, const std::function<void()>& ours, const std::function<void()>& theirs, double goal, double operations) {
  ours(), theirs();
  std::vector<double> a, b;
  for (auto _ : state) {
    a.push_back(seconds(ours));
    b.push_back(seconds(theirs));
  }
  state.counters["ours_ms"] = median(a) * 1e3;
  state.counters["onednn_ms"] = median(b) * 1e3;
  state.counters["ratio"] = median(b) / median(a);
  state.counters["share_of_goal"] = median(b) / median(a) / goal;
  if (operations > 0) state.counters["ours_gop/s"] = operations / median(a) * 1e-9, state.counters["onednn_gop/s"] = operations / median(b) * 1e-9;
}

struct Layer { std::int64_t extent, in, out, kernel, stride; };
// The convolutions of ResNet-18 and, with 1 by 1 windows, of ResNet-50.
const Layer kLayers[] = {{224, 3, 64, 7, 2}, {56, 64, 64, 3, 1}, {56, 64, 128, 3, 2}, {28, 128, 128, 3, 1}, {28, 128, 256, 3, 2}, {14, 256, 256, 3, 1}, {14, 256, 512, 3, 2}, {7, 512, 512, 3, 1},
                         {56, 64, 256, 1, 1}, {56, 256, 64, 1, 1}, {28, 512, 128, 1, 1}, {14, 1024, 256, 1, 1}};

struct Int8Pair {
  std::unique_ptr<Int8Convolution> ours;
  Lined<std::uint8_t> x;
  Lined<std::int32_t> y;
  dnnl::convolution_forward primitive;
  std::unordered_map<int, memory> args;
  double operations = 0;
  Int8Pair(const Layer& l, std::uint64_t seed) {
    Int8Geometry g;
    g.height = g.width = l.extent, g.in = l.in, g.out = l.out, g.kernel_h = g.kernel_w = l.kernel, g.stride_h = g.stride_w = l.stride;
    g.top = g.left = g.bottom = g.right = l.kernel / 2;
    std::vector<std::int8_t> w(static_cast<std::size_t>(l.out * l.kernel * l.kernel * l.in));
    fill(w.data(), w.size(), seed);
    ours = std::make_unique<Int8Convolution>(g, w.data());
    const std::int64_t o = g.out_height();
    x.resize(static_cast<std::size_t>(l.extent * l.extent * ours->channels() + 3));
    fill(x.data(), x.size(), seed + 1);
    y.resize(static_cast<std::size_t>(o * o * l.out));
    operations = 2.0 * static_cast<double>(o * o * l.out * l.kernel * l.kernel * l.in);
    const auto any = [](memory::dims d, type t) { return memory::desc(std::move(d), t, tag::any); };
    const memory::dims stride{l.stride, l.stride}, pad{l.kernel / 2, l.kernel / 2};
    const dnnl::convolution_forward::desc d(dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, any({1, l.in, l.extent, l.extent}, type::u8), any({l.out, l.in, l.kernel, l.kernel}, type::s8),
                                            any({1, l.out, o, o}, type::s32), stride, pad, pad);
    const dnnl::convolution_forward::primitive_desc p(d, engine());
    primitive = dnnl::convolution_forward(p);
    memory src({{1, l.in, l.extent, l.extent}, type::u8, tag::nhwc}, engine());
    for (std::int64_t i = 0; i < l.extent * l.extent; ++i) std::copy_n(x.data() + i * ours->channels(), l.in, static_cast<std::uint8_t*>(src.get_data_handle()) + i * l.in);
    const memory weights({{l.out, l.in, l.kernel, l.kernel}, type::s8, tag::ohwi}, engine(), w.data());
    args = {{DNNL_ARG_SRC, reordered(src, p.src_desc())}, {DNNL_ARG_WEIGHTS, reordered(weights, p.weights_desc())}, {DNNL_ARG_DST, memory(p.dst_desc(), engine())}};
    run_theirs();
    run_ours(1);
    memory back = reordered(args.at(DNNL_ARG_DST), {{1, l.out, o, o}, type::s32, tag::nhwc});
    if (!std::equal(y.begin(), y.end(), static_cast<const std::int32_t*>(back.get_data_handle()))) bug(__FILE__, __LINE__, "the two convolutions differ");
  }
  void run_ours(int threads) {
    Int8Options o;
    o.threads = threads;
    ours->run(x.data(), 1, y.data(), o);
  }
  void run_theirs() {
    primitive.execute(stream(), args);
    stream().wait();
  }
};

// Arg 0: threads. Arg 1: the layer, or -1: all of them, one after the other.
void Int8Conv(benchmark::State& state) {
  const int threads = static_cast<int>(state.range(0));
  omp_set_num_threads(threads);
  std::vector<std::unique_ptr<Int8Pair>> pairs;
  for (std::size_t i = 0; i < std::size(kLayers); ++i)
    if (state.range(1) < 0 || static_cast<std::size_t>(state.range(1)) == i) pairs.push_back(std::make_unique<Int8Pair>(kLayers[i], i));
  double operations = 0;
  for (const auto& p : pairs) operations += p->operations;
  compare(state, [&] { for (auto& p : pairs) p->run_ours(threads); }, [&] { for (auto& p : pairs) p->run_theirs(); }, 0.65, operations);
}
void conv_args(benchmark::internal::Benchmark* b) {
  for (int threads : {1, 2}) b->Args({threads, -1});
  for (int i = 0; i < static_cast<int>(std::size(kLayers)); ++i) b->Args({1, i});
}
BENCHMARK(Int8Conv)->Apply(conv_args)->UseRealTime()->MinTime(0.4)->Unit(benchmark::kMillisecond);

// Args: threads, rows, columns, depth.
void Int8Gemm(benchmark::State& state) {
  const int threads = static_cast<int>(state.range(0));
  const std::int64_t m = state.range(1), n = state.range(2), k = state.range(3);
  omp_set_num_threads(threads);
  Lined<std::uint8_t> a(static_cast<std::size_t>(m * k + 3));
  Lined<std::int8_t> w(static_cast<std::size_t>(n * k));
  Lined<std::int32_t> c(static_cast<std::size_t>(m * n));
  fill(a.data(), a.size(), 1), fill(w.data(), w.size(), 2);
  const Int8Weights packed = pack_int8(w.data(), n, 1, k, 1, n);  // [k, n] row-major
  const memory::desc ad({m, k}, type::u8, tag::ab), wd({k, n}, type::s8, tag::any), cd({m, n}, type::s32, tag::ab);
  const dnnl::matmul::primitive_desc p(dnnl::matmul::desc(ad, wd, cd), engine());
  const dnnl::matmul primitive(p);
  const memory given({{k, n}, type::s8, tag::ab}, engine(), w.data());
  std::unordered_map<int, memory> args{{DNNL_ARG_SRC, memory(ad, engine(), a.data())}, {DNNL_ARG_WEIGHTS, reordered(given, p.weights_desc())}, {DNNL_ARG_DST, memory(cd, engine())}};
  Int8Options o;
  o.threads = threads;
  const auto ours = [&] { gemm_int8(a.data(), m, k, packed, c.data(), n, o); };
  const auto theirs = [&] { primitive.execute(stream(), args), stream().wait(); };
  ours(), theirs();
  if (!std::equal(c.begin(), c.end(), static_cast<const std::int32_t*>(args.at(DNNL_ARG_DST).get_data_handle()))) bug(__FILE__, __LINE__, "the two products differ");
  compare(state, ours, theirs, 0.8, 2.0 * static_cast<double>(m * n * k));
}
BENCHMARK(Int8Gemm)->ArgsProduct({{1, 2}, {1024}, {1024}, {1024}})->ArgsProduct({{1, 2}, {128}, {4096}, {1024}})->ArgsProduct({{1, 2}, {16}, {1024}, {4096}})->UseRealTime()->MinTime(0.4)->Unit(benchmark::kMillisecond);

// oneDNN alone with every instruction of the machine (AMX where it has it), in a process of its own: what there would be to gain.
void OneDnnUncapped(benchmark::State& state) {
  for (auto _ : state) {
    const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
    const tool::WorkFolder folder;
    tool::Process p;
    p.folder = folder.path();
    p.readable = {self.parent_path()};
    p.argv = {self.string(), "--benchmark_filter=Int8Conv/1/-1|Int8Gemm/1/1024"};
    p.env["DNNL_MAX_CPU_ISA"] = "ALL";
    p.seconds = 120;
    const std::string out = p.run().out;
    const char* names[] = {"conv_gop/s", "gemm_gop/s"};
    constexpr std::string_view key = "onednn_gop/s=";
    std::size_t at = 0;
    for (std::size_t i = out.find(key); i != std::string::npos && at < 2; i = out.find(key, i + 1)) {
      double v = 0;
      std::from_chars(out.data() + i + key.size(), out.data() + out.size(), v);
      state.counters[names[at++]] = v;
    }
  }
}
BENCHMARK(OneDnnUncapped)->Iterations(1)->UseRealTime()->Unit(benchmark::kMillisecond);

// ---- ResNet-18 in f32 -----------------------------------------------------------------------------------
struct Weights {  // of one convolution and its normalisation
  Tensor w, scale, shift, mean, variance;
  std::vector<float> folded, bias;
};
struct ResNet {
  std::vector<Weights> weights;
  Tensor dense, dense_bias, x;
  ir::Graph g;
  Rng r{11, "resnet"};

  Tensor draw(const Shape& s, double lo, double hi) {
    Tensor t(DType::f32, s);
    for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, lo + (hi - lo) * r.uniform());
    return t;
  }
  ir::ValueId conv(ir::ValueId v, std::int64_t from, std::int64_t to, std::int64_t k, std::int64_t stride) {
    using Ints = std::vector<std::int64_t>;
    const double limit = std::sqrt(3.0 / static_cast<double>(from * k * k));
    Weights w{draw({to, from, k, k}, -limit, limit), draw({to}, 0.5, 1.5), draw({to}, -1, 1), draw({to}, -1, 1), draw({to}, 0.5, 2), {}, {}};
    for (std::int64_t c = 0; c < to; ++c) {
      const float f = w.scale.data<float>()[c] / std::sqrt(w.variance.data<float>()[c] + 1e-5f);
      for (std::int64_t i = c * from * k * k; i < (c + 1) * from * k * k; ++i) w.folded.push_back(std::as_const(w.w).data<float>()[i] * f);
      w.bias.push_back(w.shift.data<float>()[c] - w.mean.data<float>()[c] * f);
    }
    const ir::ValueId y = g.add_node("Conv", {v, g.add_constant(g.unique_name("w"), w.w)}, {{"strides", Ints{stride, stride}}, {"pads", Ints(4, k / 2)}});
    const auto c = [&](const Tensor& t) { return g.add_constant(g.unique_name("b"), t); };
    const ir::ValueId z = g.add_node("BatchNormalization", {y, c(w.scale), c(w.shift), c(w.mean), c(w.variance)});
    weights.push_back(std::move(w));
    return z;
  }
  ResNet() {
    using Ints = std::vector<std::int64_t>;
    const auto relu = [&](ir::ValueId v) { return g.add_node("Relu", {v}); };
    ir::ValueId v = g.add_input("x", DType::f32, ir::dims_of({1, 3, 224, 224}));
    v = g.add_node("MaxPool", {relu(conv(v, 3, 64, 7, 2))}, {{"kernel_shape", Ints{3, 3}}, {"strides", Ints{2, 2}}, {"pads", Ints(4, 1)}});
    std::int64_t c = 64;
    for (int stage = 0; stage < 4; ++stage)
      for (int block = 0; block < 2; ++block) {
        const std::int64_t to = 64 << stage, stride = stage > 0 && block == 0 ? 2 : 1;
        const ir::ValueId a = conv(v, c, to, 3, stride), b = conv(relu(a), to, to, 3, 1);
        v = relu(g.add_node("Add", {b, c == to ? v : conv(v, c, to, 1, stride)}));
        c = to;
      }
    dense = draw({1000, 512}, -0.1, 0.1), dense_bias = draw({1000}, -1, 1);
    v = g.add_node("Gemm", {g.add_node("Flatten", {g.add_node("GlobalAveragePool", {v})}), g.add_constant("dense", dense), g.add_constant("dense_bias", dense_bias)}, {{"transB", std::int64_t{1}}});
    g.outputs = {v};
    ir::infer_shapes(g);
    x = draw({1, 3, 224, 224}, -1, 1);
  }
};

// The same layers as one would write them for oneDNN: the layouts it prefers from the first convolution to the last pool, normalisation
// folded, sums and rectifiers as post-operations, weights put in order once.
struct Peer {
  struct Call {
    dnnl::primitive primitive;
    std::unordered_map<int, memory> args;
  };
  std::vector<Call> calls;
  memory out;
  memory conv(memory x, Weights& w, std::int64_t stride, bool relu, memory* sum = nullptr) {
    const memory::dims ws(w.w.shape().begin(), w.w.shape().end()), xs = x.get_desc().dims();
    const std::int64_t k = ws[2], pad = k / 2, o = (xs[2] + 2 * pad - k) / stride + 1;
    const memory::dims ys{1, ws[0], o, o};
    const auto any = [](memory::dims d) { return memory::desc(std::move(d), type::f32, tag::any); };
    dnnl::post_ops post;
    if (sum) post.append_sum(1.f);
    if (relu) post.append_eltwise(1.f, dnnl::algorithm::eltwise_relu, 0.f, 0.f);
    dnnl::primitive_attr attr;
    attr.set_post_ops(post);
    const dnnl::convolution_forward::desc d(dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, any(xs), any(ws), any({ws[0]}), any(ys), {stride, stride}, {pad, pad}, {pad, pad});
    const dnnl::convolution_forward::primitive_desc p(d, attr, engine());
    if (x.get_desc() != p.src_desc()) {
      memory ordered(p.src_desc(), engine());
      calls.push_back({dnnl::reorder(x, ordered), {{DNNL_ARG_FROM, x}, {DNNL_ARG_TO, ordered}}});
      x = ordered;
    }
    const memory given({ws, type::f32, tag::oihw}, engine(), w.folded.data()), bias({{ws[0]}, type::f32, tag::x}, engine(), w.bias.data());
    memory y = sum && sum->get_desc() == p.dst_desc() ? *sum : memory(p.dst_desc(), engine());
    if (sum && sum->get_desc() != p.dst_desc()) calls.push_back({dnnl::reorder(*sum, y), {{DNNL_ARG_FROM, *sum}, {DNNL_ARG_TO, y}}});
    calls.push_back({dnnl::convolution_forward(p), {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, reordered(given, p.weights_desc())}, {DNNL_ARG_BIAS, bias}, {DNNL_ARG_DST, y}}});
    return y;
  }
  memory pool(const memory& x, std::int64_t k, std::int64_t stride, std::int64_t pad, dnnl::algorithm kind) {
    const memory::dims xs = x.get_desc().dims();
    const std::int64_t o = (xs[2] + 2 * pad - k) / stride + 1;
    const dnnl::pooling_forward::desc d(dnnl::prop_kind::forward_inference, kind, x.get_desc(), memory::desc({1, xs[1], o, o}, type::f32, tag::any), {stride, stride}, {k, k}, {pad, pad}, {pad, pad});
    const dnnl::pooling_forward::primitive_desc p(d, engine());
    memory y(p.dst_desc(), engine());
    calls.push_back({dnnl::pooling_forward(p), {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, y}}});
    return y;
  }
  explicit Peer(ResNet& n) {
    std::size_t at = 0;
    const auto next = [&]() -> Weights& { return n.weights[at++]; };
    memory v({{1, 3, 224, 224}, type::f32, tag::nchw}, engine(), const_cast<void*>(n.x.raw()));
    v = pool(conv(v, next(), 2, true), 3, 2, 1, dnnl::algorithm::pooling_max);
    std::int64_t c = 64;
    for (int stage = 0; stage < 4; ++stage)
      for (int block = 0; block < 2; ++block) {
        const std::int64_t to = 64 << stage, stride = stage > 0 && block == 0 ? 2 : 1;
        const memory a = conv(v, next(), stride, true);
        Weights& second = next();
        memory shortcut = c == to ? v : conv(v, next(), stride, false);
        v = conv(a, second, 1, true, &shortcut);
        c = to;
      }
    v = pool(v, 7, 1, 0, dnnl::algorithm::pooling_avg_exclude_padding);
    memory flat({{1, 512, 1, 1}, type::f32, tag::nchw}, engine());
    calls.push_back({dnnl::reorder(v, flat), {{DNNL_ARG_FROM, v}, {DNNL_ARG_TO, flat}}});
    const memory row({{1, 512}, type::f32, tag::ab}, engine(), flat.get_data_handle());
    const memory given({{512, 1000}, type::f32, tag::ba}, engine(), const_cast<void*>(n.dense.raw())), bias({{1, 1000}, type::f32, tag::ab}, engine(), const_cast<void*>(n.dense_bias.raw()));
    const dnnl::matmul::primitive_desc p(dnnl::matmul::desc(row.get_desc(), {{512, 1000}, type::f32, tag::any}, bias.get_desc(), {{1, 1000}, type::f32, tag::ab}), engine());
    out = memory(p.dst_desc(), engine());
    calls.push_back({dnnl::matmul(p), {{DNNL_ARG_SRC, row}, {DNNL_ARG_WEIGHTS, reordered(given, p.weights_desc())}, {DNNL_ARG_BIAS, bias}, {DNNL_ARG_DST, out}}});
    kept = flat;
  }
  memory kept;
  void run() {
    for (Call& c : calls) c.primitive.execute(stream(), c.args);
    stream().wait();
  }
};

// Arg: threads. The ratio's goal is 1 / 1.1.
void ResNet18(benchmark::State& state) {
  const int threads = static_cast<int>(state.range(0));
  omp_set_num_threads(threads);
  ResNet net;
  Peer peer(net);
  FloatOptions o;
  o.threads = threads;
  FloatExecutor ours(net.g, o);
  const Tensor y = ours.run({net.x})[0];
  omp_set_num_threads(threads);
  peer.run();
  const auto* z = static_cast<const float*>(peer.out.get_data_handle());
  double scale = 0;
  for (std::int64_t i = 0; i < y.size(); ++i) scale = std::max(scale, std::abs(y.at(i)));
  for (std::int64_t i = 0; i < y.size(); ++i)
    if (std::abs(y.at(i) - z[i]) > 1e-4 * scale) bug(__FILE__, __LINE__, "the two networks differ");
  compare(state, [&] { ours.run({net.x}); }, [&] { peer.run(); }, 1 / 1.1, 0);
  state.counters["peak_mib"] = static_cast<double>(ours.peak_bytes()) / (1 << 20);
}
BENCHMARK(ResNet18)->Arg(1)->Arg(2)->UseRealTime()->MinTime(1.0)->Unit(benchmark::kMillisecond);

// The same without oneDNN: how far the kernels of our own are.
void ResNet18Own(benchmark::State& state) {
  const int threads = static_cast<int>(state.range(0));
  ResNet net;
  FloatOptions o;
  o.threads = threads;
  o.library = false;
  FloatExecutor ours(net.g, o);
  for (auto _ : state) benchmark::DoNotOptimize(ours.run({net.x}));
}
BENCHMARK(ResNet18Own)->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tandem::exec
#endif
