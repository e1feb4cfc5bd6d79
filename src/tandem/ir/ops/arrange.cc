// Crops, grids and columns of images, and counted n-grams: AffineGrid, CenterCropPad, Col2Im, TfIdfVectorizer.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/expansions.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Args = EvalArgs<double>;
double number(std::int64_t i) { return static_cast<double>(i); }

// ---- AffineGrid -------------------------------------------------------------------------------------
void infer_affine(InferContext& c) {
  const Dims& theta = c.dims(0);
  if (theta.size() != 3) c.fail(fmt::format("theta has rank {}", theta.size()), "[N, axes, axes + 1]");
  if (!c.in_constant[1]) {
    c.out = {theta[1].known() && theta[1].n >= 0 && theta[1].n < 60 ? unknown_extents(c.in[0]->dtype, static_cast<std::size_t>(theta[1].n) + 2) : unknown_rank(c.in[0]->dtype)};
    return;
  }
  const Ints size = int_list(*c.in_constant[1]);
  const auto axes = static_cast<std::int64_t>(size.size()) - 2;
  if (axes != 2 && axes != 3) c.fail(fmt::format("size has {} entries", size.size()), "[N, C, H, W] or [N, C, D, H, W]");
  for (std::int64_t d : size)
    if (d < 0) c.fail(fmt::format("an extent of {}", d));
  if ((theta[0].known() && theta[0].n != size[0]) || (theta[1].known() && theta[1].n != axes) || (theta[2].known() && theta[2].n != axes + 1)) c.fail(fmt::format("theta {} does not fit the size {}", to_string(theta), to_string(size)));
  Dims y{Dim(size[0])};
  for (std::int64_t d = 0; d < axes; ++d) y.push_back(Dim(size[static_cast<std::size_t>(d) + 2]));
  y.push_back(Dim(axes));
  c.out = {TensorType{c.in[0]->dtype, y}};
}
void affine_eval(Args& e) {
  const Ints size = to_ints(*e.in[1]);
  const std::size_t axes = size.size() - 2;
  if (size.size() < 4 || size.size() > 5 || e.in[0]->shape != Shape{size[0], static_cast<std::int64_t>(axes), static_cast<std::int64_t>(axes) + 1}) throw node_error(e.graph, e.node, fmt::format("theta {} does not fit the size {}", to_string(e.in[0]->shape), to_string(size)));
  const bool corners = e.node.attr_int("align_corners", 0) != 0;
  const Shape inner(size.begin() + 2, size.end());
  Shape s{size[0]};
  s.insert(s.end(), inner.begin(), inner.end());
  s.push_back(static_cast<std::int64_t>(axes));
  Array<double> y(s);
  const auto coordinate = [&](std::int64_t i, std::int64_t n) { return corners ? (n > 1 ? -1 + 2 * number(i) / number(n - 1) : -1) : (2 * number(i) + 1) / number(n) - 1; };
  std::size_t to = 0;
  for (std::int64_t n = 0; n < size[0] && !y.v.empty(); ++n) {
    Shape at(axes);
    do
      for (std::size_t r = 0; r < axes; ++r) {
        const double* row = e.in[0]->v.data() + (static_cast<std::size_t>(n) * axes + r) * (axes + 1);
        double v = row[axes];
        for (std::size_t k = 0; k < axes; ++k) v += row[k] * coordinate(at[axes - 1 - k], inner[axes - 1 - k]);  // theta reads the last axis first
        y.v[to++] = v;
      }
    while (next(at, inner));
  }
  e.out[0] = std::move(y);
}
void sample_affine(const OpDef& op, Sample& s) {
  const std::int64_t axes = s.r.range(2, 3), n = s.r.range(1, 2);
  Ints size{n, 3};
  for (std::int64_t d = 0; d < axes; ++d) size.push_back(s.r.range(1, 4));
  const ValueId theta = s.input({n, axes, axes + 1});
  s.node(op, {theta, s.ints(size)}, {{"align_corners", s.r.range(0, 1)}});
}

