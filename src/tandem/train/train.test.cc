// Through the door only: what libtandem_learn.so gives is compared with the reference evaluators.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "tandem/base/rng.h"
#include "tandem/ir/differentiate.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"
#include "tandem/ir/quantize.h"
#include "tandem/ir/random_differentiable.h"
#include "tandem/ir/random_graph.h"
#include "tandem/ir/sequential.h"
#include "tandem/train/learn.h"

namespace tandem::train {
namespace {

using ir::Graph;
using ir::ValueId;

double largest(const Tensor& t) {
  double m = 0;
  for (std::int64_t i = 0; i < t.size(); ++i) m = std::max(m, std::abs(t.at(i)));
  return m;
}

TEST(Train, ForwardAndGradientsEqualTheJointGraph) {
  // 300 random graphs in f64, quantisers included: autograd against our adjoints.
  int compared = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    const auto d = ir::random_differentiable(seed, seed % 3 != 0);
    auto eager = open_learner().eager(d.graph, DType::f64);
    const Tensor y = ir::evaluate_float(d.graph, d.inputs).at(0);
    const Tensor y2 = eager->run(d.inputs, Mode::evaluation).at(0);
    ASSERT_EQ(y.shape(), y2.shape()) << "seed " << seed;
    for (std::int64_t i = 0; i < y.size(); ++i)
      ASSERT_NEAR(y.at(i), y2.at(i), 1e-6 * std::max(1.0, largest(y))) << "seed " << seed << " element " << i;

    Tensor s(DType::f64, y.shape());
    Rng rng(seed, "cotangent");
    for (std::int64_t i = 0; i < s.size(); ++i) s.set(i, rng.normal());
    Graph g = d.graph;
    const ValueId sv = g.add_constant("cotangent", s);
    const auto joint = ir::differentiate(g, g.outputs[0], d.wrt, sv);
    const auto ours = ir::evaluate_float(joint.graph, d.inputs);
    std::vector<std::string> names;
    for (ValueId v : d.wrt) names.push_back(d.graph.values[static_cast<std::size_t>(v)].name);
    const auto theirs = eager->gradients(d.inputs, {s}, names, Mode::evaluation);
    // BatchNormalization's factor is rounded to f32 by definition (6e-8 of each term): where terms of order
    // one cancel, that is what remains. Everything else is f64.
    bool rounded = false;
    for (const auto& n : d.graph.nodes) rounded = rounded || n.op == "BatchNormalization";
    for (std::size_t k = 0; k < names.size(); ++k) {
      ASSERT_EQ(ours[k + 1].shape(), theirs[k].shape()) << "seed " << seed << " " << names[k];
      const double size = std::max(largest(theirs[k]), rounded ? 0.1 : 1e-6);
      for (std::int64_t i = 0; i < theirs[k].size(); ++i, ++compared)
        ASSERT_NEAR(ours[k + 1].at(i), theirs[k].at(i), 1e-5 * size) << "seed " << seed << " " << names[k] << " element " << i;
    }
  }
  EXPECT_GT(compared, 5000);
}

TEST(Train, BatchNormGradientsInTrainingMode) {
  // The gradient operators by batch statistics against autograd through batch_norm in training mode.
  Rng rng(5, "bn");
  auto draw = [&](Shape s, double lo, double hi) {
    Tensor t(DType::f64, std::move(s));
    for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, lo + (hi - lo) * rng.uniform());
    return t;
  };
  const Shape shape{4, 3, 2, 5};
  const Tensor x = draw(shape, -2, 2), dy = draw(shape, -1, 1), gamma = draw({3}, 0.5, 2), beta = draw({3}, -1, 1);
  const Tensor mean = draw({3}, -1, 1), var = draw({3}, 0.5, 2);
  Graph f;
  const ValueId fx = f.add_input("x", DType::f64, ir::dims_of(shape));
  const ValueId y = f.add_node("BatchNormalization", {fx, f.add_constant("gamma", gamma), f.add_constant("beta", beta),
                                                      f.add_constant("mean", mean), f.add_constant("var", var)}, {{"epsilon", 1e-3}}, "bn");
  f.outputs = {y};
  ir::infer_shapes(f);
  auto eager = open_learner().eager(f, DType::f64);
  const auto theirs = eager->gradients({x}, {dy}, {"x", "gamma"}, Mode::training);

