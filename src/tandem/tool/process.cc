#include "tandem/tool/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace tandem::tool {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

struct Fd {
  int fd = -1;
  Fd() = default;
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }
  void reset() {
    if (fd >= 0) ::close(fd);
    fd = -1;
  }
};

void make_pipe(Fd& r, Fd& w) {
  int p[2];
  if (::pipe2(p, O_CLOEXEC) != 0) throw Error(Exit::limit, fmt::format("cannot open a pipe: {}", std::strerror(errno)));
  r.fd = p[0], w.fd = p[1];
}

void refuse_control(std::string_view s, const char* what) {
  for (unsigned char c : s)
    if (c < 0x20 || c == 0x7F)
      throw bad_input("control character in {} of an external program: '{}'", what, printable(s)).expected("printable characters").fix("rename the file");
}

std::vector<char*> pointers(std::vector<std::string>& v) {
  std::vector<char*> p;
  for (auto& s : v) p.push_back(s.data());
  p.push_back(nullptr);
  return p;
}

bool below(const fs::path& p, const fs::path& folder) {
  const auto [end, rest] = std::mismatch(folder.begin(), folder.end(), p.begin(), p.end());
  return end == folder.end();
}

const char* kBwrap = "/usr/bin/bwrap";

std::vector<std::string> sandbox_prefix(const Process& p, const fs::path& folder) {
  std::vector<std::string> a{kBwrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL",
                             "--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"};
  const auto add = [&](std::initializer_list<std::string> w) { a.insert(a.end(), w); };
  // A merged /usr has links at the root; an unmerged one has folders.
  for (const char* d : {"/bin", "/sbin", "/lib", "/lib64", "/lib32"}) {
    std::error_code ec;
    if (fs::is_symlink(d, ec)) add({"--symlink", fs::read_symlink(d, ec).string(), d});
    else if (fs::is_directory(d, ec)) add({"--ro-bind", d, d});
  }
  for (const char* f : {"/etc/ld.so.cache", "/etc/alternatives"}) add({"--ro-bind-try", f, f});
  // A tool outside /usr (a hand-made installation) needs its own prefix.
  const fs::path program = fs::path(p.argv[0]).lexically_normal();
  if (!below(program, "/usr") && !below(program, "/bin") && !below(program, folder)) {
    const fs::path prefix = program.parent_path().filename() == "bin" ? program.parent_path().parent_path() : program.parent_path();
    add({"--ro-bind", prefix.string(), prefix.string()});
  }
  for (const auto& r : p.readable) {
    std::error_code ec;
    const fs::path real = fs::absolute(r, ec).lexically_normal();
    refuse_control(real.string(), "a path");
    add({"--ro-bind-try", real.string(), real.string()});  // what is not there, the tool reports itself
  }
  add({"--bind", folder.string(), folder.string(), "--chdir", folder.string(), "--"});
  return a;
}

struct Rlimit {
  int what;
  rlim_t soft, hard;
};

// Between fork and exec: only async-signal-safe calls.
[[noreturn]] void become(char* const* argv, char* const* env, const char* folder, int in, int out, int err, int report,
                         const Rlimit* limits, std::size_t n_limits, pid_t parent) {
  const auto fail = [&](int code) {
    const int e[2] = {code, errno};
    (void)!::write(report, e, sizeof e);
    ::_exit(127);
  };
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // it ended before the line above
  if (::dup2(in, 0) < 0 || ::dup2(out, 1) < 0 || ::dup2(err, 2) < 0) fail(1);
#ifdef SYS_close_range
  ::syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
#endif
  if (::chdir(folder) != 0) fail(2);
  for (std::size_t i = 0; i < n_limits; ++i) {
    rlimit r{limits[i].soft, limits[i].hard};
    rlimit now{};
    if (::getrlimit(static_cast<__rlimit_resource_t>(limits[i].what), &now) == 0) {
      // Never above what we run under ourselves.
      if (r.rlim_max > now.rlim_max) r.rlim_max = now.rlim_max;
      if (r.rlim_cur > r.rlim_max) r.rlim_cur = r.rlim_max;
    }
    if (::setrlimit(static_cast<__rlimit_resource_t>(limits[i].what), &r) != 0) fail(3);
  }
  struct sigaction dfl {};
  dfl.sa_handler = SIG_DFL;
  for (int s : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGXFSZ, SIGXCPU}) ::sigaction(s, &dfl, nullptr);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(argv[0], argv, env);
  fail(4);
  ::_exit(127);
}