// ---- CenterCropPad ----------------------------------------------------------------------------------
Ints crop_axes(const Graph& g, const Node& n, std::size_t rank) {
  Ints axes = n.attr_ints("axes", {});
  if (!n.has_attr("axes"))
    for (std::size_t i = 0; i < rank; ++i) axes.push_back(static_cast<std::int64_t>(i));
  std::vector<bool> seen(rank);
  for (std::int64_t& a : axes) {
    a = normal_axis(a, static_cast<std::int64_t>(rank), g, n);
    if (seen[static_cast<std::size_t>(a)]) throw node_error(g, n, fmt::format("axis {} twice", a));
    seen[static_cast<std::size_t>(a)] = true;
  }
  return axes;
}
void infer_crop(InferContext& c) {
  Dims y = c.dims(0);
  const Ints axes = crop_axes(c.graph, c.node, y.size());
  if (c.in_constant[1]) {
    const Ints shape = int_list(*c.in_constant[1]);
    if (shape.size() != axes.size()) c.fail(fmt::format("{} extents for {} axes", shape.size(), axes.size()));
    for (std::size_t i = 0; i < axes.size(); ++i) {
      if (shape[i] < 0) c.fail(fmt::format("an extent of {}", shape[i]));
      y[static_cast<std::size_t>(axes[i])] = Dim(shape[i]);
    }
  } else {
    for (std::int64_t a : axes) y[static_cast<std::size_t>(a)] = Dim();
  }
  c.out = {TensorType{c.in[0]->dtype, y}};
}
template <class T>
void crop(EvalArgs<T>& e, const Ints& shape) {
  const Array<T>& x = *e.in[0];
  const Ints axes = crop_axes(e.graph, e.node, x.shape.size());
  if (shape.size() != axes.size()) throw node_error(e.graph, e.node, fmt::format("{} extents for {} axes", shape.size(), axes.size()));
  Shape s = x.shape, shift(x.shape.size());  // element `at` of the result is x[at + shift]
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto a = static_cast<std::size_t>(axes[i]);
    if (shape[i] < 0) throw node_error(e.graph, e.node, fmt::format("an extent of {}", shape[i]));
    s[a] = shape[i];
    shift[a] = s[a] < x.shape[a] ? (x.shape[a] - s[a]) / 2 : -((s[a] - x.shape[a]) / 2);
  }
  Array<T> y(s);
  Shape at(s.size());
  if (!y.v.empty()) do {
      std::int64_t from = 0;
      bool inside = true;
      for (std::size_t d = 0; d < s.size() && inside; ++d) {
        const std::int64_t i = at[d] + shift[d];
        inside = i >= 0 && i < x.shape[d];
        from = from * x.shape[d] + i;
      }
      if (inside) y.v[static_cast<std::size_t>(flat(at, s))] = x.v[static_cast<std::size_t>(from)];
    } while (next(at, s));
  e.out[0] = std::move(y);
}
void crop_eval(Args& e) { crop(e, to_ints(*e.in[1])); }
void sample_crop(const OpDef& op, Sample& s) {
  const Shape x = s.shape();
  const ValueId v = s.input(x);
  Ints shape, axes;
  for (std::size_t d = 0; d < x.size(); ++d)
    if (s.r.chance(0.7)) axes.push_back(static_cast<std::int64_t>(d) - (s.r.chance(0.5) ? static_cast<std::int64_t>(x.size()) : 0)), shape.push_back(s.r.range(0, 6));
  s.node(op, {v, s.ints(shape)}, {{"axes", axes}});
}

