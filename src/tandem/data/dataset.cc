#include "tandem/data/dataset.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <sstream>

#include "tandem/base/file.h"
#include "tandem/base/nearest.h"
#include "tandem/base/rng.h"
#include "tandem/base/share.h"
#include "tandem/tensor/npy.h"

namespace tandem::data {
namespace {
constexpr std::string_view part_words[] = {"train", "test", "valid"};
}

std::string_view to_string(Part p) { return part_words[static_cast<std::size_t>(p)]; }

Part parse_part(std::string_view s) {
  for (std::size_t i = 0; i < std::size(part_words); ++i)
    if (part_words[i] == s) return static_cast<Part>(i);
  throw bad_input("'{}' is not a part of a data set", printable(s)).fix(suggest(s, {"train", "test", "valid"}));
}

void check(const Dataset& d) {
  const auto fail = [&](std::string what) { return Error(Exit::bad_input, std::move(what)).at(d.name); };
  if (d.x.rank() < 1) throw fail("the samples are a scalar").expected("an array [n, ...]");
  const std::int64_t n = d.size();
  if (n == 0) throw fail("there are no samples");
  if (d.y.size() != 0) {
    if (d.y.rank() != 1 || d.y.shape()[0] != n)
      throw fail(fmt::format("{} samples, but labels {}", n, tandem::to_string(d.y.shape()))).expected(fmt::format("labels [{}]", n));
  }
  if (d.labelled()) {
    if (d.y.size() == 0 || d.y.dtype() != DType::i64) throw fail("class names without class indices");
    for (std::int64_t i = 0; i < n; ++i)
      if (const std::int64_t v = d.y.data<std::int64_t>()[i]; v < 0 || v >= std::ssize(d.classes))
        throw fail(fmt::format("sample {} has label {}", i, v)).expected(fmt::format("0 to {}", d.classes.size() - 1));
  }
  if (!d.part.empty() && std::ssize(d.part) != n) throw fail(fmt::format("{} samples, but a split of {}", n, d.part.size()));
  if (d.full_scale != 0) {
    if (!(d.full_scale > 0)) throw fail(fmt::format("the full scale is {}", d.full_scale));
    for (std::int64_t i = 0; i < d.x.size(); ++i)
      if (const double v = d.x.at(i); !(v >= 0 && v <= d.full_scale))
        throw fail(fmt::format("element {} is {}", i, v)).expected(fmt::format("0 to {}", d.full_scale));
  }
}

Dataset select(const Dataset& d, const std::vector<std::int64_t>& index) {
  Dataset r = d;
  const auto gather = [&](const Tensor& t) {
    if (t.size() == 0) return t;
    Shape s = t.shape();
    const std::size_t row = t.bytes() / static_cast<std::size_t>(s[0]);
    s[0] = std::ssize(index);
    Tensor g(t.dtype(), s);
    auto* out = static_cast<std::byte*>(g.raw_mutable());
    for (std::size_t i = 0; i < index.size(); ++i)
      std::memcpy(out + i * row, static_cast<const std::byte*>(t.raw()) + static_cast<std::size_t>(index[i]) * row, row);
    return g;
  };
  for (std::int64_t i : index) TANDEM_CHECK(i >= 0 && i < d.size(), "sample {} of {}", i, d.size());
  r.x = gather(d.x);
  r.y = gather(d.y);
  if (!d.part.empty()) {
    r.part.clear();
    for (std::int64_t i : index) r.part.push_back(d.part[static_cast<std::size_t>(i)]);
  }
  return r;
}

Dataset select(const Dataset& d, Part p) {
  std::vector<std::int64_t> index;
  for (std::size_t i = 0; i < d.part.size(); ++i)
    if (d.part[i] == p) index.push_back(static_cast<std::int64_t>(i));
  if (index.empty())
    throw bad_input("the data set has no part '{}'", to_string(p)).at(d.name).fix(d.part.empty() ? "no split is stored: split by a seed" : "");
  return select(d, index);
}

Split split(const Dataset& d, std::int64_t count, std::uint64_t seed) {
  const std::int64_t n = d.size();
  if (count < 0 || count > n) throw bad_input("{} samples cannot be drawn from {}", count, n).at(d.name);
  std::vector<std::vector<std::int64_t>> groups(d.labelled() ? d.classes.size() : 1);
  for (std::int64_t i = 0; i < n; ++i) groups[d.labelled() ? static_cast<std::size_t>(d.y.data<std::int64_t>()[i]) : 0].push_back(i);
  // Integers only: share = count * size / n; what is left goes to the largest remainders.
  std::vector<std::int64_t> take(groups.size()), remainder(groups.size());
  std::vector<std::size_t> order(groups.size());
  std::int64_t left = count;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const __int128 product = static_cast<__int128>(count) * std::ssize(groups[g]);
    take[g] = n == 0 ? 0 : static_cast<std::int64_t>(product / n);
    remainder[g] = n == 0 ? 0 : static_cast<std::int64_t>(product % n);
    left -= take[g];
    order[g] = g;
  }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return remainder[a] > remainder[b]; });
  for (std::size_t i = 0; left > 0; ++i, --left) ++take[order[i]];
  Split s;
  const Rng rng(seed, "data.split");
  for (std::size_t g = 0; g < groups.size(); ++g) {
    Rng stream = rng.fork(static_cast<std::uint64_t>(g));
    stream.shuffle(groups[g]);
    s.chosen.insert(s.chosen.end(), groups[g].begin(), groups[g].begin() + take[g]);
    s.rest.insert(s.rest.end(), groups[g].begin() + take[g], groups[g].end());
  }
  std::sort(s.chosen.begin(), s.chosen.end());
  std::sort(s.rest.begin(), s.rest.end());
  return s;
}

