// Moves of elements, whatever their type. What a move does is asked of its own reference evaluator once, while planning: run on
// numbers that name the elements, it tells where each element of the result comes from.
#include <cstring>
#include <set>

#include "tandem/exec/kernels.h"
#include "tandem/ir/arrays.h"
#include "tandem/ir/ops/common.h"

namespace tandem::exec {
namespace {

using namespace ir;

// Inputs whose elements are moved; the others must be constant.
std::size_t moved_inputs(const NodeView& v) {
  static const std::set<std::string_view> one{"Slice", "Split", "Pad", "Tile", "Expand", "DepthToSpace", "SpaceToDepth", "ReverseSequence", "Trilu", "GatherElements", "GatherND", "Gather", "Flatten", "Reshape"};
  if (!v.node.domain.empty() || v.out.empty()) return 0;
  if (v.node.op == "Concat") return v.in.size();
  return one.contains(v.node.op) ? 1 : 0;
}

// Pieces of the result that are neighbours in one input, or a value that the operator itself put there.
struct Piece {
  std::int32_t source;     // input, or -1: the value
  std::int64_t from, to, n;
};

template <class T>
void move_rows(const T* x, T* y, const std::int64_t* extent, const std::int64_t* stride, std::size_t rank, std::int64_t begin, std::int64_t end) {
  const std::int64_t n = extent[rank - 1], step = stride[rank - 1];
  for (std::int64_t r = begin; r < end; ++r) {
    std::int64_t at = 0, rest = r;
    for (std::size_t d = rank - 1; d-- > 0; rest /= extent[d]) at += rest % extent[d] * stride[d];
    T* to = y + r * n;
    if (step == 1) std::memcpy(to, x + at, static_cast<std::size_t>(n) * sizeof(T));
    else
      for (std::int64_t i = 0; i < n; ++i) to[i] = x[at + i * step];
  }
}
template <class T>
Kernel transpose(const NodeView& v) {
  const Shape& x = v.in[0];
  const std::size_t rank = x.size();
  Shape perm = v.node.attr_ints("perm", {});
  if (perm.empty())
    for (std::size_t d = rank; d-- > 0;) perm.push_back(static_cast<std::int64_t>(d));
  const auto strides = row_major_strides(x);
  std::vector<std::int64_t> extent, stride;
  for (std::size_t d = 0; d < rank; ++d) {
    const std::int64_t n = x[static_cast<std::size_t>(perm[d])], s = strides[static_cast<std::size_t>(perm[d])];
    if (n == 1) continue;
    if (!extent.empty() && stride.back() == n * s) extent.back() *= n, stride.back() = s;  // still neighbours
    else extent.push_back(n), stride.push_back(s);
  }
  if (extent.empty()) extent.push_back(1), stride.push_back(1);
  Kernel k;
  k.run = [extent, stride, threads = v.threads](const void* const* in, void* const* out, std::byte*) {
    const std::int64_t n = extent.back(), rows = element_count(extent) / std::max<std::int64_t>(n, 1);
    ranges(threads, rows, std::max<std::int64_t>(1, (1 << 14) / std::max<std::int64_t>(n, 1)), [&](std::int64_t from, std::int64_t to) {
      move_rows(static_cast<const T*>(in[0]), static_cast<T*>(out[0]), extent.data(), stride.data(), extent.size(), from, to);
    });
  };
  return k;
}

template <class T>
void pick(const void* x, void* y, const std::vector<std::int32_t>& index, const void* fill, int threads) {
  T other;
  std::memcpy(&other, fill, sizeof(T));
  ranges(threads, static_cast<std::int64_t>(index.size()), 1 << 14, [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t i = from; i < to; ++i) static_cast<T*>(y)[i] = index[static_cast<std::size_t>(i)] < 0 ? other : static_cast<const T*>(x)[index[static_cast<std::size_t>(i)]];
  });
}

std::optional<Kernel> gather(const NodeView& v) {
  if (v.node.op != "Gather" || v.constant[1] || (v.in_type[1] != DType::i64 && v.in_type[1] != DType::i32)) return {};
  const Shape& x = v.in[0];
  const std::int64_t axis = normal_axis(v.node.attr_int("axis", 0), static_cast<std::int64_t>(x.size()), v.graph, v.node), n = x[static_cast<std::size_t>(axis)];
  const std::int64_t outer = element_count(Shape(x.begin(), x.begin() + axis)), inner = element_count(Shape(x.begin() + axis + 1, x.end())) * static_cast<std::int64_t>(size_of(v.in_type[0]));
  const std::int64_t indices = element_count(v.in[1]);
  Kernel k;
  k.run = [=, wide = v.in_type[1] == DType::i64, where = v.graph.describe(v.node)](const void* const* in, void* const* out, std::byte*) {
    auto* y = static_cast<std::byte*>(out[0]);
    for (std::int64_t o = 0; o < outer; ++o)
      for (std::int64_t i = 0; i < indices; ++i, y += inner) {
        std::int64_t at = wide ? static_cast<const std::int64_t*>(in[1])[i] : static_cast<const std::int32_t*>(in[1])[i];
        if (at < -n || at >= n) throw bad_input("index {} is outside [{}, {})", at, -n, n).at(where);
        if (at < 0) at += n;
        std::memcpy(y, static_cast<const std::byte*>(in[0]) + (o * n + at) * inner, static_cast<std::size_t>(inner));
      }
  };
  return k;
}

}  // namespace

