#include "tandem/base/config.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <sstream>
#include <unordered_set>

#include "tandem/base/file.h"
#include "tandem/base/nearest.h"

namespace tandem {

struct ConfigNode {
  Config::Kind kind = Config::Kind::null;
  bool quoted = false;
  int line = 0;                      // 1-based; 0: set on the command line
  std::string text;                  // scalar
  std::string key;                   // below a map; of the root: the file's name
  const ConfigNode* parent = nullptr;
  std::vector<std::unique_ptr<ConfigNode>> children;  // of lists and maps
};

namespace {

using Kind = Config::Kind;

const ConfigNode& root_of(const ConfigNode& n) {
  const ConfigNode* p = &n;
  while (p->parent) p = p->parent;
  return *p;
}

std::string where_of(const ConfigNode& n) {
  const std::string& file = root_of(n).key;
  return n.line > 0 ? fmt::format("{}:{}", file, n.line) : file;
}

std::string path_of(const ConfigNode& n) {
  if (!n.parent) return "";
  const std::string up = path_of(*n.parent);
  if (n.parent->kind == Kind::list) {
    std::size_t i = 0;
    while (n.parent->children[i].get() != &n) ++i;
    return fmt::format("{}[{}]", up, i);
  }
  return up.empty() ? n.key : up + "." + n.key;
}

Error error_at(const ConfigNode& n, const std::string& what) {
  const std::string path = path_of(n);
  return bad_input("{}{}", path.empty() ? "" : path + ": ", what).at(where_of(n));
}

std::string_view describe(Kind k) {
  switch (k) {
    case Kind::null: return "nothing";
    case Kind::scalar: return "a single value";
    case Kind::list: return "a list";
    case Kind::map: return "a map of keys";
  }
  return "";
}

class Builder : public YAML::EventHandler {
 public:
  Builder(ConfigNode& root, const Limits& limits) : root_(root), limits_(limits) {}

