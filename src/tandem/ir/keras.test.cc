#include "tandem/ir/keras.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tandem/base/error.h"
#include "tandem/base/file.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"
#include "tandem/tensor/npy.h"
#include "tandem/tool/process.h"
#include "tandem/tool/work.h"

namespace tandem::ir {
namespace {

tool::Hdf5Array ones(Shape s, float v = 1) {
  tool::Hdf5Array a;
  a.shape = s;
  a.numbers = Tensor(DType::f32, s);
  std::fill_n(a.numbers.data<float>(), a.numbers.size(), v);
  return a;
}
// The weights of a layer "d", Dense of 3 to 2.
tool::Hdf5File dense_weights(Shape kernel = {3, 2}) {
  tool::Hdf5File w;
  w.groups = {"/", "/d"};
  w.datasets["/d/d/kernel:0"] = ones(std::move(kernel));
  w.datasets["/d/d/bias:0"] = ones({2});
  auto& names = w.attributes["/d"]["weight_names"];
  names.is_text = true;
  names.text = {"d/kernel:0", "d/bias:0"};
  names.shape = {2};
  return w;
}
std::string sequential(const std::string& layers, const std::string& shape = "[null, 3]") {
  return R"({"class_name": "Sequential", "keras_version": "2.4.0", "config": {"name": "m", "layers": [{"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": )" + shape + "}}, " + layers + "]}}";
}
std::string functional(const std::string& layers, const std::string& outputs = R"([["d", 0, 0]])") {
  return R"({"class_name": "Functional", "config": {"name": "m", "layers": [{"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [null, 3]}, "name": "x", "inbound_nodes": []}, )" + layers +
         R"(], "input_layers": [["x", 0, 0]], "output_layers": )" + outputs + "}}";
}
std::string refusal(const std::string& json, const tool::Hdf5File& w = dense_weights(), Exit code = Exit::bad_input) {
  try {
    keras_graph(Config::parse(json, "m.json"), w, "m.json");
  } catch (const Error& e) {
    EXPECT_EQ(static_cast<int>(e.code()), static_cast<int>(code)) << e.full();
    return e.full();
  }
  return "read";
}
void expect(const std::string& text, std::initializer_list<const char*> parts) {
  for (const char* p : parts) EXPECT_NE(text.find(p), std::string::npos) << "'" << p << "' is not in: " << text;
}

TEST(Keras, NamesOfLayersAreNamesOfNodes) {
  const Graph g = keras_graph(Config::parse(sequential(R"({"class_name": "Dense", "config": {"name": "d", "units": 2, "activation": "relu"}})")), dense_weights(), "m.json");
  ASSERT_EQ(g.nodes.size(), 2u);
  EXPECT_EQ(g.nodes[0].name, "d");
  EXPECT_EQ(g.nodes[0].op, "Gemm");
  EXPECT_EQ(g.nodes[1].name, "d/activation");
  EXPECT_EQ(g.name, "m");
  EXPECT_EQ(g.values[static_cast<std::size_t>(g.inputs[0])].name, "x");
}

