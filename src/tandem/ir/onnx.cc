#include "tandem/ir/onnx.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <unordered_map>
#include <unordered_set>

#define ONNX_ML 1
#define ONNX_NAMESPACE onnx
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/stubs/logging.h>
#include <onnx/onnx_pb.h>

#include "tandem/base/file.h"
#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {

constexpr std::string_view kQonnx = "qonnx.custom_op.general";
constexpr int kOpset = 17, kOldest = 15, kNewest = 22;

// ---- counting before parsing ------------------------------------------------------------------
// A walk over the wire format that knows which fields hold messages. It bounds what the parser would
// allocate: 20 MB of empty nodes become 1.5 GB of objects.

enum Kind : int { kText, kModel, kGraph, kNode, kAttribute, kTensor, kValueInfo, kType, kTensorType, kShape, kDim, kEntry, kAnnotation,
                  kSparse, kFunction, kTraining, kNested, kKinds };

Kind child_of(Kind parent, int field) {
  switch (parent) {
    case kModel: return field == 7 ? kGraph : field == 8 || field == 14 ? kEntry : field == 20 ? kTraining : field == 25 ? kFunction : kText;
    case kGraph:
      return field == 1 ? kNode : field == 5 ? kTensor : field >= 11 && field <= 13 ? kValueInfo : field == 14 ? kAnnotation : field == 15 ? kSparse : kText;
    case kNode: return field == 5 ? kAttribute : kText;
    case kAttribute:
      return field == 5 || field == 10 ? kTensor : field == 6 || field == 11 ? kGraph : field == 14 || field == 15 ? kType : field == 22 || field == 23 ? kSparse : kText;
    case kTensor: return field == 13 || field == 3 ? kEntry : kText;
    case kValueInfo: return field == 2 ? kType : kText;
    case kType: return field == 1 || field == 8 ? kTensorType : field == 4 || field == 5 || field == 9 ? kNested : kText;
    case kNested: return field == 1 || field == 2 ? kType : kText;
    case kTensorType: return field == 2 ? kShape : kText;
    case kShape: return field == 1 ? kDim : kText;
    case kAnnotation: return field == 2 ? kEntry : kText;
    case kSparse: return field == 1 || field == 2 ? kTensor : kText;
    case kFunction: return field == 7 ? kNode : field == 9 ? kEntry : kText;
    case kTraining: return field == 1 || field == 2 ? kGraph : kEntry;
    default: return kText;
  }
}

struct Scan {
  std::string_view bytes;
  const Limits& limits;
  std::uint64_t nodes = 0, memory = 0;

  [[noreturn]] void truncated(std::size_t at, const std::string& what) const {
    throw bad_input("{} at byte {} of {}", what, at, bytes.size())
        .expected("an ONNX file (a protobuf message), whole")
        .fix("the file is truncated or is no ONNX file: export or copy it again");
  }
  std::uint64_t varint(std::size_t& p, std::size_t end) const {
    std::uint64_t v = 0;
    const std::size_t start = p;
    for (int shift = 0; shift < 64; shift += 7) {
      if (p >= end) truncated(start, "a number ends too early");
      const auto b = static_cast<unsigned char>(bytes[p++]);
      v |= static_cast<std::uint64_t>(b & 0x7F) << shift;
      if (!(b & 0x80)) return v;
    }
    truncated(start, "a number of more than ten bytes");
  }
  void spend(std::uint64_t n) {
    memory += n;
    if (memory > limits.memory_bytes)
      throw Error(Exit::limit, fmt::format("the model would take more than {} MiB of memory", limits.memory_bytes >> 20)).fix("raise --memory");
  }
  void walk(Kind kind, std::size_t p, std::size_t end, std::uint32_t depth) {
    // Stays below the parser's own limit of nesting (100), which it reports without a place.
    if (depth > std::min<std::uint32_t>(limits.depth, 90))
      throw bad_input("messages are nested more than {} deep", depth - 1).fix("sub-graphs and nested types are not supported");
    while (p < end) {
      const std::size_t start = p;
      const std::uint64_t tag = varint(p, end);
      const std::uint64_t field = tag >> 3;
      if (field == 0 || field > (1u << 29)) truncated(start, "an impossible field number");
      switch (tag & 7) {
        case 0: varint(p, end); spend(16); break;
        case 1:
          if (end - p < 8) truncated(start, "a field ends too early");
          p += 8, spend(16);
          break;
        case 5:
          if (end - p < 4) truncated(start, "a field ends too early");
          p += 4, spend(16);
          break;
        case 2: {
          const std::uint64_t n = varint(p, end);
          if (n > end - p) truncated(start, fmt::format("a field of {} bytes with {} left", n, end - p));
          const Kind c = child_of(kind, static_cast<int>(std::min<std::uint64_t>(field, 1000)));
          if (c == kText) {
            // Packed varints grow to 8 bytes each; raw data and names do not.
            spend(48 + (kind == kTensor && (field == 5 || field == 7 || field == 11) ? 8 * n : n));
          } else {
            if ((c == kNode || c == kTensor || c == kValueInfo || c == kAttribute || c == kAnnotation) && ++nodes > 8 * limits.nodes)
              throw Error(Exit::limit, fmt::format("the model has more than {} nodes, attributes and tensors", 8 * limits.nodes));
            spend(c == kTensor ? 320 : c == kAttribute ? 288 : c == kGraph ? 288 : 160);
            walk(c, p, p + n, depth + 1);
          }
          p += n;
          break;
        }
        default: truncated(start, fmt::format("wire type {}", tag & 7));
      }
    }
  }
};

// ---- names and tensors ------------------------------------------------------------------------