// ---- Col2Im -----------------------------------------------------------------------------------------
Windows columns_of(const Graph& g, const Node& n, const Shape& image, const Shape& block) {
  if (image.empty() || image.size() != block.size()) throw node_error(g, n, fmt::format("a block {} in an image {}", to_string(block), to_string(image))).expected("one extent per axis");
  for (std::int64_t d : image)
    if (d < 1 || d > (std::int64_t{1} << 31)) throw node_error(g, n, fmt::format("an image {}", to_string(image)));
  return windows_of(g, n, image, block);
}
void infer_columns(InferContext& c) {
  const Dims& x = c.dims(0);
  if (x.size() != 3) c.fail(fmt::format("input has rank {}", x.size()), "[N, C * elements of a block, blocks]");
  if (!c.in_constant[1] || !c.in_constant[2]) {
    c.out = {unknown_rank(c.in[0]->dtype)};
    return;
  }
  const Shape image = int_list(*c.in_constant[1]), block = int_list(*c.in_constant[2]);
  const Shape blocks = columns_of(c.graph, c.node, image, block).out(image);
  const std::int64_t each = element_count(block);
  if (x[1].known() && x[1].n % each) c.fail(fmt::format("{} rows are no multiple of the {} elements of a block", x[1].n, each));
  if (x[2].known() && x[2].n != element_count(blocks)) c.fail(fmt::format("{} columns for {} blocks", x[2].n, element_count(blocks)));
  Dims y{x[0], x[1].known() ? Dim(x[1].n / each) : Dim()};
  for (std::int64_t d : image) y.push_back(Dim(d));
  c.out = {TensorType{c.in[0]->dtype, y}};
}
void columns_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  const Shape image = to_ints(*e.in[1]), block = to_ints(*e.in[2]);
  const Windows w = columns_of(e.graph, e.node, image, block);
  const std::int64_t each = element_count(block), positions = element_count(w.out(image)), size = element_count(image);
  if (x.shape[1] % each || x.shape[2] != positions) throw node_error(e.graph, e.node, fmt::format("columns {} for {} blocks of {} elements", to_string(x.shape), positions, each));
  const std::vector<std::int64_t> taps = w.taps(image);
  Shape s{x.shape[0], x.shape[1] / each};
  s.insert(s.end(), image.begin(), image.end());
  Array<double> y(s);
  for (std::int64_t n = 0; n < s[0] * s[1]; ++n)
    for (std::int64_t k = 0; k < each; ++k)
      for (std::int64_t p = 0; p < positions; ++p)
        if (const std::int64_t at = taps[static_cast<std::size_t>(p * each + k)]; at >= 0) y.v[static_cast<std::size_t>(n * size + at)] += x.v[static_cast<std::size_t>((n * each + k) * positions + p)];
  e.out[0] = std::move(y);
}
void sample_columns(const OpDef& op, Sample& s) {
  const std::size_t axes = static_cast<std::size_t>(s.r.range(1, 3));
  Shape image(axes), block(axes), stride(axes), dilation(axes), pad(2 * axes);
  std::int64_t positions = 1;
  for (std::size_t d = 0; d < axes; ++d) {
    image[d] = s.r.range(3, 5), block[d] = s.r.range(1, 2), stride[d] = s.r.range(1, 2), dilation[d] = s.r.range(1, 2), pad[d] = s.r.range(0, 1), pad[axes + d] = s.r.range(0, 1);
    positions *= (image[d] + pad[d] + pad[axes + d] - dilation[d] * (block[d] - 1) - 1) / stride[d] + 1;
  }
  const ValueId x = s.input({s.r.range(1, 2), s.r.range(1, 2) * element_count(block), positions}), i = s.ints(image);
  s.node(op, {x, i, s.ints(block)}, {{"strides", stride}, {"dilations", dilation}, {"pads", pad}});
}

