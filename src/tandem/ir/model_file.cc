#include "tandem/ir/model_file.h"

#include <algorithm>
#include <fstream>

#include "tandem/base/error.h"
#include "tandem/base/file.h"
#include "tandem/base/nearest.h"
#include "tandem/ir/keras.h"
#include "tandem/ir/llama2.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/tflite.h"
#include "tandem/tensor/safetensors.h"

namespace tandem::ir {
namespace {

constexpr std::string_view kHdf5 = "\x89HDF\r\n\x1a\n";

// The first bytes of a regular file and its size; nothing of what is none, which its reader then refuses.
std::string head_of(const std::filesystem::path& path, std::uint64_t& size) {
  std::string head(64, '\0');
  std::error_code ec;
  if (!std::filesystem::is_regular_file(path, ec)) return "";
  size = std::filesystem::file_size(path, ec);
  std::ifstream f(path, std::ios::binary);
  f.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<std::size_t>(f.gcount()));
  return head;
}

}  // namespace

std::string_view to_string(ModelFormat f) {
  switch (f) {
    case ModelFormat::onnx: return "ONNX";
    case ModelFormat::tflite: return "TFLite";
    case ModelFormat::keras: return "Keras";
    case ModelFormat::llama2: return "llama2.c";
  }
  return "";
}

ModelFormat model_format(std::string_view head, std::uint64_t size) {
  struct Refused { std::string_view magic, what, fix; };
  static constexpr Refused refused[] = {
      {"GGUF", "a GGUF file", "convert it to ONNX; weights alone can be given as --weights x.safetensors"},
      {"PK\x03\x04", "a zip archive (PyTorch or NumPy)", "torch.onnx.export for PyTorch; arrays are given as --weights"},
      {"\x80\x02", "a Python pickle, which is a program", "torch.onnx.export, or safetensors for weights alone"},
      {"\x80\x04", "a Python pickle, which is a program", "torch.onnx.export, or safetensors for weights alone"},
      {"\x93NUMPY", "a NumPy array", "arrays are given as --weights or --input beside a model"},
      {"\x1f\x8b", "a gzip file", "unpack it first"},
  };
  if (is_keras_archive(head)) return ModelFormat::keras;
  for (const Refused& r : refused)
    if (head.starts_with(r.magic)) throw bad_input("this is {}", r.what).expected("ONNX, QONNX, TFLite, Keras (.keras, .h5, or JSON with .h5), or a llama2.c checkpoint").fix(std::string(r.fix));
  if (head.size() >= 8 && head.substr(4, 4) == "TFL3") return ModelFormat::tflite;
  const std::size_t text = head.find_first_not_of(" \t\r\n");
  if (head.starts_with(kHdf5) || (text != std::string_view::npos && head[text] == '{')) return ModelFormat::keras;
  if (is_llama2(head, size)) return ModelFormat::llama2;
  return ModelFormat::onnx;
}

Graph read_model(const std::filesystem::path& path, const ReadModelOptions& o) {
  std::uint64_t size = 0;
  const std::string first = head_of(path, size);
  ModelFormat format = ModelFormat::onnx;
  try {
    format = model_format(first, size);
  } catch (Error& e) {
    throw e.at(path.string());
  }
  std::uint64_t ignored = 0;
  const bool keras_weights = format == ModelFormat::keras && !o.weights.empty() && head_of(o.weights, ignored).starts_with(kHdf5);
  Graph g;
  switch (format) {
    case ModelFormat::onnx: g = read_onnx(path, o.limits, o.invent ? Absent::invent : Absent::refuse); break;
    case ModelFormat::tflite: g = read_tflite(path, o.limits, o.quantisers ? TfliteAs::quantisers : TfliteAs::forms); break;
    case ModelFormat::keras: g = read_keras(path, o.limits, keras_weights ? o.weights : std::filesystem::path()); break;
    case ModelFormat::llama2: g = read_llama2(path, {.cache = o.cache}, o.limits); break;
  }
  if (!o.weights.empty() && !keras_weights) set_weights(g, read_arrays(o.weights, o.limits), o.weights.string());
  return g;
}

void set_weights(Graph& g, const Archive& weights, const std::string& where) {
  std::vector<std::string> names;
  for (const auto& [v, t] : g.initialisers) names.push_back(g.values[static_cast<std::size_t>(v)].name);
  for (ValueId v : g.inputs) names.push_back(g.values[static_cast<std::size_t>(v)].name);
  for (const auto& [name, t] : weights) {
    const ValueId v = g.find(name);
    const auto input = std::find(g.inputs.begin(), g.inputs.end(), v);
    const auto initialiser = g.initialisers.find(v);
    if (v == kNone || (input == g.inputs.end() && initialiser == g.initialisers.end()))
      throw bad_input("the array '{}' belongs to no weight of the model", printable(name)).at(where).expected("names of initialisers or inputs").fix(suggest(name, names));
    TensorType& type = g.values[static_cast<std::size_t>(v)].type;
    bool fits = !type.dims || type.dims->size() == t.shape().size();
    for (std::size_t i = 0; fits && type.dims && i < t.shape().size(); ++i) fits = !(*type.dims)[i].known() || (*type.dims)[i].n == t.shape()[i];
    if (!fits) throw bad_input("the array '{}' has the extents {}", name, tandem::to_string(t.shape())).at(where).expected(to_string(*type.dims));
    if (is_float(t.dtype()) != is_float(type.dtype)) throw bad_input("the array '{}' holds {}", name, tandem::to_string(t.dtype())).at(where).expected(std::string(tandem::to_string(type.dtype)));
    if (!is_float(t.dtype()) && t.dtype() != type.dtype) throw bad_input("the array '{}' holds {}", name, tandem::to_string(t.dtype())).at(where).expected(std::string(tandem::to_string(type.dtype)));
    g.initialisers[v] = t.dtype() == type.dtype ? t : t.cast(type.dtype);
    type.dims = dims_of(t.shape());
    if (input != g.inputs.end()) g.inputs.erase(input);
  }
}

Archive weights_of(const Graph& g) {
  Archive a;
  for (const auto& [v, t] : g.initialisers) a.emplace(g.values[static_cast<std::size_t>(v)].name, t);
  return a;
}

}  // namespace tandem::ir