TEST(Keras, WhatCannotBeReadIsRefusedByLayer) {
  const auto layer = [](const std::string& kind, const std::string& rest) { return sequential(R"({"class_name": ")" + kind + R"(", "config": {"name": "d")" + rest + "}}"); };
  expect(refusal(layer("Fancy2D", "")), {"layer 'd' (Fancy2D)", "no layer of this kind is known", "m.json"});
  expect(refusal(layer("Dens", R"(, "units": 2)")), {"did the model mean Dense?"});
  expect(refusal(layer("Dense", "")), {"layer 'd' (Dense)", "units"});
  expect(refusal(layer("Dense", R"(, "units": -2)")), {"units"});
  expect(refusal(layer("Dense", R"(, "units": 4)")), {"its weights 'kernel' have shape [3, 2]", "[3, 4]"});
  expect(refusal(layer("Dense", R"(, "units": 2)"), {}), {"its weights 'kernel' are missing", "'/d'"});
  expect(refusal(layer("Dense", R"(, "units": 2)"), dense_weights({2, 2})), {"shape [2, 2]", "[3, 2]"});
  expect(refusal(layer("Dense", R"(, "units": 2, "activation": "my_function")")), {"the activation 'my_function' is not known"});
  expect(refusal(layer("QDense", R"j(, "units": 2, "kernel_quantizer": "quantized_bits(4,0,alpha='auto')")j")), {"alpha 'auto'", "alpha=1"});
  expect(refusal(layer("QDense", R"j(, "units": 2, "kernel_quantizer": "quantized_bits(0)")j")), {"no format of 1 to 32 bits"});
  expect(refusal(layer("QDense", R"j(, "units": 2, "kernel_quantizer": "bernoulli")j")), {"weights quantised by bernoulli"});
  expect(refusal(layer("QDense", R"j(, "units": 2, "kernel_quantizer": {"class_name": "quantized_bits", "config": {"bits": 4, "qnoise_factor": 0.5}})j")), {"qnoise_factor 0.5"});
  expect(refusal(layer("QActivation", R"j(, "activation": "quantized_po2(4)")j")), {"quantized_po2 as an activation", "not a uniform format"});
  expect(refusal(layer("QActivation", R"j(, "activation": "quantized_relu(4,0,1)")j")), {"use_sigmoid"});
  expect(refusal(layer("QActivation", R"j(, "activation": "quantized_tanh(4)")j")), {"quantized_tanh(4)", "write symmetric=True or False"});
  expect(refusal(layer("QActivation", R"j(, "activation": "quantized_relu(4,0,0,1)")j")), {"a slope or stochastic rounding"});
  expect(refusal(layer("HDense", R"(, "units": 2)")), {"a layer of HGQ"});
  expect(refusal(layer("QConv2DBatchnorm", "")), {"folds its BatchNormalization"});
  expect(refusal(layer("BatchNormalization", R"(, "axis": 1)")), {"its weights 'moving_mean' are missing"});
  expect(refusal(layer("Conv2D", R"(, "filters": 2, "kernel_size": [3, 3])")), {"layer 'd' (Conv2D)", "its input has shape"});
  expect(refusal(layer("Add", "")), {"it is called on 1 tensors"});
  const auto image = [](const std::string& kind, const std::string& rest) { return sequential(R"({"class_name": ")" + kind + R"(", "config": {"name": "d")" + rest + "}}", "[null, 4, 4, 3]"); };
  expect(refusal(image("MaxPooling2D", R"(, "pool_size": [9, 9])")), {"layer 'd' (MaxPooling2D)", "does not fit"});
  expect(refusal(image("MaxPooling2D", R"(, "pool_size": [0, 2])")), {"'pool_size' holds 0"});
  expect(refusal(image("MaxPooling2D", R"(, "data_format": "channels_first")")), {"channels first"});
  expect(refusal(image("Conv2D", R"(, "filters": 2, "kernel_size": [3, 3], "padding": "odd")")), {"padding 'odd'"});
  expect(refusal(image("Reshape", R"(, "target_shape": [7, 5])")), {"layer 'd' (Reshape)"});
  expect(refusal(image("Permute", R"(, "dims": [1, 1, 2])")), {"no permutation"});
  expect(refusal(image("Cropping2D", R"(, "cropping": 3)")), {"it crops 3 and 3 of 4"});
  expect(refusal(image("TimeDistributed", R"(, "layer": {"class_name": "Conv2D", "config": {}})")), {"a Conv2D at every step"});
}

