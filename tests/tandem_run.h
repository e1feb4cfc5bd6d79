// The built binary as a user runs it: a folder of its own, a shell line, what came out.
#pragma once
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "tandem/base/config.h"
#include "tandem/base/file.h"

namespace tandem::shell {  // no other test may mean these names
namespace fs = std::filesystem;

struct Result {
  int code = -1;
  std::string out, err;
};

struct Folder {
  fs::path path;
  Folder() {
    std::string t = (fs::temp_directory_path() / "tandem-cli-XXXXXX").string();
    path = mkdtemp(t.data());
  }
  Folder(const Folder&) = delete;
  ~Folder() { fs::remove_all(path); }
  // `line` as typed into a shell in this folder, `tandem` being the built one.
  Result run(const std::string& line) const {
    const std::string err = path / ".stderr";
    const std::string bin = fs::path(TANDEM_CLI).parent_path();
    const std::string script = "cd '" + path.string() + "' && export PATH='" + bin + "':\"$PATH\" XDG_CACHE_HOME='" + path.string() +
                               "/cache' TANDEM_TARGETS='" TANDEM_SOURCE_DIR "/targets' && { " + line + " ; } 2>'" + err + "'";
    Result r;
    FILE* p = ::popen(script.c_str(), "r");
    char buffer[4096];
    for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, p)) > 0;) r.out.append(buffer, n);
    const int status = ::pclose(p);
    r.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (fs::exists(err)) r.err = read_file(err);
    return r;
  }
};

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

// The files that examples use, where `--help` has them (beside the user) and where the documents have them (in examples/).
struct Examples : Folder {
  Examples() {
    for (const fs::path& to : {path, path / "examples"}) fs::copy(fs::path(TANDEM_SOURCE_DIR) / "examples", to, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  }
};

inline bool all_tools_here(std::string_view needs) {
  for (std::size_t i = 0; i < needs.size();) {
    const std::size_t end = std::min(needs.find(' ', i), needs.size());
    const std::string tool(needs.substr(i, end - i));
    if (tool == "learn") {
      if (!fs::exists(fs::path(TANDEM_CLI).parent_path() / "libtandem_learn.so")) return false;
    } else if (!tool.empty() && std::system(("command -v " + tool + " >/dev/null 2>&1").c_str()) != 0) {
      return false;
    }
    i = end + 1;
  }
  return true;
}

// The part of JSON Schema that our schemas use. Returns the first violation.
inline std::string violation(const Config& v, const Config& s, const Config& root, const std::string& at) {
  if (const auto ref = s.find("$ref")) {
    const std::string name = ref->as<std::string>();
    return violation(v, root.at("$defs").at(name.substr(std::string("#/$defs/").size())), root, at);
  }
  static const std::set<std::string> kKnown{"$schema", "$defs", "$ref", "$id", "title", "description", "type", "enum", "const", "required", "properties", "additionalProperties", "items"};
  for (const std::string& k : s.keys())
    if (!kKnown.count(k)) return at + ": the schema uses '" + k + "', which this test does not know";
  if (const auto type = s.find("type")) {
    const std::vector<std::string> types = type->is_list() ? type->list<std::string>() : std::vector<std::string>{type->as<std::string>()};
    bool ok = false;
    for (const std::string& t : types) {
      const auto reads = [&](auto zero) {
        try {
          return v.is_scalar() && (v.as<decltype(zero)>(), true);
        } catch (const Error&) {
          return false;
        }
      };
      ok |= t == "object" ? v.is_map() : t == "array" ? v.is_list() : t == "null" ? v.is_null() : t == "string" ? v.is_scalar()
            : t == "boolean" ? reads(false) : t == "integer" ? reads(std::int64_t{}) : reads(0.0);
    }
    if (!ok) return at + " has another type";
  }
  if (const auto c = s.find("const"); c && !(v.is_scalar() && v.as<std::string>() == c->as<std::string>())) return at + " is not the constant";
  if (const auto words = s.find("enum")) {
    bool ok = false;
    for (const Config& w : words->items()) ok |= w.is_null() ? v.is_null() : v.is_scalar() && w.as<std::string>() == v.as<std::string>();
    if (!ok) return at + " is none of the words";
  }
  if (const auto required = s.find("required"))
    for (const std::string& k : required->list<std::string>())
      if (!v.has(k)) return at + " lacks " + k;
  if (v.is_map()) {
    const auto properties = s.find("properties");
    const auto more = s.find("additionalProperties");
    for (const auto& [k, x] : v.entries()) {
      std::string bad;
      if (properties && properties->has(k)) bad = violation(x, properties->at(k), root, at + "." + k);
      else if (more && more->is_map()) bad = violation(x, *more, root, at + "." + k);
      else if (more && more->is_scalar() && !more->as<bool>()) bad = at + " has an unknown key " + k;
      if (!bad.empty()) return bad;
    }
  }
  if (v.is_list())
    if (const auto items = s.find("items")) {
      int i = 0;
      for (const Config& x : v.items())
        if (std::string bad = violation(x, *items, root, fmt::format("{}[{}]", at, i++)); !bad.empty()) return bad;
    }
  return "";
}

}  // namespace tandem::shell
