// The book, carried out: every command line of docs/book is run in the order of its page, every line of output that the page
// shows must come, every file that it names is written, every link of the documents leads somewhere.
//
//   ```console        "$ line" is run as typed; what follows must be lines of its output, in this order, blanks squeezed;
//                     "..." stands for any lines; "[exit 1]" is the exit code (0 where nothing is said)
//   <!-- file: F -->  the next fenced block is written to F before what follows
//   <!-- change: F --> the next ```diff block is made in a copy of the source file F, and <!-- source: F --> gives a new one:
//                     the program that follows is the changed one
//   <!-- needs: verilator learn --> the page needs these tools
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "tandem/cli/command.h"
#include "tests/tandem_run.h"

namespace tandem {
namespace {
using namespace shell;

const fs::path kRoot(TANDEM_SOURCE_DIR);

std::vector<std::string> lines_of(const std::string& s) {
  std::istringstream in(s);
  std::vector<std::string> r;
  for (std::string l; std::getline(in, l);) r.push_back(l);
  return r;
}
std::string squeezed(const std::string& s) {
  std::string r;
  for (char c : s)
    if (c != ' ' || (!r.empty() && r.back() != ' ')) r += c;
  while (!r.empty() && r.back() == ' ') r.pop_back();
  return r;
}
std::string between(const std::string& s, const std::string& a, const std::string& b) {
  const std::size_t i = s.find(a);
  if (i == s.npos) return "";
  const std::size_t from = i + a.size(), to = s.find(b, from);
  return squeezed(s.substr(from, to == s.npos ? to : to - from));
}

struct Block {
  std::string kind, text;   // "console", "file", "change", "source"
  std::string file;
  int line = 0;
};
struct Page {
  std::string needs;
  std::vector<Block> blocks;
};
Page read_page(const fs::path& file) {
  Page p;
  Block next;
  bool inside = false;
  int number = 0;
  for (const std::string& l : lines_of(read_file(file))) {
    ++number;
    if (l.rfind("```", 0) == 0) {
      if (inside) {
        if (!next.kind.empty()) p.blocks.push_back(next);
        next = {};
      } else {
        if (l == "```console") next.kind = "console";
        next.line = number;
      }
      inside = !inside;
    } else if (inside) {
      next.text += l + "\n";
    } else if (l.rfind("<!-- needs:", 0) == 0) {
      p.needs = between(l, "needs:", "-->");
    } else {
      for (const char* kind : {"file", "change", "source"})
        if (const std::string name = between(l, std::string("<!-- ") + kind + ":", "-->"); !name.empty()) next.kind = kind, next.file = name;
    }
  }
  EXPECT_FALSE(inside) << file << ": a fence is not closed";
  return p;
}

// A unified diff without numbers: the lines with ' ' and '-' must stand together in the text once; those with ' ' and '+' replace them.
std::string changed(const std::string& text, const std::string& diff, const std::string& where) {
  std::string from, to;
  for (const std::string& l : lines_of(diff)) {
    const std::string rest = l.empty() ? "" : l.substr(1);
    if (l.empty() || l[0] == ' ' || l[0] == '-') from += rest + "\n";
    if (l.empty() || l[0] == ' ' || l[0] == '+') to += rest + "\n";
  }
  const std::size_t at = text.find(from);
  EXPECT_NE(at, text.npos) << where << ": the lines are not in the file:\n" << from;
  if (at == text.npos) return text;
  EXPECT_EQ(text.find(from, at + 1), text.npos) << where << ": the lines are there twice";
  return text.substr(0, at) + to + text.substr(at + from.size());
}

// The program with changed sources: only these and main.cc are compiled, and linked in front of the library, whose own
// definitions then yield.
void rebuild(const Folder& f, const std::set<std::string>& sources, const std::string& where) {
  std::string line = "mkdir -p bin && c++ -std=gnu++20 -O1 -fno-math-errno -DTANDEM_VERSION='\"0.1.0\"' -Isource/src -I'" TANDEM_SOURCE_DIR "/src' '" TANDEM_SOURCE_DIR "/src/tandem/cli/main.cc'";
  for (const std::string& s : sources)
    if (s.ends_with(".cc")) line += " source/" + s;
  const std::string lib = fs::path(TANDEM_CLI).parent_path();
  line += " -o bin/tandem -rdynamic -L'" + lib + "' -Wl,-rpath,'" + lib + "' -ltandem -lfmt -lgmpxx -lgmp";
  const Result r = f.run(line);
  EXPECT_EQ(r.code, 0) << where << "\n" << r.err;
}

void carry_out(const std::string& name, const Page& page) {
  Examples f;
  fs::create_directories(f.path / "docs/book");
  for (const auto& e : fs::directory_iterator(kRoot / "docs/book"))
    if (e.path().extension() != ".md") fs::copy_file(e.path(), f.path / "docs/book" / e.path().filename());
  std::set<std::string> sources;  // changed ones
  bool stale = false;
  for (const Block& b : page.blocks) {
    const std::string where = fmt::format("{}:{}", name, b.line);
    if (b.kind == "file") {
      fs::create_directories((f.path / b.file).parent_path());
      write_file(f.path / b.file, b.text);
      continue;
    }
    if (b.kind == "source" || b.kind == "change") {
      const fs::path to = f.path / "source" / b.file;
      fs::create_directories(to.parent_path());
      write_file(to, b.kind == "source" ? b.text : changed(read_file(fs::exists(to) ? to : kRoot / b.file), b.text, where));
      sources.insert(b.file);
      stale = true;
      continue;
    }
    if (stale) rebuild(f, sources, where);
    stale = false;
    const std::vector<std::string> lines = lines_of(b.text);
    ASSERT_FALSE(lines.empty()) << where;
    ASSERT_EQ(lines[0].rfind("$ ", 0), 0u) << where << ": a console block begins with a command";
    for (std::size_t i = 0; i < lines.size();) {
      std::string command = lines[i++].substr(2);
      while (command.ends_with("\\") && i < lines.size()) command = command.substr(0, command.size() - 1) + lines[i++];
      std::vector<std::string> shown;
      int code = 0;
      for (; i < lines.size() && lines[i].rfind("$ ", 0) != 0; ++i)
        if (lines[i].rfind("[exit ", 0) == 0) code = std::atoi(lines[i].c_str() + 6);
        else if (const std::string s = squeezed(lines[i]); !s.empty() && s != "...") shown.push_back(s);
      // As installed: Python finds tandem.py, and it finds the library.
      const std::string installed = "export PYTHONPATH='" TANDEM_SOURCE_DIR "/python' TANDEM_LIBRARY='" + (fs::path(TANDEM_CLI).parent_path() / "libtandem.so").string() + "'; ";
      const Result r = f.run(installed + (sources.empty() ? "" : "PATH=\"$PWD/bin:$PATH\"; ") + ("{ " + command + " ; } 2>&1"));
      ASSERT_EQ(r.code, code) << where << ": $ " << command << "\n" << r.out;
      const std::vector<std::string> got = lines_of(r.out);
      std::size_t at = 0;
      for (const std::string& s : shown) {
        std::size_t k = at;
        while (k < got.size() && squeezed(got[k]) != s) ++k;
        EXPECT_LT(k, got.size()) << where << ": $ " << command << "\nis shown to say\n  " << s << "\nbut it says\n" << r.out;
        if (k < got.size()) at = k + 1;
      }
    }
  }
}

std::vector<std::string> pages() {
  std::vector<std::string> r;
  for (const auto& e : fs::directory_iterator(kRoot / "docs/book"))
    if (e.path().extension() == ".md") r.push_back(e.path().stem().string());
  std::sort(r.begin(), r.end());
  return r;
}

class BookPage : public ::testing::TestWithParam<std::string> {};
TEST_P(BookPage, IsCarriedOut) {
  const fs::path file = kRoot / "docs/book" / (GetParam() + ".md");
  const Page page = read_page(file);
  EXPECT_GT(page.blocks.size(), 0u) << "a page without a command";
  if (!all_tools_here(page.needs)) {
    ASSERT_EQ(std::getenv("CI"), nullptr) << GetParam() << " needs " << page.needs << ", and CI is set";
    GTEST_SKIP() << GetParam() << ".md needs " << page.needs;
  }
  carry_out(GetParam() + ".md", page);
}
INSTANTIATE_TEST_SUITE_P(Book, BookPage, ::testing::ValuesIn(pages()), [](const auto& i) {
  std::string n = i.param;
  std::replace(n.begin(), n.end(), '-', '_');
  return n;
});

// A command line in a block that no test runs would be a promise.
TEST(Book, CommandLinesStandInConsoleBlocks) {
  for (const auto& e : fs::directory_iterator(kRoot / "docs/book")) {
    if (e.path().extension() != ".md") continue;
    bool inside = false, console = false;
    for (const std::string& l : lines_of(read_file(e.path()))) {
      if (l.rfind("```", 0) == 0) inside = !inside, console = l == "```console";
      else if (inside && !console) EXPECT_NE(l.rfind("$ ", 0), 0u) << e.path() << ": " << l;
    }
  }
}

// Links of README and docs: to a file that is there, or to a heading of it.
TEST(Book, LinksLeadSomewhere) {
  std::vector<fs::path> documents{kRoot / "README.md", kRoot / "SECURITY.md", kRoot / "CHANGELOG.md"};
  for (const fs::path& folder : {kRoot / "docs", kRoot / "src", kRoot / "examples"})
    for (const auto& e : fs::recursive_directory_iterator(folder))
      if (e.path().extension() == ".md") documents.push_back(e.path());
  const auto anchor_of = [](const std::string& heading) {
    std::string a;
    for (char c : heading.substr(heading.find(' ') + 1))
      if (std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_') a += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      else if (c == ' ') a += '-';
    return a;
  };
  int links = 0;
  for (const fs::path& d : documents) {
    bool inside = false;
    for (const std::string& l : lines_of(read_file(d))) {
      if (l.rfind("```", 0) == 0) inside = !inside;
      if (inside) continue;
      for (std::size_t at = 0; (at = l.find("](", at)) != l.npos;) {
        at += 2;
        const std::string to = l.substr(at, l.find(')', at) - at);
        if (to.find("://") != to.npos || to.empty()) continue;
        ++links;
        const std::size_t hash = to.find('#');
        const fs::path file = hash == 0 ? d : d.parent_path() / to.substr(0, hash);
        EXPECT_TRUE(fs::exists(file)) << d << " links to " << to;
        if (hash == to.npos || !fs::is_regular_file(file)) continue;
        bool found = false;
        for (const std::string& h : lines_of(read_file(file))) found |= h.rfind('#', 0) == 0 && anchor_of(h) == to.substr(hash + 1);
        EXPECT_TRUE(found) << d << " links to the heading " << to;
      }
    }
  }
  EXPECT_GT(links, 10);
}

}  // namespace
}  // namespace tandem
