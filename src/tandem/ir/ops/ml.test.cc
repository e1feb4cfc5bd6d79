// ONNX-ML against second formulations: trees as recursive structs, machines and linear models written from their formulas.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "tandem/ir/arrays.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Attrs = std::map<std::string, Attribute>;
using Reals = std::vector<double>;
using Strings = std::vector<std::string>;

std::vector<Tensor> run(const char* op, const Attrs& attrs, const std::vector<Tensor>& in, std::size_t outputs = 1) {
  Graph g;
  std::vector<ValueId> ids;
  for (const Tensor& t : in) ids.push_back(g.add_input(g.unique_name("x"), t.dtype(), dims_of(t.shape())));
  std::vector<ValueId> out{g.add_node(op, ids, attrs, "probe", "ai.onnx.ml")};
  for (std::size_t i = 1; i < outputs; ++i) out.push_back(g.add_value(g.unique_name("more")));
  g.nodes.back().outputs = out;
  g.outputs = out;
  verify(g);
  infer_shapes(g);
  return evaluate_float(g, in);
}
std::string refusal(const char* op, const Attrs& attrs, const std::vector<Tensor>& in, std::size_t outputs = 1) {
  try {
    run(op, attrs, in, outputs);
    return "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::bad_input);
    EXPECT_NE(e.where().find("probe"), std::string::npos) << e.full();
    return e.full();
  }
}
double grid(Rng& r, int lo = -64, int hi = 64) { return static_cast<double>(r.range(lo, hi)) / 64; }
Reals grids(Rng& r, std::int64_t n) {
  Reals v;
  for (std::int64_t i = 0; i < n; ++i) v.push_back(grid(r));
  return v;
}
Tensor features(Rng& r, std::int64_t rows, std::int64_t width, bool nans = false) {
  Tensor t(DType::f32, {rows, width});
  for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, nans && r.chance(0.1) ? NAN : grid(r));
  return t;
}
void near(double is, double want, const std::string& where) {
  if (std::isnan(want)) EXPECT_TRUE(std::isnan(is)) << where;
  else EXPECT_NEAR(is, want, 1e-6 * (1 + std::abs(want))) << where;
}

// The transforms of scores, by their names.
Reals posted(const std::string& how, Reals v) {
  if (how == "LOGISTIC")
    for (double& x : v) x = 1 / (1 + std::exp(-x));
  if (how == "PROBIT")
    for (double& x : v) {
      const double y = 2 * x - 1, l = std::log(1 - y * y), b = 2 / M_PI / 0.147 + l / 2;
      x = y == 1 || y == -1 ? 0 : std::copysign(1.41421356, y) * std::sqrt(std::sqrt(b * b - l / 0.147) - b);
    }
  if (how == "SOFTMAX" || how == "SOFTMAX_ZERO") {
    const bool zero = how == "SOFTMAX_ZERO";
    double m = -INFINITY, s = 0;
    for (double x : v) m = std::max(m, x);
    Reals e;
    for (double x : v) e.push_back(zero && std::abs(x) <= 1e-7 ? x * std::exp(-m) : std::exp(x - m)), s += e.back();
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = s == 0 ? 0.5 : e[i] / s;
  }
  return v;
}
const char* const kPosts[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};

// ---- trees ----
struct Tree {
  std::string mode = "LEAF";
  std::int64_t feature = 0, id = 0;
  double at = 0;
  bool missing = false;
  std::unique_ptr<Tree> yes, no;
  std::vector<std::pair<std::int64_t, double>> weights;

  const Tree& leaf(const Tensor& x, std::int64_t row) const {
    if (!yes) return *this;
    const double v = x.at(row * x.shape()[1] + feature);
    bool b = missing;
    if (!std::isnan(v)) {
      if (mode == "BRANCH_LEQ") b = v <= at;
      if (mode == "BRANCH_LT") b = v < at;
      if (mode == "BRANCH_GTE") b = v >= at;
      if (mode == "BRANCH_GT") b = v > at;
      if (mode == "BRANCH_EQ") b = v == at;
      if (mode == "BRANCH_NEQ") b = v != at;
    }
    return (b ? yes : no)->leaf(x, row);
  }
};
Tree grow(Rng& r, int depth, std::int64_t width, std::int64_t columns) {
  static const char* modes[] = {"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"};
  Tree t;
  if (depth == 0 || r.chance(0.2)) {
    for (std::int64_t k = r.range(0, 2); k > 0; --k) t.weights.push_back({r.range(0, columns - 1), grid(r)});
    return t;
  }
  t.mode = modes[r.range(0, 5)], t.feature = r.range(0, width - 1), t.at = grid(r), t.missing = r.chance(0.5);
  t.yes = std::make_unique<Tree>(grow(r, depth - 1, width, columns));
  t.no = std::make_unique<Tree>(grow(r, depth - 1, width, columns));
  return t;
}
// The lists of attributes, the nodes of all trees shuffled and numbered at random.
Attrs flattened(Rng& r, std::vector<Tree>& trees, const std::string& what) {
  struct Row {
    std::int64_t tree;
    Tree* node;
  };
  std::vector<Row> rows;
  for (std::size_t t = 0; t < trees.size(); ++t) {
    std::int64_t id = r.range(-3, 3);
    const std::function<void(Tree&)> walk = [&](Tree& n) {
      n.id = id, id += r.range(1, 3);
      rows.push_back({static_cast<std::int64_t>(7 * t), &n});
      if (n.yes) walk(*n.yes), walk(*n.no);
    };
    walk(trees[t]);
  }
  r.shuffle(rows);
  Ints tree, id, feature, yes, no, missing, to_tree, to_node, to;
  Strings modes;
  Reals values, weights;
  for (const Row& row : rows) {
    const Tree& n = *row.node;
    tree.push_back(row.tree), id.push_back(n.id), feature.push_back(n.feature), yes.push_back(n.yes ? n.yes->id : 0), no.push_back(n.no ? n.no->id : 0), missing.push_back(n.missing);
    modes.push_back(n.mode), values.push_back(n.at);
    for (const auto& [k, w] : n.weights) to_tree.push_back(row.tree), to_node.push_back(n.id), to.push_back(k), weights.push_back(w);
  }
  return {{"nodes_treeids", tree}, {"nodes_nodeids", id}, {"nodes_featureids", feature}, {"nodes_truenodeids", yes}, {"nodes_falsenodeids", no}, {"nodes_modes", modes},
          {"nodes_values", values}, {"nodes_missing_value_tracks_true", missing}, {what + "_treeids", to_tree}, {what + "_nodeids", to_node}, {what + "_ids", to}, {what + "_weights", weights}};
}

