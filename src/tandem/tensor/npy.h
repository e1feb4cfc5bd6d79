// NumPy files: one array (.npy, format versions 1 to 3) or a zip of named arrays (.npz).
//
// Element types are those of DType; big-endian data is converted, Fortran order is transposed, so that a
// Tensor is always little-endian and row-major. bf16, which NumPy lacks, is stored as two-byte void ("<V2"),
// as the ml_dtypes package does. Python objects (pickle), strings, complex and structured types are refused
// by name. Sizes in headers are checked against the bytes present and `Limits` before memory is allocated.
// Source: numpy.lib.format (NEP 1) and the zip format through libzip.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "tandem/base/limits.h"
#include "tandem/tensor/tensor.h"

namespace tandem {

// Arrays by name, in the order of their names.
using Archive = std::map<std::string, Tensor>;

// All throw Error(bad_input) when the file is malformed, truncated or has bytes left over, Error(limit) when it
// exceeds `limits`; the file and, in an archive, the member are named.
Tensor read_npy(const std::filesystem::path& path, const Limits& limits = {});
Archive read_npz(const std::filesystem::path& path, const Limits& limits = {});

// The same from memory; `where` names the source in errors. The result owns its data.
Tensor parse_npy(std::string_view bytes, const Limits& limits = {}, const std::string& where = "npy");
Archive parse_npz(std::string_view bytes, const Limits& limits = {}, const std::string& where = "npz");

// The members of any zip archive. `take`, where given, says which are unpacked, or throws. Names are keys, never paths.
using Members = std::map<std::string, std::string>;
Members parse_zip(std::string_view bytes, const Limits& limits = {}, const std::string& where = "zip", const std::function<bool(const std::string&)>& take = {});
// Deflated, without times.
std::string zip_bytes(const Members& members);

// Version 1.0, little-endian, C order. The archive is deflated, without times: equal archives give equal bytes.
std::string npy_bytes(const Tensor& t);
std::string npz_bytes(const Archive& archive);
void write_npy(const std::filesystem::path& path, const Tensor& t, bool overwrite = true);
void write_npz(const std::filesystem::path& path, const Archive& archive, bool overwrite = true);

}  // namespace tandem
