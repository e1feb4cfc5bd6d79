#include "tandem/api/tandem.h"

#include <cstring>
#include <limits>
#include <map>
#include <new>

#include "tandem/base/config.h"
#include "tandem/base/json.h"
#include "tandem/base/nearest.h"
#include "tandem/exec/exec.h"
#include "tandem/flow/build.h"
#include "tandem/flow/doctor.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/model_file.h"
#include "tandem/ir/op.h"

struct tandem_model {
  std::string path;
  tandem::ir::Graph graph;
};
struct tandem_result {
  std::vector<std::string> names, dtypes;
  std::vector<tandem::Tensor> tensors;
  std::vector<tandem_array> arrays;
};

namespace tandem {
namespace {
using namespace ir;

thread_local std::string last_error;

void remember(const Error& e) {
  try {
    last_error = JsonWriter().object().field("code", static_cast<int>(e.code())).field("message", printable(e.message())).field("where", printable(e.where()))
                     .field("expected", printable(e.expected())).field("fix", printable(e.fix())).field("text", e.full()).end().text();
  } catch (...) {  // not even the memory for a message
    last_error.clear();
  }
}

// Runs `f`; whatever it throws becomes the last error and `failed`.
template <class F, class R>
R guarded(R failed, F f) noexcept {
  try {
    last_error.clear();
    return f();
  } catch (const Error& e) {
    remember(e);
  } catch (const std::bad_alloc&) {
    remember(Error(Exit::limit, "out of memory"));
  } catch (const std::filesystem::filesystem_error& e) {
    remember(bad_input("{}", e.what()));
  } catch (const std::exception& e) {
    remember(Error(Exit::bug, std::string("unexpected: ") + e.what()));
  } catch (...) {
    remember(Error(Exit::bug, "unexpected exception of unknown type"));
  }
  return failed;
}

char* owned(const std::string& s) {
  char* p = new char[s.size() + 1];
  std::memcpy(p, s.c_str(), s.size() + 1);
  return p;
}

template <class T>
T& given(T* p, const char* what) {
  if (!p) throw bad_input("{} is NULL", what);
  return *p;
}

constexpr DType kTypes[] = {DType::f32, DType::f64, DType::i8, DType::u8, DType::i16, DType::u16, DType::i32, DType::u32, DType::i64, DType::u64, DType::boolean};
std::string name_of(DType t) { return t == DType::boolean ? "bool" : std::string(to_string(t)); }
DType dtype_named(std::string_view s) {
  for (DType t : kTypes)
    if (name_of(t) == s) return t;
  throw bad_input("'{}' is no element type", printable(s)).expected("f32, f64, i8, u8, i16, u16, i32, u32, i64, u64 or bool");
}

Tensor tensor_of(const tandem_array& a) {
  if (!a.name || !a.dtype || a.rank < 0 || a.rank > 64 || (a.rank > 0 && !a.shape)) throw bad_input("an array without name, element type or shape");
  const Shape s(a.shape, a.shape + a.rank);
  if (element_count(s) > 0 && !a.data) throw bad_input("the array '{}' has no data", printable(a.name));
  return Tensor::borrow(dtype_named(a.dtype), s, a.data);
}

Config options_of(const char* json, std::initializer_list<std::string_view> known) {
  const Config c = Config::parse(json && *json ? json : "{}", "options");
  c.only(known);
  return c;
}

tandem_result* run(const tandem_model& m, const tandem_array* inputs, std::size_t count, bool exact) {
  const Graph& g = m.graph;
  std::map<std::string, Tensor> by_name;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < count; ++i) {
    const tandem_array& a = given(inputs ? inputs + i : nullptr, "inputs");
    Tensor t = tensor_of(a);
    names.emplace_back(a.name);
    if (!by_name.emplace(a.name, std::move(t)).second) throw bad_input("two arrays are called '{}'", printable(a.name));
  }
  std::vector<Tensor> in;
  std::map<std::string, Shape> shapes;
  for (ValueId v : g.inputs) {
    const Value& x = g.values[static_cast<std::size_t>(v)];
    const auto it = by_name.find(x.name);
    if (it == by_name.end()) throw bad_input("there is no array for the input '{}'", x.name).at(m.path).fix(suggest(x.name, names));
    if (it->second.dtype() != x.type.dtype)
      throw bad_input("the array '{}' holds {}, the input takes {}", x.name, name_of(it->second.dtype()), name_of(x.type.dtype)).at(m.path).fix("convert the array");
    shapes[x.name] = it->second.shape();
    in.push_back(it->second);
  }
  if (by_name.size() != g.inputs.size()) {
    for (const auto& [k, t] : by_name)
      if (!shapes.count(k)) throw bad_input("the model has no input '{}'", printable(k)).at(m.path);
  }
  const Graph bound = bind_inputs(g, shapes);
  std::vector<Tensor> out;
  if (exact) {
    exec::Executor e(lower_exact(bound));
    out = e.run(in);
  } else {
    out = evaluate_float(bound, in);
  }
  auto r = std::make_unique<tandem_result>();
  r->tensors = std::move(out);
  for (std::size_t i = 0; i < r->tensors.size(); ++i) {
    const DType t = r->tensors[i].dtype();
    if (t == DType::f16 || t == DType::bf16) r->tensors[i] = r->tensors[i].cast(DType::f32);  // C has no name for them
    r->names.push_back(g.values[static_cast<std::size_t>(g.outputs[i])].name);
    r->dtypes.push_back(name_of(r->tensors[i].dtype()));
  }
  for (std::size_t i = 0; i < r->tensors.size(); ++i)
    r->arrays.push_back({r->names[i].c_str(), r->dtypes[i].c_str(), r->tensors[i].rank(), r->tensors[i].shape().data(), r->tensors[i].raw()});
  return r.release();
}

std::string described(const Graph& g) {
  JsonWriter j;
  j.object().field("name", g.name);
  for (const auto& [key, list] : {std::pair("inputs", &g.inputs), {"outputs", &g.outputs}}) {
    j.key(key).array();
    for (ValueId v : *list) {
      const Value& x = g.values[static_cast<std::size_t>(v)];
      j.object().field("name", x.name).field("dtype", name_of(x.type.dtype)).key("shape");
      if (!x.type.dims) {
        j.null();
      } else {
        j.array();
        for (const Dim& d : *x.type.dims) {
          if (d.known()) j.value(d.n);
          else j.value(d.symbol);
        }
        j.end();
      }
      j.end();
    }
    j.end();
  }
  return j.field("nodes", static_cast<std::int64_t>(g.nodes.size())).end().text();
}

}  // namespace
}  // namespace tandem

