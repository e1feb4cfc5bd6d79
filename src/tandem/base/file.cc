#include "tandem/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "tandem/base/error.h"
#include "tandem/base/hash.h"

namespace tandem {
namespace fs = std::filesystem;
namespace {

std::string name_of(const fs::path& p) { return printable(p.string()); }

std::string reason(int e) {
  switch (e) {
    case ENOENT: return "no such file or folder";
    case EACCES: case EPERM: return "permission denied";
    case EROFS: return "the file system is read-only";
    case EISDIR: return "it is a folder";
    case ENOTDIR: return "a part of the path is not a folder";
    case ELOOP: return "it is a symbolic link";
    case ENAMETOOLONG: return "the name is too long";
    default: {
      char b[128];
      return strerror_r(e, b, sizeof b);
    }
  }
}

bool is_full(int e) { return e == ENOSPC || e == EDQUOT || e == EFBIG; }

struct Fd {
  int fd = -1;
  ~Fd() { if (fd >= 0) ::close(fd); }
};

fs::path folder_of(const fs::path& p) { return p.parent_path().empty() ? fs::path(".") : p.parent_path(); }

[[noreturn]] void fail_write(const fs::path& path, int e, std::uint64_t needed) {
  if (is_full(e))
    throw Error(Exit::limit, fmt::format("disk full while writing {}", name_of(path)))
        .at(name_of(path))
        .expected(fmt::format("{} bytes of free space", needed))
        .fix("free space on that file system, or write to another folder");
  throw bad_input("cannot write {}: {}", name_of(path), reason(e)).at(name_of(path)).fix("choose a writable path");
}

Error unreadable(const fs::path& path, int e) {
  const char* remedy = e == ENOENT || e == ENOTDIR ? "check the spelling; a path that does not begin with / is sought from the current folder"
                       : e == EACCES || e == EPERM ? "allow your user to read it (chmod, chown), or copy it to a folder of yours"
                       : e == ELOOP || e == ENAMETOOLONG ? "name a file itself"
                                                         : "check the disk, or copy the file to another one";
  return bad_input("cannot read {}: {}", name_of(path), reason(e)).at(name_of(path)).fix(remedy);
}

}  // namespace

std::string read_file(const fs::path& path, const Limits& limits) {
  // O_NONBLOCK: opening a FIFO must not hang; regular files ignore it.
  Fd f{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (f.fd < 0) throw unreadable(path, errno);
  struct stat st {};
  if (::fstat(f.fd, &st) != 0) throw unreadable(path, errno);
  if (S_ISDIR(st.st_mode)) throw bad_input("cannot read {}: it is a folder", name_of(path)).at(name_of(path)).expected("a file");
  if (!S_ISREG(st.st_mode)) throw bad_input("cannot read {}: it is not a regular file", name_of(path)).at(name_of(path)).fix("write its content to a file first");
  const std::uint64_t size = static_cast<std::uint64_t>(st.st_size);
  const auto too_large = [&](std::uint64_t n) {
    return Error(Exit::bad_input, fmt::format("{} has {} bytes, more than the limit of {}", name_of(path), n, limits.file_bytes))
        .at(name_of(path))
        .expected(fmt::format("at most {} bytes", limits.file_bytes));
  };
  if (size > limits.file_bytes) throw too_large(size);
  std::string s(size, '\0');
  std::size_t got = 0;
  for (;;) {
    if (got == s.size()) {  // also where the kernel states no size (/proc)
      if (got > limits.file_bytes) throw too_large(got);
      char extra[4096];
      const ssize_t n = ::read(f.fd, extra, sizeof extra);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) throw unreadable(path, errno);
      if (n == 0) break;
      s.append(extra, static_cast<std::size_t>(n));
      got = s.size();
      continue;
    }
    const ssize_t n = ::read(f.fd, s.data() + got, s.size() - got);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw unreadable(path, errno);
    if (n == 0) break;
    got += static_cast<std::size_t>(n);
  }
  s.resize(got);
  return s;
}

FileWriter::FileWriter(fs::path path, bool overwrite) : path_(std::move(path)), overwrite_(overwrite) {
  static std::atomic<unsigned> serial{0};
  const std::string leaf = path_.filename().string();
  for (unsigned char c : leaf)
    if (c < 0x20) throw bad_input("control character in the file name {}", name_of(path_)).at(name_of(path_)).fix("choose another name");
  if (leaf.empty() || leaf == "." || leaf == "..")
    throw bad_input("{} names no file", name_of(path_)).at(name_of(path_)).expected("folder/name");
  struct stat st {};
  if (::lstat(path_.c_str(), &st) == 0) {
    if (S_ISDIR(st.st_mode)) throw bad_input("cannot write {}: it is a folder", name_of(path_)).at(name_of(path_)).fix("name a file in it");
    if (S_ISLNK(st.st_mode))
      throw bad_input("cannot write {}: it is a symbolic link", name_of(path_)).at(name_of(path_)).fix("remove the link or choose another name");
    if (!S_ISREG(st.st_mode)) throw bad_input("cannot write {}: it is not a regular file", name_of(path_)).at(name_of(path_)).fix("choose another name");
    if (!overwrite_) throw bad_input("{} exists", name_of(path_)).at(name_of(path_)).fix("add --force to overwrite it, or choose another name");
  }
  for (int tries = 0; tries < 100; ++tries) {
    tmp_ = folder_of(path_) / fmt::format(".tandem-{}-{}-{}.tmp", hex16(fnv1a(leaf)).substr(0, 8), ::getpid(), serial++);
    fd_ = ::open(tmp_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd_ >= 0) break;
    if (errno != EEXIST) fail_write(path_, errno, 1);
  }
  if (fd_ < 0) fail_write(path_, EEXIST, 1);
  hash_ = fnv1a("");
}

FileWriter::~FileWriter() {
  if (fd_ >= 0) {
    ::close(fd_);
    ::unlink(tmp_.c_str());
  }
}

void FileWriter::write(std::string_view bytes) {
  TANDEM_CHECK(fd_ >= 0, "write after commit: {}", name_of(path_));
  hash_ = fnv1a(bytes, hash_);
  bytes_ += bytes.size();
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_write(path_, errno, bytes_);
    if (n == 0) fail_write(path_, ENOSPC, bytes_);
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

std::string FileWriter::commit() {
  TANDEM_CHECK(fd_ >= 0, "second commit: {}", name_of(path_));
  if (::fsync(fd_) != 0 && errno != EINVAL && errno != ENOTSUP) fail_write(path_, errno, bytes_);
  // close may be the first to report a failed write (NFS, quotas)
  const int fd = fd_;
  fd_ = -1;
  int failed = ::close(fd) != 0 && errno != EINTR ? errno : 0;
  if (failed == 0) {
    // link() refuses an existing name without a race; file systems without hard links fall back.
    if (overwrite_) {
      if (::rename(tmp_.c_str(), path_.c_str()) != 0) failed = errno;
    } else if (::link(tmp_.c_str(), path_.c_str()) == 0) {
      ::unlink(tmp_.c_str());
    } else if (errno == EEXIST) {
      ::unlink(tmp_.c_str());
      throw bad_input("{} exists", name_of(path_)).at(name_of(path_)).fix("add --force to overwrite it, or choose another name");
    } else if (::rename(tmp_.c_str(), path_.c_str()) != 0) {
      failed = errno;
    }
  }
  if (failed != 0) {
    ::unlink(tmp_.c_str());
    fail_write(path_, failed, bytes_);
  }
  Fd dir{::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (dir.fd >= 0) ::fsync(dir.fd);
  return hex16(hash_);
}

void write_file(const fs::path& path, std::string_view bytes, bool overwrite) {
  FileWriter w(path, overwrite);
  w.write(bytes);
  w.commit();
}

void require_writable_folder(const fs::path& folder) {
  std::error_code ec;
  fs::create_directories(folder, ec);
  struct stat st {};
  if (::stat(folder.c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) {
    const int e = ec ? ec.value() : ENOTDIR;
    if (is_full(e)) fail_write(folder, e, 4096);
    throw bad_input("cannot use the folder {}: {}", name_of(folder), reason(e)).at(name_of(folder)).fix("choose a folder that can be created and written");
  }
  // A probe, not access(): the answer of the file system itself (read-only mounts, quotas, root).
  try {
    FileWriter probe(folder / "probe");
    probe.write("x");
  } catch (const Error& e) {
    throw Error(e.code(), fmt::format("cannot write into the folder {}", name_of(folder)))
        .at(name_of(folder)).expected(e.expected()).fix("choose a writable folder with free space: " + e.message());
  }
}

void require_space(const fs::path& folder, double bytes, std::string_view what) {
  fs::path at = fs::absolute(folder.empty() ? fs::path(".") : folder);
  std::error_code ec;
  while (!fs::exists(at, ec) && at.has_relative_path()) at = at.parent_path();
  struct statvfs v {};
  if (::statvfs(at.c_str(), &v) != 0 || v.f_blocks == 0) return;
  const double free = static_cast<double>(v.f_bavail) * static_cast<double>(v.f_frsize);
  if (free < bytes)
    throw Error(Exit::limit, fmt::format("the disk has no room for {}: {:.1f} MB are free", what, free / 1e6))
        .at(name_of(at)).expected(fmt::format("about {:.1f} MB of free space", bytes / 1e6)).fix("free space on that file system, or name another folder (--out; TMPDIR for temporary files)");
}

}  // namespace tandem
