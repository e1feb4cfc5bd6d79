#include "tandem/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <cstdlib>
#include <memory>

#include "tandem/base/error.h"
#include "tandem/base/nearest.h"

namespace tandem {
namespace {

constexpr std::string_view kNames[] = {"debug", "info", "warning", "error", "off"};

LogLevel from_environment() {
  const char* v = std::getenv("TANDEM_LOG");
  for (std::size_t i = 0; v && i < std::size(kNames); ++i)
    if (kNames[i] == v) return static_cast<LogLevel>(i);
  return LogLevel::warning;
}

std::atomic<LogLevel>& level() {
  static std::atomic<LogLevel> l{from_environment()};
  return l;
}

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> l = [] {
    // NO_COLOR (no-color.org) counts when it is set and not empty.
    const char* plain = std::getenv("NO_COLOR");
    auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>(plain && *plain ? spdlog::color_mode::never : spdlog::color_mode::automatic);
    auto made = std::make_shared<spdlog::logger>("tandem", std::move(sink));
    made->set_pattern("%^%l%$ %v");
    made->set_level(spdlog::level::trace);  // filtered by us
    made->flush_on(spdlog::level::debug);
    return made;
  }();
  return *l;
}

}  // namespace

void set_log_level(LogLevel l) { level().store(l); }
LogLevel log_level() { return level().load(std::memory_order_relaxed); }

LogLevel parse_log_level(std::string_view word) {
  for (std::size_t i = 0; i < std::size(kNames); ++i)
    if (kNames[i] == word) return static_cast<LogLevel>(i);
  Error e = bad_input("'{}' is no log level", printable(word)).expected("debug, info, warning, error or off");
  if (const auto near = nearest(word, std::span<const std::string_view>(kNames)); !near.empty()) e.fix(fmt::format("did you mean '{}'?", near));
  throw e;
}

void log_line(LogLevel l, std::string_view text) {
  if (l < log_level() || l == LogLevel::off) return;
  const auto s = l == LogLevel::debug ? spdlog::level::debug : l == LogLevel::info ? spdlog::level::info : l == LogLevel::warning ? spdlog::level::warn : spdlog::level::err;
  const std::string clean = printable(text);
  logger().log(s, spdlog::string_view_t(clean.data(), clean.size()));
}

}  // namespace tandem
