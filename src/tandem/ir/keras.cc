#include "tandem/ir/keras.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>

#include "tandem/base/file.h"
#include "tandem/base/nearest.h"
#include "tandem/ir/channels_last.h"
#include "tandem/ir/op.h"
#include "tandem/tensor/npy.h"
#include "tandem/tool/work.h"

namespace tandem::ir {
namespace {

namespace fs = std::filesystem;
using Id = ChannelsLast::Id;
using Ints = std::vector<std::int64_t>;
using Attrs = ChannelsLast::Attrs;

constexpr std::string_view kQonnx = "qonnx.custom_op.general";
constexpr std::int64_t kMaxExtent = std::int64_t{1} << 31;
constexpr std::size_t kMaxLayers = 20000;

struct Ref {
  std::string layer;
  std::int64_t call = 0, output = 0;
  auto operator<=>(const Ref&) const = default;
};
struct Layer {
  std::string kind, name;
  Config config;
  std::vector<std::vector<Ref>> calls;
};

// ---- quantisers of QKeras -----------------------------------------------------------------------
struct Quantiser {
  std::string kind;
  std::map<std::string, double> numbers;
  std::map<std::string, std::string> texts;  // alpha = "auto"
  std::string text;                          // for errors
  bool written = false;                      // "quantized_tanh(4)": what is left out, the version of QKeras decides
  double number(const std::string& k, double fallback) const {
    const auto f = numbers.find(k);
    return f == numbers.end() ? fallback : f->second;
  }
};
// The order of positional arguments in "quantized_bits(6,0,1)".
const std::map<std::string, std::vector<std::string>, std::less<>>& signatures() {
  static const std::map<std::string, std::vector<std::string>, std::less<>> s{
      {"quantized_bits", {"bits", "integer", "symmetric", "keep_negative", "alpha", "use_stochastic_rounding"}},
      {"quantized_relu", {"bits", "integer", "use_sigmoid", "negative_slope", "use_stochastic_rounding", "relu_upper_bound"}},
      {"quantized_tanh", {"bits"}},  // the others moved between versions
      {"quantized_sigmoid", {"bits"}},
      {"quantized_po2", {"bits", "max_value", "use_stochastic_rounding", "quadratic_approximation"}},
      {"quantized_relu_po2", {"bits", "max_value", "negative_slope"}},
      {"quantized_ulaw", {"bits", "integer", "symmetric", "u"}},
      {"binary", {"use_01", "alpha", "use_stochastic_rounding"}},
      {"stochastic_binary", {"alpha", "temperature", "use_real_sigmoid"}},
      {"ternary", {"alpha", "threshold", "use_stochastic_rounding", "number_of_unrolls"}},
      {"stochastic_ternary", {"alpha", "threshold", "temperature", "use_real_sigmoid", "number_of_unrolls"}},
      {"bernoulli", {"alpha", "temperature", "use_real_sigmoid"}},
  };
  return s;
}
void set_argument(Quantiser& q, const std::string& key, std::string value, bool quoted) {
  if (quoted) q.texts[key] = value;
  else if (value == "True" || value == "true") q.numbers[key] = 1;
  else if (value == "False" || value == "false") q.numbers[key] = 0;
  else if (value == "None" || value.empty()) return;
  else if (const auto n = parse_double(value)) q.numbers[key] = *n;
  else q.texts[key] = value;
}
std::string trimmed(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return std::string(s);
}
// nullopt: no quantiser but an activation by name.
std::optional<Quantiser> parse_quantiser(const Config& c) {
  Quantiser q;
  if (c.is_map()) {
    q.kind = c.required<std::string>("class_name");
    q.text = q.kind;
    if (!signatures().contains(q.kind)) return std::nullopt;
    if (const auto args = c.find("config"))
      for (const auto& [k, v] : args->entries()) {
        if (v.is_scalar()) set_argument(q, k, v.as<std::string>(), false);
        else if (!v.is_null()) q.texts[k] = "a structure";
      }
    return q;
  }
  const std::string s = c.as<std::string>();
  const auto open = s.find('(');
  q.kind = trimmed(std::string_view(s).substr(0, open));
  q.text = s;
  q.written = true;
  const auto f = signatures().find(q.kind);
  if (f == signatures().end()) return std::nullopt;
  if (open == std::string::npos) return q;
  if (s.back() != ')') throw c.error(fmt::format("'{}' is no quantiser", printable(s))).expected("NAME(arguments)");
  std::string_view rest = std::string_view(s).substr(open + 1, s.size() - open - 2);
  for (std::size_t i = 0; !trimmed(rest).empty(); ++i) {
    const auto comma = rest.find(',');
    std::string word = trimmed(rest.substr(0, comma)), key;
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
    if (const auto eq = word.find('='); eq != std::string::npos) {
      key = trimmed(std::string_view(word).substr(0, eq));
      word = trimmed(std::string_view(word).substr(eq + 1));
    } else {
      if (i >= f->second.size()) throw c.error(fmt::format("'{}' has too many arguments", printable(s)));
      key = f->second[i];
    }
    const bool quoted = word.size() >= 2 && (word.front() == '\'' || word.front() == '"') && word.back() == word.front();
    set_argument(q, key, quoted ? word.substr(1, word.size() - 2) : word, quoted);
  }
  return q;
}

// ---- the reader ---------------------------------------------------------------------------------
class Reader {
 public:
  Reader(const tool::Hdf5File& weights, std::string where, const Limits& limits) : w_(weights), where_(std::move(where)), limits_(limits), b_(g_) {
    for (const std::string& group : w_.groups)
      if (group == "/model_weights") root_ = group;
    for (const auto& [path, attributes] : w_.attributes)
      if (path.ends_with("/vars") && attributes.contains("name")) third_ = true;
    if (third_) keras_ = 3;
  }
  Graph read(const Config& model);

 private:
  using Outputs = std::vector<Id>;
  [[noreturn]] void fail(const Layer& l, std::string what, std::string fix = "") const { throw error(l, std::move(what), std::move(fix)); }
  Error error(const Layer& l, std::string what, std::string fix = "") const {
    Error e(Exit::bad_input, std::move(what));
    e.at(fmt::format("{}: layer '{}' ({})", where_, printable(l.name), printable(l.kind)));
    if (!fix.empty()) e.fix(std::move(fix));
    return e;
  }
  std::string checked(const Config& c, std::string_view what) const {
    std::string s = c.as<std::string>();
    if (s.empty() || s.size() > limits_.name_bytes) throw c.error(fmt::format("a {} of {} bytes", what, s.size())).expected(fmt::format("1 to {}", limits_.name_bytes));
    if (printable(s) != s) throw c.error(fmt::format("the {} '{}' has control characters or invalid UTF-8", what, printable(s)));
    return s;
  }

  std::vector<Layer> layers_of(const Config& model, bool sequential);
  std::vector<Ref> refs(const Config& c) const;
  void collect_history(const Config& c, std::vector<Ref>& out, int depth) const;
  Outputs run_model(const Config& model, std::optional<Outputs> inputs, const std::string& group, int depth);
  Outputs layer(const Layer& l, const Outputs& x, const std::string& name, const std::string& group, int depth);

  // Numbers of a layer's configuration.
  std::int64_t integer(const Layer& l, const char* key, std::int64_t lo, std::optional<std::int64_t> fallback = {}) const { return l.config.integer(key, lo, kMaxExtent, fallback); }
  Ints ints(const Layer& l, const char* key, std::size_t n, std::int64_t fallback, std::int64_t lo = 1) const;
  std::string text(const Layer& l, const char* key, const char* fallback) const { return l.config.optional_or<std::string>(key, fallback); }
  bool flag(const Layer& l, const char* key, bool fallback) const;
  void channels_last(const Layer& l) const {
    if (text(l, "data_format", "channels_last") == "channels_first") fail(l, "its data are channels first", "save the model with data_format 'channels_last'");
  }

  Tensor weight(const Layer& l, const std::string& group, const std::string& role, const Shape& want);
  bool has_weight(const Layer& l, const std::string& group, const std::string& role) { return !weight_paths(l, group, role).empty(); }
  std::vector<std::string> weight_paths(const Layer& l, const std::string& group, const std::string& role);
  const std::vector<std::string>& weight_names(const std::string& group);

  // Activations and quantisers.
  Id activate(const Layer& l, Id x, const char* key, const std::string& name, const char* fallback = "linear");
  Id activation(const Layer& l, Id x, const Config& c, const std::string& name);
  Id named_activation(const Layer& l, Id x, std::string_view f, const std::string& name, bool qkeras);
  Id quantised(const Layer& l, Id x, const Quantiser& q, const std::string& name);
  ValueId quantised_constant(const Layer& l, Tensor t, const std::optional<Quantiser>& q, const std::string& name);
  std::optional<Quantiser> quantiser(const Layer& l, const char* key) const;
  double alpha_of(const Layer& l, const Quantiser& q) const;
  void refuse_odd(const Layer& l, const Quantiser& q, std::initializer_list<const char*> known) const;
  ValueId quant(ValueId v, double scale, int bits, bool is_signed, bool narrow, const std::string& name) {
    return b_.node("Quant", {v, b_.scalar(name + "/scale", static_cast<float>(scale)), b_.scalar(name + "/zero", 0), b_.scalar(name + "/bits", static_cast<float>(bits))},
                   {{"signed", std::int64_t{is_signed}}, {"narrow", std::int64_t{narrow}}, {"rounding_mode", std::string("ROUND")}}, name, std::string(kQonnx));
  }
  Id with(Id x, ValueId v) { return b_.like(x, v); }
  Id scaled(Id x, double k, double c, const std::string& name) {
    ValueId v = b_.held(x, name);
    if (k != 1) v = b_.node("Mul", {v, b_.scalar(name + "/factor", static_cast<float>(k))}, {}, name + "/scale");
    if (c != 0) v = b_.node("Add", {v, b_.scalar(name + "/offset", static_cast<float>(c))}, {}, name + "/shift");
    return with(x, v);
  }
  Id clipped(Id x, std::optional<double> lo, std::optional<double> hi, const std::string& name) {
    return b_.unary("Clip", x, {}, name, {lo ? b_.scalar(name + "/min", static_cast<float>(*lo)) : kNone, hi ? b_.scalar(name + "/max", static_cast<float>(*hi)) : kNone});
  }

  // Families of layers.
  Id dense(const Layer& l, Id x, const std::string& name, const std::string& group);
  Id matrix(const Layer& l, Id x, const Tensor& kernel, const std::optional<Tensor>& bias, const std::optional<Quantiser>& kq, const std::optional<Quantiser>& bq, const std::string& name);
  Id convolution(const Layer& l, Id x, const std::string& name, const std::string& group, std::size_t axes);
  Id transposed(const Layer& l, Id x, const std::string& name, const std::string& group, std::size_t axes);
  Id biased(const Layer& l, ValueId y, const Tensor& bias, const std::optional<Quantiser>& q, std::size_t axes, const std::string& name);
  void pad(const Layer& l, Attrs& a, const Dims& in, const Ints& kernel, const Ints& stride, const Ints& dilation) const;
  Id pool(const Layer& l, Id x, const std::string& name, std::size_t axes, bool max);
  Id batch_norm(const Layer& l, Id x, const std::string& name, const std::string& group);
  Id recurrent(const Layer& l, Id x, const std::string& name, const std::string& group);
  Id garnet(const Layer& l, const Outputs& x, const std::string& name, const std::string& group);
  Id padded(Id x, const std::vector<Ints>& by, const std::string& name);
  Id cropped(const Layer& l, Id x, const std::vector<Ints>& by, const std::string& name);
  Id upsampled(const Layer& l, Id x, const Ints& by, const std::string& mode, const std::string& name);