  void OnDocumentStart(const YAML::Mark& m) override {
    if (documents_++ > 0) throw fail(m, "a second document begins here").expected("one document in a file");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& m, YAML::anchor_t) override { add(m, Kind::null, "", false); }
  void OnAlias(const YAML::Mark& m, YAML::anchor_t) override {
    throw fail(m, "aliases (*name) are not accepted").fix("write the value out");
  }
  void OnScalar(const YAML::Mark& m, const std::string& tag, YAML::anchor_t, const std::string& value) override {
    check_tag(m, tag);
    add(m, Kind::scalar, value, tag != "?");
  }
  void OnSequenceStart(const YAML::Mark& m, const std::string& tag, YAML::anchor_t, YAML::EmitterStyle::value) override {
    check_tag(m, tag);
    open(m, Kind::list);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& m, const std::string& tag, YAML::anchor_t, YAML::EmitterStyle::value) override {
    check_tag(m, tag);
    open(m, Kind::map);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Level {
    ConfigNode* node;
    bool key_next;
    std::string key;
    std::unordered_set<std::string> seen;
  };

  Error fail(const YAML::Mark& m, const std::string& what) const {
    return bad_input("{}", what).at(fmt::format("{}:{}", root_.key, m.line + 1)).expected("key: value, nested by indenting with blanks");
  }
  void check_tag(const YAML::Mark& m, const std::string& tag) const {
    if (tag.empty() || tag == "?" || tag == "!" || tag.starts_with("tag:yaml.org,2002:")) return;
    throw fail(m, fmt::format("the tag {} is not accepted", printable(tag)));
  }
  ConfigNode* add(const YAML::Mark& m, Kind kind, const std::string& text, bool quoted) {
    if (++nodes_ > limits_.nodes)
      throw Error(Exit::limit, fmt::format("more than {} entries", limits_.nodes)).at(fmt::format("{}:{}", root_.key, m.line + 1));
    ConfigNode* n = &root_;
    if (!levels_.empty()) {
      Level& l = levels_.back();
      if (l.node->kind == Kind::map && l.key_next) {
        if (kind != Kind::scalar) throw fail(m, fmt::format("a key is a word, not {}", describe(kind)));
        if (text.size() > limits_.name_bytes) throw fail(m, fmt::format("a key longer than {} bytes", limits_.name_bytes));
        if (!l.seen.insert(text).second) {
          int first = 0;
          for (const auto& c : l.node->children)
            if (c->key == text) first = c->line;
          throw fail(m, fmt::format("the key '{}' appears twice", printable(text))).expected(fmt::format("one '{}'; the first is in line {}", printable(text), first));
        }
        l.key = text;
        l.key_next = false;
        key_line_ = m.line + 1;
        return nullptr;
      }
      l.node->children.push_back(std::make_unique<ConfigNode>());
      n = l.node->children.back().get();
      n->parent = l.node;
      if (l.node->kind == Kind::map) {
        n->key = std::move(l.key);
        l.key_next = true;
      }
    }
    n->kind = kind;
    n->text = text;
    n->quoted = quoted;
    // A null has no mark of its own: it is where its key is.
    n->line = n->parent && n->parent->kind == Kind::map && kind != Kind::scalar ? key_line_ : m.line + 1;
    return n;
  }
  void open(const YAML::Mark& m, Kind kind) {
    if (levels_.size() >= limits_.depth) throw Error(Exit::limit, fmt::format("nested deeper than {}", limits_.depth)).expected("a file of few levels").at(fmt::format("{}:{}", root_.key, m.line + 1));
    ConfigNode* n = add(m, kind, "", false);
    levels_.push_back({n, kind == Kind::map, {}, {}});
  }
  void close() { levels_.pop_back(); }

  ConfigNode& root_;
  const Limits& limits_;
  std::vector<Level> levels_;
  std::uint64_t nodes_ = 0;
  int documents_ = 0, key_line_ = 0;
};

std::unique_ptr<ConfigNode> clone(const ConfigNode& n, const ConfigNode* parent) {
  auto c = std::make_unique<ConfigNode>();
  c->kind = n.kind, c->quoted = n.quoted, c->line = n.line, c->text = n.text, c->key = n.key, c->parent = parent;
  for (const auto& k : n.children) c->children.push_back(clone(*k, c.get()));
  return c;
}

const ConfigNode* child(const ConfigNode& n, std::string_view key) {
  for (const auto& c : n.children)
    if (c->key == key) return c.get();
  return nullptr;
}

void require_map(const ConfigNode& n) {
  if (n.kind != Kind::map) throw error_at(n, fmt::format("this is {}", describe(n.kind))).expected("a map of keys");
}

std::string joined(std::span<const std::string_view> words) {
  std::string r;
  for (const auto w : words) r += (r.empty() ? "" : ", ") + std::string(w);
  return r;
}

}  // namespace

std::optional<std::int64_t> parse_int(std::string_view s) {
  bool negative = false;
  if (!s.empty() && (s[0] == '+' || s[0] == '-')) {
    negative = s[0] == '-';
    s.remove_prefix(1);
  }
  int base = 10;
  if (s.size() > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
    base = 16;
    s.remove_prefix(2);
  }
  if (s.empty() || s[0] == '-') return std::nullopt;
  std::uint64_t u = 0;
  const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), u, base);
  if (ec != std::errc() || end != s.data() + s.size()) return std::nullopt;
  const std::uint64_t most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) + (negative ? 1 : 0);
  if (u > most) return std::nullopt;
  return static_cast<std::int64_t>(negative ? 0 - u : u);
}

std::optional<double> parse_double(std::string_view s) {
  if (!s.empty() && s[0] == '+') s.remove_prefix(1);
  if (s.empty() || s[0] == '+') return std::nullopt;
  double v = 0;
  const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), v);
  if (ec != std::errc() || end != s.data() + s.size() || !std::isfinite(v)) return std::nullopt;
  return v;
}

Config Config::parse(std::string_view text, std::string file, const Limits& limits) {
  auto root = std::make_shared<ConfigNode>();
  root->kind = Kind::map;
  root->line = 1;
  root->key = printable(file);
  try {
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    Builder b(*root, limits);
    while (parser.HandleNextDocument(b)) {
    }
    if (root->kind == Kind::null) root->kind = Kind::map;
  } catch (const Error&) {
    throw;
  } catch (const YAML::Exception& e) {
    throw bad_input("not well-formed YAML: {}", printable(e.msg)).at(e.mark.is_null() ? root->key : fmt::format("{}:{}", root->key, e.mark.line + 1)).expected("key: value, nested by indenting with blanks");
  } catch (const std::bad_alloc&) {
    throw Error(Exit::limit, "out of memory").at(root->key);
  } catch (const std::exception& e) {
    throw bad_input("not well-formed YAML: {}", printable(e.what())).at(root->key).expected("key: value, nested by indenting with blanks");
  }
  const ConfigNode* n = root.get();
  return Config(std::move(root), n);
}

