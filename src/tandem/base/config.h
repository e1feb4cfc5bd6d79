// The one reader of user files: YAML, and JSON as a part of it. yaml-cpp stays in the .cc.
//
//   Config c = Config::read("study.yaml");
//   c.only({"name", "epochs", "layers"});            // unknown key: Error with the nearest key and its line
//   auto name = c.required<std::string>("name");
//   auto epochs = c.optional_or<int>("epochs", 20);
//   for (const Config& l : c.at("layers").items()) ...
//
// Every Error names file:line and the key's path ("layers[2].width"). Aliases, duplicate keys, several
// documents, and trees beyond Limits::nodes and Limits::depth are errors. Numbers are read without regard
// to the locale. A Config is a cheap handle; the tree lives as long as any handle of it.
#pragma once
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tandem/base/error.h"
#include "tandem/base/limits.h"

namespace tandem {

struct ConfigNode;

class Config {
 public:
  enum class Kind { null, scalar, list, map };

  // An empty text is an empty map.
  static Config parse(std::string_view text, std::string file = "<text>", const Limits& limits = {});
  static Config read(const std::filesystem::path& file, const Limits& limits = {});

  Kind kind() const;
  bool is_null() const { return kind() == Kind::null; }
  bool is_scalar() const { return kind() == Kind::scalar; }
  bool is_list() const { return kind() == Kind::list; }
  bool is_map() const { return kind() == Kind::map; }
  std::string where() const;  // "study.yaml:12"
  std::string path() const;   // "layers[2].width"; "" for the root
  // An Error(bad_input) at this place: throw c.error("width must be even").
  Error error(std::string what) const;

  // The scalar as T: std::string, bool (true, false), int, std::int64_t, std::uint64_t, double. Integers
  // also in hexadecimal (0x1f). Doubles are finite. A quoted scalar is a string, never a number.
  template <class T> T as() const;

  // --- maps ---
  bool has(std::string_view key) const;
  Config at(std::string_view key) const;                  // Error when absent (names a near key)
  std::optional<Config> find(std::string_view key) const;  // nullopt when absent or null
  std::vector<std::string> keys() const;                  // in file order
  std::vector<std::pair<std::string, Config>> entries() const;
  // Throws when a key is not in `known`, naming the nearest one and the line.
  void only(std::initializer_list<std::string_view> known) const { only(std::span(known.begin(), known.size())); }
  void only(std::span<const std::string_view> known) const;
  template <class T> T required(std::string_view key) const { return at(key).as<T>(); }
  template <class T> T optional_or(std::string_view key, T fallback) const {
    const auto c = find(key);
    return c ? c->template as<T>() : std::move(fallback);
  }
  template <class T> std::optional<T> optional(std::string_view key) const {
    const auto c = find(key);
    return c ? std::optional<T>(c->template as<T>()) : std::nullopt;
  }
  // An integer or real within [lo, hi], else an Error that says so.
  std::int64_t integer(std::string_view key, std::int64_t lo, std::int64_t hi, std::optional<std::int64_t> fallback = {}) const;
  double real(std::string_view key, double lo, double hi, std::optional<double> fallback = {}) const;
  // One of `words`, else an Error that lists them and names the nearest.
  std::string choice(std::string_view key, std::initializer_list<std::string_view> words, std::optional<std::string> fallback = {}) const;

  // --- lists ---
  std::size_t size() const;                // of a list or map
  std::vector<Config> items() const;       // Error unless a list
  template <class T> std::vector<T> list() const {
    std::vector<T> r;
    for (const Config& c : items()) r.push_back(c.template as<T>());
    return r;
  }

  // A copy of the whole tree with one value replaced or added: `--set a.b=3`. `value` is YAML.
  Config with(std::string_view dotted_path, std::string_view value) const;

 private:
  Config(std::shared_ptr<const ConfigNode> root, const ConfigNode* n) : root_(std::move(root)), node_(n) {}
  const ConfigNode& scalar(const char* wanted) const;
  std::shared_ptr<const ConfigNode> root_;
  const ConfigNode* node_;
};

template <> std::string Config::as<std::string>() const;
template <> bool Config::as<bool>() const;
template <> int Config::as<int>() const;
template <> std::int64_t Config::as<std::int64_t>() const;
template <> std::uint64_t Config::as<std::uint64_t>() const;
template <> double Config::as<double>() const;

// A number in text, the whole of it; nullopt otherwise. No locale.
std::optional<std::int64_t> parse_int(std::string_view s);
std::optional<double> parse_double(std::string_view s);  // finite only

}  // namespace tandem