Split split(const Dataset& d, double fraction, std::uint64_t seed) {
  if (!(fraction >= 0 && fraction <= 1)) throw bad_input("a split of {} of the samples", fraction).at(d.name).expected("a fraction from 0 to 1");
  return split(d, static_cast<std::int64_t>(std::llround(fraction * static_cast<double>(d.size()))), seed);
}

const std::vector<NamedSet>& list_datasets() {
  static const std::vector<NamedSet> sets{
      {"digits", "1,797 handwritten digits of 8x8 (0..16), 10 classes; 1,297 train, 500 test; shipped"},
      {"mnist", "65,000 handwritten digits of 28x28 (0..255), 10 classes; 60,000 train, 5,000 test; from $TANDEM_DATA/mnist"},
      {"speech_commands", "4,255 spoken words of one second as 10 MFCCs x 49 frames, 12 classes, speakers apart; from $TANDEM_DATA/speech_commands_v2"},
  };
  return sets;
}

namespace {

Dataset open_digits(const Limits& limits) {
  Dataset d = read_npz_dataset(share_file("data/digits.npz"), limits);
  d.name = "digits";
  d.provenance =
      "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0: the "
      "1,797 samples of the original test file (13 writers, none of whom wrote the original training file). Split here by us: 500 "
      "test samples, stratified, seed 0; the file names no writers, so one writer's digits lie in both parts.";
  return d;
}

// A folder below $TANDEM_DATA. Error(bad_input) when it is not on this machine.
std::filesystem::path public_folder(const char* name, const char* folder, const char* expected) {
  const char* env = std::getenv("TANDEM_DATA");
  const std::filesystem::path path = std::filesystem::path(env && *env ? env : "../shared/data") / folder;
  std::error_code ec;
  if (!std::filesystem::is_directory(path, ec))
    throw bad_input("the data set '{}' is not on this machine", name).at(path.string()).expected(expected)
        .fix(fmt::format("set TANDEM_DATA to the folder that holds {}/, or use the shipped set 'digits'", folder));
  return path;
}

Dataset open_speech_commands(const Limits& limits) {
  const auto folder = public_folder("speech_commands", "speech_commands_v2", "features.npz and labels.txt");
  const auto where = folder / "features.npz";
  const Archive a = read_npz(where, limits);
  const auto array = [&](const char* name, std::int64_t rank) -> const Tensor& {
    const auto it = a.find(name);
    if (it == a.end() || it->second.rank() != rank) throw bad_input("there is no array '{}' of rank {}", name, rank).at(where.string()).expected("mfcc10 [N,49,10], label [N], split [N]");
    return it->second;
  };
  const Tensor mfcc = array("mfcc10", 3).cast(DType::f32), label = array("label", 1).cast(DType::i64), split = array("split", 1).cast(DType::i64);
  const Shape s = mfcc.shape();
  if (label.size() != s[0] || split.size() != s[0]) throw bad_input("labels and split do not have one value per clip").at(where.string()).expected(fmt::format("{} values", s[0]));
  Dataset d;
  d.name = "speech_commands";
  d.x = Tensor(DType::f32, {s[0], s[2], s[1]});  // a coefficient's course is a row
  for (std::int64_t n = 0; n < s[0]; ++n)
    for (std::int64_t t = 0; t < s[1]; ++t)
      for (std::int64_t c = 0; c < s[2]; ++c) d.x.data<float>()[(n * s[2] + c) * s[1] + t] = mfcc.data<float>()[(n * s[1] + t) * s[2] + c];
  d.y = label;
  for (std::int64_t n = 0; n < s[0]; ++n) d.part.push_back(split.data<std::int64_t>()[n] ? Part::test : Part::train);
  std::istringstream lines(read_file(folder / "labels.txt", limits));
  for (std::string line; std::getline(lines, line);)
    if (!line.empty()) d.classes.push_back(line);
  d.provenance = "Speech Commands v0.02, P. Warden, CC BY 4.0: its original test set as MFCCs of the MLPerf Tiny reference, split by speaker.";
  check(d);
  return d;
}

Dataset open_mnist(const Limits& limits) {
  namespace fs = std::filesystem;
  const fs::path folder = public_folder("mnist", "mnist", "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz and the test files");
  std::error_code ec;
  const auto file = [&](std::initializer_list<const char*> names) {
    for (const char* n : names)
      if (fs::exists(folder / n, ec)) return folder / n;
    return folder / *names.begin();
  };
  const Dataset train = read_idx_pair(file({"train-images-idx3-ubyte.gz", "train-images-idx3-ubyte"}),
                                      file({"train-labels-idx1-ubyte.gz", "train-labels-idx1-ubyte"}), limits);
  const Dataset test = read_idx_pair(file({"t10k-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte", "test5k-images-idx3-ubyte.gz"}),
                                     file({"t10k-labels-idx1-ubyte.gz", "t10k-labels-idx1-ubyte", "test5k-labels-idx1-ubyte.gz"}), limits);
  Dataset d = concatenate(train, Part::train, test, Part::test);
  d.name = "mnist";
  d.provenance = fmt::format("MNIST, Y. LeCun, C. Cortes, C. Burges, CC BY-SA 3.0: {} training samples and the first {} of the original "
                             "10,000 test samples, in the original order.", train.size(), test.size());
  return d;
}

}  // namespace