  Graph b;
  std::vector<ValueId> in{b.add_input("dy", DType::f64, ir::dims_of(shape)), b.add_input("x", DType::f64, ir::dims_of(shape)),
                          b.add_constant("gamma", gamma), b.add_constant("mean", mean), b.add_constant("var", var)};
  const std::map<std::string, ir::Attribute> a{{"epsilon", 1e-3}, {"training_mode", std::int64_t{1}}};
  b.outputs = {b.add_node("BatchNormGradInput", in, a, "dx", "tandem"), b.add_node("BatchNormGradScale", {in[0], in[1], in[3], in[4]}, a, "ds", "tandem")};
  ir::infer_shapes(b);
  const auto ours = ir::evaluate_float(b, {dy, x});
  for (std::size_t k = 0; k < 2; ++k)
    for (std::int64_t i = 0; i < ours[k].size(); ++i) ASSERT_NEAR(ours[k].at(i), theirs[k].at(i), 1e-9) << k << " " << i;
  // The statistics followed the batch: momentum 0.9, variance unbiased as libtorch keeps it.
  double m = 0;
  for (std::int64_t n = 0; n < 4; ++n)
    for (std::int64_t i = 0; i < 10; ++i) m += x.at(n * 30 + i) / 40;
  EXPECT_NEAR(eager->get("mean").at(0), 0.9 * mean.at(0) + 0.1 * m, 1e-12);
}

TEST(Train, EvaluationModeIsBitExactOnRandomGraphs) {
  std::array<int, 3> ways{};
  int run = 0;
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    ir::RandomGraphOptions o;
    o.state = seed % 5 == 0;
    const auto r = ir::random_graph(o, seed);
    ir::ExactProgram program;
    try {
      program = ir::lower_exact(r.graph);
    } catch (const Error& e) {  // a value wider than 128 bits: refused by name, here as there
      EXPECT_EQ(e.code(), Exit::no);
      EXPECT_THROW(open_learner().exact(r.graph), Error);
      continue;
    }
    ++run;
    auto model = open_learner().exact(r.graph);
    std::vector<std::vector<std::int64_t>> states;
    for (int tick = 0; tick < (o.state ? 3 : 1); ++tick) {
      const auto in = tick == 0 ? r.inputs : ir::random_inputs(r.graph, seed * 1000 + static_cast<std::uint64_t>(tick));
      const auto want = ir::evaluate_carrier(program, in, &states);
      const auto got = model->run(in);
      ASSERT_EQ(want.size(), got.size());
      for (std::size_t i = 0; i < want.size(); ++i) ASSERT_TRUE(want[i].same(got[i])) << "seed " << seed << " tick " << tick;
    }
    for (std::size_t w = 0; w < 3; ++w) ways[w] += model->contractions()[w];
  }
  EXPECT_GT(run, 120);
  EXPECT_GT(ways[0], 100);  // f32 took most
}