// ---- TfIdfVectorizer --------------------------------------------------------------------------------
struct Grams {
  std::int64_t shortest, longest, skips, columns = 0;
  int weighting;  // 0 TF, 1 IDF, 2 TFIDF
  std::map<Ints, std::size_t> known;  // n-gram -> its number
  Ints column;
  std::vector<double> weights;
};
Grams grams_of(const Graph& g, const Node& n) {
  if (n.has_attr("pool_strings")) throw node_error(g, n, "its pool holds strings").expected("pool_int64s").fix("number the words before the model");
  Grams r{.shortest = n.attr_int("min_gram_length", 1), .longest = n.attr_int("max_gram_length", 1), .skips = n.attr_int("max_skip_count", 0), .weighting = 0, .known = {}, .column = n.attr_ints("ngram_indexes", {}), .weights = {}};
  static constexpr std::string_view modes[] = {"TF", "IDF", "TFIDF"};
  const std::string mode = n.attr_string("mode", "");
  const auto m = std::find(std::begin(modes), std::end(modes), mode);
  if (m == std::end(modes)) throw node_error(g, n, fmt::format("mode '{}' is unknown", printable(mode))).expected("TF, IDF or TFIDF");
  r.weighting = static_cast<int>(m - std::begin(modes));
  if (r.shortest < 1 || r.longest < r.shortest || r.skips < 0) throw node_error(g, n, fmt::format("n-grams of {} to {} elements with at most {} skipped", r.shortest, r.longest, r.skips));
  for (std::int64_t c : r.column) {
    if (c < 0) throw node_error(g, n, fmt::format("ngram_indexes holds {}", c));
    r.columns = std::max(r.columns, c + 1);
  }
  const Ints pool = n.attr_ints("pool_int64s", {}), counts = n.attr_ints("ngram_counts", {});
  const auto total = static_cast<std::int64_t>(pool.size());
  std::size_t number = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const std::int64_t from = counts[i], to = i + 1 < counts.size() ? counts[i + 1] : total, length = static_cast<std::int64_t>(i) + 1;
    if (from < 0 || to < from || to > total) throw node_error(g, n, fmt::format("ngram_counts holds {} of a pool of {}", from, total)).expected("where the n-grams of each length begin");
    if ((to - from) % length) throw node_error(g, n, fmt::format("{} elements of the pool are no n-grams of {}", to - from, length));
    for (std::int64_t at = from; at < to; at += length, ++number) r.known.emplace(Ints(pool.begin() + at, pool.begin() + at + length), number);
  }
  if (number != r.column.size()) throw node_error(g, n, fmt::format("{} n-grams, ngram_indexes has {} entries", number, r.column.size()));
  if (const auto w = n.attrs.find("weights"); w != n.attrs.end()) r.weights = std::get<std::vector<double>>(w->second);
  if (!r.weights.empty() && r.weights.size() != r.column.size()) throw node_error(g, n, fmt::format("{} weights for {} n-grams", r.weights.size(), r.column.size()));
  r.longest = std::min<std::int64_t>(r.longest, static_cast<std::int64_t>(counts.size()));
  return r;
}
void infer_tfidf(InferContext& c) {
  const Dims& x = c.dims(0);
  if (x.size() > 2) c.fail(fmt::format("input has rank {}", x.size()), "[length] or [batch, length]");
  if (is_float(c.in[0]->dtype) || c.in[0]->dtype == DType::boolean) c.fail(fmt::format("its input holds {}", to_string(c.in[0]->dtype)), "integers");
  Dims y;
  if (x.size() == 2) y.push_back(x[0]);
  y.push_back(Dim(grams_of(c.graph, c.node).columns));
  c.out = {TensorType{DType::f32, y}};
}
void tfidf_eval(Args& e) {
  const Grams g = grams_of(e.graph, e.node);
  const Shape& x = e.in[0]->shape;
  const bool batched = x.size() == 2;
  const std::int64_t rows = batched ? x[0] : 1, length = x.empty() ? 1 : x.back();
  Array<double> y(batched ? Shape{rows, g.columns} : Shape{g.columns});
  for (std::int64_t r = 0; r < rows; ++r) {
    std::vector<double> count(g.column.size());
    for (std::int64_t n = g.shortest; n <= g.longest; ++n)
      for (std::int64_t step = 1; step <= (n == 1 ? 1 : g.skips + 1) && (n - 1) * step < length; ++step)
        for (std::int64_t at = 0; at + (n - 1) * step < length; ++at) {
          Ints gram;
          for (std::int64_t k = 0; k < n; ++k) gram.push_back(to_int(e.in[0]->v[static_cast<std::size_t>(r * length + at + k * step)]));
          if (const auto known = g.known.find(gram); known != g.known.end()) ++count[known->second];
        }
    for (std::size_t k = 0; k < count.size(); ++k) {
      double& to = y.v[static_cast<std::size_t>(r * g.columns + g.column[k])];
      const double weight = g.weights.empty() ? 1 : g.weights[k];
      if (g.weighting == 0) to += count[k];
      else if (g.weighting == 2) to += count[k] * weight;
      else if (count[k] > 0) to = weight;
    }
  }
  e.out[0] = std::move(y);
}
void sample_tfidf(const OpDef& op, Sample& s) {
  static const char* modes[] = {"TF", "IDF", "TFIDF"};
  const std::int64_t length = s.r.range(1, 8);
  const std::int64_t longest = s.r.range(1, 3);
  s.node(op, {s.input(s.r.chance(0.5) ? Shape{length} : Shape{2, length}, 0, 3, DType::i64)},
         {{"mode", std::string(modes[s.r.range(0, 2)])}, {"min_gram_length", s.r.range(1, longest)}, {"max_gram_length", longest}, {"max_skip_count", s.r.range(0, 2)}, {"ngram_counts", Ints{0, 3, 7}},
          {"ngram_indexes", Ints{2, 0, 1, 4, 3, 5}}, {"pool_int64s", Ints{0, 2, 3, 1, 2, 0, 0, 1, 1, 2}}, {"weights", std::vector<double>{1, 0.5, 2, 3, 0.25, 4}}});
}

