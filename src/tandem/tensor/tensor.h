// A dense array: element type, shape, and storage that is owned or borrowed. Row-major (C order),
// always contiguous. No arithmetic lives here.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/base/error.h"
#include "tandem/base/limits.h"

namespace tandem {

enum class DType : std::uint8_t { f32, f64, f16, bf16, i8, i16, i32, i64, u8, u16, u32, u64, boolean };
std::size_t size_of(DType t);
std::string_view to_string(DType t);  // "f32", "i8", ...
constexpr bool is_float(DType t) { return t == DType::f32 || t == DType::f64 || t == DType::f16 || t == DType::bf16; }
constexpr bool is_signed_integer(DType t) { return t == DType::i8 || t == DType::i16 || t == DType::i32 || t == DType::i64; }

using Shape = std::vector<std::int64_t>;
std::string to_string(const Shape& s);  // "[1, 3, 8, 8]"
// Product of extents; throws Error(limit) on overflow or a negative extent.
std::int64_t element_count(const Shape& s);
std::vector<std::int64_t> row_major_strides(const Shape& s);

template <class T> constexpr DType dtype_of();
template <> constexpr DType dtype_of<float>() { return DType::f32; }
template <> constexpr DType dtype_of<double>() { return DType::f64; }
template <> constexpr DType dtype_of<std::int8_t>() { return DType::i8; }
template <> constexpr DType dtype_of<std::int16_t>() { return DType::i16; }
template <> constexpr DType dtype_of<std::int32_t>() { return DType::i32; }
template <> constexpr DType dtype_of<std::int64_t>() { return DType::i64; }
template <> constexpr DType dtype_of<std::uint8_t>() { return DType::u8; }
template <> constexpr DType dtype_of<std::uint16_t>() { return DType::u16; }
template <> constexpr DType dtype_of<std::uint32_t>() { return DType::u32; }
template <> constexpr DType dtype_of<std::uint64_t>() { return DType::u64; }
template <> constexpr DType dtype_of<bool>() { return DType::boolean; }

class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, Shape shape);  // owned, zero-filled
  // Borrowed: `data` must outlive the tensor and its copies.
  static Tensor borrow(DType dtype, Shape shape, const void* data);
  template <class T>
  static Tensor of(Shape shape, std::span<const T> values) {
    Tensor t(dtype_of<T>(), std::move(shape));
    TANDEM_CHECK(static_cast<std::size_t>(t.size()) == values.size(), "Tensor::of: {} values for shape {}",
                 values.size(), to_string(t.shape()));
    std::copy(values.begin(), values.end(), t.data<T>());
    return t;
  }
  template <class T>
  static Tensor of(Shape shape, const std::vector<T>& values) { return of(std::move(shape), std::span<const T>(values)); }
  template <class T>
  static Tensor scalar(T v) { return of<T>({}, std::span<const T>(&v, 1)); }

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::int64_t rank() const { return static_cast<std::int64_t>(shape_.size()); }
  std::int64_t size() const { return size_; }
  std::size_t bytes() const { return static_cast<std::size_t>(size_) * size_of(dtype_); }
  bool defined() const { return data_ != nullptr || size_ == 0; }

  // Typed access; TANDEM_CHECKs the element type. Writing needs an owned tensor (copy on write).
  template <class T> const T* data() const {
    TANDEM_CHECK(dtype_of<T>() == dtype_, "tensor holds {}, asked for {}", to_string(dtype_), to_string(dtype_of<T>()));
    return static_cast<const T*>(raw());
  }
  template <class T> T* data() {
    TANDEM_CHECK(dtype_of<T>() == dtype_, "tensor holds {}, asked for {}", to_string(dtype_), to_string(dtype_of<T>()));
    return static_cast<T*>(raw_mutable());
  }
  template <class T> std::span<const T> values() const { return {data<T>(), static_cast<std::size_t>(size_)}; }
  const void* raw() const { return data_; }
  void* raw_mutable();

  // Element i (flat, row-major) as a number, whatever the element type (f16 and bf16 included).
  double at(std::int64_t i) const;
  std::int64_t int_at(std::int64_t i) const;  // as cast(i64)
  void set(std::int64_t i, double v);  // nearest even for floats; truncation, saturating, for integers (NaN: 0)

  Tensor reshaped(Shape s) const;      // shares storage; throws Error(bad_input) when the sizes differ
  // To a float: rounded once, nearest even. Float to integer: truncated and saturated, NaN gives 0.
  // Integer to integer: the low bits. To boolean: v != 0.
  Tensor cast(DType t) const;
  // Rows [begin, end) along axis 0 (copies).
  Tensor rows(std::int64_t begin, std::int64_t end) const;
  bool same(const Tensor& o) const;    // dtype, shape and bytes

 private:
  DType dtype_ = DType::f32;
  Shape shape_;
  std::int64_t size_ = 0;
  const void* data_ = nullptr;
  std::shared_ptr<std::vector<std::byte>> own_;
};

float half_to_float(std::uint16_t h);
std::uint16_t float_to_half(float f);    // nearest even
float bf16_to_float(std::uint16_t h);
std::uint16_t float_to_bf16(float f);    // nearest even

}  // namespace tandem
