#include "tandem/base/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "tandem/base/error.h"

namespace tandem {

Progress::Progress(std::string_view what, std::uint64_t total, Mode mode)
    : what_(printable(what)), total_(total), mode_(mode), start_(std::chrono::steady_clock::now()), shown_(start_) {
  if (mode_ != Mode::automatic) return;
  const char* asked = std::getenv("TANDEM_PROGRESS");
  if (asked && std::string_view(asked) == "log") mode_ = Mode::log;
  else mode_ = isatty(STDERR_FILENO) ? Mode::terminal : Mode::none;
}

std::string Progress::line(std::string_view what, std::uint64_t done, std::uint64_t total, double elapsed_s, std::string_view note) {
  std::string s(what);
  if (total) {
    s += fmt::format(" {}/{}  {} %", done, total, done * 100 / total);
    if (elapsed_s >= 2 && done > 0 && done < total) {
      auto left = static_cast<std::uint64_t>(elapsed_s * static_cast<double>(total - done) / static_cast<double>(done) + 0.5);
      s += fmt::format("  ETA {}:{:02}", left / 60, left % 60);
    }
  } else {
    s += fmt::format(" {}", done);
  }
  if (!note.empty()) s += "  " + printable(note);
  return s;
}

void Progress::update(std::uint64_t done, std::string_view note) {
  if (mode_ == Mode::none) return;
  auto now = std::chrono::steady_clock::now();
  double since = std::chrono::duration<double>(now - shown_).count(), elapsed = std::chrono::duration<double>(now - start_).count();
  if (since < (mode_ == Mode::log ? 30.0 : drawn_ ? 0.1 : 0.3)) return;
  shown_ = now;
  std::string s = line(what_, done, total_, elapsed, note);
  if (mode_ == Mode::log) {
    std::fprintf(stderr, "%s\n", s.c_str());
    return;
  }
  winsize w{};
  std::size_t width = ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 10 ? w.ws_col : 80;
  if (s.size() >= width) s.resize(width - 1);
  std::fprintf(stderr, "\r\x1b[K%s", s.c_str());
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::finish() {
  if (drawn_) std::fprintf(stderr, "\r\x1b[K");
  drawn_ = false;
}

}  // namespace tandem
