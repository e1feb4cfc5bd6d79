// Writing JSON: one escaping writer, so that no name of a user's model breaks a document.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tandem {

// JsonWriter j; j.object().field("n", 3).key("rows").array().value(1).value(2).end().end(); j.text()
// Keys keep the order of calls. Reals are the shortest text that reads back the same; NaN and infinities
// are null. Invalid UTF-8 becomes U+FFFD. Arrays of scalars stay on one line.
class JsonWriter {
 public:
  JsonWriter& object();
  JsonWriter& array();
  JsonWriter& end();
  JsonWriter& key(std::string_view k);
  JsonWriter& value(std::string_view v);
  JsonWriter& value(const char* v) { return value(std::string_view(v)); }
  JsonWriter& value(const std::string& v) { return value(std::string_view(v)); }
  JsonWriter& value(bool v);
  JsonWriter& value(double v);
  JsonWriter& value(std::int64_t v);
  JsonWriter& value(std::uint64_t v);
  JsonWriter& value(int v) { return value(static_cast<std::int64_t>(v)); }
  JsonWriter& null();
  JsonWriter& raw(std::string_view json);  // a whole value, already JSON
  template <class T>
  JsonWriter& values(const std::vector<T>& v) {
    array();
    for (const auto& x : v) value(x);
    return end();
  }
  template <class T>
  JsonWriter& field(std::string_view k, const T& v) { return key(k).value(v); }
  template <class T>
  JsonWriter& field(std::string_view k, const std::vector<T>& v) { return key(k).values(v); }
  // The document, with a final newline. Error(bug) when something is still open.
  std::string text() const;

 private:
  struct Level {
    bool is_object;
    bool empty = true;
    bool inline_ = true;  // array of scalars so far
    std::vector<std::string> parts;
    std::vector<std::string> keys;
  };
  void put(std::string v, bool scalar);
  std::vector<Level> open_;
  std::string key_, done_;
};

std::string json_string(std::string_view s);  // with quotes

}  // namespace tandem