bool is_view(const Node& n) {
  static const std::set<std::string_view> views{"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"};
  if (!n.domain.empty()) return false;
  if (n.op == "Dropout") return n.outputs.size() < 2 || n.outputs[1] == kNone;
  return views.contains(n.op);
}

std::optional<Kernel> move_kernel(const NodeView& v) {
  const Node& n = v.node;
  if (n.domain.empty() && n.op == "Transpose") {
    switch (size_of(v.in_type[0])) {
      case 1: return transpose<std::uint8_t>(v);
      case 2: return transpose<std::uint16_t>(v);
      case 4: return transpose<std::uint32_t>(v);
      default: return transpose<std::uint64_t>(v);
    }
  }
  if (n.domain.empty())
    if (auto k = gather(v)) return k;
  const std::size_t moved = moved_inputs(v);
  if (moved == 0) return {};
  // Names of elements: above every number an operator could put in by itself.
  constexpr double base = 1ll << 44;
  std::vector<Array<double>> in(v.in.size()), out(n.outputs.size());
  EvalArgs<double> e{v.graph, n, {}, out};
  std::vector<std::int64_t> start;
  double name = base;
  for (std::size_t i = 0; i < v.in.size(); ++i) {
    if (!v.has(i)) {
      e.in.push_back(nullptr);
      continue;
    }
    if (i < moved) {
      in[i] = Array<double>(v.in[i]);
      start.push_back(static_cast<std::int64_t>(name - base));
      for (double& x : in[i].v) x = name++;
    } else if (v.constant[i]) {
      in[i] = array_of(*v.constant[i]);
    } else {
      return {};
    }
    e.in.push_back(&in[i]);
  }
  op_of(v.graph, n).eval.as_double(e);
  std::vector<std::vector<Piece>> pieces(out.size());
  std::vector<std::vector<std::int32_t>> index(out.size());
  double value = 0;
  bool filled = false;
  Kernel k;
  for (std::size_t o = 0; o < out.size(); ++o) {
    for (std::size_t i = 0; i < out[o].v.size(); ++i) {
      const double x = out[o].v[i];
      const auto to = static_cast<std::int64_t>(i);
      std::vector<Piece>& p = pieces[o];
      if (!(x >= base)) {
        if (filled && x != value) return {};
        value = x, filled = true;
        if (!p.empty() && p.back().source < 0) ++p.back().n;
        else p.push_back({-1, 0, to, 1});
        continue;
      }
      const auto at = static_cast<std::int64_t>(x - base);
      const auto source = static_cast<std::int32_t>(std::upper_bound(start.begin(), start.end(), at) - start.begin() - 1);
      const std::int64_t from = at - start[static_cast<std::size_t>(source)];
      if (!p.empty() && p.back().source == source && p.back().from + p.back().n == from) ++p.back().n;
      else p.push_back({source, from, to, 1});
    }
    // Scattered elements of one input: a number for each takes less.
    if (moved == 1 && pieces[o].size() > out[o].v.size() / 8 && v.in[0].size() && element_count(v.in[0]) < INT32_MAX) {
      for (double x : out[o].v) index[o].push_back(x >= base ? static_cast<std::int32_t>(x - base) : -1);
      pieces[o].clear();
    }
    k.held += pieces[o].size() * sizeof(Piece) + index[o].size() * 4;
  }
  const DType t = v.out_type[0];
  Tensor fill(t, Shape{1});
  fill.set(0, held_as(t, value));
  k.run = [pieces = std::move(pieces), index = std::move(index), fill, size = size_of(t), threads = v.threads](const void* const* in, void* const* out, std::byte*) {
    for (std::size_t o = 0; o < pieces.size(); ++o) {
      auto* y = static_cast<std::byte*>(out[o]);
      if (!y) continue;
      if (!index[o].empty()) {
        switch (size) {
          case 1: pick<std::uint8_t>(in[0], y, index[o], fill.raw(), threads); break;
          case 2: pick<std::uint16_t>(in[0], y, index[o], fill.raw(), threads); break;
          case 4: pick<std::uint32_t>(in[0], y, index[o], fill.raw(), threads); break;
          default: pick<std::uint64_t>(in[0], y, index[o], fill.raw(), threads);
        }
        continue;
      }
      const std::vector<Piece>& p = pieces[o];
      ranges(threads, static_cast<std::int64_t>(p.size()), 1 << 12, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const Piece& q = p[static_cast<std::size_t>(i)];
          std::byte* to = y + static_cast<std::size_t>(q.to) * size;
          if (q.source >= 0) {
            std::memcpy(to, static_cast<const std::byte*>(in[q.source]) + static_cast<std::size_t>(q.from) * size, static_cast<std::size_t>(q.n) * size);
          } else {
            for (std::int64_t j = 0; j < q.n; ++j) std::memcpy(to + static_cast<std::size_t>(j) * size, fill.raw(), size);
          }
        }
      });
    }
  };
  return k;
}

}  // namespace tandem::exec