Config Config::read(const std::filesystem::path& file, const Limits& limits) {
  return parse(read_file(file, limits), file.string(), limits);
}

Config::Kind Config::kind() const { return node_->kind; }
std::string Config::where() const { return where_of(*node_); }
std::string Config::path() const { return path_of(*node_); }
Error Config::error(std::string what) const { return error_at(*node_, what); }

const ConfigNode& Config::scalar(const char* wanted) const {
  if (node_->kind != Kind::scalar) throw error_at(*node_, fmt::format("this is {}", describe(node_->kind))).expected(wanted);
  return *node_;
}

template <> std::string Config::as<std::string>() const { return scalar("a text").text; }
template <> bool Config::as<bool>() const {
  const auto& n = scalar("true or false");
  if (!n.quoted) {
    if (n.text == "true" || n.text == "True" || n.text == "TRUE") return true;
    if (n.text == "false" || n.text == "False" || n.text == "FALSE") return false;
  }
  throw error(fmt::format("'{}' is not a truth value", printable(n.text))).expected("true or false");
}
template <> std::int64_t Config::as<std::int64_t>() const {
  const auto& n = scalar("a whole number");
  const auto v = n.quoted ? std::nullopt : parse_int(n.text);
  if (!v) throw error(fmt::format("'{}' is not a whole number{}", printable(n.text), n.quoted ? " (it is quoted)" : "")).expected("a whole number of at most 64 bits");
  return *v;
}
template <> int Config::as<int>() const {
  const std::int64_t v = as<std::int64_t>();
  if (v < std::numeric_limits<int>::min() || v > std::numeric_limits<int>::max()) throw error(fmt::format("{} is out of range", v)).expected("a whole number of at most 32 bits");
  return static_cast<int>(v);
}
template <> std::uint64_t Config::as<std::uint64_t>() const {
  const auto& n = scalar("a whole number");
  std::string_view s = n.text;
  int base = 10;
  if (s.starts_with("0x") || s.starts_with("0X")) s.remove_prefix(2), base = 16;
  std::uint64_t v = 0;
  const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), v, base);
  if (n.quoted || ec != std::errc() || end != s.data() + s.size() || s.empty())
    throw error(fmt::format("'{}' is not a whole number from 0 up", printable(n.text))).expected("a whole number, 0 to 2^64 - 1");
  return v;
}
template <> double Config::as<double>() const {
  const auto& n = scalar("a number");
  auto v = n.quoted ? std::nullopt : parse_double(n.text);
  if (!v && !n.quoted)
    if (const auto i = parse_int(n.text)) v = static_cast<double>(*i);  // hexadecimal
  if (!v) throw error(fmt::format("'{}' is not a finite number{}", printable(n.text), n.quoted ? " (it is quoted)" : "")).expected("a number such as 0.5 or 1e-3, with a point");
  return *v;
}

bool Config::has(std::string_view key) const {
  require_map(*node_);
  return child(*node_, key) != nullptr;
}

Config Config::at(std::string_view key) const {
  require_map(*node_);
  if (const ConfigNode* c = child(*node_, key)) return Config(root_, c);
  Error e = error_at(*node_, fmt::format("the key '{}' is missing", printable(key))).expected(fmt::format("{}: VALUE", printable(key)));
  const std::string near = nearest(key, keys());
  if (!near.empty()) {
    const ConfigNode* c = child(*node_, near);
    e.fix(fmt::format("line {} has '{}': is '{}' meant?", c->line, printable(near), printable(key)));
  }
  throw e;
}

std::optional<Config> Config::find(std::string_view key) const {
  require_map(*node_);
  const ConfigNode* c = child(*node_, key);
  if (!c || c->kind == Kind::null) return std::nullopt;
  return Config(root_, c);
}

std::vector<std::string> Config::keys() const {
  require_map(*node_);
  std::vector<std::string> r;
  for (const auto& c : node_->children) r.push_back(c->key);
  return r;
}

std::vector<std::pair<std::string, Config>> Config::entries() const {
  require_map(*node_);
  std::vector<std::pair<std::string, Config>> r;
  for (const auto& c : node_->children) r.emplace_back(c->key, Config(root_, c.get()));
  return r;
}

