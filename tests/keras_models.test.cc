// Keras models against a second formulation: an interpreter that walks the list of layers as Keras documents them, channels
// last, in double, one sample at a time. It shares nothing with the reader but the file formats.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <random>
#include <sstream>

#include "tandem/base/config.h"
#include "tandem/base/file.h"
#include "tandem/flow/build.h"
#include "tandem/flow/doctor.h"
#include "tandem/ir/bind.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/keras.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"
#include "tandem/tool/hdf5.h"
#include "tandem/tool/process.h"

namespace tandem {
namespace {
namespace fs = std::filesystem;
using ir::Graph;

fs::path data_folder() {
  const char* d = std::getenv("TANDEM_DATA");
  return d ? fs::path(d) : fs::path(TANDEM_SOURCE_DIR) / "../shared/data";
}
const fs::path kModels = data_folder() / "qonnx_models/hls4ml_keras";
bool can_read(std::string& why) {
  if (tool::hdf5_program().empty()) why = "tandem-hdf5 was not built: libhdf5-dev is not installed";
  else if (!tool::sandbox_available()) why = "no sandbox: " + tool::sandbox_reason();
  else if (!fs::exists(kModels)) why = "the models are missing: set TANDEM_DATA";
  return why.empty();
}
#define NEEDS_MODELS() \
  if (std::string why; !can_read(why)) GTEST_SKIP() << why

// ---- the interpreter ------------------------------------------------------------------------------
struct Arr {
  std::vector<long> s;  // without the batch
  std::vector<double> v;
  long size() const {
    long n = 1;
    for (long d : s) n *= d;
    return n;
  }
};
Arr zeros(std::vector<long> s, double fill = 0) {
  Arr a{std::move(s), {}};
  a.v.assign(static_cast<std::size_t>(a.size()), fill);
  return a;
}
struct Interpreter {
  const tool::Hdf5File& w;
  int keras = 2;

  Arr weight(const std::string& layer, const std::string& role) const {
    for (const auto& [path, a] : w.datasets) {
      const auto slash = path.rfind('/');
      std::string last = path.substr(slash + 1);
      last = last.substr(0, last.find(':'));
      if (last != role || path.find("/" + layer + "/") == std::string::npos) continue;
      Arr r;
      for (auto d : a.shape) r.s.push_back(static_cast<long>(d));
      for (std::int64_t i = 0; i < a.numbers.size(); ++i) r.v.push_back(static_cast<double>(static_cast<float>(a.numbers.at(i))));
      return r;
    }
    ADD_FAILURE() << layer << " " << role;
    return {};
  }
  static std::vector<long> pair(const Config& c, const char* key, std::size_t n, long fallback) {
    const auto f = c.find(key);
    if (!f) return std::vector<long>(n, fallback);
    if (f->is_scalar()) return std::vector<long>(n, f->as<int>());
    std::vector<long> r;
    for (int i : f->list<int>()) r.push_back(i);
    return r;
  }

  // "quantized_bits(6,0,alpha=1)" or {class_name, config}: what it does to one number.
  static std::function<double(double)> quantiser(const Config& c) {
    std::string kind;
    std::map<std::string, double> a;
    if (c.is_map()) {
      kind = c.required<std::string>("class_name");
      for (const auto& [k, v] : c.at("config").entries()) {
        if (v.is_null()) continue;
        const auto s = v.as<std::string>();
        a[k] = s == "true" ? 1 : s == "false" ? 0 : parse_double(s).value_or(0);
      }
    } else {
      const std::string s = c.as<std::string>();
      kind = s.substr(0, s.find('('));
      std::vector<std::string> order = kind == "quantized_bits" ? std::vector<std::string>{"bits", "integer", "symmetric", "keep_negative"} : std::vector<std::string>{"bits", "integer", "use_sigmoid", "negative_slope"};
      std::stringstream in(s.find('(') == s.npos ? "" : s.substr(s.find('(') + 1, s.size() - s.find('(') - 2));
      std::size_t i = 0;
      for (std::string word; std::getline(in, word, ','); ++i) {
        const auto eq = word.find('=');
        const std::string value = eq == word.npos ? word : word.substr(eq + 1);
        a[eq == word.npos ? order.at(i) : word.substr(0, eq)] = value == "True" ? 1 : value == "False" ? 0 : parse_double(value).value_or(0);
      }
    }
    const auto get = [a](const char* k, double d) {
      const auto f = a.find(k);
      return f == a.end() ? d : f->second;
    };
    const double bits = get("bits", 8), integer = get("integer", 0), alpha = get("alpha", 1);
    if (kind == "quantized_bits") {
      const double kn = get("keep_negative", 1), sym = get("symmetric", 0), m = std::pow(2, bits - kn), mi = std::pow(2, integer);
      if (bits - kn == 0) return [=](double x) { return x >= 0 ? alpha : -alpha; };
      return [=](double x) { return alpha * mi * std::min(std::max(std::nearbyint(x * m / mi), kn * (-m + sym)), m - 1) / m; };
    }
    if (kind == "quantized_relu") {
      const double slope = get("negative_slope", 0), m = std::pow(2, bits - (slope != 0)), mi = std::pow(2, integer);
      return [=](double x) {
        const double p = x * m / mi;
        double y = mi * std::min(std::max(std::nearbyint(p) / m, 0.0), 1 - 1 / m);
        if (slope > 0) y += mi * slope * std::min(std::max(std::nearbyint(p * slope) / (slope * m), -1.0), 0.0);
        return y;
      };
    }
    if (kind == "quantized_tanh") {
      const double m = std::pow(2, bits - 1);
      return [=](double x) { return std::min(std::max(std::nearbyint((2 * std::min(std::max(0.5 * x + 0.5, 0.0), 1.0) - 1) * m) / m, -1 + 1 / m), 1 - 1 / m); };
    }
    if (kind == "quantized_sigmoid") {
      const double m = std::pow(2, bits);
      return [=](double x) { return std::min(std::max(std::nearbyint(std::min(std::max(0.5 * x + 0.5, 0.0), 1.0) * m) / m, 1 / m), 1 - 1 / m); };
    }
    if (kind == "binary") return [=, z = get("use_01", 0)](double x) { return alpha * (z != 0 ? (x >= 0 ? 1 : 0) : (x >= 0 ? 1 : -1)); };
    if (kind == "ternary") return [=, t = static_cast<double>(static_cast<float>(get("threshold", 0.33)))](double x) { return alpha * (x >= t ? 1 : x <= -t ? -1 : 0); };
    if (kind == "quantized_po2") {
      const double most = get("max_value", INFINITY), e = std::pow(2, bits - 1 - (most <= 1 ? 0 : 1));
      return [=](double x) {
        const double s = x >= 0 ? 1 : -1, m = std::min(std::abs(x), most);
        return s * std::exp2(std::abs(x) < 1e-7 ? -e : std::min(std::max(std::nearbyint(std::log2(m)), -e), e - 1));
      };
    }
    return nullptr;
  }
  static void each(Arr& a, const std::function<double(double)>& f) {
    for (double& x : a.v) x = f(x);
  }
  Arr quantised(Arr a, const Config& c, const char* key) const {
    if (const auto q = c.find(key)) each(a, quantiser(*q));
    return a;
  }
  Arr activation(Arr x, const Config& c) const {
    if (c.is_null()) return x;
    if (const auto q = quantiser(c)) {
      each(x, q);
      return x;
    }
    return activation(std::move(x), c.as<std::string>());
  }
  Arr activation(Arr x, const std::string& f) const {
    if (f == "softmax") {
      const long n = x.s.back();
      for (long r = 0; r < x.size(); r += n) {
        double m = -INFINITY, sum = 0;
        for (long i = 0; i < n; ++i) m = std::max(m, x.v[static_cast<std::size_t>(r + i)]);
        for (long i = 0; i < n; ++i) sum += x.v[static_cast<std::size_t>(r + i)] = std::exp(x.v[static_cast<std::size_t>(r + i)] - m);
        for (long i = 0; i < n; ++i) x.v[static_cast<std::size_t>(r + i)] /= sum;
      }
      return x;
    }
    const std::map<std::string, std::function<double(double)>> known{
        {"linear", [](double v) { return v; }},
        {"relu", [](double v) { return std::max(v, 0.0); }},
        {"relu1", [](double v) { return std::min(std::max(v, 0.0), 1.0); }},
        {"relu6", [](double v) { return std::min(std::max(v, 0.0), 6.0); }},
        {"sigmoid", [](double v) { return 1 / (1 + std::exp(-v)); }},
        {"tanh", [](double v) { return std::tanh(v); }},
        {"elu", [](double v) { return v > 0 ? v : std::expm1(v); }},
        {"selu", [](double v) { return 1.05070098735548049342 * (v > 0 ? v : 1.67326324235437728481 * std::expm1(v)); }},
        {"softplus", [](double v) { return std::log1p(std::exp(v)); }},
        {"softsign", [](double v) { return v / (1 + std::abs(v)); }},
        {"swish", [](double v) { return v / (1 + std::exp(-v)); }},
        {"gelu", [](double v) { return 0.5 * v * std::erfc(-v / std::sqrt(2.0)); }},
        {"exponential", [](double v) { return std::exp(v); }},
        {"hard_sigmoid", [this](double v) { return std::min(std::max(keras >= 3 ? v / 6 + 0.5 : 0.2 * v + 0.5, 0.0), 1.0); }},
        {"binary_tanh", [](double v) { return v > 0 ? 1.0 : -1.0; }},
        {"ternary_tanh", [](double v) { return v > 0.5 ? 1.0 : v <= -0.5 ? -1.0 : 0.0; }},
    };
    const auto it = known.find(f);
    if (it == known.end()) ADD_FAILURE() << "activation " << f;
    else each(x, it->second);
    return x;
  }

