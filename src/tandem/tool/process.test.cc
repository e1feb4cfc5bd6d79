#include "tandem/tool/process.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>

#include "tandem/base/file.h"
#include "tandem/tool/find.h"
#include "tandem/tool/work.h"

namespace tandem::tool {
namespace {
namespace fs = std::filesystem;

Error error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e;
  }
  return Error(Exit::done, "no error");
}

// A shell script of the test, in the work folder.
ProcessResult sh(const WorkFolder& w, const std::string& script, const std::function<void(Process&)>& change = {}, const Cancel& cancel = Cancel::never()) {
  w.put("script.sh", script);
  Process p;
  p.argv = {"/bin/sh", "script.sh"};
  p.folder = w.path();
  p.seconds = 30;
  if (change) change(p);
  return p.run(cancel);
}

TEST(Process, OutputExitCodeInputAndEnvironment) {
  const WorkFolder w;
  ::setenv("TANDEM_SECRET", "secret", 1);
  const auto r = sh(w, "cat; echo err >&2; env | sort; pwd; exit 3", [](Process& p) {
    p.input = std::string(300000, 'x') + "\n";  // more than a pipe holds
    p.env["SEED"] = "7";
  });
  ::unsetenv("TANDEM_SECRET");
  EXPECT_EQ(r.exit_code, 3);
  EXPECT_FALSE(r.ok());
  EXPECT_EQ(r.err, "err\n");
  EXPECT_EQ(r.out.substr(0, 300001), std::string(300000, 'x') + "\n");
  EXPECT_NE(r.out.find("LC_ALL=C\n"), std::string::npos);
  EXPECT_NE(r.out.find("SEED=7\n"), std::string::npos);
  EXPECT_NE(r.out.find("HOME=" + w.path().string() + "\n"), std::string::npos);
  EXPECT_EQ(r.out.find("secret"), std::string::npos);
  EXPECT_TRUE(r.out.ends_with("\n" + fs::canonical(w.path()).string() + "\n")) << r.out.substr(300000);
  EXPECT_NE(r.summary().find("exit code 3"), std::string::npos);
}

TEST(Process, ArgumentsAreNotAShell) {
  const WorkFolder w;
  Process p;
  p.argv = {"/bin/echo", "$HOME; touch x", "`id`", "a  b", "-n", "é"};
  p.folder = w.path();
  EXPECT_EQ(p.run().out, "$HOME; touch x `id` a  b -n é\n");
  EXPECT_FALSE(w.has("x"));
}

TEST(Process, ControlCharactersAreRefused) {
  const WorkFolder w;
  for (const char* bad : {"a\n!touch x\n.v", "a\x1b[2J", "\x7f"}) {
    Process p;
    p.argv = {"/bin/echo", bad};
    p.folder = w.path();
    EXPECT_EQ(error_of([&] { p.run(); }).code(), Exit::bad_input);
    p.argv = {"/bin/echo"};
    p.env["X"] = bad;
    EXPECT_EQ(error_of([&] { p.run(); }).code(), Exit::bad_input);
  }
  for (const char* bad : {"", "../a", "a/../b", "/etc/passwd", "a\nb", "-o", "a b", "a;b", ".hidden", "a//b", "a/", "x/-o", "ä"})
    EXPECT_EQ(error_of([&] { require_safe_name(bad); }).code(), Exit::bad_input) << bad;
  for (const char* good : {"a.v", "rtl/top-1.v", "_x", "9.hex"}) require_safe_name(good);
  for (const char* bad : {"", "1a", "a b", "a$b", "a\n", "\\top "})
    EXPECT_EQ(error_of([&] { require_identifier(bad); }).code(), Exit::bad_input) << bad;
  require_identifier("_top_1");
}

TEST(Process, OutputBeyondTheLimitIsDropped) {
  const WorkFolder w;
  const auto r = sh(w, "head -c 5000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 0", [](Process& p) { p.output_bytes = 1000; });
  EXPECT_TRUE(r.ok());
  EXPECT_EQ(r.out.size(), 1000u);
  EXPECT_EQ(r.err.size(), 1000u);
  EXPECT_EQ(r.dropped_bytes, 8000000u - 2000u);
}

