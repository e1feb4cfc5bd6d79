// Real TensorFlow Lite models: stored outputs reproduced bit for bit, accuracies on whole sets, every file read or refused by name.
#include <gtest/gtest.h>
#include <zlib.h>

#include <charconv>
#include <cmath>
#include <cstring>

#include "tandem/base/parallel.h"
#include "tandem/base/rng.h"
#include "tandem/exec/exec.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"
#include "tandem/ir/tflite.h"
#include "tandem/tensor/npy.h"
#include "tests/tandem_run.h"

namespace tandem::ir {
namespace {
namespace fs = std::filesystem;

// A folder of the data sets; empty where it is not on this machine (a failure in CI).
fs::path data_folder(const std::string& name) {
  if (!std::getenv("TANDEM_DATA")) ::setenv("TANDEM_DATA", TANDEM_SOURCE_DIR "/../shared/data", 0);
  const fs::path p = fs::path(std::getenv("TANDEM_DATA")) / name;
  std::error_code ec;
  if (fs::is_directory(p, ec)) return p;
  EXPECT_FALSE(std::getenv("CI")) << name << " is missing: set TANDEM_DATA";
  return {};
}
#define TANDEM_NEEDS(variable, name)                 \
  const fs::path variable = data_folder(name);       \
  if (variable.empty()) GTEST_SKIP() << name << " is missing: set TANDEM_DATA to the folder of data sets"

Tensor numbers(const fs::path& csv, DType t, const Shape& shape) {
  const std::string s = read_file(csv);
  Tensor x(t, shape);
  std::int64_t i = 0;
  for (const char *p = s.data(), *end = p + s.size(); p < end;) {
    std::int64_t v = 0;
    const auto r = std::from_chars(p, end, v);
    if (r.ec != std::errc()) {
      ++p;  // commas and newlines
      continue;
    }
    if (i >= x.size()) throw bad_input("{} has more than {} numbers", csv.string(), x.size());
    if (t == DType::i32) x.data<std::int32_t>()[i++] = static_cast<std::int32_t>(v);
    else x.data<std::int16_t>()[i++] = static_cast<std::int16_t>(v);
    p = r.ptr;
  }
  if (i != x.size()) throw bad_input("{} has {} numbers for {}", csv.string(), i, x.size());
  return x;
}

// TensorFlow Lite Micro's tests of one operator each with 16-bit activations: 127 models, 154 inputs, 127 outputs, each bit for bit.
TEST(TfliteModels, StoredOutputsOfSingleOperators) {
  TANDEM_NEEDS(data, "tflite_micro");
  const shell::Folder f;
  const shell::Result tar = f.run("tar -xJf '" + fs::absolute(data / "seanet_int16_ops.tar.xz").string() + "'");
  ASSERT_EQ(tar.code, 0) << tar.err;
  int models = 0, files = 0;
  std::int64_t outputs = 0;
  std::set<std::string> operators;
  for (const auto& e : fs::recursive_directory_iterator(f.path)) {
    if (e.is_regular_file() && (e.path().extension() == ".tflite" || e.path().extension() == ".csv")) ++files;
    if (e.path().extension() != ".tflite") continue;
    SCOPED_TRACE(e.path().filename().string());
    const fs::path base = e.path().parent_path() / e.path().stem();
    try {
      const Graph g = read_tflite(e.path());
      std::vector<Tensor> in;
      for (std::size_t i = 0; i < g.inputs.size(); ++i) {
        const TensorType& t = g.values[static_cast<std::size_t>(g.inputs[i])].type;
        Shape s;
        for (const Dim& d : *t.dims) s.push_back(d.n);
        in.push_back(numbers(base.string() + fmt::format("_input{}_{}.csv", i, t.dtype == DType::i32 ? "int32" : "int16"), t.dtype, s));
      }
      const std::vector<Tensor> y = evaluate_float(g, in);
      ASSERT_EQ(y.size(), 1u);
      const bool wide = y[0].dtype() == DType::i32;
      const Tensor want = numbers(base.string() + (wide ? "_golden_int32.csv" : "_golden_int16.csv"), y[0].dtype(), y[0].shape());
      std::int64_t wrong = 0, first = -1;
      for (std::int64_t i = 0; i < want.size(); ++i)
        if (y[0].int_at(i) != want.int_at(i) && wrong++ == 0) first = i;
      EXPECT_EQ(wrong, 0) << "first at " << first << ": " << y[0].int_at(std::max<std::int64_t>(first, 0)) << " for "
                          << want.int_at(std::max<std::int64_t>(first, 0)) << ", of " << want.size();
      outputs += want.size();
      for (const Node& n : g.nodes) operators.insert(n.op);
      ++models;
    } catch (const Error& error) {
      ADD_FAILURE() << error.full();
    }
  }
  EXPECT_EQ(models, 127);
  EXPECT_EQ(files, 408);
  EXPECT_EQ(operators, (std::set<std::string>{"Add", "Conv2D", "LeakyRelu", "Pad", "Quantize", "Slice", "Sub", "TransposeConv"}));
  std::printf("%d models, %lld outputs compared\n", models, static_cast<long long>(outputs));
}

int top(const Tensor& y) {
  int best = 0;
  for (std::int64_t i = 1; i < y.size(); ++i)
    if (y.int_at(i) > y.int_at(best)) best = static_cast<int>(i);
  return best;
}
// How many of `n` inputs are classified as labelled.
template <class Input>
std::int64_t right(const Graph& g, std::int64_t n, const Input& input, const Tensor& labels) {
  std::vector<char> hit(static_cast<std::size_t>(n));
  parallel_for(n, 1, [&](std::int64_t i) { hit[static_cast<std::size_t>(i)] = top(evaluate_float(g, {input(i)})[0]) == labels.int_at(i); });
  return std::count(hit.begin(), hit.end(), 1);
}

// MLPerf Tiny, keyword spotting: the first 700 of the official inputs. 90.2 % is the accuracy of the reference on all 1,000.
TEST(TfliteModels, KeywordSpotting) {
  TANDEM_NEEDS(data, "mlperf_tiny");
  const Graph g = read_tflite(data / "kws" / "dscnn_int8.tflite");
  const Archive a = read_npz(data / "kws" / "kws01_int8_features.npz");
  const Tensor& x = a.at("mfcc_int8");
  ASSERT_EQ(x.shape(), (Shape{700, 49, 10}));
  const std::int64_t n = right(g, 700, [&](std::int64_t i) { return x.rows(i, i + 1).reshaped({1, 49, 10, 1}); }, a.at("label"));
  std::printf("%lld of 700: %.2f %%\n", static_cast<long long>(n), static_cast<double>(n) / 7);
  EXPECT_NEAR(static_cast<double>(n) / 7, 90.2, 0.5);
}

// Records of a label and 3 planes of 32 x 32, as int8 images of the model's scale 1 and zero point -128.
struct Cifar {
  Tensor images, labels;
};
Cifar cifar(const fs::path& gz, std::int64_t n) {
  Cifar c{Tensor(DType::i8, {n, 32, 32, 3}), Tensor(DType::i64, {n})};
  gzFile f = gzopen(gz.c_str(), "rb");
  std::vector<unsigned char> r(3073);
  for (std::int64_t i = 0; i < n; ++i) {
    if (gzread(f, r.data(), 3073) != 3073) throw bad_input("{} is too short", gz.string());
    c.labels.data<std::int64_t>()[i] = r[0];
    for (std::int64_t p = 0; p < 1024; ++p)
      for (std::int64_t k = 0; k < 3; ++k) c.images.data<std::int8_t>()[(i * 1024 + p) * 3 + k] = static_cast<std::int8_t>(r[static_cast<std::size_t>(1 + k * 1024 + p)] - 128);
  }
  gzclose(f);
  return c;
}

// MLPerf Tiny, image classification, on the 2,000 photographs of the set: 76.5 % with float activations.
TEST(TfliteModels, ImageClassification) {
  TANDEM_NEEDS(data, "mlperf_tiny");
  TANDEM_NEEDS(images, "cifar10");
  const Graph g = read_tflite(data / "ic" / "resnet8_int8.tflite");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  const std::int64_t n = 200;  // ten times slower there
#else
  const std::int64_t n = 2000;
#endif
  const Cifar c = cifar(images / "test2k.bin.gz", n);
  const std::int64_t hits = right(g, n, [&](std::int64_t i) { return c.images.rows(i, i + 1); }, c.labels);
  std::printf("%lld of %lld: %.2f %%\n", static_cast<long long>(hits), static_cast<long long>(n), 100.0 * static_cast<double>(hits) / static_cast<double>(n));
  if (n == 2000) EXPECT_NEAR(static_cast<double>(hits) / 20, 76.5, 0.5);
  else EXPECT_EQ(hits, 142);
}

// MLPerf Tiny, anomalies of machines: the mean squared error of one clip's 196 windows of 5 frames, against the stored score of the
// fully quantised reference.
TEST(TfliteModels, AnomalyScore) {
  TANDEM_NEEDS(data, "mlperf_tiny");
  const fs::path ad = data / "ad";
  const Graph g = read_tflite(ad / "autoencoder_int8.tflite");
  const TfliteModel m = read_tflite_model(ad / "autoencoder_int8.tflite");
  const TfliteSubgraph& s = m.subgraphs[0];
  const auto &in = s.tensors[static_cast<std::size_t>(s.inputs[0])].quant, &out = s.tensors[static_cast<std::size_t>(s.outputs[0])].quant;
  const std::string clip = read_file(ad / "normal_id_01_00000000_hist_librosa.bin");
  ASSERT_EQ(clip.size(), 200u * 128 * 4);
  std::vector<float> frames(200 * 128);
  std::memcpy(frames.data(), clip.data(), clip.size());
  double total = 0;
  for (std::size_t w = 0; w < 196; ++w) {
    Tensor x(DType::i8, {1, 640});
    for (std::int64_t i = 0; i < 640; ++i)
      x.data<std::int8_t>()[i] = static_cast<std::int8_t>(
          std::clamp<double>(std::round(frames[w * 128 + static_cast<std::size_t>(i)] / in.scales[0]) + static_cast<double>(in.zero_points[0]), -128, 127));
    const Tensor y = evaluate_float(g, {x})[0];
    double error = 0;
    for (std::int64_t i = 0; i < 640; ++i) {
      const double r = frames[w * 128 + static_cast<std::size_t>(i)] - out.scales[0] * static_cast<double>(y.int_at(i) - out.zero_points[0]);
      error += r * r;
    }
    total += error / 640;
  }
  const std::string csv = read_file(ad / "reference_results" / "tflite_quant_fullint_micro_anomaly_score_ToyCar_id_01.csv"), name = "normal_id_01_00000000.wav,";
  double want = 0;
  const char* at = csv.data() + csv.find(name) + name.size();
  std::from_chars(at, csv.data() + csv.size(), want);
  std::printf("score %.6f, reference %.6f\n", total / 196, want);
  EXPECT_NEAR(total / 196, want, 0.02 * want);
}

// A grey bitmap, stored from its last row on; bytes as they are taken for int8, as TensorFlow Lite Micro's own test of this model does.
Tensor bitmap(const fs::path& bmp) {
  const std::string b = read_file(bmp);
  const auto word = [&](std::size_t at) {
    std::int32_t v;
    std::memcpy(&v, b.data() + at, 4);
    return v;
  };
  const std::int64_t start = word(10), w = word(18), h = std::abs(word(22)), bytes = static_cast<unsigned char>(b[28]) / 8, stride = (w * bytes + 3) / 4 * 4;
  Tensor x(DType::i8, {1, h, w, 1});
  for (std::int64_t r = 0; r < h; ++r)
    for (std::int64_t c = 0; c < w; ++c)
      x.data<std::int8_t>()[r * w + c] = static_cast<std::int8_t>(static_cast<unsigned char>(b[static_cast<std::size_t>(start + (word(22) > 0 ? h - 1 - r : r) * stride + c * bytes)]));
  return x;
}
TEST(TfliteModels, PersonDetection) {
  TANDEM_NEEDS(data, "tflite_micro");
  const Graph g = read_tflite(data / "person_detect_int8.tflite");
  const Tensor yes = evaluate_float(g, {bitmap(data / "person.bmp")})[0], no = evaluate_float(g, {bitmap(data / "no_person.bmp")})[0];
  std::printf("person: %g against %g; no person: %g against %g\n", yes.at(1), yes.at(0), no.at(1), no.at(0));
  EXPECT_GT(yes.at(1), yes.at(0));
  EXPECT_LT(no.at(1), no.at(0));
}

// Every file of the data sets becomes a graph, or is refused by the name of an operator. The graphs run on random inputs and use the
// states they were given.
TEST(TfliteModels, EveryFileIsReadOrRefusedByName) {
  struct Row {
    const char* file;
    const char* refused;  // part of the message; null: a graph
  };
  const Row rows[] = {
      {"tflite_micro/audio_preprocessor_float.tflite", "operator 0 (SignalWindow"},
      {"tflite_micro/audio_preprocessor_int8.tflite", "operator 0 (SignalWindow"},
      {"tflite_micro/dtln_noise_suppression_int8.tflite", nullptr},
      {"tflite_micro/hello_world_int8.tflite", nullptr},
      {"tflite_micro/keyword_scrambled_float.tflite", nullptr},  // its name belies it: integers throughout
      {"tflite_micro/keyword_scrambled_int8.tflite", nullptr},
      {"tflite_micro/micro_speech_int8.tflite", nullptr},
      {"tflite_micro/mnist_lstm_int8.tflite", nullptr},
      {"tflite_micro/person_detect_int8.tflite", nullptr},
      {"mlperf_tiny/ad/autoencoder_int8.tflite", nullptr},
      {"mlperf_tiny/ic/resnet8_int8.tflite", nullptr},
      {"mlperf_tiny/ic/resnet_large_int8.tflite", nullptr},
      {"mlperf_tiny/kws/dscnn_int8.tflite", nullptr},
      {"mlperf_tiny/sww/str_ww_int8.tflite", nullptr},
      {"mlperf_tiny/vww/mobilenet_v1_025_96_int8.tflite", nullptr},
      {"mcunet/mcunet_person_detection_int8.tflite", nullptr},
      {"mcunet/mcunet_vww_int8.tflite", nullptr},
      {"mcunet/mcunetv2_large_int8.tflite", nullptr},
      {"mcunet/mnist_lenet300_100_int8.tflite", nullptr},
  };
  TANDEM_NEEDS(micro, "tflite_micro");
  const fs::path root = micro.parent_path();
  std::set<std::string> listed, present;
  for (const Row& r : rows) listed.insert(r.file);
  for (const char* set : {"tflite_micro", "mlperf_tiny", "mcunet"})
    for (const auto& e : fs::recursive_directory_iterator(root / set))
      if (e.path().extension() == ".tflite" && !read_tflite_model(e.path()).floating()) present.insert(fs::relative(e.path(), root).string());
  for (const std::string& p : present) EXPECT_TRUE(listed.count(p)) << p;
  for (const Row& r : rows) {
    SCOPED_TRACE(r.file);
    if (!fs::exists(root / r.file)) {
      ADD_FAILURE() << "missing";
      continue;
    }
    try {
      const Graph g = read_tflite(root / r.file);
      EXPECT_EQ(r.refused, nullptr);
      Rng random(7, r.file);
      std::vector<Tensor> in;
      for (ValueId v : g.inputs) {
        const TensorType& t = g.values[static_cast<std::size_t>(v)].type;
        Shape shape;
        for (const Dim& d : *t.dims) shape.push_back(d.n);
        Tensor x(t.dtype, shape);
        for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, is_float(t.dtype) ? random.uniform() : static_cast<double>(random.range(-128, 127)));
        in.push_back(std::move(x));
      }
      const std::vector<Tensor> y = evaluate_float(g, in);
      EXPECT_EQ(y.size(), g.outputs.size());
      const std::vector<Tensor> fast = exec::Executor(lower_exact(g)).run(in);
      for (std::size_t i = 0; i < y.size(); ++i) EXPECT_TRUE(y[i].same(fast[i])) << "output " << i;
      for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(dims_of(y[i].shape()), *g.values[static_cast<std::size_t>(g.outputs[i])].type.dims);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input) << e.full();
      if (!r.refused) ADD_FAILURE() << e.full();
      else EXPECT_NE(e.full().find(r.refused), std::string::npos) << e.full();
    }
  }
}

