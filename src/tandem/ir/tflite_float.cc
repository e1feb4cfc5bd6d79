#include "tandem/ir/tflite_float.h"

#include <cmath>

#include "tandem/ir/channels_last.h"
#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {

using Id = ChannelsLast::Id;
using Ints = std::vector<std::int64_t>;
using Attrs = ChannelsLast::Attrs;

constexpr std::size_t kMaxOperators = 20000;
constexpr std::int64_t kMaxUnrolled = 1024;

class Importer {
 public:
  Importer(const TfliteModel& m, bool quantisers) : s_(m.subgraphs.at(0)), quantisers_(quantisers), b_(g_) {}
  Graph read();

 private:
  [[noreturn]] void fail(std::string what, std::string fix = "") const {
    Error e(Exit::bad_input, std::move(what));
    e.at(describe(s_, at_));
    if (!fix.empty()) e.fix(std::move(fix));
    throw e;
  }
  const TfliteTensor& tensor(int t) const { return s_.tensors[static_cast<std::size_t>(t)]; }
  const TfliteOperator& op() const { return s_.operators[at_]; }
  bool has(std::size_t i) const { return i < op().inputs.size() && op().inputs[i] >= 0; }
  int in_tensor(std::size_t i) const {
    if (!has(i)) fail(fmt::format("input {} is missing", i));
    return op().inputs[i];
  }
  Id in(std::size_t i) { return value(in_tensor(i)); }
  Id value(int t);
  Tensor number_of(int t) const;  // of a constant, widened to f32 where it is quantised
  const Ints constant_ints(std::size_t i) const;
  std::int64_t option(const char* key, std::int64_t fallback = 0) const {
    const double v = op().number(key, static_cast<double>(fallback));
    if (!(std::abs(v) <= 2147483648.0)) fail(fmt::format("{} is {}", key, v));
    return static_cast<std::int64_t>(v);
  }
  const TfliteTensor& out(std::size_t i = 0) const { return tensor(op().outputs[i]); }
  std::string tensor_name(int t) const { return tensor(t).name.empty() ? fmt::format("tensor_{}", t) : tensor(t).name; }
  Dims file_dims(const TfliteTensor& t, const std::string& name) const {
    Dims d;
    for (std::size_t i = 0; i < t.shape.size(); ++i) {
      if (i < t.signature.size() && t.signature[i] < 0) d.emplace_back(i == 0 ? std::string("batch") : fmt::format("{}_{}", name, i));
      else d.emplace_back(t.shape[i]);
    }
    return d;
  }

  // A constant as an operand, with the quantiser that the file states. `perm`: axes of the operand; `shape` replaces its shape.
  ValueId weights(int t, const Ints& perm, const Shape& shape, const std::string& name, Id rows_of = -1);
  Id quantised(Id y, const TfliteTensor& t, const std::string& name);
  Id fused(Id y, const std::string& name) { return activated(y, option("fused_activation_function"), name + "/activation"); }
  Id activated(Id y, std::int64_t kind, const std::string& name);
  Id clipped(Id x, std::optional<float> lo, std::optional<float> hi, const std::string& name) {
    return b_.unary("Clip", x, {}, name, {lo ? b_.scalar(name + "/min", *lo) : kNone, hi ? b_.scalar(name + "/max", *hi) : kNone});
  }
  Id times(Id x, float k, const std::string& name) { return b_.like(x, b_.node("Mul", {b_.held(x, name), b_.scalar(name + "/factor", k)}, {}, name)); }
  Id plus(Id x, float k, const std::string& name) { return b_.like(x, b_.node("Add", {b_.held(x, name), b_.scalar(name + "/offset", k)}, {}, name)); }

  std::vector<Id> apply(const std::string& name);
  Id convolution(const std::string& name, bool depthwise);
  Id transposed_convolution(const std::string& name);
  Id fully_connected(const std::string& name);
  Id pool(const std::string& name, bool max);
  Id padded(const std::string& name);
  Id reshaped(Id x, const std::string& name);
  Id strided_slice(const std::string& name);
  Id resized(const std::string& name, bool linear);
  Id lstm(const std::string& name);
  Id joined(const std::string& op_name, const std::string& name) { return fused(b_.join(op_name, {in(0), in(1)}, {}, name), name); }
  void pads(Attrs& a, const Dims& image, const Ints& kernel, const Ints& stride, const Ints& dilation) const;
  Id biased(ValueId y, std::size_t bias, std::int64_t channels, const std::string& name, bool image);
  std::int64_t axis_of(std::int64_t axis, std::int64_t rank) const {
    if (axis < -rank || axis >= rank) fail(fmt::format("axis {} of a tensor of rank {}", axis, rank));
    return axis < 0 ? axis + rank : axis;
  }
  Id slice(Id x, const Ints& starts, const Ints& ends, const Ints& steps, const std::string& name) {
    Ints axes(starts.size());
    for (std::size_t i = 0; i < axes.size(); ++i) axes[i] = static_cast<std::int64_t>(i);
    return b_.hold(b_.node("Slice", {b_.last(x, name), b_.ints(name + "/starts", starts), b_.ints(name + "/ends", ends), b_.ints(name + "/axes", axes), b_.ints(name + "/steps", steps)}, {}, name));
  }

  // A PAD of an image with zeros: a convolution behind it takes the padding as its own.
  struct Padding {
    Id source;
    Ints amounts;  // begins of the spatial axes, then ends
  };

  const TfliteSubgraph& s_;
  bool quantisers_;
  Graph g_;
  ChannelsLast b_;
  std::size_t at_ = 0;
  std::map<int, Id> values_;
  std::map<Id, Padding> paddings_;
};

bool is_quantised(const TfliteTensor& t) {
  return !t.quant.scales.empty() && t.dtype && (*t.dtype == DType::i8 || *t.dtype == DType::u8 || *t.dtype == DType::i16 || *t.dtype == DType::i32);
}
int bits_of(DType t) { return t == DType::i8 || t == DType::u8 ? 8 : t == DType::i16 ? 16 : 32; }
// The type of a value in the graph: real numbers where the file has codes.
DType held_type(const TfliteTensor& t) { return is_quantised(t) || *t.dtype == DType::f16 || *t.dtype == DType::bf16 || *t.dtype == DType::f64 ? DType::f32 : *t.dtype; }

