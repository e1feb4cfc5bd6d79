#include "tandem/exec/float.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <new>

#include "tandem/base/parallel.h"
#include "tandem/exec/kernels.h"
#include "tandem/exec/library.h"
#include "tandem/ir/arrays.h"
#include "tandem/ir/ops/common.h"

namespace tandem::exec {
namespace {

using namespace ir;
constexpr std::size_t kAlign = 64;
std::size_t aligned(std::size_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

// Where elements lie while the graph runs.
struct Memory {
  enum Where { arena, constant, input, loose } where = arena;  // loose: a tensor made when its extents become known
  std::size_t bytes = 0, offset = 0;
  const void* data = nullptr;  // constant
  std::size_t input_index = 0;
  int first = -1, last = -1;   // steps that write and read it
};
struct Step {
  std::vector<int> in, out;    // memories; -1: absent
  Kernel kernel;               // of our own, or of the library
  int node = -1;               // else: by the reference evaluator
  bool dynamic = false;        // extents become known here
  int threads = 0;             // of the library; 0: none of its
};

bool known(const TensorType& t) { return t.dims && all_known(*t.dims); }
Shape shape_in(const TensorType& t) {
  Shape s;
  for (const Dim& d : *t.dims) s.push_back(d.n);
  return s;
}

bool is_sum(const Node& n) { return n.domain.empty() && (n.op == "Add" || n.op == "Sum") && n.inputs.size() == 2; }

// Conv -> BatchNormalization of constants: the factors go into the weights, where no weight leaves the normal floats.
bool fold_batchnorm(Graph& g, Node& conv, const Node& bn) {
  const Tensor* w = g.constant(conv.in(1));
  const Tensor* b = conv.in(2) == kNone ? nullptr : g.constant(conv.in(2));
  if (!w || w->dtype() != DType::f32 || (conv.in(2) != kNone && !b)) return false;
  const Tensor* p[4];
  for (std::size_t i = 0; i < 4; ++i)
    if (p[i] = g.constant(bn.in(i + 1)); !p[i] || p[i]->dtype() != DType::f32) return false;
  const std::int64_t channels = w->shape()[0], each = channels ? w->size() / channels : 0;
  Tensor scaled(DType::f32, w->shape()), shift(DType::f32, Shape{channels});
  const auto epsilon = static_cast<float>(bn.attr_float("epsilon", 1e-5));
  for (std::int64_t c = 0; c < channels; ++c) {
    const double a = batchnorm_factor(static_cast<float>(p[0]->at(c)), static_cast<float>(p[3]->at(c)), epsilon);
    const double s = ((b ? b->at(c) : 0) - p[2]->at(c)) * a + p[1]->at(c);
    if (!std::isfinite(static_cast<float>(s))) return false;
    shift.data<float>()[c] = static_cast<float>(s);
    for (std::int64_t i = c * each; i < (c + 1) * each; ++i) {
      const float old = w->data<float>()[i], v = static_cast<float>(old * a);
      if (old != 0 && a != 0 && !std::isnormal(v)) return false;
      scaled.data<float>()[i] = v;
    }
  }
  const std::string name = g.values[static_cast<std::size_t>(conv.outputs[0])].name;
  conv.inputs.resize(3, kNone);
  conv.inputs[1] = g.add_constant(g.unique_name(name + "_folded"), std::move(scaled));
  conv.inputs[2] = g.add_constant(g.unique_name(name + "_shift"), std::move(shift));
  conv.outputs[0] = bn.outputs[0];
  return true;
}

void fold_batchnorms(Graph& g) {
  const UseMap uses(g);
  std::vector<bool> gone(g.nodes.size(), false);
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    const Node& bn = g.nodes[i];
    if (bn.op != "BatchNormalization" || !bn.domain.empty() || bn.in(0) == kNone) continue;
    const auto x = static_cast<std::size_t>(bn.in(0));
    const int from = uses.producer[x];
    if (from < 0 || uses.users[x].size() != 1 || std::find(g.outputs.begin(), g.outputs.end(), bn.in(0)) != g.outputs.end()) continue;
    Node& conv = g.nodes[static_cast<std::size_t>(from)];
    if (conv.op == "Conv" && conv.domain.empty()) gone[i] = fold_batchnorm(g, conv, bn);
  }
  std::vector<Node> kept;
  for (std::size_t i = 0; i < g.nodes.size(); ++i)
    if (!gone[i]) kept.push_back(std::move(g.nodes[i]));
  g.nodes = std::move(kept);
}

}  // namespace

struct FloatExecutor::Impl {
  Graph g;
  FloatOptions options;
  FloatCounts counts;
  Library* library = nullptr;
  int threads = 1;
  std::vector<Step> steps;
  std::vector<Memory> memory;
  struct Place { LayoutPtr layout; int memory; };
  std::vector<std::vector<Place>> places;              // of each value; a row-major one first
  std::map<ValueId, Array<double>> arrays;             // constants that reference evaluators read
  std::size_t arena_bytes = 0, held = 0, scratch_bytes = 0, temporary = 0, out_bytes = 0, constant_bytes = 0;
  bool bounded = true;
  std::byte* base = nullptr;                           // arena, then scratch
  std::vector<Tensor> loose;                           // per memory
  std::vector<void*> at;                               // per memory, while it runs

