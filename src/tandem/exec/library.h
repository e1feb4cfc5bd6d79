// What FloatExecutor asks of a library of primitives. oneDNN stands behind it, in libtandem_onednn.so beside libtandem.so:
// opened when a float graph is first planned, so that nothing else pays for it. Without it the kernels of our own run.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tandem/tensor/tensor.h"

namespace tandem::exec {

// How the elements of a value lie in memory. A null pointer: row-major.
class Layout {
 public:
  virtual ~Layout() = default;
  virtual bool same(const Layout& o) const = 0;
};
using LayoutPtr = std::shared_ptr<const Layout>;
inline bool same(const LayoutPtr& a, const LayoutPtr& b) { return a == b || (a && b && a->same(*b)); }

struct Operation {
  std::function<void(const void* const* in, void* out, std::byte* scratch)> run;
  LayoutPtr in, out;           // of the first input (of all inputs, where there are several) and of the result
  std::size_t out_bytes = 0, scratch = 0, held = 0;
};
struct Clamp { float lo, hi; };
struct ConvolutionSpec {
  Shape x, w, y;               // [n, c, ...], ONNX's weights, [n, o, ...]
  Shape stride, dilation, before, after;
  std::int64_t group = 1;
  bool transposed = false;
  const float* weights = nullptr;
  const float* bias = nullptr; // may be null
  bool sum = false;            // added to what the destination holds
  std::optional<Clamp> clamp;  // then limited
};
struct PoolSpec {
  Shape x, y, kernel, stride, before, after;
  enum Kind { max, mean_inside, mean_all } kind = max;
};
struct MatMulSpec {            // [b, n, k] x [b, k, m] (+ bias) -> [b, n, m], all of one rank, batches of 1 broadcast
  Shape a, b, y;
  bool trans_a = false, trans_b = false;  // of rank 2
  float alpha = 1;
  const float* weights = nullptr;  // null: b is the second input
  const float* bias = nullptr;     // [m]
};

class Library {
 public:
  virtual ~Library() = default;
  virtual std::string version() const = 0;
  virtual void set_threads(int n) = 0;  // of the calling thread's next runs
  // nullopt: the library does not have it.
  virtual std::optional<Operation> convolution(const ConvolutionSpec& s) = 0;
  virtual std::optional<Operation> pool(const PoolSpec& s, const LayoutPtr& x) = 0;
  virtual std::optional<Operation> matmul(const MatMulSpec& s) = 0;
  virtual std::optional<Operation> clamp(const Shape& x, const LayoutPtr& layout, const Clamp& c) = 0;
  virtual std::optional<Operation> add(const Shape& x, const LayoutPtr& layout) = 0;
  virtual Operation reorder(const Shape& x, const LayoutPtr& from, const LayoutPtr& to) = 0;
};

// nullptr where the plug-in or oneDNN is not installed.
Library* open_library();

}  // namespace tandem::exec

extern "C" __attribute__((visibility("default"))) tandem::exec::Library* tandem_onednn_v1();