// Keeps at most `limit` bytes of one pipe; the rest is read and dropped, so that the child never blocks.
struct Sink {
  Fd r;
  std::string* keep;
  std::uint64_t limit;
  std::uint64_t* dropped;
  bool read_some() {  // false at the end
    char b[65536];
    const ssize_t n = ::read(r.fd, b, sizeof b);
    if (n < 0) return errno == EINTR || errno == EAGAIN;
    if (n == 0) return false;
    const std::uint64_t room = limit - std::min<std::uint64_t>(limit, keep->size());
    const std::uint64_t take = std::min<std::uint64_t>(room, static_cast<std::uint64_t>(n));
    keep->append(b, take);
    *dropped += static_cast<std::uint64_t>(n) - take;
    return true;
  }
};

// The largest VmHWM among `pid` and everything below it (depth 99: of `pid` alone). bubblewrap ends before its child is
// reaped, so the kernel's own account (rusage) does not reach us.
std::uint64_t tree_peak(pid_t pid, int depth = 0) {
  const auto slurp = [](const char* name, char* b, std::size_t n) -> std::string_view {
    const int fd = ::open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return {};
    const ssize_t got = ::read(fd, b, n);
    ::close(fd);
    return got > 0 ? std::string_view(b, static_cast<std::size_t>(got)) : std::string_view{};
  };
  const auto number = [](std::string_view s) {
    std::uint64_t v = 0;
    std::size_t i = s.find_first_of("0123456789");
    for (; i < s.size() && s[i] >= '0' && s[i] <= '9'; ++i) v = 10 * v + static_cast<std::uint64_t>(s[i] - '0');
    return v;
  };
  char b[4096];
  const std::string proc = fmt::format("/proc/{}", pid);
  std::uint64_t peak = 0;
  if (const auto s = slurp((proc + "/status").c_str(), b, sizeof b); s.find("VmHWM:") != std::string_view::npos)
    peak = number(s.substr(s.find("VmHWM:"))) * 1024;
  if (depth > 8) return peak;
  std::string children(slurp(fmt::format("{}/task/{}/children", proc, pid).c_str(), b, sizeof b));
  for (std::string_view rest = children; !rest.empty();) {
    const auto sp = rest.find(' ');
    if (const auto c = number(rest.substr(0, sp)); c > 0) peak = std::max(peak, tree_peak(static_cast<pid_t>(c), depth + 1));
    if (sp == std::string_view::npos) break;
    rest.remove_prefix(sp + 1);
  }
  return peak;
}

bool says_out_of_memory(const std::string& s) {
  for (const char* w : {"bad_alloc", "annot allocate memory", "out of memory", "Out of memory", "virtual memory exhausted"})
    if (s.find(w) != std::string::npos) return true;
  return false;
}

