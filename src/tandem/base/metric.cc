#include "tandem/base/metric.h"

namespace tandem {

std::string_view to_string(Fidelity f) {
  switch (f) {
    case Fidelity::estimated: return "estimated";
    case Fidelity::simulated: return "simulated";
    case Fidelity::rtl_simulated: return "rtl-simulated";
    case Fidelity::synthesised: return "synthesised";
    case Fidelity::placed: return "placed";
    case Fidelity::emulated: return "emulated";
    case Fidelity::measured: return "measured";
    case Fidelity::executed: return "executed";
    case Fidelity::published: return "published";
  }
  return "unknown";
}

}  // namespace tandem