TEST(Train, EvaluationModeChoosesTheNarrowestExactArithmetic) {
  // One dense layer whose span grows with the bits: 2^24 and 2^53 are where it must change.
  for (const auto& [bits, way] : std::vector<std::pair<int, std::size_t>>{{8, 0}, {12, 0}, {14, 1}, {24, 1}, {28, 2}}) {
    Graph g;
    const ValueId x = g.add_input("x", DType::f32, {2, 4});
    auto quant = [&](ValueId v, const std::string& n) {
      return g.add_node("Quant", {v, g.add_constant(n + "s", Tensor::scalar<float>(1)), g.add_constant(n + "z", Tensor::scalar<float>(0)),
                                  g.add_constant(n + "b", Tensor::scalar<float>(static_cast<float>(bits)))},
                        {{"signed", std::int64_t{1}}, {"narrow", std::int64_t{0}}, {"rounding_mode", std::string("ROUND")}}, n, "qonnx.custom_op.general");
    };
    const float top = std::ldexp(1.0f, bits - 2);
    const ValueId q = quant(x, "qx"), w = quant(g.add_constant("w", Tensor::of<float>({4, 1}, std::vector<float>{top, top, top, 1})), "qw");
    g.outputs = {g.add_node("MatMul", {q, w}, {}, "dense")};
    ir::infer_shapes(g);
    auto model = open_learner().exact(g);
    std::array<int, 3> want{};
    want[way] = 1;
    EXPECT_EQ(model->contractions(), want) << bits;
    const std::vector<Tensor> in{Tensor::of<float>({2, 4}, std::vector<float>{top, top, top, 1, -top, 3, 5, -1})};
    EXPECT_TRUE(model->run(in)[0].same(ir::evaluate_carrier(ir::lower_exact(g), in)[0])) << bits;
  }
}

