#include "tandem/flow/cells.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <set>
#include <nlohmann/json.hpp>

#include "tandem/base/config.h"
#include "tandem/base/file.h"
#include "tandem/base/hash.h"
#include "tandem/base/json.h"
#include "tandem/tool/find.h"
#include "tandem/tool/iverilog.h"
#include "tandem/tool/work.h"
#include "tandem/tool/yosys.h"

namespace tandem::flow {
namespace {
using I = std::int64_t;
constexpr int kZero = -1, kOne = -2, kOpen = -3;

// Stillmaker, Baas: Scaling equations for the accurate prediction of CMOS device performance, 2017: area against 45 nm, and a V^2 + b V + c.
struct Node {
  double nm, area, a, b, c;
};
constexpr Node kNodes[] = {{130, 6.4, 7.171, -6.709, 2.904}, {90, 2.8, 4.762, -4.781, 2.092}, {65, 1.5, 3.755, -4.398, 1.975}, {45, 1, 1.103, -.362, .2767},
                           {32, .46, .9559, -.7823, .471}, {20, .21, .373, -.1582, .04104}, {16, .19, .2958, -.1241, .03024}, {14, .17, .2363, -.09675, .02239},
                           {10, .1, .2068, -.09311, .02375}, {7, .059, .1776, -.09097, .02447}};
double area_scale(double nm) {
  if (nm >= kNodes[0].nm) return kNodes[0].area * std::pow(nm / kNodes[0].nm, 2);
  for (std::size_t i = 0; i + 1 < std::size(kNodes); ++i)
    if (nm >= kNodes[i + 1].nm) {
      const double t = (nm - kNodes[i + 1].nm) / (kNodes[i].nm - kNodes[i + 1].nm);
      return kNodes[i + 1].area + t * (kNodes[i].area - kNodes[i + 1].area);
    }
  return kNodes[std::size(kNodes) - 1].area * nm / 7;
}
double energy_at(const Node& n, double v) { return n.a * v * v + n.b * v + n.c; }
double energy_scale(double nm, double v) {
  const double one = energy_at(kNodes[3], 0.9);
  if (nm >= kNodes[0].nm) return energy_at(kNodes[0], 1.2) / one * nm / kNodes[0].nm * std::pow(v / 1.2, 2);
  for (std::size_t i = 0; i + 1 < std::size(kNodes); ++i)
    if (nm >= kNodes[i + 1].nm) {
      const double t = (nm - kNodes[i + 1].nm) / (kNodes[i].nm - kNodes[i + 1].nm);
      return (energy_at(kNodes[i + 1], v) + t * (energy_at(kNodes[i], v) - energy_at(kNodes[i + 1], v))) / one;
    }
  return energy_at(kNodes[std::size(kNodes) - 1], v) / one;
}

bool is_macro(std::string_view type) { return type.starts_with("tandem_sram_"); }
Macro macro_of(std::string_view type) {
  Macro m;
  const std::string_view s = type.substr(std::string_view("tandem_sram_").size());
  const auto x = s.find('x');
  m.words = parse_int(s.substr(0, x)).value_or(0);
  m.bits = parse_int(s.substr(x + 1)).value_or(0);
  return m;
}
int address_bits(const Macro& m) { return plan::bits_for(m.words); }

// Pins of a macro, one bit each, so that any reader of Liberty understands them.
std::vector<std::pair<std::string, bool>> macro_pins(const Macro& m) {
  std::vector<std::pair<std::string, bool>> r{{"clk", false}, {"re", false}, {"we", false}};
  for (int i = 0; i < address_bits(m); ++i) r.emplace_back(fmt::format("ra{}", i), false);
  for (int i = 0; i < address_bits(m); ++i) r.emplace_back(fmt::format("wa{}", i), false);
  for (I i = 0; i < m.bits; ++i) r.emplace_back(fmt::format("d{}", i), false);
  for (I i = 0; i < m.bits; ++i) r.emplace_back(fmt::format("q{}", i), true);
  return r;
}
std::string macro_model(const Macro& m) {
  const int a = address_bits(m);
  std::string ports, d, q, ra, wa;
  for (const auto& [n, out] : macro_pins(m)) ports += fmt::format("{}{} wire {}", ports.empty() ? "" : ", ", out ? "output" : "input", n);
  for (I i = m.bits; i-- > 0;) d += fmt::format("d{}{}", i, i ? ", " : ""), q += fmt::format("q{}{}", i, i ? ", " : "");
  for (int i = a; i-- > 0;) ra += fmt::format("ra{}{}", i, i ? ", " : ""), wa += fmt::format("wa{}{}", i, i ? ", " : "");
  return fmt::format("module {} ({});\n  reg [{}:0] mem [0:{}];\n  reg [{}:0] out;\n  always @(posedge clk) begin\n    if (we) mem[{{{}}}] <= {{{}}};\n    if (re) out <= mem[{{{}}}];\n  end\n"
                     "  assign {{{}}} = out;\nendmodule\n", m.name(), ports, m.bits - 1, m.words - 1, m.bits - 1, wa, d, ra, q);
}
// Timing of the macros for OpenSTA: access after the clock, a tenth of it before. Loads as the library's flip-flop.
std::string macro_liberty(const std::vector<Macro>& macros, const hardware::Target& t, double pin_pf) {
  std::string s = fmt::format("library(macros) {{\n  delay_model : table_lookup;\n  time_unit : \"1ns\";\n  voltage_unit : \"1V\";\n  current_unit : \"1mA\";\n  capacitive_load_unit (1,pf);\n"
                              "  leakage_power_unit : \"1nW\";\n  nom_voltage : {};\n", t.technology.supply_v);
  std::set<std::string> done;
  for (const Macro& m : macros) {
    if (!done.insert(m.name()).second) continue;
    const MacroCost c = macro_cost(m, t.technology.node_nm, t.technology.supply_v);
    s += fmt::format("  cell({}) {{\n    area : {:.1f};\n", m.name(), c.area_um2);
    for (const auto& [n, out] : macro_pins(m)) {
      if (n == "clk") {
        s += fmt::format("    pin(clk) {{ direction : input; clock : true; capacitance : {:.6f}; }}\n", pin_pf * 4);
      } else if (out) {
        s += fmt::format("    pin({}) {{ direction : output; capacitance : 0; timing() {{ related_pin : \"clk\"; timing_type : rising_edge;\n", n);
        for (const char* k : {"cell_rise", "cell_fall"}) s += fmt::format("      {}(scalar) {{ values(\"{:.5f}\"); }}\n", k, c.access_ns);
        for (const char* k : {"rise_transition", "fall_transition"}) s += fmt::format("      {}(scalar) {{ values(\"{:.5f}\"); }}\n", k, c.access_ns / 20);
        s += "    } }\n";
      } else {
        s += fmt::format("    pin({}) {{ direction : input; capacitance : {:.6f}; timing() {{ related_pin : \"clk\"; timing_type : setup_rising;\n"
                         "      rise_constraint(scalar) {{ values(\"{:.5f}\"); }}\n      fall_constraint(scalar) {{ values(\"{:.5f}\"); }}\n    }} }}\n",
                         n, pin_pf, c.access_ns / 10, c.access_ns / 10);
      }
    }
    s += "  }\n";
  }
  return s + "}\n";
}

std::int64_t parameter(const nlohmann::json& p, const char* key) {
  const auto& v = p.at(key);
  if (v.is_number()) return v.get<I>();
  I r = 0;
  for (const char c : v.get<std::string>()) r = r * 2 + (c == '1');
  return r;
}

struct Prepared {
  tool::Liberty library;
  std::string text;
};
Prepared library_of(const hardware::Target& t) {
  const std::filesystem::path file = hardware::liberty_file(t);
  Prepared p;
  p.text = read_file(file);
  p.library = tool::read_liberty(p.text, file.filename().string());
  return p;
}

void put_sources(const tool::WorkFolder& work, const rtl::Design& d, std::vector<std::string>& sources, std::vector<std::string>& support) {
  for (const rtl::File& f : d.files) {
    work.put(f.name, f.text);
    (f.name.ends_with(".v") ? sources : support).push_back(f.name);
  }
}

// What a value change dump holds of each net of the instance `scope`: how often it changed, and for how long it was 1.
struct Toggles {
  I changes = 0, high = 0;
};
std::map<std::string, Toggles> read_vcd(const std::string& text, I from, I to) {
  std::map<std::string, std::vector<std::string>> names;  // of a code: paths
  struct State {
    char value = 'x';
    I since = 0;
    Toggles t;
  };
  std::map<std::string, State> states;
  std::vector<std::string> scope;
  I now = 0;
  std::size_t at = 0;
  const auto line = [&]() -> std::string_view {
    const auto end = text.find('\n', at);
    const std::string_view l(text.data() + at, (end == std::string::npos ? text.size() : end) - at);
    at = end == std::string::npos ? text.size() : end + 1;
    return l;
  };
  const auto word = [](std::string_view l, int i) {
    std::size_t p = 0;
    for (;; --i) {
      p = l.find_first_not_of(' ', p);
      if (p == l.npos) return std::string();
      const auto e = std::min(l.find(' ', p), l.size());
      if (i == 0) return std::string(l.substr(p, e - p));
      p = e;
    }
  };
  const auto add = [&](State& s, char v) {
    if (s.value == v) return;
    const I begin = std::max(s.since, from), end = std::min(now, to);
    if (s.value == '1' && end > begin) s.t.high += end - begin;
    if (now > from && now <= to && s.value != 'x') ++s.t.changes;
    s.value = v;
    s.since = now;
  };
  while (at < text.size()) {
    const std::string_view l = line();
    if (l.empty()) continue;
    if (l.starts_with("$scope")) {
      scope.push_back(word(l, 2));
    } else if (l.starts_with("$upscope")) {
      if (!scope.empty()) scope.pop_back();
    } else if (l.starts_with("$var")) {
      if (word(l, 2) != "1") continue;
      std::string path;
      for (std::size_t i = 2; i < scope.size(); ++i) path += scope[i] + "/";
      names[word(l, 3)].push_back(path + word(l, 4));
    } else if (l[0] == '#') {
      now = parse_int(l.substr(1)).value_or(now);
    } else if (l[0] == '0' || l[0] == '1' || l[0] == 'x' || l[0] == 'z') {
      add(states[std::string(l.substr(1))], l[0]);
    }
  }
  now = to;
  std::map<std::string, Toggles> r;
  for (auto& [code, s] : states) {
    const I begin = std::max(s.since, from);
    if (s.value == '1' && to > begin) s.t.high += to - begin;
    for (const std::string& n : names[code]) r[n] = s.t;
  }
  return r;
}

// Beats as hexadecimal words of `width` bits.
std::string beats_hex(const rtl::StreamPort& p, const std::vector<I>& stream, I most, I& beats) {
  std::string r;
  beats = 0;
  for (std::size_t at = 0; at + static_cast<std::size_t>(p.lanes) <= stream.size() && beats < most; at += static_cast<std::size_t>(p.lanes), ++beats) {
    std::vector<bool> bit(static_cast<std::size_t>(p.width()));
    for (I l = 0; l < p.lanes; ++l)
      for (int b = 0; b < p.bits; ++b) bit[static_cast<std::size_t>(l * p.bits + b)] = static_cast<std::uint64_t>(stream[at + static_cast<std::size_t>(l)]) >> b & 1;
    for (std::size_t n = bit.size() / 4; n-- > 0;) r += "0123456789abcdef"[bit[4 * n] + 2 * bit[4 * n + 1] + 4 * bit[4 * n + 2] + 8 * bit[4 * n + 3]];
    r += '\n';
  }
  return r;
}

// The netlist in Icarus, fed as fast as it takes; the dump holds `cycles` cycles behind a warm-up of as many.
struct Activity {
  std::map<std::string, Toggles> nets;
  I cycles = 0;
};
Activity count_toggles(const tool::WorkFolder& work, const rtl::Design& d, const proof::Stimulus& s, I cycles, double seconds, const Cancel& cancel) {
  I beats = 0;
  work.put("in.hex", beats_hex(d.in, s.in, 4 * cycles, beats));
  // Two time units a cycle; the stimulus begins anew at its end.
  work.put("toggles.v", fmt::format(R"(`timescale 1ns/1ns
module toggles;
  reg clk = 0, rst_n = 0;
  reg [{0}:0] beats [0:{1}];
  integer at = 0, cycle = 0, taken = 0, f;
  wire ready, valid, last;
  wire [{2}:0] data;
  {3} u (.clk(clk), .rst_n(rst_n), .s_axis_tdata(beats[at]), .s_axis_tvalid(rst_n), .s_axis_tready(ready), .s_axis_tlast(at % {4} == {5}),
    .m_axis_tdata(data), .m_axis_tvalid(valid), .m_axis_tready(1'b1), .m_axis_tlast(last));
  initial begin
    $readmemh("in.hex", beats);
    $dumpfile("toggles.vcd");
    $dumpvars(0, u);
    $dumpoff;
  end
  always #1 clk = ~clk;
  always @(negedge clk) begin
    cycle = cycle + 1;
    if (cycle == 8) rst_n = 1;
    if (cycle == {6}) $dumpon;
    if (cycle == {7}) begin
      f = $fopen("toggles.txt", "w");
      $fdisplay(f, "taken %0d", taken);
      $fclose(f);
      $finish;
    end
  end
  always @(posedge clk) if (rst_n & ready) begin
    taken <= taken + 1;
    at <= at == {1} ? 0 : at + 1;
  end
endmodule
)", d.in.width() - 1, beats - 1, d.out.width() - 1, d.top, d.in.beats, d.in.beats - 1, cycles, 2 * cycles));
  // Gates are pessimistic about unknown values where the Verilog is not: a state that nobody reset stays unknown for ever.
  work.put("cells_random.v", "`define RANDOM_STATE\n" + work.get("cells.v"));
  tool::run_icarus(work, {"netlist.v", "cells_random.v", "toggles.v"}, "toggles", {}, seconds, tool::Trust::ours, cancel);
  const std::string done = work.get("toggles.txt");
  if (!done.starts_with("taken ") || done == "taken 0\n") throw Error(Exit::limit, "the simulation of the netlist took no beat");
  Activity a;
  a.nets = read_vcd(work.get("toggles.vcd", 4ull << 30), 2 * cycles, 4 * cycles);
  a.cycles = cycles;
  std::error_code ec;
  std::filesystem::remove(work / "toggles.vcd", ec);
  return a;
}

}  // namespace

MacroCost macro_cost(const Macro& m, double nm, double v) {
  const double kb = static_cast<double>(m.words * m.bits) / 8192;
  MacroCost c;
  c.area_um2 = 0.0037e6 * kb * area_scale(nm);
  c.read_pj = 0.50 * std::pow(kb, 0.54) * std::pow(static_cast<double>(m.bits) / 32, 0.55) * energy_scale(nm, v);
  c.access_ns = 0.58 * std::pow(kb, 0.30) * nm / 45;
  return c;
}

std::vector<Netlist> read_netlist(const std::string& json, std::vector<Macro>& macros) {
  nlohmann::json j;
  try {
    j = nlohmann::json::parse(json);
    std::map<std::string, Netlist> all;
    std::map<std::string, std::vector<std::string>> holds;
    for (const auto& [name, m] : j.at("modules").items()) {
      if (const auto a = m.find("attributes"); a != m.end() && a->contains("blackbox")) continue;
      Netlist n;
      n.name = name;
      const auto bits = [&](const nlohmann::json& v) {
        std::vector<int> r;
        for (const auto& b : v) {
          if (b.is_number()) {
            r.push_back(b.get<int>());
            n.nets = std::max(n.nets, r.back() + 1);
          } else {
            const std::string s = b.get<std::string>();
            r.push_back(s == "1" ? kOne : s == "0" ? kZero : s == "x" ? kZero : kOpen);
          }
        }
        return r;
      };
      for (const auto& [port, p] : m.at("ports").items()) n.ports.push_back({port, p.at("direction") == "output", bits(p.at("bits"))});
      for (const auto& [cell, c] : m.at("cells").items()) {
        Netlist::Cell x;
        x.type = c.at("type").get<std::string>();
        const bool instance = j.at("modules").contains(x.type) && !j.at("modules").at(x.type).value("attributes", nlohmann::json::object()).contains("blackbox");
        x.name = instance ? cell : fmt::format("g{}", n.cells.size());
        if (x.type == "tandem_sram") {
          const Macro k{parameter(c.at("parameters"), "WORDS"), parameter(c.at("parameters"), "BITS")};
          macros.push_back(k);
          x.type = k.name();
          for (const auto& [pin, v] : c.at("connections").items()) {
            std::vector<int> b = bits(v);
            const bool wide = pin == "d" || pin == "q" || pin == "ra" || pin == "wa";
            if (pin == "ra" || pin == "wa") b.resize(static_cast<std::size_t>(address_bits(k)), kZero);
            if (!wide) b.resize(1);
            for (std::size_t i = 0; i < b.size(); ++i) x.pins.emplace_back(wide ? fmt::format("{}{}", pin, i) : pin, std::vector<int>{b[i]});
          }
        } else {
          if (instance) holds[name].push_back(x.type);
          for (const auto& [pin, v] : c.at("connections").items()) x.pins.emplace_back(pin, bits(v));
        }
        n.cells.push_back(std::move(x));
      }
      all[name] = std::move(n);
    }
    std::vector<Netlist> r;
    std::set<std::string> done;
    const std::function<void(const std::string&)> add = [&](const std::string& name) {
      if (!done.insert(name).second) return;
      for (const std::string& inner : holds[name]) add(inner);
      r.push_back(std::move(all[name]));
    };
    std::vector<std::string> names;
    for (const auto& [name, n] : all) names.push_back(name);
    for (const std::string& name : names) add(name);
    return r;
  } catch (const nlohmann::json::exception& e) {
    throw Error(Exit::limit, fmt::format("yosys left a netlist that cannot be read: {}", e.what()));
  }
}

std::int64_t add_buffers(Netlist& n, const tool::Liberty& l, I most) {
  const tool::LibertyCell& buffer = l.cells.at(l.buffer);
  std::string in, out;
  for (const tool::LibertyPin& p : buffer.pins) (p.output ? out : in) = p.name;
  // Pins of library cells that read each net.
  struct Sink {
    std::size_t cell, pin;
  };
  std::vector<std::vector<Sink>> sinks(static_cast<std::size_t>(n.nets));
  for (std::size_t i = 0; i < n.cells.size(); ++i) {
    const auto c = l.cells.find(n.cells[i].type);
    if (c == l.cells.end()) continue;
    const bool ff = !c->second.next_state.empty();
    for (std::size_t k = 0; k < n.cells[i].pins.size(); ++k) {
      const auto& [pin, bits] = n.cells[i].pins[k];
      const tool::LibertyPin* p = c->second.pin(pin);
      if (!p || p->output || (ff && p->clock) || bits.size() != 1 || bits[0] < 0) continue;
      sinks[static_cast<std::size_t>(bits[0])].push_back({i, k});
    }
  }
  I added = 0;
  const std::size_t nets = sinks.size();
  for (std::size_t net = 0; net < nets; ++net) {
    std::vector<Sink> s = std::move(sinks[net]);
    while (s.size() > static_cast<std::size_t>(most)) {
      std::vector<Sink> up;
      const std::size_t groups = (s.size() + static_cast<std::size_t>(most) - 1) / static_cast<std::size_t>(most);
      for (std::size_t g = 0; g < groups; ++g) {
        const int fresh = n.nets++;
        for (std::size_t i = s.size() * g / groups; i < s.size() * (g + 1) / groups; ++i) n.cells[s[i].cell].pins[s[i].pin].second = {fresh};
        up.push_back({n.cells.size(), 0});
        n.cells.push_back({fmt::format("b{}", added++), l.buffer, {{in, {static_cast<int>(net)}}, {out, {fresh}}}});
      }
      s = std::move(up);
    }
  }
  return added;
}

std::string verilog(const std::vector<Netlist>& all) {
  std::string t;
  for (const Netlist& n : all) {
    std::vector<std::string> name(static_cast<std::size_t>(n.nets));
    std::string ports, declared, assigns;
    // A bit is called after the port that brings or takes it.
    for (const bool output : {false, true})
      for (const Netlist::Port& p : n.ports) {
        if (p.output != output) continue;
        for (std::size_t i = 0; i < p.bits.size(); ++i) {
          const std::string bit = p.bits.size() == 1 ? p.name : fmt::format("{}[{}]", p.name, i);
          if (p.bits[i] < 0) {
            if (output) assigns += fmt::format("  assign {} = 1'b{};\n", bit, p.bits[i] == kOne ? 1 : 0);
          } else if (std::string& of = name[static_cast<std::size_t>(p.bits[i])]; of.empty()) {
            of = bit;
          } else if (output) {
            assigns += fmt::format("  assign {} = {};\n", bit, of);
          }
        }
      }
    for (const Netlist::Port& p : n.ports) {
      ports += (ports.empty() ? "" : ", ") + p.name;
      declared += fmt::format("  {} {}{};\n", p.output ? "output" : "input", p.bits.size() == 1 ? "" : fmt::format("[{}:0] ", p.bits.size() - 1), p.name);
    }
    std::string cells;
    for (const Netlist::Cell& c : n.cells) {
      cells += fmt::format("  {} {} (", c.type, c.name);
      bool first = true;
      for (const auto& [pin, bits] : c.pins) {
        std::string v;
        bool open = true;
        for (std::size_t i = bits.size(); i-- > 0;) {
          std::string b;
          if (bits[i] >= 0) {
            std::string& of = name[static_cast<std::size_t>(bits[i])];
            if (of.empty()) {
              of = fmt::format("n{}", bits[i]);
              declared += fmt::format("  wire {};\n", of);
            }
            b = of;
            open = false;
          } else {
            b = bits[i] == kOne ? "1'b1" : "1'b0";
            open = open && bits[i] == kOpen;
          }
          v += (v.empty() ? "" : ", ") + b;
        }
        cells += fmt::format("{}.{}({})", first ? "" : ", ", pin, open ? "" : bits.size() == 1 ? v : "{" + v + "}");
        first = false;
      }
      cells += ");\n";
    }
    t += fmt::format("module {} ({});\n{}{}{}endmodule\n", n.name, ports, declared, cells, assigns);
  }
  return t;
}

CellCount count_cells(const Netlist& n, const tool::Liberty& l, double nm, double v) {
  CellCount r;
  for (const Netlist::Cell& c : n.cells) {
    if (is_macro(c.type)) {
      ++r.macros;
      r.macro_um2 += macro_cost(macro_of(c.type), nm, v).area_um2;
    } else if (const auto it = l.cells.find(c.type); it != l.cells.end()) {
      ++r.cells;
      r.area_um2 += it->second.area;
      r.ff += !it->second.next_state.empty();
    } else if (c.type.starts_with('$')) {
      throw Error(Exit::no, fmt::format("the library {} has no cell for {}, which {} needs", l.name, printable(c.type), n.name));
    }
  }
  return r;
}

CellsResult synthesise_cells(const rtl::Design& d, const CellsParams& p, const proof::Stimulus* stimulus, double interval, const Cancel& cancel) {
  const Prepared lib = library_of(p.target);
  const double nm = p.target.technology.node_nm, supply = p.target.technology.supply_v;
  CellsResult r;
  r.library = lib.library.name;
  r.gate_area = lib.library.gate_area;
  tool::WorkFolder work;
  std::vector<std::string> sources;
  tool::SynthOptions o;
  o.top = d.top;
  o.seconds = p.seconds;
  put_sources(work, d, sources, o.support);
  work.put("cells.lib", lib.text);
  const tool::CellsResult s = tool::synth_cells(work, sources, "cells.lib", {}, plan::kMacroBits, o, cancel);
  std::vector<Macro> macros;
  std::vector<Netlist> modules = read_netlist(s.json, macros);
  std::map<std::string, CellCount> counts;
  std::set<std::string> used;
  for (Netlist& n : modules) {
    r.buffers += add_buffers(n, lib.library);
    counts[n.name] = count_cells(n, lib.library, nm, supply);
    for (const Netlist::Cell& c : n.cells)
      if (lib.library.cells.contains(c.type)) used.insert(c.type);
  }
  const auto add_to = [](CellCount& a, const CellCount& b) { a.area_um2 += b.area_um2, a.macro_um2 += b.macro_um2, a.cells += b.cells, a.ff += b.ff, a.macros += b.macros; };
  for (const std::string& m : d.modules) {
    r.stages.push_back({m, counts[m]});
    add_to(r.total, counts[m]);
  }
  add_to(r.total, counts[d.top]);
  r.netlist = verilog(modules);
  r.models = tool::cell_models(lib.library, used);
  std::set<std::string> modelled;
  for (const Macro& m : macros)
    if (modelled.insert(m.name()).second) r.models += macro_model(m);
  work.put("netlist.v", r.netlist);
  work.put("cells.v", r.models);

  const auto add = [&](std::string name, double value, std::string unit, Fidelity f, std::string source) { r.metrics.push_back({std::move(name), {value, std::move(unit), f, std::move(source), {}, {}}}); };
  const std::string from = fmt::format("{}, abc with {}, {} buffers added, no placement and no clock tree", s.tool, r.library, r.buffers);
  add("cell area", r.total.area_um2, "um2", Fidelity::synthesised, from);
  add("gates", std::round(r.gates()), "gate equivalents", Fidelity::synthesised, fmt::format("{}; one is {} um2", from, r.gate_area));
  add("FF", static_cast<double>(r.total.ff), "FF", Fidelity::synthesised, from);
  if (r.total.macros) {
    add("memory macros", static_cast<double>(r.total.macros), "macros", Fidelity::synthesised, fmt::format("memories of {} bits and more; smaller ones are flip-flops", plan::kMacroBits));
    add("macro area", std::round(r.total.macro_um2), "um2", Fidelity::estimated, fmt::format("fit to CACTI 7 at 45 nm, one port{}", nm == 45 ? "" : fmt::format(", scaled to {} nm", nm)));
  }
  // Power: what changes in a run, times what a change costs.
  if (stimulus && p.power_cycles > 0) {
    if (!tool::try_find("iverilog")) {
      r.notes.push_back("no power: Icarus is not installed; apt-get install iverilog");
    } else {
      const Activity activity = count_toggles(work, d, *stimulus, p.power_cycles, p.seconds, cancel);
      std::map<std::string, const Netlist*> module;
      for (const Netlist& n : modules) module[n.name] = &n;
      const double cycles = static_cast<double>(activity.cycles), hz = p.clock_mhz * 1e6, v = lib.library.voltage > 0 ? lib.library.voltage : supply;
      const auto of = [&](const std::string& pin) {
        const auto it = activity.nets.find(pin);
        return it == activity.nets.end() ? Toggles{} : it->second;
      };
      const std::function<void(const Netlist&, const std::string&)> walk = [&](const Netlist& n, const std::string& path) {
        std::vector<double> load(static_cast<std::size_t>(n.nets));
        for (const Netlist::Cell& c : n.cells)
          if (const auto it = lib.library.cells.find(c.type); it != lib.library.cells.end())
            for (const auto& [pin, bits] : c.pins)
              if (const tool::LibertyPin* x = it->second.pin(pin); x && !x->output && bits.size() == 1 && bits[0] >= 0) load[static_cast<std::size_t>(bits[0])] += x->capacitance;
        for (const Netlist::Cell& c : n.cells) {
          const std::string at = path + c.name + "/";
          if (const auto inner = module.find(c.type); inner != module.end()) {
            walk(*inner->second, at);
          } else if (is_macro(c.type)) {
            const double reads = static_cast<double>(of(at + "re").high) / (2 * cycles), writes = static_cast<double>(of(at + "we").high) / (2 * cycles);
            r.macro_w += (reads + 1.5 * writes) * macro_cost(macro_of(c.type), nm, supply).read_pj * 1e-12 * hz;
          } else if (const auto it = lib.library.cells.find(c.type); it != lib.library.cells.end()) {
            r.leakage_w += it->second.leakage * 1e-9;
            for (const auto& [pin, bits] : c.pins) {
              const tool::LibertyPin* x = it->second.pin(pin);
              if (!x || bits.size() != 1) continue;
              if (x->clock && !it->second.next_state.empty()) r.clock_w += 2 * (x->energy + x->capacitance * v * v / 2) * 1e-12 * hz;
              if (!x->output || bits[0] < 0) continue;
              const I n_toggles = of(at + pin).changes;
              r.toggles += n_toggles;
              r.switching_w += static_cast<double>(n_toggles) / cycles * (x->energy + load[static_cast<std::size_t>(bits[0])] * v * v / 2) * 1e-12 * hz;
            }
          }
        }
      };
      walk(*module.at(d.top), "");
      r.toggle_cycles = activity.cycles;
      const std::string how = fmt::format("at {} MHz: {} toggles of {} cycles in Icarus (no glitches: cells without delay) times the energies of {}; no wires, no clock tree", p.clock_mhz, r.toggles, r.toggle_cycles, r.library);
      add("power", r.power_w() * 1e3, "mW", Fidelity::synthesised, how);
      add("of it clock pins", r.clock_w * 1e3, "mW", Fidelity::synthesised, how);
      add("of it leakage", r.leakage_w * 1e3, "mW", Fidelity::synthesised, r.library);
      if (r.total.macros) add("of it macros", r.macro_w * 1e3, "mW", Fidelity::estimated, "reads and writes counted, a write 1.5 reads, energies by the fit to CACTI 7");
      if (interval > 0) add("energy", r.power_w() * interval / hz * 1e9, "nJ a frame", Fidelity::synthesised, how);
    }
  }
  if (!tool::try_find("sta")) {
    r.notes.push_back("no timing: OpenSTA is not installed; apt-get install opensta");
    return r;
  }
  tool::StaOptions t;
  t.top = d.top;
  t.period_ns = 1e3 / p.clock_mhz;
  t.seconds = p.seconds;
  std::vector<std::string> liberty{"cells.lib"};
  if (!macros.empty()) {
    double pin = 0;
    for (const auto& [name, c] : lib.library.cells)
      if (!c.other && !c.next_state.empty())
        for (const tool::LibertyPin& x : c.pins)
          if (!x.output) pin = std::max(pin, x.capacitance);
    work.put("macros.lib", macro_liberty(macros, p.target, pin));
    liberty.push_back("macros.lib");
  }
  r.timing = tool::time_cells(work, liberty, "netlist.v", t, cancel);
  add("Fmax", r.timing->fmax_mhz, "MHz", Fidelity::synthesised, fmt::format("{}, {}, nominal corner, no placement, no clock tree; from {} to {}", r.timing->tool, r.library, r.timing->from, r.timing->to));
  return r;
}

rtl::Design netlist_design(const rtl::Design& d, const CellsResult& r) {
  rtl::Design n = d;
  n.files = {{"netlist.v", r.netlist}, {"cells.v", r.models}};
  n.modules.clear();  // their streams have other names there
  return n;
}

std::vector<CellsStage> count_stages(const rtl::Design& d, const hardware::Target& target, std::string* tool_name, const Cancel& cancel) {
  const Prepared lib = library_of(target);
  const std::string tool = "yosys " + tool::find("yosys").version;
  if (tool_name) *tool_name = tool + ", " + lib.library.name;
  const std::filesystem::path folder = tool::cache_folder() / "synthesis";
  std::filesystem::create_directories(folder);
  std::vector<CellsStage> r;
  std::map<std::string, CellCount> of;  // by key
  const std::string technology = fmt::format("{} cells {} {} {}", tool, hex16(fnv1a(lib.text)), plan::kMacroBits, target.technology.node_nm);
  std::vector<std::string> keys, todo;
  std::vector<std::size_t> stage_of;
  for (std::size_t i = 0; i < d.stages.size(); ++i) {
    const std::string what = technology + "\n" + stage_text(d, i);
    const std::string key = hex16(fnv1a(what)) + hex16(fnv1a(what, 0x5bd1e995a9f0e3d1ull));
    keys.push_back(key);
    if (of.contains(key)) continue;
    const auto file = folder / (key + ".json");
    std::error_code ec;
    of[key] = {};
    bool known = false;
    if (std::filesystem::is_regular_file(file, ec)) try {
        const Config c = Config::read(file);
        const CellCount n{c.at("area_um2").as<double>(), c.at("macro_um2").as<double>(), c.at("cells").as<I>(), c.at("ff").as<I>(), c.at("macros").as<I>()};
        if (c.at("key").as<std::string>() == key && c.at("end").as<std::string>() == "end") of[key] = n, known = true;
      } catch (const Error&) {  // a damaged entry is no entry
      }
    if (!known) todo.push_back(key), stage_of.push_back(i);
  }
  constexpr std::size_t kGroup = 16;
  for (std::size_t at = 0; at < todo.size(); at += kGroup) {
    const std::size_t end = std::min(todo.size(), at + kGroup);
    tool::WorkFolder work;
    std::vector<std::string> sources, modules;
    tool::SynthOptions o;
    o.top = "keep_top";
    o.seconds = 900;
    for (std::size_t k = at; k < end; ++k) {
      const std::string& m = d.modules[stage_of[k]];
      modules.push_back(m);
      for (const rtl::File& f : d.files) {
        if (f.name == m + ".v") sources.push_back(f.name);
        else if (!(f.name.starts_with(m) && f.name.ends_with(".hex") && (f.name[m.size()] == '.' || f.name[m.size()] == '_'))) continue;
        else o.support.push_back(f.name);
        work.put(f.name, f.text);
      }
    }
    work.put("cells.lib", lib.text);
    const tool::CellsResult s = tool::synth_cells(work, sources, "cells.lib", modules, plan::kMacroBits, o, cancel);
    std::vector<Macro> macros;
    std::map<std::string, CellCount> counts;
    for (Netlist& n : read_netlist(s.json, macros)) {
      add_buffers(n, lib.library);
      counts[n.name] = count_cells(n, lib.library, target.technology.node_nm, target.technology.supply_v);
    }
    for (std::size_t k = at; k < end; ++k) {
      const CellCount& c = of[todo[k]] = counts.at(modules[k - at]);
      JsonWriter j;
      j.object().field("format", "tandem.cells").field("key", todo[k]).field("area_um2", c.area_um2).field("macro_um2", c.macro_um2).field("cells", c.cells).field("ff", c.ff).field("macros", c.macros).field("end", "end").end();
      write_file(folder / (todo[k] + ".json"), j.text());
    }
  }
  for (std::size_t i = 0; i < d.stages.size(); ++i) r.push_back({d.modules[i], of[keys[i]]});
  return r;
}

}  // namespace tandem::flow
