#include "tandem/ir/channels_last.h"

#include <cstring>
#include <numeric>

#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {

using Ints = std::vector<std::int64_t>;

// Result axis i is axis perm[i]: of channels first from last, and back.
Ints to_first(std::size_t rank) {
  Ints p{0, static_cast<std::int64_t>(rank) - 1};
  for (std::size_t i = 1; i + 1 < rank; ++i) p.push_back(static_cast<std::int64_t>(i));
  return p;
}
Ints to_last(std::size_t rank) {
  Ints p{0};
  for (std::size_t i = 2; i < rank; ++i) p.push_back(static_cast<std::int64_t>(i));
  p.push_back(1);
  return p;
}
std::int64_t axis_in_first(std::int64_t axis, std::size_t rank) {
  return axis == 0 ? 0 : axis == static_cast<std::int64_t>(rank) - 1 ? 1 : axis + 1;
}
Dims moved_dims(const Dims& d, const Ints& perm) {
  Dims r;
  for (std::int64_t p : perm) r.push_back(d[static_cast<std::size_t>(p)]);
  return r;
}

}  // namespace

const Dims& dims_of_value(const Graph& g, ValueId v, const std::string& where) {
  const auto& d = g.values[static_cast<std::size_t>(v)].type.dims;
  if (!d) throw bad_input("the rank of '{}' is unknown", g.values[static_cast<std::size_t>(v)].name).at(where);
  return *d;
}

Tensor permuted(const Tensor& t, const Ints& perm) {
  Shape s;
  for (std::int64_t p : perm) s.push_back(t.shape()[static_cast<std::size_t>(p)]);
  Tensor y(t.dtype(), s);
  if (t.size() == 0) return y;
  const auto in = row_major_strides(t.shape());
  const std::size_t bytes = size_of(t.dtype());
  const auto* from = static_cast<const std::byte*>(t.raw());
  auto* to = static_cast<std::byte*>(y.raw_mutable());
  Shape at(s.size(), 0);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    std::int64_t j = 0;
    for (std::size_t d = 0; d < s.size(); ++d) j += at[d] * in[static_cast<std::size_t>(perm[d])];
    std::memcpy(to + static_cast<std::size_t>(i) * bytes, from + static_cast<std::size_t>(j) * bytes, bytes);
    for (std::size_t d = s.size(); d-- > 0;) {
      if (++at[d] < s[d]) break;
      at[d] = 0;
    }
  }
  return y;
}

ChannelsLast::Id ChannelsLast::put(Held h) {
  held_.push_back(std::move(h));
  return static_cast<Id>(held_.size() - 1);
}
ChannelsLast::Id ChannelsLast::input(const std::string& name, DType t, Dims dims) {
  Held h{.dims = dims, .last = g_.add_input(name, t, std::move(dims))};
  return put(std::move(h));
}
ChannelsLast::Id ChannelsLast::constant(const std::string& name, Tensor t) {
  Held h{.dims = ir::dims_of(t.shape())};
  h.last = g_.add_constant(name, std::move(t));
  return put(std::move(h));
}
ChannelsLast::Id ChannelsLast::hold(ValueId v) { return put({.dims = dims_of_value(g_, v, ""), .last = v}); }
ChannelsLast::Id ChannelsLast::hold_first(ValueId v) {
  const Dims& d = dims_of_value(g_, v, "");
  return put({.dims = moved_dims(d, to_last(d.size())), .first = v});
}
DType ChannelsLast::dtype(Id x) const {
  const Held& h = held_[static_cast<std::size_t>(x)];
  return g_.values[static_cast<std::size_t>(h.last != kNone ? h.last : h.first)].type.dtype;
}
const Tensor* ChannelsLast::value(Id x) const {
  const Held& h = held_[static_cast<std::size_t>(x)];
  return h.last == kNone ? nullptr : g_.constant(h.last);
}
bool ChannelsLast::is_first(Id x) const {
  const Held& h = held_[static_cast<std::size_t>(x)];
  return h.last == kNone;
}

