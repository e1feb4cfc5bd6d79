#include "tandem/flow/study.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <set>

#include "tandem/base/file.h"
#include "tandem/base/hash.h"
#include "tandem/base/json.h"
#include "tandem/base/nearest.h"
#include "tandem/base/parallel.h"
#include "tandem/base/share.h"
#include "tandem/data/dataset.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/model_file.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"
#include "tandem/map/folding.h"
#include "tandem/tasks/task.h"
#include "tandem/tool/process.h"
#include "tandem/train/learn.h"

#include <dlfcn.h>

namespace tandem::flow {
namespace {
using I = std::int64_t;
namespace fs = std::filesystem;
using search::Kind;
using search::Parameter;
using search::Point;

bool is_number(const Config& c) {
  try {
    return c.is_scalar() && (c.as<double>(), true);
  } catch (const Error&) {
    return false;
  }
}
bool is_flag(const Config& c) {
  try {
    return c.is_scalar() && (c.as<bool>(), true);
  } catch (const Error&) {
    return false;
  }
}

std::vector<std::string> words_of(const Config& c) {
  std::vector<std::string> r;
  for (const Config& w : c.items()) r.push_back(w.as<std::string>());
  return r;
}

// "width: {int: [4, 16], step: 4}" and its kin.
Parameter parse_parameter(const std::string& name, const Config& c, const std::vector<Parameter>& before) {
  Parameter p;
  p.name = name;
  const auto list = [&](const Config& l) {
    p.words = words_of(l);
    const auto items = l.items();
    p.kind = std::all_of(items.begin(), items.end(), is_number) ? Kind::ordinal : Kind::categorical;
  };
  if (c.is_list()) {
    list(c);
    return p;
  }
  const auto pair = [&](const Config& l) {
    if (!l.is_list() || l.size() != 2) throw l.error("a range is two numbers, [lowest, highest]");
    return l.items();
  };
  const std::vector<std::string> kinds{"choice", "ordinal", "int", "real", "permutation", "sequence"};
  int given = 0;
  for (const std::string& k : kinds) given += c.has(k);
  c.only({"choice", "ordinal", "int", "real", "permutation", "sequence", "step", "scale", "length", "when"});
  if (given != 1) throw c.error("a parameter is a list of values, or has one of: choice, ordinal, int, real, permutation, sequence");
  if (const auto l = c.find("choice")) {
    list(*l);
    p.kind = Kind::categorical;
  } else if (const auto o = c.find("ordinal")) {
    list(*o);
    p.kind = Kind::ordinal;
  } else if (const auto i = c.find("int")) {
    const auto r = pair(*i);
    p.kind = Kind::integer;
    p.lo = r[0].as<I>(), p.hi = r[1].as<I>();
    p.step = c.integer("step", 1, I{1} << 50, 1);
  } else if (const auto x = c.find("real")) {
    const auto r = pair(*x);
    p.kind = Kind::real;
    p.low = r[0].as<double>(), p.high = r[1].as<double>();
    p.log = c.choice("scale", {"linear", "log"}, "linear") == "log";
  } else if (const auto n = c.find("permutation")) {
    p.kind = Kind::permutation;
    p.length = n->as<int>();
  } else {
    list(c.at("sequence"));
    p.kind = Kind::sequence;
    p.length = static_cast<int>(c.integer("length", 0, 1000));
  }
  if (c.has("step") && p.kind != Kind::integer) throw c.at("step").error("only int has a step");
  if (c.has("scale") && p.kind != Kind::real) throw c.at("scale").error("only real has a scale");
  if (c.has("length") && p.kind != Kind::sequence) throw c.at("length").error("only sequence has a length");
  if (const auto w = c.find("when")) {
    const auto e = w->entries();
    if (e.size() != 1) throw w->error("a condition is one parameter with its values: {depth: [2, 3]}");
    p.parent = e[0].first;
    const auto up = std::find_if(before.begin(), before.end(), [&](const Parameter& q) { return q.name == p.parent; });
    if (up == before.end()) {
      std::vector<std::string> known;
      for (const Parameter& q : before) known.push_back(q.name);
      throw e[0].second.error("no parameter '" + printable(p.parent) + "' comes before this one").fix(suggest(p.parent, known));
    }
    const std::vector<Config> values = e[0].second.is_list() ? e[0].second.items() : std::vector<Config>{e[0].second};
    for (const Config& v : values) {
      if (up->kind == Kind::integer) {
        p.when.push_back(v.as<I>());
      } else {
        const auto at = std::find(up->words.begin(), up->words.end(), v.as<std::string>());
        if (at == up->words.end()) throw v.error("'" + printable(v.as<std::string>()) + "' is no value of '" + p.parent + "'").fix(suggest(v.as<std::string>(), up->words));
        p.when.push_back(at - up->words.begin());
      }
    }
  }
  return p;
}

// Every $name below c, and the parameters of `when`.
void references(const Config& c, std::set<std::string>& used, const search::Space& space) {
  const auto note = [&](const Config& at, const std::string& name) {
    if (space.index(name) < 0) {
      std::vector<std::string> known;
      for (const Parameter& p : space.parameters()) known.push_back(p.name);
      throw at.error("there is no parameter '" + printable(name) + "'").fix(suggest(name, known));
    }
    used.insert(name);
  };
  if (c.is_scalar()) {
    if (const std::string s = c.as<std::string>(); s.size() > 1 && s[0] == '$') note(c, s.substr(1));
  } else if (c.is_list()) {
    for (const Config& e : c.items()) references(e, used, space);
  } else if (c.is_map()) {
    for (const auto& [k, e] : c.entries()) {
      if (k == "when" && e.is_map() && c.has("layers"))
        for (const auto& [name, v] : e.entries()) note(v, name);
      references(e, used, space);
    }
  }
}

std::string value_of(const Config& c, const search::Space& space, const Point& p, const std::string& name) {
  const int i = space.index(name);
  if (i < 0) throw c.error("there is no parameter '" + printable(name) + "'");
  const auto at = static_cast<std::size_t>(i);
  if (std::holds_alternative<std::monostate>(p.at[at])) throw c.error("the parameter '" + name + "' is used where it is not active");
  const Parameter& q = space.parameters()[at];
  std::string s = space.value_text(p, at);
  if (q.kind == Kind::integer || q.kind == Kind::real) return s;
  if (q.kind == Kind::permutation || q.kind == Kind::sequence) {
    std::string l = "[";
    for (std::size_t b = 0; b < s.size();) {
      const std::size_t e = std::min(s.find(' ', b), s.size());
      l += (l.size() > 1 ? "," : "") + s.substr(b, e - b);
      b = e + 1;
    }
    return l + "]";
  }
  // Words that are numbers or flags stay so.
  const Config w = Config::parse(s, "value");
  return is_number(w) || is_flag(w) ? s : json_string(s);
}

void expand_into(std::string& out, const Config& c, const search::Space& space, const Point& p);

void expand_items(std::vector<std::string>& items, const Config& list, const search::Space& space, const Point& p) {
  for (const Config& e : list.items()) {
    if (e.is_map() && e.has("layers") && (e.has("when") || e.has("repeat"))) {
      e.only({"when", "repeat", "layers"});
      bool enters = true;
      if (const auto w = e.find("when"))
        for (const auto& [name, v] : w->entries()) {
          const int i = space.index(name);
          if (i < 0) throw v.error("there is no parameter '" + printable(name) + "'");
          const std::string now = space.value_text(p, static_cast<std::size_t>(i));
          const std::vector<Config> values = v.is_list() ? v.items() : std::vector<Config>{v};
          enters = enters && std::any_of(values.begin(), values.end(), [&](const Config& x) { return x.as<std::string>() == now; });
        }
      I times = enters ? 1 : 0;
      if (const auto r = e.find("repeat"); r && enters) {
        const std::string s = r->as<std::string>();
        const auto n = parse_int(s.size() > 1 && s[0] == '$' ? value_of(*r, space, p, s.substr(1)) : s);
        if (!n || *n < 0 || *n > 1000) throw r->error("a number of repetitions from 0 to 1000");
        times = *n;
      }
      for (I t = 0; t < times; ++t) expand_items(items, e.at("layers"), space, p);
      continue;
    }
    std::string s;
    expand_into(s, e, space, p);
    items.push_back(std::move(s));
  }
}

void expand_into(std::string& out, const Config& c, const search::Space& space, const Point& p) {
  if (c.is_null()) {
    out += "null";
  } else if (c.is_scalar()) {
    const std::string s = c.as<std::string>();
    if (s.size() > 1 && s[0] == '$') out += value_of(c, space, p, s.substr(1));
    else out += is_number(c) || is_flag(c) ? s : json_string(s);
  } else if (c.is_list()) {
    std::vector<std::string> items;
    expand_items(items, c, space, p);
    out += '[';
    for (std::size_t i = 0; i < items.size(); ++i) out += (i ? "," : "") + items[i];
    out += ']';
  } else {
    out += '{';
    bool first = true;
    for (const auto& [k, v] : c.entries()) {
      if (!first) out += ',';
      first = false;
      out += json_string(k) + ":";
      expand_into(out, v, space, p);
    }
    out += '}';
  }
}

// The same text for the same meaning, whatever the layout of the file; $names stay.
std::string canonical(const Config& c) {
  if (c.is_null()) return "null";
  if (c.is_scalar()) return is_number(c) || is_flag(c) ? c.as<std::string>() : json_string(c.as<std::string>());
  std::string s;
  if (c.is_list()) {
    for (const Config& e : c.items()) s += (s.empty() ? "[" : ",") + canonical(e);
    return s.empty() ? "[]" : s + "]";
  }
  for (const auto& [k, v] : c.entries()) s += (s.empty() ? "{" : ",") + json_string(k) + ":" + canonical(v);
  return s.empty() ? "{}" : s + "}";
}

std::uint64_t bytes_of(const Config& c) {
  const std::string s = c.as<std::string>();
  double v = 0;
  const auto r = std::from_chars(s.data(), s.data() + s.size(), v);
  const std::string_view unit = std::string_view(s).substr(static_cast<std::size_t>(r.ptr - s.data()));
  const double k = unit == "G" ? 1 << 30 : unit == "M" ? 1 << 20 : unit.empty() ? 1 : 0;
  if (r.ec != std::errc() || !(v * k >= 1 << 20) || v * k > 1e15) throw c.error("an amount of memory of 1M or more, as in 4G");
  return static_cast<std::uint64_t>(v * k);
}

struct Lowered {
  ir::Graph graph;
  plan::StageGraph stages;
};
Lowered lowered(const ir::Graph& model, const std::string& input_format) {
  Lowered r{hardware_graph(model, input_format), {}};
  const ir::ExactProgram e = ir::lower_exact(r.graph, 64);
  for (const ir::Step& st : e.steps)
    if (auto* f = std::get_if<ir::FloatOp>(&st.params)) {
      const ir::Node& n = e.graph->nodes[static_cast<std::size_t>(f->node)];
      if (ir::op_of(*e.graph, n).closure == ir::Closure::linear)
        throw Error(Exit::no, fmt::format("{} works on floats: hardware works on integer codes", e.graph->describe(n)))
            .fix("give the input a format (input_format: uint8/255), or quantise the model");
    }
  r.stages = plan::stages_from(e, "net");
  return r;
}

bool foldable(const plan::Layer& l) { return l.kind == plan::LayerKind::dense || l.kind == plan::LayerKind::depthwise || l.kind == plan::LayerKind::pool; }

std::vector<std::string> divisors(I n) {
  std::vector<std::string> r;
  for (I d = 1; d <= n; ++d)
    if (n % d == 0) r.push_back(std::to_string(d));
  return r;
}

// The program that runs children: ourselves.
fs::path program() {
  std::error_code ec;
  if (const char* p = std::getenv("TANDEM_PROGRAM"); p && *p) return fs::absolute(p, ec);
  const fs::path self = fs::read_symlink("/proc/self/exe", ec);
  if (self.filename() == "tandem") return self;
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&program), &info) && info.dli_fname) {
    const fs::path folder = fs::weakly_canonical(info.dli_fname, ec).parent_path();
    for (const char* place : {"tandem", "../bin/tandem", "../../bin/tandem"})
      if (fs::exists(folder / place, ec)) return (folder / place).lexically_normal();
  }
  throw Error(Exit::tool_missing, "the program tandem is not found beside its library").fix("set TANDEM_PROGRAM to its path");
}

}  // namespace

