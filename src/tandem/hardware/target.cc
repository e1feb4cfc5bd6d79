#include "tandem/hardware/target.h"

#include <algorithm>
#include <cstdlib>
#include <set>

#include "tandem/base/limits.h"
#include "tandem/base/nearest.h"
#include "tandem/base/share.h"

namespace tandem::hardware {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPolicies[] = {"scratchpad", "cache", "fifo", "row_stationary", "weight_stationary", "dram"};
constexpr std::string_view kTopologies[] = {"bus", "broadcast", "mesh", "tree", "crossbar", "tsv", "serial"};
constexpr std::string_view kControls[] = {"dataflow", "tokens", "riscv", "simd", "events"};
constexpr std::string_view kReductions[] = {"none", "column", "tree", "chain"};
constexpr std::int64_t kMost = std::int64_t{1} << 48;

template <class E, std::size_t N>
E pick(const Config& c, std::string_view key, const std::string_view (&words)[N], E fallback) {
  const auto v = c.find(key);
  if (!v) return fallback;
  const std::string text = v->as<std::string>();
  for (std::size_t i = 0; i < N; ++i)
    if (words[i] == text) return static_cast<E>(i);
  std::string all;
  for (const auto w : words) all += (all.empty() ? "" : ", ") + std::string(w);
  Error e = v->error(fmt::format("'{}' is not known here", printable(text))).expected("one of " + all);
  if (const auto near = nearest(text, std::span<const std::string_view>(words)); !near.empty()) e.fix(fmt::format("did you mean '{}'?", near));
  throw e;
}

// A name of ours in files, tables and scripts.
std::string identifier(const Config& c, const std::string& s) {
  bool ok = !s.empty() && s.size() <= 64;
  for (char ch : s) ok = ok && ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') || ch == '_' || ch == '-');
  if (!ok || s[0] == '-') throw c.error(fmt::format("'{}' is not a plain name", printable(s))).expected("letters, digits, _ and -, at most 64");
  return s;
}
std::string identifier(const Config& c) { return identifier(c, c.as<std::string>()); }

Energy energy(const Config& c) {
  c.only({"low", "nominal", "high", "source"});
  Energy e;
  e.nominal = c.real("nominal", 0, 1e12);
  e.low = c.real("low", 0, e.nominal, e.nominal);
  e.high = c.real("high", e.nominal, 1e12, e.nominal);
  e.source = c.required<std::string>("source");
  return e;
}

Store store(const std::string& name, const Config& c) {
  c.only({"count", "bits", "words", "word_bits", "ports", "latency", "policy", "initialised", "energy", "source"});
  Store s;
  s.name = name;
  s.count = c.integer("count", 1, kMost, 1);
  s.bits = c.integer("bits", 1, kMost);
  s.words = c.integer("words", 1, kMost);
  s.word_bits = c.integer("word_bits", 1, 1 << 20);
  const Config p = c.at("ports");
  p.only({"read", "write", "shared"});
  s.read_ports = static_cast<int>(p.integer("read", 0, 64, 0));
  s.write_ports = static_cast<int>(p.integer("write", 0, 64, 0));
  s.shared_ports = static_cast<int>(p.integer("shared", 0, 64, 0));
  s.latency_cycles = static_cast<int>(c.integer("latency", 0, 100000, 1));
  s.policy = pick(c, "policy", kPolicies, Policy::scratchpad);
  s.initialised = c.optional_or<bool>("initialised", false);
  if (const auto e = c.find("energy"))
    for (const auto& [action, v] : e->entries()) s.energy[action] = energy(v);
  s.source = c.required<std::string>("source");
  if (s.words > kMost / s.word_bits || s.words * s.word_bits != s.bits)
    throw c.error(fmt::format("{} words of {} bits are not {} bits", s.words, s.word_bits, s.bits)).expected("words * word_bits = bits");
  return s;
}

Compute compute(const std::string& name, const Config& c) {
  c.only({"lattice", "ops", "local_stores", "reduction", "control", "source"});
  Compute u;
  u.name = name;
  std::int64_t total = 1;
  for (const Config& e : c.at("lattice").items()) {
    const auto n = e.as<std::int64_t>();
    if (n < 1 || n > (1 << 30) || total > kMost / n) throw e.error(fmt::format("an extent of {}", n)).expected("1 or more, 2^48 units in all");
    total *= n;
    u.lattice.push_back(n);
  }
  if (u.lattice.empty() || u.lattice.size() > 8) throw c.at("lattice").error("the lattice has no extents, or more than 8").expected("[8] or [16, 16]");
  for (const auto& [op, v] : c.at("ops").entries()) {
    identifier(v, op);
    v.only({"latency", "interval", "lanes", "energy"});
    OpCost o;
    o.latency_cycles = static_cast<int>(v.integer("latency", 0, 100000, 1));
    o.interval_cycles = static_cast<int>(v.integer("interval", 1, 100000, 1));
    o.lanes = static_cast<int>(v.integer("lanes", 1, 1 << 20, 1));
    if (const auto e = v.find("energy")) o.energy = energy(*e);
    u.ops[op] = o;
  }
  if (const auto l = c.find("local_stores")) u.local_stores = l->list<std::string>();
  u.reduction = pick(c, "reduction", kReductions, Reduction::none);
  u.control = pick(c, "control", kControls, Control::dataflow);
  u.source = c.required<std::string>("source");
  return u;
}

Link link(const Config& c) {
  c.only({"from", "to", "width_bits", "latency", "topology", "energy_per_bit"});
  Link l;
  l.from = c.required<std::string>("from");
  l.to = c.required<std::string>("to");
  l.width_bits = c.integer("width_bits", 1, 1 << 24);
  l.latency_cycles = static_cast<int>(c.integer("latency", 0, 100000, 0));
  l.topology = pick(c, "topology", kTopologies, Topology::bus);
  if (const auto e = c.find("energy_per_bit")) l.energy_per_bit = energy(*e);
  return l;
}

Error wrong(const Target& t, const std::string& what) { return bad_input("target {}: {}", printable(t.name), what).at(t.file); }

}  // namespace