Tensor Importer::number_of(int t) const {
  const TfliteTensor& x = tensor(t);
  if (!x.dtype || x.sparse) fail(fmt::format("the constant '{}' is {}", tensor_name(t), x.sparse ? "sparse" : x.type));
  Tensor v = x.value();
  if (!is_quantised(x)) return is_float(*x.dtype) ? v.cast(DType::f32) : v;
  Tensor y(DType::f32, x.shape);
  const auto& q = x.quant;
  if (q.scales.size() > 1 && (q.dimension < 0 || q.dimension >= static_cast<std::int64_t>(x.shape.size()) || x.shape[static_cast<std::size_t>(q.dimension)] != static_cast<std::int64_t>(q.scales.size())))
    fail(fmt::format("the constant '{}' has {} scales", tensor_name(t), q.scales.size()));
  std::int64_t inner = 1;
  for (std::size_t i = static_cast<std::size_t>(q.dimension) + 1; i < x.shape.size(); ++i) inner *= x.shape[i];
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::size_t k = q.scales.size() == 1 ? 0 : static_cast<std::size_t>(i / inner) % q.scales.size();
    const double zero = q.zero_points.empty() ? 0 : static_cast<double>(q.zero_points[std::min(k, q.zero_points.size() - 1)]);
    y.data<float>()[i] = static_cast<float>((static_cast<double>(v.int_at(i)) - zero) * static_cast<double>(q.scales[k]));
  }
  return y;
}
Id Importer::value(int t) {
  if (const auto f = values_.find(t); f != values_.end()) return f->second;
  const TfliteTensor& x = tensor(t);
  if (!x.constant) fail(x.variable ? fmt::format("'{}' keeps its value between runs", tensor_name(t)) : fmt::format("'{}' is read before it is computed", tensor_name(t)));
  Id c = b_.constant(tensor_name(t), number_of(t));
  if (quantisers_ && is_quantised(x) && x.quant.scales.size() == 1) c = quantised(c, x, tensor_name(t));
  return values_[t] = c;
}
const Ints Importer::constant_ints(std::size_t i) const {
  const int t = in_tensor(i);
  const TfliteTensor& x = tensor(t);
  if (!x.dense() || (*x.dtype != DType::i32 && *x.dtype != DType::i64)) fail(fmt::format("input {} ('{}') is computed", i, tensor_name(t)), "only constant shapes, axes and sizes are held: fix the shapes of the model's inputs and convert it again");
  const Tensor v = x.value();
  Ints r;
  if (v.size() > 1024) fail(fmt::format("input {} has {} numbers", i, v.size()));
  for (std::int64_t k = 0; k < v.size(); ++k) r.push_back(v.int_at(k));
  return r;
}

Id Importer::quantised(Id y, const TfliteTensor& t, const std::string& name) {
  if (!quantisers_ || !is_quantised(t)) return y;
  if (t.quant.scales.size() != 1) fail("an activation with a scale per channel");
  const float zero = t.quant.zero_points.empty() ? 0.f : static_cast<float>(t.quant.zero_points[0]);
  const ValueId v = b_.node("Quant", {b_.held(y, name), b_.scalar(name + "/scale", t.quant.scales[0]), b_.scalar(name + "/zero", zero), b_.scalar(name + "/bits", static_cast<float>(bits_of(*t.dtype)))},
                            {{"signed", std::int64_t{*t.dtype != DType::u8}}, {"narrow", std::int64_t{0}}, {"rounding_mode", std::string("ROUND")}}, name + "/quant", "qonnx.custom_op.general");
  return b_.like(y, v);
}

ValueId Importer::weights(int t, const Ints& perm, const Shape& shape, const std::string& name, Id rows_of) {
  const TfliteTensor& x = tensor(t);
  if (!x.constant) fail(fmt::format("the weights '{}' are computed", tensor_name(t)));
  const Tensor w = permuted(number_of(t), perm);
  const auto fit = [&](const Tensor& v) { return rows_of >= 0 ? b_.channels_for(rows_of, v) : shape.empty() ? v : v.reshaped(shape); };
  const ValueId c = g_.add_constant(name, fit(w));
  if (!quantisers_ || !is_quantised(x)) return c;
  // Scales along the permuted axis; a reshape only adds or drops axes of extent 1 next to it.
  const auto n = static_cast<std::int64_t>(x.quant.scales.size());
  Shape s = shape.empty() ? w.shape() : shape;
  if (n == 1) {
    s.clear();
  } else {
    const auto along = static_cast<std::size_t>(std::find(perm.begin(), perm.end(), x.quant.dimension) - perm.begin());
    std::int64_t before = 1;
    for (std::size_t i = 0; i < along; ++i) before *= w.shape()[i];
    std::int64_t seen = 1;
    bool placed = false;
    for (std::int64_t& d : s) {
      const bool here = !placed && seen == before && d == n;
      seen *= d;
      placed = placed || here;
      if (!here) d = 1;
    }
    if (!placed) fail(fmt::format("the scales of '{}' do not follow an axis of the operand", tensor_name(t)));
  }
  bool narrow = *x.dtype != DType::u8;
  const Tensor codes = x.value();
  const std::int64_t least = -(std::int64_t{1} << (bits_of(*x.dtype) - 1));
  for (std::int64_t i = 0; narrow && i < codes.size(); ++i) narrow = codes.int_at(i) != least;
  std::vector<float> zeros(x.quant.scales.size(), 0);
  for (std::size_t i = 0; i < zeros.size() && !x.quant.zero_points.empty(); ++i) zeros[i] = static_cast<float>(x.quant.zero_points[std::min(i, x.quant.zero_points.size() - 1)]);
  return b_.node("Quant", {c, g_.add_constant(name + "/scale", Tensor::of<float>(s, x.quant.scales)), g_.add_constant(name + "/zero", Tensor::of<float>(s, zeros)), b_.scalar(name + "/bits", static_cast<float>(bits_of(*x.dtype)))},
                 {{"signed", std::int64_t{*x.dtype != DType::u8}}, {"narrow", std::int64_t{narrow}}, {"rounding_mode", std::string("ROUND")}}, name + "/quant", "qonnx.custom_op.general");
}

Id Importer::activated(Id y, std::int64_t kind, const std::string& name) {
  switch (kind) {
    case 0: return y;
    case 1: return b_.unary("Relu", y, {}, name);
    case 2: return clipped(y, -1.f, 1.f, name);
    case 3: return clipped(y, 0.f, 6.f, name);
    case 4: return b_.unary("Tanh", y, {}, name);
    default: fail(fmt::format("fused activation {}", kind));
  }
}