std::string expand(const Config& c, const search::Space& space, const Point& p) {
  std::string s;
  expand_into(s, c, space, p);
  return s;
}

std::vector<search::MetricInfo> study_metrics(bool trained) {
  std::vector<search::MetricInfo> m{{"lut4", "LUT4", "look-up tables of the folded design, without the shell; iCE40"},
                                    {"lut", "LUT", "the same in the family's own kind (LUT4, LUT6); any family"},
                                    {"bram", "blocks", "block RAMs of the family (iCE40: 4 kbit, UltraScale+: 18 kbit)"},
                                    {"dsp", "multipliers", "DSP blocks"},
                                    {"cycles", "cycles", "per frame, in steady state"},
                                    {"latency", "cycles", "first input to first output"},
                                    {"latency_us", "us", "the same in time, at the clock"},
                                    {"fps", "frames/s", "throughput at the clock"},
                                    {"clock", "MHz", "asked for"},
                                    {"weights", "", "number of weights"},
                                    {"weight_bits", "bit", "all weights together"},
                                    {"macs", "", "multiply-accumulates per frame"}};
  if (trained) m.insert(m.begin(), {"accuracy", "%", "of the exact model on the validation part"});
  return m;
}

Study read_study(const Config& c, const fs::path& folder, std::optional<std::uint64_t> seed, const Limits& limits) {
  c.only({"name", "model", "train", "input_format", "space", "hardware", "objectives", "constraints", "searcher", "epochs", "front", "limits"});
  Study s;
  s.folder = folder;
  s.name = c.optional_or<std::string>("name", "study");
  s.input_format = c.optional_or<std::string>("input_format", "");
  if (c.has("model") == c.has("train")) throw c.error("a study has either 'model', a quantised ONNX file, or 'train', a family of networks").fix("tandem new study --out study.yaml writes one to start from");
  std::string model_hash;
  if (c.has("model")) {
    s.model = c.required<std::string>("model");
    if (std::error_code ec; !fs::is_regular_file(folder / s.model, ec))
      throw c.at("model").error(fmt::format("there is no file '{}'", printable(s.model))).expected("an ONNX file, relative to the folder of the study");
    if (c.has("epochs")) throw c.at("epochs").error("only a study with 'train' has epochs");
  } else {
    s.train = c.at("train");
    s.train->only({"data", "task", "validation", "model", "quantisation", "train"});
  }
  if (auto h = c.find("hardware")) {
    h->only({"target", "clock", "speedup", "cycles", "throughput", "folding"});
    int goals = 0;
    for (const char* k : {"speedup", "cycles", "throughput", "folding"}) goals += h->has(k);
    if (goals > 1) throw h->error("one of speedup, cycles, throughput and folding is enough");
    if (const auto f = h->find("folding")) {
      if (f->as<std::string>() != "layers") throw f->error("'layers' is the only word here");
      if (s.train) throw f->error("the layers are not known before training: use speedup, cycles or throughput");
      s.layer_folding = true;
    }
    s.hardware = h;
  }

  std::vector<Parameter> parameters;
  if (const auto sp = c.find("space"))
    for (const auto& [name, v] : sp->entries()) {
      parameters.push_back(parse_parameter(name, v, parameters));
      try {
        search::Space checked(parameters);
      } catch (const Error& e) {
        throw v.error(e.message());
      }
    }
  std::set<std::string> own;
  if (s.layer_folding) {
    const Lowered l = lowered(ir::read_model(folder / s.model, {.limits = limits}), s.input_format);
    for (const plan::Layer& x : l.stages.layers) {
      if (!foldable(x)) continue;
      const auto add = [&](const char* what, I n) {
        if (n < 2) return;
        Parameter p;
        p.name = x.name + what;
        p.kind = Kind::ordinal;
        p.words = divisors(n);
        own.insert(p.name);
        parameters.push_back(std::move(p));
      };
      add(".pe", plan::most_pe(x));
      if (x.kind == plan::LayerKind::dense) add(".simd", plan::most_simd(x));
    }
  }
  if (parameters.empty()) throw c.error("the study varies nothing: 'space' needs a parameter").fix("space: {speedup: [1, 2, 4, 8]}, and hardware: {speedup: $speedup}");
  s.space = search::Space(std::move(parameters));
  std::set<std::string> used = own;
  if (s.train) references(*s.train, used, s.space);
  if (s.hardware) references(*s.hardware, used, s.space);
  for (const Parameter& p : s.space.parameters()) {
    // A condition is a use too.
    if (!p.parent.empty()) used.insert(p.parent);
  }
  for (const Parameter& p : s.space.parameters())
    if (!used.count(p.name)) throw c.at("space").at(p.name).error("nothing uses this parameter").fix(fmt::format("write ${} where its value belongs, in 'hardware'{}", p.name, s.train ? " or 'train'" : ""));

  const auto known = study_metrics(s.train.has_value());
  const auto metric = [&](const Config& at, const std::string& name) {
    std::vector<std::string> names;
    for (const auto& m : known) names.push_back(m.name);
    if (std::find(names.begin(), names.end(), name) == names.end()) throw at.error("there is no figure '" + printable(name) + "'").fix(suggest(name, names));
  };
  for (const auto& [name, v] : c.at("objectives").entries()) {
    metric(v, name);
    const std::string way = v.as<std::string>();
    if (way != "minimise" && way != "maximise") throw v.error("'" + printable(way) + "' is no direction").fix(suggest(way, {"minimise", "maximise"}));
    s.problem.objectives.push_back({name, way == "maximise"});
  }
  if (s.problem.objectives.empty()) throw c.at("objectives").error("a study needs an objective");
  if (const auto k = c.find("constraints"))
    for (const auto& [name, v] : k->entries()) {
      metric(v, name);
      const std::string text = v.as<std::string>();
      const bool most = text.starts_with("<="), least = text.starts_with(">=");
      std::string_view rest = std::string_view(text).substr(most || least ? 2 : 0);
      while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
      const auto bound = parse_double(rest);
      if ((!most && !least) || !bound) throw v.error("a constraint is \"<= number\" or \">= number\"");
      s.problem.constraints.push_back({name, most, *bound});
    }
  if (const auto h = c.find("hardware"))
    if (const auto t = h->find("target"); t && t->as<std::string>().find('$') == std::string::npos) {
      const hardware::Target target = hardware::find_target(t->as<std::string>());
      for (const char* part : {"objectives", "constraints"})
        if (const auto k = c.find(part); k && plan::family_of(target.family) != plan::Family::ice40)
          if (const auto four = k->find("lut4")) throw four->error(fmt::format("{} has no LUT4", target.name)).fix("say lut: look-up tables in the family's own kind");
    }
  if (const auto r = c.find("searcher")) {
    r->only({"name", "population", "trials", "seed"});
    s.searcher = r->optional_or<std::string>("name", s.searcher);
    try {
      search::find_searcher(s.searcher);
    } catch (const Error& e) {
      throw r->at("name").error(e.message()).fix(e.fix());
    }
    s.population = static_cast<std::size_t>(r->integer("population", 2, 100000, static_cast<I>(s.population)));
    s.trials = static_cast<std::size_t>(r->integer("trials", 1, 100000000, static_cast<I>(s.trials)));
    s.seed = r->optional_or<std::uint64_t>("seed", 0);
  }
  if (seed) s.seed = *seed;
  if (s.train) {
    const auto e = c.find("epochs");
    const I own_epochs = [&]() -> I {
      const auto t = s.train->find("train");
      return t ? t->integer("epochs", 1, 100000, 30) : 30;
    }();
    if (e) e->only({"search", "front"});
    s.epochs_search = static_cast<int>(e ? e->integer("search", 1, 100000, own_epochs) : own_epochs);
    s.epochs_front = static_cast<int>(e ? e->integer("front", 1, 100000, s.epochs_search) : s.epochs_search);
  }
  if (const auto f = c.find("front")) {
    f->only({"build", "most"});
    s.front = f->choice("build", {"none", "verify", "place"}, "none");
    s.front_most = static_cast<int>(f->integer("most", 1, 1000, 3));
  }
  if (const auto l = c.find("limits")) {
    l->only({"seconds", "memory"});
    s.train_seconds = l->real("seconds", 1, 1e7, s.train_seconds);
    if (const auto m = l->find("memory")) s.train_memory = bytes_of(*m);
  }
  // Everything that the figures depend on.
  s.text = "{";
  for (const char* k : {"model", "train", "input_format", "space", "hardware", "objectives", "constraints", "epochs", "front", "limits"})
    if (const auto v = c.find(k)) s.text += fmt::format("{}\"{}\":{}", s.text.size() > 1 ? "," : "", k, canonical(*v));
  s.text += fmt::format(",\"searcher\":{{\"name\":\"{}\",\"population\":{},\"seed\":{}}}}}", s.searcher, s.population, s.seed);
  return s;
}