TEST(Ml, TreeRegressors) {
  static const char* how[] = {"SUM", "AVERAGE", "MIN", "MAX"};
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Rng r(seed, "tree regressors");
    const std::int64_t width = r.range(1, 4), targets = r.range(1, 3), rows = r.range(1, 6);
    std::vector<Tree> trees;
    for (std::int64_t t = r.range(1, 5); t > 0; --t) trees.push_back(grow(r, 4, width, targets));
    Attrs a = flattened(r, trees, "target");
    const std::string function = how[seed % 4], post = kPosts[seed / 4 % 5];
    Reals base;
    if (r.chance(0.5)) base = grids(r, targets);
    a["n_targets"] = targets, a["aggregate_function"] = function, a["post_transform"] = post;
    if (!base.empty()) a["base_values"] = base;
    const Tensor x = features(r, rows, width, true), y = run("TreeEnsembleRegressor", a, {x})[0];
    ASSERT_EQ(y.shape(), (Shape{rows, targets}));
    for (std::int64_t i = 0; i < rows; ++i) {
      Reals want;
      for (std::int64_t t = 0; t < targets; ++t) {
        Reals of;
        for (const Tree& tree : trees)
          for (const auto& [k, w] : tree.leaf(x, i).weights)
            if (k == t) of.push_back(w);
        double v = 0;
        for (double w : of) v += w;
        if (function == "AVERAGE") v /= static_cast<double>(trees.size());
        if (function == "MIN" && !of.empty()) v = *std::min_element(of.begin(), of.end());
        if (function == "MAX" && !of.empty()) v = *std::max_element(of.begin(), of.end());
        want.push_back(v + (base.empty() ? 0 : base[static_cast<std::size_t>(t)]));
      }
      want = posted(post, want);
      for (std::int64_t t = 0; t < targets; ++t) near(y.at(i * targets + t), want[static_cast<std::size_t>(t)], fmt::format("seed {} row {} target {}", seed, i, t));
    }
  }
}

TEST(Ml, TreeClassifiers) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Rng r(seed, "tree classifiers");
    const std::int64_t width = r.range(1, 4), classes = r.range(2, 4), rows = r.range(1, 6);
    const bool one = classes == 2 && r.chance(0.7);  // one column of weights for two classes
    std::vector<Tree> trees;
    for (std::int64_t t = r.range(1, 5); t > 0; --t) trees.push_back(grow(r, 4, width, one ? 1 : classes));
    trees.push_back(Tree{});
    trees.back().weights = {{0, 0.125}};
    if (!one) trees.back().weights.push_back({1, 0.25});
    Attrs a = flattened(r, trees, "class");
    const std::string post = kPosts[seed % 5];
    Ints labels;
    for (std::int64_t k = 0; k < classes; ++k) labels.push_back(100 - 9 * k);
    Reals base;
    if (r.chance(0.5)) base = grids(r, one ? 1 : classes);
    a["classlabels_int64s"] = labels, a["post_transform"] = post;
    if (!base.empty()) a["base_values"] = base;
    const Tensor x = features(r, rows, width, true);
    const std::vector<Tensor> y = run("TreeEnsembleClassifier", a, {x}, 2);
    ASSERT_EQ(y[0].dtype(), DType::i64);
    ASSERT_EQ(y[1].shape(), (Shape{rows, classes}));
    for (std::int64_t i = 0; i < rows; ++i) {
      Reals s = base.empty() ? Reals(static_cast<std::size_t>(one ? 1 : classes)) : base;
      for (const Tree& tree : trees)
        for (const auto& [k, w] : tree.leaf(x, i).weights) s[static_cast<std::size_t>(k)] += w;
      if (one) s = post == "NONE" || post == "PROBIT" ? Reals{1 - s[0], s[0]} : Reals{-s[0], s[0]};
      s = posted(post, s);
      std::size_t best = 0;
      for (std::size_t k = 1; k < s.size(); ++k)
        if (s[k] > s[best]) best = k;
      const std::string where = fmt::format("seed {} row {} {}", seed, i, post);
      if (std::none_of(s.begin(), s.end(), [](double v) { return std::isnan(v); })) EXPECT_EQ(y[0].int_at(i), labels[best]) << where;
      for (std::int64_t k = 0; k < classes; ++k) near(y[1].at(i * classes + k), s[static_cast<std::size_t>(k)], where);
    }
  }
}

