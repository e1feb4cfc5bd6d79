// Progress of long work: on a terminal one line, redrawn, first within half a second, with an estimate of
// the time left after two seconds; in a log one line per 30 s; in a pipe nothing.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace tandem {

class Progress {
 public:
  enum class Mode { automatic, terminal, log, none };  // automatic: by stderr; TANDEM_PROGRESS=log asks for lines
  // `total` 0: unknown, no estimate. Writes to stderr.
  explicit Progress(std::string_view what, std::uint64_t total = 0, Mode mode = Mode::automatic);
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void update(std::uint64_t done, std::string_view note = "");
  void finish();  // clears the line

  // The line without control codes: "train 12/40  30 %  ETA 0:14  loss 0.31".
  static std::string line(std::string_view what, std::uint64_t done, std::uint64_t total, double elapsed_s, std::string_view note);

 private:
  std::string what_;
  std::uint64_t total_;
  Mode mode_;
  std::chrono::steady_clock::time_point start_, shown_;
  bool drawn_ = false;
};

}  // namespace tandem
