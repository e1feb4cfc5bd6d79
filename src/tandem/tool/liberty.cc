#include "tandem/tool/liberty.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>

#include "tandem/base/error.h"

namespace tandem::tool {
namespace {

// Words, quoted strings and single marks; comments and continued lines left out.
struct Reader {
  std::string_view t;
  std::string_view file;
  std::size_t at = 0;
  int line = 1;

  Error error(std::string what) const { return bad_input("{}", what).at(fmt::format("{}:{}", file, line)).expected("a Liberty file"); }
  void space() {
    while (at < t.size()) {
      if (t[at] == '\n') ++line, ++at;
      else if (std::isspace(static_cast<unsigned char>(t[at])) || t[at] == '\\') ++at;
      else if (t.substr(at, 2) == "/*") {
        const auto end = t.find("*/", at + 2);
        if (end == std::string_view::npos) throw error("a comment does not end");
        line += static_cast<int>(std::count(t.begin() + static_cast<std::ptrdiff_t>(at), t.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
        at = end + 2;
      } else if (t.substr(at, 2) == "//") {
        while (at < t.size() && t[at] != '\n') ++at;
      } else {
        return;
      }
    }
  }
  bool done() {
    space();
    return at >= t.size();
  }
  char peek() {
    space();
    return at < t.size() ? t[at] : '\0';
  }
  bool take(char c) {
    if (peek() != c) return false;
    ++at;
    return true;
  }
  std::string word() {
    space();
    if (at >= t.size()) throw error("it ends too early");
    if (t[at] == '"') {
      const auto end = t.find('"', at + 1);
      if (end == std::string_view::npos) throw error("a string does not end");
      std::string s(t.substr(at + 1, end - at - 1));
      line += static_cast<int>(std::count(s.begin(), s.end(), '\n'));
      at = end + 1;
      return s;
    }
    const auto start = at;
    while (at < t.size() && (std::isalnum(static_cast<unsigned char>(t[at])) || std::string_view("_.+-*[]!:'").find(t[at]) != std::string_view::npos) && !(t[at] == ':' && at > start)) ++at;
    if (at == start) throw error(fmt::format("'{}' is unexpected", printable(t.substr(at, 1))));
    return std::string(t.substr(start, at - start));
  }
};

struct Group {
  std::string name;
  std::vector<std::string> arguments;
  std::vector<std::pair<std::string, std::string>> attributes;
  std::vector<Group> groups;

  std::string attribute(std::string_view key) const {
    for (const auto& [k, v] : attributes)
      if (k == key) return v;
    return {};
  }
  double number(std::string_view key) const {
    const std::string s = attribute(key);
    double x = 0;
    const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), x);
    return ec == std::errc() && end == s.data() + s.size() ? x : 0;
  }
};

// Tables and timing are skipped: only their names are kept.
Group group(Reader& r, std::string name, int depth) {
  if (depth > 12) throw r.error("nested too deeply");
  Group g;
  g.name = std::move(name);
  while (!r.take(')')) {
    g.arguments.push_back(r.word());
    r.take(',');
  }
  if (!r.take('{')) throw r.error(fmt::format("'{}' opens no group", printable(g.name)));
  while (!r.take('}')) {
    if (r.done()) throw r.error("a group does not end");
    if (r.take(';')) continue;
    std::string key = r.word();
    if (r.take(':')) {
      std::string value = r.word();
      while (r.peek() != ';' && r.peek() != '}') {  // an expression without quotes, or a line without its semicolon
        if (r.t.substr(r.at).find('\n') < r.t.substr(r.at).find(';')) break;
        value += r.word();
      }
      r.take(';');
      g.attributes.emplace_back(std::move(key), std::move(value));
    } else if (r.take('(')) {
      const std::size_t back = r.at;
      const int line = r.line;
      std::string all;
      while (!r.take(')')) {
        all += (all.empty() ? "" : ", ") + r.word();
        r.take(',');
      }
      if (r.peek() == '{') {
        r.at = back, r.line = line;
        Group inner = group(r, key, depth + 1);
        if (inner.name == "library" || inner.name == "cell" || inner.name == "pin" || inner.name == "ff" || inner.name == "latch" || inner.name == "statetable" || inner.name == "bus" ||
            inner.name == "internal_power" || inner.name == "rise_power" || inner.name == "fall_power")
          g.groups.push_back(std::move(inner));
      } else {
        r.take(';');
        if (key == "values" || key == "capacitive_load_unit") g.attributes.emplace_back(std::move(key), std::move(all));
      }
    } else {
      throw r.error(fmt::format("'{}' is neither attribute nor group", printable(key)));
    }
  }
  return g;
}

// A Liberty function as a Verilog expression: ! and ' not, ^ xor, & * and a blank and, | + or; in this order of strength.
struct Function {
  std::string_view s;
  std::size_t at = 0;
  bool ok = true;
  int depth = 0;