  ~Impl() {
    if (base) ::operator delete(base, std::align_val_t{kAlign});
  }

  Impl(Graph bound, FloatOptions o) : g(std::move(bound)), options(o) {
    threads = options.threads > 0 ? options.threads : ThreadBudget::jobs();
    library = options.library ? open_library() : nullptr;
    sort_nodes(g);
    infer_shapes(g);
    for (const Node& n : g.nodes)
      if (op_of(g, n).closure == Closure::state) throw node_error(g, n, "the float evaluator runs one tick only; a Delay needs `step`");
    fold();
    if (!options.keep_all) {
      fold_batchnorms(g);
      remove_dead(g);
    }
    plan();
  }

  const Value& value(ValueId v) const { return g.values[static_cast<std::size_t>(v)]; }

  // Nodes of constants, node by node as the reference does.
  void fold() {
    std::vector<Node> kept;
    for (Node& n : g.nodes) {
      const bool ready = std::all_of(n.inputs.begin(), n.inputs.end(), [&](ValueId v) { return v == kNone || g.constant(v); });
      const bool output = std::any_of(n.outputs.begin(), n.outputs.end(), [&](ValueId v) { return v != kNone && std::find(g.outputs.begin(), g.outputs.end(), v) != g.outputs.end(); });
      if (!ready || n.inputs.empty() || output) {
        kept.push_back(std::move(n));
        continue;
      }
      std::vector<Array<double>> in(n.inputs.size()), out(n.outputs.size());
      EvalArgs<double> e{g, n, {}, out};
      for (std::size_t i = 0; i < n.inputs.size(); ++i) {
        if (n.inputs[i] != kNone) in[i] = array_of(*g.constant(n.inputs[i]));
        e.in.push_back(n.inputs[i] == kNone ? nullptr : &in[i]);
      }
      op_of(g, n).eval.as_double(e);
      for (std::size_t i = 0; i < n.outputs.size(); ++i)
        if (n.outputs[i] != kNone) g.initialisers[n.outputs[i]] = rounded(out[i], n.outputs[i]);
    }
    g.nodes = std::move(kept);
  }
  Tensor rounded(Array<double>& a, ValueId v) const {
    const DType t = value(v).type.dtype;
    for (double& x : a.v) x = held_as(t, x);
    return tensor_of(a, t);
  }

