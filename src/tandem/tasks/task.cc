#include "tandem/tasks/task.h"

#include <algorithm>
#include <cmath>

#include "tandem/base/nearest.h"

namespace tandem::tasks {

Interval wilson(std::int64_t k, std::int64_t n, double z) {
  TANDEM_CHECK(k >= 0 && k <= n && z > 0, "wilson({}, {}, {})", k, n, z);
  if (n == 0) return {0, 1};
  const double m = static_cast<double>(n), p = static_cast<double>(k) / m, z2 = z * z;
  const double centre = (p + z2 / (2 * m)) / (1 + z2 / m);
  const double half = z / (1 + z2 / m) * std::sqrt(p * (1 - p) / m + z2 / (4 * m * m));
  // At the ends the formula gives 0 and 1 exactly; rounding must not step over them.
  return {k == 0 ? 0 : std::max(0.0, centre - half), k == n ? 1 : std::min(1.0, centre + half)};
}

namespace {

std::string source_text(const Scored& s, std::int64_t n) {
  std::string t = fmt::format("{}{}{}, n = {}", s.data, s.split.empty() ? "" : " ", s.split, n);
  if (s.seed) t += fmt::format(", split seed {}", *s.seed);
  return t;
}

class Classification final : public Task {
 public:
  std::string_view name() const override { return "classification"; }
  std::string_view doc() const override {
    return "one class per sample; accuracy (top-1) with its 95 % Wilson interval, confusion matrix, majority baseline";
  }

  void check(const data::Dataset& d) const override {
    data::check(d);
    if (!d.labelled())
      throw bad_input("the data set has no class labels").at(d.name).expected("labels that are class indices or class names");
  }

  Tensor prepare(const data::Dataset& d) const override {
    check(d);
    Tensor t = d.x.cast(DType::f32);
    if (d.full_scale != 0) {
      // One rounding: float(v / scale) of two small integers, computed in double.
      float* p = t.data<float>();
      for (std::int64_t i = 0; i < t.size(); ++i) p[i] = static_cast<float>(d.x.at(i) / d.full_scale);
    }
    return t;
  }

  Score score(const Tensor& outputs, const data::Dataset& d, const Scored& what) const override {
    check(d);
    const std::int64_t n = d.size(), classes = std::ssize(d.classes);
    const std::vector<std::int64_t> answers = decode(outputs, d);
    Score s;
    s.n = n;
    s.confusion = Tensor(DType::i64, {classes, classes});
    std::int64_t* confusion = s.confusion.data<std::int64_t>();
    std::vector<std::int64_t> count(static_cast<std::size_t>(classes));
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t truth = d.y.data<std::int64_t>()[i], answer = answers[static_cast<std::size_t>(i)];
      ++confusion[truth * classes + answer];
      ++count[static_cast<std::size_t>(truth)];
      s.correct += truth == answer;
    }
    const auto most = std::max_element(count.begin(), count.end());
    const auto percent = [&](std::int64_t k, std::string source) {
      const Interval w = wilson(k, n);
      Metric m{100.0 * static_cast<double>(k) / static_cast<double>(n), "%", what.fidelity, std::move(source)};
      m.low = 100 * w.low;
      m.high = 100 * w.high;
      return m;
    };
    s.metric = percent(s.correct, source_text(what, n));
    s.baseline = percent(*most, fmt::format("always class '{}', {}", printable(d.classes[static_cast<std::size_t>(most - count.begin())]), source_text(what, n)));
    return s;
  }

 private:
  static std::vector<std::int64_t> decode(const Tensor& outputs, const data::Dataset& d) {
    const std::int64_t n = d.size(), classes = std::ssize(d.classes);
    const auto wrong = [&] {
      return bad_input("the outputs have shape {}", to_string(outputs.shape())).at(d.name).expected(fmt::format("[{}, {}] or class indices [{}]", n, classes, n));
    };
    if (outputs.rank() < 1 || outputs.shape()[0] != n) throw wrong();
    const std::int64_t width = outputs.size() / n;
    std::vector<std::int64_t> answers(static_cast<std::size_t>(n));
    const DType t = outputs.dtype();
    const bool integer = t != DType::f32 && t != DType::f64 && t != DType::f16 && t != DType::bf16 && t != DType::boolean;
    const bool indices = integer && width == 1 && classes > 1;
    if (!indices && (outputs.rank() < 2 || outputs.shape()[1] != width || width != classes)) throw wrong();
    for (std::int64_t i = 0; i < n; ++i) {
      std::int64_t best = 0;
      if (indices) {
        best = outputs.int_at(i);
        if (best < 0 || best >= classes) throw bad_input("output {} is class {}", i, best).at(d.name).expected(fmt::format("0 to {}", classes - 1));
      } else if (integer) {
        for (std::int64_t k = 1; k < width; ++k)
          if (outputs.int_at(i * width + k) > outputs.int_at(i * width + best)) best = k;
      } else {
        for (std::int64_t k = 0; k < width; ++k) {
          const double v = outputs.at(i * width + k);
          if (std::isnan(v)) throw bad_input("output {} of sample {} is NaN", k, i).at(d.name);
          if (v > outputs.at(i * width + best)) best = k;
        }
      }
      answers[static_cast<std::size_t>(i)] = best;
    }
    return answers;
  }
};

}  // namespace

const std::vector<const Task*>& list_tasks() {
  static const Classification classification;
  static const std::vector<const Task*> tasks{&classification};
  return tasks;
}

const Task& find_task(std::string_view name) {
  std::vector<std::string> names;
  for (const Task* t : list_tasks()) {
    if (t->name() == name) return *t;
    names.emplace_back(t->name());
  }
  throw bad_input("'{}' is not a task", printable(name)).fix(suggest(name, names));
}

}  // namespace tandem::tasks