  void blanks() {
    while (at < s.size() && s[at] == ' ') ++at;
  }
  bool starts() {  // of an operand
    blanks();
    return at < s.size() && (std::isalnum(static_cast<unsigned char>(s[at])) || s[at] == '_' || s[at] == '(' || s[at] == '!');
  }
  std::string primary() {
    blanks();
    std::string r;
    if (at < s.size() && s[at] == '!') {
      ++at;
      r = "~" + primary();
    } else if (at < s.size() && s[at] == '(' && ++depth < 64) {
      ++at;
      r = "(" + alternatives() + ")";
      blanks();
      if (at < s.size() && s[at] == ')') ++at;
      else ok = false;
      --depth;
    } else {
      while (at < s.size() && (std::isalnum(static_cast<unsigned char>(s[at])) || s[at] == '_')) r += s[at++];
      if (r.empty()) ok = false;
      if (r == "0" || r == "1") r = "1'b" + r;
    }
    blanks();
    while (at < s.size() && s[at] == '\'') ++at, r = "(~" + r + ")";
    return r;
  }
  std::string differences() {
    std::string r = primary();
    for (blanks(); ok && at < s.size() && s[at] == '^'; blanks()) ++at, r = "(" + r + " ^ " + primary() + ")";
    return r;
  }
  std::string products() {
    std::string r = differences();
    for (;;) {
      blanks();
      if (!ok || at >= s.size()) return r;
      if (s[at] == '&' || s[at] == '*') ++at;
      else if (!starts()) return r;
      r = "(" + r + " & " + differences() + ")";
    }
  }
  std::string alternatives() {
    std::string r = products();
    for (blanks(); ok && at < s.size() && (s[at] == '|' || s[at] == '+'); blanks()) ++at, r = "(" + r + " | " + products() + ")";
    return r;
  }
};
std::string verilog(std::string_view function) {
  Function f{function};
  std::string r = f.alternatives();
  f.blanks();
  return f.ok && f.at == function.size() ? r : "";
}

// Value of a Verilog expression as `verilog` writes it, its two first inputs given.
bool holds(std::string_view e, std::size_t& at, const std::map<std::string, bool, std::less<>>& of) {
  const auto skip = [&] { while (at < e.size() && e[at] == ' ') ++at; };
  const auto one = [&](const auto& self) -> bool {
    skip();
    if (at < e.size() && e[at] == '~') return ++at, !self(self);
    if (at < e.size() && e[at] == '(') {
      ++at;
      const bool v = holds(e, at, of);
      ++at;
      return v;
    }
    const auto start = at;
    while (at < e.size() && (std::isalnum(static_cast<unsigned char>(e[at])) || e[at] == '_' || e[at] == '\'')) ++at;
    const auto it = of.find(e.substr(start, at - start));
    return it != of.end() ? it->second : e.substr(start, at - start) == "1'b1";
  };
  bool v = one(one);
  for (skip(); at < e.size() && e[at] != ')'; skip()) {
    const char op = e[at++];
    const bool b = one(one);
    v = op == '&' ? v && b : op == '|' ? v || b : v != b;
  }
  return v;
}
std::vector<std::string> inputs(const LibertyCell& c) {
  std::vector<std::string> r;
  for (const LibertyPin& p : c.pins)
    if (!p.output) r.push_back(p.name);
  return r;
}
// The entry in the middle of a table of energies.
double middle(const Group& g) {
  std::vector<double> v;
  const std::string all = g.attribute("values");
  for (std::size_t at = 0; at < all.size();) {
    at = all.find_first_not_of(" ,\n\t\\\"", at);
    if (at == std::string::npos) break;
    double x = 0;
    const auto [end, ec] = std::from_chars(all.data() + at, all.data() + all.size(), x);
    if (ec != std::errc()) return 0;
    v.push_back(x);
    at = static_cast<std::size_t>(end - all.data());
  }
  return v.empty() ? 0 : v[v.size() / 2];
}
double energy(const Group& pin) {
  double sum = 0, n = 0;
  for (const Group& p : pin.groups)
    if (p.name == "internal_power")
      for (const Group& t : p.groups) sum += middle(t), ++n;
  return n > 0 ? sum / n : 0;
}
// Truth table of a cell with one output and at most two inputs, first input in bit 0 of the row; nothing for others.
std::optional<unsigned> table(const LibertyCell& c) {
  const auto in = inputs(c);
  if (c.other || !c.next_state.empty() || in.empty() || in.size() > 2 || c.pins.size() != in.size() + 1) return {};
  for (const LibertyPin& p : c.pins)
    if (p.output && !p.function.empty()) {
      unsigned r = 0;
      for (unsigned row = 0; row < 1u << in.size(); ++row) {
        std::map<std::string, bool, std::less<>> of;
        for (std::size_t i = 0; i < in.size(); ++i) of[in[i]] = row >> i & 1;
        std::size_t at = 0;
        r |= static_cast<unsigned>(holds(p.function, at, of)) << row;
      }
      return r;
    }
  return {};
}

}  // namespace

const LibertyPin* LibertyCell::pin(std::string_view n) const {
  for (const LibertyPin& p : pins)
    if (p.name == n) return &p;
  return nullptr;
}

Liberty read_liberty(std::string_view text, std::string_view file) {
  Reader r{text, file};
  if (r.word() != "library" || !r.take('(')) throw r.error("it does not begin with a library");
  const Group g = group(r, "library", 0);
  Liberty l;
  l.name = g.arguments.empty() ? "" : g.arguments[0];
  l.voltage = g.number("nom_voltage");
  std::string load = g.attribute("capacitive_load_unit");
  std::transform(load.begin(), load.end(), load.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const double leak = g.attribute("leakage_power_unit") == "1uW" ? 1e3 : g.attribute("leakage_power_unit") == "1pW" ? 1e-3 : 1;
  if (!(load.starts_with("1") && load.ends_with("pf"))) throw bad_input("the library counts capacitances in '{}'", printable(load)).at(std::string(file)).expected("capacitive_load_unit (1, pf)");
  bool ff = false;
  for (const Group& c : g.groups) {
    if (c.name != "cell" || c.arguments.empty()) continue;
    LibertyCell cell;
    cell.name = c.arguments[0];
    cell.area = c.number("area");
    cell.leakage = leak * c.number("cell_leakage_power");
    for (const Group& p : c.groups) {
      if (p.name == "latch" || p.name == "statetable" || p.name == "bus") cell.other = true;
      if (p.name == "ff") {
        cell.state = p.arguments.empty() ? "" : p.arguments[0];
        cell.inverse = p.arguments.size() < 2 ? "" : p.arguments[1];
        cell.next_state = verilog(p.attribute("next_state"));
        cell.clock = verilog(p.attribute("clocked_on"));
        if (!p.attribute("clear").empty() || !p.attribute("preset").empty() || cell.next_state.empty() || cell.clock.empty()) cell.other = true;
      }
      if (p.name != "pin" || p.arguments.empty()) continue;
      LibertyPin pin{p.arguments[0], p.attribute("direction") == "output", p.attribute("clock") == "true", p.number("capacitance"), energy(p), verilog(p.attribute("function"))};
      if (!p.attribute("three_state").empty()) cell.other = true;
      cell.pins.push_back(std::move(pin));
    }
    ff = ff || (!cell.other && !cell.next_state.empty());
    l.cells[cell.name] = std::move(cell);
  }
  double largest = 0;
  for (const auto& [name, c] : l.cells) {
    const auto t = table(c);
    if (t == 0b0111u && (l.gate_area == 0 || c.area < l.gate_area)) l.gate_area = c.area;
    if (t == 0b10u && inputs(c).size() == 1 && !name.starts_with("CLK") && c.area > largest) largest = c.area, l.buffer = name;
  }
  if (!(l.gate_area > 0) || l.buffer.empty() || !ff)
    throw bad_input("the library '{}' lacks cells", printable(l.name)).at(std::string(file)).expected("a NAND of two inputs, a buffer, and a flip-flop without clear or preset");
  return l;
}

std::string cell_models(const Liberty& l, const std::set<std::string>& cells) {
  std::string t = "`default_nettype none\n";
  for (const std::string& name : cells) {
    const auto it = l.cells.find(name);
    if (it == l.cells.end()) throw Error(Exit::no, fmt::format("the library {} has no cell '{}'", l.name, printable(name)));
    const LibertyCell& c = it->second;
    const auto refuse = [&] { return Error(Exit::no, fmt::format("the cell {} of {} is no plain function and no plain flip-flop", name, l.name)); };
    if (c.other) throw refuse();
    std::string ports, body;
    for (const LibertyPin& p : c.pins) ports += fmt::format("{}{} wire {}", ports.empty() ? "" : ", ", p.output ? "output" : "input", p.name);
    if (!c.next_state.empty()) {
      const bool falling = c.clock.starts_with('~');
      std::string clock = falling ? c.clock.substr(1) : c.clock;
      while (clock.size() > 2 && clock.front() == '(') clock = clock.substr(1, clock.size() - 2);
      body += fmt::format("  reg state;\n`ifdef RANDOM_STATE\n  initial state = $random;\n`endif\n  always @({} {}) state <= {};\n", falling ? "negedge" : "posedge", clock, c.next_state);
    }
    for (const LibertyPin& p : c.pins) {
      if (!p.output) continue;
      if (p.function.empty()) throw refuse();
      if (c.next_state.empty()) {
        body += fmt::format("  assign {} = {};\n", p.name, p.function);
      } else {
        if (p.function != c.state && p.function != c.inverse) throw refuse();
        body += fmt::format("  assign {} = {}state;\n", p.name, p.function == c.state ? "" : "~");
      }
    }
    t += fmt::format("module {} ({});\n{}endmodule\n", name, ports, body);
  }
  return t;
}

}  // namespace tandem::tool