StudyEnvironment::StudyEnvironment(const Study& s, fs::path out, const Limits& limits) : s_(s), out_(std::move(out)), limits_(limits) {
  std::uint64_t h = fnv1a(s.text);
  h = fnv1a(TANDEM_VERSION, h);
  if (s.train) {
    std::string name = s.train->required<std::string>("data");
    std::error_code ec;
    if (const auto& named = data::list_datasets(); std::none_of(named.begin(), named.end(), [&](const auto& n) { return n.name == name; }) && fs::exists(s.folder / name, ec))
      name = (s.folder / name).string();
    const data::Dataset d = data::open(name, limits);
    for (const Tensor* t : {&d.x, &d.y}) h = fnv1a({static_cast<const char*>(t->raw()), t->bytes()}, h);
    if (const auto m = s.train->at("model").find("file")) h = fnv1a(read_file(s.folder / m->as<std::string>(), limits), h);
    // A recipe that is wrong is wrong before the first training.
    Point first;
    Rng rng(0, "check");
    first = s.space.sample(rng);
    const std::string text = recipe(first, kSearch);
    try {
      train::read_recipe(Config::parse(text, "recipe"), s.folder, s.seed, limits);
    } catch (const Error& e) {
      throw Error(e.code(), "the network of the point " + s.space.text(first) + ": " + e.message()).at("train").expected(e.expected()).fix(e.fix());
    }
  } else {
    h = fnv1a(read_file(s.folder / s.model, limits), h);
  }
  for (const char* k : {"target"})
    if (s.hardware)
      if (const auto t = s.hardware->find(k); t && !t->as<std::string>().starts_with("$")) hardware::find_target(t->as<std::string>());
  version_ = hex16(h);
}

