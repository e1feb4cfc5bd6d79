#include "tandem/ir/llama2.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "tandem/base/file.h"
#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {

using Ints = std::vector<std::int64_t>;

struct Header {
  std::int64_t dim = 0, hidden = 0, layers = 0, heads = 0, kv_heads = 0, vocab = 0, seq = 0;
  bool shared = true;  // the classifier is the embedding
  std::int64_t head() const { return dim / heads; }
};
constexpr std::size_t kHeaderBytes = 28;

// "" when plausible.
std::string read_header(std::string_view bytes, Header& h) {
  static_assert(std::endian::native == std::endian::little);
  if (bytes.size() < kHeaderBytes) return fmt::format("{} bytes are no header", bytes.size());
  std::int32_t v[7];
  std::memcpy(v, bytes.data(), kHeaderBytes);
  h = {v[0], v[1], v[2], v[3], v[4], std::abs(std::int64_t{v[5]}), v[6], v[5] > 0};
  const std::pair<const char*, std::int64_t> all[] = {{"dim", h.dim}, {"hidden_dim", h.hidden}, {"n_layers", h.layers}, {"n_heads", h.heads}, {"n_kv_heads", h.kv_heads}, {"vocab_size", h.vocab}, {"seq_len", h.seq}};
  for (const auto& [name, n] : all)
    if (n < 1 || n > (1 << 24)) return fmt::format("{} is {}", name, n);
  if (h.layers > 10000) return fmt::format("n_layers is {}", h.layers);
  if (h.dim % h.heads || h.head() % 2) return fmt::format("{} heads do not divide {} into even parts", h.heads, h.dim);
  if (h.heads % h.kv_heads) return fmt::format("{} key and value heads do not divide {} heads", h.kv_heads, h.heads);
  return "";
}

// Floats behind the header; 2^24 is the most that a factor can be, so no product of three overflows 2^72 but the sum is kept in 128 bits.
unsigned __int128 floats_of(const Header& h) {
  using U = unsigned __int128;
  const U d = static_cast<U>(h.dim), f = static_cast<U>(h.hidden), kv = static_cast<U>(h.kv_heads * h.head()), l = static_cast<U>(h.layers);
  const U table = static_cast<U>(h.vocab) * d, rope = static_cast<U>(h.seq) * static_cast<U>(h.head());
  return table + l * (2 * d + 2 * d * d + 2 * kv * d + 3 * f * d) + d + rope + (h.shared ? 0 : table);
}

struct Builder {
  const Header& h;
  const Llama2Options& o;
  const char* at;  // the next weight
  Graph g;

