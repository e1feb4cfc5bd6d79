// The log: one logger to stderr. Libraries throw or return; commands and long-running loops may log.
#pragma once
#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace tandem {

enum class LogLevel { debug, info, warning, error, off };
// Default: warning; --verbose and $TANDEM_LOG (debug, info, warning, error, off) change it.
void set_log_level(LogLevel level);
LogLevel log_level();
LogLevel parse_log_level(std::string_view word);  // Error(bad_input) names the nearest
// One line; control characters are made visible, so that a name from a file cannot steer the terminal.
void log_line(LogLevel level, std::string_view text);

template <class... A>
void log_debug(fmt::format_string<A...> f, A&&... a) {
  if (log_level() <= LogLevel::debug) log_line(LogLevel::debug, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void log_info(fmt::format_string<A...> f, A&&... a) {
  if (log_level() <= LogLevel::info) log_line(LogLevel::info, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void log_warning(fmt::format_string<A...> f, A&&... a) {
  if (log_level() <= LogLevel::warning) log_line(LogLevel::warning, fmt::format(f, std::forward<A>(a)...));
}

}  // namespace tandem