ProcessResult spawn(const Process& p, bool sandboxed, const Cancel& cancel) {
  std::error_code ec;
  const fs::path folder = fs::canonical(p.folder, ec);
  if (ec) throw bad_input("the work folder {} is not there", printable(p.folder.string()));
  std::vector<std::string> argv = sandboxed ? sandbox_prefix(p, folder) : std::vector<std::string>{};
  argv.insert(argv.end(), p.argv.begin(), p.argv.end());
  std::vector<std::string> env{"LC_ALL=C", "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + folder.string(), "TMPDIR=" + (sandboxed ? std::string("/tmp") : folder.string())};
  for (const auto& [k, v] : p.env) {
    refuse_control(k, "the environment");
    refuse_control(v, "the environment");
    env.push_back(k + "=" + v);
  }
  auto argv_p = pointers(argv), env_p = pointers(env);

  const auto cpu = static_cast<rlim_t>(std::ceil(std::max(1.0, p.cpu_seconds > 0 ? p.cpu_seconds : 4 * p.seconds)));
  const std::vector<Rlimit> limits{{RLIMIT_CPU, cpu, cpu + 2},
                                   {RLIMIT_AS, p.memory_bytes, p.memory_bytes},
                                   {RLIMIT_FSIZE, p.file_bytes, p.file_bytes},
                                   {RLIMIT_CORE, 0, 0},
                                   {RLIMIT_NOFILE, 1024, 1024}};

  Fd in_r, in_w, out_w, err_w, rep_r, rep_w;
  ProcessResult result;
  result.sandboxed = sandboxed;
  Sink out{{}, &result.out, p.output_bytes, &result.dropped_bytes}, err{{}, &result.err, p.output_bytes, &result.dropped_bytes};
  make_pipe(in_r, in_w);
  make_pipe(out.r, out_w);
  make_pipe(err.r, err_w);
  make_pipe(rep_r, rep_w);

  const auto start = Clock::now();
  const pid_t self = ::getpid();
  const std::uint64_t own_peak = tree_peak(self, 99);
  const pid_t child = ::fork();
  if (child < 0) throw Error(Exit::limit, fmt::format("cannot start a process: {}", std::strerror(errno)));
  if (child == 0)
    become(argv_p.data(), env_p.data(), folder.c_str(), in_r.fd, out_w.fd, err_w.fd, rep_w.fd, limits.data(), limits.size(), self);
  ::setpgid(child, child);
  in_r.reset(), out_w.reset(), err_w.reset(), rep_w.reset();
  for (int fd : {in_w.fd, out.r.fd, err.r.fd}) ::fcntl(fd, F_SETFL, O_NONBLOCK);

  // The report pipe closes at exec, or tells why there was none.
  int report[2] = {0, 0};
  ssize_t got = 0;
  while ((got = ::read(rep_r.fd, report, sizeof report)) < 0 && errno == EINTR) {
  }

  Fd pid_fd;
#ifdef SYS_pidfd_open
  pid_fd.fd = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
#endif
  std::size_t written = 0;
  if (p.input.empty()) in_w.reset();
  bool out_open = true, err_open = true, exited = false, killed = false, cancelled = false;
  int status = 0;
  rusage usage{};
  Clock::time_point exit_time{};
  const auto kill_group = [&] {
    ::kill(-child, SIGKILL);
    ::kill(child, SIGKILL);
    killed = true;
  };
  // Writing into a pipe whose reader has gone must not end us.
  Clock::time_point sampled{};
  sigset_t pipe_set, old_set;
  sigemptyset(&pipe_set);
  sigaddset(&pipe_set, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &pipe_set, &old_set);
  while (!exited || out_open || err_open) {
    pollfd fds[4];
    nfds_t n = 0;
    int i_out = -1, i_err = -1, i_in = -1;
    if (out_open) i_out = static_cast<int>(n), fds[n++] = {out.r.fd, POLLIN, 0};
    if (err_open) i_err = static_cast<int>(n), fds[n++] = {err.r.fd, POLLIN, 0};
    if (in_w.fd >= 0) i_in = static_cast<int>(n), fds[n++] = {in_w.fd, POLLOUT, 0};
    if (!exited && pid_fd.fd >= 0) fds[n++] = {pid_fd.fd, POLLIN, 0};
    const double left = p.seconds - since(start);
    const int wait_ms = exited ? 50 : pid_fd.fd < 0 ? 5 : static_cast<int>(std::clamp(left * 1000 + 1, 0.0, 100.0));
    ::poll(fds, n, wait_ms);
    if (i_out >= 0 && fds[i_out].revents != 0 && !out.read_some()) out_open = false;
    if (i_err >= 0 && fds[i_err].revents != 0 && !err.read_some()) err_open = false;
    if (i_in >= 0 && fds[i_in].revents != 0) {
      const ssize_t w = ::write(in_w.fd, p.input.data() + written, p.input.size() - written);
      if (w > 0) written += static_cast<std::size_t>(w);
      if ((w < 0 && errno != EAGAIN && errno != EINTR) || written == p.input.size()) in_w.reset();
    }
    if (!exited) {
      if (since(sampled) > 0.1) {
        sampled = Clock::now();
        result.peak_rss_bytes = std::max(result.peak_rss_bytes, tree_peak(child));
      }
      const pid_t w = ::wait4(child, &status, WNOHANG, &usage);
      if (w == child) {
        exited = true;
        exit_time = Clock::now();
        ::kill(-child, SIGKILL);  // grandchildren that stayed behind
        in_w.reset();
      } else if (!killed && cancel.requested()) {
        cancelled = true;
        kill_group();
      } else if (!killed && since(start) > p.seconds) {
        result.timed_out = true;
        kill_group();
      }
    } else if (since(exit_time) > 1.0) {
      break;  // someone who left the group holds the pipe
    }
  }
  // Take a SIGPIPE of ours away before it is unblocked.
  timespec zero{0, 0};
  while (::sigtimedwait(&pipe_set, nullptr, &zero) == SIGPIPE) {
  }
  ::pthread_sigmask(SIG_SETMASK, &old_set, nullptr);

  result.seconds = since(start);
  // Across exec the kernel keeps the peak of the forked image, which is ours: below that it says nothing.
  if (const auto peak = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024; peak > own_peak) result.peak_rss_bytes = std::max(result.peak_rss_bytes, peak);
  if (cancelled) cancel.check();
  if (got == static_cast<ssize_t>(sizeof report)) {
    if (report[0] == 4 && (report[1] == ENOENT || report[1] == EACCES))
      throw Error(Exit::tool_missing, fmt::format("cannot start {}: {}", printable(argv[0]), std::strerror(report[1])));
    throw Error(Exit::limit, fmt::format("cannot start {}: {}", printable(argv[0]), std::strerror(report[1])));
  }
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  else result.exit_code = WEXITSTATUS(status);
  // bubblewrap reports the death of its child as 128 + signal.
  if (sandboxed && result.exit_code > 128 && result.exit_code < 128 + 65) {
    result.signal = result.exit_code - 128;
    result.exit_code = -1;
  }
  if (!result.timed_out) {
    const bool failed = result.exit_code != 0;
    result.out_of_limits = result.signal == SIGXCPU || result.signal == SIGXFSZ || result.signal == SIGKILL || (failed && says_out_of_memory(result.err));
  }
  return result;
}

std::mutex g_probe_mutex;
int g_probe = -1;
std::string g_probe_reason;
std::atomic<bool> g_trust{false};

bool probe() {
  const std::lock_guard lock(g_probe_mutex);
  if (g_probe >= 0) return g_probe == 1;
  g_probe = 0;
  if (const char* off = ::getenv("TANDEM_SANDBOX"); off && std::string_view(off) == "off") {
    g_probe_reason = "switched off by TANDEM_SANDBOX=off";
    return false;
  }
  if (::access(kBwrap, X_OK) != 0) {
    g_probe_reason = "bubblewrap is not installed (apt-get install bubblewrap)";
    return false;
  }
  std::string t = (fs::temp_directory_path() / "tandem-probe-XXXXXX").string();
  if (!::mkdtemp(t.data())) {
    g_probe_reason = "no folder for temporary files";
    return false;
  }
  try {
    Process p;
    p.argv = {"/bin/sh", "-c", "echo inside"};  // a constant of ours; the one place that names a shell
    p.folder = t;
    p.seconds = 10;
    const ProcessResult r = spawn(p, true, Cancel::never());
    g_probe = r.ok() && r.out == "inside\n";
    if (g_probe == 0) g_probe_reason = "bubblewrap does not work here: " + r.summary();
  } catch (const Error& e) {
    g_probe_reason = e.message();
  }
  ::rmdir(t.c_str());
  return g_probe == 1;
}

}  // namespace