  const tool::Hdf5File& w_;
  std::string where_, root_;
  bool third_ = false;  // weights as Keras 3 stores them: numbered, below a group that holds the layer's name
  const Limits& limits_;
  Graph g_;
  ChannelsLast b_;
  int keras_ = 2;
  std::size_t layers_ = 0;
  std::map<std::string, std::vector<std::string>> names_;
};

// ---- configuration ------------------------------------------------------------------------------
bool Reader::flag(const Layer& l, const char* key, bool fallback) const {
  const auto c = l.config.find(key);
  if (!c) return fallback;
  const std::string s = c->as<std::string>();
  return s == "true" || s == "True" || s == "1" || s == "1.0";
}
Ints Reader::ints(const Layer& l, const char* key, std::size_t n, std::int64_t fallback, std::int64_t lo) const {
  const auto c = l.config.find(key);
  Ints v(n, fallback);
  if (!c) {
    if (fallback < 0) fail(l, fmt::format("'{}' is missing", key));
    return v;
  }
  if (c->is_scalar()) v.assign(n, c->as<std::int64_t>());
  else v = c->list<std::int64_t>();
  if (v.size() != n) fail(l, fmt::format("'{}' has {} numbers", key, v.size()), "");
  for (std::int64_t i : v)
    if (i < lo || i > kMaxExtent) fail(l, fmt::format("'{}' holds {}", key, i));
  return v;
}

void Reader::collect_history(const Config& c, std::vector<Ref>& out, int depth) const {
  if (depth > 32) throw c.error("nested too deep");
  if (c.is_map()) {
    if (const auto h = c.find("keras_history")) {
      const auto items = h->items();
      if (items.size() != 3) throw h->error("a reference has three parts");
      out.push_back({items[0].as<std::string>(), items[1].as<std::int64_t>(), items[2].as<std::int64_t>()});
      return;
    }
    for (const auto& [k, v] : c.entries()) collect_history(v, out, depth + 1);
  } else if (c.is_list()) {
    for (const Config& v : c.items()) collect_history(v, out, depth + 1);
  }
}
// ["name", 0, 0] or a list of those.
std::vector<Ref> Reader::refs(const Config& c) const {
  std::vector<Ref> r;
  if (c.is_map()) {
    collect_history(c, r, 0);
    return r;
  }
  const auto items = c.items();
  if (!items.empty() && items[0].is_scalar()) {
    if (items.size() < 3) throw c.error("a reference has three parts").expected("[layer, call, output]");
    if (items.size() > 3 && items[3].is_map() && items[3].size() > 0)
      throw c.error("a call with arguments by name").expected("layers called on tensors only");
    r.push_back({items[0].as<std::string>(), items[1].as<std::int64_t>(), items[2].as<std::int64_t>()});
    return r;
  }
  for (const Config& i : items)
    for (Ref& x : refs(i)) r.push_back(std::move(x));
  return r;
}
std::vector<Layer> Reader::layers_of(const Config& model, bool sequential) {
  const Config config = model.at("config");
  const std::vector<Config> items = config.is_list() ? config.items() : config.at("layers").items();
  layers_ += items.size();
  if (layers_ > kMaxLayers) throw Error(Exit::limit, fmt::format("the model has more than {} layers", kMaxLayers)).at(where_);
  std::vector<Layer> layers;
  std::set<std::string> seen;
  for (const Config& c : items) {
    Layer l{checked(c.at("class_name"), "layer kind"), "", c.at("config"), {}};
    const auto own = l.config.is_map() ? l.config.find("name") : std::nullopt;
    l.name = own ? checked(*own, "layer name") : c.find("name") ? checked(c.at("name"), "layer name") : fmt::format("layer_{}", layers.size());
    if (!seen.insert(l.name).second) throw c.error(fmt::format("two layers are called '{}'", l.name)).fix("give every layer its own name and save the model again");
    if (!sequential)
      if (const auto in = c.find("inbound_nodes"))
        for (const Config& call : in->items()) l.calls.push_back(refs(call));
    layers.push_back(std::move(l));
  }
  if (layers.empty()) throw config.error("a model needs at least one layer");
  return layers;
}

// ---- weights ------------------------------------------------------------------------------------
const std::vector<std::string>& Reader::weight_names(const std::string& group) {
  const auto [it, fresh] = names_.emplace(group, std::vector<std::string>{});
  if (!fresh) return it->second;
  const std::string path = root_ + "/" + group;
  if (const auto* a = w_.attribute(path, "weight_names"); a && a->is_text) it->second = a->text;
  for (int i = 0; it->second.empty() || i > 0; ++i) {  // long lists are cut into several attributes
    const auto* a = w_.attribute(path, fmt::format("weight_names{}", i));
    if (!a || !a->is_text) break;
    it->second.insert(it->second.end(), a->text.begin(), a->text.end());
  }
  if (it->second.empty())
    for (auto d = w_.datasets.lower_bound(path + "/"); d != w_.datasets.end() && d->first.starts_with(path + "/"); ++d) it->second.push_back(d->first.substr(path.size() + 1));
  return it->second;
}
// The names of a layer's variables in the order in which Keras 3 numbers them.
std::vector<std::string> variables_of(const Layer& l) {
  const std::string_view k = l.kind.size() > 1 && l.kind[0] == 'Q' && std::isupper(static_cast<unsigned char>(l.kind[1])) ? std::string_view(l.kind).substr(1) : std::string_view(l.kind);
  const auto on = [&](const char* key) {
    const auto c = l.config.find(key);
    return !c || (c->as<std::string>() != "false" && c->as<std::string>() != "False" && c->as<std::string>() != "0");
  };
  if (k == "BatchNormalization" || k == "LayerNormalization") {
    std::vector<std::string> r;
    if (on("scale")) r.push_back("gamma");
    if (on("center")) r.push_back("beta");
    if (k == "BatchNormalization") r.push_back("moving_mean"), r.push_back("moving_variance");
    return r;
  }
  if (k == "PReLU") return {"alpha"};
  if (k == "Embedding") return {"embeddings"};
  if (k == "LSTM" || k == "GRU" || k == "SimpleRNN") return {"kernel", "recurrent_kernel", "bias"};
  if (k.starts_with("Separable")) return {"depthwise_kernel", "pointwise_kernel", "bias"};
  return {k.starts_with("Depthwise") ? "depthwise_kernel" : "kernel", "bias"};
}
std::vector<std::string> Reader::weight_paths(const Layer& l, const std::string& group, const std::string& role) {
  std::vector<std::string> found;
  if (third_) {
    const std::vector<std::string> all = variables_of(l);
    const auto at = std::find(all.begin(), all.end(), role == "kernel" && all[0] == "depthwise_kernel" && all.size() == 2 ? all[0] : role);
    for (const auto& [path, attributes] : w_.attributes) {
      const auto name = attributes.find("name");
      if (at == all.end() || !path.ends_with("/vars") || name == attributes.end() || !name->second.is_text || name->second.text.size() != 1 || name->second.text[0] != l.name) continue;
      const std::string base = path.substr(0, path.size() - 4);
      for (const char* inner : {"", "cell/", "layer/"})  // of recurrent layers, and of those in a wrapper
        if (const std::string p = fmt::format("{}{}vars/{}", base, inner, at - all.begin()); w_.dataset(p)) found.push_back(p);
    }
    return found;
  }
  for (const std::string& n : weight_names(group)) {
    std::string_view s = n;
    if (const auto colon = s.rfind(':'); colon != s.npos) s = s.substr(0, colon);
    const auto slash = s.rfind('/');
    if ((slash == s.npos ? s : s.substr(slash + 1)) != role) continue;
    if (group != l.name) {  // below a nested model: by the name of the layer
      const std::string_view above = slash == s.npos ? std::string_view{} : s.substr(0, slash);
      if (above != l.name && !above.ends_with("/" + l.name)) continue;
    }
    found.push_back(root_ + "/" + group + "/" + n);
  }
  return found;
}
Tensor Reader::weight(const Layer& l, const std::string& group, const std::string& role, const Shape& want) {
  const auto paths = weight_paths(l, group, role);
  if (paths.size() != 1)
    throw error(l, paths.empty() ? fmt::format("its weights '{}' are missing", role) : fmt::format("the weights file has {} arrays for '{}'", paths.size(), role))
        .expected(fmt::format("one array '{}' of shape {} below '{}/{}'", role, to_string(want), root_, printable(group)))
        .fix("give the weights that belong to this model (--weights FILE.h5)");
  const auto* a = w_.dataset(paths[0]);
  if (!a || a->is_text) fail(l, fmt::format("its weights '{}' are not in the file as numbers", role));
  bool ok = a->shape.size() == want.size();
  for (std::size_t i = 0; ok && i < want.size(); ++i) ok = want[i] < 0 || want[i] == a->shape[i];
  if (!ok) throw error(l, fmt::format("its weights '{}' have shape {}", role, to_string(a->shape))).expected(to_string(want)).fix("give the weights that belong to this model");
  const Tensor t = a->numbers.cast(DType::f32);
  for (std::int64_t i = 0; i < t.size(); ++i)
    if (!std::isfinite(t.data<float>()[i])) fail(l, fmt::format("its weights '{}' hold a number that is not finite, at element {}", role, i));
  return t;
}

// ---- quantisers ---------------------------------------------------------------------------------
std::optional<Quantiser> Reader::quantiser(const Layer& l, const char* key) const {
  const auto c = l.config.find(key);
  if (!c) return std::nullopt;
  auto q = parse_quantiser(*c);
  if (!q) fail(l, fmt::format("'{}' is {}, which is no quantiser known here", key, c->is_map() ? printable(c->required<std::string>("class_name")) : printable(c->as<std::string>())));
  return q;
}
double Reader::alpha_of(const Layer& l, const Quantiser& q) const {
  if (const auto f = q.texts.find("alpha"); f != q.texts.end())
    fail(l, fmt::format("{} with alpha '{}'", q.kind, printable(f->second)),
         "its scale is computed from the data, differently in each version of QKeras: train or save the model with alpha=1 (or a number)");
  const double a = q.number("alpha", 1);
  if (!(a > 0) || !std::isfinite(a)) fail(l, fmt::format("{} with alpha {}", q.kind, a), "alpha must be positive");
  return a;
}
void Reader::refuse_odd(const Layer& l, const Quantiser& q, std::initializer_list<const char*> known) const {
  if (q.number("qnoise_factor", 1) != 1) fail(l, fmt::format("{} with qnoise_factor {}", q.kind, q.number("qnoise_factor", 1)), "its output is only partly quantised: save the model with qnoise_factor=1");
  const auto check = [&](const std::string& k) {
    for (const char* s : {"qnoise_factor", "use_stochastic_rounding", "var_name", "use_ste", "use_variables", "number_of_unrolls", "temperature", "name", "dtype"})
      if (k == s) return;  // of training only
    for (const char* s : known)
      if (k == s) return;
    fail(l, fmt::format("{} with '{}'", q.kind, printable(k)), "this argument has no exact form here");
  };
  for (const auto& [k, v] : q.numbers) check(k);
  for (const auto& [k, v] : q.texts) check(k);
}
int bits_of(const Quantiser& q, double fallback) {
  const double b = q.number("bits", fallback);
  return b == std::floor(b) && b >= 1 && b <= 32 ? static_cast<int>(b) : 0;
}
int integer_of(const Quantiser& q) {
  const double b = q.number("integer", 0);
  return b == std::floor(b) && std::abs(b) <= 64 ? static_cast<int>(b) : 1000;
}
bool is_binary(const Quantiser& q) { return q.kind == "binary" || q.kind == "stochastic_binary"; }
bool is_ternary(const Quantiser& q) { return q.kind == "ternary" || q.kind == "stochastic_ternary"; }

Id Reader::quantised(const Layer& l, Id x, const Quantiser& q, const std::string& name) {
  const int bits = bits_of(q, 8), integer = integer_of(q);
  if (bits == 0 || integer == 1000) fail(l, fmt::format("'{}' has no format of 1 to 32 bits", printable(q.text)));
  if (q.kind == "quantized_bits") {
    refuse_odd(l, q, {"bits", "integer", "symmetric", "keep_negative", "alpha", "scale_axis"});
    const double alpha = alpha_of(l, q);
    const bool negative = q.number("keep_negative", 1) != 0, symmetric = q.number("symmetric", 0) != 0;
    if (negative && bits == 1)
      return with(x, b_.node("BipolarQuant", {b_.held(x, name), b_.scalar(name + "/scale", static_cast<float>(alpha))}, {}, name, std::string(kQonnx)));
    const ValueId v = quant(b_.held(x, name), std::ldexp(1.0, integer - (bits - negative)), bits, negative, negative && symmetric, name);
    return scaled(with(x, v), alpha, 0, name + "/alpha");
  }
  if (q.kind == "quantized_relu") {
    refuse_odd(l, q, {"bits", "integer", "use_sigmoid", "negative_slope", "relu_upper_bound", "is_quantized_clip"});
    if (q.written && q.number("negative_slope", 0) == 1) fail(l, fmt::format("'{}'", printable(q.text)), "its fourth argument is a slope or stochastic rounding, by the version of QKeras: save the quantiser with its configuration");
    if (q.number("use_sigmoid", 0) != 0) fail(l, "quantized_relu with use_sigmoid", "which sigmoid is a global switch of QKeras that the file does not hold");
    const double slope = q.number("negative_slope", 0), upper = q.number("relu_upper_bound", INFINITY);
    const int magnitude = bits - (slope != 0);
    const double step = std::ldexp(1.0, integer - magnitude), most = std::ldexp(1.0, integer) - step;
    if (upper < most) fail(l, fmt::format("quantized_relu with relu_upper_bound {} below its largest code {}", upper, most), "what it does differs between versions of QKeras");
    if (magnitude < 1) fail(l, "quantized_relu with no bits for the magnitude");
    const Id positive = with(x, quant(b_.held(x, name), step, magnitude, false, false, name));
    if (slope == 0) return positive;
    int exponent = 0;
    if (std::frexp(slope, &exponent) != 0.5 || exponent - 1 + magnitude < 0 || slope > 1) fail(l, fmt::format("quantized_relu with negative_slope {}", slope), "a power of two of at least one step");
    // Codes of the other side: -slope * 2^magnitude to 0.
    Id below = scaled(x, slope, 0, name + "/slope");
    below = with(x, quant(b_.held(below, name), step, exponent - 1 + magnitude + 1, true, false, name + "/below"));
    below = clipped(below, std::nullopt, 0.0, name + "/negative");
    return b_.join("Add", {positive, below}, {}, name + "/sum");
  }
  if (q.kind == "quantized_tanh") {
    refuse_odd(l, q, {"bits", "symmetric", "use_real_tanh"});
    if (bits < 2) fail(l, fmt::format("'{}'", printable(q.text)), "two bits or more");
    if (q.written && !q.numbers.contains("symmetric")) fail(l, fmt::format("'{}'", printable(q.text)), "whether it is symmetric depends on the version of QKeras: write symmetric=True or False");
    const Id t = q.number("use_real_tanh", 0) != 0 ? b_.unary("Tanh", x, {}, name + "/tanh") : clipped(x, -1.0, 1.0, name + "/hard");
    return with(x, quant(b_.held(t, name), std::ldexp(1.0, 1 - bits), bits, true, q.number("symmetric", 1) != 0, name));
  }
  if (q.kind == "quantized_sigmoid") {
    refuse_odd(l, q, {"bits", "symmetric", "use_real_sigmoid"});
    if (q.written && !q.numbers.contains("symmetric")) fail(l, fmt::format("'{}'", printable(q.text)), "whether it is symmetric depends on the version of QKeras: write symmetric=True or False");
    const Id s = q.number("use_real_sigmoid", 0) != 0 ? b_.unary("Sigmoid", x, {}, name + "/sigmoid") : clipped(scaled(x, 0.5, 0.5, name + "/hard"), 0.0, 1.0, name + "/hard/clip");
    const Id y = with(x, quant(b_.held(s, name), std::ldexp(1.0, -bits), bits, false, false, name));
    return q.number("symmetric", 1) != 0 ? clipped(y, std::ldexp(1.0, -bits), std::nullopt, name + "/least") : y;
  }
  if (is_binary(q)) {
    refuse_odd(l, q, {"use_01", "alpha", "use_real_sigmoid"});
    const double alpha = alpha_of(l, q);
    const bool zero_one = q.number("use_01", 0) != 0;
    const Id y = with(x, b_.node("BipolarQuant", {b_.held(x, name), b_.scalar(name + "/scale", zero_one ? 1.f : static_cast<float>(alpha))}, {}, name, std::string(kQonnx)));
    return zero_one ? scaled(y, alpha / 2, alpha / 2, name + "/zero_one") : y;
  }
  if (is_ternary(q)) {
    refuse_odd(l, q, {"alpha", "threshold", "use_real_sigmoid"});
    const double alpha = alpha_of(l, q), t = static_cast<float>(q.number("threshold", 0.33));
    if (!(t > 0)) fail(l, fmt::format("{} with threshold {}", q.kind, t), "the threshold must be positive");
    // x >= t and x <= -t, each as a sign; half their difference is -1, 0 or 1.
    const auto side = [&](double k, const std::string& n) {
      return with(x, b_.node("BipolarQuant", {b_.held(scaled(x, k, -t, n), n), b_.scalar(n + "/scale", static_cast<float>(alpha / 2))}, {}, n, std::string(kQonnx)));
    };
    return b_.join("Sub", {side(1, name + "/above"), side(-1, name + "/below")}, {}, name);
  }
  fail(l, fmt::format("{} as an activation", q.kind),
       q.kind.find("po2") != std::string::npos ? "powers of two are not a uniform format: use quantized_bits or quantized_relu" : "it has no exact form here");
}

// Weights: the constant keeps its floats where the quantiser rounds them itself, else it holds what QKeras would multiply by.
ValueId Reader::quantised_constant(const Layer& l, Tensor t, const std::optional<Quantiser>& q, const std::string& name) {
  if (!q) return g_.add_constant(name, std::move(t));
  const int bits = bits_of(*q, 8), integer = integer_of(*q);
  if (bits == 0 || integer == 1000) fail(l, fmt::format("'{}' has no format of 1 to 32 bits", printable(q->text)));
  float* v = t.data<float>();
  const std::int64_t n = t.size();
  const auto sign = [](float x) { return x >= 0 ? 1.f : -1.f; };
  if (q->kind == "quantized_bits" && !(bits == 1 && q->number("keep_negative", 1) != 0)) {
    refuse_odd(l, *q, {"bits", "integer", "symmetric", "keep_negative", "alpha", "scale_axis"});
    const double alpha = alpha_of(l, *q);
    const bool negative = q->number("keep_negative", 1) != 0, symmetric = q->number("symmetric", 0) != 0;
    const double step = std::ldexp(1.0, integer - (bits - negative));
    if (alpha != 1) {
      const double most = std::ldexp(1.0, bits - negative) - 1, least = negative ? -most - 1 + symmetric : 0;
      for (std::int64_t i = 0; i < n; ++i) v[i] = static_cast<float>(static_cast<float>(alpha) * (std::clamp(std::nearbyint(v[i] / step), least, most) * step));
    }
    return quant(g_.add_constant(name, std::move(t)), step * static_cast<float>(alpha), bits, negative, negative && symmetric, name + "/quant");
  }
  if (is_binary(*q) || q->kind == "quantized_bits") {
    const bool zero_one = q->number("use_01", 0) != 0;
    const double alpha = alpha_of(l, *q);
    if (zero_one) {
      for (std::int64_t i = 0; i < n; ++i) v[i] = v[i] >= 0 ? static_cast<float>(alpha) : 0;
      return quant(g_.add_constant(name, std::move(t)), alpha, 1, false, false, name + "/quant");
    }
    return b_.node("BipolarQuant", {g_.add_constant(name, std::move(t)), b_.scalar(name + "/scale", static_cast<float>(alpha))}, {}, name + "/quant", std::string(kQonnx));
  }
  if (is_ternary(*q)) {
    refuse_odd(l, *q, {"alpha", "threshold", "use_real_sigmoid"});
    const double alpha = alpha_of(l, *q);
    const auto threshold = static_cast<float>(q->number("threshold", 0.33));
    for (std::int64_t i = 0; i < n; ++i) v[i] = std::abs(v[i]) >= threshold ? sign(v[i]) * static_cast<float>(alpha) : 0;
    return quant(g_.add_constant(name, std::move(t)), alpha, 2, true, true, name + "/quant");
  }
  if (q->kind == "quantized_po2") {
    refuse_odd(l, *q, {"bits", "max_value", "quadratic_approximation", "log2_rounding"});
    if (q->number("quadratic_approximation", 0) != 0) fail(l, "quantized_po2 with quadratic_approximation");
    if (const auto f = q->texts.find("log2_rounding"); f != q->texts.end() && f->second != "rnd") fail(l, fmt::format("quantized_po2 with log2_rounding '{}'", printable(f->second)));
    if (bits > 7) fail(l, fmt::format("quantized_po2 with {} bits", bits), "the span of exponents is wider than any integer format");
    const auto most = static_cast<float>(q->number("max_value", INFINITY));
    const int effective = bits - 1 - (q->numbers.contains("max_value") && most <= 1 ? 0 : 1);
    const double lo = -std::ldexp(1.0, effective), hi = std::ldexp(1.0, effective) - 1;
    const float epsilon = 1e-7f, log2 = std::log(2.0f);
    double least = 1e9, largest = -1e9;
    for (std::int64_t i = 0; i < n; ++i) {
      const float a = std::min(std::abs(v[i]), most);
      const double e = std::abs(v[i]) < epsilon ? lo : std::clamp<double>(std::nearbyint(std::log(a) / log2), lo, hi);
      v[i] = static_cast<float>(sign(v[i]) * std::exp2(e));
      least = std::min(least, e), largest = std::max(largest, e);
    }
    if (n == 0) least = largest = 0;
    if (largest - least + 2 > 32) fail(l, fmt::format("powers of two from 2^{} to 2^{}", least, largest), "the span is wider than an integer format of 32 bits");
    return quant(g_.add_constant(name, std::move(t)), std::exp2(least), static_cast<int>(largest - least) + 2, true, true, name + "/quant");
  }
  fail(l, fmt::format("weights quantised by {}", q->kind), "it has no exact form here");
}

// ---- activations --------------------------------------------------------------------------------
Id Reader::named_activation(const Layer& l, Id x, std::string_view f, const std::string& name, bool qkeras) {
  if (f.empty() || f == "linear") return x;
  if (f == "relu") return b_.unary("Relu", x, {}, name);
  if (f == "relu6") return clipped(x, 0.0, 6.0, name);
  if (f == "relu1") return clipped(x, 0.0, 1.0, name);  // of the hls4ml examples
  if (f == "softmax") return b_.along("Softmax", x, -1, {}, name);
  if (f == "log_softmax") return b_.along("LogSoftmax", x, -1, {}, name);
  if (f == "sigmoid") return b_.unary("Sigmoid", x, {}, name);
  if (f == "tanh") return b_.unary("Tanh", x, {}, name);
  if (f == "elu") return b_.unary("Elu", x, {{"alpha", 1.0}}, name);
  if (f == "selu") return b_.unary("Selu", x, {}, name);
  if (f == "softplus") return b_.unary("Softplus", x, {}, name);
  if (f == "softsign") return b_.unary("Softsign", x, {}, name);
  if (f == "exponential") return b_.unary("Exp", x, {}, name);
  if (f == "mish") return b_.unary("Mish", x, {}, name);
  if (f == "leaky_relu") return b_.unary("LeakyRelu", x, {{"alpha", static_cast<double>(0.2f)}}, name);
  if (f == "swish" || f == "silu") return b_.join("Mul", {x, b_.unary("Sigmoid", x, {}, name + "/sigmoid")}, {}, name);
  if (f == "gelu") {  // x * (1 + erf(x / sqrt 2)) / 2
    const Id e = b_.unary("Erf", scaled(x, std::sqrt(0.5), 0, name + "/erf"), {}, name + "/erf");
    return b_.join("Mul", {x, scaled(e, 0.5, 0.5, name + "/half")}, {}, name);
  }
  if (f == "hard_sigmoid" && !qkeras)
    return b_.unary("HardSigmoid", x, {{"alpha", static_cast<double>(keras_ >= 3 ? static_cast<float>(1.0 / 6) : 0.2f)}, {"beta", 0.5}}, name);
  if (f == "hard_sigmoid") return clipped(scaled(x, 0.5, 0.5, name), 0.0, 1.0, name + "/clip");
  if (f == "hard_tanh") return clipped(x, -1.0, 1.0, name);
  if (f == "binary_tanh") {  // x > 0: 1, else -1; BipolarQuant decides at x >= 0
    const Id y = scaled(x, -1, 0, name + "/minus");
    return scaled(with(x, b_.node("BipolarQuant", {b_.held(y, name), b_.scalar(name + "/one", 1)}, {}, name, std::string(kQonnx))), -1, 0, name + "/sign");
  }
  if (f == "ternary_tanh") {  // x > 0.5: 1, x <= -0.5: -1, else 0; Threshold counts x >= t
    const Id y = scaled(x, -1, 0, name + "/minus");
    const ValueId t = g_.add_constant(name + "/steps", Tensor::of<float>({1, 2}, std::vector<float>{-0.5f, 0.5f}));
    return scaled(with(x, b_.node("Threshold", {b_.held(y, name), t}, {{"scale", 1.0}, {"base", std::int64_t{-1}}}, name, "tandem")), -1, 0, name + "/sign");
  }
  fail(l, fmt::format("the activation '{}' is not known", printable(f)), "name a standard activation of Keras, or say it with layers");
}
Id Reader::activation(const Layer& l, Id x, const Config& c, const std::string& name) {
  if (c.is_null()) return x;
  const bool qkeras = l.kind.starts_with("Q");
  if (const auto q = parse_quantiser(c)) return quantised(l, x, *q, name);
  if (c.is_map()) {
    const std::string kind = c.required<std::string>("class_name");
    if (kind == "function" || kind == "str") return named_activation(l, x, c.required<std::string>("config"), name, qkeras);
    fail(l, fmt::format("the activation {} is not known", printable(kind)), "give it as a layer of its own");
  }
  return named_activation(l, x, c.as<std::string>(), name, qkeras);
}
Id Reader::activate(const Layer& l, Id x, const char* key, const std::string& name, const char* fallback) {
  const auto c = l.config.find(key);
  if (!c) return named_activation(l, x, fallback, name, false);
  return activation(l, x, *c, name);
}

// ---- dense --------------------------------------------------------------------------------------
Id Reader::matrix(const Layer& l, Id x, const Tensor& kernel, const std::optional<Tensor>& bias, const std::optional<Quantiser>& kq, const std::optional<Quantiser>& bq, const std::string& name) {
  const ValueId w = quantised_constant(l, b_.channels_for(x, kernel), kq, name + "/kernel");
  const ValueId in = b_.ordered(x, name);
  if (bias && !kq && !bq && b_.rank(x) == 2) return b_.hold(b_.node("Gemm", {in, w, g_.add_constant(name + "/bias", *bias)}, {}, name));
  ValueId y = b_.node("MatMul", {in, w}, {}, name);
  if (bias) y = b_.node("Add", {y, quantised_constant(l, *bias, bq, name + "/bias")}, {}, name + "/add");
  return b_.hold(y);
}
Id Reader::dense(const Layer& l, Id x, const std::string& name, const std::string& group) {
  const std::int64_t units = integer(l, "units", 1);
  if (b_.rank(x) < 2) fail(l, "its input has no features");
  const Dim in = b_.dims(x).back();
  Tensor kernel = weight(l, group, "kernel", {in.known() ? in.n : -1, units});
  auto kq = quantiser(l, "kernel_quantizer");
  auto bq = quantiser(l, "bias_quantizer");
  if (l.kind == "BinaryDense" || l.kind == "TernaryDense") {
    float h = 1;
    if (const auto c = l.config.find("H")) {
      if (c->as<std::string>() == "Glorot") h = static_cast<float>(std::sqrt(1.5 / static_cast<double>(kernel.shape()[0] + units)));
      else h = static_cast<float>(c->as<double>());
    }
    if (!(h > 0)) fail(l, fmt::format("H is {}", h));
    float* v = kernel.data<float>();
    for (std::int64_t i = 0; i < kernel.size(); ++i) {
      const float s = v[i] / h;
      if (l.kind == "BinaryDense") v[i] = h * (2 * std::nearbyint(std::clamp(0.5f * s + 0.5f, 0.f, 1.f)) - 1);
      else v[i] = s > 0.5f ? h : s <= -0.5f ? -h : 0.f;
    }
    // On its grid already: the quantiser only says so.
    kq = Quantiser{l.kind == "BinaryDense" ? "binary" : "ternary", {{"alpha", h}, {"threshold", h / 2}}, {}, l.kind};
  }
  std::optional<Tensor> bias;
  if (flag(l, "use_bias", true)) bias = weight(l, group, "bias", {units});
  return activate(l, matrix(l, x, kernel, bias, kq, bq, name), "activation", name + "/activation");
}

// ---- windows ------------------------------------------------------------------------------------
void Reader::pad(const Layer& l, Attrs& a, const Dims& in, const Ints& kernel, const Ints& stride, const Ints& dilation) const {
  const std::string mode = text(l, "padding", "valid");
  const std::size_t n = kernel.size();
  if (mode == "valid") return;
  if (mode == "causal") {
    Ints p(2 * n, 0);
    p[0] = (kernel[0] - 1) * dilation[0];
    if (n != 1 || p[0] > kMaxExtent) fail(l, "causal padding of more than one axis");
    a["pads"] = p;
    return;
  }
  if (mode != "same") fail(l, fmt::format("padding '{}'", printable(mode)), "valid, same or causal");
  pad_same(a, in, kernel, stride, dilation);
}
Id Reader::biased(const Layer& l, ValueId y, const Tensor& bias, const std::optional<Quantiser>& q, std::size_t axes, const std::string& name) {
  Shape s(axes + 1, 1);
  s[0] = bias.size();
  return b_.hold_first(b_.node("Add", {y, quantised_constant(l, bias.reshaped(s), q, name + "/bias")}, {}, name + "/add"));
}
Id Reader::convolution(const Layer& l, Id x, const std::string& name, const std::string& group, std::size_t axes) {
  channels_last(l);
  const bool separable = l.kind.find("Separable") != std::string::npos, depthwise = l.kind.find("Depthwise") != std::string::npos;
  const Dims in = b_.dims(x);
  if (in.size() != axes + 2) fail(l, fmt::format("its input has shape {}", to_string(in)), fmt::format("{} spatial axes", axes));
  if (!in.back().known()) fail(l, "the channels of its input are unknown");
  const std::int64_t channels = in.back().n;
  const Ints kernel = ints(l, "kernel_size", axes, -1), stride = ints(l, "strides", axes, 1), dilation = ints(l, "dilation_rate", axes, 1);
  const std::int64_t groups = integer(l, "groups", 1, 1);
  Attrs a{{"kernel_shape", kernel}, {"strides", stride}, {"dilations", dilation}};
  pad(l, a, in, kernel, stride, dilation);
  const bool bias = flag(l, "use_bias", true);
  ValueId y = b_.first(x, name);
  const auto plain = [&](const char* key) { return quantiser(l, key); };
  const auto bq = plain("bias_quantizer");
  std::int64_t filters = 0;
  // The bias is the node's own where nothing is quantised.
  const auto conv = [&](ValueId v, Tensor w, Attrs attrs, const std::optional<Quantiser>& wq, bool last, const std::string& n) {
    const ValueId k = quantised_constant(l, std::move(w), wq, n + "/kernel");
    std::vector<ValueId> inputs{v, k};
    const bool own = last && bias && !wq && !bq;
    if (own) inputs.push_back(g_.add_constant(n + "/bias", weight(l, group, "bias", {filters})));
    const ValueId out = b_.node("Conv", inputs, std::move(attrs), n);
    if (!last || own || !bias) return b_.hold_first(out);
    return biased(l, out, weight(l, group, "bias", {filters}), bq, axes, n);
  };
  Id out;
  if (depthwise || separable) {
    const std::int64_t multiplier = integer(l, "depth_multiplier", 1, 1);
    if (multiplier > kMaxExtent / std::max<std::int64_t>(channels, 1)) fail(l, "depth_multiplier is too large");
    Shape want(kernel);
    want.push_back(channels), want.push_back(multiplier);
    Ints perm{static_cast<std::int64_t>(axes), static_cast<std::int64_t>(axes) + 1};
    for (std::size_t i = 0; i < axes; ++i) perm.push_back(static_cast<std::int64_t>(i));
    Shape shape{channels * multiplier, 1};
    shape.insert(shape.end(), kernel.begin(), kernel.end());
    const bool named = has_weight(l, group, "depthwise_kernel");
    Tensor w = permuted(weight(l, group, named ? "depthwise_kernel" : "kernel", want), perm).reshaped(shape);
    a["group"] = channels;
    filters = channels * multiplier;
    auto dq = plain("depthwise_quantizer");
    if (!dq && depthwise) dq = plain("kernel_quantizer");
    out = conv(y, std::move(w), a, dq, depthwise, separable ? name + "/depthwise" : name);
    if (separable) {
      Shape point(axes, 1);
      filters = integer(l, "filters", 1);
      point.push_back(channels * multiplier), point.push_back(filters);
      Shape to{filters, channels * multiplier};
      to.insert(to.end(), axes, 1);
      const Tensor p = permuted(weight(l, group, "pointwise_kernel", point).reshaped({channels * multiplier, filters}), {1, 0}).reshaped(to);
      out = conv(b_.first(out, name), p, {{"kernel_shape", Ints(axes, 1)}}, plain("pointwise_quantizer"), true, name);
    }
  } else {
    filters = integer(l, "filters", 1);
    if (groups < 1 || channels % groups != 0 || filters % groups != 0) fail(l, fmt::format("{} groups of {} channels and {} filters", groups, channels, filters));
    Shape want(kernel);
    want.push_back(channels / groups), want.push_back(filters);
    Ints perm{static_cast<std::int64_t>(axes) + 1, static_cast<std::int64_t>(axes)};
    for (std::size_t i = 0; i < axes; ++i) perm.push_back(static_cast<std::int64_t>(i));
    if (groups != 1) a["group"] = groups;
    out = conv(y, permuted(weight(l, group, "kernel", want), perm), a, plain("kernel_quantizer"), true, name);
  }
  return activate(l, out, "activation", name + "/activation");
}
Id Reader::transposed(const Layer& l, Id x, const std::string& name, const std::string& group, std::size_t axes) {
  channels_last(l);
  const Dims in = b_.dims(x);
  if (in.size() != axes + 2 || !in.back().known()) fail(l, fmt::format("its input has shape {}", to_string(in)));
  const Ints kernel = ints(l, "kernel_size", axes, -1), stride = ints(l, "strides", axes, 1), dilation = ints(l, "dilation_rate", axes, 1);
  if (l.config.find("output_padding")) fail(l, "output_padding is given", "leave it to Keras");
  const std::string mode = text(l, "padding", "valid");
  if (mode != "valid" && mode != "same") fail(l, fmt::format("padding '{}'", printable(mode)), "valid or same");
  Ints pads(2 * axes, 0), more(axes, 0);
  for (std::size_t i = 0; i < axes; ++i) {
    if (dilation[i] != 1) fail(l, "a dilated transposed convolution");
    const std::int64_t over = kernel[i] - stride[i];
    more[i] = std::max<std::int64_t>(0, -over);
    if (mode == "same" && over > 0) pads[i] = over / 2, pads[axes + i] = over - over / 2;
  }
  const std::int64_t filters = integer(l, "filters", 1);
  Shape want(kernel);
  want.push_back(filters), want.push_back(in.back().n);
  Ints perm{static_cast<std::int64_t>(axes) + 1, static_cast<std::int64_t>(axes)};
  for (std::size_t i = 0; i < axes; ++i) perm.push_back(static_cast<std::int64_t>(i));
  const ValueId v = b_.first(x, name);
  std::vector<ValueId> inputs{v, quantised_constant(l, permuted(weight(l, group, "kernel", want), perm), quantiser(l, "kernel_quantizer"), name + "/kernel")};
  const bool bias = flag(l, "use_bias", true);
  const auto bq = quantiser(l, "bias_quantizer");
  if (bias && !bq) inputs.push_back(g_.add_constant(name + "/bias", weight(l, group, "bias", {filters})));
  const ValueId y = b_.node("ConvTranspose", inputs, {{"kernel_shape", kernel}, {"strides", stride}, {"pads", pads}, {"output_padding", more}}, name);
  return activate(l, bias && bq ? biased(l, y, weight(l, group, "bias", {filters}), bq, axes, name) : b_.hold_first(y), "activation", name + "/activation");
}
Id Reader::pool(const Layer& l, Id x, const std::string& name, std::size_t axes, bool max) {
  channels_last(l);
  const Dims in = b_.dims(x);
  if (in.size() != axes + 2) fail(l, fmt::format("its input has shape {}", to_string(in)), fmt::format("{} spatial axes", axes));
  const Ints kernel = ints(l, "pool_size", axes, 2);
  Ints stride = kernel;
  if (l.config.find("strides")) stride = ints(l, "strides", axes, 1);
  Attrs a{{"kernel_shape", kernel}, {"strides", stride}};
  pad(l, a, in, kernel, stride, Ints(axes, 1));
  return b_.hold_first(b_.node(max ? "MaxPool" : "AveragePool", {b_.first(x, name)}, a, name));
}
Id Reader::batch_norm(const Layer& l, Id x, const std::string& name, const std::string& group) {
  std::int64_t axis = -1;
  if (const auto c = l.config.find("axis")) axis = c->is_list() ? (c->size() == 1 ? c->items()[0].as<std::int64_t>() : -2) : c->as<std::int64_t>();
  if (axis != -1 && axis != b_.rank(x) - 1) fail(l, fmt::format("it normalises axis {}", axis), "only the last axis (channels last)");
  const Dim c = b_.dims(x).back();
  const Shape want{c.known() ? c.n : -1};
  const Tensor mean = weight(l, group, "moving_mean", want), var = weight(l, group, "moving_variance", {mean.size()});
  const auto filled = [&](float v) {
    Tensor t(DType::f32, {mean.size()});
    std::fill_n(t.data<float>(), t.size(), v);
    return t;
  };
  const Tensor gamma = flag(l, "scale", true) ? weight(l, group, "gamma", {mean.size()}) : filled(1);
  const Tensor beta = flag(l, "center", true) ? weight(l, group, "beta", {mean.size()}) : filled(0);
  const double epsilon = l.config.real("epsilon", 0, 1e6, 1e-3);
  const bool image = b_.rank(x) >= 3;
  const ValueId in = image ? b_.first(x, name) : b_.ordered(x, name);
  std::vector<ValueId> inputs{in};
  const std::pair<const char*, const Tensor*> parts[] = {{"/gamma", &gamma}, {"/beta", &beta}, {"/mean", &mean}, {"/variance", &var}};
  for (const auto& [suffix, t] : parts) inputs.push_back(g_.add_constant(name + suffix, b_.channels_for(x, *t)));
  const ValueId y = b_.node("BatchNormalization", inputs, {{"epsilon", static_cast<double>(static_cast<float>(epsilon))}}, name);
  return image ? b_.hold_first(y) : b_.is_shuffled(x) ? with(x, y) : b_.hold(y);
}

// ---- moves --------------------------------------------------------------------------------------
Id Reader::padded(Id x, const std::vector<Ints>& by, const std::string& name) {
  Ints pads{0, 0}, after{0, 0};
  for (const Ints& p : by) pads.push_back(p[0]), after.push_back(p[1]);
  pads.insert(pads.end(), after.begin(), after.end());
  return b_.hold_first(b_.node("Pad", {b_.first(x, name), b_.ints(name + "/pads", pads)}, {}, name));
}
Id Reader::cropped(const Layer& l, Id x, const std::vector<Ints>& by, const std::string& name) {
  Ints starts, ends, axes;
  for (std::size_t i = 0; i < by.size(); ++i) {
    const Dim d = b_.dims(x)[i + 1];
    if (!d.known()) fail(l, "it crops an axis of unknown extent");
    if (by[i][0] + by[i][1] >= d.n) fail(l, fmt::format("it crops {} and {} of {}", by[i][0], by[i][1], d.n));
    starts.push_back(by[i][0]), ends.push_back(d.n - by[i][1]), axes.push_back(static_cast<std::int64_t>(i) + 2);
  }
  return b_.hold_first(b_.node("Slice", {b_.first(x, name), b_.ints(name + "/starts", starts), b_.ints(name + "/ends", ends), b_.ints(name + "/axes", axes)}, {}, name));
}
Id Reader::upsampled(const Layer& l, Id x, const Ints& by, const std::string& mode, const std::string& name) {
  if (mode != "nearest" && mode != "bilinear") fail(l, fmt::format("interpolation '{}'", printable(mode)), "nearest or bilinear");
  std::vector<float> scales{1, 1};
  for (std::int64_t s : by) scales.push_back(static_cast<float>(s));
  const ValueId k = g_.add_constant(name + "/scales", Tensor::of<float>({static_cast<std::int64_t>(scales.size())}, scales));
  Attrs a = mode == "nearest" ? Attrs{{"mode", std::string("nearest")}, {"coordinate_transformation_mode", std::string("asymmetric")}, {"nearest_mode", std::string("floor")}}
                              : Attrs{{"mode", std::string("linear")}, {"coordinate_transformation_mode", std::string("half_pixel")}};
  return b_.hold_first(b_.node("Resize", {b_.first(x, name), kNone, k}, std::move(a), name));
}

// ---- recurrent layers ---------------------------------------------------------------------------
Id Reader::recurrent(const Layer& l, Id x, const std::string& name, const std::string& group) {
  const bool lstm = l.kind == "LSTM", gru = l.kind == "GRU";
  const std::int64_t gates = lstm ? 4 : gru ? 3 : 1, units = integer(l, "units", 1);
  const Dims in = b_.dims(x);
  if (in.size() != 3 || !in.back().known()) fail(l, fmt::format("its input has shape {}", to_string(in)), "[batch, steps, features]");
  if (units > kMaxExtent / 8) fail(l, fmt::format("{} units", units));
  for (const char* key : {"return_state", "stateful", "unroll_state", "time_major"})
    if (flag(l, key, false)) fail(l, fmt::format("'{}' is set", key), "a layer whose state stays inside");
  const bool sequences = flag(l, "return_sequences", false), backwards = flag(l, "go_backwards", false);
  if (sequences && backwards) fail(l, "it returns its sequence backwards");
  const Tensor kernel = weight(l, group, "kernel", {in.back().n, gates * units}), again = weight(l, group, "recurrent_kernel", {units, gates * units});
  // Keras orders the gates i f c o, and z r h; ONNX i o f c, and z r h.
  const Ints order = lstm ? Ints{0, 3, 1, 2} : gru ? Ints{0, 1, 2} : Ints{0};
  const auto rows = [&](const Tensor& t) {  // [n, gates * units] to [1, gates * units, n]
    const std::int64_t n = t.shape()[0];
    Tensor y(DType::f32, {1, gates * units, n});
    for (std::int64_t k = 0; k < gates; ++k)
      for (std::int64_t u = 0; u < units; ++u)
        for (std::int64_t i = 0; i < n; ++i) y.data<float>()[(k * units + u) * n + i] = t.data<float>()[i * gates * units + order[static_cast<std::size_t>(k)] * units + u];
    return y;
  };
  const bool after = gru && flag(l, "reset_after", keras_ >= 2 && l.config.has("reset_after"));
  Tensor bias(DType::f32, {1, 2 * gates * units});
  if (flag(l, "use_bias", true)) {
    const Tensor b = after ? weight(l, group, "bias", {2, gates * units}) : weight(l, group, "bias", {gates * units}).reshaped({1, gates * units});
    for (std::int64_t r = 0; r < b.shape()[0]; ++r)
      for (std::int64_t k = 0; k < gates; ++k)
        for (std::int64_t u = 0; u < units; ++u)
          bias.data<float>()[(r * gates + k) * units + u] = b.data<float>()[(r * gates + order[static_cast<std::size_t>(k)]) * units + u];
  }
  const auto function = [&](const char* key, const char* fallback) -> std::string {
    const std::string f = text(l, key, fallback);
    static const std::map<std::string, std::string> known{{"tanh", "Tanh"}, {"sigmoid", "Sigmoid"}, {"relu", "Relu"}, {"hard_sigmoid", "HardSigmoid"}, {"softsign", "Softsign"}, {"softplus", "Softplus"}};
    const auto it = known.find(f);
    if (it == known.end()) fail(l, fmt::format("{} '{}'", key, printable(f)), "tanh, sigmoid, relu, hard_sigmoid, softsign or softplus");
    if (f == "hard_sigmoid" && keras_ >= 3) fail(l, "hard_sigmoid of Keras 3 inside a recurrent layer");
    return it->second;
  };
  std::vector<std::string> functions;
  if (lstm || gru) functions.push_back(function("recurrent_activation", keras_ >= 2 ? "sigmoid" : "hard_sigmoid"));
  functions.push_back(function("activation", "tanh"));
  if (lstm) functions.push_back(functions.back());
  Attrs a{{"hidden_size", units}, {"activations", functions}};
  if (functions[0] == "HardSigmoid") a["activation_alpha"] = std::vector<double>{static_cast<double>(0.2f)}, a["activation_beta"] = std::vector<double>{0.5};
  if (functions.back() == "HardSigmoid") fail(l, "hard_sigmoid as the outer activation");
  if (backwards) a["direction"] = std::string("reverse");
  if (after) a["linear_before_reset"] = std::int64_t{1};
  const ValueId v = b_.node("Transpose", {b_.last(x, name)}, {{"perm", Ints{1, 0, 2}}}, name + "/steps_first");
  const auto y = b_.nodes(lstm ? "LSTM" : gru ? "GRU" : "RNN",
                          {v, g_.add_constant(name + "/W", rows(kernel)), g_.add_constant(name + "/R", rows(again)), g_.add_constant(name + "/B", bias)}, a, name, 2);
  if (!sequences) return b_.hold(b_.node("Squeeze", {y[1], b_.ints(name + "/direction", {0})}, {}, name + "/state"));
  const ValueId s = b_.node("Squeeze", {y[0], b_.ints(name + "/direction", {1})}, {}, name + "/sequence");
  return b_.hold(b_.node("Transpose", {s}, {{"perm", Ints{1, 0, 2}}}, name + "/batch_first"));
}

// ---- GarNet -------------------------------------------------------------------------------------
// Distance-weighted graph layer of Qasim et al. (arXiv 1902.07987) as in hls4ml's examples: with features F = X W_f,
// weights E = mask * exp(-(X W_s)^2), aggregates A = mean over vertices of E^T F, the output is mask * (E * A) W_o.
Id Reader::garnet(const Layer& l, const Outputs& x, const std::string& name, const std::string& group) {
  const std::string format = text(l, "input_format", "xn");
  if (format != "xn" || x.size() != 2) fail(l, fmt::format("input_format '{}' with {} inputs", printable(format), x.size()), "'xn': vertices and their number");
  if (!flag(l, "simplified", false)) fail(l, "'simplified' is not set", "only the simplified form is held");
  if (flag(l, "mean_by_nvert", false)) fail(l, "'mean_by_nvert' is set", "its last mean differs between versions of the layer");
  if (const std::string f = text(l, "output_activation", "linear"); f != "linear") fail(l, fmt::format("output_activation '{}'", printable(f)), "only linear");
  const bool stack = l.kind == "GarNetStack", quantise = flag(l, "quantize_transforms", false);
  std::optional<Quantiser> kq, bq;
  if (quantise && l.config.find("total_bits"))
    kq = bq = Quantiser{"quantized_bits", {{"bits", l.config.real("total_bits", 1, 32)}, {"integer", l.config.real("int_bits", -32, 32, 0.0)}, {"alpha", 1}}, {}, "quantized_bits"};
  else if (quantise) kq = bq = Quantiser{"ternary", {{"alpha", 1}, {"threshold", 0.5}}, {}, "ternary"};
  const auto widths = [&](const char* key) {
    const Config c = l.config.at(key);
    Ints v = c.is_list() ? c.list<std::int64_t>() : Ints{c.as<std::int64_t>()};
    for (std::int64_t i : v)
      if (i < 1 || i > 65536) fail(l, fmt::format("'{}' holds {}", key, i));
    return v;
  };
  const Ints P = widths("n_propagate"), S = widths("n_aggregators"), F = widths("n_filters");
  if (P.size() != S.size() || P.size() != F.size() || P.empty() || (!stack && P.size() != 1)) fail(l, "its widths do not fit each other");
  const Dims in = b_.dims(x[0]);
  if (in.size() != 3 || !in[1].known() || !in[2].known() || in[1].n < 1) fail(l, fmt::format("its input has shape {}", to_string(in)), "[batch, vertices, features]");
  const std::int64_t V = in[1].n;
  std::vector<std::int64_t> index(static_cast<std::size_t>(V));
  for (std::int64_t i = 0; i < V; ++i) index[static_cast<std::size_t>(i)] = i;
  const ValueId count = b_.node("Cast", {b_.last(x[1], name)}, {{"to", onnx_number(DType::i64)}}, name + "/count");
  ValueId mask = b_.node("Less", {g_.add_constant(name + "/vertices", Tensor::of<std::int64_t>({1, V}, index)), count}, {}, name + "/present");
  mask = b_.node("Cast", {mask}, {{"to", onnx_number(DType::f32)}}, name + "/present_f32");
  mask = b_.node("Unsqueeze", {mask, b_.ints(name + "/last", {2})}, {}, name + "/mask");
  Id data = x[0];
  for (std::size_t i = 0; i < P.size(); ++i) {
    const std::string tag = stack ? std::to_string(i) : "", n = stack ? fmt::format("{}/{}", name, i) : name;
    const std::int64_t width = b_.dims(data).back().n;
    const auto transform = [&](const std::string& role, Id v, std::int64_t from, std::int64_t to, const std::optional<Quantiser>& k, const std::optional<Quantiser>& b) {
      return matrix(l, v, weight(l, group, role + tag + "_kernel", {from, to}), weight(l, group, role + tag + "_bias", {to}), k, b, n + "/" + role);
    };
    const ValueId features = b_.last(transform("FLR", data, width, P[i], kq, bq), n), distance = b_.last(transform("S", data, width, S[i], {}, {}), n);
    ValueId edges = b_.node("Mul", {distance, distance}, {}, n + "/square");
    edges = b_.node("Exp", {b_.node("Neg", {edges}, {}, n + "/minus")}, {}, n + "/exp");
    edges = b_.node("Mul", {edges, mask}, {}, n + "/edges");
    ValueId mean = b_.node("MatMul", {b_.node("Transpose", {edges}, {{"perm", Ints{0, 2, 1}}}, n + "/aggregators_first"), features}, {}, n + "/aggregate");
    mean = b_.node("Mul", {mean, b_.scalar(n + "/share", static_cast<float>(1.0 / static_cast<double>(V)))}, {}, n + "/mean");
    const ValueId spread = b_.node("Mul", {b_.node("Unsqueeze", {edges, b_.ints(n + "/axis3", {3})}, {}, n + "/edges4"), b_.node("Unsqueeze", {mean, b_.ints(n + "/axis1", {1})}, {}, n + "/mean4")}, {}, n + "/spread");
    const ValueId flat = b_.node("Reshape", {spread, b_.ints(n + "/shape", {0, V, S[i] * P[i]})}, {}, n + "/updated");
    const Id out = transform("Fout", b_.hold(flat), S[i] * P[i], F[i], kq, {});
    data = b_.hold(b_.node("Mul", {b_.last(out, n), mask}, {}, n + "/masked"));
  }
  const std::string collapse = text(l, "collapse", "none");
  if (collapse == "none") return data;
  if (collapse != "mean" && collapse != "sum" && collapse != "max") fail(l, fmt::format("collapse '{}'", printable(collapse)), "mean, sum or max");
  return b_.reduce(collapse == "mean" ? "ReduceMean" : collapse == "sum" ? "ReduceSum" : "ReduceMax", data, {1}, false, name);
}

// ---- one layer ----------------------------------------------------------------------------------
Reader::Outputs Reader::layer(const Layer& l, const Outputs& xs, const std::string& name, const std::string& group, int depth) {
  const std::string& k = l.kind;
  if (k == "Sequential" || k == "Functional" || k == "Model") fail(l, "a model is no layer here");
  const auto one = [&]() -> Id {
    if (xs.size() != 1) fail(l, fmt::format("it is called on {} tensors", xs.size()), "one");
    return xs[0];
  };
  const auto many = [&]() -> const Outputs& {
    if (xs.size() < 2) fail(l, fmt::format("it is called on {} tensors", xs.size()), "two or more");
    return xs;
  };
  const auto ends = [&](std::size_t n) { return k.size() > 2 && k.ends_with(fmt::format("{}D", n)); };
  const std::size_t axes = ends(1) || k.ends_with("1DTranspose") ? 1 : ends(2) || k.ends_with("2DTranspose") ? 2 : ends(3) || k.ends_with("3DTranspose") ? 3 : 0;
  static const std::set<std::string_view> nothing{"Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization"};

  if (k == "Dense" || k == "QDense" || k == "BinaryDense" || k == "TernaryDense" || k == "NamedDense") return {dense(l, one(), name, group)};
  if (k == "Conv1D" || k == "Conv2D" || k == "Conv3D" || k == "QConv1D" || k == "QConv2D" || k == "DepthwiseConv1D" || k == "DepthwiseConv2D" || k == "QDepthwiseConv2D" || k == "SeparableConv1D" ||
      k == "SeparableConv2D" || k == "QSeparableConv1D" || k == "QSeparableConv2D")
    return {convolution(l, one(), name, group, axes)};
  if (k == "Conv1DTranspose" || k == "Conv2DTranspose" || k == "Conv3DTranspose" || k == "QConv2DTranspose") return {transposed(l, one(), name, group, axes)};
  if (k == "BatchNormalization" || k == "BatchNormalizationV1") return {batch_norm(l, one(), name, group)};
  if (k == "QBatchNormalization") {
    for (const char* q : {"gamma_quantizer", "beta_quantizer", "mean_quantizer", "variance_quantizer", "inverse_quantizer"})
      if (l.config.find(q)) fail(l, fmt::format("'{}' is given", q), "a BatchNormalization whose numbers are not quantised");
    return {batch_norm(l, one(), name, group)};
  }
  if (k == "Activation" || k == "QActivation") return {activation(l, one(), l.config.at("activation"), name)};
  if (k == "ReLU") {
    const double slope = l.config.real("negative_slope", 0, 1e6, 0.0), threshold = l.config.real("threshold", -1e6, 1e6, 0.0);
    if (threshold != 0) fail(l, fmt::format("ReLU with threshold {}", threshold));
    const auto most = l.config.optional<double>("max_value");
    if (slope != 0) {
      const Id y = b_.unary("LeakyRelu", one(), {{"alpha", static_cast<double>(static_cast<float>(slope))}}, name);
      return {most ? clipped(y, std::nullopt, *most, name + "/max") : y};
    }
    return {most ? clipped(one(), 0.0, *most, name) : b_.unary("Relu", one(), {}, name)};
  }
  if (k == "LeakyReLU") {
    const double slope = l.config.real(l.config.has("negative_slope") ? "negative_slope" : "alpha", 0, 1e6, 0.3);
    return {b_.unary("LeakyRelu", one(), {{"alpha", static_cast<double>(static_cast<float>(slope))}}, name)};
  }
  if (k == "ELU") return {b_.unary("Elu", one(), {{"alpha", l.config.real("alpha", 0, 1e6, 1.0)}}, name)};
  if (k == "ThresholdedReLU") return {b_.unary("ThresholdedRelu", one(), {{"alpha", l.config.real("theta", 0, 1e6, 1.0)}}, name)};
  if (k == "Softmax") {
    const std::int64_t axis = l.config.integer("axis", -8, 8, -1);
    if (axis >= b_.rank(one()) || axis < -b_.rank(one())) fail(l, fmt::format("axis {}", axis));
    return {b_.along("Softmax", one(), axis, {}, name)};
  }
  if (k == "PReLU") {
    Shape want;
    for (std::size_t i = 1; i < b_.dims(one()).size(); ++i) want.push_back(-1);
    return {b_.join("PRelu", {one(), b_.constant(name + "/alpha", weight(l, group, "alpha", want))}, {}, name)};
  }
  if (nothing.contains(k)) return {b_.unary("Identity", one(), {}, name)};
  if (k == "Flatten") {
    if (text(l, "data_format", "channels_last") == "channels_first") fail(l, "its data are channels first");
    return {b_.flatten(one(), name)};
  }
  if (k == "Reshape") {
    Ints shape = l.config.at("target_shape").list<std::int64_t>();
    for (std::int64_t i : shape)
      if ((i < 1 && i != -1) || i > kMaxExtent) fail(l, fmt::format("target_shape holds {}", i));
    shape.insert(shape.begin(), 0);
    if (std::count(shape.begin(), shape.end(), -1) > 1) fail(l, "target_shape leaves two extents open");
    return {b_.hold(b_.node("Reshape", {b_.last(one(), name), b_.ints(name + "/shape", shape)}, {}, name))};
  }
  if (k == "Permute") {
    Ints perm{0};
    for (std::int64_t i : l.config.at("dims").list<std::int64_t>()) perm.push_back(i);
    Ints sorted = perm;
    std::sort(sorted.begin(), sorted.end());
    for (std::size_t i = 0; i < sorted.size(); ++i)
      if (sorted[i] != static_cast<std::int64_t>(i) || static_cast<std::int64_t>(sorted.size()) != b_.rank(one())) fail(l, "'dims' is no permutation of the axes behind the batch");
    return {b_.hold(b_.node("Transpose", {b_.last(one(), name)}, {{"perm", perm}}, name))};
  }
  if (k == "RepeatVector") {
    const ValueId v = b_.node("Unsqueeze", {b_.last(one(), name), b_.ints(name + "/axis", {1})}, {}, name + "/step");
    return {b_.hold(b_.node("Tile", {v, b_.ints(name + "/repeats", {1, integer(l, "n", 1), 1})}, {}, name))};
  }
  if (axes > 0 && (k.starts_with("ZeroPadding") || k.starts_with("Cropping") || k.starts_with("UpSampling"))) {
    channels_last(l);
    if (b_.rank(one()) != static_cast<std::int64_t>(axes) + 2) fail(l, fmt::format("its input has shape {}", to_string(b_.dims(one()))), fmt::format("{} spatial axes", axes));
    if (k.starts_with("UpSampling")) return {upsampled(l, one(), ints(l, "size", axes, 2), text(l, "interpolation", "nearest"), name)};
    std::vector<Ints> by;
    const Config c = l.config.at(k.starts_with("Zero") ? "padding" : "cropping");
    const auto pair = [&](const Config& p) {
      const Ints v = p.is_scalar() ? Ints(2, p.as<std::int64_t>()) : p.list<std::int64_t>();
      if (v.size() != 2 || v[0] < 0 || v[1] < 0 || v[0] > kMaxExtent || v[1] > kMaxExtent) throw p.error("two amounts of 0 or more");
      by.push_back(v);
    };
    if (axes == 1) pair(c);
    else if (c.is_scalar()) for (std::size_t i = 0; i < axes; ++i) pair(c);
    else for (const Config& p : c.items()) pair(p);
    if (by.size() != axes) throw c.error(fmt::format("{} axes", by.size())).expected(fmt::format("{}", axes));
    return {k.starts_with("Zero") ? padded(one(), by, name) : cropped(l, one(), by, name)};
  }
  if (axes > 0 && (k.starts_with("MaxPooling") || k.starts_with("AveragePooling"))) return {pool(l, one(), name, axes, k.starts_with("Max"))};
  if (axes > 0 && (k.starts_with("GlobalMaxPooling") || k.starts_with("GlobalAveragePooling") || k.starts_with("QGlobalAveragePooling"))) {
    channels_last(l);
    if (k.starts_with("Q") && (l.config.find("average_quantizer") || l.config.find("activation"))) fail(l, "its average is quantised inside", "GlobalAveragePooling2D and a QActivation");
    if (b_.rank(one()) != static_cast<std::int64_t>(axes) + 2) fail(l, fmt::format("its input has shape {}", to_string(b_.dims(one()))), fmt::format("{} spatial axes", axes));
    const Id y = b_.hold_first(b_.node(k.find("Max") != std::string::npos ? "GlobalMaxPool" : "GlobalAveragePool", {b_.first(one(), name)}, {}, name));
    return {flag(l, "keepdims", false) ? y : b_.flatten(y, name + "/flatten")};
  }
  if (k == "Add") return {many().size() == 2 ? b_.join("Add", xs, {}, name) : b_.join("Sum", xs, {}, name)};
  if (k == "Average") return {b_.join("Mean", many(), {}, name)};
  if (k == "Maximum") return {b_.join("Max", many(), {}, name)};
  if (k == "Minimum") return {b_.join("Min", many(), {}, name)};
  if (k == "Subtract") return {b_.join("Sub", many(), {}, name)};
  if (k == "Multiply") {
    Id y = many()[0];
    for (std::size_t i = 1; i < xs.size(); ++i) y = b_.join("Mul", {y, xs[i]}, {}, i + 1 == xs.size() ? name : fmt::format("{}/{}", name, i));
    return {y};
  }
  if (k == "Concatenate" || k == "Merge") {
    const std::int64_t axis = l.config.integer("axis", -8, 8, -1);
    if (axis >= b_.rank(many()[0]) || axis < -b_.rank(xs[0])) fail(l, fmt::format("axis {}", axis));
    return {b_.concat(xs, axis, name)};
  }
  if (k == "Rescaling") return {scaled(one(), l.config.required<double>("scale"), l.config.optional_or<double>("offset", 0), name)};
  if (k == "Embedding") {
    const Tensor t = weight(l, group, "embeddings", {integer(l, "input_dim", 1), integer(l, "output_dim", 1)});
    const ValueId at = b_.node("Cast", {b_.last(one(), name)}, {{"to", onnx_number(DType::i64)}}, name + "/index");
    return {b_.hold(b_.node("Gather", {g_.add_constant(name + "/embeddings", t), at}, {{"axis", std::int64_t{0}}}, name))};
  }
  if (k == "LayerNormalization") {
    const auto c = l.config.find("axis");
    const std::int64_t axis = !c ? -1 : c->is_list() ? (c->size() == 1 ? c->items()[0].as<std::int64_t>() : -9) : c->as<std::int64_t>();
    if (axis != -1 && axis != b_.rank(one()) - 1) fail(l, "it normalises other axes than the last");
    const Dim d = b_.dims(one()).back();
    if (!d.known()) fail(l, "the extent of the last axis is unknown");
    Tensor gamma(DType::f32, {d.n}), beta(DType::f32, {d.n});
    std::fill_n(gamma.data<float>(), d.n, 1.f);
    if (flag(l, "scale", true)) gamma = weight(l, group, "gamma", {d.n});
    if (flag(l, "center", true)) beta = weight(l, group, "beta", {d.n});
    return {b_.hold(b_.node("LayerNormalization", {b_.last(one(), name), g_.add_constant(name + "/gamma", gamma), g_.add_constant(name + "/beta", beta)},
                            {{"axis", std::int64_t{-1}}, {"epsilon", static_cast<double>(static_cast<float>(l.config.real("epsilon", 0, 1, 1e-3)))}}, name))};
  }
  if (k == "LSTM" || k == "GRU" || k == "SimpleRNN") return {recurrent(l, one(), name, group)};
  if (k == "TimeDistributed") {
    const Config inner = l.config.at("layer");
    Layer d{inner.required<std::string>("class_name"), l.name, inner.at("config"), {}};
    if (d.kind != "Dense" && d.kind != "QDense" && d.kind != "Activation") fail(l, fmt::format("a {} at every step", printable(d.kind)), "only Dense and Activation");
    return layer(d, xs, name, group, depth + 1);
  }
  if (k == "GarNet" || k == "GarNetStack") return {garnet(l, xs, name, group)};

  static const std::vector<std::string> known{"Dense", "Conv1D", "Conv2D", "DepthwiseConv2D", "SeparableConv2D", "BatchNormalization", "Activation", "ReLU", "LeakyReLU", "PReLU", "Flatten", "Reshape", "MaxPooling2D",
                                              "AveragePooling2D", "GlobalAveragePooling2D", "ZeroPadding2D", "UpSampling2D", "Concatenate", "Multiply", "Dropout", "LSTM", "GRU", "QDense", "QConv2D", "QActivation"};
  const bool hgq = k == "FixedPointQuantizer" || k == "HQuantize" || k == "HDense" || k == "HDenseBatchNorm" || k == "HConv2D" || k == "HConv2DBatchNorm" || k == "HActivation" || k == "HAdd" || k == "Signature";
  if (hgq) fail(l, "a layer of HGQ", "its formats differ element by element: export the model to ONNX with hls4ml or qonnx, and give that");
  if (k.ends_with("Batchnorm")) fail(l, "a QKeras layer that folds its BatchNormalization while training", "unfold it with qkeras.utils before saving");
  const std::string near = nearest(k, known);
  fail(l, "no layer of this kind is known", near.empty() ? "say it with standard layers, or export the model to ONNX" : fmt::format("did the model mean {}? Otherwise say it with standard layers, or export the model to ONNX", near));
}

// ---- models -------------------------------------------------------------------------------------
Dims dims_from(const Config& c, const std::string& name) {
  Dims d;
  const auto items = c.items();
  if (items.empty() || items.size() > 16) throw c.error("an input needs 1 to 16 axes");
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (items[i].is_null()) d.emplace_back(i == 0 ? std::string("batch") : fmt::format("{}_{}", name, i));
    else {
      const auto n = items[i].as<std::int64_t>();
      if (n < 1 || n > kMaxExtent) throw items[i].error(fmt::format("an extent of {}", n));
      d.emplace_back(n);
    }
  }
  return d;
}
DType dtype_from(const Config& c) {
  const auto t = c.find("dtype");
  if (!t) return DType::f32;
  const std::string s = t->is_map() ? t->at("config").required<std::string>("name") : t->as<std::string>();
  static const std::map<std::string, DType> known{{"float32", DType::f32}, {"float64", DType::f32}, {"float16", DType::f32}, {"mixed_float16", DType::f32}, {"bfloat16", DType::f32}, {"int8", DType::i8}, {"int16", DType::i16},
                                                  {"int32", DType::i32}, {"int64", DType::i64}, {"uint8", DType::u8}, {"uint16", DType::u16}, {"uint32", DType::u32}, {"bool", DType::boolean}};
  const auto f = known.find(s);
  if (f == known.end()) throw t->error(fmt::format("an input of type '{}'", printable(s)));
  return f->second;
}
std::optional<Config> input_shape(const Config& c) {
  if (const auto s = c.find("batch_input_shape")) return s;
  return c.find("batch_shape");
}

Reader::Outputs Reader::run_model(const Config& model, std::optional<Outputs> given, const std::string& group, int depth) {
  if (depth > 8) throw model.error("models are nested more than 8 deep");
  const std::string kind = model.required<std::string>("class_name");
  if (kind != "Sequential" && kind != "Functional" && kind != "Model")
    throw bad_input("a model of class '{}'", printable(kind)).at(where_).expected("Sequential or Functional").fix("a subclassed model holds code, not layers: export it to ONNX");
  const bool sequential = kind == "Sequential";
  const std::vector<Layer> layers = layers_of(model, sequential);
  const Config config = model.at("config");
  const auto nested = [](const Layer& l) { return l.kind == "Sequential" || l.kind == "Functional" || l.kind == "Model"; };
  const auto node_name = [&](const Layer& l) { return depth == 0 ? l.name : fmt::format("{}/{}", group, l.name); };
  const auto input = [&](const Layer& l, const std::string& name) {
    const auto s = input_shape(l.config);
    if (!s) fail(l, "the shape of the model's input is not stated", "give the first layer an input_shape and save the model again");
    return b_.input(name, dtype_from(l.config), dims_from(*s, name));
  };
  const auto apply = [&](const Layer& l, const Outputs& x, const std::string& name) -> Outputs {
    try {
      if (nested(l)) {
        // The layer's own configuration is the model.
        const Config whole = model.at("config");
        for (const Config& c : whole.is_list() ? whole.items() : whole.at("layers").items()) {
          const auto own = c.at("config").is_map() ? c.at("config").find("name") : std::nullopt;
          if ((own && own->as<std::string>() == l.name) || (!own && c.find("name") && c.required<std::string>("name") == l.name)) return run_model(c, x, group.empty() ? l.name : group, depth + 1);
        }
      }
      return layer(l, x, name, group.empty() ? l.name : group, depth);
    } catch (Error& e) {
      // What an operator's own checks or a part of the configuration found.
      if (e.where().find("layer '") == std::string::npos) e.at(fmt::format("{}: layer '{}' ({}){}", where_, l.name, l.kind, e.where().empty() ? "" : ": " + e.where()));
      throw;
    }
  };

  if (sequential) {
    Outputs x;
    std::size_t i = 0;
    if (given) {
      x = *given;
      if (layers[0].kind == "InputLayer") i = 1;
    } else if (layers[0].kind == "InputLayer") {
      x = {input(layers[0], layers[0].name)};
      i = 1;
    } else if (input_shape(layers[0].config)) {
      x = {input(layers[0], layers[0].name + "_input")};
    } else if (const auto s = config.is_map() ? config.find("build_input_shape") : std::nullopt) {
      x = {b_.input(layers[0].name + "_input", DType::f32, dims_from(*s, layers[0].name))};
    } else {
      fail(layers[0], "the shape of the model's input is not stated", "give the first layer an input_shape and save the model again");
    }
    for (; i < layers.size(); ++i) {
      if (layers[i].kind == "InputLayer") fail(layers[i], "an input in the middle of a sequence");
      x = apply(layers[i], x, node_name(layers[i]));
    }
    return x;
  }

  std::map<Ref, Id> done;
  std::map<std::string, const Layer*> by_name;
  for (const Layer& l : layers) by_name[l.name] = &l;
  const std::vector<Ref> ins = refs(config.at("input_layers")), outs = refs(config.at("output_layers"));
  if (given && given->size() != ins.size()) throw config.error(fmt::format("the model has {} inputs and is called on {}", ins.size(), given->size()));
  for (std::size_t i = 0; i < ins.size(); ++i) {
    const auto f = by_name.find(ins[i].layer);
    if (f == by_name.end() || f->second->kind != "InputLayer") throw config.error(fmt::format("the input '{}' is no InputLayer", printable(ins[i].layer)));
    if (done.contains({ins[i].layer, 0, 0})) throw config.error(fmt::format("the input '{}' is named twice", printable(ins[i].layer)));
    done[{ins[i].layer, 0, 0}] = given ? (*given)[i] : input(*f->second, f->second->name);
  }
  struct Call {
    const Layer* layer;
    std::int64_t index;
  };
  std::vector<Call> pending;
  for (const Layer& l : layers) {
    if (l.kind == "InputLayer") continue;
    for (std::size_t c = 0; c < l.calls.size(); ++c) pending.push_back({&l, static_cast<std::int64_t>(c)});
  }
  while (!pending.empty()) {
    std::vector<Call> later;
    for (const Call& c : pending) {
      const auto& from = c.layer->calls[static_cast<std::size_t>(c.index)];
      Outputs x;
      for (const Ref& r : from) {
        if (!by_name.contains(r.layer)) fail(*c.layer, fmt::format("it reads from '{}', which is not there", printable(r.layer)));
        if (const auto f = done.find(r); f != done.end()) x.push_back(f->second);
      }
      if (x.size() != from.size()) {
        later.push_back(c);
        continue;
      }
      const Outputs y = apply(*c.layer, x, c.index == 0 ? node_name(*c.layer) : fmt::format("{}_{}", node_name(*c.layer), c.index));
      for (std::size_t o = 0; o < y.size(); ++o) done[{c.layer->name, c.index, static_cast<std::int64_t>(o)}] = y[o];
    }
    if (later.size() == pending.size()) {
      // A nested model's calls are counted from the model it was cut out of: its only call is the one meant.
      bool moved = false;
      for (const Call& c : later)
        for (const Ref& r : c.layer->calls[static_cast<std::size_t>(c.index)])
          if (!done.contains(r) && by_name.at(r.layer)->calls.size() <= 1 && done.contains({r.layer, 0, r.output})) done[r] = done[{r.layer, 0, r.output}], moved = true;
      if (!moved) fail(*later[0].layer, "its inputs are never computed", "the layers form a cycle, or an input is missing");
    }
    pending = std::move(later);
  }
  Outputs y;
  for (const Ref& r : outs) {
    auto f = done.find(r);
    if (f == done.end()) f = done.find({r.layer, 0, r.output});
    if (f == done.end()) throw config.error(fmt::format("the output '{}' is never computed", printable(r.layer)));
    y.push_back(f->second);
  }
  return y;
}

Graph Reader::read(const Config& model) {
  if (const auto v = model.find("keras_version")) {
    const std::string s = v->as<std::string>();
    if (!s.empty() && s[0] >= '1' && s[0] <= '9') keras_ = s[0] - '0';
  }
  const Config config = model.at("config");
  if (const auto n = config.is_map() ? config.find("name") : std::nullopt) g_.name = checked(*n, "model name");
  const Outputs y = run_model(model, std::nullopt, "", 0);
  for (std::size_t i = 0; i < y.size(); ++i) {
    ValueId v = b_.last(y[i], fmt::format("output_{}", i));
    const bool port = std::find(g_.inputs.begin(), g_.inputs.end(), v) != g_.inputs.end() || std::find(g_.outputs.begin(), g_.outputs.end(), v) != g_.outputs.end();
    if (port || g_.constant(v)) v = b_.node("Identity", {v}, {}, fmt::format("output_{}", i));
    g_.outputs.push_back(v);
  }
  remove_dead(g_);
  compact_values(g_);
  verify(g_);
  infer_shapes(g_);
  return std::move(g_);
}

}  // namespace

