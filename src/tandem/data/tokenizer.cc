#include "tandem/data/tokenizer.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>

#include "tandem/base/error.h"
#include "tandem/base/file.h"

namespace tandem::data {
namespace {

constexpr std::int64_t kBegin = 1, kEnd = 2, kFirstByte = 3;

// The byte that a piece such as "<0x0A>" stands for.
std::optional<char> byte_of(const std::string& piece) {
  unsigned v = 0;
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>' || std::from_chars(piece.data() + 3, piece.data() + 5, v, 16).ptr != piece.data() + 5) return std::nullopt;
  return static_cast<char>(v);
}

}  // namespace

Tokenizer Tokenizer::parse(std::string_view bytes, std::int64_t vocabulary, const Limits& limits) {
  Tokenizer t;
  std::size_t at = 4;
  std::int32_t longest = 0;
  const auto damaged = [&](const std::string& what) {
    return bad_input("{} at byte {} of {}", what, at, bytes.size()).expected("a llama2.c tokenizer: longest length, then score, length and bytes of each token").fix("copy or export it again, or state the model's own vocabulary");
  };
  if (bytes.size() < 4) throw damaged("the file ends");
  std::memcpy(&longest, bytes.data(), 4);
  if (longest < 1 || longest > static_cast<std::int64_t>(limits.name_bytes)) throw damaged(fmt::format("a longest token of {} bytes", longest));
  while (vocabulary > 0 ? t.size() < vocabulary : at < bytes.size()) {
    float score = 0;
    std::int32_t length = 0;
    if (bytes.size() - at < 8) throw damaged(fmt::format("the file ends in token {}", t.size()));
    std::memcpy(&score, bytes.data() + at, 4);
    std::memcpy(&length, bytes.data() + at + 4, 4);
    if (length < 0 || length > static_cast<std::int32_t>(limits.name_bytes) || static_cast<std::size_t>(length) > bytes.size() - at - 8) throw damaged(fmt::format("token {} of {} bytes", t.size(), length));
    if (!std::isfinite(score)) throw damaged(fmt::format("the score of token {} is not finite", t.size()));
    if (static_cast<std::uint64_t>(t.size()) >= limits.nodes) throw Error(Exit::limit, fmt::format("more than {} tokens", limits.nodes));
    at += 8;
    t.ids_.emplace(std::string(bytes.substr(at, static_cast<std::size_t>(length))), t.size());  // the first of equal pieces
    t.pieces_.emplace_back(bytes.substr(at, static_cast<std::size_t>(length)));
    t.scores_.push_back(score);
    at += static_cast<std::size_t>(length);
  }
  if (at != bytes.size()) throw damaged(fmt::format("bytes are left over behind {} tokens", t.size()));
  if (t.size() < kFirstByte + 256) throw damaged(fmt::format("only {} tokens: no token for every byte", t.size()));
  return t;
}

Tokenizer Tokenizer::read(const std::filesystem::path& path, std::int64_t vocabulary, const Limits& limits) {
  const std::string bytes = read_file(path, limits);
  try {
    return parse(bytes, vocabulary, limits);
  } catch (Error& e) {
    throw e.at(path.string());
  }
}

std::vector<std::int64_t> Tokenizer::encode(std::string_view text) const {
  std::vector<std::int64_t> ids{kBegin};
  if (text.empty()) return ids;
  if (const auto blank = ids_.find(" "); blank != ids_.end()) ids.push_back(blank->second);
  for (std::size_t i = 0; i < text.size();) {
    std::size_t n = 1;
    while (n < 4 && i + n < text.size() && (static_cast<unsigned char>(text[i + n]) & 0xC0) == 0x80) ++n;  // a character of UTF-8
    if (const auto it = ids_.find(std::string(text.substr(i, n))); it != ids_.end()) ids.push_back(it->second);
    else
      for (std::size_t k = 0; k < n; ++k) ids.push_back(kFirstByte + static_cast<unsigned char>(text[i + k]));
    i += n;
  }
  for (;;) {
    float best = -INFINITY;
    std::size_t where = 0;
    std::int64_t joined = -1;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto it = ids_.find(pieces_[static_cast<std::size_t>(ids[i])] + pieces_[static_cast<std::size_t>(ids[i + 1])]);
      if (it != ids_.end() && scores_[static_cast<std::size_t>(it->second)] > best) best = scores_[static_cast<std::size_t>(it->second)], where = i, joined = it->second;
    }
    if (joined < 0) return ids;
    ids[where] = joined;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(where) + 1);
  }
}

std::string Tokenizer::decode(std::span<const std::int64_t> ids) const {
  std::string text;
  bool first = false;
  for (const std::int64_t id : ids) {
    if (id < 0 || id >= size()) throw bad_input("token {}", id).expected(fmt::format("0 to {}", size() - 1)).fix("the tokenizer of the model");
    if (id == kBegin || id == kEnd) {
      first = id == kBegin;
      continue;
    }
    const std::string& piece = pieces_[static_cast<std::size_t>(id)];
    if (const auto b = byte_of(piece)) text += *b;
    else text += first && piece.starts_with(' ') ? piece.substr(1) : piece;
    first = false;
  }
  return text;
}

}  // namespace tandem::data
