// OpDef: an operator is defined once, as one literal; every engine reads it.
#pragma once
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/ir/einsum.h"
#include "tandem/ir/graph.h"
#include "tandem/numerics/rational.h"

namespace tandem::ir {

// ---- the reference evaluator ------------------------------------------------------------------
// Written once per operator as a template over the number type:
//   Rational  the exact meaning,    double  the float meaning (each node's result is then rounded to
//   its dtype),    Int128  integers on the carrier.
template <class T>
struct Array {
  Shape shape;
  std::vector<T> v;
  Array() = default;
  explicit Array(Shape s) : shape(std::move(s)), v(static_cast<std::size_t>(element_count(shape))) {}
};
template <class T>
struct EvalArgs {
  const Graph& graph;
  const Node& node;
  std::vector<const Array<T>*> in;  // nullptr: absent
  std::vector<Array<T>>& out;
};
struct Evaluator {
  void (*as_double)(EvalArgs<double>&) = nullptr;
  void (*as_rational)(EvalArgs<Rational>&) = nullptr;  // nullptr: the exact result is not rational (exp ...)
};

// ---- shapes -----------------------------------------------------------------------------------
struct InferContext {
  const Graph& graph;
  const Node& node;
  std::vector<const TensorType*> in;        // nullptr: absent
  std::vector<const Tensor*> in_constant;   // value when known at compile time, else nullptr
  std::vector<TensorType> out;              // to be filled
  [[noreturn]] void fail(std::string what, std::string expected = "") const;  // names the node
  const Dims& dims(std::size_t i) const;    // fails when the rank is unknown
};

// ---- adjoint ----------------------------------------------------------------------------------
// Appends nodes to `g` that compute the gradients of the inputs from those of the outputs.
// grad_out[i] may be kNone (zero). Returns one value per input, kNone where there is no gradient.
using AdjointFn = std::vector<ValueId> (*)(Graph& g, const Node& n, std::span<const ValueId> grad_out);
// Appends simpler nodes to `g` with the same meaning; returns the values that replace n's outputs.
using DecomposeFn = std::vector<ValueId> (*)(Graph& g, const Node& n);

enum class AttrType { integer, real, string, integers, reals, strings, tensor, graph };
struct AttrDef {
  std::string_view name;
  AttrType type;
  std::string_view fallback;  // as text; "" = none, "required" = must be present
  std::string_view doc;
};
struct PortDef {
  std::string_view name;
  std::string_view doc;
  bool optional = false;
  bool variadic = false;
};

// How an operator treats exact values (docs/semantics.md 1).
enum class Closure {
  linear,     // contraction: Conv, MatMul, Gemm
  affine,     // element-wise with at most one varying operand: becomes scale and offset of the carrier
  piecewise,  // ReLU, Clip, Max with constants: becomes a clamp of the carrier
  join,       // Add, Sub, Mul of varying operands
  pool,
  move,       // only moves elements
  quantiser,  // Quant, BipolarQuant, Threshold
  index,      // ArgMax
  state,      // Delay
  constant,   // only on compile-time values (Shape)
  open,       // not closed: the value is rounded to float first
};
std::string_view to_string(Closure c);

struct Sample;
struct OpDef;
// Puts one random case of the operator into a graph: inputs of sensible shapes and values, and the node.
using SampleFn = void (*)(const OpDef&, Sample&);

struct OpDef {
  std::string_view domain;
  std::string_view name;
  std::string_view summary;  // one sentence
  std::string_view doc;      // meaning, as a formula where there is one
  std::string_view source;   // specification or paper
  std::vector<PortDef> inputs, outputs;
  std::vector<AttrDef> attributes;
  Closure closure = Closure::open;
  void (*infer)(InferContext&) = nullptr;
  Evaluator eval;
  Einsum (*einsum)(const Graph&, const Node&) = nullptr;
  AdjointFn adjoint = nullptr;
  DecomposeFn decompose = nullptr;  // what every engine applies first
  DecomposeFn expansion = nullptr;  // older operators that mean the same: for files that lack this one, and for adjoints. No engine applies it: it rounds more often
  SampleFn sample = nullptr;
};

// The registry: an explicit table in ops/table.cc, no static registration.
std::span<const OpDef* const> all_ops();
// nullptr when unknown. QONNX's older domains are accepted as aliases.
const OpDef* find_op(std::string_view domain, std::string_view name);
// Throws Error(bad_input) that names the node and the nearest known operator.
const OpDef& op_of(const Graph& g, const Node& n);

// ONNX's number of an element type (TensorProto.DataType), and back; nullopt for a type we do not hold.
std::int64_t onnx_number(DType t);
std::optional<DType> onnx_dtype(std::int64_t number);

// ---- passes over whole graphs -----------------------------------------------------------------
// Types and extents of every value; constants propagate through Shape, Gather, ... Throws on conflicts.
void infer_shapes(Graph& g);
// Structure: ports, attributes, dangling values, names, cycles. Throws Error(bad_input) at the first fault.
void verify(const Graph& g);
// The part of it that needs no operator definitions: an importer accepts operators we do not know.
void verify_structure(const Graph& g);
// Folds nodes whose inputs are all constant: exact, then one correct rounding to the node's dtype.
// Quantisers of constants are kept (a Quant of a constant stays code and scale).
void fold_constants(Graph& g);

// Replaces nodes by those that `by` gives for them (nullptr: none); says whether any was. Their extents are not known before infer_shapes().
bool replace_nodes(Graph& g, const std::function<DecomposeFn(const Node&)>& by);

}  // namespace tandem::ir
