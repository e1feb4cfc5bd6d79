#include "tandem/plan/moves.h"

#include <algorithm>
#include <numeric>

namespace tandem::plan {
namespace {
using I = std::int64_t;
std::size_t ix(I i) { return static_cast<std::size_t>(i); }

std::vector<I> divisors(I n) {
  std::vector<I> d;
  for (I k = 1; k * k <= n; ++k)
    if (n % k == 0) {
      d.push_back(k);
      if (k * k != n) d.push_back(n / k);
    }
  std::sort(d.begin(), d.end());
  return d;
}

// What hardware needs for one factor: nothing for all ones, two comparisons for one run of ones, else its bits.
I weight(const std::vector<bool>& m) {
  const auto first = std::find(m.begin(), m.end(), true), last = std::find(m.rbegin(), m.rend(), true).base();
  if (first == m.end() || std::find(first, last, false) != last) return static_cast<I>(m.size());
  return last - first == static_cast<I>(m.size()) ? 0 : std::min<I>(static_cast<I>(m.size()), 16);
}
}  // namespace

std::vector<std::int32_t> order_of(const Shape& frame, const std::vector<std::size_t>& axes) {
  const std::vector<I> strides = row_major_strides(frame);
  const I count = element_count(frame);
  std::vector<std::int32_t> order(ix(count));
  if (count == 0 || axes.empty()) return order;
  const I n = frame[axes.back()], step = strides[axes.back()];
  std::vector<I> at(axes.size(), 0);
  I flat = 0;
  for (I k = 0; k < count; k += n) {
    for (I i = 0; i < n; ++i) order[ix(k + i)] = static_cast<std::int32_t>(flat + i * step);
    for (std::size_t d = axes.size() - 1; d-- > 0;) {
      flat += strides[axes[d]];
      if (++at[d] < frame[axes[d]]) break;
      flat -= at[d] * strides[axes[d]];
      at[d] = 0;
    }
  }
  return order;
}

Order Orders::known(std::vector<std::int32_t> order) {
  for (const Order& o : all_)
    if (o.get() == order) return o;
  return all_.emplace_back(std::move(order));
}
const Order& Orders::of(const Shape& frame, const std::vector<std::size_t>& axes) {
  const auto [it, fresh] = of_.try_emplace({frame, axes});
  if (fresh) it->second = known(order_of(frame, axes));
  return it->second;
}
const Order& Orders::exchanged(const Order& stream, const Shape& frame, const std::vector<std::size_t>& axes) {
  const auto [it, fresh] = exchanged_.try_emplace({stream.get().data(), frame, axes});
  if (fresh) {
    std::vector<std::int32_t> to(stream.size()), order;  // to: place in the new frame
    std::int32_t o = 0;
    for (std::int32_t source : of(frame, axes)) to[ix(source)] = o++;
    order.reserve(to.size());
    for (std::int32_t e : stream) order.push_back(to[ix(e)]);
    it->second = {stream, known(std::move(order))};
  }
  return it->second.second;
}

std::vector<std::size_t> usual_axes(const Shape& frame) {
  if (frame.size() == 3) return {1, 2, 0};
  std::vector<std::size_t> axes(frame.size());
  std::iota(axes.begin(), axes.end(), std::size_t(0));
  return axes;
}

std::vector<Loop> find_loops(const std::vector<std::int32_t>& from) {
  std::vector<Loop> loops;
  std::vector<std::int32_t> inner;
  while (const std::vector<std::int32_t>* all = loops.empty() ? &from : &inner) {
    const std::vector<std::int32_t>& a = *all;
    if (a.size() <= 1) break;
    const I stride = a[1] - a[0];
    std::size_t n = 2;
    while (n < a.size() && a[n] - a[n - 1] == stride) ++n;
    if (a.size() % n || loops.size() == 6) return {};
    std::vector<std::int32_t> outer;
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (i % n == 0) outer.push_back(a[i]);
      else if (a[i] - a[i - 1] != stride) return {};
    }
    loops.push_back({static_cast<I>(n), stride});
    inner = std::move(outer);
  }
  if (loops.empty()) loops.push_back({1, 1});
  std::reverse(loops.begin(), loops.end());
  return loops;
}

std::vector<std::vector<bool>> factor(const std::vector<bool>& mask) {
  const I n = static_cast<I>(mask.size());
  std::vector<std::vector<bool>> best{mask};
  I least = weight(mask);
  if (least == 0) return best;
  for (I p : divisors(n)) {
    if (p == 1 || p == n) continue;
    std::vector<bool> outer, inner;
    bool ok = true;
    for (I b = 0; b < n && ok; b += p) {
      const auto begin = mask.begin() + b;
      const bool any = std::find(begin, begin + p, true) != begin + p;
      outer.push_back(any);
      if (!any) continue;
      if (inner.empty()) inner.assign(begin, begin + p);
      else ok = std::equal(inner.begin(), inner.end(), begin);
    }
    if (!ok || inner.empty()) continue;
    std::vector<std::vector<bool>> parts = factor(outer);
    for (auto& m : factor(inner)) parts.push_back(std::move(m));
    I sum = 0;
    for (const auto& m : parts) sum += weight(m);
    if (sum < least || (sum == least && parts.size() < best.size())) {
      least = sum;
      best = std::move(parts);
    }
  }
  return best;
}

std::int64_t unit_of(const std::vector<std::int32_t>& from) {
  I u = static_cast<I>(from.size());
  for (I i = 0; i < static_cast<I>(from.size()); ++i)
    if (i == 0 || from[ix(i)] != from[ix(i - 1)] + 1) u = std::gcd(std::gcd(u, i), static_cast<I>(from[ix(i)]));
  return u;
}

std::int64_t unit_of(const std::vector<bool>& mask) {
  I u = static_cast<I>(mask.size());
  for (I i = 1; i < static_cast<I>(mask.size()); ++i)
    if (mask[ix(i)] != mask[ix(i - 1)]) u = std::gcd(u, i);
  return u;
}

}  // namespace tandem::plan
