// Prints the block RAM and multiplier budget of every device that this installation knows.
#include <fmt/format.h>

#include <cstdio>

#include "tandem/base/error.h"
#include "tandem/hardware/target.h"

int main() {
  try {
    for (const auto& t : tandem::hardware::all_targets())
      fmt::print("{}: {} LUT4, {} block RAMs, {} multipliers\n", t.name, t.available("lut4"), t.available("bram"), t.available("dsp"));
    return 0;
  } catch (const tandem::Error& e) {
    fmt::print(stderr, "{}\n", e.full());
    return static_cast<int>(e.code());
  }
}
