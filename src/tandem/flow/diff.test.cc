// A difference is found where there is one, and only there: every small change of a random graph.
#include <gtest/gtest.h>

#include <filesystem>

#include "tandem/base/file.h"
#include "tandem/base/rng.h"
#include "tandem/flow/diff.h"
#include "tandem/ir/dump.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/random_graph.h"

namespace tandem::flow {
namespace {
using namespace ir;
namespace fs = std::filesystem;

TEST(Diff, AgreesWithFirstDifferenceUnderSmallChanges) {
  int changed = 0;
  for (std::uint64_t seed = 1; seed <= 120; ++seed) {
    const Graph g = random_graph({}, seed).graph;
    EXPECT_TRUE(diff_models(g, g).differences.empty());
    Graph h = g;
    Rng r(seed, "change");
    std::string kind;
    switch (seed % 6) {
      case 0: {
        auto it = h.initialisers.begin();
        std::advance(it, r.range(0, static_cast<std::int64_t>(h.initialisers.size()) - 1));
        if (!it->second.size()) continue;
        it->second.set(0, it->second.at(0) + 1);
        kind = "weights";
        break;
      }
      case 1: h.nodes.back().attrs["another"] = std::int64_t{3}; kind = "attribute"; break;
      case 2: h.nodes.back().name = "renamed"; kind = "graph"; break;
      case 3: h.metadata["note"] = "x"; kind = "graph"; break;
      case 4: h.name = "other"; kind = "graph"; break;
      default: h.values[static_cast<std::size_t>(h.outputs[0])].name = "fresh_name"; kind = "graph";
    }
    const DiffReport d = diff_models(g, h);
    EXPECT_EQ(d.differences.empty(), first_difference(g, h).empty()) << "seed " << seed;
    bool found = false;
    for (const Difference& x : d.differences) found |= x.kind == kind;
    EXPECT_TRUE(found) << "seed " << seed << " lacks " << kind;
    ++changed;
  }
  EXPECT_GT(changed, 100);
}

TEST(Diff, DesignsByTheirDocuments) {
  std::string t = (fs::temp_directory_path() / "tandem-diff-XXXXXX").string();
  const fs::path root = mkdtemp(t.data());
  const auto design = [&](const char* name, int lut, double seconds) {
    fs::create_directories(root / name);
    write_file(root / name / "build.json", fmt::format(R"({{"format": "tandem.build", "version": 1, "name": "n", "target": "t", "ok": true,
      "layers": [{{"name": "s00", "kind": "dense", "pe": 1, "cycles": 10}}], "metrics": [{{"name": "LUT4", "value": {}, "unit": "LUT4", "fidelity": "placed", "source": "x"}}],
      "host": [], "verify_s": {}}})", lut, seconds));
    return root / name;
  };
  const fs::path a = design("a", 10, 1), b = design("b", 10, 2), c = design("c", 12, 1);
  EXPECT_TRUE(diff(a, b).differences.empty());
  const DiffReport d = diff(a, c);
  ASSERT_EQ(d.differences.size(), 1u);
  EXPECT_EQ(d.differences[0].kind, "metric");
  EXPECT_EQ(d.differences[0].what, "LUT4 (placed)");
  EXPECT_EQ(d.differences[0].a, "10 LUT4");
  EXPECT_EQ(d.differences[0].b, "12 LUT4");
  EXPECT_THROW(diff(a, root / "absent"), Error);
  fs::remove_all(root);
}

}  // namespace
}  // namespace tandem::flow
