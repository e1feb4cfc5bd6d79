// Fuzz target: any bytes as a TensorFlow Lite model. A model is read or refused with an Error; a graph survives export and import,
// and where it is small it is run. Seeds: tests/corpus/tflite.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "tandem/ir/dump.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/tflite.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tandem;
  ir::TfliteOptions options;
  options.limits.memory_bytes = 64 << 20;
  options.limits.elements = 1 << 22;
  options.limits.nodes = 10000;
  try {
    const ir::TfliteModel m = ir::parse_tflite({reinterpret_cast<const char*>(data), size}, options.limits);
    const ir::Graph g = ir::tflite_graph(m, options);
    const ir::Graph again = ir::parse_onnx(ir::onnx_bytes(g));
    if (const std::string d = ir::first_difference(g, again); !d.empty()) {
      std::fprintf(stderr, "%s\n", d.c_str());
      std::abort();
    }
    ir::to_text(g);
    std::int64_t elements = 0;
    for (const ir::Value& v : g.values) {
      Shape s;
      if (v.type.dims)
        for (const ir::Dim& d : *v.type.dims) s.push_back(d.known() ? d.n : 1 << 20);
      elements += element_count(s);
    }
    if (elements > 20'000) return 0;
    std::vector<Tensor> in;
    for (ir::ValueId v : g.inputs) {
      const ir::TensorType& t = g.values[static_cast<std::size_t>(v)].type;
      Shape s;
      for (const ir::Dim& d : *t.dims) s.push_back(d.n);
      Tensor x(t.dtype, s);
      for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, static_cast<double>((i * 37 + 11) % 251 - 125));
      in.push_back(std::move(x));
    }
    ir::evaluate_float(g, in);
  } catch (const Error& e) {
    if (e.code() == Exit::bug) {
      std::fprintf(stderr, "%s\n", e.full().c_str());
      std::abort();
    }
  }
  return 0;
}