// ---- windows ------------------------------------------------------------------------------------
void Importer::pads(Attrs& a, const Dims& image, const Ints& kernel, const Ints& stride, const Ints& dilation) const {
  for (std::size_t i = 0; i < kernel.size(); ++i)
    if (kernel[i] < 1 || stride[i] < 1 || dilation[i] < 1) fail("a window, stride or dilation below 1");
  if (option("padding") == 1) return;
  pad_same(a, image, kernel, stride, dilation);
}
Id Importer::biased(ValueId y, std::size_t bias, std::int64_t channels, const std::string& name, bool image) {
  const auto hold = [&](ValueId v) { return image ? b_.hold_first(v) : b_.hold(v); };
  if (!has(bias)) return hold(y);
  const TfliteTensor& t = tensor(in_tensor(bias));
  if (t.shape != Shape{channels}) fail(fmt::format("a bias of shape {}", to_string(t.shape)), fmt::format("one number for each of {} channels", channels));
  Shape s{channels};
  if (image) s.resize(b_.graph().values[static_cast<std::size_t>(y)].type.dims->size() - 1, 1);
  return hold(b_.node("Add", {y, weights(in_tensor(bias), {0}, s, name + "/bias")}, {}, name + "/add"));
}
Id Importer::convolution(const std::string& name, bool depthwise) {
  const bool deep = op().op == "CONV_3D";
  const std::size_t axes = deep ? 3 : 2;
  Id x = in(0);
  const Dims image = b_.dims(x);
  const TfliteTensor& w = tensor(in_tensor(1));
  if (image.size() != axes + 2 || w.shape.size() != axes + 2 || !image.back().known()) fail(fmt::format("an input of shape {} and weights of shape {}", to_string(image), to_string(w.shape)));
  const Shape& k = w.shape;
  const Ints kernel = deep ? Ints{k[0], k[1], k[2]} : Ints{k[1], k[2]};
  Ints stride{option("stride_h", 1), option("stride_w", 1)}, dilation{option("dilation_h_factor", 1), option("dilation_w_factor", 1)};
  if (deep) stride.insert(stride.begin(), option("stride_d", 1)), dilation.insert(dilation.begin(), option("dilation_d_factor", 1));
  Attrs a{{"kernel_shape", kernel}, {"strides", stride}, {"dilations", dilation}};
  pads(a, image, kernel, stride, dilation);
  if (const auto f = paddings_.find(x); f != paddings_.end() && f->second.amounts.size() == 2 * axes && !a.contains("auto_pad")) {
    Ints sum = f->second.amounts;
    if (const auto own = a.find("pads"); own != a.end())
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += std::get<Ints>(own->second)[i];
    a["pads"] = sum;
    x = f->second.source;
  }
  const std::int64_t channels = image.back().n, outputs = depthwise ? k[3] : deep ? k[4] : k[0], per = depthwise ? 1 : k[3];
  if (per < 1 || outputs < 1 || channels < 1 || channels % per != 0 || outputs % (channels / per) != 0 || (depthwise && k[0] != 1)) fail(fmt::format("weights of shape {} for {} channels", to_string(k), channels));
  if (channels != per) a["group"] = channels / per;
  const Ints perm = depthwise ? Ints{3, 0, 1, 2} : deep ? Ints{4, 3, 0, 1, 2} : Ints{0, 3, 1, 2};
  std::vector<ValueId> inputs{b_.first(x, name), weights(in_tensor(1), perm, {}, name + "/kernel")};
  Id y;
  if (!quantisers_ && has(2)) {
    if (tensor(in_tensor(2)).shape != Shape{outputs}) fail("the bias does not fit the channels");
    inputs.push_back(weights(in_tensor(2), {0}, {}, name + "/bias"));
    y = b_.hold_first(b_.node("Conv", inputs, a, name));
  } else {
    y = biased(b_.node("Conv", inputs, a, name), 2, outputs, name, true);
  }
  return fused(y, name);
}
Id Importer::transposed_convolution(const std::string& name) {
  const Ints shape = constant_ints(0);
  const Id x = in(2);
  const Dims image = b_.dims(x);
  const Shape& k = tensor(in_tensor(1)).shape;
  if (shape.size() != 4 || image.size() != 4 || k.size() != 4 || !image[1].known() || !image[2].known()) fail("only images of known extents");
  if (image[3].n != k[3] || shape[3] != k[0]) fail("the weights do not fit the channels");
  const Ints stride{option("stride_h", 1), option("stride_w", 1)};
  Ints p(4, 0), more(2, 0);
  for (std::size_t i = 0; i < 2; ++i) {
    if (stride[i] < 1) fail("a stride below 1");
    const std::int64_t natural = (image[i + 1].n - 1) * stride[i] + k[i + 1], total = option("padding") == 1 ? 0 : std::max<std::int64_t>(0, natural - shape[i + 1]);
    p[i] = total / 2, p[i + 2] = total - total / 2;
    more[i] = shape[i + 1] - (natural - total);
    if (more[i] < 0 || more[i] >= std::max<std::int64_t>(stride[i], 1)) fail(fmt::format("an output of {} from an input of {}", shape[i + 1], image[i + 1].n));
  }
  const ValueId y = b_.node("ConvTranspose", {b_.first(x, name), weights(in_tensor(1), {3, 0, 1, 2}, {}, name + "/kernel")},
                            {{"kernel_shape", Ints{k[1], k[2]}}, {"strides", stride}, {"pads", p}, {"output_padding", more}}, name);
  return fused(biased(y, 3, k[0], name, true), name);
}
Id Importer::pool(const std::string& name, bool max) {
  const Id x = in(0);
  const Ints kernel{option("filter_height", 1), option("filter_width", 1)}, stride{option("stride_h", 1), option("stride_w", 1)};
  if (b_.rank(x) != 4) fail(fmt::format("an input of shape {}", to_string(b_.dims(x))));
  Attrs a{{"kernel_shape", kernel}, {"strides", stride}};
  pads(a, b_.dims(x), kernel, stride, {1, 1});
  return fused(b_.hold_first(b_.node(max ? "MaxPool" : "AveragePool", {b_.first(x, name)}, a, name)), name);
}

// ---- matrices -----------------------------------------------------------------------------------
Id Importer::fully_connected(const std::string& name) {
  if (option("weights_format") != 0) fail("shuffled weights", "convert the model again without the shuffled format");
  const TfliteTensor& w = tensor(in_tensor(1));
  if (w.shape.size() != 2) fail(fmt::format("weights of shape {}", to_string(w.shape)));
  const std::int64_t inputs = w.shape[1], outputs = w.shape[0];
  Id x = in(0);
  const Dims d = b_.dims(x);
  std::int64_t rest = 1;
  bool known = true;
  for (std::size_t i = 1; i < d.size(); ++i) known = known && d[i].known(), rest *= d[i].known() ? d[i].n : 1;
  const bool keep = option("keep_num_dims") != 0;
  if (!d.empty() && d.back() == Dim(inputs) && (d.size() == 2 || keep)) {
  } else if (d.size() > 2 && known && rest == inputs) {
    x = b_.flatten(x, name + "/flatten");
  } else {
    x = b_.hold(b_.node("Reshape", {b_.last(x, name), b_.ints(name + "/rows", {-1, inputs})}, {}, name + "/reshape"));
  }
  if (!w.constant) {
    const ValueId m = b_.node("Transpose", {b_.last(in(1), name)}, {{"perm", Ints{1, 0}}}, name + "/transpose");
    return fused(biased(b_.node("MatMul", {b_.last(x, name), m}, {}, name), 2, outputs, name, false), name);
  }
  const ValueId m = weights(in_tensor(1), {1, 0}, {}, name + "/kernel", x);
  if (!quantisers_ && has(2) && b_.rank(x) == 2) {
    if (tensor(in_tensor(2)).shape != Shape{outputs}) fail("the bias does not fit the outputs");
    return fused(b_.hold(b_.node("Gemm", {b_.ordered(x, name), m, weights(in_tensor(2), {0}, {}, name + "/bias")}, {}, name)), name);
  }
  return fused(biased(b_.node("MatMul", {b_.ordered(x, name), m}, {}, name), 2, outputs, name, false), name);
}

