// The graph: the only stored description of a workload. SSA values, nodes that name an OpDef,
// initialisers that hold tensors. What a graph means, to the bit, is docs/semantics.md.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tandem/tensor/tensor.h"

namespace tandem::ir {

using tandem::to_string;  // Shape is a std::vector: found by name, not by argument
using ValueId = std::int32_t;
inline constexpr ValueId kNone = -1;  // an absent optional input

// An extent: a constant, or a symbol ("batch") that bind() replaces.
struct Dim {
  std::int64_t n = -1;
  std::string symbol;
  Dim() = default;
  Dim(std::int64_t v) : n(v) {}
  explicit Dim(std::string s) : symbol(std::move(s)) {}
  bool known() const { return n >= 0; }
  bool operator==(const Dim&) const = default;
};
using Dims = std::vector<Dim>;
Dims dims_of(const Shape& s);
bool all_known(const Dims& d);
using tandem::to_string;
std::string to_string(const Dims& d);

struct TensorType {
  DType dtype = DType::f32;
  std::optional<Dims> dims;  // absent: rank unknown
};

struct Value {
  std::string name;  // unique in the graph, never empty
  TensorType type;
  std::string quant;  // free annotation of formats an importer found (kept for export)
};

// A sub-graph (the branches of If, the bodies of Loop and Scan) reads nothing but its own inputs. What an ONNX file lets it read
// from outside are its last inputs, as many as the node's attribute `captured` says, and the last inputs of the node.
class Graph;
using GraphPtr = std::shared_ptr<const Graph>;
inline constexpr int kMostNested = 16;  // sub-graphs within each other

using Attribute = std::variant<std::int64_t, double, std::string, std::vector<std::int64_t>, std::vector<double>,
                               std::vector<std::string>, Tensor, GraphPtr>;

struct Node {
  std::string name;    // may be empty; errors then name the op and its first output
  std::string domain;  // "" = ONNX, "qonnx.custom_op.general", "tandem"
  std::string op;
  std::vector<ValueId> inputs, outputs;
  std::map<std::string, Attribute> attrs;

  std::int64_t attr_int(std::string_view key, std::int64_t fallback) const;
  double attr_float(std::string_view key, double fallback) const;
  std::string attr_string(std::string_view key, std::string_view fallback) const;
  std::vector<std::int64_t> attr_ints(std::string_view key, std::vector<std::int64_t> fallback) const;
  const Graph& attr_graph(std::string_view key) const;  // throws where it is missing
  bool has_attr(std::string_view key) const { return attrs.count(std::string(key)) != 0; }
  ValueId in(std::size_t i) const { return i < inputs.size() ? inputs[i] : kNone; }
};

class Graph {
 public:
  std::string name = "graph";
  std::vector<Value> values;
  std::vector<Node> nodes;  // topological, except that a Delay's input may come later
  std::vector<ValueId> inputs, outputs;
  std::map<ValueId, Tensor> initialisers;
  std::map<std::string, std::string> metadata;
  std::int64_t opset = 17;

  ValueId add_value(std::string name, TensorType type = {});
  ValueId add_input(std::string name, DType dtype, Dims dims);
  ValueId add_constant(std::string name, Tensor t);
  // Appends a node with one new output value (more by `outputs`). Names are made unique.
  ValueId add_node(std::string op, std::vector<ValueId> inputs, std::map<std::string, Attribute> attrs = {},
                   std::string name = "", std::string domain = "");
  std::string unique_name(std::string_view base) const;

  ValueId find(std::string_view name) const;  // kNone when absent
  const Tensor* constant(ValueId v) const;    // nullptr when v is not an initialiser
  int producer(ValueId v) const;              // node index or -1 (linear scan; use ProducerMap in loops)
  std::vector<int> consumers(ValueId v) const;
  // "node 'conv1' (Conv)": how errors name a node.
  std::string describe(const Node& n) const;
};

// producer[value] = node index or -1; users[value] = node indices.
struct UseMap {
  explicit UseMap(const Graph& g);
  std::vector<int> producer;
  std::vector<std::vector<int>> users;
};

// Replaces symbolic extents of inputs by numbers and re-infers every shape.
Graph bind(const Graph& g, const std::map<std::string, std::int64_t>& symbols);

// The same from the shapes of given inputs (by name): symbols take the extents of the data, unknown
// extents and ranks become known. Error(bad_input) names the input, both shapes and the axis.
Graph bind_inputs(const Graph& g, const std::map<std::string, Shape>& shapes);

// Sorts nodes topologically (Delay outputs are sources), drops nothing. Error: a cycle without Delay.
void sort_nodes(Graph& g);
// Removes nodes whose outputs nobody uses, and initialisers nobody reads.
// Values keep their ids (see compact_values).
void remove_dead(Graph& g);
// Drops values that no node, port or initialiser mentions; renumbers the rest in order.
void compact_values(Graph& g);

}  // namespace tandem::ir
