// ONNX and QONNX files in and out. The messages of protobuf stay in the .cc.
//
// Import keeps names and the order of nodes. Operators of docs/operators.md are brought to the form of
// opset 17 whatever the opset of the file: attributes that became inputs (Clip, Dropout, Squeeze, Unsqueeze,
// Reshape) are inputs, Softmax before opset 13 is flattened as it was defined, Constant nodes are
// initialisers. QONNX's older domains become "qonnx.custom_op.general"; MultiThreshold becomes Threshold
// where that says the same. Unknown operators are kept; `verify` refuses them by name.
//
// Local functions are inlined. What a sub-graph (If, Loop, Scan) reads from outside becomes an input of it and of its node;
// constants are copied into it (the storage is shared), and written once.
//
// Refused by name: sparse tensors, sequences and maps, functions that call themselves, QONNX Trunc (rounds twice), tensors of
// strings and complex numbers.
//
// A hostile file: fields are counted before they are parsed (nodes, memory, depth), every size is checked
// against the bytes present before anything is allocated, names must be free of control characters,
// external data must be a regular file inside the model's folder, reached without a symbolic link.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>

#include "tandem/base/limits.h"
#include "tandem/ir/graph.h"

namespace tandem::ir {

// invent: weights in files that do not exist are small random numbers, the same every time, for models that carry structure only;
// the metadata "onnx.invented" then names the files.
enum class Absent { refuse, invent };
// Error(bad_input) names the file, the node or value and what was expected; Error(limit) names the limit.
Graph read_onnx(const std::filesystem::path& path, const Limits& limits = {}, Absent absent = Absent::refuse);
// The same from memory; external data are refused.
Graph parse_onnx(std::string_view bytes, const Limits& limits = {});

// One tensor as ONNX stores it (a TensorProto message, the .pb files of its test data).
Tensor parse_onnx_tensor(std::string_view bytes, const Limits& limits = {});

struct OnnxOptions {
  int opset = 0;          // 6 to 24; 0: 17, or the first that has all the operators
  bool overwrite = true;
};
// import(export(g)) says what g says (first_difference is empty), where real attributes are values of f32:
// ONNX stores no wider ones. The same graph gives the same bytes.
void write_onnx(const Graph& g, const std::filesystem::path& path, const OnnxOptions& options = {});
// Nodes take the form that the opset asks for (attributes for inputs and the like); what has none there is refused by name. Types of
// elements are not looked at: an older opset may allow fewer.
std::string onnx_bytes(const Graph& g, int opset = 0);

}  // namespace tandem::ir