// The same trees as lists of branches and leaves; sets as conditions.
TEST(Ml, Ensembles) {
  static const std::vector<std::string> modes{"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"};
  const auto tensor = [](const Reals& v, DType t) {
    Tensor x(t, {static_cast<std::int64_t>(v.size())});
    for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, v[static_cast<std::size_t>(i)]);
    return x;
  };
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Rng r(seed, "ensembles");
    const std::int64_t width = r.range(1, 4), targets = r.range(1, 3), rows = r.range(1, 6);
    Ints feature, yes, no, yes_leaf, no_leaf, missing, roots, to;
    Reals mode, split, weights;
    std::vector<Tree> trees;
    const std::function<std::pair<std::int64_t, bool>(Tree&)> put = [&](Tree& t) -> std::pair<std::int64_t, bool> {
      if (!t.yes) {
        if (t.weights.size() != 1) t.weights = {{r.range(0, targets - 1), grid(r)}};
        to.push_back(t.weights[0].first), weights.push_back(t.weights[0].second);
        return {static_cast<std::int64_t>(to.size()) - 1, true};
      }
      const std::size_t at = feature.size();
      feature.push_back(t.feature), missing.push_back(t.missing), split.push_back(t.at), mode.push_back(static_cast<double>(std::find(modes.begin(), modes.end(), t.mode) - modes.begin()));
      yes.push_back(0), no.push_back(0), yes_leaf.push_back(0), no_leaf.push_back(0);
      const auto a = put(*t.yes), b = put(*t.no);
      yes[at] = a.first, yes_leaf[at] = a.second, no[at] = b.first, no_leaf[at] = b.second;
      return {static_cast<std::int64_t>(at), false};
    };
    for (std::int64_t k = r.range(1, 4); k > 0; --k) {
      Tree t = grow(r, 4, width, targets);
      if (!t.yes) continue;
      trees.push_back(std::move(t));
      roots.push_back(put(trees.back()).first);
    }
    if (trees.empty()) continue;
    const auto how = static_cast<std::int64_t>(seed % 4), post = static_cast<std::int64_t>(seed / 4 % 5);
    const Tensor x = features(r, rows, width, true);
    const Attrs a{{"nodes_featureids", feature}, {"nodes_truenodeids", yes}, {"nodes_falsenodeids", no}, {"nodes_trueleafs", yes_leaf}, {"nodes_falseleafs", no_leaf}, {"nodes_missing_value_tracks_true", missing}, {"tree_roots", roots}, {"leaf_targetids", to},
                  {"nodes_modes", tensor(mode, DType::u8)}, {"nodes_splits", tensor(split, DType::f32)}, {"leaf_weights", tensor(weights, DType::f32)}, {"n_targets", targets}, {"aggregate_function", how}, {"post_transform", post}};
    const Tensor y = run("TreeEnsemble", a, {x})[0];
    ASSERT_EQ(y.shape(), (Shape{rows, targets}));
    for (std::int64_t i = 0; i < rows; ++i) {
      Reals want;
      for (std::int64_t t = 0; t < targets; ++t) {
        Reals of;
        for (const Tree& tree : trees)
          for (const auto& [k, w] : tree.leaf(x, i).weights)
            if (k == t) of.push_back(w);
        double v = 0;
        for (double w : of) v += w / (how == 0 ? static_cast<double>(trees.size()) : 1);
        if (how == 2 && !of.empty()) v = *std::min_element(of.begin(), of.end());
        if (how == 3 && !of.empty()) v = *std::max_element(of.begin(), of.end());
        want.push_back(v);
      }
      want = posted(kPosts[post], want);
      for (std::int64_t t = 0; t < targets; ++t) near(y.at(i * targets + t), want[static_cast<std::size_t>(t)], fmt::format("seed {} row {} target {}", seed, i, t));
    }
  }
  // x in {2, 5}: 10, else x in {3}: 20, else 30.
  Attrs sets{{"nodes_featureids", Ints{0, 0}}, {"nodes_truenodeids", Ints{0, 1}}, {"nodes_falsenodeids", Ints{1, 2}}, {"nodes_trueleafs", Ints{1, 1}}, {"nodes_falseleafs", Ints{0, 1}}, {"tree_roots", Ints{0}}, {"leaf_targetids", Ints{0, 0, 0}},
             {"nodes_modes", tensor({6, 6}, DType::u8)}, {"nodes_splits", tensor({0, 0}, DType::f32)}, {"leaf_weights", tensor({10, 20, 30}, DType::f32)}, {"membership_values", tensor({5, 2, NAN, 3}, DType::f32)}};
  const Tensor x = Tensor::of<float>({5, 1}, std::vector<float>{2, 3, 4, 5, NAN}), y = run("TreeEnsemble", sets, {x})[0];
  const double want[] = {10, 20, 30, 10, 30};
  for (std::int64_t i = 0; i < 5; ++i) EXPECT_EQ(y.at(i), want[i]);
  const auto expect = [&](const char* key, const Attribute& v, std::string_view part) {
    Attrs a = sets;
    a[key] = v;
    const std::string is = refusal("TreeEnsemble", a, {x});
    EXPECT_NE(is.find(part), std::string::npos) << is;
  };
  expect("membership_values", tensor({5, 2}, DType::f32), "no set for node 1");
  expect("nodes_falsenodeids", Ints{0, 2}, "lead back to each other");
  expect("nodes_truenodeids", Ints{3, 1}, "leaf 3, which does not exist");
  expect("nodes_falsenodeids", Ints{2, 2}, "node 2, which does not exist");
  expect("tree_roots", Ints{2}, "tree_roots holds 2 of 2");
  expect("nodes_modes", tensor({6, 7}, DType::u8), "the mode 7");
  expect("nodes_splits", tensor({0}, DType::f32), "'nodes_splits' has 1 entries");
  expect("leaf_weights", tensor({0}, DType::f32), "'leaf_weights' has 1 entries");
  expect("leaf_targetids", Ints{0, 0, -1}, "leaf_targetids holds -1");
  expect("nodes_featureids", Ints{0, 1}, "reads feature 1");
  expect("aggregate_function", std::int64_t{4}, "aggregate_function is 4");
  expect("post_transform", std::int64_t{5}, "post_transform is 5");
}