  Arr dense(const Arr& x, Arr k, const Arr* bias) const {
    const long in = k.s[0], out = k.s[1], rows = x.size() / in;
    std::vector<long> s(x.s.begin(), x.s.end() - 1);
    s.push_back(out);
    Arr y = zeros(s);
    for (long r = 0; r < rows; ++r)
      for (long o = 0; o < out; ++o) {
        double sum = bias ? bias->v[static_cast<std::size_t>(o)] : 0;
        for (long i = 0; i < in; ++i) sum += x.v[static_cast<std::size_t>(r * in + i)] * k.v[static_cast<std::size_t>(i * out + o)];
        y.v[static_cast<std::size_t>(r * out + o)] = sum;
      }
    return y;
  }
  // Windows over H x W (1-D: H = 1). f(position, source position or -1, tap).
  struct Window {
    long kh, kw, sh, sw, dh, dw, top, left, oh, ow;
  };
  static Window window(long h, long wd, std::vector<long> k, std::vector<long> st, std::vector<long> d, const std::string& padding) {
    Window w{k[0], k[1], st[0], st[1], d[0], d[1], 0, 0, 0, 0};
    const long rh = (k[0] - 1) * d[0] + 1, rw = (k[1] - 1) * d[1] + 1;
    if (padding == "same") {
      w.oh = (h + st[0] - 1) / st[0], w.ow = (wd + st[1] - 1) / st[1];
      w.top = std::max(0L, (w.oh - 1) * st[0] + rh - h) / 2, w.left = std::max(0L, (w.ow - 1) * st[1] + rw - wd) / 2;
    } else if (padding == "causal") {
      w.left = rw - 1, w.oh = h, w.ow = (wd - 1) / st[1] + 1;
    } else {
      w.oh = (h - rh) / st[0] + 1, w.ow = (wd - rw) / st[1] + 1;
    }
    return w;
  }
  static void widen(std::vector<long>& v, long one) {
    if (v.size() == 1) v.insert(v.begin(), one);
  }
  Arr conv(const Arr& x, const Arr& k, std::vector<long> st, std::vector<long> d, const std::string& padding, long groups, bool depthwise) const {
    const bool flat = x.s.size() == 2;
    const long H = flat ? 1 : x.s[0], W = flat ? x.s[0] : x.s[1], C = x.s.back();
    std::vector<long> ks(k.s.begin(), k.s.end() - 2);
    widen(ks, 1), widen(st, 1), widen(d, 1);
    const Window w = window(H, W, ks, st, d, padding);
    const long a = k.s[k.s.size() - 2], b = k.s.back();  // in per group, out; depthwise: channels, multiplier
    const long O = depthwise ? a * b : b;
    Arr y = zeros(flat ? std::vector<long>{w.ow, O} : std::vector<long>{w.oh, w.ow, O});
    for (long p = 0; p < w.oh; ++p)
      for (long q = 0; q < w.ow; ++q)
        for (long o = 0; o < O; ++o) {
          double sum = 0;
          for (long r = 0; r < w.kh; ++r)
            for (long s = 0; s < w.kw; ++s) {
              const long i = p * w.sh - w.top + r * w.dh, j = q * w.sw - w.left + s * w.dw;
              if (i < 0 || i >= H || j < 0 || j >= W) continue;
              if (depthwise) {
                sum += x.v[static_cast<std::size_t>((i * W + j) * C + o / b)] * k.v[static_cast<std::size_t>((r * w.kw + s) * O + o)];
              } else {
                const long per = O / groups, base = o / per * a;
                for (long c = 0; c < a; ++c) sum += x.v[static_cast<std::size_t>((i * W + j) * C + base + c)] * k.v[static_cast<std::size_t>(((r * w.kw + s) * a + c) * b + o)];
              }
            }
          y.v[static_cast<std::size_t>((p * w.ow + q) * O + o)] = sum;
        }
    return y;
  }
  static void add_bias(Arr& y, const Arr& b) {
    for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] += b.v[i % b.v.size()];
  }

