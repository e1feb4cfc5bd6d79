// Reading what tools print.
#pragma once
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/base/error.h"
#include "tandem/tool/process.h"

namespace tandem::tool {

// The lines that contain one of `marks`, printable, each once, at most 200.
inline std::vector<std::string> lines_with(std::string_view text, std::initializer_list<std::string_view> marks) {
  std::vector<std::string> r;
  std::set<std::string> seen;
  while (!text.empty() && r.size() < 200) {
    const auto nl = text.find('\n');
    const std::string_view line = text.substr(0, nl);
    for (const auto m : marks)
      if (line.find(m) != std::string_view::npos) {
        std::string p = printable(line.substr(0, 500));
        if (seen.insert(p).second) r.push_back(std::move(p));
        break;
      }
    if (nl == std::string_view::npos) break;
    text.remove_prefix(nl + 1);
  }
  return r;
}

// The Error for a tool that failed: time and memory are limits, the rest is its judgement of the input.
inline Error tool_failed(const std::string& tool, const ProcessResult& r, const std::string& what) {
  const bool limit = r.timed_out || r.out_of_limits || r.signal != 0 || r.err.find("No space left") != std::string::npos;
  return Error(limit ? Exit::limit : Exit::bad_input, fmt::format("{}: {}\n{}", tool, what, r.summary()));
}

}  // namespace tandem::tool
