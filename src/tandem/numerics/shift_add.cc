#include "tandem/numerics/shift_add.h"

#include <algorithm>
#include <queue>
#include <unordered_map>

#include "tandem/base/error.h"

namespace tandem {
namespace {
using Node = ShiftAdd::Node;
using Key = std::uint64_t;

struct Term {
  int v = 0, shift = 0;
  bool minus = false;
  bool operator<(const Term& o) const { return v != o.v ? v < o.v : shift < o.shift; }
};

// A pattern: u + or - (v << d), u before v.
Key key_of(Term u, Term v) {
  if (v < u) std::swap(u, v);
  return static_cast<Key>(u.v) << 40 | static_cast<Key>(v.v) << 16 | static_cast<Key>(v.shift - u.shift + 128) << 1 | static_cast<Key>(u.minus != v.minus);
}

// Rows of terms, whose most frequent pair of terms becomes a node of its own until none occurs twice.
class Sharing {
 public:
  Sharing(std::vector<Node>& nodes, std::vector<std::vector<Term>>& rows) : nodes_(nodes), rows_(rows) {}

  void run() {
    for (std::size_t r = 0; r < rows_.size(); ++r)
      for (std::size_t i = 0; i < rows_[r].size(); ++i) {
        note(rows_[r][i].v, static_cast<int>(r));
        for (std::size_t j = i + 1; j < rows_[r].size(); ++j) ++count_[key_of(rows_[r][i], rows_[r][j])];
      }
    for (const auto& [k, n] : count_)
      if (n > 1) heap_.push({n, ~k});
    while (!heap_.empty()) {
      const auto [n, inverse] = heap_.top();
      heap_.pop();
      const Key k = ~inverse;
      const int now = count_[k];
      if (now < n) {
        if (now > 1) heap_.push({now, inverse});
        continue;
      }
      replace(k);
    }
  }

 private:
  std::vector<Node>& nodes_;
  std::vector<std::vector<Term>>& rows_;
  std::unordered_map<Key, int> count_;
  std::priority_queue<std::pair<int, Key>> heap_;   // stale entries are too high; ties to the smallest key
  std::unordered_map<int, std::vector<int>> where_;  // rows that have or had a term of the value

