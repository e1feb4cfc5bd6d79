#include "tandem/flow/synthesis.h"

#include <cmath>

#include "tandem/tool/work.h"

namespace tandem::flow {

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
  r.place = tool::place_ice40(work, s.json, p, cancel);
  if (!r.place.fits) return r;
  std::string placed = fmt::format("{}, {} {}, seed {}", r.place.tool, params.device, params.package, params.seed);
  auto used = [&](const char* key) {
    auto it = r.place.utilisation.find(key);
    return it == r.place.utilisation.end() ? 0.0 : static_cast<double>(it->second.used);
  };
  add("logic cells", used("ICESTORM_LC"), "LC", Fidelity::placed, placed);
  add("block RAM", used("ICESTORM_RAM"), "4 kbit blocks", Fidelity::placed, placed);
  add("Fmax", r.place.fmax, "MHz", Fidelity::placed, placed);
  r.bitstream = tool::pack_ice40(work, r.place.asc, cancel);
  add("bitstream", static_cast<double>(r.bitstream.size()), "bytes", Fidelity::placed, placed);
  return r;
}

}  // namespace tandem::flow