  Tensor take(Shape s) {
    Tensor t(DType::f32, std::move(s));
    std::memcpy(t.raw_mutable(), at, t.bytes());
    at += t.bytes();
    return t;
  }
  // One tensor for each layer.
  std::vector<Tensor> take_layers(const Shape& s) {
    std::vector<Tensor> r;
    for (std::int64_t l = 0; l < h.layers; ++l) r.push_back(take(s));
    return r;
  }
  static Tensor transposed(const Tensor& t) {
    const std::int64_t n = t.shape()[0], m = t.shape()[1];
    Tensor r(DType::f32, {m, n});
    const float* from = t.data<float>();
    float* to = r.data<float>();
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < m; ++j) to[j * n + i] = from[i * m + j];
    return r;
  }

  ValueId node(std::string op, std::vector<ValueId> in, const std::string& name, std::map<std::string, Attribute> attrs = {}) {
    return g.add_node(std::move(op), std::move(in), std::move(attrs), name);
  }
  ValueId ints(const std::string& name, const Ints& v) {
    if (const ValueId there = g.find(name); there != kNone) return there;
    return g.add_constant(name, Tensor::of<std::int64_t>({static_cast<std::int64_t>(v.size())}, v));
  }
  ValueId scalar(const std::string& name, std::int64_t v) {
    if (const ValueId there = g.find(name); there != kNone) return there;
    return g.add_constant(name, Tensor::scalar(v));
  }
  ValueId matmul(ValueId x, const Tensor& w, const std::string& name) { return node("MatMul", {x, g.add_constant(name + ".weight", transposed(w))}, name); }
  ValueId norm(ValueId x, const Tensor& w, const std::string& name) {
    return node("RMSNormalization", {x, g.add_constant(name + ".weight", w)}, name, {{"axis", std::int64_t{-1}}, {"epsilon", o.norm_epsilon}});
  }
  ValueId extent(ValueId x, std::int64_t axis, const std::string& name) {
    return node("Gather", {node("Shape", {x}, name + ".shape"), scalar("axis_" + std::to_string(axis), axis)}, name);
  }

  // [batch, heads, seq, head] with each pair (2 i, 2 i + 1) of the last axis turned by its angle.
  ValueId rotate(ValueId x, std::int64_t heads, ValueId cosine, ValueId sine, const std::string& name) {
    const ValueId pairs = node("Reshape", {x, ints(fmt::format("pairs_{}", heads), {0, heads, -1, h.head() / 2, 2})}, name + ".pairs");
    Node split;
    split.op = "Split", split.name = name + ".split";
    split.attrs["axis"] = std::int64_t{4};
    split.inputs = {pairs, ints("one_and_one", {1, 1})};
    split.outputs = {g.add_value(g.unique_name(name + ".re")), g.add_value(g.unique_name(name + ".im"))};
    g.nodes.push_back(split);
    const ValueId re = split.outputs[0], im = split.outputs[1];
    const ValueId a = node("Sub", {node("Mul", {re, cosine}, name + ".re_cos"), node("Mul", {im, sine}, name + ".im_sin")}, name + ".turned_re");
    const ValueId b = node("Add", {node("Mul", {re, sine}, name + ".re_sin"), node("Mul", {im, cosine}, name + ".im_cos")}, name + ".turned_im");
    const ValueId joined = node("Concat", {a, b}, name + ".joined", {{"axis", std::int64_t{4}}});
    return node("Reshape", {joined, ints(fmt::format("heads_{}", heads), {0, heads, -1, h.head()})}, name);
  }

  ValueId split_heads(ValueId x, std::int64_t heads, const std::string& name) {
    const ValueId r = node("Reshape", {x, ints(fmt::format("split_{}", heads), {0, 0, heads, h.head()})}, name + ".split");
    return node("Transpose", {r}, name, {{"perm", Ints{0, 2, 1, 3}}});
  }

  void build() {
    g.name = "llama2";
    g.opset = 17;
    const std::int64_t D = h.head(), kv = h.kv_heads, per = h.heads / kv;
    const Tensor embedding = take({h.vocab, h.dim});
    const auto att_norm = take_layers({h.dim}), wq = take_layers({h.dim, h.dim}), wk = take_layers({kv * D, h.dim}), wv = take_layers({kv * D, h.dim}),
               wo = take_layers({h.dim, h.dim}), ffn_norm = take_layers({h.dim}), w1 = take_layers({h.hidden, h.dim}), w2 = take_layers({h.dim, h.hidden}),
               w3 = take_layers({h.hidden, h.dim});
    const Tensor last_norm = take({h.dim});
    at += 4 * h.seq * D;  // rotary tables that the program itself no longer reads

    const ValueId ids = g.add_input("ids", DType::i64, {Dim(std::string("batch")), Dim(std::string("seq"))});
    std::vector<ValueId> past_key, past_value;
    if (o.cache)
      for (std::int64_t l = 0; l < h.layers; ++l) {
        const Dims d{Dim(std::string("batch")), Dim(kv), Dim(std::string("past")), Dim(D)};
        past_key.push_back(g.add_input(fmt::format("past_key.{}", l), DType::f32, d));
        past_value.push_back(g.add_input(fmt::format("past_value.{}", l), DType::f32, d));
      }

    // Positions of the tokens at hand, and of all that attention sees.
    const ValueId seq = extent(ids, 1, "seq_len"), zero = scalar("zero", 0), one = scalar("one", 1);
    const ValueId begin = o.cache ? extent(past_key[0], 2, "past_len") : zero;
    const ValueId end = o.cache ? node("Add", {begin, seq}, "all_len") : seq;
    const ValueId here = node("Range", {begin, end, one}, "positions");
    const ValueId all = o.cache ? node("Range", {zero, end, one}, "all_positions") : here;
    const ValueId seen = node("GreaterOrEqual", {node("Unsqueeze", {here, ints("axis_last", {1})}, "row"), node("Unsqueeze", {all, ints("axis_first", {0})}, "column")}, "causal");
    Tensor cosine(DType::f32, {h.seq, D / 2, 1}), sine(DType::f32, {h.seq, D / 2, 1});
    for (std::int64_t p = 0; p < h.seq; ++p)
      for (std::int64_t i = 0; i < D / 2; ++i) {
        const double angle = static_cast<double>(p) * std::pow(o.rope_base, -2.0 * static_cast<double>(i) / static_cast<double>(D));
        cosine.set(p * (D / 2) + i, std::cos(angle)), sine.set(p * (D / 2) + i, std::sin(angle));
      }
    const ValueId cos_here = node("Gather", {g.add_constant("rope_cos", cosine), here}, "cos"), sin_here = node("Gather", {g.add_constant("rope_sin", sine), here}, "sin");
    const ValueId hidden = g.add_constant("minus_infinity", Tensor::scalar(-std::numeric_limits<float>::infinity()));
    const ValueId scale = g.add_constant("attention_scale", Tensor::scalar(static_cast<float>(1 / std::sqrt(static_cast<double>(D)))));

    const ValueId table = g.add_constant("embedding.weight", embedding);
    ValueId x = node("Gather", {table, ids}, "embedding");
    std::vector<ValueId> present;
    for (std::int64_t l = 0; l < h.layers; ++l) {
      const auto i = static_cast<std::size_t>(l);
      const std::string p = fmt::format("layers.{}.", l);
      const ValueId n = norm(x, att_norm[i], p + "attention_norm");
      ValueId q = rotate(split_heads(matmul(n, wq[i], p + "wq"), h.heads, p + "q"), h.heads, cos_here, sin_here, p + "q_rotated");
      ValueId k = rotate(split_heads(matmul(n, wk[i], p + "wk"), kv, p + "k"), kv, cos_here, sin_here, p + "k_rotated");
      ValueId v = split_heads(matmul(n, wv[i], p + "wv"), kv, p + "v");
      if (o.cache) {
        k = node("Concat", {past_key[i], k}, fmt::format("present_key.{}", l), {{"axis", std::int64_t{2}}});
        v = node("Concat", {past_value[i], v}, fmt::format("present_value.{}", l), {{"axis", std::int64_t{2}}});
        g.values[static_cast<std::size_t>(k)].name = fmt::format("present_key.{}", l), g.values[static_cast<std::size_t>(v)].name = fmt::format("present_value.{}", l);
        present.insert(present.end(), {k, v});
      }
      // Query heads that share a key: an axis of their own, over which the key broadcasts.
      q = node("Reshape", {q, ints("groups", {0, kv, per, -1, D})}, p + "q_groups");
      k = node("Unsqueeze", {node("Transpose", {k}, p + "k_t", {{"perm", Ints{0, 1, 3, 2}}}), ints("axis_two", {2})}, p + "k_groups");
      v = node("Unsqueeze", {v, ints("axis_two", {2})}, p + "v_groups");
      const ValueId scores = node("Mul", {node("MatMul", {q, k}, p + "qk"), scale}, p + "scores");
      const ValueId weights = node("Softmax", {node("Where", {seen, scores, hidden}, p + "masked")}, p + "softmax", {{"axis", std::int64_t{-1}}});
      ValueId y = node("Reshape", {node("MatMul", {weights, v}, p + "av"), ints("ungroup", {0, h.heads, -1, D})}, p + "heads");
      y = node("Reshape", {node("Transpose", {y}, p + "heads_t", {{"perm", Ints{0, 2, 1, 3}}}), ints("merge", {0, 0, h.dim})}, p + "merged");
      x = node("Add", {x, matmul(y, wo[i], p + "wo")}, p + "attention");
      const ValueId f = norm(x, ffn_norm[i], p + "ffn_norm");
      const ValueId gate = matmul(f, w1[i], p + "w1");
      const ValueId swish = node("Mul", {gate, node("Sigmoid", {gate}, p + "sigmoid")}, p + "swish");
      x = node("Add", {x, matmul(node("Mul", {swish, matmul(f, w3[i], p + "w3")}, p + "gated"), w2[i], p + "w2")}, p + "ffn");
    }
    x = norm(x, last_norm, "norm");
    const ValueId logits = h.shared ? node("MatMul", {x, node("Transpose", {table}, "classifier.weight", {{"perm", Ints{1, 0}}})}, "classifier") : matmul(x, take({h.vocab, h.dim}), "classifier");
    g.values[static_cast<std::size_t>(logits)].name = "logits";
    g.outputs = {logits};
    g.outputs.insert(g.outputs.end(), present.begin(), present.end());
  }
};

}  // namespace