std::string_view to_string(Policy p) { return kPolicies[static_cast<std::size_t>(p)]; }
std::string_view to_string(Topology t) { return kTopologies[static_cast<std::size_t>(t)]; }
std::string_view to_string(Control c) { return kControls[static_cast<std::size_t>(c)]; }
std::string_view to_string(Reduction r) { return kReductions[static_cast<std::size_t>(r)]; }

std::int64_t Compute::units() const {
  std::int64_t n = 1;
  for (const auto e : lattice) n *= e;
  return n;
}

std::int64_t Target::available(std::string_view resource) const {
  const auto it = budget.find(std::string(resource));
  return it == budget.end() ? 0 : it->second.count;
}
const Store* Target::store(std::string_view n) const {
  for (const auto& s : stores)
    if (s.name == n) return &s;
  return nullptr;
}
const Compute* Target::compute(std::string_view n) const {
  for (const auto& c : computes)
    if (c.name == n) return &c;
  return nullptr;
}

Target read_target(const Config& c) {
  c.only({"tandem", "name", "aliases", "family", "summary", "flow", "clock", "budget", "stores", "compute", "links", "technology", "cells"});
  const Config version = c.at("tandem");
  const std::string v = version.as<std::string>();
  if (v != "target 1") throw version.error(fmt::format("this is '{}'", printable(v))).expected("target 1").fix("a newer file needs a newer tandem");
  Target t;
  t.file = c.where().substr(0, c.where().rfind(':'));
  t.name = identifier(c.at("name"));
  if (const auto a = c.find("aliases"))
    for (const Config& n : a->items()) t.aliases.push_back(identifier(n));
  t.family = identifier(c.at("family"));
  t.summary = c.required<std::string>("summary");
  if (const auto f = c.find("flow")) {
    f->only({"device", "package", "dsp"});
    t.device = identifier(f->at("device"));
    t.package = identifier(f->at("package"));
    t.dsp = f->optional_or<bool>("dsp", false);
  }
  if (const auto l = c.find("cells")) {
    l->only({"liberty", "package"});
    t.liberty = l->required<std::string>("liberty");
    t.liberty_package = l->optional_or<std::string>("package", "");
  }
  const Config clock = c.at("clock");
  clock.only({"default_mhz", "source"});
  t.clock_mhz = clock.real("default_mhz", 1e-3, 1e5);
  t.clock_source = clock.required<std::string>("source");
  for (const auto& [name, r] : c.at("budget").entries()) {
    identifier(r, name);
    r.only({"count", "source"});
    t.budget[name] = {r.integer("count", 0, kMost), r.required<std::string>("source")};
  }
  if (const auto s = c.find("stores"))
    for (const auto& [name, n] : s->entries()) {
      identifier(n, name);
      t.stores.push_back(store(name, n));
    }
  if (const auto u = c.find("compute"))
    for (const auto& [name, n] : u->entries()) {
      identifier(n, name);
      t.computes.push_back(compute(name, n));
    }
  if (const auto l = c.find("links"))
    for (const Config& n : l->items()) t.links.push_back(link(n));
  if (const auto tech = c.find("technology")) {
    tech->only({"node_nm", "supply_v", "source"});
    t.technology = {tech->real("node_nm", 0.1, 1e5), tech->real("supply_v", 0.01, 1e3), tech->required<std::string>("source")};
  }
  check(t);
  return t;
}