std::vector<search::MetricInfo> StudyEnvironment::metrics() const { return study_metrics(s_.train.has_value()); }

std::string StudyEnvironment::recipe(const Point& p, int fidelity) const {
  const std::string epochs = std::to_string(fidelity == kSearch ? s_.epochs_search : s_.epochs_front);
  // `with` counts from the root of the study's file.
  Config c = s_.train->with("train.train.epochs", epochs);
  if (!c.at("train").at("train").has("threads")) c = c.with("train.train.threads", "1");
  return expand(c.at("train"), s_.space, p);
}

std::string StudyEnvironment::group(const Point& p, int fidelity) const {
  if (!s_.train) return fidelity == kBuild ? "build" : "";  // builds share the machine's tools: one after the other
  return recipe(p, fidelity);
}

fs::path StudyEnvironment::trained(const std::string& recipe, std::uint64_t seed, const Cancel& cancel) const {
  const std::string key = search::key_of_text(fmt::format("{} {} {}", seed, version_, recipe)).hex();
  const fs::path folder = out_ / "networks" / key;
  // Written whole or not at all, and checked: the model's bytes by the hash beside them.
  const auto whole = [&] {
    std::error_code ec;
    if (!fs::exists(folder / "result.json", ec) || !fs::exists(folder / "model.onnx", ec)) return false;
    try {
      const Config r = Config::read(folder / "result.json");
      return r.required<std::string>("model") == hex16(fnv1a(read_file(folder / "model.onnx"))) && r.required<std::string>("key") == key;
    } catch (const Error&) {
      return false;
    }
  };
  if (whole()) return folder;

  static std::atomic<unsigned> serial{0};
  const fs::path work = out_ / "networks" / fmt::format("{}.{}-{}.tmp", key, ::getpid(), serial++);
  struct Clean {
    fs::path p;
    ~Clean() {
      std::error_code ec;
      fs::remove_all(p, ec);
    }
  } clean{work};
  fs::create_directories(work);
  tool::Process child;
  child.argv = {program().string(), "explore-worker"};
  child.folder = work;
  child.seconds = s_.train_seconds;
  child.memory_bytes = s_.train_memory;
  child.env["TANDEM_SHARE"] = share_file("data").parent_path().string();
  child.env["OMP_NUM_THREADS"] = "1";
  if (const char* d = std::getenv("TANDEM_DATA"); d && *d) {
    child.env["TANDEM_DATA"] = d;
    child.readable.emplace_back(d);
  }
  child.readable.push_back(share_file("data").parent_path());
  std::error_code ec;
  const fs::path base = fs::absolute(s_.folder.empty() ? fs::path(".") : s_.folder, ec);
  const Config asked = Config::parse(recipe, "recipe");
  for (const auto& file : {asked.required<std::string>("data"), asked.at("model").optional_or<std::string>("file", "")})
    if (!file.empty() && fs::exists(base / file, ec)) child.readable.push_back(base / file);
  write_file(work / "task.yaml", fmt::format("{{\"key\":\"{}\",\"seed\":{},\"folder\":{},\"recipe\":{}}}\n", key, seed, json_string(base.string()), recipe));
  tool::ProcessResult r;
  for (int attempt = 0; attempt < 2; ++attempt) {
    r = child.run(cancel);
    if (r.ok() || r.timed_out || r.exit_code == static_cast<int>(Exit::no) || r.exit_code == static_cast<int>(Exit::bad_input)) break;
  }
  if (r.exit_code == static_cast<int>(Exit::tool_missing)) throw Error(Exit::tool_missing, "the learning library cannot be opened").fix("`tandem doctor` says what is missing; " + r.summary());
  if (!r.ok() || !fs::exists(work / "result.json", ec)) {
    std::string why = r.summary();
    if (fs::exists(work / "error.txt", ec)) why = read_file(work / "error.txt");
    throw Error(Exit::no, "training: " + why);
  }
  fs::remove(work / "task.yaml", ec);
  fs::remove_all(folder, ec);
  fs::rename(work, folder, ec);
  if (!whole()) throw Error(Exit::no, "training: its result is not whole");
  return folder;
}

