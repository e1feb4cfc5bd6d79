// Private folders in which tools run, and the cache.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace tandem::tool {

// A fresh folder (mode 0700) below $TMPDIR, removed with everything in it at the end. What a killed run left
// behind is removed by the next. Tools see only what is put here, under fixed names.
class WorkFolder {
 public:
  WorkFolder();
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  ~WorkFolder();
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  // Writes a file (name: see safe_name; may hold one folder, "rtl/top.v").
  void put(std::string_view name, std::string_view bytes) const;
  // The file's bytes, at most `limit`; Error(limit) when a tool left it missing or empty (full disk, crash).
  std::string get(std::string_view name, std::uint64_t limit = 1ull << 30) const;
  bool has(std::string_view name) const;  // present and not empty
  void keep();                            // do not remove (debugging)

 private:
  std::filesystem::path path_;
  bool keep_ = false;
};

// $TMPDIR or /tmp: where work folders lie.
std::filesystem::path work_root();

// File names inside a work folder: [A-Za-z0-9_] first, then also . - and single slashes; no "..". They may stand in
// a tool's script. Anything else throws Error(bad_input).
void require_safe_name(std::string_view name);
// Verilog module names that may stand in a script: [A-Za-z_][A-Za-z0-9_]*, at most 200 characters.
void require_identifier(std::string_view name);

// $TANDEM_CACHE, $XDG_CACHE_HOME/tandem, ~/.cache/tandem, or a folder of this user below $TMPDIR: the first that can be
// written. Created.
std::filesystem::path cache_folder();

}  // namespace tandem::tool
