#include "tandem/ir/tflite.h"

#include <algorithm>
#include <cmath>

#include "tandem/base/file.h"
#include "tandem/ir/flatbuffer.h"

namespace tandem::ir {
namespace {

constexpr const char* kOperators[] = {
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE", "DEQUANTIZE", "EMBEDDING_LOOKUP", "FLOOR",
    "FULLY_CONNECTED", "HASHTABLE_LOOKUP", "L2_NORMALIZATION", "L2_POOL_2D", "LOCAL_RESPONSE_NORMALIZATION", "LOGISTIC", "LSH_PROJECTION",
    "LSTM", "MAX_POOL_2D", "MUL", "RELU", "RELU_N1_TO_1", "RELU6", "RESHAPE", "RESIZE_BILINEAR", "RNN", "SOFTMAX", "SPACE_TO_DEPTH", "SVDF",
    "TANH", "CONCAT_EMBEDDINGS", "SKIP_GRAM", "CALL", "CUSTOM", "EMBEDDING_LOOKUP_SPARSE", "PAD", "UNIDIRECTIONAL_SEQUENCE_RNN", "GATHER",
    "BATCH_TO_SPACE_ND", "SPACE_TO_BATCH_ND", "TRANSPOSE", "MEAN", "SUB", "DIV", "SQUEEZE", "UNIDIRECTIONAL_SEQUENCE_LSTM", "STRIDED_SLICE",
    "BIDIRECTIONAL_SEQUENCE_RNN", "EXP", "TOPK_V2", "SPLIT", "LOG_SOFTMAX", "DELEGATE", "BIDIRECTIONAL_SEQUENCE_LSTM", "CAST", "PRELU",
    "MAXIMUM", "ARG_MAX", "MINIMUM", "LESS", "NEG", "PADV2", "GREATER", "GREATER_EQUAL", "LESS_EQUAL", "SELECT", "SLICE", "SIN",
    "TRANSPOSE_CONV", "SPARSE_TO_DENSE", "TILE", "EXPAND_DIMS", "EQUAL", "NOT_EQUAL", "LOG", "SUM", "SQRT", "RSQRT", "SHAPE", "POW", "ARG_MIN",
    "FAKE_QUANT", "REDUCE_PROD", "REDUCE_MAX", "PACK", "LOGICAL_OR", "ONE_HOT", "LOGICAL_AND", "LOGICAL_NOT", "UNPACK", "REDUCE_MIN",
    "FLOOR_DIV", "REDUCE_ANY", "SQUARE", "ZEROS_LIKE", "FILL", "FLOOR_MOD", "RANGE", "RESIZE_NEAREST_NEIGHBOR", "LEAKY_RELU",
    "SQUARED_DIFFERENCE", "MIRROR_PAD", "ABS", "SPLIT_V", "UNIQUE", "CEIL", "REVERSE_V2", "ADD_N", "GATHER_ND", "COS", "WHERE", "RANK", "ELU",
    "REVERSE_SEQUENCE", "MATRIX_DIAG", "QUANTIZE", "MATRIX_SET_DIAG", "ROUND", "HARD_SWISH", "IF", "WHILE", "NON_MAX_SUPPRESSION_V4",
    "NON_MAX_SUPPRESSION_V5", "SCATTER_ND", "SELECT_V2", "DENSIFY", "SEGMENT_SUM", "BATCH_MATMUL", "PLACEHOLDER_FOR_GREATER_OP_CODES", "CUMSUM",
    "CALL_ONCE", "BROADCAST_TO", "RFFT2D", "CONV_3D", "IMAG", "REAL", "COMPLEX_ABS", "HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT",
    "HASHTABLE_SIZE", "REDUCE_ALL", "CONV_3D_TRANSPOSE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "BROADCAST_ARGS",
    "RANDOM_STANDARD_NORMAL", "BUCKETIZE", "RANDOM_UNIFORM", "MULTINOMIAL", "GELU", "DYNAMIC_UPDATE_SLICE", "RELU_0_TO_1",
    "UNSORTED_SEGMENT_PROD", "UNSORTED_SEGMENT_MAX", "UNSORTED_SEGMENT_SUM", "ATAN2", "UNSORTED_SEGMENT_MIN", "SIGN", "BITCAST", "BITWISE_XOR",
    "RIGHT_SHIFT", "STABLEHLO_LOGISTIC", "STABLEHLO_ADD", "STABLEHLO_DIVIDE", "STABLEHLO_MULTIPLY", "STABLEHLO_MAXIMUM", "STABLEHLO_RESHAPE",
    "STABLEHLO_CLAMP", "STABLEHLO_CONCATENATE", "STABLEHLO_BROADCAST_IN_DIM", "STABLEHLO_CONVOLUTION", "STABLEHLO_SLICE",
    "STABLEHLO_CUSTOM_CALL", "STABLEHLO_REDUCE", "STABLEHLO_ABS", "STABLEHLO_AND", "STABLEHLO_COSINE", "STABLEHLO_EXPONENTIAL",
    "STABLEHLO_FLOOR", "STABLEHLO_LOG", "STABLEHLO_MINIMUM", "STABLEHLO_NEGATE", "STABLEHLO_OR", "STABLEHLO_POWER", "STABLEHLO_REMAINDER",
    "STABLEHLO_RSQRT", "STABLEHLO_SELECT", "STABLEHLO_SUBTRACT", "STABLEHLO_TANH", "STABLEHLO_SCATTER", "STABLEHLO_COMPARE",
    "STABLEHLO_CONVERT", "STABLEHLO_DYNAMIC_SLICE", "STABLEHLO_DYNAMIC_UPDATE_SLICE", "STABLEHLO_PAD", "STABLEHLO_IOTA",
    "STABLEHLO_DOT_GENERAL", "STABLEHLO_REDUCE_WINDOW", "STABLEHLO_SORT", "STABLEHLO_WHILE", "STABLEHLO_GATHER", "STABLEHLO_TRANSPOSE",
    "DILATE", "STABLEHLO_RNG_BIT_GENERATOR", "REDUCE_WINDOW", "STABLEHLO_COMPOSITE", "STABLEHLO_SHIFT_LEFT", "STABLEHLO_CBRT", "STABLEHLO_CASE",
};
constexpr const char* kTypes[] = {"FLOAT32", "FLOAT16", "INT32", "UINT8", "INT64", "STRING", "BOOL", "INT16", "COMPLEX64", "INT8", "FLOAT64", "COMPLEX128",
                                  "UINT64", "RESOURCE", "VARIANT", "UINT32", "UINT16", "INT4", "BFLOAT16", "INT2", "UINT4", "FLOAT8_E4M3FN", "FLOAT8_E5M2"};
std::optional<DType> dtype_of_number(int t) {
  switch (t) {
    case 0: return DType::f32;
    case 1: return DType::f16;
    case 2: return DType::i32;
    case 3: return DType::u8;
    case 4: return DType::i64;
    case 6: return DType::boolean;
    case 7: return DType::i16;
    case 9: return DType::i8;
    case 10: return DType::f64;
    case 12: return DType::u64;
    case 15: return DType::u32;
    case 16: return DType::u16;
    case 18: return DType::bf16;
    default: return std::nullopt;
  }
}

enum class Field { i8, i32, u32, f32, ints, text };
struct Option {
  int slot;
  Field field;
  const char* name;
  int fallback = 0;
};
const std::map<int, std::vector<Option>> kOptions{  // by the number of the union; a slot each, as the schema declares them
    {1, {{0, Field::i8, "padding"}, {1, Field::i32, "stride_w"}, {2, Field::i32, "stride_h"}, {3, Field::i8, "fused_activation_function"},
         {4, Field::i32, "dilation_w_factor", 1}, {5, Field::i32, "dilation_h_factor", 1}, {6, Field::i8, "quantized_bias_type"}}},
    {2, {{0, Field::i8, "padding"}, {1, Field::i32, "stride_w"}, {2, Field::i32, "stride_h"}, {3, Field::i32, "depth_multiplier"},
         {4, Field::i8, "fused_activation_function"}, {5, Field::i32, "dilation_w_factor", 1}, {6, Field::i32, "dilation_h_factor", 1}}},
    {5, {{0, Field::i8, "padding"}, {1, Field::i32, "stride_w"}, {2, Field::i32, "stride_h"}, {3, Field::i32, "filter_width"},
         {4, Field::i32, "filter_height"}, {5, Field::i8, "fused_activation_function"}}},
    {6, {{0, Field::i32, "rank"}, {1, Field::i8, "fused_activation_function"}, {2, Field::i8, "asymmetric_quantize_inputs"}}},
    {8, {{0, Field::i8, "fused_activation_function"}, {1, Field::i8, "weights_format"}, {2, Field::i8, "keep_num_dims"},
         {3, Field::i8, "asymmetric_quantize_inputs"}, {4, Field::i8, "quantized_bias_type"}}},
    {9, {{0, Field::f32, "beta"}}},
    {10, {{0, Field::i32, "axis"}, {1, Field::i8, "fused_activation_function"}}},
    {11, {{0, Field::i8, "fused_activation_function"}, {1, Field::i8, "pot_scale_int16", 1}}},
    {12, {{0, Field::i8, "fused_activation_function"}}},
    {13, {{0, Field::i32, "radius"}, {1, Field::f32, "bias"}, {2, Field::f32, "alpha"}, {3, Field::f32, "beta"}}},
    {14, {{0, Field::i8, "fused_activation_function"}, {1, Field::f32, "cell_clip"}, {2, Field::f32, "proj_clip"},
         {3, Field::i8, "kernel_type"}, {4, Field::i8, "asymmetric_quantize_inputs"}}},
    {15, {{2, Field::i8, "align_corners"}, {3, Field::i8, "half_pixel_centers"}}},
    {17, {{0, Field::ints, "new_shape"}}},
    {19, {{0, Field::i32, "block_size"}}},
    {21, {{0, Field::i8, "fused_activation_function"}}},
    {23, {{0, Field::i32, "axis"}, {1, Field::i32, "batch_dims"}}},
    {27, {{0, Field::i8, "keep_dims"}}},
    {28, {{0, Field::i8, "fused_activation_function"}, {1, Field::i8, "pot_scale_int16", 1}}},
    {29, {{0, Field::i8, "fused_activation_function"}}},
    {30, {{0, Field::ints, "squeeze_dims"}}},
    {32, {{0, Field::i32, "begin_mask"}, {1, Field::i32, "end_mask"}, {2, Field::i32, "ellipsis_mask"}, {3, Field::i32, "new_axis_mask"},
         {4, Field::i32, "shrink_axis_mask"}, {5, Field::i8, "offset"}}},
    {35, {{0, Field::i32, "num_splits"}}},
    {37, {{0, Field::i8, "in_data_type"}, {1, Field::i8, "out_data_type"}}},
    {40, {{0, Field::i8, "output_type"}}},
    {49, {{0, Field::i8, "padding"}, {1, Field::i32, "stride_w"}, {2, Field::i32, "stride_h"}, {3, Field::i8, "fused_activation_function"},
         {4, Field::i8, "quantized_bias_type"}}},
    {55, {{0, Field::i8, "out_type"}}},
    {57, {{0, Field::i8, "output_type"}}},
    {58, {{0, Field::f32, "min"}, {1, Field::f32, "max"}, {2, Field::i32, "num_bits"}, {3, Field::i8, "narrow_range"}}},
    {59, {{0, Field::i32, "values_count"}, {1, Field::i32, "axis"}}},
    {61, {{0, Field::i32, "axis"}}},
    {64, {{0, Field::i32, "num"}, {1, Field::i32, "axis"}}},
    {69, {{0, Field::i8, "fused_activation_function"}, {1, Field::f32, "cell_clip"}, {2, Field::f32, "proj_clip"},
         {3, Field::i8, "merge_outputs"}, {4, Field::i8, "time_major", 1}, {5, Field::i8, "asymmetric_quantize_inputs"}}},
    {71, {{0, Field::i8, "fused_activation_function"}, {1, Field::f32, "cell_clip"}, {2, Field::f32, "proj_clip"},
         {3, Field::i8, "time_major"}, {4, Field::i8, "asymmetric_quantize_inputs"}, {5, Field::i8, "diagonal_recurrent_tensors"}}},
    {74, {{0, Field::i8, "align_corners"}, {1, Field::i8, "half_pixel_centers"}}},
    {75, {{0, Field::f32, "alpha"}}},
    {77, {{0, Field::i8, "mode"}}},
    {79, {{0, Field::i32, "num_splits"}}},
    {87, {{0, Field::i32, "seq_dim"}, {1, Field::i32, "batch_dim"}}},
    {92, {{0, Field::i32, "then_subgraph_index"}, {1, Field::i32, "else_subgraph_index"}}},
    {93, {{0, Field::i32, "cond_subgraph_index"}, {1, Field::i32, "body_subgraph_index"}}},
    {94, {{0, Field::i32, "block_size"}}},
    {101, {{0, Field::i8, "adj_x"}, {1, Field::i8, "adj_y"}, {2, Field::i8, "asymmetric_quantize_inputs"}}},
    {102, {{0, Field::i8, "exclusive"}, {1, Field::i8, "reverse"}}},
    {103, {{0, Field::i32, "init_subgraph_index"}}},
    {106, {{0, Field::i8, "padding"}, {1, Field::i32, "stride_d"}, {2, Field::i32, "stride_w"}, {3, Field::i32, "stride_h"},
         {4, Field::i8, "fused_activation_function"}, {5, Field::i32, "dilation_d_factor", 1}, {6, Field::i32, "dilation_w_factor", 1},
         {7, Field::i32, "dilation_h_factor", 1}}},
    {111, {{0, Field::text, "container"}, {1, Field::text, "shared_name"}}},
    {116, {{0, Field::i8, "approximate"}}},
};

// A copy of a name, charged to the budget.
std::string checked_text(std::string_view s, const std::string& what, FlatBytes& bytes) {
  const Limits& limits = bytes.limits();
  bytes.spend(s.size());
  if (s.size() > limits.name_bytes) throw bad_input("the name of {} has {} bytes", what, s.size()).expected(fmt::format("at most {} bytes", limits.name_bytes));
  const bool plain = std::all_of(s.begin(), s.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
  if (!plain && printable(s) != s) throw bad_input("the name of {}, '{}', has control characters or invalid UTF-8", what, printable(s)).fix("rename it where the model was made");
  return std::string(s);
}

struct Parser {
  FlatBytes bytes;
  const Limits& limits;
  TfliteModel m;

  Shape shape(const std::vector<std::int32_t>& v, const std::string& what) const {
    if (v.size() > 16) throw bad_input("{} has {} axes", what, v.size()).expected("at most 16");
    Shape s;
    std::uint64_t n = 1;
    for (std::int32_t d : v) {
      if (d < 0) throw bad_input("{} has the extent {}", what, d).expected("a number of at least 0");
      s.push_back(d);
      if (d > 0) n = Limits::product(n, static_cast<std::uint64_t>(d), limits.elements, "elements of " + what);
    }
    return s;
  }

  void quantisation(const FlatTable& t, TfliteTensor& x, const std::string& what) {
    TfliteQuantisation& q = x.quant;
    q.scales = t.numbers<float>(2, "the scales of " + what);
    q.zero_points = t.numbers<std::int64_t>(3, "the zero points of " + what);
    q.dimension = t.number<std::int32_t>(6, 0, "the quantised dimension of " + what);
    if (t.number<std::uint8_t>(4, 0, what) != 0) throw bad_input("{} has quantisation details of its own", what).expected("scales and zero points");
    if (q.scales.empty()) {
      q = {};
      return;
    }
    for (float s : q.scales)
      if (!(s > 0) || !std::isfinite(s)) throw bad_input("{} has the scale {}", what, s).expected("a positive number").fix("quantise the model again");
    if (q.zero_points.size() <= 1) q.zero_points.resize(q.scales.size(), q.zero_points.empty() ? 0 : q.zero_points[0]);
    if (q.zero_points.size() != q.scales.size()) throw bad_input("{} has {} scales and {} zero points", what, q.scales.size(), q.zero_points.size()).expected("one for each scale");
    for (std::int64_t z : q.zero_points)
      if (z < std::numeric_limits<std::int32_t>::min() || z > std::numeric_limits<std::int32_t>::max()) throw bad_input("{} has the zero point {}", what, z).expected("a number of 32 bits");
    if (q.scales.size() > 1) {
      if (x.shape.size() == 1) q.dimension = 0;  // old converters give biases the axis of their weights
      if (q.dimension < 0 || q.dimension >= static_cast<std::int64_t>(x.shape.size()))
        throw bad_input("{} is quantised along axis {}", what, q.dimension).expected(fmt::format("an axis of the shape {}", to_string(x.shape)));
      if (x.shape[static_cast<std::size_t>(q.dimension)] != static_cast<std::int64_t>(q.scales.size()))
        throw bad_input("{} has {} scales along axis {}", what, q.scales.size(), q.dimension).expected(fmt::format("as many as the shape {} says", to_string(x.shape)));
    }
  }

  TfliteTensor tensor(const FlatTable& t, const std::vector<FlatTable>& buffers, const std::string& where) {
    TfliteTensor x;
    x.name = checked_text(t.text(3, "the name of " + where), where, bytes);
    const std::string what = x.name.empty() ? where : fmt::format("{} ('{}')", where, x.name);
    const int type = t.number<std::int8_t>(1, 0, "the type of " + what);
    if (type < 0 || type >= static_cast<int>(std::size(kTypes))) throw bad_input("{} has the type number {}", what, type).expected("0 to 22");
    x.type = kTypes[type];
    x.dtype = dtype_of_number(type);
    x.shape = shape(t.numbers<std::int32_t>(0, "the shape of " + what), what);
    const auto signature = t.numbers<std::int32_t>(7, "the shape signature of " + what);
    x.signature.assign(signature.begin(), signature.end());
    if (!x.signature.empty() && x.signature.size() != x.shape.size())
      throw bad_input("{} has the shape {} and the signature {}", what, to_string(x.shape), to_string(x.signature)).expected("the same number of axes");
    x.variable = t.number<std::uint8_t>(5, 0, what) != 0;
    x.sparse = t.has(6);
    if (const auto q = t.table(4, "the quantisation of " + what)) quantisation(*q, x, what);
    const auto b = t.number<std::uint32_t>(2, 0, "the buffer of " + what);
    if (b >= buffers.size() && !(b == 0 && buffers.empty())) throw bad_input("{} lies in buffer {}", what, b).expected(fmt::format("one of {}", buffers.size()));
    if (b != 0) {
      const FlatTable& buffer = buffers[b];
      x.data = buffer.bytes(0, "the data of " + what);
      const auto offset = buffer.number<std::uint64_t>(1, 0, what), size = buffer.number<std::uint64_t>(2, 0, what);
      if (offset > 1) x.data = bytes.slice(offset, size, "the data of " + what);  // files above 2 GB keep data behind the tables
      x.constant = buffer.has(0) || offset > 1;
      if (x.constant && x.data.empty() && element_count(x.shape) != 0) x.constant = false;  // an empty vector marks a computed tensor too
    }
    if (x.constant && x.dtype && !x.sparse) {
      const std::uint64_t want = static_cast<std::uint64_t>(element_count(x.shape)) * size_of(*x.dtype);
      if (x.data.size() != want)
        throw bad_input("{} has {} bytes of data", what, x.data.size()).expected(fmt::format("{} for {} of the shape {}", want, to_string(*x.dtype), to_string(x.shape)));
    }
    return x;
  }

  void options(const FlatTable& t, TfliteOperator& o, const std::string& what) {
    const int kind = t.number<std::uint8_t>(3, 0, what);
    const auto known = kOptions.find(kind);
    if (known == kOptions.end()) return;
    const auto fields = t.table(4, "the options of " + what);
    if (!fields) return;
    for (const Option& f : known->second) {
      switch (f.field) {
        case Field::i8: o.numbers[f.name] = fields->number<std::int8_t>(f.slot, static_cast<std::int8_t>(f.fallback), f.name); break;
        case Field::i32: o.numbers[f.name] = fields->number<std::int32_t>(f.slot, f.fallback, f.name); break;
        case Field::u32: o.numbers[f.name] = fields->number<std::uint32_t>(f.slot, static_cast<std::uint32_t>(f.fallback), f.name); break;
        case Field::f32: {
          const float v = fields->number<float>(f.slot, static_cast<float>(f.fallback), f.name);
          if (!std::isfinite(v)) throw bad_input("{} of {} is {}", f.name, what, v).expected("a number");
          o.numbers[f.name] = v;
          break;
        }
        case Field::ints: {
          const auto v = fields->numbers<std::int32_t>(f.slot, f.name);
          o.lists[f.name].assign(v.begin(), v.end());
          break;
        }
        case Field::text: o.texts[f.name] = checked_text(fields->text(f.slot, f.name), what, bytes); break;
      }
    }
  }

  std::vector<int> indices(const FlatTable& t, int slot, std::size_t tensors, bool optional, const std::string& what) {
    const auto v = t.numbers<std::int32_t>(slot, what);
    for (std::int32_t i : v)
      if (i < (optional ? -1 : 0) || i >= static_cast<std::int64_t>(tensors)) throw bad_input("{} name tensor {}", what, i).expected(fmt::format("one of {}", tensors));
    return {v.begin(), v.end()};
  }

  void subgraph(const FlatTable& t, const std::vector<FlatTable>& codes, const std::vector<FlatTable>& buffers, std::size_t index) {
    TfliteSubgraph s;
    const std::string here = fmt::format("subgraph {}", index);
    s.name = checked_text(t.text(4, "the name of " + here), here, bytes);
    const auto tensors = t.tables(0, "the tensors of " + here);
    for (std::size_t i = 0; i < tensors.size(); ++i) s.tensors.push_back(tensor(tensors[i], buffers, fmt::format("tensor {} of {}", i, here)));
    s.inputs = indices(t, 1, tensors.size(), false, "the inputs of " + here);
    s.outputs = indices(t, 2, tensors.size(), false, "the outputs of " + here);
    const auto operators = t.tables(3, "the operators of " + here);
    std::vector<bool> written(tensors.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) written[i] = s.tensors[i].constant || s.tensors[i].variable;
    for (int i : s.inputs) {
      if (s.tensors[static_cast<std::size_t>(i)].constant) throw bad_input("input tensor {} of {} is a constant", i, here);
      if (written[static_cast<std::size_t>(i)]) throw bad_input("tensor {} is an input of {} twice, or a variable", i, here);
      written[static_cast<std::size_t>(i)] = true;
    }
    for (std::size_t i = 0; i < operators.size(); ++i) {
      const FlatTable& f = operators[i];
      TfliteOperator o;
      std::string what = fmt::format("operator {} of {}", i, here);
      const auto code = f.number<std::uint32_t>(0, 0, "the code of " + what);
      if (code >= codes.size()) throw bad_input("{} has the code {}", what, code).expected(fmt::format("one of {}", codes.size()));
      const FlatTable& c = codes[code];
      o.code = std::max<int>(c.number<std::int8_t>(0, 0, what), c.number<std::int32_t>(3, 0, what));  // the older field holds at most 127
      o.version = c.number<std::int32_t>(2, 1, what);
      o.custom = o.code == 32;
      if (o.custom) o.op = checked_text(c.text(1, "the name of " + what), what, bytes);
      else if (o.code >= 0 && o.code < static_cast<int>(std::size(kOperators)) && *kOperators[o.code]) o.op = kOperators[o.code];
      else
        throw bad_input("{} has the builtin operator {}", what, o.code)
            .expected("a number that the schema names, at most 209")
            .fix("the file was made by a later converter, or is damaged");
      what = fmt::format("operator {} ({}) of {}", i, o.op, here);
      o.inputs = indices(f, 1, tensors.size(), true, "the inputs of " + what);
      o.outputs = indices(f, 2, tensors.size(), false, "the outputs of " + what);
      o.intermediates = indices(f, 8, tensors.size(), true, "the intermediates of " + what);
      for (int x : o.inputs)
        if (x >= 0 && !written[static_cast<std::size_t>(x)] && !o.custom)  // a custom one is refused by its name
          throw bad_input("{} reads tensor {} ('{}'), which nothing has written yet", what, x, s.tensors[static_cast<std::size_t>(x)].name)
              .fix("the operators of a file stand in the order of execution");
      for (int x : o.outputs) {
        if (written[static_cast<std::size_t>(x)]) throw bad_input("{} writes tensor {} ('{}'), which has a value already", what, x, s.tensors[static_cast<std::size_t>(x)].name);
        written[static_cast<std::size_t>(x)] = true;
      }
      o.custom_options = f.bytes(5, "the options of " + what);
      options(f, o, what);
      s.operators.push_back(std::move(o));
    }
    for (int x : s.outputs)
      if (!written[static_cast<std::size_t>(x)]) throw bad_input("output tensor {} of {} is never written", x, here);
    m.subgraphs.push_back(std::move(s));
  }

  void run() {
    const std::string_view all = bytes.all();
    if (all.size() < 8 || all.substr(4, 4) != "TFL3")
      throw bad_input("no TensorFlow Lite file: the bytes 4 to 7 are '{}'", printable(all.substr(std::min<std::size_t>(4, all.size()), 4)))
          .expected("TFL3")
          .fix("export the model as .tflite");
    const FlatTable model = FlatTable::root(bytes, "the model");
    if (const auto v = model.number<std::uint32_t>(0, 0, "the version"); v != 3) throw bad_input("version {} of the schema", v).expected("version 3");
    m.description = printable(model.text(3, "the description"));
    const auto codes = model.tables(1, "the operator codes"), subgraphs = model.tables(2, "the subgraphs"), buffers = model.tables(4, "the buffers");
    if (subgraphs.empty()) throw bad_input("the file has no subgraph").expected("at least one");
    for (std::size_t i = 0; i < subgraphs.size(); ++i) subgraph(subgraphs[i], codes, buffers, i);
    for (const FlatTable& t : model.tables(6, "the metadata")) {
      const std::string name = checked_text(t.text(0, "the name of metadata"), "metadata", bytes);
      const auto b = t.number<std::uint32_t>(1, 0, "metadata");
      if (b >= buffers.size()) throw bad_input("metadata '{}' lie in buffer {}", name, b).expected(fmt::format("one of {}", buffers.size()));
      std::string_view v = buffers[b].bytes(0, "metadata");
      v = v.substr(0, v.find_last_not_of('\0') + 1);
      if (v.size() <= limits.name_bytes && printable(v) == v) m.metadata[name] = v;  // other metadata describe the converter's own buffers
    }
    for (const FlatTable& t : model.tables(7, "the signatures")) {
      TfliteSignature s;
      s.key = checked_text(t.text(2, "the key of a signature"), "a signature", bytes);
      const auto graph = t.number<std::uint32_t>(4, 0, "a signature");
      if (graph >= m.subgraphs.size()) throw bad_input("signature '{}' names subgraph {}", s.key, graph).expected(fmt::format("one of {}", m.subgraphs.size()));
      s.subgraph = static_cast<int>(graph);
      for (int slot : {0, 1})
        for (const FlatTable& p : t.tables(slot, "the ports of a signature")) {
          const auto x = p.number<std::uint32_t>(1, 0, "a port of a signature");
          if (x >= m.subgraphs[graph].tensors.size()) throw bad_input("signature '{}' names tensor {}", s.key, x).expected(fmt::format("one of {}", m.subgraphs[graph].tensors.size()));
          (slot ? s.outputs : s.inputs)[checked_text(p.text(0, "the name of a port"), "a port", bytes)] = static_cast<int>(x);
        }
      m.signatures.push_back(std::move(s));
    }
  }
};

}  // namespace

double TfliteOperator::number(std::string_view key, double fallback) const {
  const auto it = numbers.find(std::string(key));
  return it == numbers.end() ? fallback : it->second;
}

Tensor TfliteTensor::value() const {
  TANDEM_CHECK(constant && dtype && !sparse, "value() of '{}', which is no dense constant", name);
  Tensor t(*dtype, shape);
  if (!data.empty()) std::memcpy(t.raw_mutable(), data.data(), data.size());
  if (*dtype == DType::boolean) {  // any byte is not a bool
    auto* b = static_cast<unsigned char*>(t.raw_mutable());
    for (std::size_t i = 0; i < data.size(); ++i) b[i] = b[i] != 0;
  }
  return t;
}

bool TfliteModel::floating() const {
  const TfliteSubgraph& s = subgraphs.at(0);
  bool real = false;
  for (const TfliteOperator& o : s.operators)
    for (int i : o.outputs) {
      const TfliteTensor& t = s.tensors[static_cast<std::size_t>(i)];
      if (t.dtype && !is_float(*t.dtype) && !t.quant.scales.empty()) return false;
      real |= t.dtype && is_float(*t.dtype);
    }
  return real;
}

std::string describe(const TfliteSubgraph& s, std::size_t op) {
  const TfliteOperator& o = s.operators.at(op);
  const std::string& y = o.outputs.empty() ? o.op : s.tensors[static_cast<std::size_t>(o.outputs[0])].name;
  return fmt::format("operator {} ({}, which computes '{}')", op, o.op, y);
}

TfliteModel parse_tflite(std::string_view bytes, const Limits& limits) {
  Parser p{FlatBytes(bytes, limits), limits, {}};
  p.run();
  return std::move(p.m);
}
TfliteModel read_tflite_model(const std::filesystem::path& path, const Limits& limits) {
  const auto file = std::make_shared<const std::string>(read_file(path, limits));
  try {
    TfliteModel m = parse_tflite(*file, limits);
    m.file = file;
    return m;
  } catch (Error& e) {
    e.at(path.string() + (e.where().empty() ? "" : ": " + e.where()));
    throw;
  }
}

}  // namespace tandem::ir