void check(const Target& t) {
  std::set<std::string> names;
  std::vector<std::string> known;
  const auto add = [&](const std::string& n) {
    if (!names.insert(n).second) throw wrong(t, fmt::format("'{}' is the name of two parts", printable(n)));
    known.push_back(n);
  };
  for (const auto& s : t.stores) {
    add(s.name);
    if (s.count < 1 || s.bits < 1 || s.words < 1 || s.word_bits < 1 || s.words > kMost / s.word_bits || s.words * s.word_bits != s.bits)
      throw wrong(t, fmt::format("store {}: {} words of {} bits are not {} bits", s.name, s.words, s.word_bits, s.bits));
    if (s.read_ports + s.write_ports + s.shared_ports < 1) throw wrong(t, fmt::format("store {} has no port", s.name));
    if (s.read_ports + s.shared_ports < 1) throw wrong(t, fmt::format("store {} can never be read", s.name));
    if (const auto b = t.budget.find(s.name); b != t.budget.end() && b->second.count != s.count)
      throw wrong(t, fmt::format("the budget has {} {}, the stores {}", b->second.count, s.name, s.count));
  }
  for (const auto& c : t.computes) {
    add(c.name);
    if (c.ops.empty()) throw wrong(t, fmt::format("{} computes nothing", c.name));
    if (const auto b = t.budget.find(c.name); b != t.budget.end() && b->second.count != c.units())
      throw wrong(t, fmt::format("the budget has {} {}, the compute units {}", b->second.count, c.name, c.units()));
  }
  const auto exists = [&](const std::string& n, const std::string& who) {
    if (names.count(n)) return;
    Error e = wrong(t, fmt::format("{} names '{}', which is not there", who, printable(n)));
    if (const auto near = nearest(n, known); !near.empty()) e.fix(fmt::format("did you mean '{}'?", near));
    throw e;
  };
  for (const auto& c : t.computes)
    for (const auto& l : c.local_stores) {
      exists(l, "local_stores of " + c.name);
      if (!t.store(l)) throw wrong(t, fmt::format("local_stores of {}: {} is not a store", c.name, l));
    }
  for (const auto& l : t.links) {
    exists(l.from, "a link");
    exists(l.to, "a link");
    if (l.from == l.to) throw wrong(t, fmt::format("a link from {} to itself", l.from));
  }
  for (const auto& [name, r] : t.budget)
    if (r.source.empty()) throw wrong(t, fmt::format("the budget of {} has no source", name));
}

fs::path targets_folder() {
  if (const char* env = ::getenv("TANDEM_TARGETS"); env && *env) return env;
  return share_file("targets");
}

std::vector<Target> all_targets() {
  const fs::path folder = targets_folder();
  std::error_code ec;
  std::vector<fs::path> files;
  for (const auto& e : fs::directory_iterator(folder, ec))
    if (e.path().extension() == ".yaml") files.push_back(e.path());
  if (ec) throw bad_input("the folder of targets cannot be read").at(printable(folder.string())).fix("set TANDEM_TARGETS to a folder of YAML files");
  std::sort(files.begin(), files.end());
  std::vector<Target> r;
  std::map<std::string, std::string> taken;
  for (const auto& f : files) {
    Target t = read_target(Config::read(f));
    std::vector<std::string> names = t.aliases;
    names.push_back(t.name);
    for (const auto& n : names) {
      const auto [it, fresh] = taken.emplace(n, t.file);
      if (!fresh) throw bad_input("the target name '{}' is used twice", n).at(t.file).expected("names and aliases that differ; the other is in " + it->second);
    }
    r.push_back(std::move(t));
  }
  std::sort(r.begin(), r.end(), [](const Target& a, const Target& b) { return a.name < b.name; });
  return r;
}

fs::path liberty_file(const Target& t) {
  if (t.liberty.empty()) throw bad_input("target {} has no library of cells", printable(t.name)).at(t.file).expected("cells: {{liberty: FILE}}");
  const fs::path f = fs::path(t.liberty).is_absolute() ? fs::path(t.liberty) : fs::path(t.file).parent_path() / t.liberty;
  std::error_code ec;
  if (fs::is_regular_file(f, ec)) return f;
  Error e(Exit::tool_missing, fmt::format("the library of cells of {} is not installed ({})", printable(t.name), printable(t.liberty)));
  if (!t.liberty_package.empty()) e.fix("apt-get install " + printable(t.liberty_package));
  throw e;
}

Target find_target(std::string_view name) {
  if (name.find('/') != std::string_view::npos || name.ends_with(".yaml")) return read_target(Config::read(fs::path(name)));
  std::vector<std::string> known;
  for (auto& t : all_targets()) {
    if (t.name == name || std::find(t.aliases.begin(), t.aliases.end(), name) != t.aliases.end()) return t;
    known.push_back(t.name);
    known.insert(known.end(), t.aliases.begin(), t.aliases.end());
  }
  std::string all;
  for (const auto& k : known) all += (all.empty() ? "" : ", ") + k;
  Error e = bad_input("no target is called '{}'", printable(name)).expected("one of " + all + "; or a YAML file");
  if (const auto near = nearest(name, known); !near.empty()) e.fix(fmt::format("did you mean '{}'? `tandem targets` lists them", near));
  else e.fix("`tandem targets` lists them");
  throw e;
}

}  // namespace tandem::hardware
