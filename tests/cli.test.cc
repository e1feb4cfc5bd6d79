// The built binary as a user runs it: examples of every --help, exit codes, messages, JSON against schemas.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>

#include "tandem/base/config.h"
#include "tandem/base/file.h"
#include "tandem/base/json.h"
#include "tandem/cli/command.h"
#include "tandem/cli/model.h"
#include "tandem/ir/dump.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"
#include "tandem/tensor/npy.h"
#include "tests/tandem_run.h"

namespace tandem {
namespace {
using namespace shell;

// A quantised network of the usual layers, 8x8 pixels to 3 classes; values from a formula, not trained.
ir::Graph example_model() {
  using namespace ir;
  Graph g;
  g.name = "example";
  const ValueId x = g.add_input("x", DType::f32, {Dim("batch"), Dim(1), Dim(8), Dim(8)});
  const auto quant = [&](ValueId v, float scale, float bits, bool is_signed, const std::string& name) {
    return g.add_node("Quant", {v, g.add_constant(name + ".scale", Tensor::scalar(scale)), g.add_constant(name + ".zero", Tensor::scalar(0.0f)),
                                g.add_constant(name + ".bits", Tensor::scalar(bits))},
                      {{"signed", std::int64_t{is_signed}}, {"narrow", std::int64_t{is_signed}}, {"rounding_mode", std::string("ROUND")}}, name, "qonnx.custom_op.general");
  };
  const auto constant = [&](const std::string& name, Shape s, int period, float step, float first) {
    std::vector<float> v(static_cast<std::size_t>(element_count(s)));
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = first + step * static_cast<float>((i * 7 + i / 5) % static_cast<std::size_t>(period));
    return g.add_constant(name, Tensor::of<float>(s, v));
  };
  ValueId y = quant(x, 0.0625f, 4, false, "pixels");
  y = g.add_node("Conv", {y, quant(constant("conv1.w", {4, 1, 3, 3}, 8, 0.25f, -0.875f), 0.125f, 4, true, "conv1.q")},
                 {{"kernel_shape", std::vector<std::int64_t>{3, 3}}, {"pads", std::vector<std::int64_t>{1, 1, 1, 1}}}, "conv1");
  y = g.add_node("BatchNormalization", {y, constant("bn.gamma", {4}, 3, 0.25f, 0.75f), constant("bn.beta", {4}, 4, 0.125f, -0.25f),
                                        constant("bn.mean", {4}, 2, 0.25f, 0), constant("bn.var", {4}, 3, 0.5f, 0.5f)}, {}, "bn1");
  y = g.add_node("Relu", {y}, {}, "relu1");
  y = quant(y, 0.125f, 4, false, "act1");
  y = g.add_node("MaxPool", {y}, {{"kernel_shape", std::vector<std::int64_t>{2, 2}}, {"strides", std::vector<std::int64_t>{2, 2}}}, "pool1");
  y = g.add_node("Flatten", {y}, {{"axis", std::int64_t{1}}}, "flatten");
  y = g.add_node("MatMul", {y, quant(constant("dense.w", {64, 3}, 6, 0.25f, -0.625f), 0.125f, 4, true, "dense.q")}, {}, "dense");
  y = g.add_node("Add", {y, constant("dense.b", {3}, 3, 0.5f, -0.5f)}, {}, "logits");
  g.outputs = {y};
  ir::infer_shapes(g);
  return g;
}

Tensor example_input() {
  std::vector<float> v(2 * 64);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>((i * 5 + i / 8) % 17) / 16.0f;
  return Tensor::of<float>({2, 1, 8, 8}, v);
}

// What the book's chapter on operators runs: 1 / (x + 1), with an operator that it adds.
ir::Graph discount_model() {
  using namespace ir;
  Graph g;
  g.name = "discount";
  const std::vector<Dim> dims{Dim("batch"), Dim(1), Dim(8), Dim(8)};
  const ValueId x = g.add_input("x", DType::f32, dims);
  g.outputs = {g.add_node("Discount", {x}, {}, "y", "com.example")};
  g.values[static_cast<std::size_t>(g.outputs[0])].name = "y";
  g.values[static_cast<std::size_t>(g.outputs[0])].type = {DType::f32, Dims(dims.begin(), dims.end())};
  return g;
}

TEST(cli, example_files_are_what_the_test_makes) {
  const fs::path folder = fs::path(TANDEM_SOURCE_DIR) / "examples";
  const std::string model = ir::onnx_bytes(example_model()), x = npz_bytes({{"x", example_input()}});
  if (std::getenv("TANDEM_UPDATE")) {
    fs::create_directories(folder);
    write_file(folder / "model.onnx", model);
    write_file(folder / "x.npz", x);
    write_file(fs::path(TANDEM_SOURCE_DIR) / "docs/book/discount.onnx", ir::onnx_bytes(discount_model()));
  }
  EXPECT_EQ(ir::first_difference(ir::read_onnx(folder / "model.onnx"), example_model()), "");
  EXPECT_EQ(read_file(fs::path(TANDEM_SOURCE_DIR) / "docs/book/discount.onnx"), ir::onnx_bytes(discount_model()));
  EXPECT_TRUE(read_npz(folder / "x.npz").at("x").same(example_input()));
}

// A stated batch is a habit of exporters: other numbers of rows are run in its portions, the last one filled up.
TEST(cli, rows_beside_a_stated_batch) {
  const Examples f;
  ir::write_onnx(ir::bind(example_model(), {{"batch", 2}}), f.path / "two.onnx");
  std::vector<float> v(5 * 64);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>((i * 11 + i / 7) % 19) / 18.0f;
  write_npz(f.path / "five.npz", {{"x", Tensor::of<float>({5, 1, 8, 8}, v)}});
  for (const std::string engine : {"", " --exact"}) {
    ASSERT_EQ(f.run("tandem run model.onnx --input five.npz --force --out free.npz" + engine).code, 0);
    const Result r = f.run("tandem run two.onnx --input five.npz --force --out stated.npz" + engine);
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_HAS(r.err, "2 rows at a time: run 3 times");
    const Tensor want = read_npz(f.path / "free.npz").at("logits");
    EXPECT_EQ(want.shape(), (Shape{5, 3}));
    EXPECT_TRUE(read_npz(f.path / "stated.npz").at("logits").same(want)) << engine;
  }
  EXPECT_EQ(f.run("tandem run two.onnx --input five.npz --all").code, 2);
}

TEST(cli, examples_of_every_command_run) {
  const Examples f;
  for (const cli::Command* c : cli::all_commands()) {
    EXPECT_GE(c->examples.size(), 2u) << c->name;
    EXPECT_FALSE(c->summary.empty()) << c->name;
    for (const cli::Example& e : c->examples) {
      if (!all_tools_here(e.needs)) {
        std::printf("skipped, needs %s: %s\n", std::string(e.needs).c_str(), std::string(e.command).c_str());
        continue;
      }
      const std::string line(e.command);
      EXPECT_EQ(line.rfind("tandem " + std::string(c->name), 0), 0u) << line;
      Result r = f.run(line);
      EXPECT_EQ(r.code, 0) << line << "\n" << r.err;
      const bool json = line.find("--json") != std::string::npos;
      const bool file = line.find("--out") != std::string::npos && !c->own_out;
      if (!json && e.needs.empty()) r = f.run(line + " --json --force");
      else if (!json) continue;
      EXPECT_FALSE(c->schema.empty()) << c->name;
      if (c->schema.empty() || file) continue;
      try {
        const Config schema = Config::parse(c->schema, "schema"), document = Config::parse(r.out, "stdout");
        EXPECT_EQ(violation(document, schema, schema, "document"), "") << line << "\n" << r.out.substr(0, 2000);
      } catch (const Error& x) {
        ADD_FAILURE() << line << "\n" << x.full();
      }
    }
  }
}

TEST(cli, help_and_version) {
  const Folder f;
  Result r = f.run("tandem --help");
  EXPECT_EQ(r.code, 0);
  for (const cli::Command* c : cli::all_commands()) {
    EXPECT_HAS(r.out, "  " + std::string(c->name) + " ");
    const Result h = f.run("tandem " + std::string(c->name) + " --help");
    EXPECT_EQ(h.code, 0);
    EXPECT_HAS(h.out, "Examples:");
    for (const char* option : {"--json", "--seed", "--jobs", "--out", "--force", "--memory", "--table"}) EXPECT_HAS(h.out, option);
  }
  r = f.run("tandem --version");
  EXPECT_EQ(r.code, 0);
  EXPECT_EQ(r.out.rfind("tandem ", 0), 0u);
  r = f.run("tandem --version --json");
  EXPECT_TRUE(Config::parse(r.out).at("libraries").has("protobuf"));
  EXPECT_EQ(f.run("tandem").code, 2);
}

TEST(cli, wrong_use_names_the_nearest) {
  const Folder f;
  const auto refused = [&](const std::string& line, const char* part, int code = 2) {
    const Result r = f.run(line);
    EXPECT_EQ(r.code, code) << line << "\n" << r.err;
    EXPECT_EQ(r.out, "") << line;
    EXPECT_HAS(r.err, part);
  };
  refused("tandem shwo model.onnx", "did you mean 'show'?");
  refused("tandem --vresion", "did you mean '--version'?");
  refused("tandem show --jsno x", "did you mean '--json'?");
  refused("tandem show --tabel=md x", "did you mean '--table'?");
  refused("tandem show", "MODEL");
  refused("tandem ops Convv", "did you mean 'Conv'?");
  refused("tandem ops Conv Add", "'Add'");
  refused("tandem schema shwo", "did you mean 'show'?");
  refused("tandem targets up5", "up5k");
  refused("tandem ops --seed two", "a whole number");
  refused("tandem ops --memory lots", "as in 4G");
  refused("tandem ops --table html", "text, md or csv");
  refused("tandem ops --jobs=-1", "--jobs");
}

TEST(cli, bad_models_are_refused_with_place_and_remedy) {
  const Examples f;
  const auto refused = [&](const std::string& line, std::initializer_list<const char*> parts, int code = 2) {
    const Result r = f.run(line);
    EXPECT_EQ(r.code, code) << line << "\n" << r.err;
    EXPECT_EQ(r.out, "") << line;
    for (const char* p : parts) EXPECT_HAS(r.err, p);
  };
  const std::string model = read_file(f.path / "model.onnx");
  write_file(f.path / "short.onnx", model.substr(0, model.size() / 2));
  refused("tandem show short.onnx", {"short.onnx", "truncated"});
  write_file(f.path / "empty.onnx", "");
  refused("tandem show empty.onnx", {"empty.onnx", "empty"});
  refused("tandem show absent.onnx", {"absent.onnx"});
  refused("tandem show .", {"tandem: error:"});
  const std::string corpus = TANDEM_SOURCE_DIR "/tests/corpus/onnx/";
  refused("tandem show '" + corpus + "cycle.onnx'", {"cycle", "'first'", "'second'", "Delay"});
  refused("tandem show '" + corpus + "unknown.onnx'", {"'Relux' is not known", "node 'act'", "Relu"});
  refused("tandem show '" + corpus + "subgraph.onnx'", {"sub-graph", "node 'cond' (If)"});
  refused("tandem run '" + corpus + "external.onnx' --input x.npz", {"w.bin", "without symbolic links"});
  std::string wrong = model;
  const std::size_t at = wrong.find("dense.b");
  ASSERT_NE(at, std::string::npos);
  // The bias has 12 bytes of data (field 9, length 12): one byte less declared than present breaks the message.
  const std::size_t data = wrong.find(std::string("\x4a\x0c", 2), at);
  ASSERT_NE(data, std::string::npos);
  wrong[data + 1] = 11;
  write_file(f.path / "wrong.onnx", wrong);
  refused("tandem show wrong.onnx", {"wrong.onnx"});
  refused("tandem show model.onnx --memory 1K", {"memory", "--memory"}, 4);
}

TEST(cli, data_that_do_not_fit_name_both_sides) {
  const Examples f;
  const auto refused = [&](const std::string& line, std::initializer_list<const char*> parts) {
    const Result r = f.run(line);
    EXPECT_EQ(r.code, 2) << line << "\n" << r.err;
    for (const char* p : parts) EXPECT_HAS(r.err, p);
  };
  write_npz(f.path / "shape.npz", {{"x", Tensor(DType::f32, {2, 1, 8, 9})}});
  refused("tandem run model.onnx --input shape.npz", {"'x'", "[batch, 1, 8, 8]", "[2, 1, 8, 9]"});
  write_npz(f.path / "rank.npz", {{"x", Tensor(DType::f32, {64})}});
  refused("tandem run model.onnx --input rank.npz", {"rank 1", "[64]"});
  write_npz(f.path / "type.npz", {{"x", Tensor(DType::u8, {2, 1, 8, 8})}});
  refused("tandem run model.onnx --input type.npz", {"u8", "f32"});
  write_npz(f.path / "names.npz", {{"xx", Tensor(DType::f32, {2, 1, 8, 8})}, {"label", Tensor(DType::i64, {2})}});
  refused("tandem run model.onnx --input names.npz", {"'x'", "did you mean 'xx'?"});
  const std::string x = read_file(f.path / "x.npz");
  write_file(f.path / "short.npz", x.substr(0, x.size() - 30));
  refused("tandem run model.onnx --input short.npz", {"short.npz"});
  refused("tandem run model.onnx", {"--input"});
}

TEST(cli, run_gives_what_the_evaluators_give) {
  const Examples f;
  ir::Graph g = ir::bind(example_model(), {{"batch", 2}});
  ASSERT_EQ(f.run("tandem run model.onnx --input x.npz --out float.npz").code, 0);
  const Tensor expected = ir::evaluate_float(g, {example_input()})[0];
  EXPECT_TRUE(read_npz(f.path / "float.npz").at("logits").same(expected));
  ASSERT_EQ(f.run("tandem run model.onnx --input x.npz --exact --out exact.npz").code, 0);
  const Tensor exact = ir::to_tensors(g, ir::evaluate_literal(g, {example_input()}))[0];
  EXPECT_TRUE(read_npz(f.path / "exact.npz").at("logits").same(exact));
  for (const char* engine : {"", " --exact"}) {
    const Result r = f.run(std::string("tandem run model.onnx --input x.npz --all --force --out all.npz") + engine);
    ASSERT_EQ(r.code, 0) << r.err;
    const Archive all = read_npz(f.path / "all.npz");
    for (const ir::Node& n : g.nodes) EXPECT_TRUE(all.count(g.values[static_cast<std::size_t>(n.outputs[0])].name)) << n.name;
    EXPECT_TRUE(all.at("logits").same(*engine ? exact : expected));
  }
}

TEST(cli, layer_table) {
  const Examples f;
  const Result r = f.run("tandem show model.onnx --json");
  const Config d = Config::parse(r.out);
  EXPECT_EQ(d.at("total").required<std::int64_t>("macs"), 8 * 8 * 4 * 9 + 64 * 3);
  EXPECT_EQ(d.at("total").required<std::int64_t>("parameters"), 4 * 9 + 4 * 4 + 64 * 3 + 3);
  EXPECT_EQ(d.at("total").required<std::int64_t>("bytes"), (4 * 9 + 64 * 3) / 2 + 4 * (4 * 4 + 3));
  bool conv = false;
  for (const Config& l : d.at("layers").items())
    if (l.required<std::string>("node") == "conv1") {
      conv = true;
      EXPECT_EQ(l.required<std::string>("format"), "exact");
      EXPECT_EQ(l.required<std::string>("weights"), "int4;narrow");
      EXPECT_EQ(l.required<std::string>("output"), "[1, 4, 8, 8]");
    }
  EXPECT_TRUE(conv);
}

TEST(cli, results_are_written_whole_or_not_at_all) {
  const Examples f;
  // stdout on a full device: exit 4, not a silent success.
  Result r = f.run("tandem ops > /dev/full");
  EXPECT_EQ(r.code, 4) << r.err;
  EXPECT_HAS(r.err, "stdout");
  // A closed pipe ends quietly.
  r = f.run("tandem ops --docs | head -n 1");
  EXPECT_EQ(r.err, "");
  // What exists stays, unless forced.
  write_file(f.path / "keep.txt", "old");
  r = f.run("tandem ops --out keep.txt");
  EXPECT_EQ(r.code, 2);
  EXPECT_HAS(r.err, "--force");
  EXPECT_EQ(read_file(f.path / "keep.txt"), "old");
  EXPECT_EQ(f.run("tandem ops --out keep.txt --force").code, 0);
  EXPECT_HAS(read_file(f.path / "keep.txt"), "Conv");
  r = f.run("tandem run model.onnx --input x.npz --out keep.txt");
  EXPECT_EQ(r.code, 2);
  // A folder that is not there or is no folder.
  r = f.run("tandem ops --out nowhere/ops.txt");
  EXPECT_EQ(r.code, 2) << r.err;
  EXPECT_HAS(r.err, "nowhere");
  r = f.run("tandem run model.onnx --input x.npz --out keep.txt/y.npz");
  EXPECT_EQ(r.code, 2) << r.err;
  if (::geteuid() != 0) {
    fs::create_directory(f.path / "locked");
    ::chmod((f.path / "locked").c_str(), 0500);
    EXPECT_EQ(f.run("tandem ops --out locked/ops.txt").code, 2);
    ::chmod((f.path / "locked").c_str(), 0700);
  }
  // Nothing half-written is left behind.
  for (const auto& e : fs::directory_iterator(f.path)) EXPECT_EQ(e.path().string().find(".tmp"), std::string::npos) << e.path();
}

TEST(cli, every_operator_has_a_row_that_works_somewhere) {
  for (const ir::OpDef* d : ir::all_ops()) {
    const cli::OpCells c = cli::cells_of(d->domain, d->name);
    EXPECT_NE(c.ref, "no") << d->name;
    EXPECT_FALSE(c.carrier.empty() || c.exec.empty() || c.train.empty() || c.rtl.empty() || c.adjoint.empty()) << d->name;
    // A closed operator is exact between quantisers, an open one never.
    const bool forward = !cli::probe_graph(d->domain, d->name).nodes.empty();
    if (forward && d->closure != ir::Closure::open && d->closure != ir::Closure::constant) EXPECT_EQ(c.carrier, "exact") << d->name << ": " << c.carrier;
    // Where the shape of the result depends on the data there is nothing to plan memory for.
    const bool of_data = c.carrier.find("unknown extents") != std::string::npos;
    if (d->closure == ir::Closure::open && !of_data) {
      const bool constant = d->name == "ConstantOfShape" || d->name == "Range" || d->inputs.empty();  // nothing of it varies
      const bool no_tensors = d->name == "ZipMap" || d->name == "Gradient";                           // known, to be refused with a remedy
      if (no_tensors) EXPECT_TRUE(c.carrier.starts_with("no: ")) << d->name;
      else EXPECT_EQ(c.carrier, constant || d->decompose ? "exact" : "f32") << d->name << ": " << c.carrier;
    }
    static const std::set<std::string_view> by_data{"NonZero", "Compress", "Unique", "NonMaxSuppression", "HannWindow", "HammingWindow", "BlackmanWindow"};
    if (of_data) EXPECT_TRUE(by_data.contains(d->name)) << d->name << ": " << c.carrier;
    EXPECT_EQ(c.exec, c.carrier) << d->name;
  }
}

TEST(cli, operator_reference_is_up_to_date) {
  const Folder f;
  const Result r = f.run("tandem ops --docs --table md");
  ASSERT_EQ(r.code, 0);
  const fs::path file = fs::path(TANDEM_SOURCE_DIR) / "docs/operators.md";
  if (std::getenv("TANDEM_UPDATE")) write_file(file, r.out);
  EXPECT_EQ(read_file(file), r.out) << "run: tandem ops --docs --table md --out docs/operators.md --force";
}

TEST(cli, documented_commands_exist) {
  const std::string text = read_file(fs::path(TANDEM_SOURCE_DIR) / "docs/commands.md");
  for (const cli::Command* c : cli::all_commands()) EXPECT_HAS(text, "`tandem " + std::string(c->name));
  // And nothing is documented that does not exist.
  for (std::size_t at = 0; (at = text.find("`tandem ", at)) != std::string::npos;) {
    at += 8;
    const std::string word = text.substr(at, text.find_first_of(" `", at) - at);
    if (word[0] == '-' || word == "COMMAND") continue;
    bool known = false;
    for (const cli::Command* c : cli::all_commands()) known |= c->name == word;
    EXPECT_TRUE(known) << word;
  }
}

// Stopped half way, it still says what it has compared.
TEST(cli, an_interrupted_selftest_keeps_its_counts) {
  const Folder f;
  const Result r = f.run("timeout --preserve-status -s INT 3 tandem selftest --graphs 100000000 --engines ref,exec");
  EXPECT_EQ(r.code, 130) << r.err;
  EXPECT_HAS(r.out, "graphs, 0 mismatches");
  EXPECT_HAS(r.err, "interrupted");
}

}  // namespace
}  // namespace tandem
