// What every command owes a user, found from the table of commands: completion, manual page, schemas, explanations.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "tandem/cli/command.h"
#include "tandem/cli/describe.h"
#include "tandem/cli/topics.h"
#include "tandem/tensor/npy.h"
#include "tests/tandem_run.h"

namespace tandem {
namespace {
using namespace shell;

std::vector<std::string> words_of(const std::string& s) {
  std::istringstream in(s);
  std::vector<std::string> r;
  for (std::string w; in >> w;) r.push_back(w);
  return r;
}

TEST(Manners, TheDescriptionOfACommandIsWhatItsHelpSays) {
  const Folder f;
  for (const cli::Command* c : cli::all_commands()) {
    std::set<std::string> described;
    const cli::CommandDoc d = cli::describe(*c);
    for (const auto* list : {&d.options, &cli::common_options()})
      for (const cli::OptionDoc& o : *list) described.insert(o.names.begin(), o.names.end());
    std::set<std::string> helped;
    std::istringstream help(f.run("tandem " + std::string(c->name) + " --help").out);
    for (std::string line; std::getline(help, line) && line != "Examples:";) {
      const std::size_t at = line.find_first_not_of(' ');
      if (at == std::string::npos || at > 4 || line[at] != '-') continue;
      for (const std::string& w : words_of(line.substr(0, line.find("  ", at)))) {
        std::string name = w;
        for (std::size_t comma; (comma = name.find(',')) != std::string::npos; name = name.substr(comma + 1)) helped.insert(name.substr(0, comma));
        if (!name.empty() && name[0] == '-') helped.insert(name);
      }
    }
    EXPECT_EQ(described, helped) << c->name;
    EXPECT_FALSE(c->schema.empty()) << c->name;
    bool judged = false;  // by the test of examples: a document that needs no tool, or one that is asked for
    for (const cli::Example& e : c->examples) judged |= e.needs.empty() || e.command.find("--json") != std::string_view::npos;
    EXPECT_TRUE(judged) << c->name << " has no example whose --json document is compared with its schema";
  }
}

// What bash offers for a typed line; the last word is the one being typed (it may be empty).
std::set<std::string> offered(const Folder& f, const std::vector<std::string>& line) {
  std::string words;
  for (const std::string& w : line) words += " '" + w + "'";
  write_file(f.path / "ask.sh", "source ./completion\nCOMP_WORDS=(" + words + ")\nCOMP_CWORD=" + std::to_string(line.size() - 1) + "\n_tandem\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n");
  const Result r = f.run("env -i bash --norc --noprofile ask.sh");
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.err, "");
  const std::vector<std::string> w = words_of(r.out);
  return {w.begin(), w.end()};
}

TEST(Manners, BashCompletes) {
  if (!all_tools_here("bash")) GTEST_SKIP() << "needs bash";
  const Folder f;
  write_file(f.path / "completion", f.run("tandem completion bash").out);
  std::set<std::string> commands{"help"};
  for (const cli::Command* c : cli::all_commands()) commands.emplace(c->name);
  EXPECT_EQ(offered(f, {"tandem", ""}), commands);
  EXPECT_EQ(offered(f, {"tandem", "help", ""}), commands);
  EXPECT_EQ(offered(f, {"tandem", "sho"}), std::set<std::string>{"show"});
  EXPECT_EQ(offered(f, {"tandem", "--ver"}), std::set<std::string>{"--version"});
  EXPECT_EQ(offered(f, {"tandem", "--seed", "3", "sho"}), std::set<std::string>{"show"});
  EXPECT_TRUE(offered(f, {"tandem", "build", "m.onnx", "--target", ""}).count("up5k"));
  EXPECT_EQ(offered(f, {"tandem", "build", "--target", "=", "up5"}), std::set<std::string>{"up5k"});
  EXPECT_EQ(offered(f, {"tandem", "show", "--table", ""}), (std::set<std::string>{"text", "md", "csv"}));
  EXPECT_EQ(offered(f, {"tandem", "ops", "GlobalMaxP"}), std::set<std::string>{"GlobalMaxPool"});
  EXPECT_EQ(offered(f, {"tandem", "build", ""}), std::set<std::string>{});  // bash then offers file names
  for (const cli::Command* c : cli::all_commands()) {
    const cli::CommandDoc d = cli::describe(*c);
    std::set<std::string> options;
    for (const auto* list : {&d.options, &cli::common_options()})
      for (const cli::OptionDoc& o : *list)
        for (const std::string& n : o.names)
          if (n.starts_with("--")) options.insert(n);
    EXPECT_EQ(offered(f, {"tandem", std::string(c->name), "--"}), options) << c->name;
  }
}

TEST(Manners, ZshReadsItsCompletion) {
  const Folder f;
  const std::string text = f.run("tandem completion zsh").out;
  EXPECT_EQ(text.rfind("#compdef tandem\n", 0), 0u);
  for (const cli::Command* c : cli::all_commands()) EXPECT_HAS(text, "        " + std::string(c->name) + ")\n");
  if (!all_tools_here("zsh")) GTEST_SKIP() << "zsh is not here: its syntax was not checked";
  write_file(f.path / "_tandem", text);
  const Result r = f.run("zsh -n _tandem");
  EXPECT_EQ(r.code, 0) << r.err;
}

TEST(Manners, TheManualPageIsWellFormed) {
  const Folder f;
  const std::string page = f.run("tandem man").out;
  EXPECT_EQ(page.rfind(".TH TANDEM 1 ", 0), 0u);
  const std::set<std::string> requests{".TH", ".SH", ".SS", ".TP", ".PP", ".B", ".I", ".br", ".nf", ".fi", ".RS", ".RE"};
  std::vector<std::string> sections;
  int filled = 0, indented = 0;
  std::istringstream in(page);
  std::string before;
  for (std::string line; std::getline(in, line); before = line) {
    for (unsigned char c : line) EXPECT_GE(c, 0x20u) << line;
    EXPECT_NE(line[0], '\'') << line;
    for (std::size_t i = 0; i < line.size(); ++i)  // only escapes that we write
      if (line[i] == '\\') {
        ASSERT_LT(i + 1, line.size()) << line;
        EXPECT_NE(std::string("-e&f").find(line[i + 1]), std::string::npos) << line;
        ++i;
      }
    if (line.rfind(".TP", 0) == 0) EXPECT_NE(before, ".TP");
    if (line[0] != '.') continue;
    const std::string name = line.substr(0, line.find(' '));
    EXPECT_TRUE(requests.count(name)) << line;
    if (name == ".SH") sections.push_back(line.substr(4));
    filled += name == ".nf" ? 1 : name == ".fi" ? -1 : 0;
    indented += name == ".RS" ? 1 : name == ".RE" ? -1 : 0;
  }
  EXPECT_EQ(filled, 0);
  EXPECT_EQ(indented, 0);
  EXPECT_EQ(sections, (std::vector<std::string>{"NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "COMMON OPTIONS", "EXIT STATUS", "ENVIRONMENT", "FILES"}));
  for (const cli::Command* c : cli::all_commands()) EXPECT_HAS(page, ".SS \\fBtandem " + std::string(c->name) + "\\fR");
}

TEST(Manners, EveryPageOfExplainIsReachable) {
  const Folder f;
  std::set<std::string_view> names;
  for (const cli::Topic& t : cli::topics()) {
    EXPECT_TRUE(names.insert(t.name).second) << t.name;
    EXPECT_GT(t.page.size(), 200u) << t.name;
    const Result r = f.run("tandem explain " + std::string(t.name));
    EXPECT_EQ(r.code, 0);
    EXPECT_HAS(r.out, std::string(t.page));
    for (std::string_view p : t.phrases) {  // a phrase of an earlier page must not hide this one's
      const cli::Topic* found = cli::topic_of(Error(Exit::no, "x " + std::string(p) + " y"));
      ASSERT_NE(found, nullptr);
      EXPECT_EQ(found->name, t.name) << p;
    }
    std::istringstream page{std::string(t.page)};
    for (std::string line; std::getline(page, line);) EXPECT_LE(line.size(), 120u) << line;
  }
  Result r = f.run("tandem explain flaot-contraction");
  EXPECT_EQ(r.code, 2);
  EXPECT_HAS(r.err, "did you mean 'float-contraction'?");
  EXPECT_HAS(f.run("tandem explain exit-1").out, "answered");
}

TEST(Manners, ErrorsPointAtTheirPage) {
  const Examples f;
  const auto points = [&](const std::string& line, const char* topic) {
    const Result r = f.run(line);
    EXPECT_NE(r.code, 0) << line;
    EXPECT_HAS(r.err, std::string("more:     tandem explain ") + topic + "\n");
  };
  points("tandem show '" TANDEM_SOURCE_DIR "/tests/corpus/onnx/unknown.onnx'", "unknown-operator");
  points("tandem show '" TANDEM_SOURCE_DIR "/tests/corpus/onnx/truncated.onnx'", "models");
  points("tandem show model.onnx --memory 1K", "limits");
  points("touch keep; tandem ops --out keep", "overwriting");
}

TEST(Manners, DiffAnswersByItsExitCode) {
  const Examples f;
  Result r = f.run("tandem diff model.onnx model.onnx");
  EXPECT_EQ(r.code, 0);
  r = f.run("tandem diff model.onnx '" TANDEM_SOURCE_DIR "/tests/corpus/onnx/random0.onnx' --json");
  EXPECT_EQ(r.code, 1);
  EXPECT_FALSE(Config::parse(r.out).at("equal").as<bool>());
  EXPECT_EQ(f.run("tandem diff model.onnx .").code, 2);
  EXPECT_EQ(f.run("tandem diff model.onnx absent.onnx").code, 2);
}

TEST(Manners, DoctorAnswersByItsExitCode) {
  const Examples f;
  Result r = f.run("tandem doctor '" TANDEM_SOURCE_DIR "/tests/corpus/onnx/unknown.onnx'");
  EXPECT_EQ(r.code, 1);
  EXPECT_HAS(r.out, "node 'act' (Relux)");
  EXPECT_EQ(f.run("tandem doctor model.onnx").code, 0);
  EXPECT_EQ(f.run("tandem doctor --target up5k").code, 2);
}

// ---- Python -------------------------------------------------------------------------------------------
TEST(Manners, PythonRunsAsTheCommandDoes) {
  if (!all_tools_here("python3")) GTEST_SKIP() << "needs python3";
  const Examples f;
  write_file(f.path / "ask.py", R"(import json, sys, array, zipfile, struct, os
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "plain": sys.modules["numpy"] = None  # as where it is not installed
import tandem
if sys.argv[2] == "plain": assert tandem._np is None
m = tandem.load("model.onnx")
assert [i["name"] for i in m.inputs] == ["x"] and m.inputs[0]["shape"] == ["batch", 1, 8, 8], m.inputs
raw = zipfile.ZipFile("x.npz").read("x.npy")
at = 10 + struct.unpack("<H", raw[8:10])[0]
v = array.array("f"); v.frombytes(raw[at:])
n = len(v) // 64
x = [[[[v[(b * 8 + r) * 8 + c] for c in range(8)] for r in range(8)]] for b in range(n)]
answer = {}
for exact in (False, True):
    a = m.run(x, exact=exact)["logits"].tolist()
    assert a == m.run({"x": x}, exact=exact)["logits"].tolist() == m.run(x=tandem.Array([n, 1, 8, 8], "f32", v), exact=exact)["logits"].tolist()
    answer["exact" if exact else "float"] = a
if tandem._np is not None:
    y = m.run(x=tandem._np.array(x, dtype="float32"), exact=True)["logits"]
    assert y.dtype.name == "float32" and y.tolist() == answer["exact"]
d = m.doctor(target="up5k")
assert d["ok"] and len(d["nodes"]) == m.nodes
b = m.build("design", target="up5k", verify=False, place=False)
assert b["ok"] and os.path.exists("design/rtl/net.v"), b
def refused(f, code, *parts):
    try:
        f()
    except tandem.Error as e:
        assert e.code == code and all(p in str(e) for p in parts), str(e)
    else:
        raise AssertionError("accepted")
refused(lambda: tandem.load("absent.onnx"), 2, "absent.onnx")
refused(lambda: m.run(y=x), 2, "'x'")
refused(lambda: m.run(x=[[1]]), 2, "rank")
refused(lambda: m.run(x=tandem.Array([1, 1, 8, 8], "u8", [0] * 64)), 2, "u8", "f32")
refused(lambda: m.build("design", target="up5k"), 2, "design")
refused(lambda: m.build("other", tarrget="up5k"), 2, "did you mean 'target'?")
refused(lambda: m.build("other", target="no-such"), 2, "no-such")
refused(lambda: m.doctor(input_format="float7"), 2)
print(json.dumps(answer))
)");
  // With numpy where it is installed, and without.
  Result r;
  for (const char* form : {"plain", "numpy"}) {
    fs::remove_all(f.path / "design");
    const std::string before = r.out;
    r = f.run("TANDEM_LIBRARY='" + (fs::path(TANDEM_CLI).parent_path() / "libtandem.so").string() + "' python3 ask.py '" TANDEM_SOURCE_DIR "/python' " + form);
    ASSERT_EQ(r.code, 0) << form << "\n" << r.err;
    if (!before.empty()) EXPECT_EQ(r.out, before);
  }
  const Config answer = Config::parse(r.out, "stdout");
  for (const char* engine : {"float", "exact"}) {
    ASSERT_EQ(f.run(std::string("tandem run model.onnx --input x.npz --force --out y.npz") + (std::string(engine) == "exact" ? " --exact" : "")).code, 0);
    const Tensor y = read_npz(f.path / "y.npz").at("logits");
    std::vector<double> flat;
    for (const Config& row : answer.at(engine).items())
      for (const Config& v : row.items()) flat.push_back(v.as<double>());
    ASSERT_EQ(static_cast<std::int64_t>(flat.size()), y.size());
    for (std::int64_t i = 0; i < y.size(); ++i) EXPECT_EQ(flat[static_cast<std::size_t>(i)], y.at(i));  // f32 widened to double and printed in full
  }
}

}  // namespace
}  // namespace tandem
