// Any model file: told apart by its content, never by its name.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>

#include "tandem/base/limits.h"
#include "tandem/ir/graph.h"
#include "tandem/tensor/npy.h"

namespace tandem::ir {

enum class ModelFormat { onnx, tflite, keras, llama2 };
std::string_view to_string(ModelFormat f);
// The format of a file from its first bytes and its size. Error(bad_input) where it is one that is refused by name (pickles, GGUF, ...).
ModelFormat model_format(std::string_view head, std::uint64_t size);

struct ReadModelOptions {
  // Where weights come from that the file leaves out or that shall be others: .npz, .npy or .safetensors, whose arrays replace
  // initialisers, and become them in place of inputs, of the same name; for a Keras model in JSON the .h5 of its weights. Empty: from the
  // file alone, or what lies beside it.
  std::filesystem::path weights;
  bool invent = false;  // onnx: weights in files that are not there are small random numbers, the metadata "onnx.invented" names the files
  bool quantisers = false;  // TFLite: a quantised model as ONNX operators and its quantisers instead of TFLite's own integer forms
  bool cache = false;   // llama2: with the cache of keys and values as inputs and outputs
  Limits limits;
};
// Reads the structure; `verify` judges operators. Errors name the file, the node or value, what was expected and a remedy.
Graph read_model(const std::filesystem::path& path, const ReadModelOptions& options = {});

// Initialisers (or inputs, which then are none) take the arrays of their names. Error(bad_input): an array that fits no value, other extents
// or another kind of number; floats are rounded to the type that the model has.
void set_weights(Graph& g, const Archive& weights, const std::string& where);
// The initialisers by name.
Archive weights_of(const Graph& g);

}  // namespace tandem::ir