// Names go to reports, Verilog, terminals: nothing in them may steer anything.
const std::string& checked_name(const std::string& s, std::string_view what, const Limits& limits) {
  if (s.size() > limits.name_bytes)
    throw bad_input("a {} of {} bytes", what, s.size()).at(s.substr(0, 60)).expected(fmt::format("at most {} bytes", limits.name_bytes));
  const bool plain = std::all_of(s.begin(), s.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
  if (!plain && printable(s) != s)
    throw bad_input("the {} '{}' has control characters or invalid UTF-8", what, printable(s)).fix("rename it where the model was made");
  return s;
}

std::string type_text(int t) {
  return onnx::TensorProto::DataType_IsValid(t) ? onnx::TensorProto::DataType_Name(static_cast<onnx::TensorProto::DataType>(t))
                                                : fmt::format("type number {}", t);
}

struct Fd {
  int fd;
  ~Fd() { if (fd >= 0) ::close(fd); }
};

// External data: below the folder of the model, a regular file, no symbolic link on the way.
void read_external(const onnx::TensorProto& p, const std::filesystem::path* folder, void* to, std::uint64_t bytes, const std::string& what) {
  std::string location;
  std::uint64_t offset = 0, length = bytes;
  for (const auto& e : p.external_data()) {
    std::uint64_t* number = e.key() == "offset" ? &offset : e.key() == "length" ? &length : nullptr;
    if (e.key() == "location") location = e.value();
    if (!number) continue;
    const char* end = e.value().data() + e.value().size();
    const auto r = std::from_chars(e.value().data(), end, *number);
    if (r.ec != std::errc() || r.ptr != end) throw bad_input("the {} of external data is '{}'", e.key(), printable(e.value())).at(what).expected("a number of bytes");
  }
  if (!folder)
    throw bad_input("{} is stored in another file ('{}')", what, printable(location)).fix("read the model from its folder, or save it with its data inside");
  if (location.empty() || location[0] == '/' || location.find('\0') != std::string::npos)
    throw bad_input("external data at '{}'", printable(location)).at(what).expected("a path below the folder of the model");
  if (length != bytes) throw bad_input("external data of {} bytes", length).at(what).expected(fmt::format("{} bytes", bytes));
  const std::filesystem::path dir = folder->empty() ? std::filesystem::path(".") : *folder;
  const Fd root{::open(dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
  struct open_how how {};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const Fd file{root.fd < 0 ? -1 : static_cast<int>(::syscall(SYS_openat2, root.fd, location.c_str(), &how, sizeof how))};
  struct stat st {};
  if (file.fd < 0 || ::fstat(file.fd, &st) != 0)
    throw bad_input("external data '{}' cannot be opened: {}", printable(location), std::strerror(errno))
        .at(what)
        .expected("a regular file below the folder of the model, reached without symbolic links");
  if (!S_ISREG(st.st_mode)) throw bad_input("external data '{}' is no regular file", printable(location)).at(what);
  const auto size = static_cast<std::uint64_t>(st.st_size);
  if (offset > size || length > size - offset)
    throw bad_input("external data '{}' has {} bytes", printable(location), size).at(what).expected(fmt::format("{} bytes from byte {} on", length, offset));
  auto* q = static_cast<char*>(to);
  for (std::uint64_t done = 0; done < bytes;) {
    const ssize_t n = ::pread(file.fd, q + done, static_cast<std::size_t>(std::min<std::uint64_t>(bytes - done, 1u << 30)), static_cast<off_t>(offset + done));
    if (n <= 0) throw bad_input("external data '{}' cannot be read", printable(location)).at(what);
    done += static_cast<std::uint64_t>(n);
  }
}

template <class T, class Field>
void copy_checked(Tensor& t, const Field& field, const std::string& what) {
  T* to = t.data<T>();
  for (int i = 0; i < field.size(); ++i) {
    const auto v = field[i];
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
      if (!std::in_range<T>(v)) throw bad_input("element {} of {} is {}", i, what, v).expected(fmt::format("a value of {}", to_string(t.dtype())));
    }
    to[i] = static_cast<T>(v);
  }
}

struct Reader {
  const Limits& limits;
  const std::filesystem::path* folder;
  Graph g;
  std::unordered_map<std::string, ValueId> ids;
  std::unordered_set<std::string> node_names;
  std::unordered_set<ValueId> written;
  std::uint64_t memory = 0;
  std::int64_t opset = 1;

  Tensor tensor(const onnx::TensorProto& p, const std::string& what) {
    const auto dtype = onnx_dtype(p.data_type());
    if (!dtype) throw bad_input("{} holds {}", what, type_text(p.data_type())).expected("integers, floats or booleans");
    if (p.has_segment()) throw bad_input("{} is a segment of a tensor", what).expected("a whole tensor");
    if (p.dims_size() > 64) throw bad_input("{} has {} axes", what, p.dims_size()).expected("at most 64");
    Shape shape;
    std::uint64_t count = 1;
    bool empty = false;
    for (std::int64_t d : p.dims()) {
      if (d < 0) throw bad_input("{} has the extent {}", what, d).expected("a number of at least 0");
      empty |= d == 0;
      shape.push_back(d);
    }
    if (empty) count = 0;
    else for (std::int64_t d : shape) count = Limits::product(count, static_cast<std::uint64_t>(d), limits.elements, "elements of " + what);
    const std::uint64_t bytes = count * size_of(*dtype);
    const bool external = p.data_location() == onnx::TensorProto::EXTERNAL;
    const bool raw = p.has_raw_data();
    std::uint64_t present = 0;
    if (!external) {
      if (raw) {
        present = p.raw_data().size() == bytes ? count : ~std::uint64_t{0};
      } else {
        switch (*dtype) {
          case DType::f32: present = static_cast<std::uint64_t>(p.float_data_size()); break;
          case DType::f64: present = static_cast<std::uint64_t>(p.double_data_size()); break;
          case DType::i64: present = static_cast<std::uint64_t>(p.int64_data_size()); break;
          case DType::u32:
          case DType::u64: present = static_cast<std::uint64_t>(p.uint64_data_size()); break;
          default: present = static_cast<std::uint64_t>(p.int32_data_size()); break;
        }
      }
      if (present != count)
        throw (raw ? bad_input("{} has {} bytes of data", what, p.raw_data().size()) : bad_input("{} has {} values", what, present))
            .expected(fmt::format("{} {} for the shape {}{}", raw ? bytes : count, raw ? "bytes" : "values", to_string(*dtype), to_string(shape)));
    }
    memory += bytes;
    if (memory > limits.memory_bytes)
      throw Error(Exit::limit, fmt::format("the tensors of the model take more than {} MiB", limits.memory_bytes >> 20)).at(what).fix("raise --memory");
    Tensor t(*dtype, shape);
    if (count == 0) return t;
    if (external) {
      read_external(p, folder, t.raw_mutable(), bytes, what);
    } else if (raw) {
      std::memcpy(t.raw_mutable(), p.raw_data().data(), bytes);
    } else {
      switch (*dtype) {
        case DType::f32: copy_checked<float>(t, p.float_data(), what); break;
        case DType::f64: copy_checked<double>(t, p.double_data(), what); break;
        case DType::i64: copy_checked<std::int64_t>(t, p.int64_data(), what); break;
        case DType::u32: copy_checked<std::uint32_t>(t, p.uint64_data(), what); break;
        case DType::u64: copy_checked<std::uint64_t>(t, p.uint64_data(), what); break;
        case DType::i32: copy_checked<std::int32_t>(t, p.int32_data(), what); break;
        case DType::i16: copy_checked<std::int16_t>(t, p.int32_data(), what); break;
        case DType::i8: copy_checked<std::int8_t>(t, p.int32_data(), what); break;
        case DType::u16: copy_checked<std::uint16_t>(t, p.int32_data(), what); break;
        case DType::u8: copy_checked<std::uint8_t>(t, p.int32_data(), what); break;
        case DType::boolean: copy_checked<bool>(t, p.int32_data(), what); break;
        case DType::f16:
        case DType::bf16: {
          auto* to = static_cast<std::uint16_t*>(t.raw_mutable());  // the bits are stored in 32-bit integers
          for (int i = 0; i < p.int32_data_size(); ++i) {
            if (!std::in_range<std::uint16_t>(p.int32_data(i))) throw bad_input("element {} of {} has more than 16 bits", i, what);
            to[i] = static_cast<std::uint16_t>(p.int32_data(i));
          }
        }
      }
    }
    if (*dtype == DType::boolean) {  // any byte is not a bool
      auto* b = static_cast<unsigned char*>(t.raw_mutable());
      for (std::uint64_t i = 0; i < count; ++i) b[i] = b[i] != 0;
    }
    return t;
  }

  TensorType type(const onnx::ValueInfoProto& v) const {
    const std::string what = fmt::format("value '{}'", v.name());
    if (v.type().value_case() != onnx::TypeProto::kTensorType)
      throw bad_input("{} is no tensor", what).expected("tensors (sequences, maps, optional and sparse values are not supported)");
    const auto& p = v.type().tensor_type();
    const auto dtype = onnx_dtype(p.elem_type());
    if (!dtype) throw bad_input("{} holds {}", what, type_text(p.elem_type())).expected("integers, floats or booleans");
    TensorType t{*dtype, std::nullopt};
    if (!p.has_shape()) return t;
    if (p.shape().dim_size() > 64) throw bad_input("{} has {} axes", what, p.shape().dim_size()).expected("at most 64");
    t.dims.emplace();
    for (const auto& d : p.shape().dim()) {
      if (d.has_dim_value()) {
        if (d.dim_value() < 0)
          throw bad_input("{} has the extent {}", what, d.dim_value()).expected("a number of at least 0, or a symbol for an extent that is free");
        t.dims->emplace_back(d.dim_value());
      } else if (d.has_dim_param() && !d.dim_param().empty()) {
        t.dims->emplace_back(checked_name(d.dim_param(), "symbol", limits));
      } else {
        t.dims->emplace_back();
      }
    }
    return t;
  }

  ValueId value(const std::string& name) {
    const auto [it, fresh] = ids.emplace(name, static_cast<ValueId>(g.values.size()));
    if (fresh) {
      Value v;
      v.name = checked_name(name, "name", limits);
      g.values.push_back(std::move(v));
    }
    return it->second;
  }
  std::string free_value_name(const std::string& base) const {
    if (!ids.count(base)) return base;
    for (std::int64_t k = 1;; ++k)
      if (std::string s = fmt::format("{}_{}", base, k); !ids.count(s)) return s;
  }
  ValueId constant(const std::string& base, Tensor t) {
    const ValueId v = value(free_value_name(base));
    g.values[static_cast<std::size_t>(v)].type = TensorType{t.dtype(), dims_of(t.shape())};
    g.initialisers.emplace(v, std::move(t));
    written.insert(v);
    return v;
  }

  Attribute attribute(const onnx::AttributeProto& a, const std::string& where) {
    const std::string what = fmt::format("attribute '{}' of {}", a.name(), where);
    using A = onnx::AttributeProto;
    if (a.has_ref_attr_name() && !a.ref_attr_name().empty()) throw bad_input("{} refers to an attribute of a function", what);
    int t = a.type();
    if (t == A::UNDEFINED)  // files of the first version say it only by what is there
      t = a.has_f() ? A::FLOAT : a.has_i() ? A::INT : a.has_s() ? A::STRING : a.has_t() ? A::TENSOR : a.has_g() ? A::GRAPH
          : a.floats_size() ? A::FLOATS : a.ints_size() ? A::INTS : a.strings_size() ? A::STRINGS : a.graphs_size() ? A::GRAPHS : 0;
    switch (t) {
      case A::FLOAT: return static_cast<double>(a.f());
      case A::INT: return static_cast<std::int64_t>(a.i());
      case A::STRING: return a.s();
      case A::TENSOR: return tensor(a.t(), what);
      case A::FLOATS: return std::vector<double>(a.floats().begin(), a.floats().end());
      case A::INTS: return std::vector<std::int64_t>(a.ints().begin(), a.ints().end());
      case A::STRINGS: return std::vector<std::string>(a.strings().begin(), a.strings().end());
      case A::GRAPH:
      case A::GRAPHS:
        throw bad_input("{} is a sub-graph", what).at(where).expected("a graph without If, Loop and Scan").fix("unroll or remove the control flow where the model was made");
      default: throw bad_input("{} has a type that is not supported", what).expected("numbers, strings or a tensor");
    }
  }

  static std::string describe(const onnx::NodeProto& n) {
    if (!n.name().empty()) return fmt::format("node '{}' ({})", printable(n.name()), printable(n.op_type()));
    for (const std::string& o : n.output())
      if (!o.empty()) return fmt::format("{} node of value '{}'", printable(n.op_type()), printable(o));
    return fmt::format("{} node", printable(n.op_type()));
  }

  void write(ValueId v, const std::string& where) {
    if (!written.insert(v).second)
      throw bad_input("the value '{}' has two producers", g.values[static_cast<std::size_t>(v)].name).at(where).expected("one node, input or initialiser per name");
  }

  bool constant_node(const Node& n, const std::string& where) {
    if (n.op != "Constant" || !n.domain.empty() || n.outputs.size() != 1 || !n.inputs.empty()) return false;
    if (n.attrs.size() != 1) throw bad_input("a Constant has {} attributes", n.attrs.size()).at(where).expected("one of value, value_float, value_int, ...");
    const auto& [key, a] = *n.attrs.begin();
    Tensor t;
    if (const auto* x = std::get_if<Tensor>(&a); x && key == "value") t = *x;
    else if (const auto* f = std::get_if<double>(&a); f && key == "value_float") t = Tensor::scalar(static_cast<float>(*f));
    else if (const auto* i = std::get_if<std::int64_t>(&a); i && key == "value_int") t = Tensor::scalar(*i);
    else if (const auto* is = std::get_if<std::vector<std::int64_t>>(&a); is && key == "value_ints") t = Tensor::of<std::int64_t>({static_cast<std::int64_t>(is->size())}, *is);
    else if (const auto* fs = std::get_if<std::vector<double>>(&a); fs && key == "value_floats") {
      std::vector<float> v(fs->begin(), fs->end());
      t = Tensor::of<float>({static_cast<std::int64_t>(v.size())}, v);
    } else {
      throw bad_input("a Constant with the attribute '{}'", key).at(where).expected("a tensor or numbers");
    }
    const ValueId v = n.outputs[0];
    g.values[static_cast<std::size_t>(v)].type = TensorType{t.dtype(), dims_of(t.shape())};
    g.initialisers.emplace(v, std::move(t));
    return true;
  }

  void node(const onnx::NodeProto& p) {
    const std::string where = describe(p);
    Node n;
    n.op = checked_name(p.op_type(), "operator", limits);
    n.domain = checked_name(p.domain(), "domain", limits);
    if (n.op.empty()) throw bad_input("a node names no operator").at(where);
    if (n.domain == "ai.onnx") n.domain.clear();
    if (n.domain == "onnx.brevitas" || n.domain == "finn.custom_op.general") n.domain = kQonnx;
    if (n.domain == kQonnx && n.op == "Trunc")
      throw bad_input("Trunc is not supported: it rounds twice").at(where).expected("one rounding per quantiser").fix("replace it by a Quant");
    n.name = checked_name(p.name(), "name", limits);
    if (!n.name.empty() && !node_names.insert(n.name).second) {  // names of nodes are for people: made unique
      std::int64_t k = 1;
      while (!node_names.insert(fmt::format("{}_{}", n.name, k)).second) ++k;
      n.name = fmt::format("{}_{}", n.name, k);
    }
    for (const auto& a : p.attribute()) {
      checked_name(a.name(), "attribute", limits);
      if (!n.attrs.emplace(a.name(), attribute(a, where)).second) throw bad_input("the attribute '{}' is given twice", a.name()).at(where);
    }
    for (const std::string& i : p.input()) n.inputs.push_back(i.empty() ? kNone : value(i));
    int outputs = p.output_size();
    while (outputs > 0 && p.output(outputs - 1).empty()) --outputs;
    if (outputs == 0) throw bad_input("a node without outputs").at(where);
    for (int i = 0; i < outputs; ++i) {
      const ValueId v = value(p.output(i).empty() ? free_value_name(fmt::format("{}_output_{}", p.op_type(), i)) : p.output(i));
      write(v, where);
      n.outputs.push_back(v);
    }
    if (!constant_node(n, where)) g.nodes.push_back(std::move(n));
  }

  // ---- the form of opset 17 ----
  void drop_unused_outputs(Node& n, const UseMap& uses) {
    while (n.outputs.size() > 1) {
      const ValueId v = n.outputs.back();
      if (!uses.users[static_cast<std::size_t>(v)].empty() || std::find(g.outputs.begin(), g.outputs.end(), v) != g.outputs.end()) return;
      n.outputs.pop_back();
    }
  }
  ValueId ints_input(Node& n, std::string_view attr) {
    const ValueId v = [&] {
      const std::vector<std::int64_t> x = n.attr_ints(attr, {});
      const std::string base = n.name.empty() ? g.values[static_cast<std::size_t>(n.outputs[0])].name : n.name;
      return constant(fmt::format("{}_{}", base, attr), Tensor::of<std::int64_t>({static_cast<std::int64_t>(x.size())}, x));
    }();
    n.attrs.erase(std::string(attr));
    return v;
  }
  ValueId float_input(Node& n, std::string_view attr) {
    const std::string base = n.name.empty() ? g.values[static_cast<std::size_t>(n.outputs[0])].name : n.name;
    const ValueId v = constant(fmt::format("{}_{}", base, attr), Tensor::scalar(static_cast<float>(n.attr_float(attr, 0))));
    n.attrs.erase(std::string(attr));
    return v;
  }

  void threshold(Node& n) {
    const Tensor* t = n.inputs.size() == 2 ? g.constant(n.inputs[1]) : nullptr;
    const double scale = n.attr_float("out_scale", 1), bias = n.attr_float("out_bias", 0);
    const double base = scale != 0 ? bias / scale : 0.5;
    const std::string layout = n.attr_string("data_layout", "NCHW");
    if (!t || t->rank() != 2 || !(scale > 0) || base != std::floor(base) || std::abs(base) > 1e9) return;
    if (layout != "NCHW" && layout != "NC" && t->shape()[0] != 1) return;
    for (const auto& [k, a] : n.attrs)
      if (k != "out_scale" && k != "out_bias" && k != "data_layout" && k != "out_dtype") return;
    n.op = "Threshold";
    n.domain = "tandem";
    n.attrs = {{"scale", scale}, {"base", static_cast<std::int64_t>(base)}};
  }

  void normalise() {
    const UseMap uses(g);
    for (std::size_t k = 0; k < g.nodes.size(); ++k) {
      Node& n = g.nodes[k];
      if (n.domain == kQonnx && n.op == "MultiThreshold") threshold(n);
      if (!n.domain.empty()) continue;
      if (n.in(0) == kNone || n.outputs.empty() || n.outputs[0] == kNone) continue;  // nothing to bring into form; verify judges it
      const std::string where = g.describe(n);
      if (opset < 6) n.attrs.erase("consumed_inputs");
      if (n.op == "Clip" && opset < 11) {
        const bool lo = n.has_attr("min"), hi = n.has_attr("max");
        if (lo || hi) n.inputs.resize(1);
        if (lo) n.inputs.push_back(float_input(g.nodes[k], "min"));
        else if (hi) n.inputs.push_back(kNone);
        if (hi) n.inputs.push_back(float_input(g.nodes[k], "max"));
      } else if (n.op == "Dropout") {
        if (opset < 7) n.attrs.erase("is_test");
        if (opset < 12 && n.has_attr("ratio")) n.inputs.resize(1), n.inputs.push_back(float_input(g.nodes[k], "ratio"));
        drop_unused_outputs(n, uses);
      } else if ((n.op == "Squeeze" || n.op == "Unsqueeze") && opset < 13) {
        if (n.has_attr("axes")) n.inputs.resize(1), n.inputs.push_back(ints_input(g.nodes[k], "axes"));
      } else if (n.op == "Reshape" && opset < 5) {
        if (n.has_attr("shape")) n.inputs.resize(1), n.inputs.push_back(ints_input(g.nodes[k], "shape"));
      } else if (n.op == "Split" && opset < 13) {
        if (n.has_attr("split")) n.inputs.resize(1), n.inputs.push_back(ints_input(g.nodes[k], "split"));
      } else if (n.op == "Slice" && opset < 10) {
        if (!n.has_attr("starts") || !n.has_attr("ends")) continue;  // verify says what is missing
        n.inputs.resize(1);
        for (const char* a : {"starts", "ends", "axes"})
          if (n.has_attr(a)) n.inputs.push_back(ints_input(g.nodes[k], a));
      } else if (n.op == "Pad" && opset < 11) {
        if (!n.has_attr("pads")) continue;
        n.inputs.resize(1), n.inputs.push_back(ints_input(g.nodes[k], "pads"));
        if (n.has_attr("value")) n.inputs.push_back(float_input(g.nodes[k], "value"));
      } else if (n.op == "ReduceSum" && n.has_attr("axes")) {
        n.inputs.resize(1), n.inputs.push_back(ints_input(g.nodes[k], "axes"));
      } else if (n.op.rfind("Reduce", 0) == 0 && n.op != "ReduceSum" && n.in(1) != kNone) {  // an input from opset 18 on
        if (const Tensor* axes = g.constant(n.in(1)); axes && axes->dtype() == DType::i64 && axes->size() > 0) {
          n.attrs["axes"] = std::vector<std::int64_t>(axes->data<std::int64_t>(), axes->data<std::int64_t>() + axes->size());
          n.attrs.erase("noop_with_empty_axes");
          n.inputs.resize(1);
        }
      } else if ((n.op == "Upsample" && opset < 10) || (n.op == "Resize" && opset < 11)) {  // they divided by the scale and rounded down
        if (n.has_attr("scales")) {
          const auto* scales = std::get_if<std::vector<double>>(&n.attrs.at("scales"));
          if (!scales) throw bad_input("the scales of {} are no numbers", n.op).at(where).expected("one number per axis");
          n.inputs.resize(1);
          n.inputs.push_back(constant(fmt::format("{}_scales", g.values[static_cast<std::size_t>(n.outputs[0])].name),
                                      Tensor::of<float>({static_cast<std::int64_t>(scales->size())}, std::vector<float>(scales->begin(), scales->end()))));
          g.nodes[k].attrs.erase("scales");
        }
        if (n.inputs.size() != 2) throw bad_input("{} of opset {} with {} inputs", n.op, opset, n.inputs.size()).at(where).expected("X and scales");
        n.inputs = {n.inputs[0], kNone, n.inputs[1]};
        if (n.attr_string("mode", "nearest") == "bilinear") n.attrs["mode"] = std::string("linear");
        n.op = "Resize";
        n.attrs["coordinate_transformation_mode"] = std::string("asymmetric");
        n.attrs["nearest_mode"] = std::string("floor");
      } else if (n.op == "PRelu" && opset < 7 && n.in(1) != kNone) {
        const Tensor* slope = g.constant(n.in(1));
        if (!slope || slope->size() != 1) throw bad_input("PRelu of opset {} with a slope per channel", opset).at(where).expected("opset 7 or later, where slopes broadcast").fix("convert the model to opset 17");
      } else if (n.op == "Concat" && opset < 4) {
        n.attrs.emplace("axis", std::int64_t{1});
      } else if (n.op == "BatchNormalization") {
        if (opset < 7) n.attrs.erase("is_test");
        if (opset < 9 && n.has_attr("spatial")) {
          if (n.attr_int("spatial", 1) != 1) throw bad_input("BatchNormalization with spatial=0").at(where).expected("statistics per channel");
          n.attrs.erase("spatial");
        }
        drop_unused_outputs(n, uses);
      } else if (n.op == "MaxPool") {
        drop_unused_outputs(n, uses);
        if (n.attr_int("storage_order", 0) == 0) n.attrs.erase("storage_order");  // of the indices, which nobody reads
      } else if (n.op == "Gemm" && opset < 7) {
        n.attrs.erase("broadcast");
      } else if ((n.op == "Add" || n.op == "Sub" || n.op == "Mul" || n.op == "Div" || n.op == "Pow") && opset < 7) {
        const bool broadcast = n.attr_int("broadcast", 0) != 0;
        n.attrs.erase("broadcast");
        if (n.has_attr("axis")) {
          const std::int64_t axis = n.attr_int("axis", 0);
          n.attrs.erase("axis");
          const auto& a = g.values[static_cast<std::size_t>(n.in(0))].type.dims;
          const Tensor* b = n.in(1) == kNone ? nullptr : g.constant(n.in(1));
          if (broadcast) {
            if (!a || !b || axis < 0 || axis + b->rank() > static_cast<std::int64_t>(a->size()))
              throw bad_input("{} of opset {} broadcasts along axis {}", n.op, opset, axis).at(where).expected("a constant second operand and a known rank").fix("convert the model to opset 17");
            Shape s = b->shape();
            s.resize(a->size() - static_cast<std::size_t>(axis), 1);
            const ValueId v = constant(g.values[static_cast<std::size_t>(n.in(1))].name, b->reshaped(s));
            g.nodes[k].inputs[1] = v;
          }
        }
      }
    }
    if (opset < 13) old_softmax();
  }

  // Before opset 13 Softmax and its relatives flattened their input to a matrix at `axis` (default 1).
  static bool softmax_like(const Node& n) { return n.domain.empty() && (n.op == "Softmax" || n.op == "LogSoftmax" || n.op == "Hardmax"); }
  void old_softmax() {
    if (std::none_of(g.nodes.begin(), g.nodes.end(), softmax_like)) return;
    Graph typed = g;  // as far as shapes can be inferred: an unknown operator ends it
    try {
      infer_shapes(typed);
    } catch (const Error&) {
    }
    std::vector<Node> nodes;
    for (Node& n : g.nodes) {
      if (!softmax_like(n) || n.inputs.size() != 1 || n.inputs[0] == kNone) {
        nodes.push_back(std::move(n));
        continue;
      }
      const std::int64_t axis = n.attr_int("axis", 1);
      const auto& dims = typed.values[static_cast<std::size_t>(n.inputs[0])].type.dims;
      const bool last = axis == -1 || (dims && axis == static_cast<std::int64_t>(dims->size()) - 1);
      const ValueId x = n.inputs[0], y = n.outputs[0];
      if (last) {
        n.attrs["axis"] = std::int64_t{-1};
        nodes.push_back(std::move(n));
        continue;
      }
      const std::string base = n.name.empty() ? g.values[static_cast<std::size_t>(y)].name : n.name;
      const auto fresh = [&](const char* suffix, DType t) {
        const ValueId v = value(free_value_name(base + suffix));
        g.values[static_cast<std::size_t>(v)].type.dtype = t;
        return v;
      };
      const auto make = [&](const char* op, std::vector<ValueId> in, ValueId out, const char* suffix) {
        Node m;
        m.op = op;
        m.inputs = std::move(in);
        m.outputs = {out};
        if (!n.name.empty()) {
          m.name = n.name + suffix;
          for (int k = 1; !node_names.insert(m.name).second; ++k) m.name = fmt::format("{}{}_{}", n.name, suffix, k);
        }
        return m;
      };
      const DType dtype = g.values[static_cast<std::size_t>(y)].type.dtype;
      const ValueId shape = fresh("_shape", DType::i64), flat = fresh("_flat", dtype), soft = fresh("_rows", dtype);
      nodes.push_back(make("Shape", {x}, shape, "_shape"));
      nodes.push_back(make("Flatten", {x}, flat, "_flat"));
      nodes.back().attrs["axis"] = axis;
      Node s = std::move(n);
      s.inputs = {flat};
      s.outputs = {soft};
      s.attrs["axis"] = std::int64_t{-1};
      nodes.push_back(std::move(s));
      nodes.push_back(make("Reshape", {soft, shape}, y, "_back"));
    }
    g.nodes = std::move(nodes);
  }

  static std::string escaped(const std::string& s) {
    std::string r;
    for (char c : s)
      if (c == '%' || c == ';' || c == '=') r += fmt::format("%{:02X}", static_cast<unsigned>(c));
      else r += c;
    return r;
  }

  void model(const onnx::ModelProto& m) {
    if (!m.has_graph()) throw bad_input("the file holds no graph").expected("an ONNX model");
    if (m.functions_size())
      throw bad_input("the model defines its own function '{}'", printable(m.functions(0).name())).expected("a model without local functions").fix("inline the functions where the model was made");
    if (m.training_info_size()) throw bad_input("the model holds training information").expected("an inference model");
    const auto& p = m.graph();
    for (const auto& o : m.opset_import())
      if (o.domain().empty() || o.domain() == "ai.onnx") opset = std::max<std::int64_t>(opset, o.version());
    if (opset > kNewest)
      throw bad_input("the model is written in opset {}", opset).expected(fmt::format("at most {}", kNewest)).fix("export it in opset 17");
    if (static_cast<std::uint64_t>(p.node_size()) > limits.nodes)
      throw Error(Exit::limit, fmt::format("the model has {} nodes, the limit is {}", p.node_size(), limits.nodes));
    g.name = checked_name(p.name(), "graph name", limits);
    g.opset = kOpset;
    for (const auto& e : m.metadata_props())
      if (!g.metadata.emplace(e.key(), e.value()).second) throw bad_input("the metadata key '{}' is given twice", printable(e.key()));
    if (opset != kOpset) g.metadata["onnx.opset"] = fmt::format("{}", opset);
    if (p.sparse_initializer_size()) throw bad_input("the initialiser '{}' is sparse", printable(p.sparse_initializer(0).values().name())).expected("dense tensors");

    std::unordered_set<std::string> constants;
    for (const auto& t : p.initializer())
      if (!constants.insert(t.name()).second) throw bad_input("two initialisers are called '{}'", printable(t.name()));
    for (const auto& v : p.input()) {
      if (v.name().empty()) throw bad_input("a graph input has no name");
      if (constants.count(v.name())) continue;  // an initialiser that older files also list as input
      const ValueId id = value(v.name());
      write(id, fmt::format("graph input '{}'", v.name()));
      g.values[static_cast<std::size_t>(id)].type = type(v);
      g.inputs.push_back(id);
    }
    for (const auto& t : p.initializer()) {
      if (t.name().empty()) throw bad_input("an initialiser has no name");
      const ValueId id = value(t.name());
      write(id, fmt::format("initialiser '{}'", t.name()));
      Tensor x = tensor(t, fmt::format("initialiser '{}'", t.name()));
      g.values[static_cast<std::size_t>(id)].type = TensorType{x.dtype(), dims_of(x.shape())};
      g.initialisers.emplace(id, std::move(x));
    }
    for (const auto& n : p.node()) node(n);
    const auto declare = [&](const onnx::ValueInfoProto& v) {
      const auto it = ids.find(v.name());
      if (it == ids.end() || !v.has_type()) return;
      const TensorType t = type(v);
      Value& to = g.values[static_cast<std::size_t>(it->second)];
      if (const Tensor* c = g.constant(it->second)) {
        bool same = t.dtype == c->dtype() && (!t.dims || t.dims->size() == c->shape().size());
        for (std::size_t i = 0; same && t.dims && i < t.dims->size(); ++i) same = !(*t.dims)[i].known() || (*t.dims)[i].n == c->shape()[i];
        if (!same)
          throw bad_input("the initialiser '{}' is {}{}", v.name(), to_string(c->dtype()), to_string(c->shape()))
              .expected(fmt::format("{}{}, as the graph declares it", to_string(t.dtype), t.dims ? to_string(*t.dims) : std::string()));
        return;
      }
      if (std::find(g.inputs.begin(), g.inputs.end(), it->second) == g.inputs.end()) to.type = t;
    };
    for (const auto& v : p.input())
      if (constants.count(v.name())) declare(v);
    for (const auto& v : p.value_info()) declare(v);
    for (const auto& v : p.output()) declare(v);
    std::unordered_set<std::string> outputs;
    for (const auto& v : p.output()) {
      const auto it = ids.find(v.name());
      if (it == ids.end()) throw bad_input("the graph output '{}' comes from nowhere", printable(v.name())).expected("the output of a node");
      g.outputs.push_back(it->second);
    }
    for (const auto& q : p.quantization_annotation()) {
      const auto it = ids.find(q.tensor_name());
      if (it == ids.end()) continue;
      std::string& s = g.values[static_cast<std::size_t>(it->second)].quant;
      for (const auto& e : q.quant_parameter_tensor_names()) {
        checked_name(e.key(), "annotation", limits);
        checked_name(e.value(), "annotation", limits);
        s += (s.empty() ? "" : ";") + escaped(e.key()) + "=" + escaped(e.value());
      }
    }
    // What nobody makes: before nodes are sorted, so that the node is named.
    for (const Node& n : g.nodes)
      for (ValueId v : n.inputs)
        if (v != kNone && !written.count(v))
          throw bad_input("the input '{}' comes from nowhere", g.values[static_cast<std::size_t>(v)].name)
              .at(g.describe(n))
              .expected("a graph input, an initialiser or the output of a node");
    sort_nodes(g);
    normalise();
    verify_structure(g);
  }
};

Graph import(std::string_view bytes, const Limits& limits, const std::filesystem::path* folder) {
  static const bool quiet = [] { google::protobuf::SetLogHandler(nullptr); return true; }();
  (void)quiet;
  if (bytes.empty()) throw bad_input("the file is empty").expected("an ONNX model");
  if (bytes.size() > static_cast<std::size_t>(std::numeric_limits<int>::max()))
    throw Error(Exit::limit, "an ONNX file cannot be larger than 2 GiB").fix("store the weights as external data");
  Scan scan{bytes, limits};
  scan.walk(kModel, 0, bytes.size(), 0);
  onnx::ModelProto model;
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const std::uint8_t*>(bytes.data()), static_cast<int>(bytes.size()));
  in.SetRecursionLimit(100);
  in.SetTotalBytesLimit(std::numeric_limits<int>::max());
  if (!model.ParseFromCodedStream(&in) || !in.ConsumedEntireMessage())
    throw bad_input("the bytes are no ONNX model").expected("an ONNX file (a protobuf message)");
  Reader r{limits, folder, {}, {}, {}, {}};
  r.model(model);
  return std::move(r.g);
}

// ---- export -----------------------------------------------------------------------------------

void put(onnx::TensorProto& p, const Tensor& t) {
  p.set_data_type(static_cast<int>(onnx_number(t.dtype())));
  for (std::int64_t d : t.shape()) p.add_dims(d);
  p.set_raw_data(t.size() ? t.raw() : "", t.bytes());
}

void put(onnx::ValueInfoProto& p, const Value& v) {
  p.set_name(v.name);
  auto& t = *p.mutable_type()->mutable_tensor_type();
  t.set_elem_type(static_cast<int>(onnx_number(v.type.dtype)));
  if (!v.type.dims) return;
  auto& s = *t.mutable_shape();
  for (const Dim& d : *v.type.dims) {
    auto& x = *s.add_dim();
    if (d.known()) x.set_dim_value(d.n);
    else if (!d.symbol.empty()) x.set_dim_param(d.symbol);
  }
}

void put(onnx::AttributeProto& p, const std::string& key, const Attribute& a) {
  using A = onnx::AttributeProto;
  p.set_name(key);
  if (const auto* i = std::get_if<std::int64_t>(&a)) p.set_type(A::INT), p.set_i(*i);
  else if (const auto* f = std::get_if<double>(&a)) p.set_type(A::FLOAT), p.set_f(static_cast<float>(*f));
  else if (const auto* s = std::get_if<std::string>(&a)) p.set_type(A::STRING), p.set_s(*s);
  else if (const auto* t = std::get_if<Tensor>(&a)) p.set_type(A::TENSOR), put(*p.mutable_t(), *t);
  else if (const auto* is = std::get_if<std::vector<std::int64_t>>(&a)) {
    p.set_type(A::INTS);
    for (std::int64_t x : *is) p.add_ints(x);
  } else if (const auto* fs = std::get_if<std::vector<double>>(&a)) {
    p.set_type(A::FLOATS);
    for (double x : *fs) p.add_floats(static_cast<float>(x));
  } else if (const auto* ss = std::get_if<std::vector<std::string>>(&a)) {
    p.set_type(A::STRINGS);
    for (const std::string& x : *ss) p.add_strings(x);
  }
}

std::string unescaped(std::string_view s) {
  std::string r;
  for (std::size_t i = 0; i < s.size(); ++i) {
    unsigned c = 0;
    if (s[i] == '%' && i + 2 < s.size() && std::from_chars(s.data() + i + 1, s.data() + i + 3, c, 16).ptr == s.data() + i + 3) r += static_cast<char>(c), i += 2;
    else r += s[i];
  }
  return r;
}

}  // namespace