int explore_worker() {
  // Results and errors go through files: what libraries print proves nothing.
  try {
    ThreadBudget::set(1);
    const Config task = Config::read("task.yaml");
    const std::string key = task.required<std::string>("key");
    const train::Recipe recipe = train::read_recipe(task.at("recipe"), task.required<std::string>("folder"), task.required<std::uint64_t>("seed"));
    const train::RunResult r = train::run_recipe(recipe, {});
    const std::string model = ir::onnx_bytes(r.fit.best);
    write_file("model.onnx", model);
    JsonWriter j;
    j.object().field("format", "tandem.network").field("version", 1).field("key", key).field("model", hex16(fnv1a(model)));
    j.field("epochs", static_cast<I>(r.fit.curves.size())).field("best_epoch", r.fit.best_epoch).field("library", r.fit.library).field("seconds", r.fit.seconds);
    if (r.valid) {
      const Metric& m = r.valid->metric;
      const double k = m.unit == "%" ? 1 : 100;
      j.field("accuracy", k * m.value).field("source", m.source);
      if (m.low && m.high) j.field("low", k * *m.low).field("high", k * *m.high);
    }
    write_file("result.json", j.end().text());
    return 0;
  } catch (const Error& e) {
    try {
      write_file("error.txt", e.message());
    } catch (const Error&) {  // the exit code is what remains
    }
    return static_cast<int>(e.code());
  } catch (const std::bad_alloc&) {
    write_file("error.txt", "out of memory");
    return static_cast<int>(Exit::limit);
  }
}

