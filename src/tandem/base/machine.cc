#include "tandem/base/machine.h"

#include <fmt/format.h>

#include <ctime>
#include <fstream>

#include "tandem/base/error.h"
#include "tandem/base/parallel.h"

namespace tandem {

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm t{};
  ::gmtime_r(&now, &t);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02} UTC", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min);
}

std::string processor() {
  std::ifstream f("/proc/cpuinfo");
  std::string name = "unknown";
  for (std::string l; std::getline(f, l);)
    if (l.rfind("model name", 0) == 0 && l.find(": ") != l.npos) {
      name = printable(l.substr(l.find(": ") + 2));
      break;
    }
  const int n = ThreadBudget::jobs();
  return fmt::format("{}, {} processor{}", name, n, n == 1 ? "" : "s");
}

}  // namespace tandem
