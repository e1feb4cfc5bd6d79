// Fuzz target: the text of a Keras model, a zero byte, and what tandem-hdf5 made of its weights. A model is read or refused
// with an Error; what is read verifies. Seeds: tests/corpus/keras.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tandem/base/hash.h"
#include "tandem/ir/keras.h"
#include "tandem/ir/op.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tandem;
  Limits limits;
  limits.memory_bytes = 64 << 20;
  limits.elements = 1 << 22;
  limits.nodes = 10000;
  const std::string all(reinterpret_cast<const char*>(data), size);
  const auto cut = all.find('\0');
  std::string json = all.substr(0, cut), weights = cut == std::string::npos ? "" : all.substr(cut + 1);
  std::uint64_t nonce = 0;
  if (weights.size() >= 24) {
    std::memcpy(&nonce, weights.data() + 8, sizeof nonce);
    const std::uint64_t hash = fnv1a(std::string_view(weights).substr(0, weights.size() - 8));
    std::memcpy(weights.data() + weights.size() - 8, &hash, sizeof hash);
  }
  try {
    tool::Hdf5File w;
    try {
      w = tool::parse_hdf5_container(weights, nonce, limits);
    } catch (const Error& e) {
      if (e.code() == Exit::bug) throw;
    }
    const ir::Graph g = ir::keras_graph(Config::parse(json, "model.json", limits), w, "model.json", limits);
    ir::verify(g);
  } catch (const Error& e) {
    if (e.code() == Exit::bug) {
      std::fprintf(stderr, "%s\n", e.full().c_str());
      std::abort();
    }
  }
  return 0;
}
