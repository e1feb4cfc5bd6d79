// Keras models in: NAME.json with its weights in NAME_weights.h5, a whole model in one .h5, or Keras 3's .keras, a zip of both.
//
// Sequential and functional models, nested ones inlined, become ONNX operators; layers keep their names. Images stay
// channels last at the ports and are channels first inside (ir/channels_last.h). QKeras' quantisers become QONNX Quant
// and BipolarQuant as QKeras computes them, binary and ternary layers of the hls4ml examples too, GarNet its formula.
// Refused by name, with the reason: quantisers whose scale depends on data or on the version of QKeras (alpha 'auto'),
// powers of two as activations, HGQ, custom layers, channels-first layers. Numbers are f32: models in float64 are rounded.
#pragma once
#include <filesystem>
#include <string>

#include "tandem/base/config.h"
#include "tandem/base/limits.h"
#include "tandem/ir/graph.h"
#include "tandem/tool/hdf5.h"

namespace tandem::ir {

// `weights`: beside NAME.json as NAME_weights.h5 unless given. Error(bad_input) names the file and the layer;
// Error(tool_missing) where HDF5 files cannot be read (tool/hdf5.h).
Graph read_keras(const std::filesystem::path& path, const Limits& limits = {}, const std::filesystem::path& weights = {});

// Whether these are the first bytes (64 are enough) of a .keras file, and not of another zip.
bool is_keras_archive(std::string_view bytes);

// The same from what the files hold. `where` names the model in errors.
Graph keras_graph(const Config& model, const tool::Hdf5File& weights, const std::string& where, const Limits& limits = {});

}  // namespace tandem::ir
