// safetensors: named arrays behind a JSON header; no code, no pickle. Eight bytes of header length, the header
// {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {...}}, the data.
//
// F8, complex and sub-byte element types are refused by name. Offsets must cover the data without holes or overlaps, as
// the format demands; sizes are checked against the bytes present and `Limits` before memory is allocated.
// Source: the format's description in the safetensors repository.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>

#include "tandem/tensor/npy.h"

namespace tandem {

// Error(bad_input) names the file and the array, Error(limit) the limit. `__metadata__` is not read.
Archive read_safetensors(const std::filesystem::path& path, const Limits& limits = {});
Archive parse_safetensors(std::string_view bytes, const Limits& limits = {}, const std::string& where = "safetensors");

// Arrays in the order of their names, data aligned to 8 bytes: equal archives give equal bytes.
std::string safetensors_bytes(const Archive& archive);
void write_safetensors(const std::filesystem::path& path, const Archive& archive, bool overwrite = true);

// Arrays by name from .npz, .npy (one array called "array") or .safetensors, told apart by their content.
Archive read_arrays(const std::filesystem::path& path, const Limits& limits = {});

}  // namespace tandem
