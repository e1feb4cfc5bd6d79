#include "tandem/base/progress.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(Progress, LineEstimatesOnlyAfterTwoSeconds) {
  EXPECT_EQ(Progress::line("train", 10, 40, 1.0, ""), "train 10/40  25 %");
  EXPECT_EQ(Progress::line("train", 10, 40, 20.0, "loss 0.3"), "train 10/40  25 %  ETA 1:00  loss 0.3");
  EXPECT_EQ(Progress::line("read", 7, 0, 9.0, ""), "read 7");
}
TEST(Progress, ControlCharactersOfNotesAreMadeVisible) {
  EXPECT_EQ(Progress::line("x", 1, 2, 0, "a\x1b[31m").find('\x1b'), std::string::npos);
}
TEST(Progress, SilentInPipes) {
  testing::internal::CaptureStderr();
  {
    Progress p("x", 3);
    p.update(1);
    p.update(3);
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace tandem