// ---- moves --------------------------------------------------------------------------------------
Id Importer::padded(const std::string& name) {
  const Id x = in(0);
  const Ints p = constant_ints(1);
  const std::size_t r = b_.dims(x).size();
  if (p.size() != 2 * r) fail(fmt::format("{} amounts of padding for rank {}", p.size(), r));
  Attrs a;
  if (op().op == "MIRROR_PAD") {
    if (option("mode") != 0) fail("symmetric padding");
    a["mode"] = std::string("reflect");
  }
  const bool first = b_.is_first(x) && !b_.is_shuffled(x);
  Ints before(r), after(r);
  for (std::size_t i = 0; i < r; ++i) {
    if (p[2 * i] < 0 || p[2 * i + 1] < 0) fail("negative padding");
    const std::size_t to = !first || i == 0 ? i : i + 1 == r ? 1 : i + 1;
    before[to] = p[2 * i], after[to] = p[2 * i + 1];
  }
  before.insert(before.end(), after.begin(), after.end());
  std::vector<ValueId> inputs{first ? b_.first(x, name) : b_.last(x, name), b_.ints(name + "/pads", before)};
  if (op().op == "PADV2") {
    const Tensor v = number_of(in_tensor(2));
    if (v.size() != 1) fail("padding with more than one number");
    inputs.push_back(g_.add_constant(name + "/value", v.reshaped({})));
  }
  const ValueId v = b_.node("Pad", inputs, a, name);
  const Id y = first ? b_.hold_first(v) : b_.hold(v);
  if (op().op == "PAD" && r >= 3 && p[0] + p[1] + p[2 * r - 2] + p[2 * r - 1] == 0) {
    Ints amounts;
    for (std::size_t end = 0; end < 2; ++end)
      for (std::size_t i = 1; i + 1 < r; ++i) amounts.push_back(p[2 * i + end]);
    paddings_[y] = {x, amounts};
  }
  return y;
}
Id Importer::reshaped(Id x, const std::string& name) {
  const TfliteTensor& t = out();
  Ints to;
  if (has(1) && tensor(in_tensor(1)).constant) to = constant_ints(1);
  else if (!has(1) && op().lists.contains("new_shape")) to = op().lists.at("new_shape");
  else to = t.signature.empty() ? Ints(t.shape.begin(), t.shape.end()) : Ints(t.signature.begin(), t.signature.end());
  for (std::int64_t i : to)
    if (i < -1) fail(fmt::format("a shape that holds {}", i));
  if (std::count(to.begin(), to.end(), -1) > 1) fail("a shape with two open extents");
  // [batch, everything else] keeps an image's channels first.
  const Dims d = b_.dims(x);
  if (to.size() == 2 && d.size() > 2) {
    std::int64_t rest = 1;
    bool known = true;
    for (std::size_t i = 1; i < d.size(); ++i) known = known && d[i].known(), rest *= d[i].known() ? d[i].n : 1;
    const bool rows = d[0].known() ? to[0] == d[0].n || to[0] == -1 : to[0] == -1;
    if (known && rows && (to[1] == rest || (to[1] == -1 && to[0] != -1))) return b_.flatten(x, name);
  }
  return b_.hold(b_.node("Reshape", {b_.last(x, name), b_.ints(name + "/shape", to)}, {{"allowzero", std::int64_t{1}}}, name));
}
Id Importer::strided_slice(const std::string& name) {
  const Id x = in(0);
  const Dims d = b_.dims(x);
  Ints begin = constant_ints(1), end = constant_ints(2), step = constant_ints(3);
  if (option("ellipsis_mask") != 0 || option("new_axis_mask") != 0 || option("offset") != 0) fail("an ellipsis, a new axis or offsets in a slice");
  if (begin.size() != end.size() || begin.size() != step.size() || begin.size() > d.size()) fail("a slice of another rank than its input");
  const std::int64_t open = std::int64_t{1} << 30;
  Ints dropped;
  for (std::size_t i = 0; i < begin.size(); ++i) {
    if (step[i] == 0) fail("a slice with step 0");
    if (option("begin_mask") >> i & 1) begin[i] = step[i] > 0 ? 0 : open;
    if (option("end_mask") >> i & 1) end[i] = step[i] > 0 ? open : -open;
    if (option("shrink_axis_mask") >> i & 1) {
      step[i] = 1;
      end[i] = begin[i] == -1 ? open : begin[i] + 1;
      dropped.push_back(static_cast<std::int64_t>(i));
    }
  }
  const Id y = slice(x, begin, end, step, name);
  return dropped.empty() ? y : b_.hold(b_.node("Squeeze", {b_.last(y, name), b_.ints(name + "/axes", dropped)}, {}, name + "/squeeze"));
}
Id Importer::resized(const std::string& name, bool linear) {
  const Id x = in(0);
  const Ints to = constant_ints(1);
  const Dims d = b_.dims(x);
  if (to.size() != 2 || d.size() != 4 || to[0] < 1 || to[1] < 1 || !d[1].known() || !d[2].known() || !d[3].known()) fail("only images of known extents");
  const bool corners = option("align_corners") != 0, half = option("half_pixel_centers") != 0;
  Attrs a{{"mode", std::string(linear ? "linear" : "nearest")}, {"coordinate_transformation_mode", std::string(corners ? "align_corners" : half ? "half_pixel" : "asymmetric")}};
  if (!linear) a["nearest_mode"] = std::string(corners || half ? "round_prefer_ceil" : "floor");
  std::vector<ValueId> inputs{b_.first(x, name), kNone};
  if (d[0].known()) {
    inputs.push_back(kNone);
    inputs.push_back(b_.ints(name + "/sizes", {d[0].n, d[3].n, to[0], to[1]}));
  } else {
    std::vector<float> scales{1, 1};
    for (std::size_t i = 0; i < 2; ++i) {
      scales.push_back(static_cast<float>(static_cast<double>(to[i]) / static_cast<double>(d[i + 1].n)));
      if (std::floor(static_cast<double>(scales.back()) * static_cast<double>(d[i + 1].n)) != static_cast<double>(to[i])) fail("a free batch and a scale that f32 does not hold", "fix the batch");
    }
    inputs.push_back(g_.add_constant(name + "/scales", Tensor::of<float>({4}, scales)));
  }
  return b_.hold_first(b_.node("Resize", inputs, a, name));
}