std::shared_ptr<const StudyEnvironment::Network> StudyEnvironment::network(const Point& p, int fidelity, std::uint64_t seed, const Cancel& cancel) const {
  const std::string key = s_.train ? recipe(p, fidelity) : "model";
  {
    const std::lock_guard lock(mutex_);
    if (const auto it = networks_.find(key); it != networks_.end()) return it->second;
  }
  auto n = std::make_shared<Network>();
  ir::Graph model;
  if (s_.train) {
    const fs::path folder = trained(key, seed, cancel);
    model = ir::read_onnx(folder / "model.onnx", limits_);
    const Config r = Config::read(folder / "result.json");
    if (r.has("accuracy")) {
      n->accuracy = Metric{r.required<double>("accuracy"), "%", Fidelity::executed, r.required<std::string>("source"), r.optional<double>("low"), r.optional<double>("high")};
    }
  } else {
    model = ir::read_model(s_.folder / s_.model, {.limits = limits_});
  }
  Lowered l = lowered(model, s_.input_format);
  n->graph = std::move(model);
  n->stages = std::move(l.stages);
  for (const plan::Layer& x : n->stages.layers) {
    n->weights += static_cast<I>(x.weights.size());
    n->weight_bits += static_cast<I>(x.weights.size()) * x.weight_bits;
    n->macs += x.macs;
  }
  const std::lock_guard lock(mutex_);
  if (networks_.size() > 256) networks_.clear();
  networks_[key] = n;
  return n;
}