void Config::only(std::span<const std::string_view> known) const {
  require_map(*node_);
  for (const auto& c : node_->children) {
    bool ok = false;
    for (const auto k : known) ok = ok || k == c->key;
    if (ok) continue;
    const std::string near = nearest(c->key, known);
    const std::string path = path_of(*node_);
    Error e = bad_input("{}unknown key '{}'", path.empty() ? "" : path + ": ", printable(c->key)).at(where_of(*c)).expected(known.empty() ? "no key" : "one of " + joined(known));
    if (!near.empty()) e.fix(fmt::format("did you mean '{}'?", near));
    throw e;
  }
}

std::int64_t Config::integer(std::string_view key, std::int64_t lo, std::int64_t hi, std::optional<std::int64_t> fallback) const {
  const auto c = find(key);
  if (!c && fallback) return *fallback;
  const Config v = c ? *c : at(key);
  const auto x = v.as<std::int64_t>();
  if (x < lo || x > hi) throw v.error(fmt::format("{} is out of range", x)).expected(fmt::format("{} to {}", lo, hi));
  return x;
}

double Config::real(std::string_view key, double lo, double hi, std::optional<double> fallback) const {
  const auto c = find(key);
  if (!c && fallback) return *fallback;
  const Config v = c ? *c : at(key);
  const double x = v.as<double>();
  if (!(x >= lo && x <= hi)) throw v.error(fmt::format("{} is out of range", x)).expected(fmt::format("{} to {}", lo, hi));
  return x;
}

std::string Config::choice(std::string_view key, std::initializer_list<std::string_view> words, std::optional<std::string> fallback) const {
  const auto c = find(key);
  if (!c && fallback) return *fallback;
  const Config v = c ? *c : at(key);
  const std::string x = v.as<std::string>();
  const std::span known(words.begin(), words.size());
  for (const auto w : known)
    if (w == x) return x;
  Error e = v.error(fmt::format("'{}' is not known here", printable(x))).expected("one of " + joined(known));
  if (const auto near = nearest(x, known); !near.empty()) e.fix(fmt::format("did you mean '{}'?", near));
  throw e;
}

std::size_t Config::size() const { return node_->children.size(); }

std::vector<Config> Config::items() const {
  if (node_->kind != Kind::list) throw error_at(*node_, fmt::format("this is {}", describe(node_->kind))).expected("a list");
  std::vector<Config> r;
  for (const auto& c : node_->children) r.push_back(Config(root_, c.get()));
  return r;
}

Config Config::with(std::string_view dotted, std::string_view value) const {
  const std::string setting = fmt::format("--set {}={}", printable(dotted), printable(value));
  const Config parsed = parse(value, setting);
  auto root = std::shared_ptr<ConfigNode>(clone(*root_, nullptr));
  ConfigNode* n = root.get();
  for (std::string_view rest = dotted;;) {
    const auto dot = rest.find('.');
    const std::string_view word = rest.substr(0, dot);
    if (word.empty()) throw bad_input("an empty name in the path").at(setting).expected("a.b.c");
    ConfigNode* next = nullptr;
    if (n->kind == Kind::list) {
      const auto i = parse_int(word);
      if (!i || *i < 0 || *i >= static_cast<std::int64_t>(n->children.size()))
        throw bad_input("'{}' is no index of this list", printable(word)).at(setting).expected(fmt::format("0 to {}", static_cast<std::int64_t>(n->children.size()) - 1));
      next = n->children[static_cast<std::size_t>(*i)].get();
    } else {
      if (n->kind == Kind::null) n->kind = Kind::map;
      if (n->kind != Kind::map) throw bad_input("'{}' is a single value", path_of(*n)).at(setting).expected("a map of keys");
      for (auto& c : n->children)
        if (c->key == word) next = c.get();
      if (!next) {
        n->children.push_back(std::make_unique<ConfigNode>());
        next = n->children.back().get();
        next->parent = n;
        next->key = word;
      }
    }
    n = next;
    if (dot == std::string_view::npos) break;
    rest.remove_prefix(dot + 1);
  }
  // parse() reads an empty text as an empty map; as a value it is nothing.
  const bool empty = value.find_first_not_of(" \t\n") == std::string_view::npos;
  auto fresh = clone(*parsed.node_, n->parent);
  n->kind = empty ? Kind::null : fresh->kind;
  n->quoted = fresh->quoted;
  n->text = std::move(fresh->text);
  n->line = 0;
  n->children = std::move(fresh->children);
  for (auto& c : n->children) c->parent = n;
  const ConfigNode* r = root.get();
  return Config(std::move(root), r);
}

}  // namespace tandem