TEST(Keras, ModelsThatAreNotWholeAreRefused) {
  const std::string dense = R"({"class_name": "Dense", "config": {"name": "d", "units": 2}, "name": "d", "inbound_nodes": [[["x", 0, 0, {}]]]})";
  EXPECT_EQ(refusal(functional(dense)), "read");
  expect(refusal(sequential(dense + ", " + dense)), {"two layers are called 'd'"});
  expect(refusal(functional(R"({"class_name": "Dense", "config": {"name": "d", "units": 2}, "name": "d", "inbound_nodes": [[["y", 0, 0, {}]]]})")), {"it reads from 'y', which is not there"});
  expect(refusal(functional(R"({"class_name": "Dense", "config": {"name": "d", "units": 2}, "name": "d", "inbound_nodes": [[["d", 0, 0, {}]]]})")), {"its inputs are never computed", "cycle"});
  expect(refusal(functional(dense, R"([["e", 0, 0]])")), {"the output 'e' is never computed"});
  expect(refusal(functional(R"({"class_name": "Dense", "config": {"name": "d", "units": 2}, "name": "d", "inbound_nodes": [[["x", 0, 0, {"y": 1}]]]})")), {"arguments by name"});
  expect(refusal(R"({"class_name": "MyModel", "config": {"layers": []}})"), {"a model of class 'MyModel'", "holds code"});
  expect(refusal(R"({"class_name": "Sequential", "config": {"layers": []}})"), {"at least one layer"});
  expect(refusal(R"({"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense", "config": {"name": "d", "units": 2}}]}})"), {"the shape of the model's input is not stated"});
  expect(refusal(sequential(dense, "[null, -3]")), {"an extent of -3"});
  expect(refusal(sequential(dense, "[null, 99999999999]")), {"an extent of 99999999999"});
  expect(refusal(sequential(R"({"class_name": "Dense", "config": {"name": "a\u0007b", "units": 2}})")), {"control characters"});
}

TEST(Keras, NestedModelsAreInlined) {
  tool::Hdf5File w;
  w.datasets["/inner/d/kernel:0"] = ones({3, 2}, 0.5f);
  w.datasets["/inner/d/bias:0"] = ones({2}, 0.25f);
  auto& names = w.attributes["/inner"]["weight_names"];
  names.is_text = true;
  names.text = {"d/kernel:0", "d/bias:0"};
  names.shape = {2};
  const std::string inner = R"({"class_name": "Sequential", "config": {"name": "inner", "layers": [{"class_name": "InputLayer", "config": {"name": "i", "batch_input_shape": [null, 3]}}, {"class_name": "Dense", "config": {"name": "d", "units": 2}}]}})";
  const Graph g = keras_graph(Config::parse(sequential(inner)), w, "m.json");
  ASSERT_EQ(g.nodes.size(), 1u);
  EXPECT_EQ(g.nodes[0].name, "inner/d");
}

// Keras 3 numbers a layer's variables below a group that is named by the layer's class and holds the layer's name.
TEST(Keras, WeightsOfKeras3AreFoundByTheLayersName) {
  tool::Hdf5File w;
  const auto layer = [&](const std::string& group, const std::string& name, std::initializer_list<std::pair<const char*, Shape>> variables) {
    auto& a = w.attributes[group + "/vars"]["name"];
    a.is_text = true, a.text = {name};
    for (const auto& [number, shape] : variables) w.datasets[group + "/" + number] = ones(shape);
  };
  layer("/layers/dense_1", "first", {{"vars/0", {3, 2}}, {"vars/1", {2}}});
  layer("/layers/dense", "second", {{"vars/0", {2, 4}}});
  layer("/layers/batch_normalization", "bn", {{"vars/0", {4}}, {"vars/1", {4}}, {"vars/2", {4}}});
  w.datasets["/layers/batch_normalization/vars/1"].numbers.set(2, 7);  // the mean, where there is no gamma
  const Graph g = keras_graph(Config::parse(R"({"module": "keras", "class_name": "Sequential", "config": {"name": "m", "layers": [
    {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [null, 3], "dtype": "float32"}},
    {"class_name": "Dense", "config": {"name": "first", "units": 2}},
    {"class_name": "Dense", "config": {"name": "second", "units": 4, "use_bias": false}},
    {"class_name": "BatchNormalization", "config": {"name": "bn", "scale": false, "axis": -1}}]}})"), w, "m.keras");
  const Tensor y = evaluate_float(g, {Tensor::of<float>({1, 3}, std::vector<float>{1, 2, 3})})[0];  // (6 + 1) * 2 in each place
  ASSERT_EQ(y.size(), 4);
  EXPECT_NEAR(y.at(0), (14 - 1) / std::sqrt(1 + 1e-3) + 1, 1e-4);
  EXPECT_NEAR(y.at(2), (14 - 7) / std::sqrt(1 + 1e-3) + 1, 1e-4);
  layer("/layers/other", "first", {{"vars/0", {3, 2}}});
  expect(refusal(R"({"class_name": "Sequential", "config": {"name": "m", "layers": [{"class_name": "Dense", "config": {"name": "first", "units": 2, "batch_input_shape": [null, 3]}}]}})", w), {"2 arrays for 'kernel'"});
  expect(refusal(R"({"class_name": "Sequential", "config": {"name": "m", "layers": [{"class_name": "Dense", "config": {"name": "absent", "units": 2, "batch_input_shape": [null, 3]}}]}})", w), {"'kernel' are missing", "absent"});
}