// A move of axes; a Reshape where it keeps the order of the elements (one channel, or one position).
ValueId ChannelsLast::moved(ValueId v, const Ints& perm, const std::string& name) {
  if (const Tensor* t = g_.constant(v)) return g_.add_constant(name + "/moved", permuted(*t, perm));
  const Dims& d = dims_of_value(g_, v, name);
  bool known = true;
  Ints wide_before, wide_after, shape{0};
  for (std::size_t i = 1; i < d.size(); ++i) {
    known = known && d[i].known();
    if (d[i].n != 1) wide_before.push_back(static_cast<std::int64_t>(i));
    shape.push_back(d[static_cast<std::size_t>(perm[i])].n);
    if (d[static_cast<std::size_t>(perm[i])].n != 1) wide_after.push_back(perm[i]);
  }
  if (known && wide_before == wide_after) return node("Reshape", {v, ints(name + "/shape", shape)}, {}, name);
  return node("Transpose", {v}, {{"perm", perm}}, name);
}

ValueId ChannelsLast::last(Id x, const std::string& name) {
  {
    const Held& h = held_[static_cast<std::size_t>(x)];
    if (h.last != kNone) return h.last;
  }
  ValueId v = first_of(x);
  const Shape image = held_[static_cast<std::size_t>(x)].image;
  const std::string base = name + "/channels_last";
  if (image.empty()) {
    v = moved(v, to_last(dims(x).size()), base);
  } else {
    Ints first{0, image.back()};
    first.insert(first.end(), image.begin(), image.end() - 1);
    v = node("Reshape", {v, ints(base + "/shape", first)}, {}, base + "/image");
    v = node("Transpose", {v}, {{"perm", to_last(image.size() + 1)}}, base);
    v = node("Flatten", {v}, {{"axis", std::int64_t{1}}}, base + "/flatten");
  }
  return held_[static_cast<std::size_t>(x)].last = v;
}

ValueId ChannelsLast::first(Id x, const std::string& name) {
  const Held h = held_[static_cast<std::size_t>(x)];
  if (h.first != kNone && h.image.empty()) return h.first;
  if (h.dims.size() < 3) throw bad_input("a tensor of shape {} has no channels to move", to_string(h.dims)).at(name).expected("[batch, spatial axes, channels]");
  const ValueId v = moved(h.last, to_first(h.dims.size()), name + "/channels_first");
  return held_[static_cast<std::size_t>(x)].first = v;
}

std::vector<ValueId> ChannelsLast::nodes(const std::string& op, std::vector<ValueId> inputs, Attrs attrs, const std::string& name, std::size_t outputs) {
  g_.add_node(op, std::move(inputs), std::move(attrs), name);
  std::vector<ValueId> out = g_.nodes.back().outputs;
  while (out.size() < outputs) out.push_back(g_.add_value(fmt::format("{}_{}", name, out.size())));
  g_.nodes.back().outputs = out;
  const Node& n = g_.nodes.back();
  const OpDef& def = op_of(g_, n);
  InferContext c{g_, n, {}, {}, {}};
  for (ValueId v : n.inputs) {
    c.in.push_back(v == kNone ? nullptr : &g_.values[static_cast<std::size_t>(v)].type);
    c.in_constant.push_back(v == kNone ? nullptr : g_.constant(v));
  }
  def.infer(c);
  for (std::size_t i = 0; i < out.size() && i < c.out.size(); ++i) g_.values[static_cast<std::size_t>(out[i])].type = c.out[i];
  return out;
}
ValueId ChannelsLast::node(const std::string& op, std::vector<ValueId> inputs, Attrs attrs, const std::string& name, const std::string& domain) {
  if (domain.empty()) return nodes(op, std::move(inputs), std::move(attrs), name, 1)[0];
  const ValueId v = g_.add_node(op, inputs, std::move(attrs), name, domain);  // quantisers: the type of what they round
  g_.values[static_cast<std::size_t>(v)].type = g_.values[static_cast<std::size_t>(inputs[0])].type;
  return v;
}
ValueId ChannelsLast::scalar(const std::string& name, float v) { return g_.add_constant(name, Tensor::scalar(v)); }
ValueId ChannelsLast::ints(const std::string& name, const Ints& v) {
  return g_.add_constant(name, Tensor::of<std::int64_t>({static_cast<std::int64_t>(v.size())}, v));
}