  // ---- planning ---------------------------------------------------------------------------------------
  int new_memory(std::size_t bytes, Memory::Where where = Memory::arena) {
    Memory m;
    m.bytes = bytes, m.where = where;
    memory.push_back(m);
    return static_cast<int>(memory.size()) - 1;
  }
  std::size_t bytes_of(ValueId v) const { return static_cast<std::size_t>(element_count(shape_in(value(v).type))) * size_of(value(v).type.dtype); }
  const Place* find_place(ValueId v, const LayoutPtr& layout) const {
    for (const Place& p : places[static_cast<std::size_t>(v)])
      if (same(p.layout, layout)) return &p;
    return nullptr;
  }
  // The value's memory in a layout, put in order where it is not.
  int place(ValueId v, const LayoutPtr& layout) {
    if (const Place* p = find_place(v, layout)) return p->memory;
    const Place from = places[static_cast<std::size_t>(v)].at(0);
    const Shape s = shape_in(value(v).type);
    const int before = lent;
    lend(8.0 * static_cast<double>(element_count(s)));
    const Operation r = library->reorder(s, from.layout, layout);
    const int to = new_memory(r.out_bytes);
    add_operation(r, {from.memory}, to);
    lend_threads(before);
    --counts.library, ++counts.reorders;
    places[static_cast<std::size_t>(v)].push_back({layout, to});
    return to;
  }
  // Threads of the library's next primitive: waking others costs more than little work takes.
  int lent = 0;
  void lend_threads(int n) {
    if (n != lent) library->set_threads(lent = n);
  }
  void lend(double operations) { lend_threads(operations < 5e5 ? 1 : threads); }
  void add_operation(const Operation& o, std::vector<int> in, int out) {
    Step s;
    s.threads = lent;
    s.in = std::move(in), s.out = {out};
    s.kernel.run = [run = o.run](const void* const* in, void* const* out, std::byte* scratch) { run(in, out[0], scratch); };
    s.kernel.scratch = o.scratch, s.kernel.held = o.held;
    add_step(std::move(s));
    ++counts.library;
  }
  void add_step(Step s) {
    scratch_bytes = std::max(scratch_bytes, s.kernel.scratch);
    held += s.kernel.held;
    steps.push_back(std::move(s));
  }

  struct Uses {
    std::vector<int> last;      // node that reads the value last; nodes.size(): a graph output
    std::vector<int> count;
    std::vector<bool> shared;   // its memory is also another value's
  };

  void plan() {
    places.resize(g.values.size());
    Uses uses{std::vector<int>(g.values.size(), -1), std::vector<int>(g.values.size(), 0), std::vector<bool>(g.values.size(), false)};
    const int nodes = static_cast<int>(g.nodes.size());
    for (int i = 0; i < nodes; ++i) {
      const Node& n = g.nodes[static_cast<std::size_t>(i)];
      for (ValueId v : n.inputs)
        if (v != kNone) uses.last[static_cast<std::size_t>(v)] = i, ++uses.count[static_cast<std::size_t>(v)];
      if (is_view(n)) uses.shared[static_cast<std::size_t>(n.in(0))] = uses.shared[static_cast<std::size_t>(n.outputs[0])] = true;
    }
    for (ValueId v : g.outputs) uses.last[static_cast<std::size_t>(v)] = nodes, ++uses.count[static_cast<std::size_t>(v)];
    for (auto it = g.initialisers.begin(); it != g.initialisers.end();) {
      const bool read = uses.count[static_cast<std::size_t>(it->first)] > 0;
      it = read || options.keep_all ? std::next(it) : g.initialisers.erase(it);
    }
    for (auto& [v, t] : g.initialisers) {
      const int m = new_memory(t.bytes(), Memory::constant);
      memory.back().data = t.raw();
      constant_bytes += t.bytes();
      places[static_cast<std::size_t>(v)] = {{nullptr, m}};
    }
    for (std::size_t i = 0; i < g.inputs.size(); ++i) {
      const ValueId v = g.inputs[i];
      if (!known(value(v).type)) throw bad_input("the input '{}' has unknown extents: {}", value(v).name, value(v).type.dims ? to_string(*value(v).type.dims) : "any rank").fix("bind them first");
      const int m = new_memory(bytes_of(v), Memory::input);
      memory.back().input_index = i;
      places[static_cast<std::size_t>(v)] = {{nullptr, m}};
    }
    std::vector<bool> done(g.nodes.size(), false);
    for (int i = 0; i < nodes; ++i)
      if (!done[static_cast<std::size_t>(i)]) plan_node(i, uses, done);
    for (ValueId v : g.outputs) {
      if (known(value(v).type)) place(v, nullptr), out_bytes += bytes_of(v);
    }
    if (options.keep_all)
      for (std::size_t v = 0; v < places.size(); ++v)
        if (!places[v].empty() && places[v][0].layout) place(static_cast<ValueId>(v), nullptr);
    for (std::size_t s = 0; s < steps.size(); ++s) {
      for (int m : steps[s].in)
        if (m >= 0) memory[static_cast<std::size_t>(m)].last = static_cast<int>(s);
      for (int m : steps[s].out)
        if (m >= 0) {
          Memory& x = memory[static_cast<std::size_t>(m)];
          if (x.first < 0) x.first = static_cast<int>(s);
          x.last = std::max(x.last, static_cast<int>(s));
        }
    }
    for (ValueId v : g.outputs)
      for (const Place& p : places[static_cast<std::size_t>(v)])
        if (!p.layout) memory[static_cast<std::size_t>(p.memory)].last = static_cast<int>(steps.size());
    lay_out();
    if (peak() > options.memory_bytes)
      throw Error(Exit::limit, fmt::format("running the graph needs {} MiB, the limit is {} MiB", (peak() >> 20) + 1, options.memory_bytes >> 20)).at(g.name).fix("--memory, or a smaller batch");
  }
  std::uint64_t peak() const { return constant_bytes + held + arena_bytes + scratch_bytes + temporary + out_bytes; }

