// What the parts of the ONNX reader and writer share. Private to onnx_*.cc: the messages of protobuf go no further.
#pragma once
#include <set>
#include <unordered_map>
#include <unordered_set>

#define ONNX_ML 1
#define ONNX_NAMESPACE onnx
#include <onnx/onnx_pb.h>

#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"

namespace tandem::ir::onnx_file {

inline constexpr std::string_view kQonnx = "qonnx.custom_op.general";
inline constexpr int kOpset = 17, kOldest = 6, kNewest = 24;

// onnx_scan.cc: bounds what the parser would allocate, before it does. `tensor`: the bytes are one TensorProto.
void count_before_parsing(std::string_view bytes, bool tensor, const Limits& limits);

// onnx_tensor.cc
const std::string& checked_name(const std::string& s, std::string_view what, const Limits& limits);
std::string type_text(int t);
struct TensorReader {
  const Limits& limits;
  const std::filesystem::path* folder;  // of the model; nullptr: external data are refused
  Absent absent = Absent::refuse;
  std::uint64_t memory = 0;
  std::set<std::string> invented;       // files that do not exist
  Tensor tensor(const onnx::TensorProto& p, const std::string& what);
  TensorType type(const onnx::ValueInfoProto& v) const;
};

// Opset by the name of an output, for nodes of functions that name another one than the model.
using NodeOpsets = std::unordered_map<std::string, std::int64_t>;

// onnx_functions.cc
void inline_functions(onnx::ModelProto& m, std::int64_t opset, const Limits& limits, NodeOpsets& opsets);

// Adds to a graph under names that are free.
struct Fresh {
  Graph& g;
  std::unordered_set<std::string> names, node_names;

  explicit Fresh(Graph& graph);
  ValueId value(const std::string& base, DType t = DType::f32);
  ValueId constant(const std::string& base, Tensor t);
  // Drops the constants that nodes of `before` read and none reads now: they became attributes.
  void drop_unread(const std::vector<Node>& before);
  // What the parts of a node are called after.
  std::string base(const Node& n) const;
  // A node of the standard operators that stands, with others, for `n`; "" as suffix: it takes the name of n.
  Node part(const Node& n, const char* op, std::vector<ValueId> in, ValueId out, const char* suffix, std::map<std::string, Attribute> attrs = {});
};

// onnx_qonnx.cc: the nodes of QONNX and FINN as ours, or as ONNX's.
void from_qonnx(Graph& g);

// onnx_forms.cc: brings the nodes of a graph written in `opset` to the form of opset 17.
void to_form_17(Graph& g, std::int64_t opset, const NodeOpsets& own = {});

// onnx_older.cc: the same graph in the forms of another opset; Error names the node that has none there.
Graph to_opset(const Graph& g, int opset);
int least_opset(const Graph& g);  // 17, or the first opset that has all operators

}  // namespace tandem::ir::onnx_file
