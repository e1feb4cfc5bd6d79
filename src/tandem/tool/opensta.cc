#include "tandem/tool/opensta.h"

#include <charconv>
#include <cmath>
#include <sstream>

#include "tandem/tool/find.h"
#include "tandem/tool/messages.h"

namespace tandem::tool {
namespace {

std::optional<double> real(std::string_view s) {
  double x = 0;
  const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), x);
  return ec == std::errc() && end == s.data() + s.size() && std::isfinite(x) ? std::optional(x) : std::nullopt;
}

std::vector<std::string> words(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> r;
  for (std::string w; in >> w;) r.push_back(w);
  return r;
}

}  // namespace

StaResult time_cells(const WorkFolder& work, const std::vector<std::string>& liberty, const std::string& verilog, const StaOptions& o, const Cancel& cancel) {
  require_identifier(o.top);
  require_identifier(o.clock);
  require_safe_name(verilog);
  if (!(o.period_ns > 0 && o.period_ns < 1e6)) throw bad_input("a clock period of {} ns", o.period_ns).expected("0 to 1,000,000 ns");
  StaResult r;
  const Tool& tool = find("sta");
  r.tool = "OpenSTA " + tool.version;
  std::string s;
  for (const auto& l : liberty) {
    require_safe_name(l);
    s += "read_liberty " + l + "\n";
  }
  // Units are those of the first library, which both of ours have in ns.
  s += fmt::format("read_verilog {}\nlink_design {}\ncreate_clock -name {} -period {} [get_ports {}]\n", verilog, o.top, o.clock, o.period_ns, o.clock);
  s += fmt::format("set inputs {{}}\nforeach p [all_inputs] {{ if {{[get_property $p full_name] != \"{0}\"}} {{ lappend inputs $p }} }}\n"
                   "set_input_delay 0 -clock {0} $inputs\nset_output_delay 0 -clock {0} [all_outputs]\n", o.clock);
  std::error_code ec;
  for (const char* f : {"slack.txt", "path.txt", "done.txt"}) std::filesystem::remove(work / f, ec);
  s += "report_worst_slack -digits 5 > slack.txt\nreport_checks -path_delay max -digits 5 > path.txt\n";
  s += "set f [open done.txt w]\nputs $f done\nclose $f\nexit\n";
  work.put("sta.tcl", s);
  Process p;
  p.argv = {tool.path.string(), "-exit", "sta.tcl"};
  p.folder = work.path();
  p.seconds = o.seconds;
  p.trust = o.trust;
  r.run = p.run(cancel);
  // It ends with exit code 0 after an error, and reads on behind one with empty modules in the place of what it did not understand.
  const auto said = lines_with(r.run.out + "\n" + r.run.err, {"Error", "not found", "black box", "syntax error"});
  if (!said.empty()) throw Error(Exit::bad_input, fmt::format("{}: {}", r.tool, said[0]));
  if (!r.run.ok() || !work.has("done.txt")) throw tool_failed(r.tool, r.run, "no result");
  const std::string slack = work.get("slack.txt");
  const auto w = words(slack);
  const auto value = w.empty() ? std::nullopt : real(w.back());
  if (w.size() < 2 || w[0] != "worst" || w[1] != "slack" || !value) throw Error(Exit::limit, r.tool + " left no slack").fix("look for a full disk");
  r.slack_ns = *value;
  r.fmax_mhz = o.period_ns > r.slack_ns ? 1e3 / (o.period_ns - r.slack_ns) : 0;
  if (!(r.fmax_mhz > 0)) throw Error(Exit::bad_input, r.tool + ": no path has a delay");
  std::istringstream path(work.get("path.txt"));
  for (std::string line; std::getline(path, line);) {
    const auto x = words(line);
    if (x.size() >= 2 && x[0] == "Startpoint:" && r.from.empty()) r.from = x[1];
    if (x.size() >= 2 && x[0] == "Endpoint:" && r.to.empty()) r.to = x[1];
  }
  return r;
}

}  // namespace tandem::tool
