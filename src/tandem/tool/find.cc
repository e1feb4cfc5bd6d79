#include "tandem/tool/find.h"

#include <unistd.h>

#include <cctype>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "tandem/base/error.h"
#include "tandem/base/nearest.h"
#include "tandem/tool/process.h"
#include "tandem/tool/work.h"

namespace tandem::tool {
namespace fs = std::filesystem;
namespace {

constexpr KnownTool kTools[] = {
    {"yosys", "yosys", "synthesis", "-V"},
    {"nextpnr-ice40", "nextpnr-ice40", "placement, routing and timing for iCE40", "--version"},
    {"icepack", "fpga-icestorm", "bitstreams for iCE40", ""},
    {"sta", "opensta", "timing of standard cells", "-version", true},
    {"verilator", "verilator", "fast simulation and lint of Verilog", "--version"},
    {"iverilog", "iverilog", "a second Verilog simulator", "-V"},
    {"vvp", "iverilog", "runs what iverilog compiled", "-V"},
    {"g++", "g++", "compiles Verilator's models", "-dumpfullversion"},
    {"bwrap", "bubblewrap", "the sandbox of external tools", "--version"},
};

// The first word that looks like 1.2 or 1.2.3.
std::string version_in(const std::string& text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!std::isdigit(static_cast<unsigned char>(text[i])) || (i > 0 && (std::isalnum(static_cast<unsigned char>(text[i - 1])) || text[i - 1] == '.'))) continue;
    std::size_t j = i;
    bool dot = false;
    for (; j < text.size() && (std::isdigit(static_cast<unsigned char>(text[j])) || text[j] == '.'); ++j) dot = dot || text[j] == '.';
    std::string v = text.substr(i, j - i);
    while (v.ends_with('.')) v.pop_back();
    if (dot && v.find('.') != std::string::npos) return v;
    i = j;
  }
  return "unknown";
}

std::mutex g_mutex;
std::map<std::string, Tool> g_found;  // by $PATH and name; elements never move

const Tool* search(const KnownTool& k) {
  const char* env = ::getenv("PATH");
  const std::string path = env ? env : "";
  const std::lock_guard lock(g_mutex);
  const std::string key = path + "\n" + std::string(k.name);
  if (const auto it = g_found.find(key); it != g_found.end()) return &it->second;
  std::vector<std::string> folders;
  for (std::string_view rest = path;;) {
    const auto c = rest.find(':');
    if (const auto f = rest.substr(0, c); f.starts_with('/')) folders.emplace_back(f);  // never the current folder
    if (c == std::string_view::npos) break;
    rest.remove_prefix(c + 1);
  }
  for (const auto& f : folders) {
    const fs::path p = fs::path(f) / k.name;
    std::error_code ec;
    if (!fs::is_regular_file(p, ec) || ::access(p.c_str(), X_OK) != 0) continue;
    Tool t{std::string(k.name), p, "unknown", std::string(k.package)};
    if (!k.version_option.empty()) {
      const WorkFolder w;
      Process ask;
      ask.argv = {p.string(), std::string(k.version_option)};
      ask.folder = w.path();
      ask.seconds = 20;
      const ProcessResult r = ask.run();
      t.version = version_in(r.out + "\n" + r.err);
    }
    return &g_found.emplace(key, std::move(t)).first->second;
  }
  return nullptr;
}

const KnownTool& known(std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto& k : kTools) {
    if (k.name == name) return k;
    names.push_back(k.name);
  }
  const std::string near = nearest(name, std::span<const std::string_view>(names));
  throw bad_input("no external tool is called '{}'", printable(name)).fix(near.empty() ? "" : fmt::format("did you mean '{}'?", near));
}

}  // namespace

std::span<const KnownTool> known_tools() { return kTools; }

std::optional<Tool> try_find(std::string_view name) {
  const Tool* t = search(known(name));
  return t ? std::optional<Tool>(*t) : std::nullopt;
}

const Tool& find(std::string_view name) {
  const KnownTool& k = known(name);
  if (const Tool* t = search(k)) return *t;
  throw Error(Exit::tool_missing, fmt::format("{} is not installed ({})", k.name, k.used_for)).fix(fmt::format("apt-get install {}", k.package));
}

}  // namespace tandem::tool