  NodeView view_of(const Node& n) const {
    NodeView v{g, n, {}, {}, {}, {}, {}, threads};
    for (ValueId i : n.inputs) {
      v.in.push_back(i == kNone ? Shape{} : shape_in(value(i).type));
      v.in_type.push_back(i == kNone ? DType::f32 : value(i).type.dtype);
      v.constant.push_back(i == kNone ? nullptr : g.constant(i));
    }
    for (ValueId o : n.outputs) {
      v.out.push_back(o == kNone ? Shape{} : shape_in(value(o).type));
      v.out_type.push_back(o == kNone ? DType::f32 : value(o).type.dtype);
    }
    return v;
  }
  bool static_node(const Node& n) const {
    const auto ok = [&](ValueId v) { return v == kNone || known(value(v).type); };
    return std::all_of(n.inputs.begin(), n.inputs.end(), ok) && std::all_of(n.outputs.begin(), n.outputs.end(), ok);
  }
  // The memory may be overwritten at node i: nobody reads it later, and it is the graph's own.
  bool dies(ValueId v, int i, const Uses& uses) const {
    const auto k = static_cast<std::size_t>(v);
    return !options.keep_all && uses.last[k] == i && !uses.shared[k] && !places[k].empty() && memory[static_cast<std::size_t>(places[k][0].memory)].where == Memory::arena;
  }

