// Whole published networks as hardware: every output word in Verilator equals the exact result, and the predicted cycles are the
// simulated ones. Short: a few frames; TANDEM_FULL=1: 10,000 images of MNIST (5,000 to test on, 5,000 to train on), for mnist-conv as well, 1,000 frames of the jet tagger and kwsmlp.
#include <gtest/gtest.h>

#include <numeric>

#include "tandem/base/config.h"
#include "tandem/base/rng.h"
#include "tandem/data/dataset.h"
#include "tandem/tensor/npy.h"
#include "tandem_run.h"

namespace tandem {
namespace {
using shell::Folder;
using shell::Result;

bool full() {
  const char* v = std::getenv("TANDEM_FULL");
  return v && *v == '1';
}
std::string data(const std::string& file) {
  const char* v = std::getenv("TANDEM_DATA");
  return (std::filesystem::path(v && *v ? v : TANDEM_SOURCE_DIR "/../shared/data") / file).string();
}

struct Net {
  std::string name, file, options;
  int frames, full_frames;
  friend void PrintTo(const Net& n, std::ostream* o) { *o << n.file; }
};
class WholeNets : public testing::TestWithParam<Net> {};

TEST_P(WholeNets, IsBitExactAndOnTime) {
  const Net& n = GetParam();
  const std::string file = data(n.file);
  if (!std::filesystem::exists(file)) {
    ASSERT_FALSE(std::getenv("CI")) << "CI needs the data sets: " << file;
    GTEST_SKIP() << "the public models are not there (TANDEM_DATA)";
  }
  if (!shell::all_tools_here("verilator")) GTEST_SKIP() << "verilator is not installed";
  const Folder f;
  const int frames = full() ? n.full_frames : n.frames;
  if (n.name == "ResidualBlock") {  // ranges come from data, of which the file has none
    Rng random(1, "frames");
    Tensor x(DType::f32, {8, 1, 200, 200});
    for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, static_cast<float>(random.uniform() * 2 - 1));
    write_npy(f.path / "random.npy", x);
  }
  std::string options = n.options;
  if (const auto at = options.find("mnist"); full() && at != std::string::npos) {  // the test images that there are, filled up with those to train on
    const data::Dataset all = data::open("mnist"), test = data::select(all, data::Part::test), train = data::select(all, data::Part::train);
    std::vector<std::int64_t> first(static_cast<std::size_t>(std::max<std::int64_t>(0, frames - test.size())));
    std::iota(first.begin(), first.end(), 0);
    const data::Dataset d = data::concatenate(test, data::Part::test, data::select(train, first), data::Part::test);
    write_npz(f.path / "mnist.npz", {{"x", d.x}, {"y", d.y}, {"full_scale", Tensor::scalar(d.full_scale)}});
    options.replace(at, 5, "mnist.npz");
  }
  const Result r = f.run(fmt::format("tandem build '{}' {} --frames {} --no-place --out design --json", file, options, frames));
  ASSERT_EQ(r.code, 0) << r.err << r.out;
  const Config c = Config::parse(r.out, "build");
  EXPECT_TRUE(c.at("ok").as<bool>()) << r.out;
  // `build` itself fails where the simulation takes another cycle than predicted.
  for (const Config& m : c.at("metrics").items()) {
    const std::string name = m.at("name").as<std::string>();
    if (name != "mismatches") continue;
    EXPECT_EQ(m.at("value").as<double>(), 0);
    EXPECT_HAS(m.at("source").as<std::string>(), "words of");
    RecordProperty("compared", m.at("source").as<std::string>());
    return;
  }
  ADD_FAILURE() << "nothing was compared: " << r.out;
}
const std::string kZoo = "qonnx_models/model_zoo/";
INSTANTIATE_TEST_SUITE_P(
    Rtl, WholeNets,
    testing::Values(Net{"Tfc1w1a", kZoo + "MNIST/Brevitas_FINN_TFC/TFC/TFC_1W1A.onnx", "--target xcup --data mnist", 20, 10000},
                    Net{"Tfc1w2a", kZoo + "MNIST/Brevitas_FINN_TFC/TFC/TFC_1W2A.onnx", "--target xcup --data mnist", 20, 10000},
                    Net{"Tfc2w2a", kZoo + "MNIST/Brevitas_FINN_TFC/TFC/TFC_2W2A.onnx", "--target xcup --data mnist", 20, 10000},
                    Net{"Jet", kZoo + "JetTagging/QKeras_hls4ml_3layer/qkeras_jettagging.onnx", "--target xcup --input-format 'fixed<16,6>'", 20, 1000},
                    Net{"Kwsmlp", kZoo + "GSCV2/kwsmlp_w3a3/kwsmlp_w3a3.onnx", "--target xcup", 4, 1000},
                    Net{"MnistConv", "qonnx_models/qonnx/mnist-conv/model.onnx", "--target xcup --quantize int8 --data mnist", 4, 10000},
                    Net{"ResidualBlock", "qonnx_models/qonnx/residual_block_clean.onnx", "--target xcup --quantize int8 --data random.npy", 2, 8}),
    [](const auto& i) { return i.param.name; });

}  // namespace
}  // namespace tandem
