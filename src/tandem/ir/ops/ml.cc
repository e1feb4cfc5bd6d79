// ONNX-ML: tree ensembles, support vectors, linear models, and what prepares their features.
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Args = EvalArgs<double>;
using Reals = std::vector<double>;
using Strings = std::vector<std::string>;
using Attrs = std::map<std::string, Attribute>;
constexpr std::string_view kMl = "ai.onnx.ml";
double number(std::int64_t i) { return static_cast<double>(i); }
std::int64_t length(const auto& v) { return static_cast<std::int64_t>(v.size()); }

const Attribute* find(const Node& n, const std::string& key) {
  const auto at = n.attrs.find(key);
  return at == n.attrs.end() ? nullptr : &at->second;
}
// A list of numbers, also where it is given as KEY_as_tensor.
Reals reals(const Node& n, const std::string& key) {
  Reals v;
  if (const Attribute* a = find(n, key)) {
    if (const auto* r = std::get_if<Reals>(a)) v = *r;
  }
  if (v.empty())
    if (const Attribute* a = find(n, key + "_as_tensor"))
      if (const auto* t = std::get_if<Tensor>(a))
        for (std::int64_t i = 0; i < t->size(); ++i) v.push_back(t->at(i));
  return v;
}
Strings strings(const Node& n, const std::string& key) {
  const Attribute* a = find(n, key);
  const auto* s = a ? std::get_if<Strings>(a) : nullptr;
  return s ? *s : Strings();
}
Ints ints(const Node& n, std::string_view key) { return n.attr_ints(key, {}); }
// Numbers that go through the evaluator as they are: it computes in f64.
Ints labels_of(const Graph& g, const Node& n, std::string_view key) {
  Ints v = ints(n, key);
  for (std::int64_t k : v)
    if (k > (std::int64_t{1} << 53) || k < -(std::int64_t{1} << 53)) throw node_error(g, n, fmt::format("attribute '{}' holds {}", key, k)).expected("at most 2^53 in magnitude");
  return v;
}
void no_strings(const Graph& g, const Node& n, std::initializer_list<const char*> keys) {
  for (const char* key : keys)
    if (!strings(n, key).empty()) throw node_error(g, n, fmt::format("attribute '{}' holds strings", key)).expected("numbers").fix("number the labels or categories before the model is trained, and export it again");
}
void same_length(const Graph& g, const Node& n, std::string_view key, std::int64_t is, std::string_view other, std::int64_t of) {
  if (is != of) throw node_error(g, n, fmt::format("attribute '{}' has {} entries, '{}' has {}", key, is, other, of)).expected("as many");
}
bool fits(std::int64_t entries, std::int64_t width) { return entries == 1 || entries == width; }

// ---- rows of features -------------------------------------------------------------------------------
struct Rows {
  std::int64_t n, width;
  explicit Rows(const Args& e) : n(1), width(0) {
    const Shape& s = e.in[0]->shape;
    if (s.size() == 1) width = s[0];
    else n = s[0], width = s[1];
  }
};
// The number of rows; `width` is known or not.
Dim rows(const InferContext& c, Dim& width) {
  const Dims& d = c.dims(0);
  if (d.size() != 1 && d.size() != 2) c.fail(fmt::format("input has rank {}", d.size()), "[rows, features] or [features]");
  if (c.in[0]->dtype == DType::boolean) c.fail("its input holds booleans", "numbers");
  width = d.back();
  return d.size() == 1 ? Dim(1) : d[0];
}
void need_width(const Graph& g, const Node& n, std::int64_t width, std::int64_t is) {
  if (width != is) throw node_error(g, n, fmt::format("the model reads {} features, its input has {}", width, is));
}

