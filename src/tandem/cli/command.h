// A command of `tandem`: one literal in one file `cli/cmd_<name>.cc`, listed in the table of commands.cc.
// A command is a thin face of a library call.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/base/cancel.h"
#include "tandem/base/error.h"
#include "tandem/base/json.h"
#include "tandem/base/limits.h"
#include "tandem/base/table.h"

namespace tandem::cli {

// What a command accepts besides the common options. Names as typed: "--input,-i" or "MODEL". The
// referenced variables must live until run: a command keeps them in a shared struct (see Command::setup).
class Options {
 public:
  virtual ~Options() = default;
  virtual void argument(const std::string& name, std::string& to, const std::string& help, bool required = true) = 0;
  virtual void arguments(const std::string& name, std::vector<std::string>& to, const std::string& help, bool required = true) = 0;
  virtual void option(const std::string& names, std::string& to, const std::string& help) = 0;
  virtual void option(const std::string& names, std::int64_t& to, const std::string& help) = 0;
  virtual void option(const std::string& names, double& to, const std::string& help) = 0;
  virtual void option(const std::string& names, std::vector<std::string>& to, const std::string& help) = 0;  // may be repeated
  virtual void flag(const std::string& names, bool& to, const std::string& help) = 0;
};

// The common options, and where results go. Results to stdout (or to the file of --out), the rest to stderr.
struct Context {
  bool json = false;        // --json: one document on stdout
  std::uint64_t seed = 0;   // --seed
  bool seed_given = false;  // it was typed: it then wins over a seed in the user's file
  int jobs = 0;             // --jobs, 0: all processors lent to us
  std::string command;      // as typed, quoted for a shell
  std::string out;          // --out: file or folder of the result; empty: none
  bool force = false;       // --force: existing files may be overwritten
  Limits limits;            // --memory
  TableStyle style = TableStyle::text;  // --table md|csv
  bool color = false;       // stderr is a terminal and NO_COLOR is not set
  int width = 0;            // of the terminal; 0 when stdout is none
  const Cancel* cancel = &Cancel::never();

  // Appends to the result. Throws Error(limit) when stdout cannot be written; ends quietly on a closed pipe.
  void print(std::string_view text);
  void print(const Table& t) { print(render(t, style, width)); }
  void print(const JsonWriter& j) { print(j.text()); }
  void note(std::string_view line) const;  // to stderr, control characters made visible

  bool to_file = false;     // print() collects; the framework writes --out at the end
  std::string collected;
};

using Run = std::function<Exit(Context&)>;

struct Example {
  std::string_view command;     // run by a test in a copy of examples, must end with exit code 0
  std::string_view needs = "";  // external tools it needs ("yosys nextpnr-ice40"); "learn": libtandem_learn
};

struct Command {
  std::string_view name, group, summary;
  std::string_view description;      // a few lines of --help
  std::vector<Example> examples;     // at least two
  // Declares options and returns what runs them:
  //   Run setup(Options& o) {
  //     struct Args { std::string model; };
  //     auto a = std::make_shared<Args>();
  //     o.argument("MODEL", a->model, "ONNX file");
  //     return [a](Context& c) { ...; return Exit::done; };
  //   }
  Run (*setup)(Options&);
  // true: --out is the command's own (a folder, arrays); false: --out receives what print() gives.
  bool own_out = false;
  std::string_view schema = "";      // JSON Schema of the --json document; `tandem schema NAME` prints it
};

// The explicit table, in the order of --help.
std::span<const Command* const> all_commands();

// All of `tandem`: arguments without the program's name. Errors are printed; never throws.
int main(int argc, const char* const* argv);

// Versions of tandem and of the libraries it was linked with, as text or JSON.
std::string version_text(bool json);

}  // namespace tandem::cli