bool StudyEnvironment::speaks_of(std::string_view metric) const {
  const auto in = [&](const auto& list) { return std::any_of(list.begin(), list.end(), [&](const auto& x) { return x.metric == metric; }); };
  return in(s_.problem.objectives) || in(s_.problem.constraints);
}

StudyEnvironment::Hardware StudyEnvironment::hardware_of(const Point& p) const {
  Hardware h;
  const Config c = s_.hardware ? Config::parse(expand(*s_.hardware, s_.space, p), "hardware") : Config::parse("", "hardware");
  const std::string name = c.optional_or<std::string>("target", "up5k");
  {
    const std::lock_guard lock(mutex_);
    auto it = targets_.find(name);
    if (it == targets_.end()) it = targets_.emplace(name, hardware::find_target(name)).first;
    h.target = it->second;
  }
  if (plan::family_of(h.target.family) != plan::Family::ice40) {
    if (speaks_of("lut4")) throw bad_input("{} has no LUT4", h.target.name).at("study: lut4").expected("a figure of that family").fix("say lut: look-up tables in the family's own kind");
  }
  h.clock = c.real("clock", 1e-3, 1e5, h.target.clock_mhz > 0 ? h.target.clock_mhz : 12);
  h.speedup = c.has("speedup") ? c.real("speedup", 1e-6, 1e9) : 0;
  h.throughput = c.has("throughput") ? c.real("throughput", 1e-9, 1e12) : 0;
  h.cycles = c.has("cycles") ? c.integer("cycles", 1, I{1} << 60) : 0;
  return h;
}