  void plan_node(int i, const Uses& uses, std::vector<bool>& done) {
    const Node& n = g.nodes[static_cast<std::size_t>(i)];
    if (!static_node(n)) return plan_dynamic(i);
    const NodeView v = view_of(n);
    if (is_view(n) && v.in_type[0] == v.out_type[0] && element_count(v.in[0]) == element_count(v.out[0])) {
      places[static_cast<std::size_t>(n.outputs[0])] = {{nullptr, place(n.in(0), nullptr)}};
      ++counts.views;
      return;
    }
    if (library && plan_library(i, v, uses, done)) return;
    Step s;
    std::optional<Kernel> k = elementwise_kernel(v);
    if (!k) k = reduction_kernel(v);
    if (!k) k = contraction_kernel(v);
    if (!k) k = quantiser_kernel(v);
    if (!k) k = move_kernel(v);
    for (ValueId x : n.inputs) s.in.push_back(x == kNone ? -1 : place(x, nullptr));
    const bool over = k && k->in_place && dies(n.in(0), i, uses) && bytes_of(n.in(0)) == bytes_of(n.outputs[0]);
    for (std::size_t o = 0; o < n.outputs.size(); ++o) {
      const ValueId y = n.outputs[o];
      s.out.push_back(y == kNone ? -1 : o == 0 && over ? s.in[0] : new_memory(bytes_of(y)));
      if (y != kNone) places[static_cast<std::size_t>(y)] = {{nullptr, s.out.back()}};
    }
    if (k) {
      s.kernel = std::move(*k);
      ++counts.own;
      return add_step(std::move(s));
    }
    s.node = i;
    ++counts.reference;
    std::size_t doubles = 0;
    for (std::size_t x = 0; x < n.inputs.size(); ++x) {
      if (n.inputs[x] == kNone) continue;
      const auto size = static_cast<std::size_t>(element_count(v.in[x]));
      if (v.constant[x]) {
        if (arrays.try_emplace(n.inputs[x], array_of(*v.constant[x])).second) held += 8 * size;
      } else {
        doubles += size;
      }
    }
    for (const Shape& y : v.out) doubles += 3 * static_cast<std::size_t>(element_count(y));  // the result, a copy that evaluators may make, rounded
    temporary = std::max(temporary, 8 * doubles);
    add_step(std::move(s));
  }

  void plan_dynamic(int i) {
    const Node& n = g.nodes[static_cast<std::size_t>(i)];
    Step s;
    s.node = i, s.dynamic = true;
    bounded = false;
    for (ValueId x : n.inputs) s.in.push_back(x == kNone ? -1 : known(value(x).type) ? place(x, nullptr) : places[static_cast<std::size_t>(x)].at(0).memory);
    for (ValueId y : n.outputs) {
      s.out.push_back(y == kNone ? -1 : new_memory(0, Memory::loose));
      if (y != kNone) places[static_cast<std::size_t>(y)] = {{nullptr, s.out.back()}};
    }
    ++counts.reference;
    add_step(std::move(s));
  }

  // A limit behind node i that it can apply itself; the node that is then done, or -1.
  int clamp_behind(ValueId y, const UseMap& map, std::optional<Clamp>& c) const {
    const auto& users = map.users[static_cast<std::size_t>(y)];
    if (users.size() != 1 || std::find(g.outputs.begin(), g.outputs.end(), y) != g.outputs.end()) return -1;
    const Node& n = g.nodes[static_cast<std::size_t>(users[0])];
    c = clamp_of(n);
    return c ? users[0] : -1;
  }
  std::optional<Clamp> clamp_of(const Node& n) const {
    if (!n.domain.empty()) return {};
    if (n.op == "Relu") return Clamp{0, INFINITY};
    if (n.op != "Clip") return {};
    Clamp c{-INFINITY, INFINITY};
    for (std::size_t i = 1; i < 3; ++i)
      if (n.in(i) != kNone) {
        const Tensor* t = g.constant(n.in(i));
        if (!t || t->size() != 1) return {};
        (i == 1 ? c.lo : c.hi) = static_cast<float>(t->at(0));
      }
    if (!(c.lo <= c.hi)) return {};
    return c;
  }

  std::optional<UseMap> map_;
  const UseMap& map() {
    if (!map_) map_.emplace(g);
    return *map_;
  }