Graph keras_graph(const Config& model, const tool::Hdf5File& weights, const std::string& where, const Limits& limits) {
  return Reader(weights, where, limits).read(model);
}

bool is_keras_archive(std::string_view bytes) {
  if (!bytes.starts_with("PK\x03\x04") || bytes.size() < 30) return false;
  const auto first = bytes.substr(30, static_cast<unsigned char>(bytes[26]));  // its name
  return first == "metadata.json" || first == "config.json" || first == "model.weights.h5";
}

Graph read_keras(const fs::path& path, const Limits& limits, const fs::path& weights) {
  const std::string where = path.string();
  const auto named = [&](Error& e) -> Error& { return e.where().find(path.filename().string()) == std::string::npos ? e.at(e.where().empty() ? where : where + ": " + e.where()) : e; };
  try {
    const std::string bytes = read_file(path, limits);
    if (is_keras_archive(bytes)) {
      const Members m = parse_zip(bytes, limits, where, [](const std::string& n) { return n == "config.json" || n == "model.weights.h5"; });
      if (!m.contains("config.json") || !m.contains("model.weights.h5")) throw bad_input("no Keras model").at(where).expected("a zip with the members config.json and model.weights.h5, as model.save() writes");
      const Config model = Config::parse(m.at("config.json"), where + ": config.json", limits);
      if (!model.has("class_name") || !model.has("config")) throw bad_input("no Keras model").at(where).expected("'class_name' and 'config' in config.json");
      if (!weights.empty()) return keras_graph(model, tool::read_hdf5(weights, limits), where, limits);
      const tool::WorkFolder f;
      f.put("model.weights.h5", m.at("model.weights.h5"));
      try {
        return keras_graph(model, tool::read_hdf5(f / "model.weights.h5", limits), where, limits);
      } catch (Error& e) {
        if (const std::size_t folder = e.where().find(f.path().string()); folder != std::string::npos)
          e.at(where + ": " + std::string(e.where()).erase(folder, f.path().string().size() + 1));
        throw;
      }
    }
    const std::string_view head = std::string_view(bytes).substr(0, 8);
    if (head == std::string_view("\x89HDF\r\n\x1a\n", 8)) {
      const tool::Hdf5File f = tool::read_hdf5(path, limits);
      const auto* c = f.attribute("/", "model_config");
      if (!c || !c->is_text || c->text.size() != 1)
        throw bad_input("the file holds weights, not a model").at(where).expected("an attribute 'model_config'").fix("give NAME.json, with these weights beside it as NAME_weights.h5 or by --weights");
      return keras_graph(Config::parse(c->text[0], where + ": model_config", limits), weights.empty() ? f : tool::read_hdf5(weights, limits), where, limits);
    }
    const Config model = Config::read(path, limits);
    if (!model.has("class_name") || !model.has("config")) throw bad_input("no Keras model").at(where).expected("'class_name' and 'config', as model.to_json() writes");
    fs::path beside = weights;
    if (beside.empty()) {
      beside = path;
      beside.replace_filename(path.stem().string() + "_weights.h5");
      std::error_code ec;
      if (!fs::exists(beside, ec)) throw bad_input("the weights {} are not there", printable(beside.filename().string())).at(where).expected("NAME_weights.h5 beside NAME.json").fix("put them there, or name them with --weights");
    }
    return keras_graph(model, tool::read_hdf5(beside, limits), where, limits);
  } catch (Error& e) {
    throw named(e);
  }
}

}  // namespace tandem::ir