TEST(Ml, TreesThatAreNone) {
  const Attrs good{{"nodes_treeids", Ints{0, 0, 0}}, {"nodes_nodeids", Ints{0, 1, 2}}, {"nodes_featureids", Ints{1, 0, 0}}, {"nodes_truenodeids", Ints{1, 0, 0}}, {"nodes_falsenodeids", Ints{2, 0, 0}},
                   {"nodes_modes", Strings{"BRANCH_LEQ", "LEAF", "LEAF"}}, {"nodes_values", Reals{0.5, 0, 0}}, {"target_treeids", Ints{0, 0}}, {"target_nodeids", Ints{1, 2}}, {"target_ids", Ints{0, 0}}, {"target_weights", Reals{3, 4}}};
  const Tensor x(DType::f32, {1, 2});
  EXPECT_EQ(run("TreeEnsembleRegressor", good, {x})[0].at(0), 3);
  const auto expect = [&](const Attrs& change, std::string_view part) {
    Attrs a = good;
    for (const auto& [k, v] : change) a[k] = v;
    const std::string is = refusal("TreeEnsembleRegressor", a, {x});
    EXPECT_NE(is.find(part), std::string::npos) << is;
  };
  expect({{"nodes_nodeids", Ints{0, 1}}}, "'nodes_nodeids' has 2 entries");
  expect({{"nodes_values", Reals{0.5}}}, "'nodes_values' has 1 entries");
  expect({{"nodes_modes", Strings{"BRANCH_LEQ", "LEAF"}}}, "'nodes_modes' has 2 entries");
  expect({{"nodes_missing_value_tracks_true", Ints{1}}}, "'nodes_missing_value_tracks_true' has 1 entries");
  expect({{"nodes_nodeids", Ints{0, 1, 1}}}, "two nodes 1");
  expect({{"nodes_truenodeids", Ints{9, 0, 0}}}, "node 9, which does not exist");
  expect({{"nodes_truenodeids", Ints{0, 0, 0}}}, "lead back to each other");
  expect({{"nodes_modes", Strings{"BRANCH_LEQ", "BRANCH_GT", "LEAF"}}, {"nodes_truenodeids", Ints{1, 1, 0}}, {"nodes_falsenodeids", Ints{2, 2, 0}}}, "lead back to each other");
  expect({{"nodes_modes", Strings{"BRANCH_LEQ", "LEAF", "TWIG"}}}, "'TWIG'");
  expect({{"nodes_featureids", Ints{-1, 0, 0}}}, "feature -1");
  expect({{"nodes_featureids", Ints{2, 0, 0}}}, "reads feature 2");
  expect({{"target_weights", Reals{3}}}, "'target_weights' has 1 entries");
  expect({{"target_nodeids", Ints{1, 5}}}, "node 5 of tree 0, which does not exist");
  expect({{"target_treeids", Ints{0, 1}}}, "tree 1, which does not exist");
  expect({{"target_ids", Ints{0, -1}}}, "holds -1");
  expect({{"target_ids", Ints{0, 1}}}, "n_targets is 1");
  expect({{"n_targets", std::int64_t{2}}, {"base_values", Reals{1, 2, 3}}}, "base_values has 3 entries");
  expect({{"aggregate_function", std::string("MEDIAN")}}, "'MEDIAN'");
  expect({{"post_transform", std::string("TANH")}}, "'TANH'");
  expect({{"nodes_treeids", Ints{}}, {"nodes_nodeids", Ints{}}, {"nodes_featureids", Ints{}}, {"nodes_truenodeids", Ints{}}, {"nodes_falsenodeids", Ints{}}, {"nodes_modes", Strings{}}, {"nodes_values", Reals{}}}, "no trees");
  Attrs c = good;
  for (const char* k : {"treeids", "nodeids", "ids", "weights"}) c[fmt::format("class_{}", k)] = c[fmt::format("target_{}", k)], c.erase(fmt::format("target_{}", k));
  const auto classes = [&](const Attrs& change, std::string_view part) {
    Attrs a = c;
    for (const auto& [k, v] : change) a[k] = v;
    const std::string is = refusal("TreeEnsembleClassifier", a, {x}, 2);
    EXPECT_NE(is.find(part), std::string::npos) << is;
  };
  classes({}, "classlabels_int64s");
  classes({{"classlabels_strings", Strings{"a", "b"}}}, "number the labels");
  classes({{"classlabels_int64s", Ints{5}}}, "only label is 5");
  classes({{"classlabels_int64s", Ints{0, 1}}, {"class_ids", Ints{0, 2}}}, "class 2 of 2");
}