Tensor parse_onnx_tensor(std::string_view bytes, const Limits& limits) {
  Scan scan{bytes, limits};
  scan.walk(kTensor, 0, bytes.size(), 0);
  onnx::TensorProto p;
  if (!p.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) throw bad_input("the bytes are no ONNX tensor").expected("a TensorProto message");
  return Reader{limits, nullptr, {}, {}, {}, {}}.tensor(p, "the tensor");
}

Graph parse_onnx(std::string_view bytes, const Limits& limits) { return import(bytes, limits, nullptr); }

Graph read_onnx(const std::filesystem::path& path, const Limits& limits) {
  const std::string bytes = read_file(path, limits);
  const std::filesystem::path folder = path.parent_path();
  try {
    return import(bytes, limits, &folder);
  } catch (Error& e) {
    e.at(path.string() + (e.where().empty() ? "" : ": " + e.where()));
    throw;
  }
}

std::string onnx_bytes(const Graph& g, int opset) {
  if (opset < kOldest || opset > kNewest)
    throw bad_input("export to opset {}", opset).expected(fmt::format("{} to {}", kOldest, kNewest));
  verify_structure(g);
  const Limits limits;
  for (const Value& v : g.values) checked_name(v.name, "name", limits);
  for (const Node& n : g.nodes) checked_name(n.name, "name", limits), checked_name(n.op, "operator", limits);
  onnx::ModelProto m;
  m.set_ir_version(8);
  m.set_producer_name("tandem");
  m.set_producer_version(TANDEM_VERSION);
  auto* standard = m.add_opset_import();
  standard->set_domain("");
  standard->set_version(opset);
  std::set<std::string> domains;
  for (const Node& n : g.nodes)
    if (!n.domain.empty()) domains.insert(n.domain);
  for (const std::string& d : domains) {
    auto* o = m.add_opset_import();
    o->set_domain(d);
    o->set_version(1);
  }
  for (const auto& [k, v] : g.metadata) {
    auto* e = m.add_metadata_props();
    e->set_key(k);
    e->set_value(v);
  }
  auto& p = *m.mutable_graph();
  p.set_name(g.name);
  const auto name = [&](ValueId v) { return v == kNone ? std::string() : g.values[static_cast<std::size_t>(v)].name; };
  std::unordered_set<ValueId> listed(g.outputs.begin(), g.outputs.end());
  for (ValueId v : g.inputs) put(*p.add_input(), g.values[static_cast<std::size_t>(v)]), listed.insert(v);
  for (const auto& [v, t] : g.initialisers) {
    auto& x = *p.add_initializer();
    x.set_name(name(v));
    put(x, t);
    listed.insert(v);
  }
  for (const Node& n : g.nodes) {
    auto& x = *p.add_node();
    x.set_name(n.name);
    x.set_op_type(n.op);
    x.set_domain(n.domain);
    for (ValueId v : n.inputs) x.add_input(name(v));
    for (ValueId v : n.outputs) {
      x.add_output(name(v));
      if (v == kNone || !listed.insert(v).second) continue;
      const Value& value = g.values[static_cast<std::size_t>(v)];
      if (value.type.dims || value.type.dtype != DType::f32) put(*p.add_value_info(), value);
    }
    for (const auto& [k, a] : n.attrs) put(*x.add_attribute(), k, a);
  }
  for (ValueId v : g.outputs) put(*p.add_output(), g.values[static_cast<std::size_t>(v)]);
  for (const Value& v : g.values) {
    if (v.quant.empty()) continue;
    auto& q = *p.add_quantization_annotation();
    q.set_tensor_name(v.name);
    for (std::size_t i = 0; i <= v.quant.size();) {
      const std::size_t end = std::min(v.quant.find(';', i), v.quant.size());
      const std::string_view entry = std::string_view(v.quant).substr(i, end - i);
      const std::size_t eq = std::min(entry.find('='), entry.size());
      auto* e = q.add_quant_parameter_tensor_names();
      e->set_key(unescaped(entry.substr(0, eq)));
      e->set_value(unescaped(eq < entry.size() ? entry.substr(eq + 1) : std::string_view()));
      i = end + 1;
    }
  }
  if (m.ByteSizeLong() > static_cast<std::size_t>(std::numeric_limits<int>::max()))
    throw Error(Exit::limit, fmt::format("the model takes {} bytes; an ONNX file holds at most 2 GiB", m.ByteSizeLong()));
  std::string bytes;
  TANDEM_CHECK(m.SerializeToString(&bytes), "protobuf could not write the model");
  return bytes;
}

void write_onnx(const Graph& g, const std::filesystem::path& path, const OnnxOptions& options) {
  write_file(path, onnx_bytes(g, options.opset), options.overwrite);
}

}  // namespace tandem::ir