std::string ProcessResult::summary() const {
  std::string s;
  if (timed_out) s = fmt::format("stopped after {:.0f} s", seconds);
  else if (signal == SIGXCPU) s = "stopped: CPU time";
  else if (signal == SIGXFSZ) s = "stopped: a file grew beyond the limit";
  else if (signal != 0) s = fmt::format("ended by signal {}", signal);
  else s = fmt::format("exit code {}", exit_code);
  if (out_of_limits && signal == 0) s += ", out of memory";
  const std::string& text = err.empty() ? out : err;
  std::vector<std::string_view> lines;
  for (std::string_view rest = text; !rest.empty();) {
    const auto nl = rest.find('\n');
    if (const auto line = rest.substr(0, nl); !line.empty()) lines.push_back(line);
    if (nl == std::string_view::npos) break;
    rest.remove_prefix(nl + 1);
  }
  for (std::size_t i = lines.size() > 3 ? lines.size() - 3 : 0; i < lines.size(); ++i) s += "\n" + printable(lines[i].substr(0, 300));
  return s;
}

ProcessResult Process::run(const Cancel& cancel) const {
  TANDEM_CHECK(!argv.empty() && fs::path(argv[0]).is_absolute(), "a program is named by its absolute path");
  for (const auto& a : argv) refuse_control(a, "an argument");
  cancel.check();
  const bool sandboxed = probe();
  if (!sandboxed && trust == Trust::foreign && !g_trust.load())
    throw Error(Exit::no, "input of others is not run without a sandbox: " + sandbox_reason())
        .at(printable(fs::path(argv[0]).filename().string()))
        .fix("install bubblewrap, or state with --trust-input that you trust this input");
  return spawn(*this, sandboxed, cancel);
}

bool sandbox_available() { return probe(); }
std::string sandbox_reason() {
  probe();
  const std::lock_guard lock(g_probe_mutex);
  return g_probe_reason;
}
void trust_foreign_input(bool yes) { g_trust.store(yes); }

}  // namespace tandem::tool
