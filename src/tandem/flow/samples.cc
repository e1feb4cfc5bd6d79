#include "tandem/flow/samples.h"

#include <algorithm>
#include <cmath>

#include "tandem/base/error.h"
#include "tandem/ir/arrays.h"
#include "tandem/tasks/task.h"
#include "tandem/tensor/npy.h"

namespace tandem::flow {
namespace {

// The arrays of an archive as a data set, where they are not named as one.
data::Dataset from_archive(const std::string& path, const std::string& input, const Limits& limits) {
  const Archive a = read_npz(path, limits);
  if (a.contains("x_train") || (a.contains("x") && (a.contains("y") || a.contains("full_scale")))) return data::open(path, limits);
  auto it = a.find(input);
  if (it == a.end()) it = a.find("x");
  if (it == a.end() && a.size() == 1) it = a.begin();
  std::vector<std::string> names;
  for (const auto& [n, t] : a) names.push_back(fmt::format("{} {}", n, to_string(t.shape())));
  if (it == a.end())
    throw bad_input("the archive has no samples for the input '{}'; it has: {}", printable(input), printable(fmt::format("{}", fmt::join(names, ", ")))).at(path)
        .expected(fmt::format("arrays x and y, or {} and labels", printable(input)));
  data::Dataset d;
  d.name = path;
  d.x = it->second;
  for (const char* word : {"y", "label", "labels", "target", "targets"})
    if (auto y = a.find(word); y != a.end() && y != it) {
      const Tensor t = y->second.rank() == 2 && y->second.shape()[1] == 1 ? y->second.reshaped({y->second.shape()[0]}) : y->second;
      if (is_float(t.dtype())) {
        d.y = t.cast(DType::f32);
        break;
      }
      d.y = t.cast(DType::i64);
      std::int64_t top = 0;
      for (std::int64_t v : d.y.values<std::int64_t>()) {
        if (v < 0 || v > 65535) throw bad_input("a label is {}", v).at(path).expected("class indices from 0 to 65535");
        top = std::max(top, v);
      }
      for (std::int64_t k = 0; k <= top; ++k) d.classes.push_back(std::to_string(k));
      break;
    }
  data::check(d);
  return d;
}

}  // namespace

Samples open_samples(const std::string& data, const ir::Graph& model, data::Part part, std::int64_t most, const Limits& limits) {
  if (model.inputs.size() != 1) throw bad_input("the model has {} inputs", model.inputs.size()).expected("one input, whose first axis counts samples");
  const ir::Value& in = model.values[static_cast<std::size_t>(model.inputs[0])];
  if (!in.type.dims || in.type.dims->empty()) throw bad_input("input '{}' has no batch axis", printable(in.name)).expected("one input, whose first axis counts samples");
  data::Dataset d;
  if (data.ends_with(".npy")) {
    d.name = data;
    d.x = read_npy(data, limits);
  } else if (data.ends_with(".npz")) {
    d = from_archive(data, in.name, limits);
  } else {
    d = data::open(data, limits);
  }
  if (d.x.rank() < 1 || d.x.shape()[0] < 1) throw bad_input("the data has no samples").at(data).expected("an axis of samples first");
  std::string which;
  if (std::find(d.part.begin(), d.part.end(), part) != d.part.end()) {
    d = data::select(d, part);
    which = fmt::format(", {} split", data::to_string(part));
  }
  const std::int64_t all = d.size(), n = most > 0 ? std::min(most, all) : all;
  if (n < all) {
    std::vector<std::int64_t> pick;
    for (std::int64_t i = 0; i < n; ++i) pick.push_back(i * all / n);
    d = data::select(d, pick);
  }
  Samples s;
  s.x = d.x.cast(DType::f32);
  if (d.full_scale != 0)
    for (std::int64_t i = 0; i < s.x.size(); ++i) s.x.data<float>()[i] = static_cast<float>(d.x.at(i) / d.full_scale);
  Shape want{n};
  for (std::size_t i = 1; i < in.type.dims->size(); ++i) {
    const ir::Dim& e = (*in.type.dims)[i];
    want.push_back(e.known() ? e.n : i < s.x.shape().size() ? s.x.shape()[i] : 1);
  }
  if (element_count(want) != s.x.size())
    throw bad_input("the samples have shape {}, input '{}' takes {}", to_string(s.x.shape()), printable(in.name), ir::to_string(*in.type.dims)).at(data)
        .expected(fmt::format("{} numbers a sample", element_count(Shape(want.begin() + 1, want.end()))));
  s.x = s.x.reshaped(want);
  const float* p = s.x.values<float>().data();
  for (std::int64_t i = 0; i < s.x.size(); ++i)
    if (!std::isfinite(p[i])) throw bad_input("element {} of sample {} is {}", i % (s.x.size() / n), i / (s.x.size() / n), p[i]).at(data).expected("finite numbers");
  s.source = fmt::format("{}{}, n = {}", d.name, which, n);
  s.set = std::move(d);
  return s;
}

}  // namespace tandem::flow
