// TensorFlow Lite files in. What a file says, as plain data; then as a graph.
//
// Quantised models become graphs of forms (domain "tflite"): integer evaluators whose arithmetic is that of TensorFlow
// Lite Micro's reference kernels, bit for bit, on the integers themselves; images stay [batch, height, width, channels].
// What only moves data becomes the ONNX operator that says the same.
//
// A hostile file: offsets are checked before they are followed (ir/flatbuffer.h), extents and indices before they are
// used, sizes against the bytes present and the limits before anything is allocated; names carry no control characters.
#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/base/limits.h"
#include "tandem/ir/graph.h"

namespace tandem::ir {

struct TfliteQuantisation {
  std::vector<float> scales;             // empty: not quantised. One, or one per slice along `dimension`
  std::vector<std::int64_t> zero_points; // as many as scales (one given for many is repeated)
  std::int64_t dimension = 0;
};
struct TfliteTensor {
  std::string name;                 // as stored: may be empty or repeated
  std::optional<DType> dtype;       // absent: a type we do not hold (`type` says which)
  std::string type;                 // the schema's name: "INT8", "RESOURCE", "INT4", ...
  Shape shape;                      // every extent at least 0; a free one is stored as 1
  Shape signature;                  // -1 where an extent is free; empty: `shape` says it all
  std::string_view data;            // exactly the bytes of a constant; empty where it is computed
  bool constant = false;            // also a constant without elements is one
  bool variable = false, sparse = false;
  TfliteQuantisation quant;
  bool dense() const { return constant && dtype && !sparse; }
  Tensor value() const;             // of a dense constant
};
struct TfliteOperator {
  int code = 0;                     // BuiltinOperator
  std::string op;                   // "CONV_2D"; a custom one by its own name
  bool custom = false;
  int version = 1;
  std::vector<int> inputs, outputs, intermediates;  // tensors; -1: absent
  std::map<std::string, double> numbers;            // every number of its options table by the schema's name, defaults filled in;
                                                    // enumerations by number (padding: 0 SAME, 1 VALID; fused_activation_function: 0 none, 1 RELU, 2 RELU_N1_TO_1, 3 RELU6)
  std::map<std::string, std::vector<std::int64_t>> lists;
  std::map<std::string, std::string> texts;
  std::string_view custom_options;  // the bytes of a custom operator's options (FlexBuffers)
  double number(std::string_view key, double fallback = 0) const;
};
struct TfliteSubgraph {
  std::string name;
  std::vector<TfliteTensor> tensors;
  std::vector<TfliteOperator> operators;  // in the order of execution
  std::vector<int> inputs, outputs;
};
struct TfliteSignature {
  std::string key;
  int subgraph = 0;
  std::map<std::string, int> inputs, outputs;  // names of ports to tensors
};
struct TfliteModel {
  std::shared_ptr<const std::string> file;  // holds the bytes that the views point into, where the model was read from a file
  std::string description;
  std::vector<TfliteSubgraph> subgraphs;    // at least one; the first is the model
  std::vector<TfliteSignature> signatures;
  std::map<std::string, std::string> metadata;
  // Operators of the first subgraph compute real numbers, and no quantised integers.
  bool floating() const;
};

// `bytes` must outlive the model. Error(bad_input) names the subgraph and the tensor or operator; Error(limit) the limit.
TfliteModel parse_tflite(std::string_view bytes, const Limits& limits = {});
TfliteModel read_tflite_model(const std::filesystem::path& path, const Limits& limits = {});

// ---- as graphs ------------------------------------------------------------------------------------
struct TfliteOptions {
  // What a layer remembers between runs (LSTM, SVDF): inputs and outputs of the graph, named after the file's tensor and with
  // "_next", after its own; or fresh at every run (the integer that stands for 0).
  enum class State { ports, fresh } state = State::ports;
  Limits limits;
};
// A quantised model as forms of domain "tflite". Refused by name: operators and types without a form, scales that a form does
// not take, variables in resources, several subgraphs that call each other.
Graph tflite_graph(const TfliteModel& m, const TfliteOptions& options = {});
// Any model: a float one as ONNX operators (ir/tflite_float.h), a quantised one as forms, or as ONNX operators with its quantisers, which
// hardware can have. Errors name the file.
enum class TfliteAs { forms, quantisers };
Graph read_tflite(const std::filesystem::path& path, const Limits& limits = {}, TfliteAs as = TfliteAs::forms);

// "operator 3 (CONV_2D, which computes 'y')": how errors name an operator.
std::string describe(const TfliteSubgraph& s, std::size_t op);

}  // namespace tandem::ir