// ---- support vectors ----
double kernel(const std::string& k, const Reals& p, const Tensor& x, std::int64_t row, const Reals& v, std::int64_t at) {
  const std::int64_t width = x.shape()[1];
  double dot = 0, square = 0;
  for (std::int64_t i = 0; i < width; ++i) {
    const double a = x.at(row * width + i), b = v[static_cast<std::size_t>(at * width + i)];
    dot += a * b, square += std::pow(a - b, 2);
  }
  if (k == "POLY") {
    double y = 1;
    for (int i = 0; i < static_cast<int>(p[2]); ++i) y *= p[0] * dot + p[1];
    return y;
  }
  return k == "RBF" ? std::exp(-p[0] * square) : k == "SIGMOID" ? std::tanh(p[0] * dot + p[1]) : dot;
}
const char* const kKernels[] = {"LINEAR", "POLY", "RBF", "SIGMOID"};

TEST(Ml, SupportVectorClassifiers) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Rng r(seed, "machines");
    const std::int64_t classes = r.range(2, 4), width = r.range(1, 4), pairs = classes * (classes - 1) / 2, rows = r.range(1, 4);
    const std::string k = kKernels[seed % 4], post = kPosts[seed / 4 % 5];
    const Reals p{0.25, 0.5, static_cast<double>(r.range(1, 3))};
    const bool probabilities = r.chance(0.5);
    Ints labels, count;
    std::vector<std::int64_t> owner;
    for (std::int64_t c = 0; c < classes; ++c) {
      labels.push_back(50 + c), count.push_back(r.range(1, 3));
      owner.insert(owner.end(), static_cast<std::size_t>(count.back()), c);
    }
    const auto n = static_cast<std::int64_t>(owner.size());
    const Reals support = grids(r, n * width), alpha = grids(r, (classes - 1) * n), rho = grids(r, pairs), pa = grids(r, pairs), pb = grids(r, pairs);
    Attrs a{{"kernel_type", k}, {"kernel_params", p}, {"classlabels_ints", labels}, {"vectors_per_class", count}, {"support_vectors", support}, {"coefficients", alpha}, {"rho", rho}, {"post_transform", post}};
    if (probabilities) a["prob_a"] = pa, a["prob_b"] = pb;
    const Tensor x = features(r, rows, width);
    const std::vector<Tensor> y = run("SVMClassifier", a, {x}, 2);
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::string where = fmt::format("seed {} row {} {} {}", seed, i, k, post);
      Reals decision, votes(static_cast<std::size_t>(classes));
      std::vector<Reals> pairwise(static_cast<std::size_t>(classes), Reals(static_cast<std::size_t>(classes)));
      for (std::int64_t u = 0; u < classes; ++u)
        for (std::int64_t v = u + 1; v < classes; ++v) {
          double s = rho[decision.size()];
          for (std::int64_t j = 0; j < n; ++j) {  // alpha of a vector of class u against v: row v - 1; of one of class v against u: row u
            const double w = owner[static_cast<std::size_t>(j)] == u ? alpha[static_cast<std::size_t>((v - 1) * n + j)] : owner[static_cast<std::size_t>(j)] == v ? alpha[static_cast<std::size_t>(u * n + j)] : 0;
            if (w != 0) s += w * kernel(k, p, x, i, support, j);
          }
          votes[static_cast<std::size_t>(s > 0 ? u : v)] += 1;
          const double q = std::clamp(1 / (1 + std::exp(s * pa[decision.size()] + pb[decision.size()])), 1e-7, 1 - 1e-7);
          pairwise[static_cast<std::size_t>(u)][static_cast<std::size_t>(v)] = q, pairwise[static_cast<std::size_t>(v)][static_cast<std::size_t>(u)] = 1 - q;
          decision.push_back(s);
        }
      std::size_t best = 0;
      for (std::size_t c = 1; c < votes.size(); ++c)
        if (votes[c] > votes[best]) best = c;
      const bool positive = std::all_of(alpha.begin(), alpha.end(), [](double w) { return w >= 0; });
      if (std::none_of(decision.begin(), decision.end(), [](double s) { return std::abs(s) < 1e-9; }))
        EXPECT_EQ(y[0].int_at(i), classes == 2 && positive && !probabilities ? labels[1] : labels[best]) << where;
      if (probabilities && post == "NONE") {
        // The coupled probabilities minimise sum over pairs of (r_ji p_i - r_ij p_j)^2: near the minimum among distributions.
        ASSERT_EQ(y[1].shape()[1], classes);
        const auto cost = [&](const Reals& q) {
          double s = 0;
          for (std::size_t u = 0; u < q.size(); ++u)
            for (std::size_t v = 0; v < q.size(); ++v)
              if (u != v) s += std::pow(pairwise[v][u] * q[u] - pairwise[u][v] * q[v], 2);
          return s;
        };
        Reals q;
        double sum = 0;
        for (std::int64_t c = 0; c < classes; ++c) q.push_back(y[1].at(i * classes + c)), sum += q.back();
        EXPECT_NEAR(sum, 1, 1e-5) << where;
        const double is = cost(q);
        for (int t = 0; t < 200; ++t) {
          Reals other(q.size());
          double total = 0;
          for (double& o : other) total += o = -std::log(1 - r.uniform());
          for (double& o : other) o /= total;
          EXPECT_LE(is, cost(other) + 0.01) << where;
        }
      } else if (!probabilities) {
        Reals want = decision.size() > 1 ? posted(post, decision) : post == "PROBIT" ? posted(post, decision) : posted(post, {-decision[0], decision[0]});
        ASSERT_EQ(y[1].shape(), (Shape{rows, static_cast<std::int64_t>(want.size())})) << where;
        for (std::size_t c = 0; c < want.size(); ++c) near(y[1].at(i * static_cast<std::int64_t>(want.size()) + static_cast<std::int64_t>(c)), want[c], where);
      }
    }
  }
}

