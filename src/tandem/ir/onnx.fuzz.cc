// Fuzz target: any bytes as an ONNX model. A model is read or refused with an Error; what is read survives
// export and import, and is written in another opset or refused. Seeds: tests/corpus/onnx.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "tandem/ir/dump.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tandem;
  Limits limits;
  limits.memory_bytes = 64 << 20;
  limits.elements = 1 << 22;
  limits.nodes = 10000;
  try {
    const ir::Graph g = ir::parse_onnx({reinterpret_cast<const char*>(data), size}, limits);
    const ir::Graph again = ir::parse_onnx(ir::onnx_bytes(g));
    if (const std::string d = ir::first_difference(g, again); !d.empty()) {
      std::fprintf(stderr, "%s\n", d.c_str());
      std::abort();
    }
    ir::to_text(g);
    try {
      ir::parse_onnx(ir::onnx_bytes(g, 6 + static_cast<int>(size % 18)));
    } catch (const Error& e) {
      if (e.code() == Exit::bug) throw;
    }
    ir::verify(g);
    if (g.values.size() < 200) {
      ir::Graph typed = g;
      ir::infer_shapes(typed);
    }
  } catch (const Error& e) {
    if (e.code() == Exit::bug) {
      std::fprintf(stderr, "%s\n", e.full().c_str());
      std::abort();
    }
  }
  return 0;
}