  bool plan_library(int i, const NodeView& v, const Uses& uses, std::vector<bool>& done) {
    const Node& n = g.nodes[static_cast<std::size_t>(i)];
    if (v.in_type.empty() || v.in_type[0] != DType::f32 || v.out.empty() || v.out_type[0] != DType::f32) return false;
    const auto results = static_cast<double>(element_count(v.out[0]));
    if (auto conv = convolution_spec(v)) {
      lend(results * static_cast<double>(element_count(conv->w)) / static_cast<double>(conv->w[conv->transposed ? 1 : 0]));
      return plan_convolution(i, *conv, uses, done);
    }
    if (auto m = matmul_spec(v)) {
      lend(results * static_cast<double>(m->trans_a ? m->a[0] : m->a.back()));
      auto o = library->matmul(*m);
      if (!o) return false;
      std::vector<int> in{place(n.in(0), nullptr)};
      if (!m->weights) in.push_back(place(n.in(1), nullptr));
      finish(n.outputs[0], *o, std::move(in), -1);
      return true;
    }
    const std::vector<Place>& have = places[static_cast<std::size_t>(n.in(0))];
    const LayoutPtr layout = have.back().layout;
    lend(8 * results);
    if (auto p = pool_spec(v)) {
      lend(results * static_cast<double>(element_count(p->kernel)));
      auto o = library->pool(*p, layout);
      if (!o) return false;
      finish(n.outputs[0], *o, {place(n.in(0), o->in)}, -1);
      return true;
    }
    if (!layout) return false;
    // What lies in the library's own order stays there.
    if (auto c = clamp_of(n)) {
      auto o = library->clamp(v.in[0], layout, *c);
      if (!o) return false;
      const int from = place(n.in(0), layout);
      finish(n.outputs[0], *o, {from}, dies(n.in(0), i, uses) ? from : -1);
      return true;
    }
    if (is_sum(n) && v.in[0] == v.in[1] && v.in[0] == v.out[0]) {
      auto o = library->add(v.in[0], layout);
      if (!o) return false;
      const int from = place(n.in(0), layout);
      finish(n.outputs[0], *o, {from, place(n.in(1), layout)}, dies(n.in(0), i, uses) ? from : -1);
      return true;
    }
    return false;
  }
  void finish(ValueId y, const Operation& o, std::vector<int> in, int over) {
    const int to = over >= 0 ? over : new_memory(o.out_bytes);
    add_operation(o, std::move(in), to);
    places[static_cast<std::size_t>(y)] = {{o.out, to}};
  }

  bool plan_convolution(int i, ConvolutionSpec s, const Uses& uses, std::vector<bool>& done) {
    const Node& n = g.nodes[static_cast<std::size_t>(i)];
    ValueId y = n.outputs[0];
    std::vector<int> absorbed;
    ValueId other = kNone;
    if (!options.keep_all) {
      const auto& users = map().users[static_cast<std::size_t>(y)];
      const bool output = std::find(g.outputs.begin(), g.outputs.end(), y) != g.outputs.end();
      if (users.size() == 1 && !output) {
        const int a = users[0];
        const Node& add = g.nodes[static_cast<std::size_t>(a)];
        if (is_sum(add) && add.in(0) != add.in(1)) {
          const ValueId x = add.in(0) == y ? add.in(1) : add.in(0);
          const auto k = static_cast<std::size_t>(x);
          const TensorType& t = value(x).type;
          // The other summand must be there already, of the same extents, and read by nobody after this.
          if (known(t) && t.dtype == DType::f32 && shape_in(t) == s.y && !places[k].empty() && !g.constant(x) && shape_in(value(add.outputs[0]).type) == s.y) {
            const auto& readers = map().users[k];
            const bool last = uses.last[k] == a && !uses.shared[k] && memory[static_cast<std::size_t>(places[k][0].memory)].where == Memory::arena &&
                              std::all_of(readers.begin(), readers.end(), [&](int r) { return r <= i || r == a; }) && std::find(n.inputs.begin(), n.inputs.end(), x) == n.inputs.end();
            if (last) other = x, absorbed.push_back(a), y = add.outputs[0], s.sum = true;
          }
        }
      }
      std::optional<Clamp> c;
      if (const int a = clamp_behind(y, map(), c); a >= 0) absorbed.push_back(a), y = g.nodes[static_cast<std::size_t>(a)].outputs[0], s.clamp = c;
    }
    auto o = library->convolution(s);
    if (!o) return false;
    const int from = place(n.in(0), o->in);
    finish(y, *o, {from}, other == kNone ? -1 : place(other, o->out));
    for (int a : absorbed) done[static_cast<std::size_t>(a)] = true;
    return true;
  }

