// When and on what a result was made: for records, never for results.
#pragma once
#include <string>

namespace tandem {

std::string utc_now();      // "2026-01-31 12:00 UTC"
std::string processor();    // the kernel's name of it, and how many threads we may use; "unknown, 2 processors" where it has none

}  // namespace tandem
