#include "tandem/tool/work.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <mutex>
#include <vector>

#include "tandem/base/config.h"
#include "tandem/base/error.h"
#include "tandem/base/file.h"

namespace tandem::tool {
namespace fs = std::filesystem;
namespace {

fs::path temp_root() {
  const char* t = ::getenv("TMPDIR");
  const fs::path p = t && *t == '/' ? fs::path(t) : fs::path("/tmp");
  std::error_code ec;
  const fs::path real = fs::canonical(p, ec);
  return ec ? p : real;
}

// tandem-work-<uid>-<pid>-XXXXXX of processes that are gone.
void sweep(const fs::path& root) {
  const std::string prefix = fmt::format("tandem-work-{}-", ::getuid());
  std::error_code ec;
  for (fs::directory_iterator it(root, ec), end; !ec && it != end; it.increment(ec)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with(prefix)) continue;
    const auto pid = parse_int(std::string_view(name).substr(prefix.size(), name.find('-', prefix.size()) - prefix.size()));
    struct stat st {};
    if (!pid || *pid <= 0 || ::lstat(it->path().c_str(), &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != ::getuid()) continue;
    // A day's grace for folders of other process name spaces (containers that share /tmp).
    if (::kill(static_cast<pid_t>(*pid), 0) == 0 || errno != ESRCH || st.st_mtime > ::time(nullptr) - 24 * 3600) continue;
    std::error_code ignore;
    fs::remove_all(it->path(), ignore);
  }
}

}  // namespace

fs::path work_root() { return temp_root(); }

WorkFolder::WorkFolder() {
  const fs::path root = temp_root();
  static std::once_flag once;
  std::call_once(once, [&] { sweep(root); });
  std::string t = (root / fmt::format("tandem-work-{}-{}-XXXXXX", ::getuid(), ::getpid())).string();
  if (!::mkdtemp(t.data()))
    throw Error(errno == ENOSPC ? Exit::limit : Exit::bad_input, fmt::format("cannot create a work folder below {}", printable(root.string())))
        .fix("set TMPDIR to a folder that can be written");
  path_ = t;
}

WorkFolder::~WorkFolder() {
  if (keep_) return;
  std::error_code ec;
  fs::remove_all(path_, ec);
}

void WorkFolder::keep() { keep_ = true; }

void require_safe_name(std::string_view name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; };
  bool ok = !name.empty() && name.size() <= 255 && name.find("..") == std::string_view::npos && name.back() != '/';
  char before = '/';
  for (char c : name) {
    ok = ok && (letter(c) || (before != '/' && (c == '.' || c == '-' || c == '/')));
    before = c;
  }
  if (!ok) throw bad_input("'{}' is no name for a file of an external tool", printable(name)).expected("letters, digits, _ . - and / between names");
}

void require_identifier(std::string_view name) {
  bool ok = !name.empty() && name.size() <= 200 && !(name[0] >= '0' && name[0] <= '9');
  for (char c : name) ok = ok && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_');
  if (!ok) throw bad_input("'{}' is no plain Verilog identifier", printable(name)).expected("a letter or _, then letters, digits, _");
}

void WorkFolder::put(std::string_view name, std::string_view bytes) const {
  require_safe_name(name);
  const fs::path p = path_ / name;
  if (p.has_parent_path()) {
    std::error_code ec;
    fs::create_directories(p.parent_path(), ec);
  }
  // Scratch: no fsync (1.8 ms each), but a full disk is still an error.
  std::FILE* f = std::fopen(p.c_str(), "wbe");
  if (!f) throw bad_input("cannot write {}", printable(p.string()));
  const bool wrote = std::fwrite(bytes.data(), 1, bytes.size(), f) == bytes.size();
  const bool closed = std::fclose(f) == 0;
  if (!wrote || !closed)
    throw Error(Exit::limit, fmt::format("disk full while writing {}", printable(p.string()))).expected(fmt::format("{} bytes of free space", bytes.size())).fix("free space there, or set TMPDIR");
}

std::string WorkFolder::get(std::string_view name, std::uint64_t limit) const {
  Limits l;
  l.file_bytes = limit;
  // A tool may have left a link that leads outside.
  const auto st = fs::symlink_status(path_ / name);
  if (!fs::is_regular_file(st) || !has(name))
    throw Error(Exit::limit, fmt::format("an external tool left no {}", printable(name))).expected("a file that is not empty").fix("look for a full disk or a lack of memory");
  return read_file(path_ / name, l);
}

bool WorkFolder::has(std::string_view name) const {
  std::error_code ec;
  return fs::is_regular_file(fs::symlink_status(path_ / name, ec)) && fs::file_size(path_ / name, ec) > 0 && !ec;
}

fs::path cache_folder() {
  static std::mutex m;
  const std::lock_guard lock(m);
  std::vector<fs::path> tries;
  const auto env = [](const char* n) { const char* v = ::getenv(n); return v && *v == '/' ? fs::path(v) : fs::path(); };
  if (const auto p = env("TANDEM_CACHE"); !p.empty()) tries.push_back(p);
  if (const auto p = env("XDG_CACHE_HOME"); !p.empty()) tries.push_back(p / "tandem");
  if (const auto p = env("HOME"); !p.empty()) tries.push_back(p / ".cache" / "tandem");
  tries.push_back(temp_root() / fmt::format("tandem-cache-{}", ::getuid()));
  for (const auto& p : tries) {
    std::error_code ec;
    fs::create_directories(p, ec);
    struct stat st {};
    // A folder of somebody else in a shared /tmp is not ours to trust.
    if (::lstat(p.c_str(), &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != ::geteuid() || (st.st_mode & 002)) continue;
    if (::access(p.c_str(), W_OK | X_OK) == 0) return fs::canonical(p);
  }
  throw bad_input("no folder for the cache").fix("set TANDEM_CACHE to a folder of yours that can be written");
}

}  // namespace tandem::tool