  Arr layer(const std::string& kind, const std::string& name, const Config& c, const std::vector<Arr>& in) const {
    Arr x = in.at(0);
    const auto is = [&](std::initializer_list<const char*> names) {
      for (const char* n : names)
        if (kind == n) return true;
      return false;
    };
    const bool bias = c.optional_or<std::string>("use_bias", "true") == "true";
    const auto stated = c.find("padding");
    const std::string padding = stated && stated->is_scalar() ? stated->as<std::string>() : "valid";
    const auto activated = [&](Arr y) {
      const auto a = c.find("activation");
      return a ? activation(std::move(y), *a) : y;
    };
    if (is({"Dense", "QDense", "BinaryDense", "TernaryDense"})) {
      Arr k = quantised(weight(name, "kernel"), c, "kernel_quantizer");
      if (kind == "BinaryDense") each(k, [](double v) { return v > 0 ? 1 : -1; });
      if (kind == "TernaryDense") each(k, [](double v) { return v > 0.5 ? 1 : v <= -0.5 ? -1 : 0; });
      if (!bias) return activated(dense(x, k, nullptr));
      const Arr b = quantised(weight(name, "bias"), c, "bias_quantizer");
      return activated(dense(x, k, &b));
    }
    const std::size_t axes = x.s.size() - 1;
    if (is({"Conv1D", "Conv2D", "QConv2D", "DepthwiseConv2D", "SeparableConv2D"})) {
      const bool sep = kind == "SeparableConv2D", dw = kind == "DepthwiseConv2D" || sep;
      Arr k = quantised(weight(name, dw ? "depthwise_kernel" : "kernel"), c, "kernel_quantizer");
      Arr y = conv(x, k, pair(c, "strides", axes, 1), pair(c, "dilation_rate", axes, 1), padding, c.optional_or<int>("groups", 1), dw);
      if (sep) y = conv(y, weight(name, "pointwise_kernel"), std::vector<long>(axes, 1), std::vector<long>(axes, 1), "valid", 1, false);
      if (bias) add_bias(y, quantised(weight(name, "bias"), c, "bias_quantizer"));
      return activated(y);
    }
    if (kind == "Conv2DTranspose") {
      const Arr k = weight(name, "kernel");
      const auto st = pair(c, "strides", 2, 1);
      const long kh = k.s[0], kw = k.s[1], O = k.s[2], C = k.s[3], H = x.s[0], W = x.s[1];
      const bool same = padding == "same";
      const long oh = same ? H * st[0] : H * st[0] + std::max(kh - st[0], 0L), ow = same ? W * st[1] : W * st[1] + std::max(kw - st[1], 0L);
      const long top = same ? std::max(kh - st[0], 0L) / 2 : 0, left = same ? std::max(kw - st[1], 0L) / 2 : 0;
      Arr y = zeros({oh, ow, O});
      for (long i = 0; i < H; ++i)
        for (long j = 0; j < W; ++j)
          for (long r = 0; r < kh; ++r)
            for (long s = 0; s < kw; ++s) {
              const long p = i * st[0] + r - top, q = j * st[1] + s - left;
              if (p < 0 || q < 0 || p >= oh || q >= ow) continue;
              for (long o = 0; o < O; ++o)
                for (long ch = 0; ch < C; ++ch)
                  y.v[static_cast<std::size_t>((p * ow + q) * O + o)] += x.v[static_cast<std::size_t>((i * W + j) * C + ch)] * k.v[static_cast<std::size_t>(((r * kw + s) * O + o) * C + ch)];
            }
      if (bias) add_bias(y, weight(name, "bias"));
      return activated(y);
    }
    if (kind == "BatchNormalization") {
      const Arr g = weight(name, "gamma"), b = weight(name, "beta"), m = weight(name, "moving_mean"), v = weight(name, "moving_variance");
      const double e = c.optional_or<double>("epsilon", 1e-3);
      for (std::size_t i = 0; i < x.v.size(); ++i) {
        const std::size_t k = i % g.v.size();
        x.v[i] = (x.v[i] - m.v[k]) * g.v[k] / std::sqrt(v.v[k] + e) + b.v[k];
      }
      return x;
    }
    if (kind == "LayerNormalization") {
      const Arr g = weight(name, "gamma"), b = weight(name, "beta");
      const long n = x.s.back();
      for (long r = 0; r < x.size(); r += n) {
        double mean = 0, var = 0;
        for (long i = 0; i < n; ++i) mean += x.v[static_cast<std::size_t>(r + i)] / static_cast<double>(n);
        for (long i = 0; i < n; ++i) var += std::pow(x.v[static_cast<std::size_t>(r + i)] - mean, 2) / static_cast<double>(n);
        for (long i = 0; i < n; ++i) x.v[static_cast<std::size_t>(r + i)] = (x.v[static_cast<std::size_t>(r + i)] - mean) / std::sqrt(var + c.optional_or<double>("epsilon", 1e-3)) * g.v[static_cast<std::size_t>(i)] + b.v[static_cast<std::size_t>(i)];
      }
      return x;
    }
    if (is({"Activation", "QActivation"})) return activation(x, c.at("activation"));
    if (is({"Dropout", "GaussianNoise"})) return x;
    if (kind == "ReLU") {
      each(x, [&](double v) { return std::min(v > 0 ? v : v * c.optional_or<double>("negative_slope", 0), c.optional_or<double>("max_value", INFINITY)); });
      return x;
    }
    if (kind == "LeakyReLU") {
      each(x, [&](double v) { return v > 0 ? v : v * c.optional_or<double>("alpha", 0.3); });
      return x;
    }
    if (kind == "PReLU") {
      const Arr a = weight(name, "alpha");  // [1, 1, C] or the shape of x
      for (std::size_t i = 0; i < x.v.size(); ++i) x.v[i] = x.v[i] > 0 ? x.v[i] : x.v[i] * a.v[i % a.v.size()];
      return x;
    }
    if (kind == "Flatten") return {{x.size()}, x.v};
    if (kind == "Reshape") {
      std::vector<long> s;
      long known = 1;
      for (int d : c.at("target_shape").list<int>()) s.push_back(d), known *= d < 0 ? 1 : d;
      for (long& d : s)
        if (d < 0) d = x.size() / known;
      return {s, x.v};
    }
    if (kind == "Permute") {
      const auto p = c.at("dims").list<int>();
      Arr y;
      for (int d : p) y.s.push_back(x.s[static_cast<std::size_t>(d - 1)]);
      y.v.resize(x.v.size());
      for (long i = 0; i < x.size(); ++i) {
        std::vector<long> at(p.size());
        long rest = i;
        for (std::size_t d = p.size(); d-- > 0; rest /= y.s[d]) at[d] = rest % y.s[d];
        long j = 0;
        for (std::size_t d = 0; d < p.size(); ++d) {
          long k = 0;
          for (std::size_t e = 0; e < p.size(); ++e)
            if (p[e] == static_cast<int>(d) + 1) k = at[e];
          j = j * x.s[d] + k;
        }
        y.v[static_cast<std::size_t>(i)] = x.v[static_cast<std::size_t>(j)];
      }
      return y;
    }
    if (is({"MaxPooling2D", "AveragePooling2D", "MaxPooling1D"})) {
      const bool flat = x.s.size() == 2, max = kind != "AveragePooling2D";
      const long H = flat ? 1 : x.s[0], W = flat ? x.s[0] : x.s[1], C = x.s.back();
      auto k = pair(c, "pool_size", axes, 2), st = pair(c, "strides", axes, 0);
      if (st[0] == 0) st = k;
      std::vector<long> d(2, 1);
      widen(k, 1), widen(st, 1);
      const Window w = window(H, W, k, st, d, padding);
      Arr y = zeros(flat ? std::vector<long>{w.ow, C} : std::vector<long>{w.oh, w.ow, C});
      for (long p = 0; p < w.oh; ++p)
        for (long q = 0; q < w.ow; ++q)
          for (long ch = 0; ch < C; ++ch) {
            double m = -INFINITY, sum = 0;
            long n = 0;
            for (long r = 0; r < w.kh; ++r)
              for (long s = 0; s < w.kw; ++s) {
                const long i = p * w.sh - w.top + r, j = q * w.sw - w.left + s;
                if (i < 0 || j < 0 || i >= H || j >= W) continue;
                const double v = x.v[static_cast<std::size_t>((i * W + j) * C + ch)];
                m = std::max(m, v), sum += v, ++n;
              }
            y.v[static_cast<std::size_t>((p * w.ow + q) * C + ch)] = max ? m : sum / static_cast<double>(n);
          }
      return y;
    }
    if (is({"GlobalAveragePooling2D", "GlobalMaxPooling2D", "GlobalAveragePooling1D"})) {
      const long C = x.s.back(), n = x.size() / C;
      Arr y = zeros({C}, kind == "GlobalMaxPooling2D" ? -INFINITY : 0);
      for (long i = 0; i < x.size(); ++i) {
        double& to = y.v[static_cast<std::size_t>(i % C)];
        to = kind == "GlobalMaxPooling2D" ? std::max(to, x.v[static_cast<std::size_t>(i)]) : to + x.v[static_cast<std::size_t>(i)] / static_cast<double>(n);
      }
      return y;
    }
    if (is({"ZeroPadding2D", "Cropping2D"})) {
      const bool grow = kind == "ZeroPadding2D";
      const auto p = c.at(grow ? "padding" : "cropping").items();
      const auto a = p[0].list<int>(), b = p[1].list<int>();
      const long sign = grow ? 1 : -1, H = x.s[0], W = x.s[1], C = x.s[2], oh = H + sign * (a[0] + a[1]), ow = W + sign * (b[0] + b[1]);
      Arr y = zeros({oh, ow, C});
      for (long i = 0; i < oh; ++i)
        for (long j = 0; j < ow; ++j) {
          const long r = i - sign * a[0], s = j - sign * b[0];
          if (r < 0 || s < 0 || r >= H || s >= W) continue;
          for (long ch = 0; ch < C; ++ch) y.v[static_cast<std::size_t>((i * ow + j) * C + ch)] = x.v[static_cast<std::size_t>((r * W + s) * C + ch)];
        }
      return y;
    }
    if (kind == "UpSampling2D") {
      const auto k = pair(c, "size", 2, 2);
      const long H = x.s[0], W = x.s[1], C = x.s[2], oh = H * k[0], ow = W * k[1];
      const bool linear = c.optional_or<std::string>("interpolation", "nearest") == "bilinear";
      Arr y = zeros({oh, ow, C});
      for (long i = 0; i < oh; ++i)
        for (long j = 0; j < ow; ++j)
          for (long ch = 0; ch < C; ++ch) {
            const auto at = [&](long r, long s) { return x.v[static_cast<std::size_t>((std::clamp(r, 0L, H - 1) * W + std::clamp(s, 0L, W - 1)) * C + ch)]; };
            double v = at(i / k[0], j / k[1]);
            if (linear) {
              const double r = (static_cast<double>(i) + 0.5) / static_cast<double>(k[0]) - 0.5, s = (static_cast<double>(j) + 0.5) / static_cast<double>(k[1]) - 0.5;
              const long r0 = static_cast<long>(std::floor(r)), s0 = static_cast<long>(std::floor(s));
              const double fr = r - static_cast<double>(r0), fs = s - static_cast<double>(s0);
              v = (1 - fr) * ((1 - fs) * at(r0, s0) + fs * at(r0, s0 + 1)) + fr * ((1 - fs) * at(r0 + 1, s0) + fs * at(r0 + 1, s0 + 1));
            }
            y.v[static_cast<std::size_t>((i * ow + j) * C + ch)] = v;
          }
      return y;
    }
    if (is({"Add", "Multiply", "Maximum", "Subtract", "Average"})) {
      for (std::size_t t = 1; t < in.size(); ++t)
        for (std::size_t i = 0; i < x.v.size(); ++i) {
          const double o = in[t].v[i];
          x.v[i] = kind == "Multiply" ? x.v[i] * o : kind == "Maximum" ? std::max(x.v[i], o) : kind == "Subtract" ? x.v[i] - o : x.v[i] + o;
        }
      if (kind == "Average") each(x, [&](double v) { return v / static_cast<double>(in.size()); });
      return x;
    }
    if (kind == "Concatenate") {
      Arr y{x.s, {}};
      y.s.back() = 0;
      for (const Arr& a : in) y.s.back() += a.s.back();
      const long rows = x.size() / x.s.back();
      for (long r = 0; r < rows; ++r)
        for (const Arr& a : in) y.v.insert(y.v.end(), a.v.begin() + r * a.s.back(), a.v.begin() + (r + 1) * a.s.back());
      return y;
    }
    if (is({"LSTM", "GRU"})) {
      const Arr k = weight(name, "kernel"), r = weight(name, "recurrent_kernel"), b = weight(name, "bias");
      const long U = r.s[0], G = kind == "LSTM" ? 4 : 3, steps = x.s[0], F = x.s[1];
      const bool after = c.optional_or<std::string>("reset_after", "false") == "true";
      std::vector<double> h(static_cast<std::size_t>(U)), cell = h;
      std::vector<double> all;
      const auto sig = [](double v) { return 1 / (1 + std::exp(-v)); };
      for (long t = 0; t < steps; ++t) {
        std::vector<double> zx(static_cast<std::size_t>(G * U)), zh = zx;
        for (long o = 0; o < G * U; ++o) {
          zx[static_cast<std::size_t>(o)] = b.v[static_cast<std::size_t>(o)];
          zh[static_cast<std::size_t>(o)] = after ? b.v[static_cast<std::size_t>(G * U + o)] : 0;
          for (long i = 0; i < F; ++i) zx[static_cast<std::size_t>(o)] += x.v[static_cast<std::size_t>(t * F + i)] * k.v[static_cast<std::size_t>(i * G * U + o)];
          for (long i = 0; i < U; ++i) zh[static_cast<std::size_t>(o)] += h[static_cast<std::size_t>(i)] * r.v[static_cast<std::size_t>(i * G * U + o)];
        }
        const auto z = [&](long g, long u) { return zx[static_cast<std::size_t>(g * U + u)] + zh[static_cast<std::size_t>(g * U + u)]; };
        std::vector<double> next(h);
        for (long u = 0; u < U; ++u) {
          const auto at = static_cast<std::size_t>(u);
          if (G == 4) {
            cell[at] = sig(z(1, u)) * cell[at] + sig(z(0, u)) * std::tanh(z(2, u));
            next[at] = sig(z(3, u)) * std::tanh(cell[at]);
          } else {
            double inner = zh[static_cast<std::size_t>(2 * U + u)];
            if (after) {
              inner *= sig(z(1, u));
            } else {
              inner = 0;
              for (long i = 0; i < U; ++i) inner += sig(z(1, i)) * h[static_cast<std::size_t>(i)] * r.v[static_cast<std::size_t>(i * G * U + 2 * U + u)];
            }
            const double update = sig(z(0, u));
            next[at] = update * h[at] + (1 - update) * std::tanh(zx[static_cast<std::size_t>(2 * U + u)] + inner);
          }
        }
        h = next;
        all.insert(all.end(), h.begin(), h.end());
      }
      if (c.optional_or<std::string>("return_sequences", "false") == "true") return {{steps, U}, all};
      return {{U}, h};
    }
    if (is({"GarNet", "GarNetStack"})) {
      const long V = x.s[0];
      const double n = in.at(1).v[0];
      const long layers = kind == "GarNet" ? 1 : c.at("n_sublayers").as<int>();
      const bool ternary = c.optional_or<std::string>("quantize_transforms", "false") == "true";
      const auto q = [&](Arr a) {
        if (ternary) each(a, [](double v) { return v >= 0.5 ? 1 : v <= -0.5 ? -1 : 0; });
        return a;
      };
      for (long layer = 0; layer < layers; ++layer) {
        const std::string t = kind == "GarNet" ? "" : std::to_string(layer);
        const Arr fb = q(weight(name, "FLR" + t + "_bias")), sb = weight(name, "S" + t + "_bias"), ob = weight(name, "Fout" + t + "_bias");
        const Arr f = dense(x, q(weight(name, "FLR" + t + "_kernel")), &fb);
        Arr e = dense(x, weight(name, "S" + t + "_kernel"), &sb);
        const long S = e.s[1], P = f.s[1];
        for (long v = 0; v < V; ++v)
          for (long s = 0; s < S; ++s) {
            double& d = e.v[static_cast<std::size_t>(v * S + s)];
            d = static_cast<double>(v) < n ? std::exp(-d * d) : 0;
          }
        Arr spread = zeros({V, S * P});
        for (long s = 0; s < S; ++s)
          for (long p = 0; p < P; ++p) {
            double mean = 0;
            for (long v = 0; v < V; ++v) mean += e.v[static_cast<std::size_t>(v * S + s)] * f.v[static_cast<std::size_t>(v * P + p)] / static_cast<double>(V);
            for (long v = 0; v < V; ++v) spread.v[static_cast<std::size_t>(v * S * P + s * P + p)] = e.v[static_cast<std::size_t>(v * S + s)] * mean;
          }
        x = dense(spread, q(weight(name, "Fout" + t + "_kernel")), &ob);
        for (long i = 0; i < x.size(); ++i)
          if (static_cast<double>(i / x.s[1]) >= n) x.v[static_cast<std::size_t>(i)] = 0;
      }
      Arr y = zeros({x.s[1]});
      for (long i = 0; i < x.size(); ++i) y.v[static_cast<std::size_t>(i % x.s[1])] += x.v[static_cast<std::size_t>(i)] / static_cast<double>(V);
      return y;
    }
    ADD_FAILURE() << "layer " << kind;
    return x;
  }