TEST(Keras, FilesThatAreMissingOrWrongSaySo) {
  const tool::WorkFolder f;
  const std::string model = sequential(R"({"class_name": "Dense", "config": {"name": "d", "units": 2}})");
  f.put("m.json", model);
  const auto read = [&](const char* name) -> std::string {
    try {
      read_keras(f / name);
    } catch (const Error& e) {
      return fmt::format("{} {}", static_cast<int>(e.code()), e.full());
    }
    return "read";
  };
  expect(read("m.json"), {"2 ", "the weights m_weights.h5 are not there", "m.json"});
  expect(read("none.json"), {"2 ", "none.json"});
  f.put("m_weights.h5", "no HDF5");
  expect(read("m.json"), {"2 ", "no HDF5 file", "m_weights.h5"});
  f.put("text.json", "[1, 2");
  expect(read("text.json"), {"2 ", "text.json"});
  f.put("other.json", R"({"a": 1})");
  expect(read("other.json"), {"no Keras model"});
  f.put("deep.json", "{\"class_name\": " + std::string(100000, '[') + std::string(100000, ']') + "}");
  expect(read("deep.json"), {"4 ", "nested deeper than 256", "deep.json"});
  f.put("empty.keras", zip_bytes({{"metadata.json", "{}"}}));
  expect(read("empty.keras"), {"2 ", "config.json", "empty.keras"});
  f.put("list.keras", zip_bytes({{"metadata.json", "{}"}, {"config.json", "{\"a\": 1}"}, {"model.weights.h5", "no HDF5"}}));
  expect(read("list.keras"), {"2 ", "class_name", "list.keras"});
  f.put("weights.keras", zip_bytes({{"metadata.json", "{}"}, {"config.json", model}, {"model.weights.h5", "no HDF5"}}));
  expect(read("weights.keras"), {"2 ", "no HDF5 file", "weights.keras: model.weights.h5"});
  f.put("cut.keras", zip_bytes({{"metadata.json", "{}"}, {"config.json", model}}).substr(0, 90));
  expect(read("cut.keras"), {"2 ", "cannot be read", "cut.keras"});
  if (!tool::hdf5_program().empty() && tool::sandbox_available()) {
    const std::string plain = read_file(std::filesystem::path(TANDEM_SOURCE_DIR) / "tests/corpus/hdf5_files/plain.h5");
    f.put("m_weights.h5", plain);
    expect(read("m.json"), {"2 ", "layer 'd' (Dense)", "its weights 'kernel' are missing"});
    f.put("m_weights.h5", plain.substr(0, plain.size() / 2));
    expect(read("m.json"), {"2 ", "m_weights.h5"});
    f.put("whole.h5", plain);  // a model_config that is no model
    expect(read("whole.h5"), {"2 ", "whole.h5", "config"});
  }
}

}  // namespace
}  // namespace tandem::ir
