// The external tools we know: where they are, which version, which Debian package brings them.
#pragma once
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tandem::tool {

struct Tool {
  std::string name;
  std::filesystem::path path;  // absolute
  std::string version;         // "0.23", or "unknown" for tools that do not say
  std::string package;         // Debian package
};

struct KnownTool {
  std::string_view name, package, used_for;
  std::string_view version_option;  // "" when the tool has none
  bool optional = false;            // a machine without it is complete: one kind of target or one figure is missing
};
std::span<const KnownTool> known_tools();

// Searches $PATH, then /usr/bin. Throws Error(tool_missing) with the package to install. Found tools are remembered.
const Tool& find(std::string_view name);
std::optional<Tool> try_find(std::string_view name);

}  // namespace tandem::tool