  std::vector<Arr> run(const Config& model, const std::vector<Arr>& inputs) {
    if (const auto v = model.find("keras_version")) keras = v->as<std::string>()[0] - '0';
    const Config config = model.at("config");
    const auto items = config.is_list() ? config.items() : config.at("layers").items();
    if (model.required<std::string>("class_name") == "Sequential") {
      Arr x = inputs[0];
      for (const Config& l : items)
        if (const auto kind = l.required<std::string>("class_name"); kind != "InputLayer") x = layer(kind, l.at("config").required<std::string>("name"), l.at("config"), {x});
      return {x};
    }
    std::map<std::string, Arr> done;
    std::size_t next = 0;
    for (const Config& i : config.at("input_layers").items()) done[i.items()[0].as<std::string>()] = inputs[next++];
    for (const Config& l : items) {  // the files list them in order
      const auto kind = l.required<std::string>("class_name"), name = l.at("config").required<std::string>("name");
      if (kind == "InputLayer") continue;
      std::vector<Arr> in;
      for (const Config& r : l.at("inbound_nodes").items()[0].items()) in.push_back(done.at(r.items()[0].as<std::string>()));
      done[name] = layer(kind, name, l.at("config"), in);
    }
    std::vector<Arr> out;
    for (const Config& o : config.at("output_layers").items()) out.push_back(done.at(o.items()[0].as<std::string>()));
    return out;
  }
};

// ---- comparing --------------------------------------------------------------------------------------
Tensor tensor_of(const Arr& a, DType t) {
  Shape s{1};
  for (long d : a.s) s.push_back(d);
  Tensor y(t, s);
  for (std::int64_t i = 0; i < y.size(); ++i) y.set(i, a.v[static_cast<std::size_t>(i)]);
  return y;
}
// The largest difference of any output, relative to the largest magnitude of that output.
double difference(const Graph& g, Interpreter it, const Config& model, int samples, double grid, std::uint64_t seed) {
  std::mt19937_64 r(seed);
  double worst = 0;
  const Graph bound = ir::bind_free(g);
  for (int k = 0; k < samples; ++k) {
    std::vector<Arr> in;
    std::vector<Tensor> tensors;
    for (ir::ValueId v : bound.inputs) {
      const auto& type = bound.values[static_cast<std::size_t>(v)].type;
      Arr a;
      for (std::size_t d = 1; d < type.dims->size(); ++d) a.s.push_back(static_cast<long>((*type.dims)[d].n));
      a.v.resize(static_cast<std::size_t>(a.size()));
      // On a grid, so that quantised models are compared without a rounding of the input; integers count vertices.
      for (double& x : a.v) x = is_float(type.dtype) ? std::nearbyint(std::normal_distribution<>(0, 1)(r) / grid) * grid : static_cast<double>(r() % 100 + 1);
      in.push_back(a);
      tensors.push_back(tensor_of(a, type.dtype));
    }
    const std::vector<Arr> want = it.run(model, in);
    const std::vector<Tensor> got = ir::evaluate_float(bound, tensors);
    EXPECT_EQ(want.size(), got.size());
    for (std::size_t o = 0; o < want.size() && o < got.size(); ++o) {
      Shape s{1};
      for (long d : want[o].s) s.push_back(d);
      EXPECT_EQ(got[o].shape(), s);
      if (got[o].shape() != s) return INFINITY;
      double scale = 1e-30, off = 0;
      for (double x : want[o].v) scale = std::max(scale, std::abs(x));
      for (std::int64_t i = 0; i < got[o].size(); ++i) off = std::max(off, std::abs(got[o].at(i) - want[o].v[static_cast<std::size_t>(i)]));
      worst = std::max(worst, off / scale);
    }
  }
  return worst;
}

TEST(KerasModels, EveryModelOfTheDataIsAsTheInterpreterSays) {
  NEEDS_MODELS();
  int models = 0;
  for (const auto& e : fs::directory_iterator(kModels)) {
    if (e.path().extension() != ".json") continue;
    SCOPED_TRACE(e.path().filename().string());
    fs::path w = kModels / (e.path().stem().string() + "_weights.h5");
    if (!fs::exists(w)) continue;
    const Graph g = ir::read_keras(e.path());
    const tool::Hdf5File weights = tool::read_hdf5(w);
    const double d = difference(g, Interpreter{weights}, Config::read(e.path()), 6, 1.0 / 64, 3);
    EXPECT_LT(d, 1e-5);
    RecordProperty(e.path().stem().string(), fmt::format("{:.2g}", d));
    ++models;
    // What is read can be written and read again.
    const Graph again = ir::parse_onnx(ir::onnx_bytes(g));
    EXPECT_LT(difference(again, Interpreter{weights}, Config::read(e.path()), 1, 1.0 / 64, 4), 1e-5);
  }
  EXPECT_EQ(models, 16);
}

TEST(KerasModels, OtherWeightsForOneModel) {
  NEEDS_MODELS();
  for (const char* name : {"KERAS_3layer_70pruned_retrained_weights.h5", "KERAS_3layer_95pruned_retrained_weights.h5"}) {
    const Graph g = ir::read_keras(kModels / "KERAS_3layer.json", {}, kModels / name);
    const tool::Hdf5File weights = tool::read_hdf5(kModels / name);
    EXPECT_LT(difference(g, Interpreter{weights}, Config::read(kModels / "KERAS_3layer.json"), 6, 1.0 / 64, 3), 1e-5) << name;
  }
}

TEST(KerasModels, AWholeModelInOneFileIsTheSameModel) {
  NEEDS_MODELS();
  for (const char* name : {"garnet_1layer", "garnet_3layer"}) {
    const Graph a = ir::read_keras(kModels / (std::string(name) + "_weights.h5")), b = ir::read_keras(kModels / (std::string(name) + ".json"));
    EXPECT_EQ(ir::onnx_bytes(a), ir::onnx_bytes(b)) << name;
  }
}

// A third opinion: the same weights as hls4ml's keras2onnx wrote them.
TEST(KerasModels, WhatOtherConvertersMadeOfThemAnswersTheSame) {
  NEEDS_MODELS();
  const std::pair<const char*, const char*> pairs[] = {{"KERAS_1layer", "two_layer_keras"}, {"KERAS_3layer", "three_layer_keras"}, {"KERAS_conv1d_small", "conv1d_small_keras"}, {"KERAS_conv2d_model", "conv2d_small_keras"}};
  for (const auto& [keras, onnx] : pairs) {
    SCOPED_TRACE(keras);
    const Graph a = ir::bind_free(ir::read_keras(kModels / (std::string(keras) + ".json"))), free = ir::read_onnx(data_folder() / "qonnx_models/hls4ml_onnx" / (std::string(onnx) + ".onnx"));
    std::mt19937_64 r(11);
    for (int k = 0; k < 8; ++k) {
      Shape s;
      for (const ir::Dim& d : *a.values[static_cast<std::size_t>(a.inputs[0])].type.dims) s.push_back(d.n);
      Tensor x(DType::f32, s);
      for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, std::normal_distribution<>(0, 1)(r));
      const Graph b = ir::bind_inputs(free, {{free.values[static_cast<std::size_t>(free.inputs[0])].name, s}});
      const Tensor y = ir::evaluate_float(a, {x})[0], want = ir::evaluate_float(b, {x})[0];
      ASSERT_EQ(y.size(), want.size());
      for (std::int64_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y.at(i), want.at(i), 1e-5);
    }
  }
}

