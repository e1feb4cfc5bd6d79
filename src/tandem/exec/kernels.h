// Kernels of our own in f32 (and moves of any element type), made for one node of known extents.
#pragma once
#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

#include "tandem/exec/library.h"
#include "tandem/ir/graph.h"

// One binary, the widest vectors of the machine it runs on. Sanitizers do not survive ifunc resolvers.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define TANDEM_WIDEST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define TANDEM_WIDEST
#endif

namespace tandem::exec {

struct NodeView {
  const ir::Graph& graph;
  const ir::Node& node;
  std::vector<Shape> in, out;           // of absent ports: empty
  std::vector<DType> in_type, out_type;
  std::vector<const Tensor*> constant;  // of the inputs; nullptr: varies or absent
  int threads = 1;
  bool has(std::size_t i) const { return i < node.inputs.size() && node.inputs[i] != ir::kNone; }
  bool has_out(std::size_t i) const { return i < node.outputs.size() && node.outputs[i] != ir::kNone; }
};
struct Kernel {
  std::function<void(const void* const* in, void* const* out, std::byte* scratch)> run;
  std::size_t scratch = 0, held = 0;    // bytes
  bool in_place = false;                // output 0 may lie where input 0 does
};

// nullopt: there is none, the reference evaluator runs.
std::optional<Kernel> elementwise_kernel(const NodeView& v);
std::optional<Kernel> reduction_kernel(const NodeView& v);  // reductions, softmax, normalisations, pooling
std::optional<Kernel> contraction_kernel(const NodeView& v);
std::optional<Kernel> quantiser_kernel(const NodeView& v);
std::optional<Kernel> move_kernel(const NodeView& v);
// Whether output 0 is input 0 under another shape.
bool is_view(const ir::Node& n);

// body(begin, end) over [0, n), in parallel where threads are lent.
void ranges(int threads, std::int64_t n, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body);

// The windows of a node over `spatial` axes and what it would ask of a library, shared by both routes.
std::optional<ConvolutionSpec> convolution_spec(const NodeView& v);  // x and the weights f32, the weights constant
std::optional<PoolSpec> pool_spec(const NodeView& v);
std::optional<MatMulSpec> matmul_spec(const NodeView& v);            // MatMul or Gemm in f32

}  // namespace tandem::exec