// A child of the group writes a heartbeat; after the timeout it must stop.
TEST(Process, TimeoutKillsTheWholeGroup) {
  const WorkFolder w;
  const auto r = sh(w, "(while :; do echo x >> beat; sleep 0.02; done) &\nwhile :; do sleep 0.05; done", [](Process& p) { p.seconds = 0.5; });
  EXPECT_TRUE(r.timed_out);
  EXPECT_FALSE(r.ok());
  EXPECT_FALSE(r.out_of_limits);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const auto size = fs::file_size(w / "beat");
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(fs::file_size(w / "beat"), size);
  EXPECT_GT(size, 0u);
}

TEST(Process, WhatStaysBehindIsKilledAtTheEnd) {
  const WorkFolder w;
  const auto r = sh(w, "(while :; do echo x >> beat; sleep 0.02; done) &\nsleep 0.2; exit 0");
  EXPECT_TRUE(r.ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const auto size = fs::file_size(w / "beat");
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(fs::file_size(w / "beat"), size);
}

TEST(Process, CancelKillsAndThrows) {
  const WorkFolder w;
  Cancel c;
  std::thread later([&] {
    while (!w.has("beat")) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    c.request();
  });
  const Error e = error_of([&] { sh(w, "while :; do echo x >> beat; sleep 0.02; done", {}, c); });
  later.join();
  EXPECT_EQ(e.code(), Exit::interrupted);
  EXPECT_EQ(error_of([&] { sh(w, "exit 0", {}, c); }).code(), Exit::interrupted);  // nothing starts any more
}

TEST(Process, LimitsOnCpuFilesAndMemory) {
  const WorkFolder w;
  auto r = sh(w, "while :; do :; done", [](Process& p) { p.cpu_seconds = 1; });
  EXPECT_TRUE(r.out_of_limits) << r.summary();
  EXPECT_FALSE(r.timed_out);
  r = sh(w, "exec head -c 10000000 /dev/zero > big", [](Process& p) { p.file_bytes = 1 << 20; });
  EXPECT_TRUE(r.out_of_limits) << r.summary();
  EXPECT_EQ(fs::file_size(w / "big"), 1u << 20);
#if defined(__has_feature)
#define TANDEM_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TANDEM_SANITIZED 1
#else
#define TANDEM_SANITIZED 0
#endif
#if !TANDEM_SANITIZED  // the child starts as a copy of us, shadow memory and all
  // dd asks for one buffer of the whole block.
  r = sh(w, "exec dd if=/dev/zero of=/dev/null bs=2000M count=1", [](Process& p) { p.memory_bytes = 500u << 20; });
  EXPECT_FALSE(r.ok());
  EXPECT_LT(r.peak_rss_bytes, 500u << 20);
  r = sh(w, "exec dd if=/dev/zero of=/dev/null bs=100M count=60", [](Process& p) { p.memory_bytes = 500u << 20; });
  EXPECT_TRUE(r.ok()) << r.summary();
  EXPECT_GT(r.peak_rss_bytes, 90u << 20);
#endif
}

TEST(Process, DeathBySignalAndMissingProgram) {
  const WorkFolder w;
  const auto r = sh(w, "kill -SEGV $$");
  EXPECT_EQ(r.signal, SIGSEGV);
  EXPECT_EQ(r.exit_code, -1);
  Process p;
  p.argv = {w.path().string() + "/none"};
  p.folder = w.path();
  if (!sandbox_available()) EXPECT_EQ(error_of([&] { p.run(); }).code(), Exit::tool_missing);
  else EXPECT_FALSE(p.run().ok());
  p.argv = {"echo"};
  EXPECT_EQ(error_of([&] { p.run(); }).code(), Exit::bug);  // never searched in $PATH here
}

TEST(Process, TheSandboxHidesTheUser) {
  if (!sandbox_available()) GTEST_SKIP() << sandbox_reason();
  const WorkFolder w, other;
  other.put("secret", "secret");
  const fs::path target = other / "written";
  const auto r = sh(w, fmt::format("cat '{0}/secret'; ls /home /root /srv 2>/dev/null; cat /etc/passwd /etc/shadow; echo x > '{1}'; echo x > /usr/x; "
                                   "ls /proc | grep -c '^[0-9]'; cat /proc/net/dev | tail -n +3 | grep -vc ' lo:\\|lo:'; id -u >/dev/null; echo mine > mine",
                                   other.path().string(), target.string()));
  EXPECT_TRUE(r.sandboxed);
  EXPECT_EQ(r.out.find("secret"), std::string::npos);
  EXPECT_EQ(r.out.find("root:"), std::string::npos);
  EXPECT_FALSE(fs::exists(target));
  EXPECT_FALSE(fs::exists("/usr/x"));
  EXPECT_EQ(w.get("mine"), "mine\n");
  // A handful of processes of its own, and no network but the loopback.
  const auto first = r.out.find_first_of("0123456789");
  ASSERT_NE(first, std::string::npos) << r.out;
  EXPECT_LT(r.out.size() - first, 10u) << r.out;
  EXPECT_TRUE(r.out.ends_with("\n0\n")) << r.out;
  // Read-only where it was allowed to look.
  const auto seen = sh(w, fmt::format("cat '{0}/secret'; echo x > '{0}/secret' || echo refused", other.path().string()), [&](Process& p) { p.readable = {other.path()}; });
  EXPECT_EQ(seen.out, "secretrefused\n");
  EXPECT_EQ(other.get("secret"), "secret");
  // What is not there is not seen; the tool says what it misses.
  EXPECT_EQ(sh(w, "echo went on", [&](Process& p) { p.readable = {other.path() / "absent"}; }).out, "went on\n");
}

// In a process of its own: the probe is remembered.
TEST(Process, ForeignInputNeedsTheSandbox) {
  const auto run = [] {
    ::setenv("TANDEM_SANDBOX", "off", 1);
    const WorkFolder w;
    Process p;
    p.argv = {"/bin/echo", "x"};
    p.folder = w.path();
    p.trust = Trust::foreign;
    const Error refused = error_of([&] { p.run(); });
    p.trust = Trust::ours;
    const auto ours = p.run();
    p.trust = Trust::foreign;
    trust_foreign_input(true);
    const auto trusted = p.run();
    const bool good = refused.code() == Exit::no && refused.fix().find("--trust-input") != std::string::npos && ours.ok() && !ours.sandboxed && trusted.ok();
    std::fprintf(stderr, good ? "as it should be" : "wrong");
    std::_Exit(good ? 0 : 1);
  };
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run(), ::testing::ExitedWithCode(0), "as it should be");
}