// A layer that remembers: two runs that hand the state on are one run over both halves of the sequence, and a fresh state is the
// integers that stand for 0.
TEST(TfliteModels, StatesAreHandedOn) {
  TANDEM_NEEDS(data, "tflite_micro");
  const TfliteModel m = read_tflite_model(data / "mnist_lstm_int8.tflite");
  const Graph ports = tflite_graph(m);
  TfliteOptions options;
  options.state = TfliteOptions::State::fresh;
  const Graph fresh = tflite_graph(m, options);
  ASSERT_EQ(ports.inputs.size(), 3u);
  ASSERT_EQ(ports.outputs.size(), 3u);
  ASSERT_EQ(fresh.inputs.size(), 1u);
  Rng r(3, "states");
  Tensor x(DType::i8, {1, 28, 28}), h(DType::i8, {1, 20}), c(DType::i16, {1, 20});
  for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, static_cast<double>(r.range(-128, 127)));
  const Dims& hd = *ports.values[static_cast<std::size_t>(ports.inputs[1])].type.dims;
  h = Tensor(DType::i8, {hd[0].n, hd[1].n}), c = Tensor(DType::i16, {hd[0].n, hd[1].n});
  const Node& lstm = ports.nodes[0];
  for (std::int64_t i = 0; i < h.size(); ++i) h.set(i, static_cast<double>(lstm.attr_int("h_zero", 0)));
  const std::vector<Tensor> first = evaluate_float(ports, {x, h, c});
  EXPECT_TRUE(first[0].same(evaluate_float(fresh, {x})[0]));
  const std::vector<Tensor> second = evaluate_float(ports, {x, first[1], first[2]});
  EXPECT_FALSE(second[1].same(first[1]));
}