// ---- LSTM ---------------------------------------------------------------------------------------
// TensorFlow Lite clips the cell, ONNX what goes into the activations: where a clip can act (the cell grows by less than 1 a
// step), the layer is written out step by step.
Id Importer::lstm(const std::string& name) {
  if (op().inputs.size() < 20) fail("a layer of an old form", "20 inputs or more");
  for (const std::size_t i : {9, 10, 11})
    if (has(i)) fail("peephole weights");
  for (const std::size_t i : {16, 17, 20, 21, 22, 23})
    if (has(i)) fail(i < 20 ? "a projection" : "layer normalisation");
  if (!has(1)) fail("coupled gates (no input gate)");
  if (option("diagonal_recurrent_tensors") != 0) fail("diagonal recurrent weights");
  const std::int64_t activation = option("fused_activation_function");
  if (activation != 4) fail(fmt::format("activation {}", activation), "tanh");
  Id x = in(0);
  const bool time_major = option("time_major") != 0;
  const Dims d = b_.dims(x);
  if (d.size() != 3 || !d[2].known()) fail(fmt::format("an input of shape {}", to_string(d)));
  const std::int64_t F = d[2].n, U = tensor(in_tensor(1)).shape.empty() ? 0 : tensor(in_tensor(1)).shape[0];
  const Dim T = d[time_major ? 0 : 1];
  const double clip = op().number("cell_clip");
  const std::string steps = time_major ? "/x" : "/steps_first";
  // The gates in the file: input, forget, cell, output.
  const auto gate = [&](std::size_t i, const Shape& want) {
    const TfliteTensor& t = tensor(in_tensor(i));
    if (!t.constant || t.shape != want) fail(fmt::format("weights of shape {}", to_string(t.shape)), to_string(want));
    return number_of(in_tensor(i));
  };
  const auto stacked = [&](std::size_t from, const Shape& want, const Ints& order) {
    Shape s = want;
    s[0] *= 4;
    Tensor y(DType::f32, s);
    for (std::size_t k = 0; k < 4; ++k) {
      const Tensor t = gate(from + static_cast<std::size_t>(order[k]), want);
      std::copy_n(t.data<float>(), t.size(), y.data<float>() + static_cast<std::int64_t>(k) * t.size());
    }
    return y;
  };
  if (U < 1) fail("no units");
  if (!(clip > 0) || (T.known() && static_cast<double>(T.n) <= clip)) {
    const Ints order{0, 3, 1, 2};  // ONNX: input, output, forget, cell
    Tensor bias(DType::f32, {1, 8 * U});
    const Tensor b = stacked(12, {U}, order);
    std::copy_n(b.data<float>(), 4 * U, bias.data<float>());
    ValueId v = b_.last(x, name);
    if (!time_major) v = b_.node("Transpose", {v}, {{"perm", Ints{1, 0, 2}}}, name + steps);
    const auto y = b_.nodes("LSTM", {v, g_.add_constant(name + "/W", stacked(1, {U, F}, order).reshaped({1, 4 * U, F})), g_.add_constant(name + "/R", stacked(5, {U, U}, order).reshaped({1, 4 * U, U})), g_.add_constant(name + "/B", bias)},
                            {{"hidden_size", U}}, name, 1);
    ValueId s = b_.node("Squeeze", {y[0], b_.ints(name + "/direction", {1})}, {}, name + "/sequence");
    if (!time_major) s = b_.node("Transpose", {s}, {{"perm", Ints{1, 0, 2}}}, name + "/batch_first");
    return b_.hold(s);
  }
  if (!T.known() || T.n > kMaxUnrolled) fail(fmt::format("a clipped cell over {} steps", T.known() ? std::to_string(T.n) : "an unknown number of"), fmt::format("at most {}", kMaxUnrolled));
  const Ints order{0, 1, 2, 3};
  const ValueId wx = g_.add_constant(name + "/W", permuted(stacked(1, {U, F}, order), {1, 0})), wh = g_.add_constant(name + "/R", permuted(stacked(5, {U, U}, order), {1, 0}));
  const ValueId all = b_.node("Add", {b_.node("MatMul", {b_.last(x, name), wx}, {}, name + "/inputs"), g_.add_constant(name + "/B", stacked(12, {U}, order))}, {}, name + "/inputs_biased");
  const ValueId lo = b_.scalar(name + "/least", static_cast<float>(-clip)), hi = b_.scalar(name + "/most", static_cast<float>(clip)), quarters = b_.ints(name + "/gates", {U, U, U, U}), step_axis = b_.ints(name + "/step_axis", {time_major ? 0 : 1});
  ValueId h = kNone, c = kNone;
  std::vector<ValueId> outputs;
  for (std::int64_t t = 0; t < T.n; ++t) {
    const std::string n = fmt::format("{}/{}", name, t);
    ValueId z = b_.node("Gather", {all, g_.add_constant(n + "/index", Tensor::scalar<std::int64_t>(t))}, {{"axis", std::int64_t{time_major ? 0 : 1}}}, n);
    if (h != kNone) z = b_.node("Add", {z, b_.node("MatMul", {h, wh}, {}, n + "/state")}, {}, n + "/sum");
    const auto gates = b_.nodes("Split", {z, quarters}, {{"axis", std::int64_t{1}}}, n + "/split", 4);
    const ValueId i = b_.node("Sigmoid", {gates[0]}, {}, n + "/i"), f = b_.node("Sigmoid", {gates[1]}, {}, n + "/f"), g = b_.node("Tanh", {gates[2]}, {}, n + "/g"), o = b_.node("Sigmoid", {gates[3]}, {}, n + "/o");
    ValueId next = b_.node("Mul", {i, g}, {}, n + "/new");
    if (c != kNone) next = b_.node("Add", {b_.node("Mul", {f, c}, {}, n + "/kept"), next}, {}, n + "/cell");
    c = b_.node("Clip", {next, lo, hi}, {}, n + "/clip");
    h = b_.node("Mul", {o, b_.node("Tanh", {c}, {}, n + "/tanh")}, {}, n + "/h");
    outputs.push_back(b_.node("Unsqueeze", {h, step_axis}, {}, n + "/step"));
  }
  return b_.hold(b_.node("Concat", outputs, {{"axis", std::int64_t{time_major ? 0 : 1}}}, name));
}