// ---- fitting ---------------------------------------------------------------------------------------------
// Four classes of 6x6 images: a bright quadrant under noise.
Examples quadrants(std::int64_t n, std::uint64_t seed) {
  Examples e;
  e.x = Tensor(DType::f32, {n, 1, 6, 6});
  Rng r(seed, "quadrants");
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t c = r.range(0, 3);
    e.label.push_back(c);
    for (std::int64_t p = 0; p < 36; ++p) e.x.set(i * 36 + p, 0.7 * r.uniform() + ((p / 6 / 3 == c / 2 && p % 6 / 3 == c % 2) ? 0.4 : 0));
  }
  return e;
}
Graph small_net(bool quantised, std::string_view scales = "learned") {
  Graph g = ir::build_sequential(Config::parse(R"(
input: [1, 6, 6]
layers: [conv: {channels: 4, kernel: 3, pad: 1}, batchnorm, relu, maxpool: {kernel: 2}, dropout: {ratio: 0.1}, dense: {features: 4}]
)"), 3);
  if (!quantised) return g;
  return ir::insert_quantisers(g, ir::parse_quant_spec(Config::parse(fmt::format(R"(
input: {{bits: 4, scale: 0.0625}}
weights: {{bits: 3, per: channel, narrow: true, scale: {}}}
activations: {{bits: 3, scale: {}}}
)", scales, scales))));
}
FitParams quick() {
  FitParams p;
  p.optimiser = {"adam", {0.01, 0.9, 0.999, 1e-8, 1e-4}};
  p.epochs = 8;
  p.batch = 16;
  p.threads = 1;
  p.seed = 7;
  p.warmup_epochs = 1;
  p.shift = 0;
  return p;
}

bool same_state(const Graph& a, const Graph& b) {
  if (a.initialisers.size() != b.initialisers.size()) return false;
  for (const auto& [v, t] : a.initialisers)
    if (!t.same(b.initialisers.at(v))) return false;
  return true;
}

TEST(Train, LearnsAQuantisedNetAndEvaluatesItExactly) {
  const Examples train = quadrants(300, 1), valid = quadrants(100, 2), test = quadrants(200, 3);
  for (const char* scales : {"learned", "absmax"}) {
    for (const char* optimiser : {"adam", "sgd"}) {
      FitParams p = quick();
      if (std::string(optimiser) == "sgd") p.optimiser = {"sgd", {0.05, 0.9, 1e-4}};
      const FitResult r = open_learner().fit(small_net(true, scales), train, valid, p);
      ASSERT_EQ(r.curves.size(), 8u);
      EXPECT_LT(r.curves.back().train_loss, 0.5 * r.curves.front().train_loss) << scales << optimiser;
      EXPECT_GE(r.best_epoch, 1);
      Graph bound = ir::bind(r.best, {{"batch", 200}});
      auto model = open_learner().exact(bound);
      const Tensor y = model->run({test.x})[0];
      EXPECT_TRUE(y.same(ir::evaluate_carrier(ir::lower_exact(bound), {test.x})[0]));
      int correct = 0;
      for (std::int64_t i = 0; i < 200; ++i) {
        std::int64_t best = 0;
        for (std::int64_t c = 1; c < 4; ++c)
          if (y.at(i * 4 + c) > y.at(i * 4 + best)) best = c;
        correct += best == test.label[static_cast<std::size_t>(i)];
      }
      EXPECT_GT(correct, 150) << scales << " " << optimiser;  // chance: 50
      // The float evaluation of training agrees with the exact one up to f32 rounding next to a step.
      const Tensor f = open_learner().eager(r.best)->run({test.x}, Mode::evaluation)[0];
      int agree = 0;
      for (std::int64_t i = 0; i < 800; ++i) agree += std::abs(f.at(i) - y.at(i)) < 1e-4;
      EXPECT_GT(agree, 780);
    }
  }
}

TEST(Train, SameSeedSameBits) {
  const Examples train = quadrants(120, 1), valid = quadrants(40, 2);
  FitParams p = quick();
  p.shift = 1;
  p.label_smoothing = 0.1;
  const auto a = open_learner().fit(small_net(true), train, valid, p), b = open_learner().fit(small_net(true), train, valid, p);
  EXPECT_TRUE(same_state(a.last, b.last));
  p.seed = 8;
  EXPECT_FALSE(same_state(a.last, open_learner().fit(small_net(true), train, valid, p).last));
}

TEST(Train, ResumedRunEqualsTheUndisturbedOne) {
  const Examples train = quadrants(120, 1), valid = quadrants(40, 2);
  const auto dir = std::filesystem::temp_directory_path() / fmt::format("tandem-train-{}", getpid());
  std::filesystem::create_directories(dir);
  for (const char* optimiser : {"adam", "sgd"}) {
    FitParams p = quick();
    p.optimiser = {optimiser, {}};
    const auto whole = open_learner().fit(small_net(true), train, valid, p);
    p.checkpoint = (dir / (std::string(optimiser) + ".npz")).string();
    Cancel cancel;
    auto stop = [&](const EpochReport& e) { if (e.epoch == 3) cancel.request(); };
    EXPECT_THROW(open_learner().fit(small_net(true), train, valid, p, stop, cancel), Error);
    p.resume = true;
    const auto resumed = open_learner().fit(small_net(true), train, valid, p);
    EXPECT_TRUE(same_state(whole.last, resumed.last)) << optimiser;
    EXPECT_TRUE(same_state(whole.best, resumed.best)) << optimiser;
    EXPECT_EQ(whole.best_epoch, resumed.best_epoch);
    ASSERT_EQ(whole.curves.size(), resumed.curves.size());
    for (std::size_t i = 0; i < whole.curves.size(); ++i) EXPECT_EQ(whole.curves[i].train_loss, resumed.curves[i].train_loss);
    // Another run's checkpoint is refused.
    p.seed = 99;
    EXPECT_THROW(open_learner().fit(small_net(true), train, valid, p), Error);
  }
  std::filesystem::remove_all(dir);
}

TEST(Train, StopsAtTheFirstNonFiniteLoss) {
  const Examples train = quadrants(60, 1);
  FitParams p = quick();
  p.optimiser = {"sgd", {1000, 0.99, 0}};
  p.epochs = 50;
  p.warmup_epochs = 0;
  Graph g = ir::build_sequential(Config::parse("{input: [1, 6, 6], layers: [conv: {channels: 4, kernel: 3}, conv: {channels: 4, kernel: 3}, dense: {features: 4}]}"), 1);
  try {
    open_learner().fit(g, train, {}, p);
    FAIL() << "a learning rate of 1000 did not diverge";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::no);
    EXPECT_NE(e.full().find("step"), std::string::npos) << e.full();
    EXPECT_NE(e.full().find("conv"), std::string::npos) << e.full();
  }
}

TEST(Train, RefusesWhatDoesNotFit) {
  Examples train = quadrants(20, 1);
  FitParams p = quick();
  auto refused = [&](const Graph& g, const Examples& e) {
    try {
      open_learner().fit(g, e, {}, p);
      return std::string("accepted");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::bad_input);
      return error.full();
    }
  };
  EXPECT_NE(refused(small_net(false), {train.x.reshaped({20, 36}), train.label}).find("[20, 36]"), std::string::npos);
  Examples bad = train;
  bad.label[3] = 9;
  EXPECT_NE(refused(small_net(false), bad).find("labels run from 0 to 9"), std::string::npos);
  p.freeze = {"*"};
  EXPECT_NE(refused(small_net(false), train).find("nothing"), std::string::npos);
  p.freeze = {};
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, {20, 1, 6, 6});
  g.outputs = {g.add_node("Delay", {x}, {{"delay", std::int64_t{1}}}, "memory", "tandem")};
  EXPECT_NE(refused(g, train).find("memory"), std::string::npos);
}

// What `tandem doctor` says without opening the library is what the library says.
TEST(Train, RefusalsAreForeseen) {
  int refused = 0, taken = 0;
  const auto compare = [&](const Graph& g, const std::string& what) {
    std::string foreseen;
    for (const ir::Node& n : g.nodes) foreseen += why_not_trainable(g, n);
    std::string said;
    try {
      open_learner().eager(g);
    } catch (const Error& e) {
      said = e.message();
    }
    EXPECT_EQ(foreseen.empty(), said.empty()) << what << ": foreseen '" << foreseen << "', said '" << said << "'";
    ++(said.empty() ? taken : refused);
  };
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    ir::RandomGraphOptions o;
    o.state = seed % 3 == 0;
    compare(ir::random_graph(o, seed).graph, fmt::format("seed {}", seed));
  }
  for (const ir::OpDef* d : ir::all_ops()) {  // all inputs vary
    Graph g;
    std::vector<ValueId> in;
    for (const ir::PortDef& p : d->inputs) in.push_back(g.add_input(std::string(p.name), DType::f32, {1, 1, 4, 4}));
    g.outputs = {g.add_node(std::string(d->name), in, {{"kernel_shape", std::vector<std::int64_t>{2, 2}}}, "node", std::string(d->domain))};
    compare(g, std::string(d->name));
  }
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, {1, 1, 4, 4, 4});
  g.outputs = {g.add_node("MaxPool", {x}, {{"kernel_shape", std::vector<std::int64_t>{2, 2, 2}}}, "pool")};
  compare(g, "three axes");
  EXPECT_GT(refused, 20);
  EXPECT_GT(taken, 40);
}

TEST(Train, FrozenValuesStay) {
  FitParams p = quick();
  p.epochs = 2;
  p.freeze = {"conv1_*"};
  const Graph g = small_net(false);
  const auto r = open_learner().fit(g, quadrants(60, 1), {}, p);
  EXPECT_TRUE(r.last.constant(r.last.find("conv1_weight"))->same(*g.constant(g.find("conv1_weight"))));
  EXPECT_FALSE(r.last.constant(r.last.find("dense1_weight"))->same(*g.constant(g.find("dense1_weight"))));
}

TEST(Train, TablesNameWhatIsNear) {
  try {
    find_descriptor(optimisers(), "adm", "optimiser");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(e.full().find("'adam'"), std::string::npos);
  }
  EXPECT_EQ(Choice({"adam", {}})["rate"], 0.003);
}

}  // namespace
}  // namespace tandem::train