search::Result StudyEnvironment::evaluate(const Point& p, int fidelity, std::uint64_t seed, const Cancel& cancel) const {
  search::Result r;
  const Hardware h = hardware_of(p);
  const auto net = network(p, fidelity, seed, cancel);
  const plan::StageGraph& g = net->stages;
  std::vector<plan::StageShape> shapes;
  const map::Budget budget = budget_of(h.target);
  const auto helps = [&](const map::Estimate& e) { return budget.dsp > 0 && e.cost.dsp > 0 && e.cost.dsp <= budget.dsp; };
  const std::string fits = "fits " + budget.device;

  map::Choice choice;
  I goal = h.cycles;
  if (h.throughput > 0) goal = std::max<I>(1, static_cast<I>(std::floor(h.clock * 1e6 / h.throughput)));
  if (h.speedup > 0) goal = std::max<I>(1, static_cast<I>(std::floor(static_cast<double>(map::evaluate(g, plan::smallest_folding(g), shapes, plan::calibration(plan::family_of(h.target.family))).interval) / h.speedup)));
  if (s_.layer_folding) {
    choice.folding = plan::smallest_folding(g);
    for (std::size_t i = 0; i < g.layers.size(); ++i) {
      const auto value = [&](const char* what, I& to) {
        const int at = s_.space.index(g.layers[i].name + what);
        if (at >= 0) to = parse_int(s_.space.value_text(p, static_cast<std::size_t>(at))).value_or(1);
      };
      value(".pe", choice.folding.of[i].pe);
      value(".simd", choice.folding.of[i].simd);
    }
    plan::check_folding(g, choice.folding);
  } else if (goal > 0) {
    // Without regard to the size, so that what does not fit is measured by how much.
    map::Budget large = budget;
    large.lut4 = large.bram = 1e15;
    try {
      choice = map::choose_folding(g, large, goal);
    } catch (const Error& e) {
      if (e.code() != Exit::no) throw;
      choice = map::choose_folding(g, large, 0);
      r.violations.emplace_back("the speed asked for", static_cast<double>(choice.estimate.interval) / static_cast<double>(goal) - 1);
      r.reason = e.message();
    }
  } else {
    try {
      choice = map::choose_folding(g, budget, 0);
    } catch (const Error& e) {
      if (e.code() != Exit::no) throw;
      choice.folding = plan::smallest_folding(g);
    }
  }
  const plan::Calibration& family = plan::calibration(budget.family);
  choice.estimate = map::evaluate(g, choice.folding, shapes, family);
  const map::Estimate& e = choice.estimate;
  choice.uses_dsp = helps(e);
  if (const std::string why = map::why_not(g, e, budget, choice.uses_dsp, shapes); !why.empty()) {
    const double lut = (e.lut4(choice.uses_dsp) + budget.reserved_lut4) / (budget.lut4 * budget.fill), bram = budget.bram > 0 ? e.cost.bram / budget.bram : e.cost.bram + 1;
    r.violations.emplace_back(fits, std::max({lut - 1, bram - 1, 1e-9}));
    r.reason = why;
  }

  // One figure under one name: lut4 on iCE40, unless the study speaks of lut.
  std::vector<const char*> luts;
  if (budget.family == plan::Family::ice40 && (speaks_of("lut4") || !speaks_of("lut"))) luts.push_back("lut4");
  if (luts.empty() || speaks_of("lut")) luts.push_back("lut");
  const auto add = [&](std::string name, double value, std::string unit, std::string source) { r.metrics.emplace_back(std::move(name), Metric{value, std::move(unit), Fidelity::estimated, std::move(source), {}, {}}); };
  const std::string closed = "closed form of the slowest stage", fitted = std::string(family.source) + ", without the shell", counted = "counted";
  if (net->accuracy) r.metrics.emplace_back("accuracy", *net->accuracy);
  for (const char* name : luts) add(name, std::round(e.lut4(choice.uses_dsp)), std::string(family.lut), fitted);
  add("bram", e.cost.bram, "blocks", fitted);
  add("dsp", choice.uses_dsp ? e.cost.dsp : 0, "multipliers", fitted);
  add("cycles", static_cast<double>(e.interval), "cycles", closed);
  add("latency", static_cast<double>(e.latency), "cycles", "closed form, first input to first output beat");
  add("latency_us", static_cast<double>(e.latency) / h.clock, "us", "closed form, first input to first output beat");
  add("fps", h.clock * 1e6 / static_cast<double>(std::max<I>(1, e.interval)), "frames/s", closed);
  add("clock", h.clock, "MHz", "asked for");
  add("weights", static_cast<double>(net->weights), "", counted);
  add("weight_bits", static_cast<double>(net->weight_bits), "bit", counted);
  add("macs", static_cast<double>(net->macs), "", counted);
  if (fidelity != kBuild || !r.violations.empty()) return r;

  BuildParams b;
  b.name = s_.name;
  b.target = h.target;
  b.clock_mhz = h.clock;
  b.input_format = s_.input_format;
  b.folding = plan::to_json(g, choice.folding);
  b.seed = seed;
  b.place = s_.front == "place";
  const std::string place = "designs/" + s_.space.key(p).hex().substr(0, 12);
  b.out = out_ / place;
  std::optional<data::Dataset> test;
  const tasks::Task* task = nullptr;
  if (s_.train) {
    const Config t = Config::parse(recipe(p, fidelity), "recipe");
    std::string name = t.required<std::string>("data");
    std::error_code ec;
    if (fs::exists(s_.folder / name, ec)) name = (s_.folder / name).string();
    data::Dataset d = data::open(name, limits_);
    if (std::find(d.part.begin(), d.part.end(), data::Part::test) != d.part.end()) {
      test = data::select(d, data::Part::test);
      task = &tasks::find_task(t.optional_or<std::string>("task", "classification"));
      const Tensor x = task->prepare(*test);
      Shape shape{x.shape()[0]};
      shape.insert(shape.end(), g.input_shape.begin(), g.input_shape.end());
      b.frames = x.reshaped(shape);
      b.frames_source = fmt::format("{}, test split, n = {}", test->name, test->size());
    }
  }
  const BuildResult built = build(net->graph, b, cancel);
  const auto take = [&](std::string_view from, std::string to, double factor = 1) {
    for (auto it = built.metrics.rbegin(); it != built.metrics.rend(); ++it)
      if (it->name == from && it->metric.fidelity != Fidelity::estimated) {
        Metric m = it->metric;
        m.value *= factor;
        for (auto& [name, old] : r.metrics)
          if (name == to) {
            old = m;
            return;
          }
        r.metrics.emplace_back(std::move(to), m);
        return;
      }
  };
  for (const char* name : luts) take(budget.family == plan::Family::ice40 ? "LUT4" : "LUT", name);
  take("BRAM", "bram");
  take("DSP", "dsp");
  take("cycles per frame", "cycles");
  take("throughput", "fps");
  take("latency", "latency");
  take("logic cells", "logic_cells");
  take("Fmax", "fmax");
  take("mismatches", "mismatches");
  if (test && task && built.ok) {
    const tasks::Score sc = task->score(built.values, *test, {.data = test->name, .split = "test", .seed = {}, .fidelity = Fidelity::rtl_simulated});
    Metric m = sc.metric;
    const double k = m.unit == "%" ? 1 : 100;
    m.value *= k;
    if (m.low) m.low = *m.low * k;
    if (m.high) m.high = *m.high * k;
    m.unit = "%";
    r.metrics.emplace_back("test_accuracy", m);
  }
  if (!built.ok) {
    r.violations.emplace_back("builds", 1);
    r.reason = built.reason;
  }
  r.artefacts.push_back({place, built.hash});
  return r;
}

}  // namespace tandem::flow
