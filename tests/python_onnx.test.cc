// Python's onnx package (Debian: python3-onnx) accepts what we write: its checker, and its shapes where it infers them.
#include <gtest/gtest.h>

#include <fstream>

#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"
#include "tandem/ir/ops/kit.h"
#include "tandem_run.h"

namespace tandem::ir {
namespace {
namespace fs = std::filesystem;

// Asks each file of the folder; a line "name: why" for each that is refused, or whose shape of an output differs from ours.
constexpr const char* kAsk = R"(
import glob, onnx, os
for f in sorted(glob.glob('*.onnx')):
    m = onnx.load(f)
    want = open(f + '.txt').read().split('\n')
    if any(o.domain for o in m.opset_import):
        try:
            onnx.checker.check_model(m)
        except Exception as e:
            print(f + ': ' + str(e).replace('\n', ' '))
        continue
    try:
        onnx.checker.check_model(m, full_check=True)
        m = onnx.shape_inference.infer_shapes(m, strict_mode=True, data_prop=True)
    except Exception as e:
        print(f + ': ' + str(e).replace('\n', ' '))
        continue
    for o, ours in zip(m.graph.output, want):
        t = o.type.tensor_type
        if not t.HasField('shape'):
            continue
        theirs = [d.dim_value if d.HasField('dim_value') else '?' for d in t.shape.dim]
        mine = [int(d) if d != '?' else '?' for d in ours.split()]
        if len(theirs) != len(mine) or any(a != b and a != '?' and b != '?' for a, b in zip(theirs, mine)):
            print(f + ': shape ' + str(theirs) + ', ours ' + str(mine))
print('asked', len(glob.glob('*.onnx')))
)";

// The interpreter that has the package; "" where none has.
std::string python(const shell::Folder& f) {
  for (const char* p : {"/usr/bin/python3", "python3"})
    if (f.run(std::string(p) + " -c 'import onnx'").code == 0) return p;
  return "";
}
#define NEEDS_ONNX(python)                                                                                  \
  if (python.empty()) {                                                                                     \
    ASSERT_EQ(std::getenv("CI"), nullptr) << "python3-onnx is missing, and CI is set";                       \
    GTEST_SKIP() << "python3-onnx is missing: what we write is not shown to Python's onnx package";          \
  }

// Shapes as inferred are not written down: what Python's onnx finds is its own.
void put(const shell::Folder& f, const std::string& name, const Graph& g, int opset) {
  Graph typed = g;
  infer_shapes(typed);
  const std::string bytes = onnx_bytes(g, opset);
  std::ofstream(f.path / (name + ".onnx"), std::ios::binary) << bytes;
  std::ofstream shapes(f.path / (name + ".onnx.txt"));
  for (ValueId v : g.outputs) {
    const ValueId w = typed.find(g.values[static_cast<std::size_t>(v)].name);
    const auto& d = typed.values[static_cast<std::size_t>(w)].type.dims;
    if (!d) throw bad_input("the rank of an output is unknown");
    std::string line;
    for (const Dim& x : *d) line += (x.known() ? fmt::format("{}", x.n) : std::string("?")) + " ";
    shapes << line << "\n";
  }
}

// Where the shape inference of ONNX 1.12 contradicts ONNX's specification.
bool disputed(const Graph& typed) {
  const Node& n = typed.nodes.back();
  const bool same = n.attr_string("auto_pad", "NOTSET").starts_with("SAME");
  if (n.op == "ConvTranspose" && same) return true;                                  // "output = input * stride": not where the kernel is smaller than the stride
  if (n.op == "MaxPool" && same && n.attr_int("ceil_mode", 0) != 0) return true;     // "output = ceil(input / stride)": one more
  return n.op == "OneHot" && typed.values[static_cast<std::size_t>(n.inputs[0])].type.dims->empty();  // "any rank": not 0
}

TEST(PythonOnnx, AcceptsEverySample) {
  const shell::Folder f;
  const std::string py = python(f);
  NEEDS_ONNX(py);
  int written = 0;
  for (const OpDef* o : all_ops()) {
    if (!o->sample || o->name == "Scatter") continue;  // which ONNX took back in opset 11
    if (!o->domain.empty() && o->domain != "ai.onnx.ml" && o->domain != "ai.onnx.preview.training") continue;
    if (o->source.starts_with("onnxruntime") || o->source == "ONNX-ML TreeEnsemble-5") continue;  // not ONNX's, or of a later version than 1.12
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      Rng r(seed, o->name);
      Graph g;
      std::vector<Tensor> inputs;
      Sample s{r, g, inputs};
      o->sample(*o, s);
      Graph typed = g;
      infer_shapes(typed);
      if (disputed(typed)) continue;
      for (ValueId v : g.outputs) g.values[static_cast<std::size_t>(v)].type = {typed.values[static_cast<std::size_t>(v)].type.dtype, typed.values[static_cast<std::size_t>(v)].type.dims};
      for (int opset : {7, 11, 13, 17}) try {
          put(f, fmt::format("{}_{}_{}", o->name, seed, opset), g, opset);
          ++written;
        } catch (const Error&) {  // no form there
        }
    }
  }
  EXPECT_GT(written, 1500);
  std::ofstream(f.path / "ask.py") << kAsk;
  const shell::Result r = f.run(py + " ask.py");
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out, fmt::format("asked {}\n", written));
}

TEST(PythonOnnx, AcceptsEveryModelOfTheData) {
  const shell::Folder f;
  const std::string py = python(f);
  NEEDS_ONNX(py);
  const char* env = std::getenv("TANDEM_DATA");
  const fs::path data = env ? fs::path(env) : fs::path(TANDEM_SOURCE_DIR) / "../shared/data";
  if (!fs::exists(data)) GTEST_SKIP() << "set TANDEM_DATA to the folder of data sets";
  int written = 0;
  for (const auto& e : fs::recursive_directory_iterator(data)) {
    if (e.path().extension() != ".onnx" || e.path().stem() == "fsrcnn") continue;  // which convolves integers: no ONNX
    try {
      const Graph g = read_onnx(e.path());
      verify(g);
      put(f, fmt::format("{}_{}", written, e.path().stem().string()), g, 17);
      ++written;
    } catch (const Error&) {  // refused: onnx_models.test.cc lists them
    }
  }
  EXPECT_GE(written, 39);
  std::ofstream(f.path / "ask.py") << kAsk;
  const shell::Result r = f.run(py + " ask.py");
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out, fmt::format("asked {}\n", written));
}

}  // namespace
}  // namespace tandem::ir