  // Offsets in the arena: in the order of the steps, each memory the smallest gap that holds it.
  void lay_out() {
    std::vector<std::vector<int>> begins(steps.size()), ends(steps.size() + 1);
    for (std::size_t m = 0; m < memory.size(); ++m) {
      const Memory& x = memory[m];
      if (x.where != Memory::arena || x.first < 0) continue;
      begins[static_cast<std::size_t>(x.first)].push_back(static_cast<int>(m));
      ends[static_cast<std::size_t>(x.last)].push_back(static_cast<int>(m));
    }
    std::map<std::size_t, std::size_t> gaps;  // offset -> bytes
    for (std::size_t s = 0; s < steps.size(); ++s) {
      for (int m : begins[s]) {
        Memory& x = memory[static_cast<std::size_t>(m)];
        const std::size_t need = aligned(std::max<std::size_t>(x.bytes, 1));
        auto best = gaps.end();
        for (auto it = gaps.begin(); it != gaps.end(); ++it)
          if (it->second >= need && (best == gaps.end() || it->second < best->second)) best = it;
        if (best == gaps.end()) {
          const auto tail = gaps.empty() ? gaps.end() : std::prev(gaps.end());
          if (tail != gaps.end() && tail->first + tail->second == arena_bytes) {
            x.offset = tail->first;
            gaps.erase(tail);
          } else {
            x.offset = arena_bytes;
          }
          arena_bytes = x.offset + need;
          continue;
        }
        x.offset = best->first;
        const std::size_t left = best->second - need;
        gaps.erase(best);
        if (left) gaps[x.offset + need] = left;
      }
      if (options.keep_all) continue;
      for (int m : ends[s]) {
        const Memory& x = memory[static_cast<std::size_t>(m)];
        auto it = gaps.emplace(x.offset, aligned(std::max<std::size_t>(x.bytes, 1))).first;
        if (auto next = std::next(it); next != gaps.end() && it->first + it->second == next->first) it->second += next->second, gaps.erase(next);
        if (it != gaps.begin())
          if (auto before = std::prev(it); before->first + before->second == it->first) before->second += it->second, gaps.erase(it);
      }
    }
  }

  // ---- running ------------------------------------------------------------------------------------------
  Tensor tensor_at(ValueId v, int m) const {
    const Memory& x = memory[static_cast<std::size_t>(m)];
    if (x.where == Memory::loose) return loose[static_cast<std::size_t>(m)];
    return Tensor::borrow(value(v).type.dtype, shape_in(value(v).type), at[static_cast<std::size_t>(m)]);
  }
  void reference(const Step& s, Graph& types) {
    const Node& n = g.nodes[static_cast<std::size_t>(s.node)];
    std::vector<Array<double>> in(n.inputs.size()), out(n.outputs.size());
    EvalArgs<double> e{types, n, {}, out};
    for (std::size_t i = 0; i < n.inputs.size(); ++i) {
      const ValueId v = n.inputs[i];
      if (v == kNone) {
        e.in.push_back(nullptr);
        continue;
      }
      const auto it = arrays.find(v);
      if (it == arrays.end()) in[i] = array_of(tensor_at(v, s.in[i]));
      e.in.push_back(it == arrays.end() ? &in[i] : &it->second);
    }
    const OpDef& op = op_of(g, n);
    if (s.dynamic) infer_node(types, n, op, e.in);
    op.eval.as_double(e);
    for (std::size_t i = 0; i < n.outputs.size(); ++i) {
      const ValueId y = n.outputs[i];
      if (y == kNone) continue;
      Tensor t = rounded(out[i], y);
      const auto m = static_cast<std::size_t>(s.out[i]);
      if (s.dynamic) {
        types.values[static_cast<std::size_t>(y)].type.dims = dims_of(t.shape());
        if (known(value(y).type) && shape_in(value(y).type) != t.shape())
          throw node_error(g, n, fmt::format("output {} has the shape {}, {} was inferred", i, to_string(t.shape()), to_string(*value(y).type.dims)));
        at[m] = const_cast<void*>(t.raw());
        loose[m] = std::move(t);
      } else {
        TANDEM_CHECK(t.bytes() == memory[m].bytes, "{}: output {} has the shape {}, {} was inferred", g.describe(n), i, to_string(t.shape()), to_string(*value(y).type.dims));
        if (t.bytes()) std::memcpy(at[m], t.raw(), t.bytes());
      }
    }
  }

