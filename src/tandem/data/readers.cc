#include <zlib.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <set>

#include "tandem/base/file.h"
#include "tandem/data/dataset.h"
#include "tandem/tensor/npy.h"

namespace tandem::data {
namespace {

// The content of a gzip file, or the bytes themselves when they are not gzipped.
std::string gunzip(std::string bytes, const Limits& limits, const std::string& where) {
  if (!bytes.starts_with("\x1f\x8b")) return bytes;
  z_stream z{};
  if (inflateInit2(&z, 15 + 16) != Z_OK) throw Error(Exit::limit, "no memory to unpack").at(where);
  struct End {
    z_stream& z;
    ~End() { inflateEnd(&z); }
  } end{z};
  std::string out;
  std::string chunk(1 << 18, '\0');
  std::size_t in = 0;
  int rc = Z_OK;
  for (;;) {
    if (z.avail_in == 0 && in < bytes.size()) {
      const std::size_t n = std::min<std::size_t>(bytes.size() - in, 1u << 30);
      z.next_in = reinterpret_cast<Bytef*>(bytes.data() + in);
      z.avail_in = static_cast<uInt>(n);
      in += n;
    }
    z.next_out = reinterpret_cast<Bytef*>(chunk.data());
    z.avail_out = static_cast<uInt>(chunk.size());
    rc = inflate(&z, Z_NO_FLUSH);
    out.append(chunk.data(), chunk.size() - z.avail_out);
    if (out.size() > limits.memory_bytes ||
        (out.size() > (1u << 20) && static_cast<double>(out.size()) > limits.compression_ratio * static_cast<double>(bytes.size())))
      throw Error(Exit::limit, fmt::format("{} bytes unpack to more than {}", bytes.size(), out.size())).at(where).fix(
          "raise the limit with --memory when the file is trusted");
    if (rc == Z_STREAM_END) {
      if (z.avail_in == 0 && in == bytes.size()) return out;
      if (inflateReset(&z) != Z_OK) break;  // a further gzip member follows
      continue;
    }
    if (rc == Z_BUF_ERROR || (rc == Z_OK && z.avail_in == 0 && in == bytes.size() && z.avail_out != 0))
      throw bad_input("the gzip data ends early, after {} unpacked bytes", out.size()).at(where).fix("the file is truncated; fetch it again");
    if (rc != Z_OK) break;
  }
  throw bad_input("the gzip data is damaged: {}", z.msg ? z.msg : "unknown reason").at(where);
}

std::vector<std::string> numbered(std::int64_t n) {
  std::vector<std::string> v;
  for (std::int64_t i = 0; i < n; ++i) v.push_back(std::to_string(i));
  return v;
}

// Integer labels as i64 with their classes; an Error for labels below 0 or absurdly large.
void set_labels(Dataset& d, const Tensor& y, const Limits& limits) {
  if (y.dtype() == DType::f32 || y.dtype() == DType::f64 || y.dtype() == DType::f16 || y.dtype() == DType::bf16) {
    d.y = y.cast(DType::f32);
    return;
  }
  d.y = y.cast(DType::i64);
  std::int64_t top = -1;
  for (std::int64_t v : d.y.values<std::int64_t>()) {
    if (v < 0 || v > static_cast<std::int64_t>(std::min<std::uint64_t>(limits.nodes, 65535)))
      throw bad_input("a label is {}", v).at(d.name).expected("class indices from 0 to 65535");
    top = std::max(top, v);
  }
  d.classes = numbered(top + 1);
}

std::optional<double> number(std::string_view s) {
  if (s.starts_with('+')) s.remove_prefix(1);
  double v = 0;
  const auto [end, e] = std::from_chars(s.data(), s.data() + s.size(), v);
  if (e != std::errc() || end != s.data() + s.size() || !std::isfinite(v)) return {};
  return v;
}

std::string_view trim(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

}  // namespace

Tensor read_idx(const std::filesystem::path& path, const Limits& limits) {
  const std::string where = path.string();
  const std::string bytes = gunzip(read_file(path, limits), limits, where);
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  if (bytes.size() < 4 || byte(0) != 0 || byte(1) != 0)
    throw bad_input("this is not an IDX file").at(where).expected("two zero bytes, a type, a rank");
  static const std::map<int, DType> types{{0x08, DType::u8}, {0x09, DType::i8}, {0x0b, DType::i16}, {0x0c, DType::i32}, {0x0d, DType::f32}, {0x0e, DType::f64}};
  const auto it = types.find(byte(2));
  if (it == types.end()) throw bad_input("the IDX file has the unknown type {:#04x}", int{byte(2)}).at(where);
  const std::size_t rank = byte(3), start = 4 + 4 * rank;
  if (bytes.size() < start) throw bad_input("the IDX header ends early: {} bytes of {}", bytes.size(), start).at(where);
  Shape shape;
  for (std::size_t a = 0; a < rank; ++a) {
    std::int64_t e = 0;
    for (std::size_t i = 0; i < 4; ++i) e = e << 8 | byte(4 + 4 * a + i);
    shape.push_back(e);
  }
  std::uint64_t size = 0;
  try {
    const auto count = static_cast<std::uint64_t>(element_count(shape));
    if (count > limits.elements) throw Error(Exit::limit, fmt::format("{} elements", count));
    size = Limits::product(count, size_of(it->second), limits.memory_bytes, "bytes of the array");
  } catch (const Error& e) {
    throw Error(e).at(where);
  }
  if (bytes.size() - start != size)
    throw bad_input("the IDX array {} of {} needs {} bytes, {} are there", tandem::to_string(shape), tandem::to_string(it->second), size, bytes.size() - start)
        .at(where);
  Tensor t(it->second, shape);
  if (size == 0) return t;
  auto* out = static_cast<std::byte*>(t.raw_mutable());
  std::memcpy(out, bytes.data() + start, size);
  if (const std::size_t w = size_of(it->second); w > 1)
    for (std::size_t i = 0; i < size; i += w) std::reverse(out + i, out + i + w);
  return t;
}

Dataset read_idx_pair(const std::filesystem::path& images, const std::filesystem::path& labels, const Limits& limits) {
  Dataset d;
  d.name = images.string();
  d.x = read_idx(images, limits);
  const Tensor y = read_idx(labels, limits);
  if (y.rank() != 1 || d.x.rank() < 1 || y.shape()[0] != d.x.shape()[0])
    throw bad_input("images {} and labels {} do not belong together", tandem::to_string(d.x.shape()), tandem::to_string(y.shape()))
        .at(fmt::format("{}, {}", images.string(), labels.string()));
  if (d.x.dtype() == DType::u8) d.full_scale = 255;
  set_labels(d, y, limits);
  check(d);
  return d;
}

Dataset read_csv(const std::filesystem::path& path, const CsvParams& params, const Limits& limits) {
  Dataset d;
  d.name = path.string();
  std::string text = gunzip(read_file(path, limits), limits, d.name);
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
  const auto line_error = [&](std::size_t line, std::string what) {
    return Error(Exit::bad_input, std::move(what)).at(fmt::format("{}:{}", d.name, line));
  };

  // Rows of fields; a quoted field may hold separators, quotes ("") and line ends.
  std::vector<std::vector<std::string>> rows;
  std::vector<std::size_t> lines;
  std::size_t i = 0, line = 1;
  std::uint64_t fields = 0;
  while (i < text.size()) {
    std::vector<std::string> row;
    const std::size_t first_line = line;
    bool end = false, quoted_any = false;
    while (!end) {
      std::string field;
      std::size_t j = i;
      while (j < text.size() && (text[j] == ' ' || text[j] == '\t') && text[j] != params.separator) ++j;
      if (j < text.size() && text[j] == '"') {
        quoted_any = true;
        i = j + 1;
        for (;; ++i) {
          if (i >= text.size()) throw line_error(first_line, "a quoted field does not end");
          if (text[i] == '"') {
            if (i + 1 < text.size() && text[i + 1] == '"') ++i;
            else break;
          }
          line += text[i] == '\n';
          field += text[i];
        }
        ++i;
        while (i < text.size() && (text[i] == ' ' || text[i] == '\t') && text[i] != params.separator) ++i;
        if (i < text.size() && text[i] != params.separator && text[i] != '\n' && text[i] != '\r')
          throw line_error(line, "text after a quoted field");
      } else {
        const std::size_t begin = i;
        while (i < text.size() && text[i] != params.separator && text[i] != '\n' && text[i] != '\r') ++i;
        field = trim(std::string_view(text).substr(begin, i - begin));
      }
      if (++fields > limits.elements) throw Error(Exit::limit, fmt::format("more than {} fields", limits.elements)).at(d.name);
      row.push_back(std::move(field));
      if (i < text.size() && text[i] == params.separator) {
        ++i;
        continue;
      }
      end = true;
      if (i < text.size() && text[i] == '\r') ++i;
      if (i < text.size() && text[i] == '\n') ++i;
      ++line;
    }
    if (row.size() == 1 && row[0].empty() && !quoted_any) continue;  // an empty line
    if (!rows.empty() && row.size() != rows[0].size())
      throw line_error(first_line, fmt::format("the line has {} fields", row.size())).expected(fmt::format("{} as in line {}", rows[0].size(), lines[0]));
    rows.push_back(std::move(row));
    lines.push_back(first_line);
  }
  if (rows.empty()) throw bad_input("the table is empty").at(d.name);
  std::vector<std::string> header;
  if (std::none_of(rows[0].begin(), rows[0].end(), [](const std::string& f) { return number(f).has_value(); })) {
    header = std::move(rows[0]);
    rows.erase(rows.begin());
    lines.erase(lines.begin());
    if (rows.empty()) throw bad_input("the table has a header and no rows").at(d.name);
  }
  const std::size_t columns = rows[0].size();
  std::size_t label = params.no_label ? columns : columns - 1;
  if (!params.no_label && !params.label.empty()) {
    const auto at = std::find(header.begin(), header.end(), params.label);
    std::size_t index = 0;
    const auto [end, e] = std::from_chars(params.label.data(), params.label.data() + params.label.size(), index);
    if (at != header.end()) label = static_cast<std::size_t>(at - header.begin());
    else if (e == std::errc() && end == params.label.data() + params.label.size() && index < columns) label = index;
    else
      throw bad_input("the table has no column '{}'", printable(params.label)).at(d.name)
          .expected(header.empty() ? fmt::format("a number from 0 to {}", columns - 1) : fmt::format("one of {}", printable(fmt::format("{}", fmt::join(header, ", ")))));
  } else if (!params.no_label) {
    for (const char* word : {"label", "class", "target", "y"})
      if (const auto at = std::find(header.begin(), header.end(), word); at != header.end()) {
        label = static_cast<std::size_t>(at - header.begin());
        break;
      }
  }
  const std::size_t features = columns - (label < columns);
  if (features == 0) throw bad_input("the table has a label column and nothing else").at(d.name);
  for (std::size_t c = 0; c < header.size(); ++c)
    if (c != label) d.features.push_back(header[c]);
  d.x = Tensor(DType::f32, {std::ssize(rows), static_cast<std::int64_t>(features)});
  float* x = d.x.data<float>();
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (std::size_t c = 0; c < columns; ++c) {
      if (c == label) continue;
      const auto v = number(rows[r][c]);
      if (!v) throw line_error(lines[r], fmt::format("field {} is '{}'", c + 1, printable(rows[r][c].substr(0, 80)))).expected("a number");
      *x++ = static_cast<float>(*v);
    }
  if (label < columns) {
    bool integers = true, numbers = true;
    for (const auto& row : rows) {
      const auto v = number(row[label]);
      numbers = numbers && v;
      integers = integers && v && *v >= 0 && *v == std::floor(*v) && *v <= 65535;
    }
    if (integers) {
      Tensor y(DType::i64, {std::ssize(rows)});
      for (std::size_t r = 0; r < rows.size(); ++r) y.data<std::int64_t>()[r] = static_cast<std::int64_t>(*number(rows[r][label]));
      set_labels(d, y, limits);
    } else if (numbers) {
      d.y = Tensor(DType::f32, {std::ssize(rows)});
      for (std::size_t r = 0; r < rows.size(); ++r) d.y.data<float>()[r] = static_cast<float>(*number(rows[r][label]));
    } else {
      std::map<std::string, std::int64_t> index;
      for (std::size_t r = 0; r < rows.size(); ++r) {
        if (rows[r][label].empty()) throw line_error(lines[r], "the label is empty");
        index.emplace(rows[r][label], 0);
      }
      if (index.size() > 65536) throw bad_input("the label column has {} different words", index.size()).at(d.name);
      for (auto& [name, k] : index) k = std::ssize(d.classes), d.classes.push_back(name);
      d.y = Tensor(DType::i64, {std::ssize(rows)});
      for (std::size_t r = 0; r < rows.size(); ++r) d.y.data<std::int64_t>()[r] = index.at(rows[r][label]);
    }
  }
  check(d);
  return d;
}

Dataset read_npz_dataset(const std::filesystem::path& path, const Limits& limits) {
  Archive a = read_npz(path, limits);
  const auto take = [&](const char* name, bool required) -> Tensor {
    const auto it = a.find(name);
    if (it != a.end()) return it->second;
    if (!required) return {};
    std::vector<std::string> names;
    for (const auto& [n, t] : a) names.push_back(n);
    throw bad_input("the archive has no array '{}'; it has: {}", name, printable(fmt::format("{}", fmt::join(names, ", "))))
        .at(path.string())
        .expected("x and y [split, full_scale], or x_train, y_train, x_test, y_test");
  };
  const auto scale = [&](Dataset& d) {
    const Tensor s = take("full_scale", false);
    if (a.contains("full_scale")) {
      if (s.size() != 1) throw bad_input("full_scale has shape {}", tandem::to_string(s.shape())).at(path.string()).expected("one number");
      d.full_scale = s.at(0);
    } else if (d.x.dtype() == DType::u8) {
      d.full_scale = 255;
    }
  };
  const auto half = [&](const char* x, const char* y) {
    Dataset d;
    d.name = path.string();
    d.x = take(x, true);
    if (const Tensor labels = take(y, false); labels.size() != 0) {
      const bool column = labels.rank() == 2 && labels.shape()[1] == 1;  // Keras stores labels as [n, 1]
      set_labels(d, column ? labels.reshaped({labels.shape()[0]}) : labels, limits);
    }
    scale(d);
    check(d);
    return d;
  };
  if (a.contains("x_train")) {
    Dataset d = concatenate(half("x_train", "y_train"), Part::train, half("x_test", "y_test"), Part::test);
    check(d);
    return d;
  }
  Dataset d = half("x", "y");
  if (a.contains("split")) {
    const Tensor s = take("split", true);
    for (std::int64_t i = 0; i < s.size(); ++i) {
      if (const std::int64_t v = s.int_at(i); v < 0 || v > 2)
        throw bad_input("sample {} has split {}", i, v).at(d.name).expected("0 train, 1 test or 2 valid");
      d.part.push_back(static_cast<Part>(s.int_at(i)));
    }
    check(d);
  }
  return d;
}

}  // namespace tandem::data
