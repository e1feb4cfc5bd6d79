#include "tandem/base/sha256.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

// FIPS 180-4 examples.
TEST(Sha256, known_sums) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  // All lengths of 0 .. 199: the sum of their sums, as another implementation (Python hashlib) gives it.
  std::string all;
  for (std::size_t n = 0; n < 200; ++n) all += sha256_hex(std::string(n, static_cast<char>(n)));
  EXPECT_EQ(sha256_hex(all), "c86ce814ed1233ab1d4b273da1b6b13765cd39e72e81ce941452479e70ff1b10");
}

TEST(Sha256, base64_of_rfc_4648) {
  for (auto [plain, coded] : {std::pair{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}})
    EXPECT_EQ(base64(plain), coded);
  EXPECT_EQ(base64("\xfb\xff\x00"), "+/8=");  // the literal ends at the zero
}

}  // namespace
}  // namespace tandem
