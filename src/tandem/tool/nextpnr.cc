#include "tandem/tool/nextpnr.h"

#include <algorithm>
#include <limits>

#include "tandem/base/config.h"
#include "tandem/tool/find.h"
#include "tandem/tool/messages.h"

namespace tandem::tool {

PlaceResult place_ice40(const WorkFolder& work, const std::string& json, const PlaceOptions& o, const Cancel& cancel) {
  require_safe_name(json);
  require_safe_name(o.device);
  require_safe_name(o.package);
  if (!(o.freq_mhz > 0 && o.freq_mhz < 1e4)) throw bad_input("a clock of {} MHz", o.freq_mhz).expected("0 to 10,000 MHz");
  PlaceResult r;
  r.asc = "top.asc";
  r.tool = "nextpnr-ice40 " + find("nextpnr-ice40").version;
  std::error_code ec;
  for (const char* old : {"top.asc", "report.json"}) std::filesystem::remove(work / old, ec);
  Process p;
  p.argv = {find("nextpnr-ice40").path.string(), "--" + o.device, "--package", o.package, "--json", json, "--asc", r.asc, "--report", "report.json",
            "--seed", std::to_string(o.seed), "--freq", fmt::format("{}", o.freq_mhz), "--timing-allow-fail", "--quiet"};
  if (!o.pcf.empty()) {
    require_safe_name(o.pcf);
    p.argv.insert(p.argv.end(), {"--pcf", o.pcf});
    if (o.pcf_allow_unconstrained) p.argv.push_back("--pcf-allow-unconstrained");
  }
  p.folder = work.path();
  p.seconds = o.seconds;
  p.trust = o.trust;
  r.run = p.run(cancel);
  if (r.run.timed_out) {
    r.ended = false;
    r.reason = fmt::format("seed {} did not end in {:.0f} s", o.seed, o.seconds);
    return r;
  }
  if (!r.run.ok()) {
    const auto errors = lines_with(r.run.err + "\n" + r.run.out, {"ERROR:"});
    if (r.run.out_of_limits || r.run.signal != 0 || errors.empty()) throw tool_failed(r.tool, r.run, "no result");
    // A netlist or pin file it cannot read is not a design that does not fit.
    const auto says = [&](std::string_view w) { return errors[0].find(w) != std::string::npos; };
    if (says("parse") || says("oad") || says("open") || says("pcf") || says("PCF") || says("constrained") || says("unsupported") || says("ackage"))
      throw tool_failed(r.tool, r.run, "the netlist or the pin file was refused");
    r.reason = errors[0].substr(errors[0].find("ERROR:") + 7);
    return r;
  }
  const Config report = Config::parse(work.get("report.json"), "report.json");
  for (const auto& [name, u] : report.at("utilization").entries())
    r.utilisation[name] = {u.required<std::int64_t>("used"), u.required<std::int64_t>("available")};
  double slowest = std::numeric_limits<double>::infinity();
  for (const auto& [clock, f] : report.at("fmax").entries()) {
    const double mhz = f.required<double>("achieved");
    r.fmax_mhz[clock] = mhz;
    slowest = std::min(slowest, mhz);
  }
  if (!r.fmax_mhz.empty()) r.fmax = slowest;
  for (const auto& [clock, mhz] : r.fmax_mhz) {
    if (mhz != slowest || !report.has("critical_paths")) continue;
    const std::string edge = "posedge " + clock;
    for (const Config& path : report.at("critical_paths").items()) {
      if (path.required<std::string>("from") != edge || path.required<std::string>("to") != edge) continue;
      for (const Config& step : path.at("path").items())
        r.path.push_back({step.required<std::string>("type"), step.at("to").required<std::string>("cell"), step.at("to").required<std::string>("port"),
                          step.optional_or<std::string>("net", ""), step.required<double>("delay")});
    }
  }
  // The bitstream text of a part names its device and is never short.
  const std::string asc = work.get(r.asc);
  if (asc.find(".device") == std::string::npos) throw Error(Exit::limit, r.tool + " left an incomplete layout").fix("look for a full disk");
  r.fits = true;
  return r;
}

std::string pack_ice40(const WorkFolder& work, const std::string& asc, const Cancel& cancel) {
  require_safe_name(asc);
  const Tool& t = find("icepack");
  std::error_code ec;
  std::filesystem::remove(work / "top.bin", ec);
  Process p;
  p.argv = {t.path.string(), asc, "top.bin"};
  p.folder = work.path();
  const ProcessResult r = p.run(cancel);
  if (!r.ok()) throw tool_failed("icepack", r, "no bitstream");
  std::string bin = work.get("top.bin");
  const std::string text = work.get(asc);
  const auto at = text.find(".device ");
  const std::string device = at == std::string::npos ? "" : text.substr(at + 8, text.find('\n', at) - at - 8);
  // Configuration RAM and block RAM of the whole die: the length is a constant of the part.
  const std::size_t length = device == "5k" ? 104090 : device == "8k" ? 135100 : device == "1k" ? 32220 : 0;
  const bool sync = bin.find("\x7e\xaa\x99\x7e") < 64;
  if (!sync || (length != 0 && bin.size() != length))
    throw Error(Exit::limit, fmt::format("icepack left an incomplete bitstream of {} bytes", bin.size())).expected(fmt::format("{} bytes", length)).fix("look for a full disk");
  return bin;
}

}  // namespace tandem::tool
