#include "tandem/flow/synthesis.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "tandem/base/config.h"
#include "tandem/base/file.h"
#include "tandem/base/hash.h"
#include "tandem/base/json.h"
#include "tandem/base/parallel.h"
#include "tandem/tool/find.h"
#include "tandem/tool/work.h"

namespace tandem::flow {

int stage_of_cell(const std::string& cell) {
  // Stages are instances u00, u01, ... of the top, flattened with dots.
  for (std::size_t at = 0; (at = cell.find('u', at)) != std::string::npos; ++at) {
    if (at > 0 && cell[at - 1] != '.') continue;
    std::size_t end = at + 1;
    while (end < cell.size() && std::isdigit(static_cast<unsigned char>(cell[end]))) ++end;
    if (end - at >= 3 && end - at < 8 && end < cell.size() && cell[end] == '.') return std::stoi(cell.substr(at + 1, end - at - 1));
  }
  return -1;
}

SynthesisResult synthesise(const rtl::Design& d, const SynthesisParams& params, const Cancel& cancel) {
  SynthesisResult r;
  r.shell = rtl::serial8(d, params.device, static_cast<int>(std::lround(params.clock_mhz * 1e6 / 115200)));
  tool::WorkFolder work;
  std::vector<std::string> sources;
  tool::SynthOptions o;
  for (const std::vector<rtl::File>* files : {static_cast<const std::vector<rtl::File>*>(&r.shell.files), &d.files})
    for (const rtl::File& f : *files) {
      work.put(f.name, f.text);
      (f.name.ends_with(".v") ? sources : o.support).push_back(f.name);
    }
  o.top = r.shell.top;
  o.dsp = params.dsp;
  tool::SynthResult s = tool::synth_ice40(work, sources, o, cancel);
  r.cells = s.cells;
  r.warnings = s.warnings;
  auto add = [&](std::string name, double value, std::string unit, Fidelity f, std::string source) {
    r.metrics.push_back({std::move(name), {value, std::move(unit), f, std::move(source), {}, {}}});
  };
  std::string from = s.tool + ", synth_ice40, shell serial8 included";
  add("LUT4", static_cast<double>(r.cells.lut4), "LUT4", Fidelity::synthesised, from);
  add("FF", static_cast<double>(r.cells.ff), "FF", Fidelity::synthesised, from);
  add("BRAM", static_cast<double>(r.cells.bram), "4 kbit blocks", Fidelity::synthesised, from);
  add("SPRAM", static_cast<double>(r.cells.spram), "32 KiB blocks", Fidelity::synthesised, from);
  add("DSP", static_cast<double>(r.cells.dsp), "SB_MAC16", Fidelity::synthesised, from);
  if (!params.place) return r;
  tool::PlaceOptions p;
  p.device = params.device;
  p.package = params.package;
  p.seed = params.seed;
  p.freq_mhz = params.clock_mhz;
  if (!r.shell.pcf.empty()) {
    work.put("board.pcf", r.shell.pcf);
    p.pcf = "board.pcf";
  }
  // Every placement for itself; the layout of the median one is kept.
  struct Placed {
    std::uint32_t seed;
    tool::PlaceResult result;
    std::string layout;
  };
  std::vector<Placed> placed_ones;
  std::string endless;
  p.seconds = params.seed_seconds;
  double longest = 0;
  int unended = 0;
  for (int i = 0; i < std::max(1, params.seeds); ++i) {
    p.seed = params.seed + static_cast<std::uint32_t>(i);
    tool::PlaceResult one = tool::place_ice40(work, s.json, p, cancel);
    if (!one.ended) {
      endless += "; " + one.reason;
      r.place = one;
      if (++unended == 2 && placed_ones.empty()) break;  // it is not the seed
      continue;
    }
    if (!one.fits) {
      if (placed_ones.empty()) {
        r.place = one;
        return r;
      }
      continue;  // a full part is not placed with every seed
    }
    longest = std::max(longest, one.run.seconds);
    p.seconds = std::min(params.seed_seconds, std::max(params.least_seconds, 10 * longest));
    r.fmax.push_back(one.fmax);
    std::string layout = work.get(one.asc);
    placed_ones.push_back({p.seed, std::move(one), std::move(layout)});
  }
  if (placed_ones.empty())
    throw Error(Exit::limit, fmt::format("{} gave no placement: {}", r.place.tool, endless.substr(2))).fix("another seed (--seed), or a larger part");
  std::sort(r.fmax.begin(), r.fmax.end());
  const double middle = r.fmax[(r.fmax.size() - 1) / 2];
  const Placed& kept = *std::find_if(placed_ones.begin(), placed_ones.end(), [&](const Placed& x) { return x.result.fmax == middle; });
  r.place = kept.result;
  work.put(r.place.asc, kept.layout);
  std::string placed = fmt::format("{}, {} {}, seed {}", r.place.tool, params.device, params.package, kept.seed);
  auto used = [&](const char* key) {
    auto it = r.place.utilisation.find(key);
    return it == r.place.utilisation.end() ? 0.0 : static_cast<double>(it->second.used);
  };
  add("logic cells", used("ICESTORM_LC"), "LC", Fidelity::placed, placed);
  add("block RAM", used("ICESTORM_RAM"), "4 kbit blocks", Fidelity::placed, placed);
  std::string clock = placed;
  if (r.fmax.size() > 1) {
    clock += fmt::format(": the median of {} seeds", r.fmax.size());
    for (std::size_t i = 0; i < r.fmax.size(); ++i) clock += fmt::format("{}{:.1f}", i ? ", " : " (", r.fmax[i]);
    clock += " MHz)";
  }
  clock += endless;
  if (!r.place.path.empty()) {
    const int stage = stage_of_cell(r.place.path.back().cell);
    clock += fmt::format("; the slowest path ends in {}", stage >= 0 && stage < static_cast<int>(d.modules.size()) ? d.modules[static_cast<std::size_t>(stage)] : "the shell");
  }
  add("Fmax", r.place.fmax, "MHz", Fidelity::placed, std::move(clock));
  if (r.fmax.size() > 1) r.metrics.back().metric.low = r.fmax.front(), r.metrics.back().metric.high = r.fmax.back();
  r.bitstream = tool::pack_ice40(work, r.place.asc, cancel);
  add("bitstream", static_cast<double>(r.bitstream.size()), "bytes", Fidelity::placed, placed);
  return r;
}

rtl::Design ice40_netlist(const rtl::Design& d, bool dsp, const Cancel& cancel) {
  const tool::WorkFolder work;
  std::vector<std::string> sources;
  tool::SynthOptions o;
  for (const rtl::File& f : d.files) {
    work.put(f.name, f.text);
    (f.name.ends_with(".v") ? sources : o.support).push_back(f.name);
  }
  o.top = d.top;
  o.dsp = dsp;
  o.verilog = "netlist.v";
  tool::synth_ice40(work, sources, o, cancel);
  const std::filesystem::path models = tool::find("yosys").path.parent_path().parent_path() / "share" / "yosys" / "ice40" / "cells_sim.v";
  std::error_code ec;
  if (!std::filesystem::is_regular_file(models, ec))
    throw Error(Exit::tool_missing, "yosys' models of the iCE40 cells were not found").at(models.string()).fix("apt-get install yosys");
  rtl::Design n = d;
  n.modules.clear();  // flattened: their streams are gone
  n.files = {{"netlist.v", work.get("netlist.v")}, {"cells.v", "`define NO_ICE40_DEFAULT_ASSIGNMENTS\n" + read_file(models)}};
  return n;
}

namespace {

// An entry of the cache names what it counts and carries a hash of itself; anything else is not an entry.
std::string entry_text(const std::string& key, const tool::FabricCells& c) {
  JsonWriter j;
  j.object().field("format", "tandem.synthesis").field("version", 1).field("key", key).key("cells").object();
  for (const auto& [type, n] : c.all) j.field(type, n);
  j.end().field("lut", c.lut).field("lut_memory", c.lut_memory).field("ff", c.ff).field("carry", c.carry).field("bram", c.bram).field("dsp", c.dsp).field("inv", c.inv);
  j.end();
  const std::string t = j.text();
  return t + hex16(fnv1a(t)) + "\n";
}
std::optional<tool::FabricCells> read_entry(const std::filesystem::path& file, const std::string& key) {
  try {
    std::error_code ec;
    if (!std::filesystem::is_regular_file(file, ec)) return {};
    const std::string all = read_file(file);
    if (all.size() < 18) return {};
    const std::string t = all.substr(0, all.size() - 17);
    if (all.substr(all.size() - 17) != hex16(fnv1a(t)) + "\n") return {};
    const Config c = Config::parse(t, file.string());
    if (c.at("key").as<std::string>() != key) return {};
    tool::FabricCells r;
    for (const auto& [type, n] : c.at("cells").entries()) r.all[type] = n.as<std::int64_t>();
    auto n = [&](const char* k) { return c.at(k).as<std::int64_t>(); };
    r.lut = n("lut"), r.lut_memory = n("lut_memory"), r.ff = n("ff"), r.carry = n("carry"), r.bram = n("bram"), r.dsp = n("dsp"), r.inv = n("inv");
    return r;
  } catch (const Error&) {  // a damaged entry is no entry
    return {};
  }
}

std::string replaced(std::string s, const std::string& from, std::string_view to) {
  for (std::size_t i = 0; (i = s.find(from, i)) != std::string::npos; i += to.size()) s.replace(i, from.size(), to);
  return s;
}

}  // namespace

std::string stage_text(const rtl::Design& d, std::size_t stage) {
  const std::string& m = d.modules[stage];
  std::string r;
  for (const rtl::File& f : d.files) {
    if (f.name == m + ".v") r += f.text.substr(f.text.find('\n') + 1);  // the first line holds the hash of the design
    else if (f.name.starts_with(m) && f.name.ends_with(".hex") && (f.name[m.size()] == '.' || f.name[m.size()] == '_')) r += f.name + "\n" + f.text;
  }
  return replaced(std::move(r), m, "stage");
}

StageSynthesis synthesise_stages(const rtl::Design& d, const StageSynthesisParams& params, const Cancel& cancel) {
  StageSynthesis r;
  r.tool = "yosys " + tool::find("yosys").version;
  std::filesystem::path folder;
  if (params.cache) {
    folder = tool::cache_folder() / "synthesis";
    std::filesystem::create_directories(folder);
  }
  struct Job {
    std::string text, key;
    std::optional<tool::FabricCells> cells;
    bool cached = false;
  };
  std::vector<Job> jobs;
  std::vector<std::size_t> job_of(d.stages.size());
  for (std::size_t i = 0; i < d.stages.size(); ++i) {
    std::string text = stage_text(d, i);
    std::size_t j = 0;
    while (j < jobs.size() && jobs[j].text != text) ++j;
    if (j == jobs.size()) {
      // Two hashes of different starts: a name that no two modules share by accident.
      const std::string what = fmt::format("{} {} dsp={}\n{}", r.tool, to_string(params.fabric), params.dsp, text);
      Job job{std::move(text), hex16(fnv1a(what)) + hex16(fnv1a(what, 0x5bd1e995a9f0e3d1ull)), {}, false};
      if (params.cache) job.cells = read_entry(folder / (job.key + ".json"), job.key);
      job.cached = job.cells.has_value();
      jobs.push_back(std::move(job));
    }
    job_of[i] = j;
  }
  // The largest modules first, each to the run that has least: sizes of texts stand for work.
  std::vector<std::size_t> order;
  for (std::size_t j = 0; j < jobs.size(); ++j)
    if (!jobs[j].cells) order.push_back(j);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return jobs[a].text.size() > jobs[b].text.size(); });
  const std::size_t runs = std::min<std::size_t>(order.size(), static_cast<std::size_t>(std::max(1, ThreadBudget::jobs())));
  std::vector<std::vector<std::size_t>> of(runs);
  std::vector<std::size_t> load(runs);
  for (std::size_t j : order) {
    const std::size_t k = static_cast<std::size_t>(std::min_element(load.begin(), load.end()) - load.begin());
    of[k].push_back(j);
    load[k] += jobs[j].text.size() + 4000;
  }
  parallel_for(static_cast<std::int64_t>(runs), 1, [&](std::int64_t run) {
    tool::WorkFolder work;
    tool::SynthOptions o;
    o.top = "keep_top";
    o.dsp = params.dsp;
    o.seconds = params.seconds;
    std::vector<std::string> sources, modules;
    for (std::size_t j : of[static_cast<std::size_t>(run)]) {
      std::size_t stage = 0;
      while (job_of[stage] != j) ++stage;
      const std::string& m = d.modules[stage];
      modules.push_back(m);
      for (const rtl::File& f : d.files) {
        if (f.name == m + ".v") sources.push_back(f.name);
        else if (!(f.name.starts_with(m) && f.name.ends_with(".hex") && (f.name[m.size()] == '.' || f.name[m.size()] == '_'))) continue;
        else o.support.push_back(f.name);
        work.put(f.name, f.text);
      }
    }
    const tool::FabricResult x = tool::synth_modules(params.fabric, work, sources, modules, o, cancel);
    for (std::size_t k = 0; k < modules.size(); ++k) {
      Job& job = jobs[of[static_cast<std::size_t>(run)][k]];
      job.cells = x.modules.at(modules[k]);
      if (params.cache) write_file(folder / (job.key + ".json"), entry_text(job.key, *job.cells));
    }
  }, cancel);
  for (std::size_t i = 0; i < d.stages.size(); ++i) {
    const Job& job = jobs[job_of[i]];
    r.stages.push_back({d.modules[i], *job.cells, job.cached});
    const tool::FabricCells& c = *job.cells;
    r.total.lut += c.lut, r.total.lut_memory += c.lut_memory, r.total.ff += c.ff, r.total.carry += c.carry;
    r.total.bram += c.bram, r.total.dsp += c.dsp, r.total.inv += c.inv;
    for (const auto& [type, n] : c.all) r.total.all[type] += n;
  }
  r.distinct = static_cast<std::int64_t>(jobs.size());
  r.from_cache = std::count_if(jobs.begin(), jobs.end(), [](const Job& j) { return j.cached; });
  const bool ice40 = params.fabric == tool::Fabric::ice40;
  const std::string from = fmt::format("{}, {}{}, sum of {} stages ({} distinct)", r.tool, ice40 ? "synth_ice40" : "synth_xilinx -family xcup", params.dsp ? (ice40 ? " -dsp" : "") : ice40 ? "" : " -nodsp", d.stages.size(), r.distinct);
  auto add = [&](std::string name, std::int64_t value, std::string unit) {
    r.metrics.push_back({std::move(name), {static_cast<double>(value), std::move(unit), Fidelity::synthesised, from, {}, {}}});
  };
  add("LUT", r.total.lut, ice40 ? "LUT4" : "LUT6");
  if (!ice40) add("LUT as memory", r.total.lut_memory, "LUT6");
  add("FF", r.total.ff, "FF");
  add("BRAM", r.total.bram, ice40 ? "4 kbit blocks" : "18 kbit blocks");
  add("DSP", r.total.dsp, ice40 ? "SB_MAC16" : "DSP48E2");
  return r;
}

}  // namespace tandem::flow