Dataset concatenate(const Dataset& a, Part pa, const Dataset& b, Part pb) {
  Shape sa = a.x.shape(), sb = b.x.shape();
  if (sa.empty() || sb.empty()) throw bad_input("samples are a scalar").at(a.name);
  sa[0] = sb[0] = 0;
  if (sa != sb || a.x.dtype() != b.x.dtype() || a.y.dtype() != b.y.dtype() || (a.y.size() == 0) != (b.y.size() == 0))
    throw bad_input("the parts differ: {} {} and {} {}", tandem::to_string(a.x.dtype()), tandem::to_string(a.x.shape()),
                    tandem::to_string(b.x.dtype()), tandem::to_string(b.x.shape()))
        .at(fmt::format("{}, {}", a.name, b.name));
  const auto join = [](const Tensor& p, const Tensor& q) {
    if (p.size() == 0 && q.size() == 0) return p;
    Shape s = p.shape();
    s[0] += q.shape()[0];
    Tensor t(p.dtype(), s);
    auto* out = static_cast<std::byte*>(t.raw_mutable());
    if (p.bytes() != 0) std::memcpy(out, p.raw(), p.bytes());
    if (q.bytes() != 0) std::memcpy(out + p.bytes(), q.raw(), q.bytes());
    return t;
  };
  Dataset d = a;
  d.x = join(a.x, b.x);
  d.y = join(a.y, b.y);
  if (b.classes.size() > a.classes.size()) d.classes = b.classes;
  d.full_scale = std::max(a.full_scale, b.full_scale);
  d.part.assign(static_cast<std::size_t>(a.size()), pa);
  d.part.insert(d.part.end(), static_cast<std::size_t>(b.size()), pb);
  return d;
}

Dataset open(const std::string& name_or_path, const Limits& limits) {
  namespace fs = std::filesystem;
  if (name_or_path == "digits") return open_digits(limits);
  if (name_or_path == "mnist") return open_mnist(limits);
  if (name_or_path == "speech_commands") return open_speech_commands(limits);
  const fs::path path = name_or_path;
  std::error_code ec;
  if (fs::is_directory(path, ec)) return read_image_folder(path, limits);
  if (name_or_path.ends_with(".npz")) return read_npz_dataset(path, limits);
  if (name_or_path.ends_with(".csv") || name_or_path.ends_with(".csv.gz")) return read_csv(path, {}, limits);
  const std::string file = path.filename().string();
  if (const auto at = file.find("images-idx3"); at != std::string::npos) {
    std::string labels = file;
    labels.replace(at, 11, "labels-idx1");
    return read_idx_pair(path, path.parent_path() / labels, limits);
  }
  std::vector<std::string> names;
  for (const auto& s : list_datasets()) names.push_back(s.name);
  throw bad_input("'{}' is not a data set", printable(name_or_path))
      .expected("a named set, .npz, .csv, IDX images (*images-idx3*), or a folder of images per class")
      .fix(suggest(name_or_path, names));
}

}  // namespace tandem::data
