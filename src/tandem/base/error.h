// Errors that a user can act on.
//
// A `tandem::Error` says what is wrong, where (file:line of the user's file, node of the user's
// model), what was expected and what to do. Libraries throw it; `cli` prints it once and exits with
// its code. Input of the user never aborts, never asserts.
#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace tandem {

// Exit codes of the command line (docs/commands.md). An Error carries one of them.
enum class Exit : int {
  done = 0,
  no = 1,            // the question was answered "no": mismatch, infeasible, target too small
  bad_input = 2,     // wrong use, bad input, unreadable or unwritable path
  tool_missing = 3,  // a needed external tool is missing
  limit = 4,         // a limit was hit: time, memory, disk
  bug = 70,          // a bug of ours
  interrupted = 130,
  terminated = 143,
};

class Error : public std::runtime_error {
 public:
  Error(Exit code, std::string what) : std::runtime_error(what), code_(code), what_(std::move(what)) {}

  // Builder style: throw Error(Exit::bad_input, "...").at("model.onnx", "node 'conv1'").expected("...").fix("...").
  Error& at(std::string where) & { where_ = std::move(where); return *this; }
  Error&& at(std::string where) && { where_ = std::move(where); return std::move(*this); }
  Error& expected(std::string e) & { expected_ = std::move(e); return *this; }
  Error&& expected(std::string e) && { expected_ = std::move(e); return std::move(*this); }
  Error& fix(std::string f) & { fix_ = std::move(f); return *this; }
  Error&& fix(std::string f) && { fix_ = std::move(f); return std::move(*this); }

  Exit code() const { return code_; }
  const std::string& message() const { return what_; }
  const std::string& where() const { return where_; }
  const std::string& expected() const { return expected_; }
  const std::string& fix() const { return fix_; }

  // All parts as one block of text, control characters replaced; what the terminal shows.
  std::string full() const;

 private:
  Exit code_;
  std::string what_, where_, expected_, fix_;
};

// Replaces control characters and invalid UTF-8, so that a hostile name cannot steer a terminal.
std::string printable(std::string_view s);
// A word of a command line as a shell takes it: quoted where it must be.
std::string shell_word(std::string_view s);

// Bad input: the most common error.
template <class... A>
Error bad_input(fmt::format_string<A...> f, A&&... a) {
  return Error(Exit::bad_input, fmt::format(f, std::forward<A>(a)...));
}

// Inside the library: a broken invariant is a bug of ours, reported as such, never an abort.
[[noreturn]] void bug(const char* file, int line, const std::string& what);
#define TANDEM_CHECK(cond, ...)                                            \
  do {                                                                     \
    if (!(cond)) ::tandem::bug(__FILE__, __LINE__, ::fmt::format(__VA_ARGS__)); \
  } while (0)

}  // namespace tandem