TEST(KerasModels, HgqIsRefusedByTheNameOfItsLayer) {
  NEEDS_MODELS();
  for (const char* name : {"hgq_jet_classifier.h5", "hgq_mnist_heterogeneous.h5", "hgq_mnist_homogeneous.h5"}) {
    try {
      ir::read_keras(kModels / name);
      ADD_FAILURE() << name;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input);
      EXPECT_NE(e.message().find("HGQ"), std::string::npos) << e.full();
      EXPECT_NE(e.where().find("quantizer' (FixedPointQuantizer)"), std::string::npos) << e.full();
    }
  }
}

// hls4ml's stored events: 256 lines of 128 vertices of 4 features and their number, and what Keras answered. Both are printed
// with six decimals: the rounded features alone move the answer by up to 1.5e-6 (the interpreter, in double), f32 by 1e-7.
TEST(KerasModels, GarNetAnswersItsStoredEvents) {
  NEEDS_MODELS();
  const Graph g = ir::bind_free(ir::read_keras(kModels / "garnet_1layer.json"));
  std::istringstream in(read_file(kModels / "garnet_1layer_input.dat")), out(read_file(kModels / "garnet_1layer_output.dat"));
  const tool::Hdf5File weights = tool::read_hdf5(kModels / "garnet_1layer_weights.h5");
  const Config model = Config::read(kModels / "garnet_1layer.json");
  double worst = 0, in_double = 0;
  int events = 0;
  for (std::string line, want; std::getline(in, line) && std::getline(out, want); ++events) {
    std::istringstream words(line);
    Tensor x(DType::f32, {1, 128, 4}), n(DType::i32, {1, 1});
    std::string word;
    for (std::int64_t i = 0; i <= 512 && words >> word; ++i) i < 512 ? x.set(i, parse_double(word).value()) : n.set(0, parse_double(word).value());
    worst = std::max(worst, std::abs(ir::evaluate_float(g, {x, n})[0].at(0) - parse_double(want).value()));
    Arr vertices{{128, 4}, {}}, count{{1}, {n.at(0)}};
    for (std::int64_t i = 0; i < 512; ++i) vertices.v.push_back(x.at(i));
    in_double = std::max(in_double, std::abs(Interpreter{weights}.run(model, {vertices, count})[0].v[0] - parse_double(want).value()));
  }
  EXPECT_EQ(events, 256);
  EXPECT_LT(worst, 2e-6);
  EXPECT_LT(in_double, 2e-6);
}

