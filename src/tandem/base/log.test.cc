#include "tandem/base/log.h"

#include <gtest/gtest.h>

#include "tandem/base/error.h"

namespace tandem {
namespace {

TEST(Log, LevelsAndHostileNames) {
  const LogLevel before = log_level();
  set_log_level(LogLevel::warning);
  testing::internal::CaptureStderr();
  log_info("not shown");
  log_warning("layer {} {{}}", "\x1b[2Jx");
  log_line(LogLevel::error, "braces {} stay");
  const std::string text = testing::internal::GetCapturedStderr();
  set_log_level(before);
  EXPECT_EQ(text.find("not shown"), std::string::npos);
  EXPECT_NE(text.find("layer \\x1b[2Jx {}"), std::string::npos) << text;
  EXPECT_NE(text.find("braces {} stay"), std::string::npos) << text;
  EXPECT_EQ(parse_log_level("off"), LogLevel::off);
  EXPECT_THROW(parse_log_level("warn ing"), Error);
}

}  // namespace
}  // namespace tandem
