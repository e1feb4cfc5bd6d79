#include "tandem/tensor/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>

#include "tandem/base/file.h"
#include "tandem/base/rng.h"

namespace tandem {
namespace {

constexpr DType all_types[] = {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i8, DType::i16, DType::i32,
                               DType::i64, DType::u8, DType::u16, DType::u32, DType::u64, DType::boolean};

std::string file_of(const std::string& header, const std::string& data) {
  const std::uint64_t n = header.size();
  return std::string(reinterpret_cast<const char*>(&n), 8) + header + data;
}
std::string refused(const std::string& bytes, const Limits& limits = {}) {
  try {
    parse_safetensors(bytes, limits, "x.safetensors");
  } catch (const Error& e) {
    EXPECT_TRUE(e.code() == Exit::bad_input || e.code() == Exit::limit) << e.full();
    EXPECT_NE(e.full().find("x.safetensors"), std::string::npos) << e.full();
    return e.full();
  }
  ADD_FAILURE() << "not refused: " << bytes.substr(8);
  return "";
}

TEST(Safetensors, RoundTripOfRandomArchives) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Rng r(seed, "safetensors");
    Archive a;
    for (std::int64_t k = r.range(0, 6); k > 0; --k) {
      Shape s;
      for (std::int64_t d = r.range(0, 4); d > 0; --d) s.push_back(r.range(r.chance(0.1) ? 0 : 1, 5));
      Tensor t(all_types[r.range(0, 12)], s);
      auto* p = static_cast<unsigned char*>(t.raw_mutable());
      for (std::size_t i = 0; i < t.bytes(); ++i) p[i] = static_cast<unsigned char>(t.dtype() == DType::boolean ? r.range(0, 1) : r.range(0, 255));
      a.emplace(fmt::format("layers.{}.\"weight\" ü", k), t);
    }
    const std::string bytes = safetensors_bytes(a);
    const Archive b = parse_safetensors(bytes);
    ASSERT_EQ(b.size(), a.size());
    for (const auto& [name, t] : a) EXPECT_TRUE(b.at(name).same(t)) << name;
    EXPECT_EQ(safetensors_bytes(b), bytes);
  }
}

// Bytes written out by hand from the format's description.
TEST(Safetensors, KnownBytes) {
  const float v[2] = {1.5f, -2};
  std::string data(reinterpret_cast<const char*>(v), 8);
  data += std::string("\x07\x00", 2);
  const Archive a = parse_safetensors(file_of(R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"a":{"dtype":"I16","shape":[],"data_offsets":[8,10]}}  )", data));
  EXPECT_EQ(a.at("b").shape(), (Shape{2, 1}));
  EXPECT_EQ(a.at("b").at(1), -2);
  EXPECT_EQ(a.at("a").int_at(0), 7);
}

TEST(Safetensors, BadFiles) {
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", data(8, '\0');
  EXPECT_NO_THROW(parse_safetensors(file_of(good, data)));
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string s = good;
    return file_of(s.replace(s.find(from), from.size(), to), data);
  };
  EXPECT_NE(refused("").find("0 bytes"), std::string::npos);
  EXPECT_NE(refused(std::string(8, '\xff')).find("a header of"), std::string::npos);
  EXPECT_NE(refused(file_of(good, data.substr(1))).find("truncated"), std::string::npos);
  EXPECT_NE(refused(file_of(good, data + "x")).find("left over"), std::string::npos);
  EXPECT_NE(refused(with("F32", "F8_E4M3")).find("elements of type F8_E4M3"), std::string::npos);
  EXPECT_NE(refused(with("[2]", "[-2]")).find("an extent of -2"), std::string::npos);
  EXPECT_NE(refused(with("[2]", "[4294967296, 4294967296]")).find("elements of"), std::string::npos);
  EXPECT_NE(refused(with("[0,8]", "[8,0]")).find("data_offsets"), std::string::npos);
  EXPECT_NE(refused(with("[0,8]", "[0,9]")).find("data_offsets"), std::string::npos);
  EXPECT_NE(refused(with("[0,8]", "[0,18446744073709551615]")).find("data_offsets"), std::string::npos);
  EXPECT_NE(refused(with("\"shape\":[2],", "")).find("shape"), std::string::npos);
  EXPECT_NE(refused(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "abcd")).find("without holes"), std::string::npos);
  EXPECT_NE(refused(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", data)).find("without holes"), std::string::npos);
  EXPECT_NE(refused(file_of(R"({"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}})", "\x02")).find("booleans"), std::string::npos);
  EXPECT_NE(refused(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", data)).find("a"), std::string::npos);
  refused(file_of(R"([1, 2])", data));
  refused(file_of("{\"a\": " + std::string(5000, '['), data));
  Limits small;
  small.memory_bytes = 4;
  EXPECT_NE(refused(file_of(good, data), small).find("--memory"), std::string::npos);
}

TEST(Safetensors, ArraysByContent) {
  const std::filesystem::path p = std::filesystem::temp_directory_path() / fmt::format("tandem_arrays_{}", ::getpid());
  const Archive a{{"w", Tensor::of<float>({2}, std::vector<float>{1, 2})}};
  for (const std::string& bytes : {safetensors_bytes(a), npz_bytes(a)}) {
    write_file(p, bytes);
    EXPECT_TRUE(read_arrays(p).at("w").same(a.at("w")));
  }
  write_file(p, npy_bytes(a.at("w")));
  EXPECT_TRUE(read_arrays(p).at("array").same(a.at("w")));
  write_file(p, "no arrays");
  EXPECT_THROW(read_arrays(p), Error);
  std::filesystem::remove(p);
}

}  // namespace
}  // namespace tandem
