#include "tandem/proof/rewritten.h"

#include <algorithm>

#include "tandem/base/rng.h"

namespace tandem::proof {

ir::ExactProgram rewritten(const ir::ExactProgram& p, std::uint64_t seed) {
  Rng r(seed, "rewritten");
  ir::ExactProgram q = p;
  const auto weights = [&](std::vector<std::int64_t>& w, const std::optional<ir::WeightType>& type) {
    if (!type) return;
    for (std::int64_t& x : w) x = type->bipolar ? (r.chance(0.5) ? 1 : -1) : r.chance(0.05) ? (r.chance(0.5) ? type->lo : type->hi) : r.range(type->lo, type->hi);
  };
  for (ir::Step& s : q.steps) {
    if (auto* c = std::get_if<ir::IntConv>(&s.params)) weights(c->weights, c->writable);
    else if (auto* m = std::get_if<ir::IntMatMul>(&s.params)) weights(m->weights, m->writable);
    auto* t = std::get_if<ir::IntRequant>(&s.params);
    if (!t || !t->writable) continue;
    const ir::Buffer& in = q.buffers[static_cast<std::size_t>(s.in[0])];
    for (ir::Thresholds& x : t->tables) {
      const Int128 lo = x.flip ? -in.hi : in.lo, span = in.hi - in.lo + 1;
      for (Int128& v : x.t) v = lo + static_cast<Int128>(static_cast<unsigned __int128>(r.u64()) * static_cast<unsigned __int128>(span + 1) >> 64);
      std::sort(x.t.begin(), x.t.end());
    }
  }
  return q;
}

}  // namespace tandem::proof