  std::vector<Tensor> run(const std::vector<Tensor>& given, std::vector<Tensor>* all) {
    TANDEM_CHECK(!all || options.keep_all, "every value is asked of a plan that does not keep them");
    if (given.size() != g.inputs.size()) throw bad_input("the graph has {} inputs, {} were given", g.inputs.size(), given.size());
    std::vector<Tensor> inputs = given;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Value& x = value(g.inputs[i]);
      if (inputs[i].shape() != shape_in(x.type)) throw bad_input("input '{}' has shape {}, the graph expects {}", x.name, to_string(inputs[i].shape()), to_string(*x.type.dims));
      if (inputs[i].dtype() != x.type.dtype) inputs[i] = inputs[i].cast(x.type.dtype);
    }
    if (!base) {
      base = static_cast<std::byte*>(::operator new(std::max<std::size_t>(arena_bytes + scratch_bytes, 1), std::align_val_t{kAlign}));
      at.assign(memory.size(), nullptr);
      loose.resize(memory.size());
      for (std::size_t m = 0; m < memory.size(); ++m) {
        if (memory[m].where == Memory::arena) at[m] = base + memory[m].offset;
        if (memory[m].where == Memory::constant) at[m] = const_cast<void*>(memory[m].data);
      }
    }
    for (std::size_t m = 0; m < memory.size(); ++m)
      if (memory[m].where == Memory::input) at[m] = const_cast<void*>(inputs[memory[m].input_index].raw());
    std::optional<Graph> typed;
    lent = 0;  // another thread may call than last time
    if (!bounded) typed = g;
    Graph& types = typed ? *typed : g;
    std::vector<const void*> in;
    std::vector<void*> out;
    for (const Step& s : steps) {
      if (s.node >= 0) {
        reference(s, types);
        continue;
      }
      if (s.threads) lend_threads(s.threads);
      in.clear(), out.clear();
      for (int m : s.in) in.push_back(m < 0 ? nullptr : at[static_cast<std::size_t>(m)]);
      for (int m : s.out) out.push_back(m < 0 ? nullptr : at[static_cast<std::size_t>(m)]);
      s.kernel.run(in.data(), out.data(), base + arena_bytes);
    }
    const auto copy_of = [&](ValueId v, int m) {
      const Tensor from = tensor_at(v, m);
      if (memory[static_cast<std::size_t>(m)].where == Memory::loose) return from;
      Tensor t(from.dtype(), from.shape());
      if (t.bytes()) std::memcpy(t.raw_mutable(), from.raw(), t.bytes());
      return t;
    };
    std::vector<Tensor> result;
    for (ValueId v : g.outputs) result.push_back(copy_of(v, places[static_cast<std::size_t>(v)].at(0).layout ? find_place(v, nullptr)->memory : places[static_cast<std::size_t>(v)][0].memory));
    if (all) {
      all->assign(g.values.size(), Tensor());
      for (std::size_t v = 0; v < places.size(); ++v)
        for (const Place& p : places[v])
          if (!p.layout) (*all)[v] = copy_of(static_cast<ValueId>(v), p.memory);
    }
    return result;
  }
};

FloatExecutor::FloatExecutor(Graph bound, FloatOptions options) : impl_(std::make_unique<Impl>(std::move(bound), options)) {}
FloatExecutor::~FloatExecutor() = default;
FloatExecutor::FloatExecutor(FloatExecutor&&) noexcept = default;
std::vector<Tensor> FloatExecutor::run(const std::vector<Tensor>& inputs, std::vector<Tensor>* all) { return impl_->run(inputs, all); }
std::uint64_t FloatExecutor::peak_bytes() const { return impl_->peak(); }
bool FloatExecutor::bounded() const { return impl_->bounded; }
const FloatCounts& FloatExecutor::counts() const { return impl_->counts; }

}  // namespace tandem::exec
