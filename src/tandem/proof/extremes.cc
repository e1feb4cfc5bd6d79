#include "tandem/proof/extremes.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tandem/base/rng.h"

namespace tandem::proof {
namespace {
using I = std::int64_t;
struct Record {
  I value = 0;
  int frame = -1;
};
}  // namespace

std::vector<Tensor> extreme_frames(const ir::ExactProgram& p, const plan::StageGraph& g, std::uint64_t seed, int tries, std::size_t most) {
  const ir::Port& port = p.inputs.at(0);
  const ir::Buffer& b = p.buffers[static_cast<std::size_t>(port.buffer)];
  const double lo = b.integer ? static_cast<double>(static_cast<I>(b.lo)) : -1e6, hi = b.integer ? static_cast<double>(static_cast<I>(b.hi)) : 1e6;
  exec::Executor e(p);
  Rng r(seed, "extremes");
  std::vector<Tensor> kept;
  // By layer and channel: lowest and highest.
  std::vector<std::vector<std::array<Record, 2>>> best(g.layers.size());
  std::vector<std::size_t> known;
  for (std::size_t l = 0; l < g.layers.size(); ++l)
    if (g.layers[l].buffer >= 0 && g.layers[l].out.elements > 0) known.push_back(l);
  if (known.empty()) return {};
  for (int k = 0; k < tries; ++k) {
    Tensor t(port.dtype, b.shape);
    const auto any = [&] { return b.integer ? static_cast<double>(r.range(static_cast<I>(lo), static_cast<I>(hi))) : std::round(16 * r.normal()) / 8; };
    if (kept.empty() || r.chance(0.3)) {
      const bool corner = r.chance(0.5);
      for (I i = 0; i < t.size(); ++i) t.set(i, corner ? (r.chance(0.5) ? lo : hi) : any());
    } else {
      // From the holder of some record on.
      const auto& layer = best[r.pick(known)];
      const Tensor& from = kept[static_cast<std::size_t>(r.pick(layer)[r.chance(0.5)].frame)];
      for (I i = 0; i < t.size(); ++i) t.set(i, from.at(i));
      for (I n = r.range(1, std::max<I>(1, t.size() / 8)); n > 0; --n) t.set(r.range(0, t.size() - 1), r.chance(0.45) ? lo : r.chance(0.8) ? hi : any());
    }
    e.run({t});
    bool further = false;
    for (const std::size_t l : known) {
      const plan::Layer& layer = g.layers[l];
      const std::vector<I> y = e.integers(layer.buffer);
      const std::size_t channels = static_cast<std::size_t>(std::max<I>(1, layer.out.channels));
      best[l].resize(channels);
      for (std::size_t j = 0; j < layer.out.order.size(); ++j) {
        const I v = y[static_cast<std::size_t>(layer.out.order[j])];
        std::array<Record, 2>& c = best[l][j % channels];
        if (c[0].frame < 0 || v < c[0].value) c[0] = {v, static_cast<int>(kept.size())}, further = true;
        if (c[1].frame < 0 || v > c[1].value) c[1] = {v, static_cast<int>(kept.size())}, further = true;
      }
    }
    if (further) kept.push_back(std::move(t));
  }
  std::vector<int> order;
  const auto want = [&](int frame) {
    if (frame >= 0 && std::find(order.begin(), order.end(), frame) == order.end()) order.push_back(frame);
  };
  for (const auto& layer : best) {
    if (layer.empty()) continue;
    want(std::min_element(layer.begin(), layer.end(), [](const auto& x, const auto& y) { return x[0].value < y[0].value; })->at(0).frame);
    want(std::max_element(layer.begin(), layer.end(), [](const auto& x, const auto& y) { return x[1].value < y[1].value; })->at(1).frame);
  }
  for (const auto& layer : best)
    for (const auto& c : layer) want(c[0].frame), want(c[1].frame);
  std::vector<Tensor> out;
  for (int f : order)
    if (out.size() < most) out.push_back(kept[static_cast<std::size_t>(f)]);
  return out;
}

}  // namespace tandem::proof