TEST(KerasModels, AQuantisedModelIsExactUpToItsSoftmax) {
  NEEDS_MODELS();
  const Graph g = ir::read_keras(kModels / "qkeras_3layer.json");
  flow::DoctorParams p;
  p.input_format = "fixed<8,4>";
  const flow::DoctorReport r = flow::examine(g, p);
  for (const auto& n : r.nodes) EXPECT_NE(n.hardware, "no") << n.node;
  const ir::ExactProgram e = ir::lower_exact(ir::bind_free(flow::hardware_graph(g, p.input_format)), 64);
  EXPECT_EQ(e.host_nodes, (std::vector<std::string>{"node 'softmax' (Softmax)"}));
  for (const auto& x : r.refused) EXPECT_EQ(x.engine, "train") << x.node << ": " << x.reason;
  EXPECT_TRUE(r.ok());
}

// ---- layers one by one --------------------------------------------------------------------------------
struct Made {
  tool::Hdf5File w;
  std::string json;
};
// layers: "Kind|name|json of the rest|role:shape;role:shape"
Made sequential(const std::string& input, const std::vector<std::string>& layers, const std::string& version = "2.4.0", std::uint64_t seed = 1) {
  Made m;
  std::mt19937_64 r(seed);
  m.json = R"({"class_name": "Sequential", "keras_version": ")" + version + R"(", "config": {"name": "m", "layers": [{"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": )" + input + "}}";
  for (const std::string& l : layers) {
    std::vector<std::string> part;
    std::stringstream s(l);
    for (std::string p; std::getline(s, p, '|');) part.push_back(p);
    part.resize(4);
    m.json += fmt::format(R"(, {{"class_name": "{}", "config": {{"name": "{}"{}{}}}}})", part[0], part[1], part[2].empty() ? "" : ", ", part[2]);
    std::stringstream ws(part[3]);
    for (std::string one; std::getline(ws, one, ';');) {
      const auto colon = one.find(':');
      const std::string role = one.substr(0, colon);
      tool::Hdf5Array a;
      for (std::stringstream d(one.substr(colon + 1)); d.good();) {
        std::string n;
        std::getline(d, n, 'x');
        a.shape.push_back(parse_int(n).value());
      }
      a.numbers = Tensor(DType::f32, a.shape);
      for (std::int64_t i = 0; i < a.numbers.size(); ++i) {
        const double v = std::normal_distribution<>(0, 0.5)(r);
        a.numbers.set(i, role == "moving_variance" ? 0.5 + std::abs(v) : v);
      }
      const std::string path = "/" + part[1] + "/" + part[1] + "/" + role + ":0";
      m.w.datasets[path] = a;
      auto& names = m.w.attributes["/" + part[1]]["weight_names"];
      names.is_text = true;
      names.text.push_back(part[1] + "/" + role + ":0");
      names.shape = {static_cast<std::int64_t>(names.text.size())};
    }
  }
  m.json += "]}}";
  return m;
}
double difference_of(const Made& m, double grid = 1.0 / 64, int samples = 4) {
  const Config model = Config::parse(m.json, "model.json");
  const Graph g = ir::keras_graph(model, m.w, "model.json");
  return difference(g, Interpreter{m.w}, model, samples, grid, 7);
}

