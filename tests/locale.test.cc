// The whole suite also runs under other locales (./x test --full): TANDEM_TEST_LOCALE is set before any test.
#include <gtest/gtest.h>

#include <clocale>
#include <cstdlib>
#include <locale>
#include <stdexcept>
#include <string>

namespace {

class LocaleOfTheRun : public ::testing::Environment {
 public:
  void SetUp() override {
    const char* wanted = std::getenv("TANDEM_TEST_LOCALE");
    if (!wanted || !*wanted) return;
    ASSERT_NE(std::setlocale(LC_ALL, wanted), nullptr) << "no locale " << wanted;
    std::locale::global(std::locale(wanted));
  }
};
[[maybe_unused]] const auto* const kLocale = ::testing::AddGlobalTestEnvironment(new LocaleOfTheRun);

TEST(Locale, IsTheOneAskedFor) {
  const char* wanted = std::getenv("TANDEM_TEST_LOCALE");
  if (!wanted || !*wanted) GTEST_SKIP() << "TANDEM_TEST_LOCALE is not set";
  EXPECT_EQ(std::string(std::setlocale(LC_ALL, nullptr)).find(wanted), 0u);
  if (std::string(wanted).starts_with("de_")) {
    EXPECT_STREQ(std::localeconv()->decimal_point, ",");
  }
}

}  // namespace
