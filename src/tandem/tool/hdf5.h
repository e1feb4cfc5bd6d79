// HDF5 files: every dataset and attribute of a file, read by a child in the sandbox (tandem-hdf5, hdf5_child/).
//
// libhdf5 crashes, hangs and follows links out of a file when the file asks for it (docs/reliability.md), so it
// is never loaded here: the child writes what it found as one flat container, which is parsed with every size
// checked. Refused by name: links into other files, external and virtual storage, symbolic links, objects named
// twice, filters that are not part of HDF5, arrays larger than the limits.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/base/cancel.h"
#include "tandem/base/limits.h"
#include "tandem/tensor/tensor.h"

namespace tandem::tool {

// Numbers, or strings in row-major order.
struct Hdf5Array {
  bool is_text = false;
  Tensor numbers;
  Shape shape;
  std::vector<std::string> text;
};

struct Hdf5File {
  std::vector<std::string> groups;                                       // "/", "/model_weights/dense", in the file's order
  std::map<std::string, Hdf5Array> datasets;                             // by path
  std::map<std::string, std::map<std::string, Hdf5Array>> attributes;    // by path of the object, then by name
  std::map<std::string, std::string> skipped;                            // "/path" or "/path@attribute": why it is not here

  const Hdf5Array* dataset(const std::string& path) const;
  const Hdf5Array* attribute(const std::string& path, const std::string& name) const;
};

// Error(bad_input): no HDF5 file, or refused as above; Error(limit); Error(tool_missing) where the child was not
// built (it needs libhdf5-dev); Error(no) where there is no sandbox.
Hdf5File read_hdf5(const std::filesystem::path& path, const Limits& limits = {}, const Cancel& cancel = Cancel::never());

// What the child wrote. Error(bad_input) names the byte.
Hdf5File parse_hdf5_container(std::string_view bytes, std::uint64_t nonce, const Limits& limits = {});

// The child, beside the library or in libexec/tandem of its prefix; empty when it was not built.
std::filesystem::path hdf5_program();

}  // namespace tandem::tool