TEST(WorkFolder, IsPrivateAndGoesAway) {
  fs::path p;
  {
    const WorkFolder w;
    p = w.path();
    struct stat st {};
    ASSERT_EQ(::stat(p.c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0700u);
    w.put("rtl/a.v", "module a; endmodule\n");
    EXPECT_TRUE(w.has("rtl/a.v"));
    EXPECT_EQ(w.get("rtl/a.v"), "module a; endmodule\n");
    w.put("empty", "");
    EXPECT_FALSE(w.has("empty"));
    EXPECT_EQ(error_of([&] { w.get("empty"); }).code(), Exit::limit);
    EXPECT_EQ(error_of([&] { w.get("none"); }).code(), Exit::limit);
    EXPECT_EQ(error_of([&] { w.put("../x", ""); }).code(), Exit::bad_input);
    fs::create_symlink("/etc/passwd", w / "link");
    EXPECT_EQ(error_of([&] { w.get("link"); }).code(), Exit::limit);  // a tool's link leads nowhere
  }
  EXPECT_FALSE(fs::exists(p));
}

TEST(Find, KnownToolsPackagesAndErrors) {
  for (const auto& k : known_tools()) {
    const auto t = try_find(k.name);
    if (!t) continue;
    EXPECT_TRUE(t->path.is_absolute());
    EXPECT_EQ(t->package, k.package);
    if (!k.version_option.empty()) {
      EXPECT_NE(t->version, "unknown") << k.name;
    }
  }
  EXPECT_EQ(error_of([] { find("yosis"); }).fix(), "did you mean 'yosys'?");
  const char* path = ::getenv("PATH");
  const std::string before = path ? path : "";
  ::setenv("PATH", "/nonexistent:.", 1);
  const Error e = error_of([] { find("yosys"); });
  ::setenv("PATH", before.c_str(), 1);
  EXPECT_EQ(e.code(), Exit::tool_missing);
  EXPECT_EQ(e.fix(), "apt-get install yosys");
}

}  // namespace
}  // namespace tandem::tool
