// Names, types and tensors of ONNX files, external data included.
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>
#include <cmath>
#include <cstring>

#include "tandem/base/rng.h"
#include "tandem/ir/onnx_private.h"

namespace tandem::ir::onnx_file {

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

namespace {

struct Fd {
  int fd;
  ~Fd() { if (fd >= 0) ::close(fd); }
};

// External data: below the folder of the model, a regular file, no symbolic link on the way.
// false: the file does not exist, and `absent` allows that.
bool read_external(const onnx::TensorProto& p, const std::filesystem::path* folder, Absent absent, std::set<std::string>& invented, void* to, std::uint64_t bytes, const std::string& what) {
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
  if (file.fd < 0 && errno == ENOENT && absent == Absent::invent) {
    invented.insert(printable(location));
    return false;
  }
  struct stat st {};
  if (file.fd < 0 || ::fstat(file.fd, &st) != 0)
    throw bad_input("external data '{}' cannot be opened: {}", printable(location), std::strerror(errno))
        .at(what)
        .expected("a regular file below the folder of the model, reached without symbolic links")
        .fix("put it beside the model; for the structure alone: --weights random");
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
  return true;
}

// Of the size that keeps values as they are through a contraction; vectors (variances among them) around 1.
void invent(Tensor& t, const std::string& what) {
  if (!is_float(t.dtype())) return;
  Rng r(1, what);
  const double spread = std::sqrt(2.0 * static_cast<double>(t.shape().empty() ? 1 : std::max<std::int64_t>(t.shape()[0], 1)) / static_cast<double>(t.size()));
  for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, t.rank() < 2 ? 0.5 + r.uniform() : spread * std::sqrt(3.0) * (2 * r.uniform() - 1));
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

}  // namespace

Tensor TensorReader::tensor(const onnx::TensorProto& p, const std::string& what) {
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
    if (!read_external(p, folder, absent, invented, t.raw_mutable(), bytes, what)) invent(t, what);
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

TensorType TensorReader::type(const onnx::ValueInfoProto& v) const {
  const std::string what = fmt::format("value '{}'", v.name());
  if (v.type().value_case() != onnx::TypeProto::kTensorType)
    throw bad_input("{} is no tensor", what)
        .expected("tensors (sequences, maps, optional and sparse values are not supported)")
        .fix(v.type().value_case() == onnx::TypeProto::kMapType || v.type().sequence_type().elem_type().value_case() == onnx::TypeProto::kMapType ? "a classifier: end the model before its ZipMap (scikit-learn: convert with the option zipmap=False)" : "");
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

}  // namespace tandem::ir::onnx_file