ChannelsLast::Id ChannelsLast::like(Id x, ValueId v) {
  const Held& h = held_[static_cast<std::size_t>(x)];
  return h.last == kNone ? put({.dims = h.dims, .first = v, .image = h.image}) : put({.dims = h.dims, .last = v});
}
ChannelsLast::Id ChannelsLast::unary(const std::string& op, Id x, Attrs attrs, const std::string& name, std::vector<ValueId> more, const std::string& domain) {
  more.insert(more.begin(), held(x, name));
  return like(x, node(op, std::move(more), std::move(attrs), name, domain));
}

ChannelsLast::Id ChannelsLast::join(const std::string& op, const std::vector<Id>& x, Attrs attrs, const std::string& name) {
  std::size_t rank = 0;
  for (Id i : x) rank = std::max(rank, dims(i).size());
  // Channels first when some operand is, and every other one varies with the same rank or is constant.
  Id lead = -1;
  for (Id i : x)
    if (is_first(i) && lead < 0) lead = i;
  bool keep = lead >= 0;
  const Shape image = keep ? held_[static_cast<std::size_t>(lead)].image : Shape{};
  for (Id i : x) {
    if (value(i)) continue;
    keep = keep && dims(i).size() == rank && (image.empty() || (is_first(i) && held_[static_cast<std::size_t>(i)].image == image));
    if (image.empty()) keep = keep && !is_shuffled(i);
  }
  std::vector<ValueId> in;
  for (Id i : x) {
    const Tensor* t = value(i);
    if (!keep) in.push_back(last(i, name));
    else if (t && t->size() == 1) in.push_back(g_.add_constant(name + "/scalar", t->reshaped({})));
    else if (t && !image.empty()) {
      // Only along the flattened axis can a constant vary.
      if (t->shape().back() == 1) in.push_back(last(i, name));
      else {
        const std::int64_t n = t->shape().back();
        Tensor rows = permuted(t->reshaped({t->size() / n, n}), {1, 0});
        in.push_back(g_.add_constant(name + "/moved", permuted(channels_for(lead, rows), {1, 0}).reshaped(t->shape())));
      }
    } else if (t) {
      Shape s(rank - dims(i).size(), 1);
      s.insert(s.end(), t->shape().begin(), t->shape().end());
      in.push_back(g_.add_constant(name + "/moved", permuted(t->reshaped(s), to_first(rank))));
    } else {
      in.push_back(image.empty() ? first(i, name) : first_of(i));
    }
  }
  const ValueId y = node(op, std::move(in), std::move(attrs), name);
  if (!keep) return hold(y);
  if (image.empty()) return hold_first(y);
  return put({.dims = dims_of_value(g_, y, name), .first = y, .image = image});
}

ChannelsLast::Id ChannelsLast::along(const std::string& op, Id x, std::int64_t axis, Attrs attrs, const std::string& name) {
  const bool keep = is_first(x) && !is_shuffled(x) && op != "ArgMax" && op != "ArgMin";
  if (axis < 0) axis += rank(x);
  attrs["axis"] = keep ? axis_in_first(axis, dims(x).size()) : axis;
  const ValueId y = node(op, {keep ? first_of(x) : last(x, name)}, std::move(attrs), name);
  return keep ? hold_first(y) : hold(y);
}

ChannelsLast::Id ChannelsLast::concat(const std::vector<Id>& x, std::int64_t axis, const std::string& name) {
  const std::size_t rank = dims(x[0]).size();
  if (axis < 0) axis += static_cast<std::int64_t>(rank);
  bool keep = rank >= 3;
  int firsts = 0;
  for (Id i : x) keep = keep && !is_shuffled(i) && dims(i).size() == rank, firsts += is_first(i);
  keep = keep && firsts > 0;
  std::vector<ValueId> in;
  for (Id i : x) in.push_back(keep ? first(i, name) : last(i, name));
  const ValueId y = node("Concat", std::move(in), {{"axis", keep ? axis_in_first(axis, rank) : axis}}, name);
  return keep ? hold_first(y) : hold(y);
}

