#include "tandem/tensor/tensor.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

namespace tandem {

std::size_t size_of(DType t) {
  switch (t) {
    case DType::f64: case DType::i64: case DType::u64: return 8;
    case DType::f32: case DType::i32: case DType::u32: return 4;
    case DType::f16: case DType::bf16: case DType::i16: case DType::u16: return 2;
    case DType::i8: case DType::u8: case DType::boolean: return 1;
  }
  bug(__FILE__, __LINE__, "unknown element type");
}

std::string_view to_string(DType t) {
  switch (t) {
    case DType::f32: return "f32";
    case DType::f64: return "f64";
    case DType::f16: return "f16";
    case DType::bf16: return "bf16";
    case DType::i8: return "i8";
    case DType::i16: return "i16";
    case DType::i32: return "i32";
    case DType::i64: return "i64";
    case DType::u8: return "u8";
    case DType::u16: return "u16";
    case DType::u32: return "u32";
    case DType::u64: return "u64";
    case DType::boolean: return "bool";
  }
  bug(__FILE__, __LINE__, "unknown element type");
}

std::string to_string(const Shape& s) { return fmt::format("[{}]", fmt::join(s, ", ")); }

std::int64_t element_count(const Shape& s) {
  // A zero extent makes the product zero, but the other extents must still be sane.
  std::int64_t n = 1;
  bool empty = false;
  for (std::int64_t d : s) {
    if (d < 0) throw Error(Exit::limit, fmt::format("shape {} has a negative extent", to_string(s)));
    if (d == 0) { empty = true; continue; }
    if (__builtin_mul_overflow(n, d, &n))
      throw Error(Exit::limit, fmt::format("shape {} has more than 2^63 elements", to_string(s)));
  }
  return empty ? 0 : n;
}

std::vector<std::int64_t> row_major_strides(const Shape& s) {
  std::vector<std::int64_t> r(s.size());
  std::int64_t n = 1;
  for (std::size_t i = s.size(); i-- > 0;) {
    r[i] = n;
    n *= s[i];
  }
  return r;
}

float half_to_float(std::uint16_t h) {
  const std::uint32_t sign = (h & 0x8000u) << 16;
  const std::uint32_t e = (h >> 10) & 0x1f, m = h & 0x3ff;
  if (e == 31) return std::bit_cast<float>(sign | 0x7f800000u | (m << 13));
  if (e == 0) {
    const float v = static_cast<float>(m) * 0x1p-24f;  // exact
    return sign ? -v : v;
  }
  return std::bit_cast<float>(sign | ((e + 112) << 23) | (m << 13));
}

std::uint16_t float_to_half(float f) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(f), a = u & 0x7fffffffu;
  const std::uint16_t sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
  if (a > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u | ((a >> 13) & 0x3ff));  // quiet NaN
  if (a >= 0x47800000u) return sign | 0x7c00u;                                                   // >= 2^16
  std::uint32_t m, shift;  // half bits before rounding are m >> shift
  if (a >= 0x38800000u) {  // >= 2^-14: normal
    m = a - (112u << 23);
    shift = 13;
  } else {
    const std::uint32_t e = a >> 23;
    if (e < 101) return sign;  // < 2^-26: below half of the smallest subnormal, ties included
    m = (a & 0x7fffffu) | 0x800000u;
    shift = 126 - e;
  }
  const std::uint32_t q = m >> shift, rest = m & ((1u << shift) - 1), half = 1u << (shift - 1);
  return static_cast<std::uint16_t>(sign | (q + (rest > half || (rest == half && (q & 1)))));
}

float bf16_to_float(std::uint16_t h) { return std::bit_cast<float>(static_cast<std::uint32_t>(h) << 16); }

std::uint16_t float_to_bf16(float f) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((u >> 16) | 0x40u);
  return static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}

