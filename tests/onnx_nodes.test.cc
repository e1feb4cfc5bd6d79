// ONNX's own node tests (Debian: libonnx-testdata): every case computes what is stored, or is refused by name. The table of the docs is made here.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "tandem/base/file.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {
namespace fs = std::filesystem;

constexpr const char* kCases = "/usr/share/libonnx-testdata/data/node";

// "" where they agree within rtol 1e-3 and atol 1e-7, as ONNX's own runner asks.
std::string difference(const Tensor& y, const Tensor& want) {
  if (y.dtype() != want.dtype()) return fmt::format("{} for {}", to_string(y.dtype()), to_string(want.dtype()));
  if (y.shape() != want.shape()) return fmt::format("shape {} for {}", to_string(y.shape()), to_string(want.shape()));
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const double a = y.at(i), b = want.at(i);
    if (std::isnan(a) != std::isnan(b) || (!(a == b) && !std::isnan(a) && !(std::abs(a - b) <= 1e-7 + 1e-3 * std::abs(b)))) return fmt::format("element {} is {} for {}", i, a, b);
  }
  return "";
}

std::vector<Tensor> tensors(const fs::path& set, const char* what) {
  std::vector<Tensor> t;
  for (int i = 0; fs::exists(set / fmt::format("{}_{}.pb", what, i)); ++i) t.push_back(parse_onnx_tensor(read_file(set / fmt::format("{}_{}.pb", what, i))));
  return t;
}

// The test data store bfloat16 as the integers of its bits.
Tensor with_type(const Tensor& x, DType t) {
  if (t != DType::bf16 || x.dtype() != DType::u16) return x;
  Tensor y(t, x.shape());
  std::memcpy(y.raw_mutable(), x.raw(), x.bytes());
  return y;
}

// Stored bfloat16 that were cut off where the specification rounds: what is computed is never further from the input than what is stored.
bool nearer(const Tensor& y, const Tensor& want, const Tensor& x) {
  if (y.dtype() != DType::bf16 || x.dtype() != DType::f32 || y.shape() != want.shape() || y.shape() != x.shape()) return false;
  for (std::int64_t i = 0; i < y.size(); ++i)
    if (std::isnan(y.at(i)) != std::isnan(want.at(i)) || std::abs(y.at(i) - x.at(i)) > std::abs(want.at(i) - x.at(i))) return false;
  return true;
}

// Numbers drawn at random are no one else's: their type, shape and being 0 or 1 are compared.
bool draws(const Graph& g) {
  return std::any_of(g.nodes.begin(), g.nodes.end(), [](const Node& n) { return n.op == "Bernoulli" || n.op.starts_with("Random"); });
}
bool binary_like(const Tensor& y, const Tensor& want) {
  if (y.dtype() != want.dtype() || y.shape() != want.shape()) return false;
  for (std::int64_t i = 0; i < y.size(); ++i)
    if (y.at(i) != 0 && y.at(i) != 1) return false;
  return true;
}

struct Row {
  std::string name, verdict, reason;  // passed, refused, wrong, nearer or drawn
};
Row run(const fs::path& folder) {
  Row row{folder.filename(), "passed", ""};
  try {
    Graph g = read_onnx(folder / "model.onnx");
    verify(g);
    // What it stores is the step of epsilon 0.01, which its model does not say.
    if (row.name == "test_adam_multiple") g.nodes.at(0).attrs.emplace("epsilon", 0.01);
    const fs::path set = folder / "test_data_set_0";
    std::vector<Tensor> in = tensors(set, "input"), want = tensors(set, "output");
    in.resize(std::min(in.size(), g.inputs.size()));
    std::map<std::string, Shape> shapes;
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = with_type(in[i], g.values[static_cast<std::size_t>(g.inputs[i])].type.dtype);
    for (std::size_t i = 0; i < in.size(); ++i)  // some files declare another rank than their data have; ONNX's runner asks only the data
      if (auto& d = g.values[static_cast<std::size_t>(g.inputs[i])].type.dims; d && d->size() != in[i].shape().size()) d.reset();
    for (std::size_t i = 0; i < in.size(); ++i) shapes[g.values[static_cast<std::size_t>(g.inputs[i])].name] = in[i].shape();
    g = bind_inputs(g, shapes);
    const std::vector<Tensor> y = evaluate_float(g, in);
    if (y.size() != want.size()) row = {row.name, "wrong", fmt::format("{} outputs for {}", y.size(), want.size())};
    for (std::size_t i = 0; i < std::min(y.size(), want.size()); ++i)
      if (const std::string d = difference(y[i], with_type(want[i], y[i].dtype())); draws(g))
        row = {row.name, binary_like(y[i], want[i]) ? "drawn" : "wrong", d};
      else if (!d.empty())
        row = {row.name, g.nodes.size() == 1 && g.nodes[0].op.starts_with("Cast") && nearer(y[i], with_type(want[i], y[i].dtype()), in[0]) ? "nearer" : "wrong", fmt::format("output {}: {}", i, d)};
  } catch (const Error& e) {
    row.verdict = e.code() == Exit::bad_input ? "refused" : "wrong";
    row.reason = (e.where().empty() ? "" : e.where() + ": ") + e.message();
  }
  return row;
}