  void note(int v, int row) {
    std::vector<int>& w = where_[v];
    if (w.empty() || w.back() != row) w.push_back(row);
  }
  void drop(std::vector<Term>& row, std::size_t i) {
    const Term t = row[i];
    row.erase(row.begin() + static_cast<std::ptrdiff_t>(i));
    for (const Term& o : row) --count_[key_of(t, o)];
  }
  void put(std::vector<Term>& row, Term t) {
    for (const Term& o : row) {
      const Key k = key_of(t, o);
      if (const int n = ++count_[k]; n > 1) heap_.push({n, ~k});
    }
    row.insert(std::upper_bound(row.begin(), row.end(), t), t);
  }
  static std::size_t find(const std::vector<Term>& row, int v, int shift, bool minus) {
    const auto it = std::lower_bound(row.begin(), row.end(), Term{v, shift, false});
    return it != row.end() && it->v == v && it->shift == shift && it->minus == minus ? static_cast<std::size_t>(it - row.begin()) : row.size();
  }
  void replace(Key k) {
    const int u = static_cast<int>(k >> 40), v = static_cast<int>(k >> 16 & 0xffffff), d = static_cast<int>(k >> 1 & 0x7fff) - 128;
    const bool differ = k & 1;
    Node n;
    n.a = u;
    n.b = v;
    n.shift_a = std::max(0, -d);
    n.shift_b = std::max(0, d);
    n.minus_b = differ;
    const int at = static_cast<int>(nodes_.size());
    bool used = false;
    const std::vector<int> rows = where_[u];
    for (int r : rows) {
      std::vector<Term>& row = rows_[static_cast<std::size_t>(r)];
      for (std::size_t i = static_cast<std::size_t>(std::lower_bound(row.begin(), row.end(), Term{u, -1, false}) - row.begin()); i < row.size() && row[i].v == u;) {
        const Term t = row[i];
        const std::size_t j = find(row, v, t.shift + d, t.minus != differ);
        if (j == row.size()) {
          ++i;
          continue;
        }
        drop(row, j);  // behind i: v comes after u
        drop(row, i);
        put(row, {at, t.shift - n.shift_a, t.minus});
        note(at, r);
        used = true;
      }
    }
    TANDEM_CHECK(used, "a pattern that no row has");
    nodes_.push_back(n);
  }
};

struct Range {
  Int128 lo, hi;
};
Range scaled(const Node& n, int shift, bool minus) {
  const Int128 a = n.lo * (Int128(1) << shift), b = n.hi * (Int128(1) << shift);
  return minus ? Range{-b, -a} : Range{a, b};
}

}  // namespace

std::vector<Digit> signed_digits(std::int64_t w) {
  std::vector<Digit> d;
  Int128 v = w;
  for (int shift = 0; v != 0; ++shift, v /= 2)
    if (v % 2 != 0) {
      const int last = static_cast<int>(((v % 4) + 4) % 4);  // 1: +1, 3: -1
      d.push_back({shift, last == 3});
      v -= last == 3 ? -1 : 1;
    }
  return d;
}

int full_adders(const Node& n) {
  if (n.a < 0) return 0;
  if (n.b < 0) return n.bits;
  // Bits of the unshifted operand pass where it is not negated.
  if (n.shift_b > 0 && !n.minus_a) return n.bits - std::min(n.bits, n.shift_b);
  if (n.shift_a > 0 && !n.minus_b) return n.bits - std::min(n.bits, n.shift_a);
  return n.bits;
}

std::int64_t ShiftAdd::adder_bits() const {
  std::int64_t s = 0;
  for (const Node& n : nodes) s += full_adders(n);
  return s;
}

std::int64_t ShiftAdd::double_bits() const {
  std::int64_t s = 0;
  for (const Node& n : nodes) {
    if (n.b < 0) continue;
    int end = n.bits;
    for (auto [node, shift] : {std::pair{n.a, n.shift_a}, {n.b, n.shift_b}}) {
      const Node& o = nodes[static_cast<std::size_t>(node)];
      if (!o.is_signed) end = std::min(end, shift + o.bits);
    }
    s += std::max(0, end - std::max(n.shift_a, n.shift_b));
  }
  return s;
}

std::int64_t ShiftAdd::held_bits() const {
  std::int64_t s = 0;
  for (const Node& n : nodes) s += n.held >= 3 ? (n.held + 15) / 16 * n.bits : 0;
  return s;
}

std::vector<Int128> ShiftAdd::run(std::span<const Int128> x) const {
  std::vector<Int128> v(x.begin(), x.end());
  auto part = [&](int node, int shift, bool minus) { return node < 0 ? Int128(0) : v[static_cast<std::size_t>(node)] * (Int128(1) << shift) * (minus ? -1 : 1); };
  for (std::size_t i = static_cast<std::size_t>(inputs); i < nodes.size(); ++i)
    v.push_back(part(nodes[i].a, nodes[i].shift_a, nodes[i].minus_a) + part(nodes[i].b, nodes[i].shift_b, nodes[i].minus_b));
  std::vector<Int128> y;
  for (const Output& o : outputs) y.push_back(part(o.node, o.shift, false));
  return y;
}

ShiftAdd shift_add(std::span<const std::int64_t> weights, std::int64_t rows, std::int64_t columns, int bits, bool is_signed, int out_bits) {
  TANDEM_CHECK(static_cast<std::int64_t>(weights.size()) == rows * columns && columns < (1 << 20), "{} weights for {} x {}", weights.size(), rows, columns);
  ShiftAdd r;
  r.inputs = static_cast<int>(columns);
  r.nodes.resize(static_cast<std::size_t>(columns));
  for (Node& n : r.nodes) {
    n.is_signed = is_signed;
    n.lo = is_signed ? -(Int128(1) << (bits - 1)) : 0;
    n.hi = (Int128(1) << (is_signed ? bits - 1 : bits)) - 1;
  }
  // Patterns are counted within blocks of columns, so that wide layers take time and memory in proportion to their weights.
  std::int64_t digits = 0;
  for (std::int64_t w : weights) digits += static_cast<std::int64_t>(signed_digits(w).size());
  const double per_column = static_cast<double>(digits) / static_cast<double>(rows) / static_cast<double>(columns);
  std::int64_t block = columns;
  while (block > 8 && static_cast<double>(rows) * (per_column * static_cast<double>(block)) * (per_column * static_cast<double>(block)) *
                          (static_cast<double>(columns) / static_cast<double>(block)) / 2 > 4e6)
    block = (block + 1) / 2;
  std::vector<std::vector<Term>> of_row(static_cast<std::size_t>(rows));
  for (std::int64_t from = 0; from < columns; from += block) {
    std::vector<std::vector<Term>> part(static_cast<std::size_t>(rows));
    for (std::int64_t o = 0; o < rows; ++o)
      for (std::int64_t i = from; i < std::min(columns, from + block); ++i)
        for (const Digit& d : signed_digits(weights[static_cast<std::size_t>(o * columns + i)]))
          part[static_cast<std::size_t>(o)].push_back({static_cast<int>(i), d.shift, d.minus});
    Sharing(r.nodes, part).run();
    for (std::size_t o = 0; o < part.size(); ++o) of_row[o].insert(of_row[o].end(), part[o].begin(), part[o].end());
  }
  auto finish_node = [&](Node& n) {
    const Node& a = r.nodes[static_cast<std::size_t>(n.a)];
    Range q = scaled(a, n.shift_a, n.minus_a);
    n.stage = a.stage + 1;
    if (n.b >= 0) {
      const Node& b = r.nodes[static_cast<std::size_t>(n.b)];
      const Range p = scaled(b, n.shift_b, n.minus_b);
      q.lo += p.lo;
      q.hi += p.hi;
      n.stage = std::max(a.stage, b.stage) + 1;
    }
    n.lo = q.lo;
    n.hi = q.hi;
    n.is_signed = n.lo < 0;
  };
  for (std::size_t i = static_cast<std::size_t>(columns); i < r.nodes.size(); ++i) {
    Node n = r.nodes[i];
    finish_node(n);
    r.nodes[i] = n;
  }
  // What is left of each row, the earliest terms first; of equal ones those of the lowest shift.
  struct Late {
    int stage;
    Term t;
    bool operator<(const Late& o) const {
      if (stage != o.stage) return stage > o.stage;
      if (t.shift != o.t.shift) return t.shift > o.t.shift;
      return t.v > o.t.v;
    }
  };
  for (std::vector<Term>& row : of_row) {
    std::priority_queue<Late> q;
    for (const Term& t : row) q.push({r.nodes[static_cast<std::size_t>(t.v)].stage, t});
    while (q.size() > 1) {
      Term a = q.top().t;
      q.pop();
      Term b = q.top().t;
      q.pop();
      if (b.shift < a.shift) std::swap(a, b);
      const bool last = q.empty();
      Node n;
      n.a = a.v;
      n.b = b.v;
      n.shift_b = b.shift - a.shift;
      bool minus = a.minus;  // of the sum; the unshifted operand stays positive
      n.minus_b = a.minus != b.minus;
      if (a.minus && !b.minus && (last || n.shift_b == 0)) {
        minus = false;
        n.minus_a = true;
        n.minus_b = false;
      }
      finish_node(n);
      q.push({n.stage, {static_cast<int>(r.nodes.size()), a.shift, minus}});
      r.nodes.push_back(n);
    }
    ShiftAdd::Output o;
    if (!q.empty()) {
      Term t = q.top().t;
      if (t.minus) {
        Node n;
        n.a = t.v;
        n.minus_a = true;
        finish_node(n);
        t.v = static_cast<int>(r.nodes.size());
        r.nodes.push_back(n);
      }
      o = {t.v, t.shift};
    }
    r.outputs.push_back(o);
  }
  for (const ShiftAdd::Output& o : r.outputs)
    if (o.node >= 0) r.depth = std::max(r.depth, r.nodes[static_cast<std::size_t>(o.node)].stage);
  // Widths from the readers back, and how long a value is wanted.
  std::vector<int> need(r.nodes.size(), 0);
  auto want = [&](int node, int n, int held) {
    int& x = need[static_cast<std::size_t>(node)];
    x = std::max(x, n);
    int& h = r.nodes[static_cast<std::size_t>(node)].held;
    h = std::max(h, held);
  };
  for (const ShiftAdd::Output& o : r.outputs)
    if (o.node >= 0) want(o.node, out_bits - o.shift, r.depth - r.nodes[static_cast<std::size_t>(o.node)].stage);
  for (std::size_t i = r.nodes.size(); i-- > 0;) {
    Node& n = r.nodes[i];
    n.bits = std::max(1, std::min(signed_bits(n.lo, n.hi), need[i]));
    if (n.a >= 0) want(n.a, n.bits - n.shift_a, n.stage - 1 - r.nodes[static_cast<std::size_t>(n.a)].stage);
    if (n.b >= 0) want(n.b, n.bits - n.shift_b, n.stage - 1 - r.nodes[static_cast<std::size_t>(n.b)].stage);
  }
  return r;
}

}  // namespace tandem