// ---- operators ----------------------------------------------------------------------------------
std::vector<Id> Importer::apply(const std::string& name) {
  const std::string& k = op().op;
  if (op().custom) fail(fmt::format("the custom operator '{}'", k), "only TensorFlow Lite's own operators have a meaning here: run this part outside of the model");
  static const std::map<std::string_view, std::string_view> unary{{"LOGISTIC", "Sigmoid"}, {"TANH", "Tanh"}, {"RELU", "Relu"}, {"HARD_SWISH", "HardSwish"}, {"ABS", "Abs"}, {"NEG", "Neg"}, {"EXP", "Exp"}, {"LOG", "Log"},
                                                                 {"SQRT", "Sqrt"}, {"SIN", "Sin"}, {"COS", "Cos"}, {"FLOOR", "Floor"}, {"CEIL", "Ceil"}, {"ROUND", "Round"}, {"SIGN", "Sign"}, {"LOGICAL_NOT", "Not"}},
      binary{{"ADD", "Add"}, {"SUB", "Sub"}, {"MUL", "Mul"}, {"DIV", "Div"}, {"MAXIMUM", "Max"}, {"MINIMUM", "Min"}, {"POW", "Pow"}, {"EQUAL", "Equal"}, {"LESS", "Less"}, {"LESS_EQUAL", "LessOrEqual"}, {"GREATER", "Greater"},
             {"GREATER_EQUAL", "GreaterOrEqual"}, {"LOGICAL_AND", "And"}, {"LOGICAL_OR", "Or"}},
      reductions{{"MEAN", "ReduceMean"}, {"SUM", "ReduceSum"}, {"REDUCE_MAX", "ReduceMax"}, {"REDUCE_MIN", "ReduceMin"}, {"REDUCE_PROD", "ReduceProd"}};
  if (const auto f = unary.find(k); f != unary.end()) return {b_.unary(std::string(f->second), in(0), {}, name)};
  if (const auto f = binary.find(k); f != binary.end()) return {joined(std::string(f->second), name)};
  if (const auto f = reductions.find(k); f != reductions.end()) {
    const Ints axes = constant_ints(1);
    if (axes.empty()) fail("no axes to reduce");
    return {b_.reduce(std::string(f->second), in(0), axes, option("keep_dims") != 0, name)};
  }
  if (k == "CONV_2D" || k == "CONV_3D") return {convolution(name, false)};
  if (k == "DEPTHWISE_CONV_2D") return {convolution(name, true)};
  if (k == "TRANSPOSE_CONV") return {transposed_convolution(name)};
  if (k == "FULLY_CONNECTED") return {fully_connected(name)};
  if (k == "AVERAGE_POOL_2D" || k == "MAX_POOL_2D") return {pool(name, k == "MAX_POOL_2D")};
  if (k == "SOFTMAX") {
    Id x = in(0);
    if (const auto beta = static_cast<float>(op().number("beta", 1)); beta != 1) x = times(x, beta, name + "/beta");
    return {b_.along("Softmax", x, -1, {}, name)};
  }
  if (k == "LOG_SOFTMAX") return {b_.along("LogSoftmax", in(0), -1, {}, name)};
  if (k == "RELU6") return {clipped(in(0), 0.f, 6.f, name)};
  if (k == "RELU_N1_TO_1") return {clipped(in(0), -1.f, 1.f, name)};
  if (k == "RELU_0_TO_1") return {clipped(in(0), 0.f, 1.f, name)};
  if (k == "LEAKY_RELU") return {b_.unary("LeakyRelu", in(0), {{"alpha", static_cast<double>(static_cast<float>(op().number("alpha")))}}, name)};
  if (k == "ELU") return {b_.unary("Elu", in(0), {{"alpha", 1.0}}, name)};
  if (k == "PRELU") return {b_.join("PRelu", {in(0), in(1)}, {}, name)};
  if (k == "RSQRT") return {b_.unary("Reciprocal", b_.unary("Sqrt", in(0), {}, name + "/sqrt"), {}, name)};
  if (k == "SQUARE") return {b_.join("Mul", {in(0), in(0)}, {}, name)};
  if (k == "SQUARED_DIFFERENCE") {
    const Id e = b_.join("Sub", {in(0), in(1)}, {}, name + "/difference");
    return {b_.join("Mul", {e, e}, {}, name)};
  }
  if (k == "GELU") {
    const Id x = in(0);
    if (option("approximate") == 0) {
      const Id e = b_.unary("Erf", times(x, static_cast<float>(std::sqrt(0.5)), name + "/scaled"), {}, name + "/erf");
      return {b_.join("Mul", {x, times(plus(e, 1, name + "/shifted"), 0.5f, name + "/half")}, {}, name)};
    }
    // x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2
    const Id cube = b_.join("Mul", {b_.join("Mul", {x, x}, {}, name + "/square"), x}, {}, name + "/cube");
    const Id t = times(b_.join("Add", {x, times(cube, 0.044715f, name + "/small")}, {}, name + "/poly"), 0.7978845608f, name + "/scaled");
    return {b_.join("Mul", {x, times(plus(b_.unary("Tanh", t, {}, name + "/tanh"), 1, name + "/shifted"), 0.5f, name + "/half")}, {}, name)};
  }
  if (k == "NOT_EQUAL") return {b_.unary("Not", b_.join("Equal", {in(0), in(1)}, {}, name + "/equal"), {}, name)};
  if (k == "FLOOR_DIV" && is_float(held_type(out()))) return {b_.unary("Floor", b_.join("Div", {in(0), in(1)}, {}, name + "/div"), {}, name)};
  if (k == "SELECT" || k == "SELECT_V2") return {b_.join("Where", {in(0), in(1), in(2)}, {}, name)};
  if (k == "ADD_N") {
    std::vector<Id> x;
    for (std::size_t i = 0; i < op().inputs.size(); ++i) x.push_back(in(i));
    return {b_.join("Sum", x, {}, name)};
  }
  if (k == "ARG_MAX" || k == "ARG_MIN") {
    const Ints axis = constant_ints(1);
    if (axis.size() != 1) fail("one axis is needed");
    const Id x = in(0);
    const Id y = b_.along(k == "ARG_MAX" ? "ArgMax" : "ArgMin", x, axis_of(axis[0], b_.rank(x)), {{"keepdims", std::int64_t{0}}}, name);
    return {*out().dtype == DType::i64 ? y : b_.unary("Cast", y, {{"to", onnx_number(*out().dtype)}}, name + "/cast")};
  }
  if (k == "CAST") return {b_.unary("Cast", in(0), {{"to", onnx_number(held_type(out()))}}, name)};
  if (k == "QUANTIZE" || k == "DEQUANTIZE") {
    const Id x = in(0);
    if (b_.value(x)) return {x};
    return {b_.unary("Identity", x, {}, name)};
  }
  if (k == "FAKE_QUANT") fail("a quantiser of training", "convert the model with full integer quantisation");
  if (k == "PAD" || k == "PADV2" || k == "MIRROR_PAD") return {padded(name)};
  if (k == "CONCATENATION") {
    std::vector<Id> x;
    for (std::size_t i = 0; i < op().inputs.size(); ++i) x.push_back(in(i));
    if (x.empty()) fail("nothing to join");
    return {fused(b_.concat(x, axis_of(option("axis"), b_.rank(x[0])), name), name)};
  }
  if (k == "RESHAPE") return {reshaped(in(0), name)};
  if (k == "SQUEEZE") {
    Ints axes = op().lists.contains("squeeze_dims") ? op().lists.at("squeeze_dims") : Ints{};
    const Id x = in(0);
    if (axes.empty())
      for (std::int64_t i = 0; i < b_.rank(x); ++i)
        if (b_.dims(x)[static_cast<std::size_t>(i)] == Dim(1)) axes.push_back(i);
    if (axes.empty()) return {b_.unary("Identity", x, {}, name)};
    return {b_.hold(b_.node("Squeeze", {b_.last(x, name), b_.ints(name + "/axes", axes)}, {}, name))};
  }
  if (k == "EXPAND_DIMS") return {b_.hold(b_.node("Unsqueeze", {b_.last(in(0), name), b_.ints(name + "/axes", constant_ints(1))}, {}, name))};
  if (k == "TRANSPOSE") {
    const Ints perm = constant_ints(1);
    Ints sorted = perm;
    std::sort(sorted.begin(), sorted.end());
    for (std::size_t i = 0; i < sorted.size(); ++i)
      if (sorted[i] != static_cast<std::int64_t>(i)) fail("no permutation");
    const Id x = in(0);
    if (static_cast<std::int64_t>(perm.size()) != b_.rank(x)) fail("a permutation of another rank");
    return {b_.hold(b_.node("Transpose", {b_.last(x, name)}, {{"perm", perm}}, name))};
  }
  if (k == "STRIDED_SLICE") return {strided_slice(name)};
  if (k == "SLICE") {
    Ints begin = constant_ints(1), size = constant_ints(2);
    const Id x = in(0);
    if (begin.size() != size.size() || static_cast<std::int64_t>(begin.size()) != b_.rank(x)) fail("a slice of another rank");
    for (std::size_t i = 0; i < size.size(); ++i) {
      if (begin[i] < 0 || size[i] < -1) fail("a slice outside of its input");
      size[i] = size[i] == -1 ? std::int64_t{1} << 30 : begin[i] + size[i];
    }
    return {slice(x, begin, size, Ints(begin.size(), 1), name)};
  }
  if (k == "SPLIT" || k == "SPLIT_V") {
    const bool v = k == "SPLIT_V";
    const Id x = in(v ? 0 : 1);
    const Ints axis = constant_ints(v ? 2 : 0);
    if (axis.size() != 1) fail("one axis is needed");
    const std::int64_t a = axis_of(axis[0], b_.rank(x));
    const Dim d = b_.dims(x)[static_cast<std::size_t>(a)];
    const auto n = static_cast<std::int64_t>(op().outputs.size());
    if (!d.known() || n < 1 || (!v && d.n % n != 0)) fail("an axis that does not split");
    Ints sizes = v ? constant_ints(1) : Ints(static_cast<std::size_t>(n), d.n / n);
    std::int64_t rest = d.n;
    for (std::int64_t s : sizes) rest -= std::max<std::int64_t>(s, 0);
    for (std::int64_t& s : sizes)
      if (s == -1) s = rest;
    if (static_cast<std::int64_t>(sizes.size()) != n) fail("another number of parts than outputs");
    std::vector<Id> r;
    for (const ValueId y : b_.nodes("Split", {b_.last(x, name), b_.ints(name + "/sizes", sizes)}, {{"axis", a}}, name, static_cast<std::size_t>(n))) r.push_back(b_.hold(y));
    return r;
  }
  if (k == "PACK") {
    std::vector<ValueId> parts;
    if (op().inputs.empty()) fail("nothing to stack");
    const std::int64_t a = axis_of(option("axis"), b_.rank(in(0)) + 1);
    for (std::size_t i = 0; i < op().inputs.size(); ++i) parts.push_back(b_.node("Unsqueeze", {b_.last(in(i), name), b_.ints(name + "/axis", {a})}, {}, fmt::format("{}/{}", name, i)));
    return {b_.hold(b_.node("Concat", parts, {{"axis", a}}, name))};
  }
  if (k == "UNPACK") {
    const Id x = in(0);
    const std::int64_t a = axis_of(option("axis"), b_.rank(x));
    std::vector<Id> r;
    for (std::size_t i = 0; i < op().outputs.size(); ++i)
      r.push_back(b_.hold(b_.node("Gather", {b_.last(x, name), g_.add_constant(name + "/index", Tensor::scalar<std::int64_t>(static_cast<std::int64_t>(i)))}, {{"axis", a}}, fmt::format("{}/{}", name, i))));
    return r;
  }
  if (k == "RESIZE_BILINEAR" || k == "RESIZE_NEAREST_NEIGHBOR") return {resized(name, k == "RESIZE_BILINEAR")};
  if (k == "DEPTH_TO_SPACE" || k == "SPACE_TO_DEPTH") {
    Attrs a{{"blocksize", option("block_size", 1)}};
    if (k == "DEPTH_TO_SPACE") a["mode"] = std::string("DCR");
    return {b_.hold_first(b_.node(k == "DEPTH_TO_SPACE" ? "DepthToSpace" : "SpaceToDepth", {b_.first(in(0), name)}, a, name))};
  }
  if (k == "GATHER") {
    if (option("batch_dims") != 0) fail("batch_dims");
    const Id x = in(0);
    return {b_.hold(b_.node("Gather", {b_.last(x, name), b_.last(in(1), name)}, {{"axis", axis_of(option("axis"), b_.rank(x))}}, name))};
  }
  if (k == "GATHER_ND") return {b_.hold(b_.node("GatherND", {b_.last(in(0), name), b_.last(b_.unary("Cast", in(1), {{"to", onnx_number(DType::i64)}}, name + "/index"), name)}, {}, name))};
  if (k == "BATCH_MATMUL") {
    const auto side = [&](std::size_t i, bool adjoint) {
      const ValueId v = b_.last(in(i), name);
      if (!adjoint) return v;
      Ints perm;
      for (std::int64_t d = 0; d < b_.rank(in(i)); ++d) perm.push_back(d);
      if (perm.size() < 2) fail("a vector");
      std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
      return b_.node("Transpose", {v}, {{"perm", perm}}, fmt::format("{}/transpose{}", name, i));
    };
    return {b_.hold(b_.node("MatMul", {side(0, option("adj_x") != 0), side(1, option("adj_y") != 0)}, {}, name))};
  }
  if (k == "TILE") return {b_.hold(b_.node("Tile", {b_.last(in(0), name), b_.ints(name + "/repeats", constant_ints(1))}, {}, name))};
  if (k == "BROADCAST_TO") return {b_.hold(b_.node("Expand", {b_.last(in(0), name), b_.ints(name + "/shape", constant_ints(1))}, {}, name))};
  if (k == "CUMSUM") {
    const Ints axis = constant_ints(1);
    if (axis.size() != 1) fail("one axis is needed");
    return {b_.hold(b_.node("CumSum", {b_.last(in(0), name), g_.add_constant(name + "/axis", Tensor::scalar<std::int64_t>(axis[0]))}, {{"exclusive", option("exclusive")}, {"reverse", option("reverse")}}, name))};
  }
  if (k == "TOPK_V2") {
    const Ints n = constant_ints(1);
    if (n.size() != 1) fail("one number is needed");
    const auto y = b_.nodes("TopK", {b_.last(in(0), name), b_.ints(name + "/k", n)}, {{"axis", std::int64_t{-1}}}, name, 2);
    return {b_.hold(y[0]), b_.unary("Cast", b_.hold(y[1]), {{"to", onnx_number(DType::i32)}}, name + "/index")};
  }
  if (k == "REVERSE_V2") {
    const Id x = in(0);
    const auto r = static_cast<std::size_t>(b_.rank(x));
    Ints begin(r, 0), end(r, std::int64_t{1} << 30), step(r, 1);
    for (std::int64_t a : constant_ints(1)) {
      const auto i = static_cast<std::size_t>(axis_of(a, b_.rank(x)));
      begin[i] = std::int64_t{1} << 30, end[i] = -(std::int64_t{1} << 30), step[i] = -1;
    }
    return {slice(x, begin, end, step, name)};
  }
  if (k == "L2_NORMALIZATION") return {fused(b_.along("LpNormalization", in(0), -1, {{"p", std::int64_t{2}}}, name), name)};
  if (k == "LOCAL_RESPONSE_NORMALIZATION") {
    const std::int64_t size = 2 * option("radius") + 1;
    if (size < 1) fail("a negative radius");
    return {b_.hold_first(b_.node("LRN", {b_.first(in(0), name)}, {{"size", size}, {"bias", op().number("bias")}, {"alpha", op().number("alpha") * static_cast<double>(size)}, {"beta", op().number("beta")}}, name))};
  }
  if (k == "SHAPE") {
    const Dims d = b_.dims(in(0));
    if (!all_known(d)) return {b_.unary("Cast", b_.hold(b_.node("Shape", {b_.last(in(0), name)}, {}, name + "/shape")), {{"to", onnx_number(*out().dtype)}}, name)};
    Tensor t(*out().dtype, {static_cast<std::int64_t>(d.size())});
    for (std::size_t i = 0; i < d.size(); ++i) t.set(static_cast<std::int64_t>(i), static_cast<double>(d[i].n));
    return {b_.constant(name, t)};
  }
  if (k == "UNIDIRECTIONAL_SEQUENCE_LSTM") return {lstm(name)};
  fail(fmt::format("the operator {} has no form in ONNX here", k), "`tandem ops` lists the operators; export this part of the model to ONNX, or leave it out");
}