TEST(KerasLayers, EachOnItsOwn) {
  struct Case {
    const char* input;
    std::vector<std::string> layers;
  };
  const std::vector<Case> cases{
      {"[null, 6]", {R"(Dense|d|"units": 4, "activation": "relu"|kernel:6x4;bias:4)"}},
      {"[null, 3, 6]", {R"(Dense|d|"units": 4, "use_bias": false|kernel:6x4)"}},
      {"[null, 9, 8, 3]", {R"(Conv2D|c|"filters": 4, "kernel_size": [3, 2], "strides": [2, 1], "padding": "same", "activation": "tanh"|kernel:3x2x3x4;bias:4)"}},
      {"[null, 9, 8, 4]", {R"(Conv2D|c|"filters": 6, "kernel_size": [3, 3], "dilation_rate": [2, 1], "groups": 2|kernel:3x3x2x6;bias:6)"}},
      {"[null, 10, 3]", {R"(Conv1D|c|"filters": 4, "kernel_size": [3], "padding": "causal", "dilation_rate": [2]|kernel:3x3x4;bias:4)"}},
      {"[null, 11, 3]", {R"(Conv1D|c|"filters": 4, "kernel_size": 4, "strides": 3, "padding": "same"|kernel:4x3x4;bias:4)"}},
      {"[null, 7, 7, 3]", {R"(DepthwiseConv2D|c|"kernel_size": [3, 3], "depth_multiplier": 2, "padding": "same"|depthwise_kernel:3x3x3x2;bias:6)"}},
      {"[null, 7, 7, 3]", {R"(SeparableConv2D|c|"filters": 5, "kernel_size": [3, 3], "activation": "relu"|depthwise_kernel:3x3x3x1;pointwise_kernel:1x1x3x5;bias:5)"}},
      {"[null, 4, 5, 3]", {R"(Conv2DTranspose|c|"filters": 2, "kernel_size": [3, 4], "strides": [2, 3], "padding": "same"|kernel:3x4x2x3;bias:2)"}},
      {"[null, 4, 5, 3]", {R"(Conv2DTranspose|c|"filters": 2, "kernel_size": [2, 4], "strides": [3, 2]|kernel:2x4x2x3;bias:2)"}},
      {"[null, 8, 9, 3]", {R"(MaxPooling2D|p|"pool_size": [3, 2], "strides": [2, 2], "padding": "same")"}},
      {"[null, 8, 9, 3]", {R"(AveragePooling2D|p|"pool_size": [3, 3], "strides": [2, 2], "padding": "same")"}},
      {"[null, 9, 3]", {R"(MaxPooling1D|p|"pool_size": [2], "strides": null)"}},
      {"[null, 5, 4, 3]", {R"(GlobalAveragePooling2D|p|)"}},
      {"[null, 5, 4, 3]", {R"(GlobalMaxPooling2D|p|)"}},
      {"[null, 7, 3]", {R"(GlobalAveragePooling1D|p|)"}},
      {"[null, 5, 4, 3]", {R"(ZeroPadding2D|z|"padding": [[1, 2], [0, 3]])"}},
      {"[null, 6, 7, 3]", {R"(Cropping2D|z|"cropping": [[1, 2], [0, 3]])"}},
      {"[null, 3, 4, 2]", {R"(UpSampling2D|u|"size": [2, 3])"}},
      {"[null, 3, 4, 2]", {R"(UpSampling2D|u|"size": [2, 2], "interpolation": "bilinear")"}},
      {"[null, 5, 4, 3]", {R"(BatchNormalization|b|"axis": [3], "epsilon": 0.001|gamma:3;beta:3;moving_mean:3;moving_variance:3)"}},
      {"[null, 5, 4, 3]", {R"(PReLU|a|"shared_axes": [1, 2]|alpha:1x1x3)"}},
      {"[null, 5]", {R"(LeakyReLU|a|"alpha": 0.125)"}},
      {"[null, 5]", {R"(ReLU|a|"max_value": 1.0, "negative_slope": 0.25)"}},
      {"[null, 5, 6]", {R"(LayerNormalization|n|"axis": [2]|gamma:6;beta:6)"}},
      {"[null, 4, 3, 2]", {R"(Permute|p|"dims": [3, 1, 2])"}},
      {"[null, 4, 3, 2]", {R"(Reshape|r|"target_shape": [2, -1])"}},
      {"[null, 6, 4]", {R"(LSTM|r|"units": 5, "return_sequences": true|kernel:4x20;recurrent_kernel:5x20;bias:20)"}},
      {"[null, 6, 4]", {R"(LSTM|r|"units": 5|kernel:4x20;recurrent_kernel:5x20;bias:20)"}},
      {"[null, 6, 4]", {R"(GRU|r|"units": 5, "reset_after": true|kernel:4x15;recurrent_kernel:5x15;bias:2x15)"}},
      {"[null, 6, 4]", {R"(GRU|r|"units": 5, "reset_after": false|kernel:4x15;recurrent_kernel:5x15;bias:15)"}},
      // The orders of axes meet: flattened images, element by element and per channel, then a matrix.
      {"[null, 6, 5, 3]", {R"(Conv2D|c|"filters": 4, "kernel_size": [2, 2]|kernel:2x2x3x4;bias:4)", "Flatten|f|", "Activation|a|\"activation\": \"relu\"",
                           R"(BatchNormalization|b|"axis": [1]|gamma:80;beta:80;moving_mean:80;moving_variance:80)", R"(Dense|d|"units": 3|kernel:80x3;bias:3)"}},
      {"[null, 6, 5, 3]", {R"(Conv2D|c|"filters": 4, "kernel_size": [2, 2]|kernel:2x2x3x4;bias:4)", "Flatten|f|", R"(Reshape|r|"target_shape": [8, 10])"}},
      {"[null, 6, 5, 3]", {R"(Conv2D|c|"filters": 4, "kernel_size": [2, 2]|kernel:2x2x3x4;bias:4)", "Activation|s|\"activation\": \"softmax\"", R"(Dense|d|"units": 3|kernel:4x3;bias:3)"}},
  };
  for (const Case& c : cases) {
    const Made m = sequential(c.input, c.layers);
    SCOPED_TRACE(m.json);
    EXPECT_LT(difference_of(m), 1e-5);
  }
}

