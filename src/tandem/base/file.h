// Reading and writing whole files, safely.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/base/limits.h"

namespace tandem {

// The whole file, or Error(bad_input): missing, a folder, unreadable, larger than limits.file_bytes.
std::string read_file(const std::filesystem::path& path, const Limits& limits = {});

// Writes `path` whole or not at all: a temporary name in the same folder, fsync, rename, fsync of the
// folder. Nothing is left behind when commit() was not reached. Errors: unwritable folder (bad_input),
// disk full (limit, with the bytes needed), existing file without `overwrite` (bad_input).
class FileWriter {
 public:
  explicit FileWriter(std::filesystem::path path, bool overwrite = true);
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  ~FileWriter();
  void write(std::string_view bytes);
  // Makes the file visible under its name. Returns the hash (16 hex digits) of what was written.
  std::string commit();

 private:
  std::filesystem::path path_, tmp_;
  int fd_ = -1;
  std::uint64_t bytes_ = 0, hash_ = 0;
  bool overwrite_;
};

// Convenience: FileWriter, write, commit.
void write_file(const std::filesystem::path& path, std::string_view bytes, bool overwrite = true);

// Checks that a folder can be created and written before long work starts.
void require_writable_folder(const std::filesystem::path& folder);

// Error(limit) when less than `bytes` are free where `folder` lies or will lie; `what` they are for: "the design". A file
// system that does not say is taken to have room.
void require_space(const std::filesystem::path& folder, double bytes, std::string_view what);

}  // namespace tandem