namespace {

// Elements in memory whose C++ type is not the number itself.
struct Half { std::uint16_t bits; };
struct Bf16 { std::uint16_t bits; };

template <class F>
decltype(auto) dispatch(DType t, F&& f) {
  switch (t) {
    case DType::f32: return f(float{});
    case DType::f64: return f(double{});
    case DType::f16: return f(Half{});
    case DType::bf16: return f(Bf16{});
    case DType::i8: return f(std::int8_t{});
    case DType::i16: return f(std::int16_t{});
    case DType::i32: return f(std::int32_t{});
    case DType::i64: return f(std::int64_t{});
    case DType::u8: return f(std::uint8_t{});
    case DType::u16: return f(std::uint16_t{});
    case DType::u32: return f(std::uint32_t{});
    case DType::u64: return f(std::uint64_t{});
    case DType::boolean: return f(bool{});
  }
  bug(__FILE__, __LINE__, "unknown element type");
}

// The number an element stands for, in a type that holds it exactly.
template <class T>
auto number(T v) {
  if constexpr (std::is_same_v<T, Half>) return half_to_float(v.bits);
  else if constexpr (std::is_same_v<T, Bf16>) return bf16_to_float(v.bits);
  else if constexpr (std::is_same_v<T, bool>) return static_cast<std::uint8_t>(v);
  else return v;
}

// A float from which a later rounding to a narrower float is the rounding of v itself: the value
// toward zero with the last bit set when inexact ("round to odd").
template <class T>
float to_odd(T v) {
  if constexpr (std::is_same_v<T, float>) {
    return v;
  } else {
    float f = static_cast<float>(v);
    bool inexact, above;  // above: |f| > |v|
    if constexpr (std::is_floating_point_v<T>) {
      if (std::isnan(v) || std::isinf(v)) return f;
      inexact = static_cast<T>(f) != v;
      above = std::fabs(static_cast<T>(f)) > std::fabs(v);
    } else {
      const __int128 e = static_cast<__int128>(f), x = v;
      inexact = e != x;
      above = (e < 0 ? -e : e) > (x < 0 ? -x : x);
    }
    if (!inexact) return f;
    std::uint32_t u = std::bit_cast<std::uint32_t>(f);
    if (above) --u;  // one step toward zero; from infinity to the largest finite
    return std::bit_cast<float>(u | 1u);
  }
}

// Float to integer truncates and saturates, NaN gives 0; integer to integer keeps the low bits.
template <class To, class From>
To convert(From v) {
  if constexpr (std::is_same_v<To, Half>) {
    return Half{float_to_half(to_odd(v))};
  } else if constexpr (std::is_same_v<To, Bf16>) {
    return Bf16{float_to_bf16(to_odd(v))};
  } else if constexpr (std::is_same_v<To, bool>) {
    return v != 0;
  } else if constexpr (std::is_integral_v<To> && std::is_floating_point_v<From>) {
    if (std::isnan(v)) return 0;
    // 2^digits is exact in From; the largest integer of To may not be.
    const From top = std::ldexp(From(1), std::numeric_limits<To>::digits);
    if (v >= top) return std::numeric_limits<To>::max();
    if (v <= (std::is_signed_v<To> ? -top : From(0))) return std::numeric_limits<To>::min();
    return static_cast<To>(v);
  } else {
    return static_cast<To>(v);
  }
}

template <class T>
T load(const void* p, std::int64_t i) {
  T v;
  std::memcpy(&v, static_cast<const std::byte*>(p) + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
  return v;
}
template <class T>
void store(void* p, std::int64_t i, T v) {
  std::memcpy(static_cast<std::byte*>(p) + static_cast<std::size_t>(i) * sizeof(T), &v, sizeof(T));
}

}  // namespace

Tensor::Tensor(DType dtype, Shape shape) : dtype_(dtype), shape_(std::move(shape)), size_(element_count(shape_)) {
  std::int64_t n;
  if (__builtin_mul_overflow(size_, static_cast<std::int64_t>(size_of(dtype_)), &n))
    throw Error(Exit::limit, fmt::format("a tensor {} of {} does not fit memory", to_string(shape_), to_string(dtype_)));
  own_ = std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(n));
  data_ = own_->data();
}

Tensor Tensor::borrow(DType dtype, Shape shape, const void* data) {
  Tensor t;
  t.dtype_ = dtype;
  t.shape_ = std::move(shape);
  t.size_ = element_count(t.shape_);
  t.data_ = data;
  return t;
}

void* Tensor::raw_mutable() {
  if (!own_ || own_.use_count() > 1) {
    const auto* p = static_cast<const std::byte*>(data_);
    own_ = data_ ? std::make_shared<std::vector<std::byte>>(p, p + bytes())
                 : std::make_shared<std::vector<std::byte>>(bytes());
    data_ = own_->data();
  }
  return own_->data();
}

double Tensor::at(std::int64_t i) const {
  TANDEM_CHECK(i >= 0 && i < size_, "element {} of a tensor {}", i, to_string(shape_));
  return dispatch(dtype_, [&]<class T>(T) { return static_cast<double>(number(load<T>(data_, i))); });
}

std::int64_t Tensor::int_at(std::int64_t i) const {
  TANDEM_CHECK(i >= 0 && i < size_, "element {} of a tensor {}", i, to_string(shape_));
  return dispatch(dtype_, [&]<class T>(T) { return convert<std::int64_t>(number(load<T>(data_, i))); });
}

void Tensor::set(std::int64_t i, double v) {
  TANDEM_CHECK(i >= 0 && i < size_, "element {} of a tensor {}", i, to_string(shape_));
  void* p = raw_mutable();
  dispatch(dtype_, [&]<class T>(T) { store<T>(p, i, convert<T>(v)); });
}

Tensor Tensor::reshaped(Shape s) const {
  if (element_count(s) != size_)
    throw bad_input("a tensor {} cannot be reshaped to {}", to_string(shape_), to_string(s))
        .expected(fmt::format("a shape of {} elements", size_));
  Tensor t = *this;
  t.shape_ = std::move(s);
  return t;
}

Tensor Tensor::cast(DType t) const {
  if (t == dtype_) return *this;
  Tensor r(t, shape_);
  void* out = r.raw_mutable();
  dispatch(dtype_, [&]<class From>(From) {
    dispatch(t, [&]<class To>(To) {
      for (std::int64_t i = 0; i < size_; ++i) store<To>(out, i, convert<To>(number(load<From>(data_, i))));
    });
  });
  return r;
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t end) const {
  TANDEM_CHECK(rank() >= 1 && begin >= 0 && begin <= end && end <= shape_[0], "rows [{}, {}) of a tensor {}", begin,
               end, to_string(shape_));
  Shape s = shape_;
  s[0] = end - begin;
  Tensor r(dtype_, std::move(s));
  if (r.bytes() != 0) {
    const std::size_t row = bytes() / static_cast<std::size_t>(shape_[0]);
    std::memcpy(r.raw_mutable(), static_cast<const std::byte*>(data_) + static_cast<std::size_t>(begin) * row, r.bytes());
  }
  return r;
}

bool Tensor::same(const Tensor& o) const {
  return dtype_ == o.dtype_ && shape_ == o.shape_ && (bytes() == 0 || std::memcmp(data_, o.data_, bytes()) == 0);
}

}  // namespace tandem
