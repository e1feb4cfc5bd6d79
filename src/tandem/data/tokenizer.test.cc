#include "tandem/data/tokenizer.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tandem/base/error.h"
#include "tandem/base/rng.h"

namespace tandem::data {
namespace {

std::string file_of(const std::vector<std::pair<std::string, float>>& tokens) {
  std::int32_t longest = 1;
  for (const auto& [p, s] : tokens) longest = std::max(longest, static_cast<std::int32_t>(p.size()));
  std::string b(reinterpret_cast<const char*>(&longest), 4);
  for (const auto& [p, s] : tokens) {
    const auto n = static_cast<std::int32_t>(p.size());
    b.append(reinterpret_cast<const char*>(&s), 4).append(reinterpret_cast<const char*>(&n), 4).append(p);
  }
  return b;
}
std::vector<std::pair<std::string, float>> base() {
  std::vector<std::pair<std::string, float>> t{{"<unk>", 0}, {"<s>", 0}, {"</s>", 0}};
  for (int i = 0; i < 256; ++i) t.emplace_back(fmt::format("<0x{:02X}>", i), 0.f);
  return t;
}

TEST(Tokenizer, JoinsByScore) {
  auto t = base();
  for (const char* p : {" ", "a", "b", "c"}) t.emplace_back(p, -10.f);  // 259 ..
  t.emplace_back("ab", -1.f), t.emplace_back("bc", 2.f), t.emplace_back(" a", 1.f), t.emplace_back("abc", 3.f);
  const Tokenizer k = Tokenizer::parse(file_of(t));
  EXPECT_EQ(k.size(), 267);
  EXPECT_EQ(k.encode("abc"), (std::vector<std::int64_t>{1, 259, 266}));  // bc first, then a and bc: better than " a"
  EXPECT_EQ(k.encode("cab"), (std::vector<std::int64_t>{1, 259, 262, 263}));
  EXPECT_EQ(k.encode("aü"), (std::vector<std::int64_t>{1, 265, 3 + 0xC3, 3 + 0xBC}));
  EXPECT_EQ(k.encode(""), (std::vector<std::int64_t>{1}));
}

TEST(Tokenizer, DecodeGivesTheTextBack) {
  auto t = base();
  t.emplace_back(" ", -1.f), t.emplace_back("th", -2.f), t.emplace_back("the", -3.f), t.emplace_back("t", -4.f), t.emplace_back("h", -4.f), t.emplace_back("e", -4.f);
  const Tokenizer k = Tokenizer::parse(file_of(t));
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Rng r(seed, "text");
    std::string text;
    for (std::int64_t n = r.range(0, 30); n > 0; --n) text += r.chance(0.5) ? "the"[r.range(0, 2)] : static_cast<char>(r.range(0, 255));
    EXPECT_EQ(k.decode(k.encode(text)), text) << seed;
  }
}

TEST(Tokenizer, BadFiles) {
  const std::string good = file_of(base());
  EXPECT_NO_THROW(Tokenizer::parse(good));
  EXPECT_NO_THROW(Tokenizer::parse(good, 259));
  const auto refused = [](const std::string& b, std::int64_t n = 0) {
    try {
      Tokenizer::parse(b, n);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input);
      EXPECT_FALSE(e.fix().empty());
      return;
    }
    ADD_FAILURE() << "not refused";
  };
  for (const std::size_t cut : {std::size_t{0}, std::size_t{3}, std::size_t{4}, good.size() - 1, good.size() - 7}) refused(good.substr(0, cut));
  refused(good + "x"), refused(good, 260), refused(good, 258);
  std::string s = good;
  s[8] = '\xff', s[11] = '\x7f';  // a length beyond the file
  refused(s);
  s = good, s[11] = '\xff';
  refused(s);
  s = good;
  std::memcpy(s.data() + 4, "\0\0\x80\x7f", 4);  // an infinite score
  refused(s);
  refused(file_of({{"a", 0.f}}));
}

}  // namespace
}  // namespace tandem::data