// ---- what becomes of scores -------------------------------------------------------------------------
enum class Post { none, softmax, logistic, softmax_zero, probit };
Post post_of(const Graph& g, const Node& n) {
  static constexpr std::string_view names[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
  const std::string s = n.attr_string("post_transform", "NONE");
  const auto at = std::find(std::begin(names), std::end(names), s);
  if (at == std::end(names)) throw node_error(g, n, fmt::format("post_transform '{}' is unknown", printable(s))).expected("NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO or PROBIT");
  return static_cast<Post>(at - std::begin(names));
}
double logistic(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }
// ONNX's closed form for the inverse of the error function (Winitzki).
double probit(double p) {
  const double x = 2 * p - 1, w = (1 - x) * (1 + x);
  if (w == 0) return 0;
  const double l = std::log(w), v = 2 / (M_PI * 0.147) + 0.5 * l;
  return 1.41421356 * (x < 0 ? -1 : 1) * std::sqrt(std::sqrt(v * v - l / 0.147) - v);
}
void transform(Post p, Reals& v) {
  if (v.empty()) return;
  const double m = *std::max_element(v.begin(), v.end());
  double sum = 0;
  switch (p) {
    case Post::none: return;
    case Post::logistic:
      for (double& x : v) x = logistic(x);
      return;
    case Post::probit:
      for (double& x : v) x = probit(x);
      return;
    case Post::softmax:
      for (double& x : v) sum += x = std::exp(x - m);
      for (double& x : v) x /= sum;
      return;
    case Post::softmax_zero:  // scores of 0 stay 0
      for (double& x : v) sum += x = std::abs(x) > 1e-7 ? std::exp(x - m) : x * std::exp(-m);
      for (double& x : v) x = sum == 0 ? 0.5 : x / sum;
      return;
  }
}
std::int64_t largest(const Reals& v) { return std::max_element(v.begin(), v.end()) - v.begin(); }
// Y: labels, Z: scores.
void label_types(InferContext& c, Dim n, Dim classes) { c.out = {TensorType{DType::i64, Dims{n}}, TensorType{DType::f32, Dims{n, classes}}}; }
struct Verdict {
  std::int64_t label;
  Reals scores;
};
template <class F>  // f(the features of a row) -> Verdict
void classify(Args& e, std::int64_t columns, F f) {
  const Rows r(e);
  Array<double> labels(Shape{r.n}), scores(Shape{r.n, columns});
  for (std::int64_t i = 0; i < r.n; ++i) {
    const Verdict v = f(e.in[0]->v.data() + i * r.width);
    labels.v[static_cast<std::size_t>(i)] = number(v.label);
    std::copy(v.scores.begin(), v.scores.end(), scores.v.begin() + i * columns);
  }
  e.out[0] = std::move(labels);
  if (e.out.size() > 1) e.out[1] = std::move(scores);
}

// ---- trees ------------------------------------------------------------------------------------------
constexpr std::string_view kModes[] = {"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "LEAF"};
constexpr int kLeaf = 6, kMember = 7;
struct Forest {
  struct Place {
    int mode;
    std::int64_t feature;
    double at;
    bool missing;  // where the feature is NaN
    std::size_t yes = 0, no = 0;
    std::vector<std::pair<std::int64_t, double>> weights;
    std::vector<double> members;  // of kMember, sorted
  };
  std::vector<Place> places;
  std::vector<std::size_t> roots;  // one per tree
  Reals base;
  std::int64_t outputs = 0, features = 0;  // largest column + 1, largest feature + 1

  std::size_t leaf(std::size_t at, const double* x) const {
    while (places[at].mode != kLeaf) {
      const Place& p = places[at];
      const double v = x[p.feature];
      bool yes = p.missing;
      if (!std::isnan(v)) switch (p.mode) {
          case 0: yes = v <= p.at; break;
          case 1: yes = v < p.at; break;
          case 2: yes = v >= p.at; break;
          case 3: yes = v > p.at; break;
          case 4: yes = v == p.at; break;
          case kMember: yes = std::binary_search(p.members.begin(), p.members.end(), v); break;
          default: yes = v != p.at;
        }
      at = yes ? p.yes : p.no;
    }
    return at;
  }
};
// No branch leads back to where it came from.
template <class F>  // the tree of a place, for the message
void check_acyclic(const Graph& g, const Node& n, const Forest& f, F tree) {
  std::vector<char> state(f.places.size());  // 1: on the path, 2: done
  for (std::size_t from = 0; from < f.places.size(); ++from) {
    std::vector<std::size_t> path{from};
    while (!path.empty()) {
      const std::size_t i = path.back();
      if (state[i] == 0) {
        state[i] = 1;
        if (f.places[i].mode == kLeaf) continue;
        for (std::size_t k : {f.places[i].yes, f.places[i].no}) {
          if (state[k] == 1) throw node_error(g, n, fmt::format("the nodes of {} lead back to each other", tree(i))).expected("a tree");
          if (state[k] == 0) path.push_back(k);
        }
      } else {
        state[i] = 2;
        path.pop_back();
      }
    }
  }
}
// The attributes of both tree ensembles; `what` is "target" or "class".
Forest forest(const Graph& g, const Node& n, const std::string& what) {
  Forest f;
  const Ints trees = ints(n, "nodes_treeids"), ids = ints(n, "nodes_nodeids"), feature = ints(n, "nodes_featureids"), yes = ints(n, "nodes_truenodeids"), no = ints(n, "nodes_falsenodeids"),
             missing = ints(n, "nodes_missing_value_tracks_true");
  const Strings modes = strings(n, "nodes_modes");
  const Reals values = reals(n, "nodes_values");
  const auto check = [&](std::string_view key, std::int64_t is) { same_length(g, n, key, is, "nodes_treeids", length(trees)); };
  check("nodes_nodeids", length(ids)), check("nodes_featureids", length(feature)), check("nodes_truenodeids", length(yes)), check("nodes_falsenodeids", length(no));
  check("nodes_modes", length(modes)), check("nodes_values", length(values));
  if (!missing.empty()) check("nodes_missing_value_tracks_true", length(missing));
  if (trees.empty()) throw node_error(g, n, "it has no trees").expected("attributes nodes_*");
  std::map<std::pair<std::int64_t, std::int64_t>, std::size_t> at;
  for (std::size_t i = 0; i < trees.size(); ++i) {
    if (!at.emplace(std::pair(trees[i], ids[i]), i).second) throw node_error(g, n, fmt::format("tree {} has two nodes {}", trees[i], ids[i]));
    const auto mode = std::find(std::begin(kModes), std::end(kModes), modes[i]);
    if (mode == std::end(kModes)) throw node_error(g, n, fmt::format("node {} of tree {} has the mode '{}'", ids[i], trees[i], printable(modes[i]))).expected("BRANCH_LEQ, LT, GTE, GT, EQ or NEQ, or LEAF");
    const bool leaf = mode - std::begin(kModes) == kLeaf;
    if (!leaf && (feature[i] < 0 || feature[i] > (std::int64_t{1} << 40))) throw node_error(g, n, fmt::format("node {} of tree {} reads feature {}", ids[i], trees[i], feature[i]));
    if (!leaf) f.features = std::max(f.features, feature[i] + 1);
    f.places.push_back({static_cast<int>(mode - std::begin(kModes)), feature[i], values[i], !missing.empty() && missing[i] != 0, 0, 0, {}, {}});
  }
  std::vector<bool> child(trees.size());
  for (std::size_t i = 0; i < trees.size(); ++i) {
    if (f.places[i].mode == kLeaf) continue;
    for (auto [id, to] : {std::pair(yes[i], &f.places[i].yes), std::pair(no[i], &f.places[i].no)}) {
      const auto k = at.find({trees[i], id});
      if (k == at.end()) throw node_error(g, n, fmt::format("node {} of tree {} leads to node {}, which does not exist", ids[i], trees[i], id));
      *to = k->second;
      child[k->second] = true;
    }
  }
  // A tree begins at its first node that no other one leads to.
  std::map<std::int64_t, bool> rooted;
  for (std::size_t i = 0; i < trees.size(); ++i) {
    bool& known = rooted[trees[i]];
    if (!known && !child[i]) f.roots.push_back(i), known = true;
  }
  for (const auto& [tree, known] : rooted)
    if (!known) throw node_error(g, n, fmt::format("the nodes of tree {} lead back to each other", tree)).expected("a tree");
  check_acyclic(g, n, f, [&](std::size_t i) { return fmt::format("tree {}", trees[i]); });
  const Ints to_tree = ints(n, what + "_treeids"), to_node = ints(n, what + "_nodeids"), to = ints(n, what + "_ids");
  const Reals weights = reals(n, what + "_weights");
  same_length(g, n, what + "_nodeids", length(to_node), what + "_treeids", length(to_tree));
  same_length(g, n, what + "_ids", length(to), what + "_treeids", length(to_tree));
  same_length(g, n, what + "_weights", length(weights), what + "_treeids", length(to_tree));
  for (std::size_t i = 0; i < to.size(); ++i) {
    const auto k = at.find({to_tree[i], to_node[i]});
    if (k == at.end()) throw node_error(g, n, fmt::format("a weight belongs to node {} of tree {}, which does not exist", to_node[i], to_tree[i]));
    if (to[i] < 0 || to[i] > (std::int64_t{1} << 31)) throw node_error(g, n, fmt::format("attribute '{}_ids' holds {}", what, to[i])).expected("a column of the result");
    f.outputs = std::max(f.outputs, to[i] + 1);
    f.places[k->second].weights.push_back({to[i], weights[i]});
  }
  f.base = reals(n, "base_values");
  return f;
}
void features_known(const Graph& g, const Node& n, const Forest& f, const Dim& width) {
  if (width.known() && width.n < f.features) throw node_error(g, n, fmt::format("a tree reads feature {}, its input has {}", f.features - 1, width.n));
}

struct Aggregate {
  std::int64_t targets;
  int how;  // 0 sum, 1 average, 2 smallest, 3 largest
};
Aggregate aggregate(const Graph& g, const Node& n, const Forest& f) {
  static constexpr std::string_view names[] = {"SUM", "AVERAGE", "MIN", "MAX"};
  const std::string s = n.attr_string("aggregate_function", "SUM");
  const auto at = std::find(std::begin(names), std::end(names), s);
  if (at == std::end(names)) throw node_error(g, n, fmt::format("aggregate_function '{}' is unknown", printable(s))).expected("SUM, AVERAGE, MIN or MAX");
  const std::int64_t targets = n.attr_int("n_targets", 1);
  if (targets < std::max<std::int64_t>(1, f.outputs) || targets > (std::int64_t{1} << 20)) throw node_error(g, n, fmt::format("n_targets is {}, its weights go to {} targets", targets, f.outputs));
  if (!f.base.empty() && !fits(length(f.base), targets)) throw node_error(g, n, fmt::format("base_values has {} entries for {} targets", f.base.size(), targets));
  return {targets, static_cast<int>(at - std::begin(names))};
}
void infer_tree_regressor(InferContext& c) {
  Dim width;
  const Dim n = rows(c, width);
  const Forest f = forest(c.graph, c.node, "target");
  features_known(c.graph, c.node, f, width);
  post_of(c.graph, c.node);
  c.out = {TensorType{DType::f32, Dims{n, Dim(aggregate(c.graph, c.node, f).targets)}}};
}
void regress(Args& e, const Forest& f, const Aggregate& a, Post post) {
  const Rows r(e);
  features_known(e.graph, e.node, f, r.width);
  Array<double> y(Shape{r.n, a.targets});
  Reals sum;
  std::vector<bool> seen;
  for (std::int64_t i = 0; i < r.n; ++i) {
    sum.assign(static_cast<std::size_t>(a.targets), 0), seen.assign(sum.size(), false);
    for (std::size_t root : f.roots)
      for (const auto& [to, w] : f.places[f.leaf(root, e.in[0]->v.data() + i * r.width)].weights) {
        double& s = sum[static_cast<std::size_t>(to)];
        s = a.how < 2 ? s + w : !seen[static_cast<std::size_t>(to)] ? w : a.how == 2 ? std::min(s, w) : std::max(s, w);
        seen[static_cast<std::size_t>(to)] = true;
      }
    for (std::size_t k = 0; k < sum.size(); ++k) {
      if (a.how == 1) sum[k] /= number(length(f.roots));
      if (!f.base.empty()) sum[k] += f.base[f.base.size() == 1 ? 0 : k];
    }
    transform(post, sum);
    std::copy(sum.begin(), sum.end(), y.v.begin() + i * a.targets);
  }
  e.out[0] = std::move(y);
}

void tree_regressor_eval(Args& e) {
  const Forest f = forest(e.graph, e.node, "target");
  regress(e, f, aggregate(e.graph, e.node, f), post_of(e.graph, e.node));
}

// TreeEnsemble of ONNX-ML 5: branches and leaves in lists of their own, sets as conditions.
Reals tensor_values(const Node& n, const std::string& key) {
  Reals v;
  if (const Attribute* a = find(n, key))
    if (const auto* t = std::get_if<Tensor>(a))
      for (std::int64_t i = 0; i < t->size(); ++i) v.push_back(t->at(i));
  return v;
}
Forest ensemble(const Graph& g, const Node& n) {
  Forest f;
  const Ints feature = ints(n, "nodes_featureids"), yes = ints(n, "nodes_truenodeids"), no = ints(n, "nodes_falsenodeids"), yes_leaf = ints(n, "nodes_trueleafs"), no_leaf = ints(n, "nodes_falseleafs"), missing = ints(n, "nodes_missing_value_tracks_true"),
             roots = ints(n, "tree_roots"), to = ints(n, "leaf_targetids");
  const Reals modes = tensor_values(n, "nodes_modes"), splits = tensor_values(n, "nodes_splits"), weights = tensor_values(n, "leaf_weights"), members = tensor_values(n, "membership_values");
  const auto check = [&](std::string_view key, std::int64_t is) { same_length(g, n, key, is, "nodes_featureids", length(feature)); };
  check("nodes_truenodeids", length(yes)), check("nodes_falsenodeids", length(no)), check("nodes_trueleafs", length(yes_leaf)), check("nodes_falseleafs", length(no_leaf)), check("nodes_modes", length(modes)), check("nodes_splits", length(splits));
  if (!missing.empty()) check("nodes_missing_value_tracks_true", length(missing));
  same_length(g, n, "leaf_weights", length(weights), "leaf_targetids", length(to));
  const std::int64_t nodes = length(feature);
  auto set = members.begin();
  for (std::size_t i = 0; i < feature.size(); ++i) {
    if (feature[i] < 0 || feature[i] > (std::int64_t{1} << 40)) throw node_error(g, n, fmt::format("node {} reads feature {}", i, feature[i]));
    if (!(modes[i] >= 0 && modes[i] <= 6)) throw node_error(g, n, fmt::format("node {} has the mode {}", i, modes[i])).expected("0 to 6");
    f.features = std::max(f.features, feature[i] + 1);
    Forest::Place p{modes[i] == 6 ? kMember : static_cast<int>(modes[i]), feature[i], splits[i], !missing.empty() && missing[i] != 0, 0, 0, {}, {}};
    if (p.mode == kMember) {  // sets stand behind each other, NaN between them
      const auto end = std::find_if(set, members.end(), [](double v) { return std::isnan(v); });
      if (set == members.end()) throw node_error(g, n, fmt::format("membership_values has no set for node {}", i));
      p.members.assign(set, end);
      std::sort(p.members.begin(), p.members.end());
      set = end == members.end() ? end : end + 1;
    }
    for (const auto& [id, leaf, at] : {std::tuple(yes[i], yes_leaf[i], &p.yes), std::tuple(no[i], no_leaf[i], &p.no)}) {
      if (id < 0 || id >= (leaf ? length(to) : nodes)) throw node_error(g, n, fmt::format("node {} leads to {} {}, which does not exist", i, leaf ? "leaf" : "node", id));
      *at = static_cast<std::size_t>(leaf ? nodes + id : id);
    }
    f.places.push_back(std::move(p));
  }
  for (std::size_t i = 0; i < to.size(); ++i) {
    if (to[i] < 0 || to[i] > (std::int64_t{1} << 31)) throw node_error(g, n, fmt::format("leaf_targetids holds {}", to[i])).expected("a column of the result");
    f.outputs = std::max(f.outputs, to[i] + 1);
    f.places.push_back({kLeaf, 0, 0, false, 0, 0, {{to[i], weights[i]}}, {}});
  }
  for (std::int64_t root : roots) {
    if (root < 0 || root >= nodes) throw node_error(g, n, fmt::format("tree_roots holds {} of {} nodes", root, nodes));
    f.roots.push_back(static_cast<std::size_t>(root));
  }
  if (f.roots.empty()) throw node_error(g, n, "it has no trees").expected("tree_roots");
  check_acyclic(g, n, f, [](std::size_t) { return "a tree"; });
  return f;
}
Aggregate ensemble_aggregate(const Graph& g, const Node& n, const Forest& f) {
  static constexpr int how[] = {1, 0, 2, 3};
  const std::int64_t a = n.attr_int("aggregate_function", 1), post = n.attr_int("post_transform", 0), targets = n.attr_int("n_targets", std::max<std::int64_t>(1, f.outputs));
  if (a < 0 || a > 3) throw node_error(g, n, fmt::format("aggregate_function is {}", a)).expected("0 to 3");
  if (post < 0 || post > 4) throw node_error(g, n, fmt::format("post_transform is {}", post)).expected("0 to 4");
  if (targets < std::max<std::int64_t>(1, f.outputs) || targets > (std::int64_t{1} << 20)) throw node_error(g, n, fmt::format("n_targets is {}, its leaves go to {} targets", targets, f.outputs));
  return {targets, how[a]};
}
void infer_ensemble(InferContext& c) {
  Dim width;
  const Dim n = rows(c, width);
  const Forest f = ensemble(c.graph, c.node);
  features_known(c.graph, c.node, f, width);
  c.out = {TensorType{c.in[0]->dtype, Dims{n, Dim(ensemble_aggregate(c.graph, c.node, f).targets)}}};
}
void ensemble_eval(Args& e) {
  const Forest f = ensemble(e.graph, e.node);
  static constexpr Post posts[] = {Post::none, Post::softmax, Post::logistic, Post::softmax_zero, Post::probit};
  regress(e, f, ensemble_aggregate(e.graph, e.node, f), posts[e.node.attr_int("post_transform", 0)]);
}
Tensor tensor_of_reals(const Reals& v, DType t = DType::f32) {
  Tensor x(t, {length(v)});
  for (std::int64_t i = 0; i < length(v); ++i) x.set(i, v[static_cast<std::size_t>(i)]);
  return x;
}
// Trees of one to three branches in a chain.
void sample_ensemble(const OpDef& op, Sample& s) {
  const std::int64_t features = s.r.range(1, 4), targets = s.r.range(1, 3);
  Ints feature, yes, no, yes_leaf, no_leaf, missing, roots, to;
  Reals modes, splits, weights, members;
  const auto leaf = [&] {
    to.push_back(s.r.range(0, targets - 1)), weights.push_back(number(s.r.range(-64, 64)) / 64);
    return length(to) - 1;
  };
  for (std::int64_t t = s.r.range(1, 3); t > 0; --t) {
    roots.push_back(length(feature));
    for (std::int64_t left = s.r.range(1, 3); left > 0; --left) {
      feature.push_back(s.r.range(0, features - 1)), missing.push_back(s.r.range(0, 1)), modes.push_back(number(s.r.range(0, 6))), splits.push_back(number(s.r.range(-64, 64)) / 64);
      if (modes.back() == 6) members.insert(members.end(), {-1, 0.5, 0, NAN});
      yes.push_back(leaf()), yes_leaf.push_back(1);
      no_leaf.push_back(left == 1), no.push_back(left == 1 ? leaf() : length(feature));
    }
  }
  Attrs a{{"nodes_featureids", feature}, {"nodes_truenodeids", yes}, {"nodes_falsenodeids", no}, {"nodes_trueleafs", yes_leaf}, {"nodes_falseleafs", no_leaf}, {"nodes_missing_value_tracks_true", missing}, {"tree_roots", roots}, {"leaf_targetids", to},
          {"nodes_modes", tensor_of_reals(modes, DType::u8)}, {"nodes_splits", tensor_of_reals(splits)}, {"leaf_weights", tensor_of_reals(weights)}, {"n_targets", targets}, {"aggregate_function", s.r.range(0, 3)}, {"post_transform", s.r.range(0, 3)}};
  if (!members.empty()) a["membership_values"] = tensor_of_reals(members);
  s.node(op, {s.input({s.r.range(1, 5), features})}, a);
}

struct TreeClasses {
  Ints labels;
  std::int64_t columns;
  std::optional<std::int64_t> one;  // the only column that has weights: two classes from one score
};
TreeClasses tree_classes(const Graph& g, const Node& n, const Forest& f) {
  no_strings(g, n, {"classlabels_strings"});
  TreeClasses c{labels_of(g, n, "classlabels_int64s"), 0, {}};
  if (c.labels.empty()) throw node_error(g, n, "attribute 'classlabels_int64s' is missing or empty").expected("the labels of the classes");
  if (c.labels.size() == 1 && c.labels[0] != 1) throw node_error(g, n, fmt::format("its only label is {}", c.labels[0])).expected("two labels or more, or the label 1");
  c.columns = std::max<std::int64_t>(2, length(c.labels));
  if (f.outputs > c.columns) throw node_error(g, n, fmt::format("a weight goes to class {} of {}", f.outputs - 1, c.columns));
  const Ints ids = ints(n, "class_ids");
  if (c.columns == 2 && !ids.empty() && std::all_of(ids.begin(), ids.end(), [&](std::int64_t k) { return k == ids[0]; })) c.one = ids[0];
  if (!f.base.empty() && !fits(length(f.base), c.columns)) throw node_error(g, n, fmt::format("base_values has {} entries for {} classes", f.base.size(), c.columns));
  return c;
}
void infer_tree_classifier(InferContext& c) {
  Dim width;
  const Dim n = rows(c, width);
  const Forest f = forest(c.graph, c.node, "class");
  features_known(c.graph, c.node, f, width);
  post_of(c.graph, c.node);
  label_types(c, n, Dim(tree_classes(c.graph, c.node, f).columns));
}
void tree_classifier_eval(Args& e) {
  const Forest f = forest(e.graph, e.node, "class");
  features_known(e.graph, e.node, f, Rows(e).width);
  const TreeClasses c = tree_classes(e.graph, e.node, f);
  const Post post = post_of(e.graph, e.node);
  classify(e, c.columns, [&](const double* x) {
    Reals s(static_cast<std::size_t>(c.columns));
    if (!f.base.empty())
      for (std::size_t k = 0; k < s.size(); ++k) s[k] = f.base[f.base.size() == 1 ? 0 : k];
    for (std::size_t root : f.roots)
      for (const auto& [to, w] : f.places[f.leaf(root, x)].weights) s[static_cast<std::size_t>(to)] += w;
    if (c.one) {
      const double one = s[static_cast<std::size_t>(*c.one)];
      s = {post == Post::none || post == Post::probit ? 1 - one : -one, one};
    }
    transform(post, s);
    const std::int64_t best = largest(s);
    return Verdict{c.labels.size() == 1 ? best : c.labels[static_cast<std::size_t>(best)], s};
  });
}
// Random trees: node 0 of each is its root, every branch gets two new nodes until `most` are there.
Attrs random_trees(Sample& s, const std::string& what, std::int64_t features, std::int64_t outputs) {
  Ints tree, id, feature, yes, no, missing, to_tree, to_node, to;
  Strings modes;
  Reals values, weights;
  const std::int64_t trees = s.r.range(1, 4);
  for (std::int64_t t = 0; t < trees; ++t) {
    std::int64_t made = 1;
    const std::int64_t most = s.r.range(1, 12);
    for (std::int64_t i = 0; i < made; ++i) {
      const bool leaf = made + 2 > most;
      tree.push_back(t), id.push_back(i), feature.push_back(leaf ? 0 : s.r.range(0, features - 1)), missing.push_back(s.r.range(0, 1));
      modes.emplace_back(kModes[leaf ? kLeaf : s.r.range(0, 5)]);
      values.push_back(number(s.r.range(-64, 64)) / 64);
      yes.push_back(leaf ? 0 : made), no.push_back(leaf ? 0 : made + 1);
      if (!leaf) made += 2;
      else to_tree.push_back(t), to_node.push_back(i), to.push_back(s.r.range(0, outputs - 1)), weights.push_back(number(s.r.range(-64, 64)) / 64);
    }
  }
  return {{"nodes_treeids", tree}, {"nodes_nodeids", id}, {"nodes_featureids", feature}, {"nodes_truenodeids", yes}, {"nodes_falsenodeids", no}, {"nodes_modes", modes},
          {"nodes_values", values}, {"nodes_missing_value_tracks_true", missing}, {what + "_treeids", to_tree}, {what + "_nodeids", to_node}, {what + "_ids", to}, {what + "_weights", weights}};
}
std::string random_post(Sample& s, bool probits) {
  static const char* names[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
  return names[s.r.range(0, probits ? 4 : 3)];
}
void sample_tree_regressor(const OpDef& op, Sample& s) {
  static const char* how[] = {"SUM", "AVERAGE", "MIN", "MAX"};
  const std::int64_t features = s.r.range(1, 4), targets = s.r.range(1, 3);
  Attrs a = random_trees(s, "target", features, targets);
  a["n_targets"] = targets;
  a["aggregate_function"] = std::string(how[s.r.range(0, 3)]);
  a["post_transform"] = random_post(s, false);
  if (s.r.chance(0.5)) a["base_values"] = Reals(static_cast<std::size_t>(targets), 0.5);
  s.node(op, {s.input({s.r.range(1, 5), features})}, a);
}
void sample_tree_classifier(const OpDef& op, Sample& s) {
  const std::int64_t features = s.r.range(1, 4), classes = s.r.range(2, 4);
  Attrs a = random_trees(s, "class", features, classes == 2 ? 1 : classes);
  Ints labels;
  for (std::int64_t k = 0; k < classes; ++k) labels.push_back(10 * k - 7);
  a["classlabels_int64s"] = labels;
  a["post_transform"] = random_post(s, false);
  s.node(op, {s.input({s.r.range(1, 5), features})}, a, 2);
}

// ---- support vectors --------------------------------------------------------------------------------
struct Kernel {
  int kind;  // 0 linear, 1 polynomial, 2 radial, 3 sigmoid
  double gamma = 0, offset = 0;
  std::int64_t degree = 0;
  double operator()(const double* a, const double* b, std::int64_t width) const {
    double s = 0;
    for (std::int64_t i = 0; i < width; ++i) s += kind == 2 ? (a[i] - b[i]) * (a[i] - b[i]) : a[i] * b[i];
    if (kind == 1) return std::pow(gamma * s + offset, number(degree));
    if (kind == 2) return std::exp(-gamma * s);
    if (kind == 3) return std::tanh(gamma * s + offset);
    return s;
  }
};
Kernel kernel_of(const Graph& g, const Node& n) {
  static constexpr std::string_view names[] = {"LINEAR", "POLY", "RBF", "SIGMOID"};
  const std::string s = n.attr_string("kernel_type", "LINEAR");
  const auto at = std::find(std::begin(names), std::end(names), s);
  if (at == std::end(names)) throw node_error(g, n, fmt::format("kernel_type '{}' is unknown", printable(s))).expected("LINEAR, POLY, RBF or SIGMOID");
  Kernel k{static_cast<int>(at - std::begin(names))};
  const Reals p = reals(n, "kernel_params");
  if (!p.empty() && p.size() != 3) throw node_error(g, n, fmt::format("kernel_params has {} entries", p.size())).expected("gamma, coef0 and degree");
  if (!p.empty()) k.gamma = p[0], k.offset = p[1], k.degree = to_int(p[2]);
  return k;
}
struct Machine {
  Kernel kernel;
  Post post;
  std::int64_t classes, vectors = 0;  // no vectors: linear, one row of coefficients per class
  std::int64_t width, columns;
  Ints labels, count, first;  // vectors of each class
  Reals coefficients, support, rho, a, b;
  bool positive, probabilities;
  std::int64_t pairs() const { return classes * (classes - 1) / 2; }
};
Machine machine(const Graph& g, const Node& n) {
  no_strings(g, n, {"classlabels_strings"});
  Machine m{.kernel = kernel_of(g, n), .post = post_of(g, n), .classes = 1, .width = 0, .columns = 0, .labels = labels_of(g, n, "classlabels_ints"), .count = ints(n, "vectors_per_class"), .first = {},
            .coefficients = reals(n, "coefficients"), .support = reals(n, "support_vectors"), .rho = reals(n, "rho"), .a = reals(n, "prob_a"), .b = reals(n, "prob_b"), .positive = false, .probabilities = false};
  m.classes = std::max<std::int64_t>(1, length(m.labels));
  if (m.classes > 46340) throw Error(Exit::limit, fmt::format("{} classes", m.classes)).at(g.describe(n));
  for (std::int64_t k : m.count) {
    if (k < 0 || k > (std::int64_t{1} << 40)) throw node_error(g, n, fmt::format("vectors_per_class holds {}", k));
    m.first.push_back(m.vectors);
    if ((m.vectors += k) > length(m.support)) throw node_error(g, n, fmt::format("vectors_per_class speaks of more vectors than there are numbers in support_vectors ({})", m.support.size()));
  }
  if (m.coefficients.empty()) throw node_error(g, n, "it has no coefficients");
  m.positive = *std::min_element(m.coefficients.begin(), m.coefficients.end()) >= 0;
  if (m.vectors > 0) {
    if (m.classes < 2) throw node_error(g, n, "support vectors of less than two classes").expected("classlabels_ints with two entries or more");
    same_length(g, n, "vectors_per_class", length(m.count), "classlabels_ints", m.classes);
    if (length(m.support) % m.vectors) throw node_error(g, n, fmt::format("support_vectors has {} entries", m.support.size())).expected(fmt::format("a multiple of {}, the number of vectors", m.vectors));
    m.width = length(m.support) / m.vectors;
    if (m.vectors > length(m.coefficients) / (m.classes - 1) || length(m.coefficients) != (m.classes - 1) * m.vectors)
      throw node_error(g, n, fmt::format("coefficients has {} entries", m.coefficients.size())).expected(fmt::format("{} classes less one times {} vectors", m.classes, m.vectors));
    if (length(m.rho) != m.pairs()) throw node_error(g, n, fmt::format("rho has {} entries", m.rho.size())).expected(fmt::format("{}, one per pair of classes", m.pairs()));
    m.probabilities = !m.a.empty();
    if (m.probabilities) same_length(g, n, "prob_a", length(m.a), "rho", length(m.rho)), same_length(g, n, "prob_b", length(m.b), "rho", length(m.rho));
  } else {
    if (length(m.coefficients) % m.classes) throw node_error(g, n, fmt::format("coefficients has {} entries", m.coefficients.size())).expected(fmt::format("a multiple of the {} classes", m.classes));
    if (m.rho.empty()) throw node_error(g, n, "rho is missing");
    m.width = length(m.coefficients) / m.classes;
  }
  m.columns = m.vectors > 0 && !m.probabilities ? m.pairs() : m.classes;
  if (m.columns == 1 && m.labels.size() == 2 && m.rho.size() == 1 && m.post != Post::probit) m.columns = 2;
  return m;
}
// Of k classes from r[i][j] = P(i | i or j): the fixed point of Wu, Lin and Weng (2004), as libsvm iterates it.
Reals coupled(std::int64_t k, const std::vector<Reals>& r) {
  const auto K = static_cast<std::size_t>(k);
  std::vector<Reals> q(K, Reals(K));
  for (std::size_t t = 0; t < K; ++t)
    for (std::size_t j = 0; j < K; ++j) {
      if (j == t) continue;
      q[t][t] += r[j][t] * r[j][t];
      q[t][j] = -r[j][t] * r[t][j];
    }
  Reals p(K, 1 / number(k)), qp(K);
  for (std::int64_t step = 0; step < std::max<std::int64_t>(100, k); ++step) {
    double pqp = 0, worst = 0;
    for (std::size_t t = 0; t < K; ++t) {
      qp[t] = 0;
      for (std::size_t j = 0; j < K; ++j) qp[t] += q[t][j] * p[j];
      pqp += p[t] * qp[t];
    }
    for (double x : qp) worst = std::max(worst, std::abs(x - pqp));
    if (worst < 0.005 / number(k)) break;
    for (std::size_t t = 0; t < K; ++t) {
      const double d = (pqp - qp[t]) / q[t][t];
      p[t] += d;
      pqp = (pqp + d * (d * q[t][t] + 2 * qp[t])) / ((1 + d) * (1 + d));
      for (std::size_t j = 0; j < K; ++j) qp[j] = (qp[j] + d * q[t][j]) / (1 + d), p[j] /= 1 + d;
    }
  }
  return p;
}
Verdict judge(const Machine& m, const double* x) {
  Reals scores, votes;
  if (m.vectors == 0) {
    for (std::int64_t k = 0; k < m.classes; ++k) scores.push_back(m.rho[0] + Kernel{0}(x, m.coefficients.data() + k * m.width, m.width));
  } else {
    votes.resize(static_cast<std::size_t>(m.classes));
    Reals k;
    for (std::int64_t v = 0; v < m.vectors; ++v) k.push_back(m.kernel(x, m.support.data() + v * m.width, m.width));
    const auto part = [&](std::size_t row, std::size_t of) {  // of the vectors of one class, weighted by a row of coefficients
      double s = 0;
      for (std::int64_t v = m.first[of]; v < m.first[of] + m.count[of]; ++v) s += m.coefficients[row * static_cast<std::size_t>(m.vectors) + static_cast<std::size_t>(v)] * k[static_cast<std::size_t>(v)];
      return s;
    };
    for (std::size_t i = 0; i < votes.size(); ++i)
      for (std::size_t j = i + 1; j < votes.size(); ++j) {
        scores.push_back(m.rho[scores.size()] + part(j - 1, i) + part(i, j));
        ++votes[scores.back() > 0 ? i : j];
      }
    if (m.probabilities) {
      std::vector<Reals> r(votes.size(), Reals(votes.size()));
      std::size_t pair = 0;
      for (std::size_t i = 0; i < votes.size(); ++i)
        for (std::size_t j = i + 1; j < votes.size(); ++j, ++pair) {
          r[i][j] = std::clamp(1 - logistic(scores[pair] * m.a[pair] + m.b[pair]), 1e-7, 1 - 1e-7);
          r[j][i] = 1 - r[i][j];
        }
      scores = coupled(m.classes, r);
    }
  }
  const Reals& by = votes.empty() ? scores : votes;
  const std::int64_t best = largest(by);
  const double most = by[static_cast<std::size_t>(best)];
  Verdict v{m.labels.empty() ? best : m.labels[static_cast<std::size_t>(best)], scores};
  if (m.rho.size() == 1 && m.labels.size() == 2 && !m.probabilities && m.positive && most >= 0.5) v.label = m.labels[1];
  if (m.rho.size() == 1 && m.labels.size() != 2) v.label = most > 0;
  if (scores.size() == 1 && m.columns == 2) v.scores = {-scores[0], scores[0]};
  else if (scores.size() == 1 && m.post != Post::probit) return v;  // a score that stands alone is not transformed
  transform(m.post, v.scores);
  return v;
}
void infer_svm_classifier(InferContext& c) {
  Dim width;
  const Dim n = rows(c, width);
  const Machine m = machine(c.graph, c.node);
  if (width.known()) need_width(c.graph, c.node, m.width, width.n);
  label_types(c, n, Dim(m.columns));
}
void svm_classifier_eval(Args& e) {
  const Machine m = machine(e.graph, e.node);
  need_width(e.graph, e.node, m.width, Rows(e).width);
  classify(e, m.columns, [&](const double* x) { return judge(m, x); });
}
Reals random_reals(Sample& s, std::int64_t n) {
  Reals v;
  for (std::int64_t i = 0; i < n; ++i) v.push_back(number(s.r.range(-64, 64)) / 64);
  return v;
}
void random_kernel(Sample& s, Attrs& a) {
  static const char* names[] = {"LINEAR", "POLY", "RBF", "SIGMOID"};
  a["kernel_type"] = std::string(names[s.r.range(0, 3)]);
  a["kernel_params"] = Reals{0.25, 0.5, number(s.r.range(1, 3))};
}
void sample_svm_classifier(const OpDef& op, Sample& s) {
  const std::int64_t classes = s.r.range(2, 4), width = s.r.range(1, 4), pairs = classes * (classes - 1) / 2;
  Ints labels, count;
  std::int64_t vectors = 0;
  for (std::int64_t k = 0; k < classes; ++k) labels.push_back(3 * k), count.push_back(s.r.range(1, 3)), vectors += count.back();
  Attrs a{{"classlabels_ints", labels}, {"post_transform", random_post(s, false)}};
  random_kernel(s, a);
  if (s.r.chance(0.3)) {
    a["coefficients"] = random_reals(s, classes * width), a["rho"] = random_reals(s, 1);
  } else {
    a["vectors_per_class"] = count, a["support_vectors"] = random_reals(s, vectors * width), a["coefficients"] = random_reals(s, (classes - 1) * vectors), a["rho"] = random_reals(s, pairs);
    if (s.r.chance(0.5)) a["prob_a"] = Reals(static_cast<std::size_t>(pairs), -1.0), a["prob_b"] = random_reals(s, pairs);
  }
  s.node(op, {s.input({s.r.range(1, 4), width})}, a, 2);
}

struct Regression {
  Kernel kernel;
  Post post;
  std::int64_t vectors, width;
  Reals coefficients, support, rho;
};
Regression regression(const Graph& g, const Node& n) {
  Regression r{kernel_of(g, n), post_of(g, n), n.attr_int("n_supports", 0), 0, reals(n, "coefficients"), reals(n, "support_vectors"), reals(n, "rho")};
  if (n.attr_int("n_targets", 1) != 1) throw node_error(g, n, fmt::format("n_targets is {}", n.attr_int("n_targets", 1))).expected("1");
  if (r.rho.empty()) throw node_error(g, n, "rho is missing");
  if (r.vectors < 0) throw node_error(g, n, fmt::format("n_supports is {}", r.vectors));
  if (r.vectors > 0) {
    same_length(g, n, "coefficients", length(r.coefficients), "n_supports", r.vectors);
    if (r.support.empty() || length(r.support) % r.vectors) throw node_error(g, n, fmt::format("support_vectors has {} entries", r.support.size())).expected(fmt::format("a multiple of {}", r.vectors));
  }
  r.width = r.vectors > 0 ? length(r.support) / r.vectors : length(r.coefficients);
  return r;
}
void infer_svm_regressor(InferContext& c) {
  Dim width;
  const Dim n = rows(c, width);
  const Regression r = regression(c.graph, c.node);
  if (width.known()) need_width(c.graph, c.node, r.width, width.n);
  c.out = {TensorType{DType::f32, Dims{n, Dim(1)}}};
}
void svm_regressor_eval(Args& e) {
  const Regression m = regression(e.graph, e.node);
  const Rows r(e);
  need_width(e.graph, e.node, m.width, r.width);
  const bool one = e.node.attr_int("one_class", 0) != 0;
  Array<double> y(Shape{r.n, 1});
  for (std::int64_t i = 0; i < r.n; ++i) {
    const double* x = e.in[0]->v.data() + i * r.width;
    double s = m.rho[0];
    for (std::int64_t k = 0; k < m.vectors; ++k) s += m.coefficients[static_cast<std::size_t>(k)] * m.kernel(x, m.support.data() + k * m.width, m.width);
    if (m.vectors == 0) s += Kernel{0}(x, m.coefficients.data(), m.width);
    Reals v{one ? (s > 0 ? 1.0 : -1.0) : s};
    transform(m.post, v);
    y.v[static_cast<std::size_t>(i)] = v[0];
  }
  e.out[0] = std::move(y);
}
void sample_svm_regressor(const OpDef& op, Sample& s) {
  const std::int64_t width = s.r.range(1, 4), vectors = s.r.range(0, 4);
  Attrs a{{"n_supports", vectors}, {"rho", random_reals(s, 1)}, {"one_class", s.r.range(0, 1)}, {"coefficients", random_reals(s, vectors ? vectors : width)}};
  if (vectors) a["support_vectors"] = random_reals(s, vectors * width);
  random_kernel(s, a);
  s.node(op, {s.input({s.r.range(1, 4), width})}, a);
}

// ---- linear models ----------------------------------------------------------------------------------
// [rows of coefficients, width] by the features, plus intercepts.
Reals linear(const Reals& coefficients, const Reals& intercepts, const double* x, std::int64_t width) {
  Reals s;
  for (std::int64_t k = 0; width && k < length(coefficients) / width; ++k) {
    s.push_back(intercepts.empty() ? 0 : intercepts[intercepts.size() == 1 ? 0 : static_cast<std::size_t>(k)]);
    for (std::int64_t i = 0; i < width; ++i) s.back() += x[i] * coefficients[static_cast<std::size_t>(k * width + i)];
  }
  return s;
}
// The number of rows of coefficients.
std::int64_t linear_rows(const Graph& g, const Node& n, std::int64_t width) {
  const std::int64_t c = length(reals(n, "coefficients")), i = length(reals(n, "intercepts"));
  if (width < 1 || c < 1 || c % width) throw node_error(g, n, fmt::format("coefficients has {} entries for {} features", c, width)).expected("a multiple");
  if (i && !fits(i, c / width)) throw node_error(g, n, fmt::format("intercepts has {} entries", i)).expected(fmt::format("{}", c / width));
  return c / width;
}
std::int64_t linear_classes(const Graph& g, const Node& n, std::int64_t width) {
  no_strings(g, n, {"classlabels_strings"});
  const std::int64_t rows = linear_rows(g, n, width), labels = length(labels_of(g, n, "classlabels_ints")), columns = rows == 1 && labels == 2 ? 2 : rows;
  if (labels && labels != columns) throw node_error(g, n, fmt::format("classlabels_ints has {} entries", labels)).expected(fmt::format("{}", columns));
  return columns;
}
void infer_linear_classifier(InferContext& c) {
  Dim width;
  const Dim n = rows(c, width);
  post_of(c.graph, c.node);
  label_types(c, n, width.known() ? Dim(linear_classes(c.graph, c.node, width.n)) : Dim());
}
void linear_classifier_eval(Args& e) {
  const std::int64_t width = Rows(e).width, columns = linear_classes(e.graph, e.node, width);
  const Reals coefficients = reals(e.node, "coefficients"), intercepts = reals(e.node, "intercepts");
  const Ints labels = labels_of(e.graph, e.node, "classlabels_ints");
  const Post post = post_of(e.graph, e.node);
  classify(e, columns, [&](const double* x) {
    Reals s = linear(coefficients, intercepts, x, width);
    if (length(s) < columns) s = {-s[0], s[0]};
    transform(post, s);
    if (columns == 1) return Verdict{s[0] >= (post == Post::none ? 0 : 0.5) ? (labels.empty() ? 1 : labels[0]) : 0, s};
    const std::int64_t best = largest(s);
    return Verdict{labels.empty() ? best : labels[static_cast<std::size_t>(best)], s};
  });
}
void sample_linear_classifier(const OpDef& op, Sample& s) {
  const std::int64_t width = s.r.range(1, 4), rows = s.r.range(1, 3);
  Attrs a{{"coefficients", random_reals(s, rows * width)}, {"intercepts", random_reals(s, rows)}, {"post_transform", random_post(s, false)}};
  if (s.r.chance(0.7)) a["classlabels_ints"] = rows == 1 ? Ints{4, -5} : Ints(static_cast<std::size_t>(rows), 7);
  s.node(op, {s.input({s.r.range(1, 4), width})}, a, 2);
}
std::int64_t linear_targets(const Graph& g, const Node& n, std::int64_t width) {
  const std::int64_t rows = linear_rows(g, n, width), targets = n.attr_int("targets", 1);
  if (rows != targets) throw node_error(g, n, fmt::format("coefficients for {} targets of {} features, 'targets' is {}", rows, width, targets));
  return targets;
}
void infer_linear_regressor(InferContext& c) {
  Dim width;
  const Dim n = rows(c, width);
  post_of(c.graph, c.node);
  c.out = {TensorType{DType::f32, Dims{n, width.known() ? Dim(linear_targets(c.graph, c.node, width.n)) : Dim()}}};
}
void linear_regressor_eval(Args& e) {
  const Rows r(e);
  const std::int64_t targets = linear_targets(e.graph, e.node, r.width);
  const Reals coefficients = reals(e.node, "coefficients"), intercepts = reals(e.node, "intercepts");
  const Post post = post_of(e.graph, e.node);
  Array<double> y(Shape{r.n, targets});
  for (std::int64_t i = 0; i < r.n; ++i) {
    Reals s = linear(coefficients, intercepts, e.in[0]->v.data() + i * r.width, r.width);
    transform(post, s);
    std::copy(s.begin(), s.end(), y.v.begin() + i * targets);
  }
  e.out[0] = std::move(y);
}
void sample_linear_regressor(const OpDef& op, Sample& s) {
  const std::int64_t width = s.r.range(1, 4), targets = s.r.range(1, 3);
  Attrs a{{"coefficients", random_reals(s, targets * width)}, {"targets", targets}, {"post_transform", random_post(s, false)}};
  if (s.r.chance(0.7)) a["intercepts"] = random_reals(s, targets);
  s.node(op, {s.input({s.r.range(1, 4), width})}, a);
}

// ---- features ---------------------------------------------------------------------------------------
void infer_scaler(InferContext& c) {
  const Dims& d = c.dims(0);
  if (d.empty()) c.fail("input has no axis");
  for (const char* key : {"offset", "scale"})
    if (const auto n = length(reals(c.node, key)); n > 1 && d.back().known() && d.back().n != n) c.fail(fmt::format("{} has {} entries for {} features", key, n, d.back().n));
  c.out = {TensorType{DType::f32, c.in[0]->dims}};
}
void scaler_eval(Args& e) {
  const Reals offset = reals(e.node, "offset"), scale = reals(e.node, "scale");
  Array<double> y = *e.in[0];
  const std::int64_t width = y.shape.back();
  const auto entry = [&](const Reals& v, std::size_t i, double none) {
    if (v.size() > 1 && length(v) != width) throw node_error(e.graph, e.node, fmt::format("{} offsets or scales for {} features", v.size(), width));
    return v.empty() ? none : v[v.size() == 1 ? 0 : i % v.size()];
  };
  for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = (y.v[i] - entry(offset, i, 0)) * entry(scale, i, 1);
  e.out[0] = std::move(y);
}
void sample_scaler(const OpDef& op, Sample& s) {
  const Shape x = s.shape(1, 3);
  s.node(op, {s.input(x)}, {{"offset", random_reals(s, s.r.chance(0.5) ? 1 : x.back())}, {"scale", random_reals(s, s.r.chance(0.5) ? 1 : x.back())}});
}
int norm_of(const Graph& g, const Node& n) {
  const std::string s = n.attr_string("norm", "MAX");
  if (s != "MAX" && s != "L1" && s != "L2") throw node_error(g, n, fmt::format("norm '{}' is unknown", printable(s))).expected("MAX, L1 or L2");
  return s == "MAX" ? 0 : s == "L1" ? 1 : 2;
}
void infer_normalizer(InferContext& c) {
  Dim width;
  rows(c, width);
  norm_of(c.graph, c.node);
  c.out = {TensorType{DType::f32, c.in[0]->dims}};
}
void normalizer_eval(Args& e) {
  const int norm = norm_of(e.graph, e.node);
  e.out[0] = along(*e.in[0], length(e.in[0]->shape) - 1, [&](Reals& v) {
    double s = 0;
    for (double x : v) s = norm == 0 ? std::max(s, std::abs(x)) : s + (norm == 1 ? std::abs(x) : x * x);
    if (norm == 2) s = std::sqrt(s);
    for (double& x : v) x = s == 0 ? x : x / s;
  });
}
void sample_normalizer(const OpDef& op, Sample& s) {
  static const char* names[] = {"MAX", "L1", "L2"};
  s.node(op, {s.input(s.shape(1, 2))}, {{"norm", std::string(names[s.r.range(0, 2)])}});
}
void binarizer_eval(Args& e) {
  const double t = e.node.attr_float("threshold", 0);
  e.out[0] = *e.in[0];
  for (double& x : e.out[0].v) x = x > t;
}
void sample_binarizer(const OpDef& op, Sample& s) { s.node(op, {s.input(s.shape(0, 3))}, {{"threshold", 0.25}}); }

void infer_extractor(InferContext& c) {
  const Dims& x = c.dims(0);
  if (x.empty()) c.fail("input has no axis");
  if (c.in[1]->dtype != DType::i64) c.fail(fmt::format("indices of {}", to_string(c.in[1]->dtype)), "i64");
  Dims y(x.begin(), x.end() - 1);
  if (y.empty()) y.push_back(1);
  Dim n(1);
  for (const Dim& d : c.dims(1)) n = n.known() && d.known() ? Dim(n.n * d.n) : Dim();
  y.push_back(n);
  c.out = {TensorType{c.in[0]->dtype, y}};
}
void extractor_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  const std::int64_t width = x.shape.back(), k = length(e.in[1]->v), n = element_count(Shape(x.shape.begin(), x.shape.end() - 1));
  Shape s(x.shape.begin(), x.shape.end() - 1);
  if (s.empty()) s.push_back(1);
  s.push_back(k);
  Array<double> y(s);
  for (std::int64_t j = 0; j < k; ++j) {
    std::int64_t at = to_int(e.in[1]->v[static_cast<std::size_t>(j)]);
    if (at < -width || at >= width) throw node_error(e.graph, e.node, fmt::format("index {} of {} features", at, width));
    if (at < 0) at += width;
    for (std::int64_t i = 0; i < n; ++i) y.v[static_cast<std::size_t>(i * k + j)] = x.v[static_cast<std::size_t>(i * width + at)];
  }
  e.out[0] = std::move(y);
}
void sample_extractor(const OpDef& op, Sample& s) {
  const Shape x = s.shape(1, 3);
  Ints at;
  for (std::int64_t i = s.r.range(1, 4); i > 0; --i) at.push_back(s.r.range(0, x.back() - 1));
  const ValueId v = s.input(x);
  s.node(op, {v, s.ints(at)});
}

Reals imputed(const Graph& g, const Node& n, DType t) {
  Reals v = reals(n, "imputed_value_floats");
  const Ints i = labels_of(g, n, "imputed_value_int64s");
  if (v.empty() == i.empty()) throw node_error(g, n, "imputed_value_floats or imputed_value_int64s must be given").expected("one of them");
  if (v.empty() == is_float(t)) throw node_error(g, n, fmt::format("the imputed values do not fit inputs of {}", to_string(t)));
  for (std::int64_t k : i) v.push_back(number(k));
  return v;
}
void infer_imputer(InferContext& c) {
  Dim width;
  rows(c, width);
  const Reals v = imputed(c.graph, c.node, c.in[0]->dtype);
  if (width.known() && !fits(length(v), width.n)) c.fail(fmt::format("{} imputed values for {} features", v.size(), width.n));
  infer_first(c);
}
void imputer_eval(Args& e) {
  const Reals v = imputed(e.graph, e.node, in_type(e));
  const std::int64_t width = Rows(e).width;
  if (!fits(length(v), width)) throw node_error(e.graph, e.node, fmt::format("{} imputed values for {} features", v.size(), width));
  const double from = is_float(in_type(e)) ? e.node.attr_float("replaced_value_float", 0) : number(e.node.attr_int("replaced_value_int64", 0));
  Array<double> y = *e.in[0];
  for (std::size_t i = 0; i < y.v.size(); ++i)
    if (std::isnan(from) ? std::isnan(y.v[i]) : y.v[i] == from) y.v[i] = v[v.size() == 1 ? 0 : i % static_cast<std::size_t>(width)];
  e.out[0] = std::move(y);
}
void sample_imputer(const OpDef& op, Sample& s) {
  const Shape x{s.r.range(1, 4), s.r.range(1, 4)};
  const bool whole = s.r.chance(0.5);
  const std::int64_t n = s.r.chance(0.5) ? 1 : x[1];
  if (whole) s.node(op, {s.input(x, 0, 3, DType::i64)}, {{"imputed_value_int64s", Ints(static_cast<std::size_t>(n), 9)}, {"replaced_value_int64", std::int64_t{2}}});
  else s.node(op, {s.input(x)}, {{"imputed_value_floats", random_reals(s, n)}, {"replaced_value_float", 0.25}});
}

std::int64_t vector_width(const Graph& g, const Node& n, const Ints& widths, std::size_t i) {
  if (widths[i] < 0 || widths[i] > (std::int64_t{1} << 31)) throw node_error(g, n, fmt::format("inputdimensions holds {}", widths[i]));
  return widths[i];
}
void infer_vectorizer(InferContext& c) {
  const Ints widths = ints(c.node, "inputdimensions");
  if (!widths.empty()) same_length(c.graph, c.node, "inputdimensions", length(widths), "the inputs", length(c.in));
  Dim n, total(0);
  for (std::size_t i = 0; i < c.in.size(); ++i) {
    const Dims& d = c.dims(i);
    if (d.size() != 1 && d.size() != 2) c.fail(fmt::format("input {} has rank {}", i, d.size()), "[rows, features] or [rows]");
    if (!n.known()) n = d[0];
    else if (d[0].known() && d[0].n != n.n) c.fail(fmt::format("inputs of {} and {} rows", n.n, d[0].n));
    const Dim w = !widths.empty() ? Dim(vector_width(c.graph, c.node, widths, i)) : d.size() == 2 ? d[1] : Dim(1);
    total = total.known() && w.known() ? Dim(total.n + w.n) : Dim();
  }
  c.out = {TensorType{DType::f32, Dims{n, total}}};
}
void vectorizer_eval(Args& e) {
  const Ints widths = ints(e.node, "inputdimensions");
  std::vector<std::int64_t> has, want;
  std::int64_t total = 0;
  const std::int64_t n = e.in[0]->shape[0];
  for (std::size_t i = 0; i < e.in.size(); ++i) {
    const Shape& s = e.in[i]->shape;
    if (s[0] != n) throw node_error(e.graph, e.node, fmt::format("inputs of {} and {} rows", n, s[0]));
    has.push_back(s.size() == 2 ? s[1] : 1), want.push_back(widths.empty() ? has.back() : vector_width(e.graph, e.node, widths, i)), total += want.back();
  }
  Array<double> y(Shape{n, total});
  std::int64_t at = 0;
  for (std::size_t i = 0; i < e.in.size(); at += want[i++])
    for (std::int64_t r = 0; r < n; ++r) std::copy_n(e.in[i]->v.begin() + r * has[i], std::min(has[i], want[i]), y.v.begin() + r * total + at);
  e.out[0] = std::move(y);
}
void sample_vectorizer(const OpDef& op, Sample& s) {
  const std::int64_t n = s.r.range(1, 3), inputs = s.r.range(1, 3);
  std::vector<ValueId> in;
  Ints widths;
  for (std::int64_t i = 0; i < inputs; ++i) widths.push_back(s.r.range(1, 4)), in.push_back(s.r.chance(0.3) ? s.input({n}) : s.input({n, s.r.range(1, 4)}));
  s.node(op, in, {{"inputdimensions", widths}});
}

// The pairs of a LabelEncoder, and the type of its result.
struct Dictionary {
  Reals keys, values;
  double fallback;
  DType type;
};
Dictionary dictionary(const Graph& g, const Node& n) {
  no_strings(g, n, {"keys_strings", "values_strings", "classes_strings"});
  const auto numbers = [&](const std::string& what, DType& type) {
    Reals v = reals(n, what + "_floats");
    type = DType::f32;
    if (v.empty())
      for (std::int64_t k : labels_of(g, n, what + "_int64s")) v.push_back(number(k)), type = DType::i64;
    if (const Attribute* a = find(n, what + "_tensor"); a && v.empty()) {
      const auto& t = std::get<Tensor>(*a);
      type = t.dtype();
      for (std::int64_t i = 0; i < t.size(); ++i) v.push_back(t.at(i));
    }
    if (v.empty()) throw node_error(g, n, fmt::format("it has no {}", what)).expected(fmt::format("{0}_int64s, {0}_floats or {0}_tensor", what));
    return v;
  };
  Dictionary d;
  DType key;
  d.keys = numbers("keys", key), d.values = numbers("values", d.type);
  same_length(g, n, "keys", length(d.keys), "values", length(d.values));
  d.fallback = is_float(d.type) ? n.attr_float("default_float", -0.0) : number(n.attr_int("default_int64", -1));
  if (const Attribute* a = find(n, "default_tensor")) {
    const auto& t = std::get<Tensor>(*a);
    if (t.size() != 1) throw node_error(g, n, fmt::format("default_tensor has {} elements", t.size())).expected("one");
    d.fallback = t.at(0);
  }
  return d;
}
void infer_label_encoder(InferContext& c) { c.out = {TensorType{dictionary(c.graph, c.node).type, c.in[0]->dims}}; }
void label_encoder_eval(Args& e) {
  const Dictionary d = dictionary(e.graph, e.node);
  std::map<double, double> to;
  double nan = d.fallback;
  for (std::size_t i = d.keys.size(); i-- > 0;) (std::isnan(d.keys[i]) ? nan : to[d.keys[i]]) = d.values[i];  // of equal keys the first
  e.out[0] = *e.in[0];
  for (double& x : e.out[0].v) {
    const auto at = std::isnan(x) ? to.end() : to.find(x);
    x = std::isnan(x) ? nan : at == to.end() ? d.fallback : at->second;
  }
}
void sample_label_encoder(const OpDef& op, Sample& s) {
  Attrs a{{"keys_int64s", Ints{1, 2, 0}}};
  if (s.r.chance(0.5)) a["values_floats"] = Reals{0.5, -2, 7};
  else a["values_int64s"] = Ints{5, -6, 70}, a["default_int64"] = std::int64_t{11};
  s.node(op, {s.input(s.shape(0, 3), 0, 4, DType::i64)}, a);
}

Ints categories(const Graph& g, const Node& n) {
  no_strings(g, n, {"cats_strings"});
  Ints c = labels_of(g, n, "cats_int64s");
  if (c.empty()) throw node_error(g, n, "attribute 'cats_int64s' is missing or empty").expected("the categories");
  return c;
}
void infer_one_hot_encoder(InferContext& c) {
  Dims y = c.dims(0);
  y.push_back(Dim(length(categories(c.graph, c.node))));
  c.out = {TensorType{DType::f32, y}};
}
void one_hot_encoder_eval(Args& e) {
  const Ints cats = categories(e.graph, e.node);
  std::map<double, std::int64_t> at;
  for (std::int64_t i = 0; i < length(cats); ++i) at[number(cats[static_cast<std::size_t>(i)])] = i;
  Shape s = e.in[0]->shape;
  s.push_back(length(cats));
  Array<double> y(s);
  for (std::size_t i = 0; i < e.in[0]->v.size(); ++i) {
    const auto k = at.find(e.in[0]->v[i]);
    if (k != at.end()) y.v[i * cats.size() + static_cast<std::size_t>(k->second)] = 1;
    else if (!e.node.attr_int("zeros", 1)) throw node_error(e.graph, e.node, fmt::format("{} is no category, and 'zeros' is 0", e.in[0]->v[i]));
  }
  e.out[0] = std::move(y);
}
void sample_one_hot_encoder(const OpDef& op, Sample& s) { s.node(op, {s.input(s.shape(0, 3), 0, 5, DType::i64)}, {{"cats_int64s", Ints{3, 1, 4}}, {"zeros", std::int64_t{1}}}); }

[[noreturn]] void refuse_map(const Graph& g, const Node& n) {
  throw node_error(g, n, "it makes maps, not tensors").expected("tensors").fix("end the model before it (scikit-learn: convert with the option zipmap=False); the scores are its input");
}
void infer_map(InferContext& c) { refuse_map(c.graph, c.node); }
void map_of_scores(Args& e) { refuse_map(e.graph, e.node); }

const std::vector<PortDef> kRows{{"X", "[rows, features] or [features]"}}, kAny{{"X", "any shape"}};
const std::vector<PortDef> kLabels{{"Y", "i64 [rows]: labels"}, {"Z", "f32 [rows, classes]: scores", true}};
const AttrDef kPost{"post_transform", AttrType::string, "NONE", "of the scores: NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO or PROBIT"}, kNoStrings{"classlabels_strings", AttrType::strings, "", "refused: labels are numbers"};
std::vector<AttrDef> tree_attributes(std::vector<AttrDef> more) {
  std::vector<AttrDef> a{{"nodes_treeids", AttrType::integers, "required", "the tree of each node"}, {"nodes_nodeids", AttrType::integers, "required", "its number in the tree"}, {"nodes_modes", AttrType::strings, "required", "BRANCH_LEQ, LT, GTE, GT, EQ, NEQ or LEAF"},
                         {"nodes_featureids", AttrType::integers, "required", "the feature a branch compares"}, {"nodes_values", AttrType::reals, "", "with this number"}, {"nodes_values_as_tensor", AttrType::tensor, "", "instead of nodes_values"},
                         {"nodes_truenodeids", AttrType::integers, "required", "the next node where that holds"}, {"nodes_falsenodeids", AttrType::integers, "required", "and where it does not"},
                         {"nodes_missing_value_tracks_true", AttrType::integers, "zeros", "1: NaN takes the true side"}, {"nodes_hitrates", AttrType::reals, "", "not read"}, {"nodes_hitrates_as_tensor", AttrType::tensor, "", "not read"},
                         {"base_values", AttrType::reals, "zeros", "where the sums begin"}, {"base_values_as_tensor", AttrType::tensor, "", "instead of base_values"}, kPost};
  a.insert(a.end(), more.begin(), more.end());
  return a;
}
std::vector<AttrDef> kernel_attributes(std::vector<AttrDef> more) {
  std::vector<AttrDef> a{{"kernel_type", AttrType::string, "LINEAR", "LINEAR: u v, POLY: (gamma u v + coef0)^degree, RBF: exp(-gamma |u - v|^2), SIGMOID: tanh(gamma u v + coef0)"}, {"kernel_params", AttrType::reals, "zeros", "gamma, coef0, degree"},
                         {"coefficients", AttrType::reals, "required", "weights of the vectors"}, {"support_vectors", AttrType::reals, "", "the vectors, one after the other"}, {"rho", AttrType::reals, "required", "added to the sums"}, kPost};
  a.insert(a.end(), more.begin(), more.end());
  return a;
}
const OpDef kOps[] = {
    OpDef{.domain = kMl, .name = "TreeEnsembleRegressor", .summary = "Numbers from decision trees.", .doc = "Y[t] = the sum (or mean, smallest, largest) of the weights for t of the leaf that each tree leads to, plus base_values; a tree begins at its first node that none leads to.",
          .source = "ONNX-ML TreeEnsembleRegressor-3", .inputs = kRows, .outputs = {{"Y", "f32 [rows, n_targets]"}},
          .attributes = tree_attributes({{"aggregate_function", AttrType::string, "SUM", "SUM, AVERAGE, MIN or MAX"}, {"n_targets", AttrType::integer, "1", "columns of the result"}, {"target_ids", AttrType::integers, "required", "the column of each weight"},
                                         {"target_nodeids", AttrType::integers, "required", "its leaf"}, {"target_treeids", AttrType::integers, "required", "its tree"}, {"target_weights", AttrType::reals, "", "the weights"}, {"target_weights_as_tensor", AttrType::tensor, "", "instead of target_weights"}}),
          .infer = infer_tree_regressor, .eval = {tree_regressor_eval, nullptr}, .sample = sample_tree_regressor},
    OpDef{.domain = kMl, .name = "TreeEnsembleClassifier", .summary = "A label and scores from decision trees.",
          .doc = "Scores are base_values plus the weights of the leaf that each tree leads to; of two classes with weights for one, s, they are [1 - s, s] (NONE, PROBIT) or [-s, s]. Y is the label of the first largest score.",
          .source = "ONNX-ML TreeEnsembleClassifier-3", .inputs = kRows, .outputs = kLabels,
          .attributes = tree_attributes({{"classlabels_int64s", AttrType::integers, "", "the labels"}, kNoStrings, {"class_ids", AttrType::integers, "required", "the class of each weight"}, {"class_nodeids", AttrType::integers, "required", "its leaf"},
                                         {"class_treeids", AttrType::integers, "required", "its tree"}, {"class_weights", AttrType::reals, "", "the weights"}, {"class_weights_as_tensor", AttrType::tensor, "", "instead of class_weights"}}),
          .infer = infer_tree_classifier, .eval = {tree_classifier_eval, nullptr}, .sample = sample_tree_classifier},
    OpDef{.domain = kMl, .name = "TreeEnsemble", .summary = "Numbers from decision trees, branches and leaves listed apart.",
          .doc = "Y[t] = the mean (0), sum (1), smallest (2) or largest (3) of the weights for t of the leaf that each tree leads to. Mode 6 of a branch: the feature is one of a set; the sets stand in membership_values, NaN between them.", .source = "ONNX-ML TreeEnsemble-5", .inputs = kRows,
          .outputs = {{"Y", "[rows, n_targets], type of X"}},
          .attributes = {{"aggregate_function", AttrType::integer, "1", "0: mean, 1: sum, 2: smallest, 3: largest"}, {"leaf_targetids", AttrType::integers, "required", "the column of each leaf"}, {"leaf_weights", AttrType::tensor, "required", "its weight"}, {"membership_values", AttrType::tensor, "", "sets, NaN between them"},
                         {"n_targets", AttrType::integer, "as leaf_targetids", "columns of the result"}, {"nodes_falseleafs", AttrType::integers, "required", "1: nodes_falsenodeids names a leaf"}, {"nodes_falsenodeids", AttrType::integers, "required", "where the condition does not hold"},
                         {"nodes_featureids", AttrType::integers, "required", "the feature a branch compares"}, {"nodes_hitrates", AttrType::tensor, "", "not read"}, {"nodes_missing_value_tracks_true", AttrType::integers, "zeros", "1: NaN takes the true side"},
                         {"nodes_modes", AttrType::tensor, "required", "0: <=, 1: <, 2: >=, 3: >, 4: ==, 5: !=, 6: one of a set"}, {"nodes_splits", AttrType::tensor, "required", "compared with"}, {"nodes_trueleafs", AttrType::integers, "required", "1: nodes_truenodeids names a leaf"},
                         {"nodes_truenodeids", AttrType::integers, "required", "where it holds"}, {"post_transform", AttrType::integer, "0", "0: NONE, 1: SOFTMAX, 2: LOGISTIC, 3: SOFTMAX_ZERO, 4: PROBIT"}, {"tree_roots", AttrType::integers, "required", "the first node of each tree"}},
          .infer = infer_ensemble, .eval = {ensemble_eval, nullptr}, .sample = sample_ensemble},
    OpDef{.domain = kMl, .name = "SVMClassifier", .summary = "A label and scores from support vectors.",
          .doc = "Of each pair i < j of classes: s = rho + sum of coefficients[j-1] k(x, vectors of i) + sum of coefficients[i] k(x, vectors of j); s > 0 is a vote for i. Y is the label of the first class with most votes; Z are the s, or with prob_a the coupled probabilities 1/(1 + exp(prob_a s + prob_b)). "
                 "Without vectors: one row of coefficients per class. As ONNX's reference implementation does it.",
          .source = "ONNX-ML SVMClassifier-1; Wu, Lin, Weng 2004", .inputs = kRows, .outputs = kLabels,
          .attributes = kernel_attributes({{"classlabels_ints", AttrType::integers, "", "the labels"}, kNoStrings, {"vectors_per_class", AttrType::integers, "", "how many of the vectors belong to each class"}, {"prob_a", AttrType::reals, "", "one per pair"}, {"prob_b", AttrType::reals, "", "one per pair"}}),
          .infer = infer_svm_classifier, .eval = {svm_classifier_eval, nullptr}, .sample = sample_svm_classifier},
    OpDef{.domain = kMl, .name = "SVMRegressor", .summary = "A number from support vectors.", .doc = "Y = rho + sum of coefficients * k(x, vectors); with one_class its sign, -1 at 0. Without vectors: rho + coefficients x.", .source = "ONNX-ML SVMRegressor-1", .inputs = kRows, .outputs = {{"Y", "f32 [rows, 1]"}},
          .attributes = kernel_attributes({{"n_supports", AttrType::integer, "0", "number of vectors"}, {"n_targets", AttrType::integer, "1", "only 1"}, {"one_class", AttrType::integer, "0", "1: the sign"}}),
          .infer = infer_svm_regressor, .eval = {svm_regressor_eval, nullptr}, .sample = sample_svm_regressor},
    OpDef{.domain = kMl, .name = "LinearClassifier", .summary = "A label and scores from a linear model.", .doc = "Z = X coefficients^T + intercepts, transformed; of one row s and two labels [-s, s]. Y is the label of the first largest score; of a single score the label where it is at least 0 (transformed: 0.5), else 0.",
          .source = "ONNX-ML LinearClassifier-1", .inputs = kRows, .outputs = kLabels,
          .attributes = {{"coefficients", AttrType::reals, "required", "[classes, features]"}, {"intercepts", AttrType::reals, "zeros", "one per class"}, {"classlabels_ints", AttrType::integers, "0, 1, ...", "the labels"}, kNoStrings, {"multi_class", AttrType::integer, "0", "not read"}, kPost},
          .infer = infer_linear_classifier, .eval = {linear_classifier_eval, nullptr}, .sample = sample_linear_classifier},
    OpDef{.domain = kMl, .name = "LinearRegressor", .summary = "Numbers from a linear model.", .doc = "Y = X coefficients^T + intercepts, transformed.", .source = "ONNX-ML LinearRegressor-1", .inputs = kRows, .outputs = {{"Y", "f32 [rows, targets]"}},
          .attributes = {{"coefficients", AttrType::reals, "required", "[targets, features]"}, {"intercepts", AttrType::reals, "zeros", "one per target"}, {"targets", AttrType::integer, "1", "columns of the result"}, kPost},
          .infer = infer_linear_regressor, .eval = {linear_regressor_eval, nullptr}, .sample = sample_linear_regressor},
    OpDef{.domain = kMl, .name = "Scaler", .summary = "Shifts and scales features.", .doc = "Y = (X - offset) * scale.", .source = "ONNX-ML Scaler-1", .inputs = {{"X", "[..., features]"}}, .outputs = {{"Y", "f32, shape of X"}},
          .attributes = {{"offset", AttrType::reals, "0", "one, or one per feature"}, {"scale", AttrType::reals, "1", "one, or one per feature"}}, .infer = infer_scaler, .eval = {scaler_eval, nullptr}, .sample = sample_scaler},
    OpDef{.domain = kMl, .name = "Normalizer", .summary = "Divides each row by its norm.", .doc = "MAX: the largest magnitude, L1: the sum of magnitudes, L2: the root of the sum of squares; a row of norm 0 stays.", .source = "ONNX-ML Normalizer-1", .inputs = kRows, .outputs = {{"Y", "f32, shape of X"}},
          .attributes = {{"norm", AttrType::string, "MAX", "MAX, L1 or L2"}}, .infer = infer_normalizer, .eval = {normalizer_eval, nullptr}, .sample = sample_normalizer},
    OpDef{.domain = kMl, .name = "Binarizer", .summary = "1 above a threshold, 0 elsewhere.", .doc = "Y = X > threshold.", .source = "ONNX-ML Binarizer-1", .inputs = kAny, .outputs = {{"Y", "type and shape of X"}}, .attributes = {{"threshold", AttrType::real, "0", "compared with"}},
          .infer = infer_first, .eval = {binarizer_eval, nullptr}, .sample = sample_binarizer},
    OpDef{.domain = kMl, .name = "ArrayFeatureExtractor", .summary = "Chooses features.", .doc = "Y[..., j] = X[..., Y_j]; one axis becomes [1, chosen].", .source = "ONNX-ML ArrayFeatureExtractor-1", .inputs = {{"X", "[..., features]"}, {"Y", "i64: indices, from the end where negative"}}, .outputs = {{"Z", "[..., chosen]"}},
          .infer = infer_extractor, .eval = {extractor_eval, nullptr}, .sample = sample_extractor},
    OpDef{.domain = kMl, .name = "Imputer", .summary = "Replaces one value.", .doc = "Y = the imputed value where X is the replaced one (NaN: where X is NaN), else X.", .source = "ONNX-ML Imputer-1", .inputs = kRows, .outputs = {{"Y", "type and shape of X"}},
          .attributes = {{"imputed_value_floats", AttrType::reals, "", "one, or one per feature"}, {"imputed_value_int64s", AttrType::integers, "", "the same for integers"}, {"replaced_value_float", AttrType::real, "0", "what is replaced"}, {"replaced_value_int64", AttrType::integer, "0", "the same for integers"}},
          .infer = infer_imputer, .eval = {imputer_eval, nullptr}, .sample = sample_imputer},
    OpDef{.domain = kMl, .name = "FeatureVectorizer", .summary = "Joins features.", .doc = "The rows of the inputs one behind the other, each cut or filled with 0 to its width.", .source = "ONNX-ML FeatureVectorizer-1", .inputs = {{"X", "[rows, features] or [rows]", false, true}}, .outputs = {{"Y", "f32 [rows, sum of widths]"}},
          .attributes = {{"inputdimensions", AttrType::integers, "the inputs' own", "the width of each input"}}, .infer = infer_vectorizer, .eval = {vectorizer_eval, nullptr}, .sample = sample_vectorizer},
    OpDef{.domain = kMl, .name = "LabelEncoder", .summary = "Maps numbers to numbers.", .doc = "Y = the value of the first key that equals X, else the default; NaN is a key like another.", .source = "ONNX-ML LabelEncoder-4", .inputs = kAny, .outputs = {{"Y", "shape of X, type of the values"}},
          .attributes = {{"keys_int64s", AttrType::integers, "", "keys"}, {"keys_floats", AttrType::reals, "", "or these"}, {"keys_tensor", AttrType::tensor, "", "or these"}, {"keys_strings", AttrType::strings, "", "refused"}, {"values_int64s", AttrType::integers, "", "values"},
                         {"values_floats", AttrType::reals, "", "or these"}, {"values_tensor", AttrType::tensor, "", "or these"}, {"values_strings", AttrType::strings, "", "refused"}, {"classes_strings", AttrType::strings, "", "refused"}, {"default_int64", AttrType::integer, "-1", "of integers"},
                         {"default_float", AttrType::real, "-0", "of floats"}, {"default_tensor", AttrType::tensor, "", "of a values_tensor"}, {"default_string", AttrType::string, "", "not read"}},
          .infer = infer_label_encoder, .eval = {label_encoder_eval, nullptr}, .sample = sample_label_encoder},
    OpDef{.domain = kMl, .name = "OneHotEncoder", .summary = "1 at the place of a category.", .doc = "Y[..., k] = X == cats[k]; a number that is no category gives zeros, or an error where `zeros` is 0.", .source = "ONNX-ML OneHotEncoder-1", .inputs = kAny, .outputs = {{"Y", "f32 [..., categories]"}},
          .attributes = {{"cats_int64s", AttrType::integers, "", "the categories"}, {"cats_strings", AttrType::strings, "", "refused"}, {"zeros", AttrType::integer, "1", "whether others are allowed"}}, .infer = infer_one_hot_encoder, .eval = {one_hot_encoder_eval, nullptr}, .sample = sample_one_hot_encoder},
    OpDef{.domain = kMl, .name = "ZipMap", .summary = "Refused: a map from labels to scores.", .doc = "Its result is no tensor: end the model before it.", .source = "ONNX-ML ZipMap-1", .inputs = {{"X", "scores"}}, .outputs = {{"Z", "maps"}},
          .attributes = {{"classlabels_int64s", AttrType::integers, "", "the keys"}, {"classlabels_strings", AttrType::strings, "", "or these"}}, .infer = infer_map, .eval = {map_of_scores, nullptr}},
};

}  // namespace

std::span<const OpDef> ml_ops() { return kOps; }

}  // namespace tandem::ir