ChannelsLast::Id ChannelsLast::reduce(const std::string& op, Id x, Ints axes, bool keepdims, const std::string& name) {
  const std::size_t r = dims(x).size();
  for (std::int64_t& a : axes) {
    if (a < 0) a += static_cast<std::int64_t>(r);
    if (a < 0 || a >= static_cast<std::int64_t>(r)) throw bad_input("axis {} of a tensor of rank {}", a, r).at(name);
  }
  std::sort(axes.begin(), axes.end());
  // Without its spatial axes the channels stand where the file has them.
  Ints spatial;
  for (std::size_t i = 1; i + 1 < r; ++i) spatial.push_back(static_cast<std::int64_t>(i));
  const bool keep = is_first(x) && !is_shuffled(x) && (keepdims || axes == spatial);
  if (keep)
    for (std::int64_t& a : axes) a = axis_in_first(a, r);
  const ValueId in = keep ? first_of(x) : last(x, name);
  ValueId y;
  if (op == "ReduceMean" && keep && axes.size() == spatial.size() && axes.front() == 2) {  // the pool has an exact meaning
    y = node("GlobalAveragePool", {in}, {}, name);
    return keepdims ? hold_first(y) : hold(node("Flatten", {y}, {{"axis", std::int64_t{1}}}, name + "/flatten"));
  }
  if (op == "ReduceSum") y = node(op, {in, ints(name + "/axes", axes)}, {{"keepdims", std::int64_t{keepdims}}}, name);
  else y = node(op, {in}, {{"axes", axes}, {"keepdims", std::int64_t{keepdims}}}, name);
  return keep && keepdims ? hold_first(y) : hold(y);
}

ChannelsLast::Id ChannelsLast::flatten(Id x, const std::string& name) {
  const Dims d = dims(x);
  const Attrs attrs{{"axis", std::int64_t{1}}};
  if (d.size() < 3) return d.size() == 2 ? x : hold(node("Flatten", {last(x, name)}, attrs, name));
  if (!is_first(x)) return hold(node("Flatten", {last(x, name)}, attrs, name));
  Shape image;
  std::int64_t positions = 1;
  bool known = true;
  for (std::size_t i = 1; i < d.size(); ++i) {
    known = known && d[i].known();
    image.push_back(d[i].n);
    if (i + 1 < d.size()) positions *= d[i].n;
  }
  if (!known) return hold(node("Flatten", {last(x, name)}, attrs, name));
  const ValueId y = node("Flatten", {first_of(x)}, attrs, name);
  const Dims flat = dims_of_value(g_, y, name);
  if (positions == 1 || image.back() == 1) return hold(y);
  return put({.dims = flat, .first = y, .image = image});
}

Tensor ChannelsLast::channels_for(Id x, const Tensor& t) const {
  if (!is_shuffled(x)) return t;
  const Shape& image = held_[static_cast<std::size_t>(x)].image;
  Shape split = image;
  split.insert(split.end(), t.shape().begin() + 1, t.shape().end());
  if (t.rank() == 0 || element_count(image) != t.shape()[0]) return t;
  Ints perm{static_cast<std::int64_t>(image.size()) - 1};
  for (std::size_t i = 0; i < split.size(); ++i)
    if (i + 1 != image.size()) perm.push_back(static_cast<std::int64_t>(i));
  return permuted(t.reshaped(split), perm).reshaped(t.shape());
}

void pad_same(ChannelsLast::Attrs& a, const Dims& image, const Ints& kernel, const Ints& stride, const Ints& dilation) {
  const std::size_t n = kernel.size();
  Ints p(2 * n, 0);
  for (std::size_t i = 0; i < n; ++i) {
    const Dim d = image[i + 1];
    if (!d.known()) {
      a["auto_pad"] = std::string("SAME_UPPER");
      return;
    }
    const std::int64_t reach = (kernel[i] - 1) * dilation[i] + 1, count = (d.n + stride[i] - 1) / stride[i];
    const std::int64_t total = std::max<std::int64_t>(0, (count - 1) * stride[i] + reach - d.n);
    p[i] = total / 2, p[n + i] = total - total / 2;
  }
  a["pads"] = p;
}

}  // namespace tandem::ir