extern "C" {

const char* tandem_version(void) { return TANDEM_VERSION; }
const char* tandem_last_error(void) { return tandem::last_error.c_str(); }

tandem_model* tandem_load(const char* path) {
  return tandem::guarded(static_cast<tandem_model*>(nullptr), [&] {
    auto m = std::make_unique<tandem_model>();
    m->path = &tandem::given(path, "path");
    m->graph = tandem::ir::read_model(m->path);
    try {
      tandem::ir::verify(m->graph);
    } catch (tandem::Error& e) {
      e.at(m->path + (e.where().empty() ? "" : ": " + e.where()));
      throw;
    }
    return m.release();
  });
}
void tandem_free(tandem_model* m) { delete m; }

char* tandem_describe(const tandem_model* m) {
  return tandem::guarded(static_cast<char*>(nullptr), [&] {
    tandem::ir::Graph g = tandem::given(m, "model").graph;
    try {
      tandem::ir::infer_shapes(g);  // outputs then have shapes
    } catch (const tandem::Error&) {  // with free extents not every shape can be known
    }
    return tandem::owned(tandem::described(g));
  });
}

tandem_result* tandem_run(const tandem_model* m, const tandem_array* inputs, size_t count, int exact) {
  return tandem::guarded(static_cast<tandem_result*>(nullptr), [&] { return tandem::run(tandem::given(m, "model"), inputs, count, exact != 0); });
}
size_t tandem_result_count(const tandem_result* r) { return r ? r->arrays.size() : 0; }
const tandem_array* tandem_result_array(const tandem_result* r, size_t i) { return r && i < r->arrays.size() ? &r->arrays[i] : nullptr; }
void tandem_result_free(tandem_result* r) { delete r; }

char* tandem_doctor(const tandem_model* m, const char* options) {
  return tandem::guarded(static_cast<char*>(nullptr), [&] {
    const tandem_model& model = tandem::given(m, "model");
    const tandem::Config c = tandem::options_of(options, {"target", "input_format"});
    tandem::flow::DoctorParams p;
    if (const auto t = c.optional<std::string>("target")) p.target = tandem::hardware::find_target(*t);
    p.input_format = c.optional_or<std::string>("input_format", "");
    return tandem::owned(tandem::flow::to_json(tandem::flow::examine(model.graph, p), model.path, p.target ? p.target->name : ""));
  });
}

char* tandem_build(const tandem_model* m, const char* out, const char* options) {
  return tandem::guarded(static_cast<char*>(nullptr), [&] {
    const tandem_model& model = tandem::given(m, "model");
    const tandem::Config c = tandem::options_of(options, {"target", "clock", "throughput", "input_format", "frames", "seed", "place", "verify", "overwrite"});
    const double most = 1e12;
    tandem::flow::BuildParams p;
    p.name = std::filesystem::path(model.path).stem().string();
    p.target = tandem::hardware::find_target(c.optional_or<std::string>("target", "up5k"));
    p.clock_mhz = c.real("clock", 0, most, 0);
    p.throughput = c.real("throughput", 0, most, 0);
    p.input_format = c.optional_or<std::string>("input_format", "");
    p.random_frames = c.integer("frames", 1, 1000000, 64);
    p.seed = static_cast<std::uint64_t>(c.integer("seed", 0, std::numeric_limits<std::int64_t>::max(), 0));
    p.place = c.optional_or<bool>("place", true);
    p.verify = c.optional_or<bool>("verify", true);
    p.overwrite = c.optional_or<bool>("overwrite", false);
    p.out = &tandem::given(out, "out");
    return tandem::owned(tandem::flow::to_json(tandem::flow::build(model.graph, p)));
  });
}

void tandem_string_free(char* s) { delete[] s; }

}  // extern "C"