const OpDef kOps[] = {
    OpDef{.domain = "", .name = "AffineGrid", .summary = "Coordinates under an affine map, as GridSample reads them.", .doc = "Y[n, p] = theta[n] (coordinates of p in [-1, 1], last axis first, then 1).", .source = "ONNX AffineGrid-20",
          .inputs = {{"theta", "[N, axes, axes + 1], two or three axes"}, {"size", "[N, C, spatial axes]"}}, .outputs = {{"Y", "[N, spatial axes, axes]"}}, .attributes = {{"align_corners", AttrType::integer, "0", "1: -1 and 1 are the centres of the outer elements, 0: their outer edges"}},
          .infer = infer_affine, .eval = {affine_eval, nullptr}, .adjoint = adjoint_expanded, .expansion = expand_affine_grid, .sample = sample_affine},
    OpDef{.domain = "", .name = "CenterCropPad", .summary = "The centre of a tensor, or a tensor in the centre of zeros.", .doc = "Along each of the axes: where the extent shrinks by d, floor(d / 2) elements fall off in front; where it grows, floor(d / 2) zeros go in front.",
          .source = "ONNX CenterCropPad-18", .inputs = {{"X", "any shape"}, {"shape", "new extents of the axes"}}, .outputs = {{"Y", "the new extents"}}, .attributes = {{"axes", AttrType::integers, "every axis", "the axes that shape speaks of"}},
          .infer = infer_crop, .eval = {crop_eval, nullptr}, .adjoint = adjoint_expanded, .expansion = expand_crop_pad, .sample = sample_crop},
    OpDef{.domain = "", .name = "Col2Im", .summary = "Adds columns up to images.", .doc = "The adjoint of cutting blocks: element k of block p is added to the element of the image that it was cut from; what lies in the padding is dropped.", .source = "ONNX Col2Im-18",
          .inputs = {{"X", "[N, C * elements of a block, blocks]"}, {"image_shape", "spatial extents"}, {"block_shape", "extents of a block"}}, .outputs = {{"Y", "[N, C, spatial axes]"}},
          .attributes = {{"dilations", AttrType::integers, "ones", "between the elements of a block"}, {"pads", AttrType::integers, "zeros", "around the image: befores, then afters"}, {"strides", AttrType::integers, "ones", "between blocks"}},
          .infer = infer_columns, .eval = {columns_eval, nullptr}, .adjoint = adjoint_expanded, .expansion = expand_col2im, .sample = sample_columns},
    OpDef{.domain = "", .name = "TfIdfVectorizer", .summary = "Counts n-grams.", .doc = "Each n-gram of the pool that occurs, with up to max_skip_count elements skipped between neighbours (the same number everywhere; not for single elements), counts in its column: TF the count, IDF its weight once, TFIDF both.",
          .source = "ONNX TfIdfVectorizer-9", .inputs = {{"X", "integers: [length] or [batch, length]"}}, .outputs = {{"Y", "f32: [columns] or [batch, columns]"}},
          .attributes = {{"max_gram_length", AttrType::integer, "required", "longest n-gram counted"}, {"max_skip_count", AttrType::integer, "required", "most elements skipped"}, {"min_gram_length", AttrType::integer, "required", "shortest n-gram counted"}, {"mode", AttrType::string, "required", "TF, IDF or TFIDF"},
                         {"ngram_counts", AttrType::integers, "required", "where the n-grams of each length begin in the pool"}, {"ngram_indexes", AttrType::integers, "required", "the column of each n-gram"}, {"pool_int64s", AttrType::integers, "", "the n-grams"}, {"pool_strings", AttrType::strings, "", "refused"},
                         {"weights", AttrType::reals, "ones", "one per n-gram"}},
          .infer = infer_tfidf, .eval = {tfidf_eval, nullptr}, .sample = sample_tfidf},
};

}  // namespace

std::span<const OpDef> arrange_ops() { return kOps; }

}  // namespace tandem::ir