bool is_llama2(std::string_view head, std::uint64_t size) {
  Header h;
  return read_header(head, h).empty() && floats_of(h) * 4 + kHeaderBytes == size;
}

Graph parse_llama2(std::string_view bytes, const Llama2Options& options, const Limits& limits) {
  Header h;
  if (const std::string why = read_header(bytes, h); !why.empty()) throw bad_input("no llama2.c checkpoint: {}", why).expected("dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len and weights, as karpathy/llama2.c writes them (version 0)").fix("export the model with `export.py --version 0`");
  const unsigned __int128 want = floats_of(h) * 4 + kHeaderBytes;
  if (want != bytes.size())
    throw bad_input("a llama2.c checkpoint of {} bytes", bytes.size()).expected(fmt::format("{} bytes for {} layers of {} channels", static_cast<std::uint64_t>(std::min<unsigned __int128>(want, ~std::uint64_t{0})), h.layers, h.dim)).fix("the file is truncated or of a newer version: export it with `--version 0`");
  if (want * 2 > limits.memory_bytes) throw Error(Exit::limit, fmt::format("the model takes more than {} MiB of memory", limits.memory_bytes >> 20)).fix("raise --memory");
  Builder b{h, options, bytes.data() + kHeaderBytes, {}};
  b.build();
  return std::move(b.g);
}

Graph read_llama2(const std::filesystem::path& path, const Llama2Options& options, const Limits& limits) {
  const std::string bytes = read_file(path, limits);
  try {
    return parse_llama2(bytes, options, limits);
  } catch (Error& e) {
    throw e.at(path.string());
  }
}

}  // namespace tandem::ir
