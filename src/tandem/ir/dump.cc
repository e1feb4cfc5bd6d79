#include "tandem/ir/dump.h"

#include "tandem/base/hash.h"

namespace tandem::ir {
namespace {

std::string type_text(const TensorType& t) {
  return fmt::format("{}{}", to_string(t.dtype), t.dims ? to_string(*t.dims) : std::string("[...]"));
}

std::string number(const Tensor& t, std::int64_t i) {
  switch (t.dtype()) {
    case DType::f32: return fmt::format("{}", t.data<float>()[i]);
    case DType::f64: return fmt::format("{}", t.data<double>()[i]);
    case DType::f16:
    case DType::bf16: return fmt::format("{}", static_cast<float>(t.at(i)));
    case DType::u64: return fmt::format("{}", t.data<std::uint64_t>()[i]);
    default: return fmt::format("{}", t.int_at(i));
  }
}

std::string tensor_text(const Tensor& t) {
  std::string s = fmt::format("{}{}", to_string(t.dtype()), to_string(t.shape()));
  const std::int64_t shown = std::min<std::int64_t>(t.size(), 8);
  s += " {";
  for (std::int64_t i = 0; i < shown; ++i) s += (i ? ", " : "") + number(t, i);
  if (t.size() > shown) {
    const std::string_view bytes(static_cast<const char*>(t.raw()), t.bytes());
    s += fmt::format(", ... #{}", hex16(fnv1a(bytes)));
  }
  return s + "}";
}

template <class T, class F>
std::string list(const std::vector<T>& v, F&& one) {
  std::string s = "[";
  for (std::size_t i = 0; i < v.size(); ++i) s += (i ? ", " : "") + one(v[i]);
  return s + "]";
}

std::string in_quotes(std::string_view s) { return fmt::format("\"{}\"", printable(s)); }

std::string name_of(const Graph& g, ValueId v) {
  if (v == kNone) return "-";
  if (v < 0 || static_cast<std::size_t>(v) >= g.values.size()) return fmt::format("?{}", v);
  return "%" + printable(g.values[static_cast<std::size_t>(v)].name);
}

std::string names_of(const Graph& g, const std::vector<ValueId>& vs) {
  std::string s;
  for (ValueId v : vs) s += (s.empty() ? "" : ", ") + name_of(g, v);
  return s;
}

std::string op_name(const Node& n) {
  return n.domain.empty() ? printable(n.op) : printable(n.domain) + "." + printable(n.op);
}

}  // namespace

std::string to_text(const Attribute& a) {
  struct Show {
    std::string operator()(std::int64_t v) const { return fmt::format("{}", v); }
    std::string operator()(double v) const {
      std::string s = fmt::format("{}", v);
      return s.find_first_of(".einf") == std::string::npos ? s + ".0" : s;  // not to be read as an integer
    }
    std::string operator()(const std::string& v) const { return in_quotes(v); }
    std::string operator()(const std::vector<std::int64_t>& v) const { return list(v, *this); }
    std::string operator()(const std::vector<double>& v) const { return list(v, *this); }
    std::string operator()(const std::vector<std::string>& v) const { return list(v, *this); }
    std::string operator()(const Tensor& v) const { return tensor_text(v); }
    std::string operator()(const GraphPtr& v) const {
      std::string s = "{\n  ";
      for (char c : to_text(*v)) s += c == '\n' ? std::string("\n  ") : std::string(1, c);
      return s + "}";
    }
  };
  return std::visit(Show{}, a);
}

std::string to_text(const Graph& g) {
  std::string s = fmt::format("graph {} opset {}\n", in_quotes(g.name), g.opset);
  for (const auto& [k, v] : g.metadata) s += fmt::format("meta {} = {}\n", in_quotes(k), in_quotes(v));
  const auto typed = [&](ValueId v) {
    if (v < 0 || static_cast<std::size_t>(v) >= g.values.size()) return name_of(g, v);
    const Value& x = g.values[static_cast<std::size_t>(v)];
    return fmt::format("{}: {}{}", name_of(g, v), type_text(x.type), x.quant.empty() ? "" : " quant " + in_quotes(x.quant));
  };
  for (ValueId v : g.inputs) s += fmt::format("input {}\n", typed(v));
  for (const auto& [v, t] : g.initialisers) s += fmt::format("const {} = {}\n", name_of(g, v), tensor_text(t));
  for (const Node& n : g.nodes) {
    std::string outs;
    for (ValueId o : n.outputs) outs += (outs.empty() ? "" : ", ") + (o == kNone ? std::string("-") : typed(o));
    s += fmt::format("{} = {}({})", outs, op_name(n), names_of(g, n.inputs));
    if (!n.attrs.empty()) {
      s += " {";
      bool first = true;
      for (const auto& [k, a] : n.attrs) {
        s += fmt::format("{}{} = {}", first ? "" : ", ", printable(k), to_text(a));
        first = false;
      }
      s += "}";
    }
    if (!n.name.empty()) s += fmt::format("  # {}", printable(n.name));
    s += "\n";
  }
  for (ValueId v : g.outputs) s += fmt::format("output {}\n", typed(v));
  return s;
}

std::string first_difference(const Graph& a, const Graph& b) {
  if (a.name != b.name) return fmt::format("graph names {} and {}", in_quotes(a.name), in_quotes(b.name));
  if (a.opset != b.opset) return fmt::format("opsets {} and {}", a.opset, b.opset);
  if (a.metadata != b.metadata) return "metadata";
  const auto same_attr = [](const Attribute& x, const Attribute& y) {
    if (x.index() != y.index()) return false;
    if (const auto* t = std::get_if<Tensor>(&x)) return t->same(std::get<Tensor>(y));
    if (const auto* s = std::get_if<GraphPtr>(&x)) return first_difference(**s, *std::get<GraphPtr>(y)).empty();
    return to_text(x) == to_text(y);  // shortest text that reads back to the same double
  };
  std::vector<char> seen(a.values.size(), 0);
  const auto value = [&](ValueId x, ValueId y) -> std::string {
    if (x == kNone || y == kNone) return x == y ? "" : "an absent value";
    const Value &p = a.values[static_cast<std::size_t>(x)], &q = b.values[static_cast<std::size_t>(y)];
    if (p.name != q.name) return fmt::format("values {} and {}", in_quotes(p.name), in_quotes(q.name));
    if (seen[static_cast<std::size_t>(x)]) return "";
    seen[static_cast<std::size_t>(x)] = 1;
    if (type_text(p.type) != type_text(q.type))
      return fmt::format("types {} and {} of {}", type_text(p.type), type_text(q.type), in_quotes(p.name));
    if (p.quant != q.quant) return fmt::format("quantisation annotations of {}", in_quotes(p.name));
    const Tensor *s = a.constant(x), *t = b.constant(y);
    if ((s == nullptr) != (t == nullptr)) return fmt::format("{} is an initialiser of one only", in_quotes(p.name));
    if (s && !s->same(*t)) return fmt::format("initialisers of {}", in_quotes(p.name));
    return "";
  };
  const auto all = [&](const std::vector<ValueId>& x, const std::vector<ValueId>& y, const std::string& where) -> std::string {
    if (x.size() != y.size()) return fmt::format("{} and {} values at {}", x.size(), y.size(), where);
    for (std::size_t i = 0; i < x.size(); ++i)
      if (std::string d = value(x[i], y[i]); !d.empty()) return fmt::format("{} at {}", d, where);
    return "";
  };
  if (std::string d = all(a.inputs, b.inputs, "the inputs"); !d.empty()) return d;
  if (a.nodes.size() != b.nodes.size()) return fmt::format("{} and {} nodes", a.nodes.size(), b.nodes.size());
  for (std::size_t i = 0; i < a.nodes.size(); ++i) {
    const Node &m = a.nodes[i], &n = b.nodes[i];
    const std::string where = a.describe(m);
    if (m.name != n.name || m.op != n.op || m.domain != n.domain)
      return fmt::format("{} and {}", where, b.describe(n));
    if (std::string d = all(m.inputs, n.inputs, where); !d.empty()) return d;
    if (std::string d = all(m.outputs, n.outputs, where); !d.empty()) return d;
    if (m.attrs.size() != n.attrs.size()) return fmt::format("{} and {} attributes at {}", m.attrs.size(), n.attrs.size(), where);
    for (const auto& [k, x] : m.attrs) {
      const auto it = n.attrs.find(k);
      if (it != n.attrs.end() && same_attr(x, it->second)) continue;
      const auto *s = std::get_if<GraphPtr>(&x), *t = it == n.attrs.end() ? nullptr : std::get_if<GraphPtr>(&it->second);
      return fmt::format("attribute '{}' at {}{}", k, where, s && t ? ": " + first_difference(**s, **t) : std::string());
    }
  }
  if (std::string d = all(a.outputs, b.outputs, "the outputs"); !d.empty()) return d;
  if (a.initialisers.size() != b.initialisers.size())
    return fmt::format("{} and {} initialisers", a.initialisers.size(), b.initialisers.size());
  for (const auto& [v, t] : a.initialisers)
    if (!seen[static_cast<std::size_t>(v)]) {
      const ValueId w = b.find(a.values[static_cast<std::size_t>(v)].name);
      if (w == kNone) return fmt::format("initialiser {} is in one only", in_quotes(a.values[static_cast<std::size_t>(v)].name));
      if (std::string d = value(v, w); !d.empty()) return d;
    }
  return "";
}

}  // namespace tandem::ir