// Of two classes the coupled probabilities are the sigmoid itself.
TEST(Ml, ProbabilitiesOfTwoClasses) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Rng r(seed, "two classes");
    const double rho = grid(r), a = grid(r), b = grid(r), alpha = grid(r);
    const Tensor x = features(r, 1, 1);
    const Tensor z = run("SVMClassifier", {{"classlabels_ints", Ints{0, 1}}, {"vectors_per_class", Ints{1, 1}}, {"support_vectors", Reals{1, -1}}, {"coefficients", Reals{alpha, -alpha}}, {"rho", Reals{rho}}, {"prob_a", Reals{a}}, {"prob_b", Reals{b}}}, {x}, 2)[1];
    const double s = rho + 2 * alpha * x.at(0), p = 1 / (1 + std::exp(a * s + b));
    EXPECT_NEAR(z.at(0), p, 0.005) << seed;  // the iteration stops within 0.005 / classes
    EXPECT_NEAR(z.at(0) + z.at(1), 1, 1e-6);
  }
}

TEST(Ml, SupportVectorRegressors) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Rng r(seed, "regression");
    const std::int64_t width = r.range(1, 4), n = r.range(0, 4), rows = r.range(1, 4);
    const std::string k = kKernels[seed % 4], post = kPosts[seed / 4 % 3];
    const bool one = r.chance(0.3);
    const Reals p{0.25, 0.5, static_cast<double>(r.range(1, 3))}, rho{grid(r)}, support = grids(r, n * width), alpha = grids(r, n ? n : width);
    const Tensor x = features(r, rows, width);
    const Tensor y = run("SVMRegressor", {{"kernel_type", k}, {"kernel_params", p}, {"n_supports", n}, {"support_vectors", support}, {"coefficients", alpha}, {"rho", rho}, {"one_class", std::int64_t{one}}, {"post_transform", post}}, {x})[0];
    ASSERT_EQ(y.shape(), (Shape{rows, 1}));
    for (std::int64_t i = 0; i < rows; ++i) {
      double s = rho[0];
      if (n == 0) s += kernel("LINEAR", p, x, i, alpha, 0);
      for (std::int64_t j = 0; j < n; ++j) s += alpha[static_cast<std::size_t>(j)] * kernel(k, p, x, i, support, j);
      if (one) {
        if (std::abs(s) < 1e-9) continue;
        s = s > 0 ? 1 : -1;
      }
      near(y.at(i), posted(post, {s})[0], fmt::format("seed {} row {}", seed, i));
    }
  }
}

