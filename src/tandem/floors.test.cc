// The first test of the project: an include points to a lower floor, never up, never sideways, except within a
// folder; torch stays behind the door.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>

#include "tandem/base/file.h"

namespace tandem {
namespace {
namespace fs = std::filesystem;

struct Floors {
  std::map<std::string, int> of;  // folder -> floor
  std::set<std::string> door;
};

Floors parse_floors(const std::string& text) {
  Floors f;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string first, folder;
    words >> first;
    while (words >> folder) {
      if (first == "door") f.door.insert(folder);
      else f.of[folder] = std::stoi(first);
    }
  }
  return f;
}

struct Include {
  int line;
  std::string target;  // as written
  bool quoted;
};
// Raw strings hold generated code: only their line breaks are kept.
std::string without_raw_strings(const std::string& s) {
  std::string r;
  for (std::size_t i = 0; i < s.size();) {
    const auto open = s.find("R\"", i);
    const auto paren = open == std::string::npos ? open : s.find('(', open);
    if (paren == std::string::npos || paren - open > 18) return r + s.substr(i);
    const auto close = s.find(")" + s.substr(open + 2, paren - open - 2) + "\"", paren);
    if (close == std::string::npos) return r + s.substr(i);
    r += s.substr(i, open - i);
    r.append(static_cast<std::size_t>(std::count(s.begin() + static_cast<std::ptrdiff_t>(open), s.begin() + static_cast<std::ptrdiff_t>(close), '\n')), '\n');
    i = close + 1;
  }
  return r;
}

std::vector<Include> includes_of(const std::string& source) {
  std::vector<Include> r;
  std::istringstream in(without_raw_strings(source));
  int n = 0;
  for (std::string line; std::getline(in, line);) {
    ++n;
    const auto hash = line.find_first_not_of(" \t");
    if (hash == std::string::npos || line[hash] != '#') continue;
    const auto word = line.find_first_not_of(" \t", hash + 1);
    if (word == std::string::npos || line.compare(word, 7, "include") != 0) continue;
    const auto open = line.find_first_of("\"<", word);
    if (open == std::string::npos) continue;
    const auto close = line.find_first_of("\">", open + 1);
    if (close == std::string::npos) continue;
    r.push_back({n, line.substr(open + 1, close - open - 1), line[open] == '"'});
  }
  return r;
}

// What is wrong with one include of a file in `folder`; "" when nothing is. `test` files of the roof of the house
// (tests/) may include anything that is public.
std::string fault(const Floors& f, const std::string& folder, const Include& i) {
  const bool torch = i.target.starts_with("torch/") || i.target.starts_with("ATen/") || i.target.starts_with("c10/") || i.target.starts_with("caffe2/");
  if (torch) return f.door.count(folder) ? "" : "torch outside the door";
  if (i.quoted && !i.target.starts_with("tandem/")) return "a quoted include is written \"tandem/folder/file.h\"";
  if (!i.target.starts_with("tandem/")) return "";
  if (!i.quoted) return "our own headers are quoted";
  const auto slash = i.target.find('/', 7);
  if (slash == std::string::npos) return "no folder in the include";
  const std::string to = i.target.substr(7, slash - 7);
  const auto here = f.of.find(folder), there = f.of.find(to);
  if (there == f.of.end()) return "unknown folder " + to;
  if (f.door.count(to) && folder != to && i.target != "tandem/train/learn.h") return "only train/learn.h is visible outside the door";
  if (folder == to) return "";
  if (there->second > here->second) return "upwards: " + to + " is above " + folder;
  if (there->second == here->second) return "sideways: " + to + " is beside " + folder;
  return "";
}

TEST(Floors, TheTestItselfSeesEachFault) {
  const Floors f = parse_floors("# x\n3 roof\n2 left train\n1 low\ndoor train\n");
  const auto bad = [&](const char* folder, const char* line) {
    const auto i = includes_of(line);
    return i.size() == 1 && !fault(f, folder, i[0]).empty();
  };
  EXPECT_TRUE(bad("low", "#include \"tandem/left/a.h\""));
  EXPECT_TRUE(bad("left", "#include \"tandem/train/learn.h\""));  // sideways, even to the door
  EXPECT_TRUE(bad("roof", "  #  include \"tandem/train/loop.h\""));
  EXPECT_TRUE(bad("roof", "#include \"tandem/none/a.h\""));
  EXPECT_TRUE(bad("roof", "#include <tandem/low/a.h>"));
  EXPECT_TRUE(bad("roof", "#include <torch/torch.h>"));
  EXPECT_TRUE(bad("roof", "#include \"../low/a.h\""));
  EXPECT_FALSE(bad("train", "#include <torch/torch.h>"));
  EXPECT_FALSE(bad("roof", "#include \"tandem/train/learn.h\""));
  EXPECT_FALSE(bad("roof", "#include \"tandem/low/a.h\""));
  EXPECT_FALSE(bad("low", "#include \"tandem/low/deep/a.h\""));
  EXPECT_FALSE(bad("low", "#include <vector>"));
  EXPECT_EQ(includes_of("a = R\"x(\n#include \"Vtop.h\"\n)x\";\n#include <b>\n").size(), 1u);
}

TEST(Floors, EveryIncludePointsDown) {
  const fs::path root = fs::path(TANDEM_SOURCE_DIR) / "src" / "tandem";
  const Floors f = parse_floors(read_file(root / "floors.txt"));
  ASSERT_EQ(f.of.at("base"), 0);
  int files = 0;
  for (const auto& e : fs::recursive_directory_iterator(root)) {
    const std::string ext = e.path().extension().string();
    if (!e.is_regular_file() || (ext != ".h" && ext != ".cc" && ext != ".inc")) continue;
    const fs::path rel = fs::relative(e.path(), root);
    if (rel == "floors.test.cc") continue;
    const std::string folder = rel.begin()->string();
    ASSERT_TRUE(f.of.count(folder)) << rel << ": the folder has no floor in floors.txt";
    ++files;
    for (const Include& i : includes_of(read_file(e.path()))) {
      const std::string wrong = fault(f, folder, i);
      EXPECT_TRUE(wrong.empty()) << rel.string() << ":" << i.line << ": " << wrong;
      if (i.target.starts_with("tandem/")) {
        EXPECT_TRUE(fs::exists(root.parent_path() / i.target)) << rel.string() << ":" << i.line << ": no such file";
      }
    }
  }
  EXPECT_GT(files, 20);
}

// The door is also closed in the other direction: libtandem does not link torch (checked on the sources: the names of
// torch's namespaces appear in no file outside the door).
TEST(Floors, NoTorchTypeOutsideTheDoor) {
  const fs::path root = fs::path(TANDEM_SOURCE_DIR) / "src" / "tandem";
  const Floors f = parse_floors(read_file(root / "floors.txt"));
  const std::string names[] = {std::string("torch") + "::", std::string("at") + "::Tensor", std::string("c10") + "::"};
  for (const auto& e : fs::recursive_directory_iterator(root)) {
    const std::string ext = e.path().extension().string();
    if (!e.is_regular_file() || (ext != ".h" && ext != ".cc")) continue;
    if (f.door.count(fs::relative(e.path(), root).begin()->string())) continue;
    const std::string text = read_file(e.path());
    for (const auto& n : names) EXPECT_EQ(text.find(n), std::string::npos) << e.path() << " names " << n;
  }
  // learn.h, the door itself, holds no torch type either.
  if (const fs::path learn = root / "train" / "learn.h"; fs::exists(learn)) {
    for (const auto& n : names) EXPECT_EQ(read_file(learn).find(n), std::string::npos) << n;
  }
}

}  // namespace
}  // namespace tandem