TEST(KerasLayers, EveryActivation) {
  for (const char* f : {"relu", "relu6", "softmax", "sigmoid", "tanh", "elu", "selu", "softplus", "softsign", "swish", "gelu", "exponential", "hard_sigmoid", "binary_tanh", "ternary_tanh"})
    for (const char* version : {"2.4.0", "3.0.1"})
      EXPECT_LT(difference_of(sequential("[null, 40]", {fmt::format("Activation|a|\"activation\": \"{}\"", f)}, version), 1.0 / 8), 1e-5) << f << " " << version;
}

// On a fine grid that holds every step of the quantisers and both sides of it, zero among them: equal to the last bit.
TEST(KerasLayers, QuantisersAreQKerasToTheLastBit) {
  const std::vector<std::string> activations{
      "quantized_bits(4)", "quantized_bits(4,0,1)", "quantized_bits(4,1,0)", "quantized_bits(3,0,keep_negative=False)", "quantized_bits(4,0,1,alpha=0.5)", "quantized_bits(1)", "quantized_relu(3)", "quantized_relu(4,1)",
      "quantized_relu(4,1,negative_slope=0.25)", "quantized_relu(5,0,0,0.5)", "quantized_tanh(4,symmetric=True)", "quantized_sigmoid(3,symmetric=True)", "binary", "binary(alpha=0.5)", "ternary(alpha=1,threshold=0.5)", "ternary", "binary_tanh", "ternary_tanh"};
  for (const std::string& q : activations) EXPECT_EQ(difference_of(sequential("[null, 200]", {fmt::format("QActivation|a|\"activation\": \"{}\"", q)}), 1.0 / 32, 8), 0) << q;
  // Configurations of a version that has no 'symmetric': it always is.
  for (const char* q : {R"("quantized_tanh", "config": {"bits": 4, "use_real_tanh": false})", R"("quantized_sigmoid", "config": {"bits": 3, "use_real_sigmoid": false})"})
    EXPECT_EQ(difference_of(sequential("[null, 200]", {fmt::format("QActivation|a|\"activation\": {{\"class_name\": {}}}", q)}), 1.0 / 32, 8), 0) << q;
  for (const char* q : {"quantized_bits(4,0,1,alpha=1)", "quantized_bits(6,1,alpha=0.75)", "quantized_bits(1)", "quantized_bits(2,0,keep_negative=False)"})
    EXPECT_LT(difference_of(sequential("[null, 8]", {fmt::format(R"(QDense|d|"units": 5, "kernel_quantizer": "{}", "bias_quantizer": "{}"|kernel:8x5;bias:5)", q, q)})), 1e-6) << q;
  for (const char* q : {R"("binary", "config": {"alpha": 0.5})", R"("ternary", "config": {"alpha": 1.0, "threshold": 0.25})", R"("quantized_po2", "config": {"bits": 4, "max_value": 1})", R"("quantized_po2", "config": {"bits": 4, "max_value": null})"})
    EXPECT_LT(difference_of(sequential("[null, 7, 7, 2]", {fmt::format(R"(QConv2D|c|"filters": 3, "kernel_size": [3, 3], "kernel_quantizer": {{"class_name": {}}}|kernel:3x3x2x3;bias:3)", q)})), 1e-6) << q;
}

TEST(KerasLayers, BranchesMeetAndLayersAreSharedByName) {
  Made m = sequential("[null, 6, 6, 2]", {R"(Conv2D|c|"filters": 3, "kernel_size": [3, 3], "padding": "same"|kernel:3x3x2x3;bias:3)", R"(Conv2D|e|"filters": 3, "kernel_size": [1, 1]|kernel:1x1x2x3;bias:3)"});
  for (const char* join : {"Add", "Multiply", "Maximum", "Subtract", "Average", "Concatenate"}) {
    m.json = fmt::format(R"({{"class_name": "Functional", "keras_version": "2.4.0", "config": {{"name": "m", "layers": [
      {{"class_name": "InputLayer", "config": {{"name": "x", "batch_input_shape": [null, 6, 6, 2]}}, "name": "x", "inbound_nodes": []}},
      {{"class_name": "Conv2D", "config": {{"name": "c", "filters": 3, "kernel_size": [3, 3], "padding": "same"}}, "name": "c", "inbound_nodes": [[["x", 0, 0, {{}}]]]}},
      {{"class_name": "Conv2D", "config": {{"name": "e", "filters": 3, "kernel_size": [1, 1]}}, "name": "e", "inbound_nodes": [[["x", 0, 0, {{}}]]]}},
      {{"class_name": "{}", "config": {{"name": "j"}}, "name": "j", "inbound_nodes": [[["c", 0, 0, {{}}], ["e", 0, 0, {{}}]]]}},
      {{"class_name": "MaxPooling2D", "config": {{"name": "p", "pool_size": [2, 2]}}, "name": "p", "inbound_nodes": [[["j", 0, 0, {{}}]]]}}],
      "input_layers": [["x", 0, 0]], "output_layers": [["p", 0, 0], ["j", 0, 0]]}}}})", join);
    EXPECT_LT(difference_of(m), 1e-5) << join;
    const Graph g = ir::keras_graph(Config::parse(m.json), m.w, "m");
    // One move in front of both convolutions, one behind each output: none in between.
    EXPECT_EQ(std::count_if(g.nodes.begin(), g.nodes.end(), [](const ir::Node& n) { return n.op == "Transpose"; }), 3) << join;
  }
}

}  // namespace
}  // namespace tandem