// ---- linear models ----
TEST(Ml, LinearModels) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Rng r(seed, "linear");
    const std::int64_t width = r.range(1, 4), k = r.range(1, 4), rows = r.range(1, 4);
    const std::string post = kPosts[seed % 5];
    const Reals w = grids(r, k * width), b = grids(r, k);
    const Tensor x = features(r, rows, width);
    const bool two = k == 1 && r.chance(0.5);
    Ints labels;
    for (std::int64_t c = 0; c < (two ? 2 : k); ++c) labels.push_back(11 + c);
    const Tensor y = run("LinearRegressor", {{"coefficients", w}, {"intercepts", b}, {"targets", k}, {"post_transform", post}}, {x})[0];
    const std::vector<Tensor> z = run("LinearClassifier", {{"coefficients", w}, {"intercepts", b}, {"classlabels_ints", labels}, {"post_transform", post}}, {x}, 2);
    for (std::int64_t i = 0; i < rows; ++i) {
      Reals s;
      for (std::int64_t c = 0; c < k; ++c) {
        double v = b[static_cast<std::size_t>(c)];
        for (std::int64_t j = 0; j < width; ++j) v += w[static_cast<std::size_t>(c * width + j)] * x.at(i * width + j);
        s.push_back(v);
      }
      const std::string where = fmt::format("seed {} row {} {}", seed, i, post);
      const Reals plain = posted(post, s), scores = two ? posted(post, {-s[0], s[0]}) : plain;
      for (std::int64_t c = 0; c < k; ++c) near(y.at(i * k + c), plain[static_cast<std::size_t>(c)], where);
      ASSERT_EQ(z[1].shape(), (Shape{rows, static_cast<std::int64_t>(scores.size())}));
      bool nan = false;
      for (std::size_t c = 0; c < scores.size(); ++c) near(z[1].at(i * static_cast<std::int64_t>(scores.size()) + static_cast<std::int64_t>(c)), scores[c], where), nan |= std::isnan(scores[c]);
      if (nan) continue;
      if (scores.size() == 1) {
        EXPECT_EQ(z[0].int_at(i), scores[0] >= (post == "NONE" ? 0 : 0.5) ? 11 : 0) << where;
      } else {
        std::size_t best = 0;
        for (std::size_t c = 1; c < scores.size(); ++c)
          if (scores[c] > scores[best]) best = c;
        EXPECT_EQ(z[0].int_at(i), labels[best]) << where;
      }
    }
  }
}

TEST(Ml, ModelsThatDoNotFit) {
  const Tensor x(DType::f32, {2, 3});
  const auto has = [](const std::string& text, std::string_view part) { EXPECT_NE(text.find(part), std::string::npos) << text; };
  has(refusal("LinearClassifier", {{"coefficients", Reals{1, 2, 3, 4}}}, {x}, 2), "coefficients has 4 entries for 3 features");
  has(refusal("LinearClassifier", {{"coefficients", Reals{1, 2, 3}}, {"classlabels_ints", Ints{1, 2, 3}}}, {x}, 2), "classlabels_ints has 3 entries");
  has(refusal("LinearClassifier", {{"coefficients", Reals{1, 2, 3}}, {"classlabels_strings", Strings{"no", "yes"}}}, {x}, 2), "number the labels");
  has(refusal("LinearClassifier", {{"coefficients", Reals{1, 2, 3, 1, 2, 3, 1, 2, 3}}, {"intercepts", Reals{1, 2}}}, {x}, 2), "intercepts has 2 entries");
  has(refusal("LinearRegressor", {{"coefficients", Reals{1, 2, 3}}, {"targets", std::int64_t{2}}}, {x}), "'targets' is 2");
  has(refusal("SVMRegressor", {{"coefficients", Reals{1, 2}}, {"n_supports", std::int64_t{3}}, {"support_vectors", Reals{1, 2, 3}}, {"rho", Reals{1}}}, {x}), "'coefficients' has 2 entries");
  has(refusal("SVMRegressor", {{"coefficients", Reals{1, 2}}, {"n_supports", std::int64_t{2}}, {"support_vectors", Reals{1, 2, 3}}, {"rho", Reals{1}}}, {x}), "support_vectors has 3 entries");
  has(refusal("SVMRegressor", {{"coefficients", Reals{1, 2}}, {"n_supports", std::int64_t{2}}, {"support_vectors", Reals{1, 2}}, {"rho", Reals{1}}}, {x}), "reads 1 features");
  has(refusal("SVMRegressor", {{"coefficients", Reals{1, 2, 3}}, {"rho", Reals{1}}, {"kernel_params", Reals{1}}}, {x}), "kernel_params has 1 entries");
  has(refusal("SVMRegressor", {{"coefficients", Reals{1, 2, 3}}, {"rho", Reals{1}}, {"kernel_type", std::string("COSINE")}}, {x}), "'COSINE'");
  const Attrs good{{"classlabels_ints", Ints{0, 1}}, {"vectors_per_class", Ints{1, 1}}, {"support_vectors", Reals(6, 1.0)}, {"coefficients", Reals{1, -1}}, {"rho", Reals{0}}};
  const auto machine = [&](const Attrs& change, std::string_view part) {
    Attrs a = good;
    for (const auto& [k, v] : change) a[k] = v;
    has(refusal("SVMClassifier", a, {x}, 2), part);
  };
  EXPECT_EQ(run("SVMClassifier", good, {x}, 2)[0].shape(), (Shape{2}));
  machine({{"vectors_per_class", Ints{1, 9}}}, "more vectors than");
  machine({{"vectors_per_class", Ints{-1, 2}}}, "holds -1");
  machine({{"vectors_per_class", Ints{2}}}, "'vectors_per_class' has 1 entries");
  machine({{"support_vectors", Reals(5, 1.0)}}, "support_vectors has 5 entries");
  machine({{"coefficients", Reals{1, 2, 3}}}, "coefficients has 3 entries");
  machine({{"rho", Reals{1, 2}}}, "rho has 2 entries");
  machine({{"prob_a", Reals{1}}}, "'prob_b' has 0 entries");
  machine({{"classlabels_strings", Strings{"a"}}}, "holds strings");
  has(refusal("ZipMap", {}, {x}), "end the model before it");
  has(refusal("Normalizer", {{"norm", std::string("L3")}}, {x}), "'L3'");
  has(refusal("Scaler", {{"offset", Reals{1, 2}}}, {x}), "offset has 2 entries for 3 features");
  has(refusal("Imputer", {{"imputed_value_floats", Reals{1, 2}}}, {x}), "2 imputed values for 3 features");
  has(refusal("Imputer", {}, {x}), "must be given");
  has(refusal("ArrayFeatureExtractor", {}, {x, Tensor::of<std::int64_t>({1}, std::vector<std::int64_t>{3})}), "index 3 of 3");
  has(refusal("LabelEncoder", {{"keys_strings", Strings{"a"}}, {"values_int64s", Ints{1}}}, {x}), "holds strings");
  has(refusal("LabelEncoder", {{"keys_int64s", Ints{1, 2}}, {"values_int64s", Ints{1}}}, {x}), "'keys' has 2 entries");
  has(refusal("OneHotEncoder", {{"cats_int64s", Ints{1}}, {"zeros", std::int64_t{0}}}, {x}), "0 is no category");
  has(refusal("FeatureVectorizer", {{"inputdimensions", Ints{1, 2}}}, {x}), "'inputdimensions' has 2 entries");
}

