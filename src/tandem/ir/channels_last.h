// Graphs from formats that keep channels last (Keras, TensorFlow Lite): [batch, spatial ..., channels].
//
// ONNX's windows want channels first. The builder holds each tensor in either order, whichever came first, and makes
// the other when it is asked for: element-wise operators stay in the order of their operands, so that Transposes
// appear only where the orders meet, never in pairs. A flattened image stays channels first too: what reads it next
// permutes its constants (rows of a Dense kernel) instead. Extents are inferred node by node, so an error names the
// layer where it begins.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "tandem/ir/graph.h"

namespace tandem::ir {

class ChannelsLast {
 public:
  using Id = int;  // a tensor
  using Attrs = std::map<std::string, Attribute>;
  explicit ChannelsLast(Graph& g) : g_(g) {}

  Graph& graph() { return g_; }
  Id input(const std::string& name, DType t, Dims dims);
  Id constant(const std::string& name, Tensor t);
  Id hold(ValueId v);        // a value as the file orders it
  Id hold_first(ValueId v);  // a value with its channels first

  const Dims& dims(Id x) const { return held_[static_cast<std::size_t>(x)].dims; }  // channels last
  DType dtype(Id x) const;
  std::int64_t rank(Id x) const { return static_cast<std::int64_t>(dims(x).size()); }
  const Tensor* value(Id x) const;       // of a constant
  bool is_first(Id x) const;             // held with its channels first only
  ValueId last(Id x, const std::string& name);
  ValueId first(Id x, const std::string& name);  // rank 3 and above

  // A node whose extents are inferred at once; the first of its outputs. `outputs` of them in all.
  ValueId node(const std::string& op, std::vector<ValueId> inputs, Attrs attrs, const std::string& name, const std::string& domain = "");
  std::vector<ValueId> nodes(const std::string& op, std::vector<ValueId> inputs, Attrs attrs, const std::string& name, std::size_t outputs);
  ValueId scalar(const std::string& name, float v);
  ValueId ints(const std::string& name, const std::vector<std::int64_t>& v);

  // One varying operand, extents kept: in the order it has. `more`: further inputs that broadcast as scalars.
  Id unary(const std::string& op, Id x, Attrs attrs, const std::string& name, std::vector<ValueId> more = {}, const std::string& domain = "");
  // Element-wise with broadcasting over the file's order.
  Id join(const std::string& op, const std::vector<Id>& x, Attrs attrs, const std::string& name);
  // Operators along one axis (of the file's order): Softmax, ArgMax and their like; Concat.
  Id along(const std::string& op, Id x, std::int64_t axis, Attrs attrs, const std::string& name);
  Id concat(const std::vector<Id>& x, std::int64_t axis, const std::string& name);
  // ReduceMean and its like over axes of the file's order.
  Id reduce(const std::string& op, Id x, std::vector<std::int64_t> axes, bool keepdims, const std::string& name);
  // [batch, everything else].
  Id flatten(Id x, const std::string& name);
  // Constants whose first axis runs along the last axis of x (rows of a matrix, per-channel vectors): permuted where x is
  // a flattened image held channels first, so that they fit ordered(x).
  Tensor channels_for(Id x, const Tensor& t) const;
  ValueId ordered(Id x, const std::string& name) { return is_shuffled(x) ? first_of(x) : last(x, name); }
  // As it is held; like() is the result of a node on held(x) that keeps its extents.
  ValueId held(Id x, const std::string& name) { return is_first(x) ? first_of(x) : last(x, name); }
  Id like(Id x, ValueId v);

  bool is_shuffled(Id x) const { return is_first(x) && !held_[static_cast<std::size_t>(x)].image.empty(); }

 private:
  struct Held {
    Dims dims;                       // the file's order
    ValueId last = kNone, first = kNone;
    Shape image;                     // of a flattened image in `first`: its extents, channels last, without the batch
  };
  ValueId first_of(Id x) const { return held_[static_cast<std::size_t>(x)].first; }
  Id put(Held h);
  ValueId moved(ValueId v, const std::vector<std::int64_t>& perm, const std::string& name);

  Graph& g_;
  std::vector<Held> held_;
};

// Extents of a value; Error names `where` when the rank is unknown.
const Dims& dims_of_value(const Graph& g, ValueId v, const std::string& where);
// The pads of TensorFlow's SAME for windows over an image [batch, spatial ..., channels]: as "pads", or as auto_pad where an extent is free.
void pad_same(ChannelsLast::Attrs& a, const Dims& image, const std::vector<std::int64_t>& kernel, const std::vector<std::int64_t>& stride, const std::vector<std::int64_t>& dilation);
// A constant with its axes permuted: result axis i is axis perm[i] of t.
Tensor permuted(const Tensor& t, const std::vector<std::int64_t>& perm);

}  // namespace tandem::ir