// Operators that hand on the numbers they read: a quantiser with the same scale behind them would change nothing.
bool only_moves(const std::string& k) {
  static const std::vector<std::string_view> names{"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "STRIDED_SLICE", "SLICE", "SPLIT", "SPLIT_V", "PACK", "UNPACK", "GATHER", "GATHER_ND", "MAX_POOL_2D", "PAD", "MIRROR_PAD", "CONCATENATION",
                                                   "RESIZE_NEAREST_NEIGHBOR", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "TILE", "BROADCAST_TO", "REVERSE_V2", "MAXIMUM", "MINIMUM", "REDUCE_MAX", "REDUCE_MIN", "RELU"};
  return std::find(names.begin(), names.end(), k) != names.end();
}

Graph Importer::read() {
  if (s_.operators.size() > kMaxOperators) throw Error(Exit::limit, fmt::format("the model has {} operators", s_.operators.size())).expected(fmt::format("at most {}", kMaxOperators));
  g_.name = s_.name.empty() ? "model" : s_.name;
  for (int t : s_.inputs) {
    if (t < 0 || values_.contains(t)) throw bad_input("the model's input {} is {}", t, t < 0 ? "absent" : "named twice");
    const TfliteTensor& x = tensor(t);
    if (!x.dtype) throw bad_input("the input '{}' is of type {}", tensor_name(t), x.type);
    values_[t] = b_.input(tensor_name(t), held_type(x), file_dims(x, tensor_name(t)));
  }
  const auto same_scale = [&](int a, int b) {
    const auto &x = tensor(a).quant, &y = tensor(b).quant;
    return x.scales == y.scales && x.zero_points == y.zero_points && tensor(a).dtype == tensor(b).dtype;
  };
  std::map<int, Id> inputs = values_;
  for (const auto& [t, v] : inputs) values_[t] = quantised(v, tensor(t), tensor_name(t));
  for (at_ = 0; at_ < s_.operators.size(); ++at_) {
    const TfliteOperator& o = op();
    if (o.outputs.empty() || o.outputs[0] < 0) fail("it computes nothing");
    try {
      for (int t : o.outputs)
        if (t >= 0 && !tensor(t).dtype) fail(fmt::format("'{}' is of type {}", tensor_name(t), tensor(t).type));
      const std::vector<Id> y = apply(tensor_name(o.outputs[0]));
      for (std::size_t i = 0; i < o.outputs.size() && i < y.size(); ++i) {
        const int t = o.outputs[i];
        if (t < 0) continue;
        bool same = quantisers_ && only_moves(o.op) && option("fused_activation_function") == 0;
        for (int input : o.inputs)
          if (same && input >= 0 && is_quantised(tensor(input))) same = same_scale(input, t);
        values_[t] = same ? y[i] : quantised(y[i], tensor(t), tensor_name(t));
        // The file's own shape is a second opinion.
        const Dims& d = b_.dims(values_[t]);
        bool fits = d.size() == tensor(t).shape.size() || tensor(t).shape.empty();
        for (std::size_t a = 0; fits && a < d.size() && a < tensor(t).shape.size(); ++a)
          fits = !d[a].known() || d[a].n == tensor(t).shape[a] || (a < tensor(t).signature.size() && tensor(t).signature[a] < 0);
        if (!fits) fail(fmt::format("the result has shape {}, the file says {}", to_string(d), to_string(tensor(t).shape)), "the file is damaged, or its shapes are out of date: convert it again");
      }
    } catch (Error& e) {
      if (e.where().find("operator ") == std::string::npos) e.at(describe(s_, at_) + (e.where().empty() ? "" : ": " + e.where()));
      throw;
    }
  }
  at_ = 0;
  for (std::size_t i = 0; i < s_.outputs.size(); ++i) {
    const auto f = values_.find(s_.outputs[i]);
    if (f == values_.end()) throw bad_input("the output '{}' is never computed", s_.outputs[i] < 0 ? "absent" : tensor_name(s_.outputs[i]));
    ValueId v = b_.last(f->second, fmt::format("output_{}", i));
    const bool port = std::find(g_.inputs.begin(), g_.inputs.end(), v) != g_.inputs.end() || std::find(g_.outputs.begin(), g_.outputs.end(), v) != g_.outputs.end();
    if (port || g_.constant(v)) v = b_.node("Identity", {v}, {}, fmt::format("output_{}", i));
    g_.outputs.push_back(v);
  }
  if (g_.outputs.empty()) throw bad_input("the model has no outputs");
  remove_dead(g_);
  compact_values(g_);
  verify(g_);
  infer_shapes(g_);
  return std::move(g_);
}

}  // namespace

Graph tflite_float_graph(const TfliteModel& m) { return Importer(m, false).read(); }
Graph tflite_quant_graph(const TfliteModel& m) { return Importer(m, true).read(); }

}  // namespace tandem::ir