TEST(OnnxNodes, ComputeWhatIsStoredOrAreRefused) {
  if (!fs::exists(kCases)) {
    ASSERT_EQ(std::getenv("CI"), nullptr) << "libonnx-testdata is missing, and CI is set";
    GTEST_SKIP() << "libonnx-testdata is missing: ONNX's node tests are not run";
  }
  std::set<fs::path> folders;
  for (const auto& e : fs::directory_iterator(kCases)) folders.insert(e.path());
  int passed = 0, wrong = 0;
  std::string refused, nearer, drawn;
  for (const fs::path& f : folders) {
    const Row r = run(f);
    passed += r.verdict == "passed";
    wrong += r.verdict == "wrong";
    EXPECT_NE(r.verdict, "wrong") << r.name << ": " << r.reason;
    if (r.verdict == "nearer") {
      nearer += fmt::format("\n`{}` stores bfloat16 that were cut off; rounded to nearest even, as ONNX has specified since, what is computed is nearer to the input.\n", r.name);
    } else if (r.verdict == "drawn") {
      drawn += fmt::format("{}`{}`", drawn.empty() ? "" : ", ", r.name);
    } else if (r.verdict != "passed") {
      std::string reason;
      for (char c : r.reason) reason += c == '|' ? std::string("\\|") : c == '\n' ? std::string(" ") : std::string(1, c);
      refused += fmt::format("| {} | {} |\n", r.name, reason);
    }
  }
  const std::string page = fmt::format(
      "# ONNX's node tests\n\nGenerated by `tests/onnx_nodes.test.cc` (TANDEM_UPDATE=1) from the {} node tests of ONNX 1.12 (package libonnx-testdata): the float evaluator\n"
      "computes what is stored within rtol 1e-3 and atol 1e-7 (ONNX's own tolerance), or the model is refused by name.\n\n"
      "| verdict | cases |\n|---|---:|\n| passed | {} |\n| refused | {} |\n| nearer than what is stored | {} |\n| drawn at random | {} |\n| wrong | {} |\n{}\n"
      "Of {} type and shape are compared, and that every number is 0 or 1: the draws are not those of who stored them.\n\n"
      "`test_adam_multiple` stores the step of epsilon 0.01, which its model does not say: it is compared with that attribute set.\n\n| refused | why |\n|---|---|\n{}",
      folders.size(), passed, std::count(refused.begin(), refused.end(), '\n') - wrong, std::count(nearer.begin(), nearer.end(), '`') / 2,
      std::count(drawn.begin(), drawn.end(), '`') / 2, wrong, nearer, drawn, refused);
  const fs::path file = fs::path(TANDEM_SOURCE_DIR) / "docs/onnx-tests.md";
  if (std::getenv("TANDEM_UPDATE")) write_file(file, page);
  EXPECT_EQ(read_file(file), page) << "run this test with TANDEM_UPDATE=1";
}

// The other cases of that package: what PyTorch exported, and small graphs. Opsets 6 and 9 of whole files.
TEST(OnnxNodes, OtherCases) {
  if (!fs::exists(kCases)) {
    ASSERT_EQ(std::getenv("CI"), nullptr) << "libonnx-testdata is missing, and CI is set";
    GTEST_SKIP() << "libonnx-testdata is missing: ONNX's other tests are not run";
  }
  int passed = 0;
  std::set<std::string> refused;
  for (const char* group : {"pytorch-converted", "pytorch-operator", "simple"})
    for (const auto& e : fs::directory_iterator(fs::path(kCases).parent_path() / group)) {
      const Row r = run(e.path());
      EXPECT_NE(r.verdict, "wrong") << r.name << ": " << r.reason;
      passed += r.verdict == "passed";
      if (r.verdict == "refused") refused.insert(r.name + ": " + r.reason);
    }
  for (const std::string& r : refused)
    EXPECT_TRUE(r.find("sequence") != std::string::npos || r.find("strnorm") != std::string::npos || r.find("Gradient") != std::string::npos) << r;
  EXPECT_GE(passed, 120);
}

}  // namespace
}  // namespace tandem::ir