// A form takes integers as they are, also those that f32 does not hold, in each evaluator.
TEST(TfliteModels, IntegersBeyondF32) {
  Graph g;
  const ValueId x = g.add_input("x", DType::i32, {Dim(5)});
  const ValueId y = g.add_node("Quantize", {x}, {{"x_scale", 1.0}, {"y_scale", 1.0}, {"to", onnx_number(DType::i32)}}, "", "tflite");
  g.outputs = {g.add_node("Quantize", {y}, {{"x_scale", 1.0}, {"y_scale", 1.0}, {"to", onnx_number(DType::i32)}}, "", "tflite")};
  infer_shapes(g);
  const std::vector<std::int32_t> v{16'777'217, 1'073'741'823, -16'777'219, 5, -33'554'435};
  const Tensor t = Tensor::of<std::int32_t>({5}, v);
  EXPECT_TRUE(evaluate_float(g, {t})[0].same(t));
  EXPECT_TRUE(to_tensors(g, evaluate_literal(g, {t}))[0].same(t));
  EXPECT_TRUE(evaluate_carrier(lower_exact(g), {t})[0].same(t));
  EXPECT_TRUE(exec::Executor(lower_exact(g)).run({t})[0].same(t));
}

}  // namespace
}  // namespace tandem::ir