// What prepares features, element by element.
TEST(Ml, Features) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Rng r(seed, "features");
    const std::int64_t rows = r.range(1, 4), width = r.range(1, 4);
    Tensor x = features(r, rows, width, true);
    const Reals a = grids(r, width), b = grids(r, width);
    const double t = grid(r);
    const Tensor scaled = run("Scaler", {{"offset", a}, {"scale", b}}, {x})[0], above = run("Binarizer", {{"threshold", t}}, {x})[0], filled = run("Imputer", {{"imputed_value_floats", a}, {"replaced_value_float", static_cast<double>(NAN)}}, {x})[0];
    const Tensor coded = run("LabelEncoder", {{"keys_floats", Reals{x.at(0), NAN, 0.5}}, {"values_int64s", Ints{7, 8, 9}}, {"default_int64", std::int64_t{-3}}}, {x})[0];
    const Tensor joined = run("FeatureVectorizer", {{"inputdimensions", Ints{width + 1, 1}}}, {x, x})[0];
    ASSERT_EQ(joined.shape(), (Shape{rows, width + 2}));
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const auto c = static_cast<std::size_t>(i % width);
      const double v = x.at(i);
      near(scaled.at(i), (v - a[c]) * b[c], "scaled");
      EXPECT_EQ(above.at(i), v > t ? 1 : 0);
      near(filled.at(i), std::isnan(v) ? a[c] : v, "filled");
      EXPECT_EQ(coded.at(i), std::isnan(v) ? (std::isnan(x.at(0)) ? 7 : 8) : v == x.at(0) ? 7 : v == 0.5 ? 9 : -3);
      near(joined.at(i / width * (width + 2) + i % width), v, "joined");
    }
    for (std::int64_t i = 0; i < rows; ++i) {
      EXPECT_EQ(joined.at(i * (width + 2) + width), 0);
      near(joined.at(i * (width + 2) + width + 1), x.at(i * width), "cut");
    }
    x = features(r, rows, width);
    const Tensor largest = run("Normalizer", {{"norm", std::string("MAX")}}, {x})[0], one = run("Normalizer", {{"norm", std::string("L1")}}, {x})[0], two = run("Normalizer", {{"norm", std::string("L2")}}, {x})[0];
    const std::int64_t chosen = r.range(0, width - 1);
    const Tensor picked = run("ArrayFeatureExtractor", {}, {x, Tensor::of<std::int64_t>({2}, std::vector<std::int64_t>{chosen, 0})})[0];
    for (std::int64_t i = 0; i < rows; ++i) {
      double m = 0, s = 0, q = 0;
      for (std::int64_t j = 0; j < width; ++j) m = std::max(m, std::abs(x.at(i * width + j))), s += std::abs(x.at(i * width + j)), q += x.at(i * width + j) * x.at(i * width + j);
      for (std::int64_t j = i * width; j < (i + 1) * width; ++j) near(largest.at(j), m == 0 ? 0 : x.at(j) / m, "MAX"), near(one.at(j), s == 0 ? 0 : x.at(j) / s, "L1"), near(two.at(j), q == 0 ? 0 : x.at(j) / std::sqrt(q), "L2");
      EXPECT_EQ(picked.at(2 * i), x.at(i * width + chosen)); EXPECT_EQ(picked.at(2 * i + 1), x.at(i * width));
    }
    Tensor k(DType::i64, {rows});
    for (std::int64_t i = 0; i < rows; ++i) k.set(i, static_cast<double>(r.range(0, 3)));
    const Tensor hot = run("OneHotEncoder", {{"cats_int64s", Ints{2, 0, 3}}}, {k})[0];
    ASSERT_EQ(hot.shape(), (Shape{rows, 3}));
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t c = 0; c < 3; ++c) EXPECT_EQ(hot.at(3 * i + c), k.at(i) == (c == 0 ? 2 : c == 1 ? 0 : 3));
  }
}

}  // namespace
}  // namespace tandem::ir
