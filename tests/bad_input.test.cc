// Bad inputs times commands: the right exit code, a message with place and remedy, nothing that steers a terminal,
// nothing half-written. The commands are those whose first example uses a file of that kind; new ones join by themselves.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "tandem/base/error.h"
#include "tandem/cli/command.h"
#include "tandem/tensor/npy.h"
#include "tests/tandem_run.h"

namespace tandem {
namespace {
using namespace shell;

std::string shell_word(const std::string& s) {
  std::string r = "'";
  for (char c : s) r += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return r + "'";
}

// The first example of every command that uses `good`, with `bad` in its place (once).
std::vector<std::string> lines_with(const std::string& good, const std::string& bad) {
  std::vector<std::string> r;
  for (const cli::Command* c : cli::all_commands())
    for (const cli::Example& e : c->examples) {
      std::string line(e.command);
      const std::size_t at = line.find(" " + good);
      if (at == std::string::npos || (at + 1 + good.size() < line.size() && line[at + 1 + good.size()] != ' ')) continue;
      r.push_back(line.replace(at + 1, good.size(), shell_word(bad)));
      break;
    }
  return r;
}

std::set<std::string> listing(const fs::path& folder) {
  std::set<std::string> r;
  for (const auto& e : fs::recursive_directory_iterator(folder)) {
    const std::string p = e.path().lexically_relative(folder).string();
    if (p != ".stderr" && p.rfind("cache", 0) != 0) r.insert(p);
  }
  return r;
}

void refused(const Examples& f, const std::string& line, const std::string& file, std::set<int> codes) {
  const std::set<std::string> before = listing(f.path);
  const Result r = f.run("timeout 20 " + line + " </dev/null");
  EXPECT_TRUE(codes.count(r.code)) << line << "\nexit code " << r.code << "\n" << r.err << r.out;
  for (const std::string* s : {&r.out, &r.err})
    for (unsigned char c : *s) ASSERT_TRUE(c == '\n' || (c >= 0x20 && c != 0x7f)) << line << ": control character " << int(c);
  EXPECT_EQ(listing(f.path), before) << line;
  if (r.code == 1 || r.code == 0) return;  // an answer, on stdout
  EXPECT_EQ(r.out, "") << line;
  EXPECT_NE(r.err.find("tandem: error: "), std::string::npos) << line << "\n" << r.err;
  // `run` may find that the arrays do not fit before it finds that the model is bad: it then names the arrays.
  EXPECT_TRUE(r.err.find(printable(file)) != std::string::npos || r.err.find("where:    x.npz\n") != std::string::npos) << line << "\ndoes not name " << file << "\n" << r.err;
  // The cause is the first line; then what would have been right, or what to do.
  EXPECT_TRUE(r.err.find("  expected: ") != std::string::npos || r.err.find("  fix:      ") != std::string::npos) << line << "\noffers no remedy\n" << r.err;
}

TEST(BadInput, Models) {
  const Examples f;
  const std::string good = read_file(f.path / "model.onnx"), corpus = TANDEM_SOURCE_DIR "/tests/corpus/onnx/";
  struct Bad {
    std::string name, bytes;
    std::set<int> codes{2};
  };
  std::vector<Bad> bad{{"empty.onnx", ""}, {"text.onnx", "hello\n"}, {"zip.onnx", read_file(f.path / "x.npz")}, {"zeros.onnx", std::string(4096, '\0')},
                       {"ones.onnx", std::string(4096, '\xff')}, {"json.onnx", "{\"a\": 1}"}};
  for (std::size_t cut : {std::size_t(1), good.size() / 4, good.size() / 2, good.size() - 10, good.size() - 1}) bad.push_back({fmt::format("cut{}.onnx", cut), good.substr(0, cut)});
  for (const char* c : {"cycle", "subgraph", "external", "truncated", "reshape_overflow", "absent_operand"}) bad.push_back({std::string(c) + "_.onnx", read_file(corpus + c + ".onnx"), {1, 2}});
  bad.push_back({"unknown_.onnx", read_file(corpus + "unknown.onnx"), {1, 2}});  // 1: doctor's verdict
  const auto renamed = [&](const std::string& to) {  // a node's name, at the same length
    std::string s = good;
    for (std::size_t at; (at = s.find("flatten")) != std::string::npos;) s.replace(at, 7, to);
    return s;
  };
  bad.push_back({"escape.onnx", renamed("\x1b[31mab")});
  bad.push_back({"newline.onnx", renamed("ab\n!cd\n")});
  bad.push_back({"nul.onnx", renamed(std::string("ab\0cdef", 7))});
  for (const Bad& b : bad) write_file(f.path / b.name, b.bytes);
  fs::create_directory(f.path / "folder.onnx");
  fs::create_symlink("loop.onnx", f.path / "loop.onnx");
  bad.push_back({"folder.onnx", "", {2}});
  bad.push_back({"loop.onnx", "", {2}});
  bad.push_back({"absent.onnx", "", {2}});
  bad.push_back({"an absent ümläut.onnx", "", {2}});
  bad.push_back({"ab\x1b[2Jsent\n.onnx", "", {2}});
  bad.push_back({"'); drop table.onnx", "", {2}});
  bad.push_back({"<img onerror=x>.onnx", "", {2}});
  bad.push_back({std::string(300, 'n') + ".onnx", "", {2}});
  std::size_t commands = 0;
  for (const Bad& b : bad) {
    const std::vector<std::string> lines = lines_with("model.onnx", b.name);
    commands = lines.size();
    for (const std::string& l : lines) refused(f, l, b.name, b.codes);
  }
  EXPECT_GE(bad.size(), 28u);
  EXPECT_GE(commands, 4u);
  // A name that is only odd is no error, and stays harmless in every style.
  write_file(f.path / "html.onnx", renamed("<b>\"|=1"));
  for (const char* style : {"text", "md", "csv"}) EXPECT_EQ(f.run(std::string("tandem show html.onnx --table ") + style).code, 0);
}

TEST(BadInput, ArraysRecipesAndTargets) {
  const Examples f;
  const std::string good = read_file(f.path / "x.npz");
  std::size_t cases = 0;
  const auto file = [&](const std::string& name, const std::string& bytes, const std::string& line, std::set<int> codes = {2}) {
    write_file(f.path / name, bytes);
    refused(f, line + " " + shell_word(name), name, codes);
    ++cases;
  };
  const std::string run = "tandem run model.onnx --input";
  file("empty.npz", "", run);
  file("text.npz", "hello", run);
  file("cut.npz", good.substr(0, good.size() / 2), run);
  file("cut2.npz", good.substr(0, good.size() - 1), run);
  file("noise.npz", std::string(2000, '\x91'), run);
  file("huge.npy", std::string("\x93NUMPY\x01\x00\x76\x00", 10) + "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }" + std::string(50, ' ') + "\n", run, {2, 4});
  file("pickle.npy", read_file(TANDEM_SOURCE_DIR "/tests/corpus/npz/object.npy"), run);
  file("text.npy", read_file(TANDEM_SOURCE_DIR "/tests/corpus/npz/text.npy"), run);
  const std::string train = "tandem train";
  file("empty.yaml", "", train);
  file("list.yaml", "- 1\n- 2\n", train);
  file("key.yaml", "naem: x\n", train);
  file("twice.yaml", "name: x\nname: y\n", train);
  file("alias.yaml", "a: &a [1, 2]\nb: *a\n", train);
  file("deep.yaml", std::string(3000, '[') + std::string(3000, ']'), train, {2, 4});
  file("open.yaml", "name: [1, 2\n", train);
  file("tab.yaml", "name:\n\t- x\n", train);
  file("nul.yaml", std::string("name: a\0b\n", 10), train);
  file("escape.yaml", "\"\\e[31mred\": 1\n", train);
  const std::string target = "tandem targets";
  file("t_empty.yaml", "", target);
  file("t_key.yaml", "nmae: x\n", target);
  file("t_type.yaml", "name: [1]\n", target);
  file("t_number.yaml", "name: x\nfamily: ice40\nclock_mhz: 1e999\n", target);
  file("t_text.yaml", "hello\n", target);
  file("t_script.yaml", "name: <script>alert(1)</script>\nfamily: nosuch\n", target);
  const std::string explore = "tandem explore --out found";
  file("s_empty.yaml", "", explore);
  file("s_key.yaml", "stduy: x\n", explore);
  file("s_list.yaml", "- a\n", explore);
  const std::string study = read_file(TANDEM_SOURCE_DIR "/examples/explore-folding.yaml");
  const auto changed = [&](const std::string& from, const std::string& to) {
    const std::size_t at = study.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return study.substr(0, at) + to + study.substr(at + from.size());
  };
  file("s_searcher.yaml", changed("nsga2", "nsga3"), explore);
  file("s_sql.yaml", changed("nsga2", "\"'); DROP TABLE trials; --\""), explore);
  file("s_formula.yaml", changed("nsga2", "'=cmd|calc'"), explore);
  // A folder that holds no design, or the traces of one.
  const auto folder = [&](const std::string& name, const std::string& build) {
    fs::create_directory(f.path / name);
    if (!build.empty()) write_file(f.path / name / "build.json", build);
    for (const char* command : {"tandem report ", "tandem verify "}) refused(f, command + name, name, {2});
    ++cases;
  };
  folder("no_design", "");
  folder("cut_design", "{\"model\": ");
  folder("other_design", "{\"a\": 1}");
  folder("list_design", "[1, 2]");
  folder("binary_design", std::string("\0\xff\x1b[2J", 6));
  // What is no file: nothing hangs, nothing is taken for empty.
  ASSERT_EQ(::mkfifo((f.path / "fifo").c_str(), 0600), 0);
  for (const char* odd : {"fifo", "/dev/zero", "/dev/null", "/proc/self/mem", "."})
    for (const char* command : {"tandem show", "tandem doctor", "tandem build", "tandem run model.onnx --input", "tandem train", "tandem targets", "tandem explore --out found"}) {
      refused(f, std::string(command) + " " + odd, odd, {2});
      ++cases;
    }
  // Where nothing can be written.
  write_file(f.path / "file", "x");
  for (const char* to : {"absent/x/y", "file/x", "/proc/x", "/dev/full", "."}) {
    refused(f, std::string("tandem show model.onnx --out ") + to, "", {2, 4});
    ++cases;
  }
  for (const char* to : {"file", "file/x", "/proc/x", "/dev/null"}) {
    for (const char* command : {"tandem build model.onnx --no-place --out ", "tandem train examples/digits-tiny.yaml --out ", "tandem explore examples/explore-folding.yaml --out "}) refused(f, std::string(command) + to, "", {2, 4});
    ++cases;
  }
  for (const char* line : {"tandem show", "tandem nosuch", "tandem show model.onnx --nosuch", "tandem show model.onnx extra", "tandem build model.onnx --target nosuch --no-place",
                           "tandem build model.onnx --clock -3", "tandem build model.onnx --clock abc", "tandem build model.onnx --frames 99999999999999999999", "tandem ops NoSuch",
                           "tandem schema nosuch", "tandem explain nosuch", "tandem completion fish", "tandem formats 'int99999999999999999999'", "tandem verify model.onnx", "tandem verify absent",
                           "tandem run model.onnx --input model.onnx", "tandem selftest --graphs=-1", "tandem ops --jobs 99999999999999999999", "tandem show model.onnx --memory 1e40G",
                           "tandem show model.onnx --out model.onnx", "tandem show model.onnx --out absent/x", "tandem diff model.onnx x.npz"}) {
    refused(f, line, "", {1, 2});
    ++cases;
  }
  EXPECT_GE(cases, 100u);
}

TEST(BadInput, OddPlacesAreNoErrors) {
  const Examples f;
  const fs::path odd = f.path / "ein Ordner mit Ümlaut";
  fs::create_directory(odd);
  fs::copy_file(f.path / "model.onnx", odd / "-x.onnx");
  EXPECT_EQ(f.run("cd 'ein Ordner mit Ümlaut' && tandem show ./-x.onnx").code, 0);
  EXPECT_EQ(f.run("env -u HOME -u XDG_CACHE_HOME tandem doctor 'ein Ordner mit Ümlaut/-x.onnx'").code, 0);
  EXPECT_EQ(f.run("tandem show model.onnx --out 'ein Ordner mit Ümlaut/schöne Tabelle.txt'").code, 0);
}

}  // namespace
}  // namespace tandem
