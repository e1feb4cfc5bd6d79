#include "tandem/tool/iverilog.h"

#include "tandem/tool/find.h"
#include "tandem/tool/messages.h"

namespace tandem::tool {

IcarusResult run_icarus(const WorkFolder& work, const std::vector<std::string>& files, const std::string& top, const std::vector<std::string>& plusargs,
                        double seconds, Trust trust, const Cancel& cancel) {
  TANDEM_CHECK(!files.empty(), "Icarus without a source file");
  require_identifier(top);
  const std::string tool = "iverilog " + find("iverilog").version;
  std::error_code ec;
  std::filesystem::remove(work / "icarus.vvp", ec);
  Process c;
  c.argv = {find("iverilog").path.string(), "-g2012", "-Wall", "-s", top, "-o", "icarus.vvp"};
  for (const auto& f : files) {
    require_safe_name(f);
    c.argv.push_back(f);
  }
  c.folder = work.path();
  c.seconds = seconds;
  c.trust = trust;
  const ProcessResult compiled = c.run(cancel);
  if (!compiled.ok()) throw tool_failed(tool, compiled, "the design was refused");
  const std::string vvp = work.get("icarus.vvp");
  if (vvp.find(":file_names") == std::string::npos) throw Error(Exit::limit, tool + " left an incomplete program").fix("look for a full disk");
  IcarusResult r;
  // Without `timescale nothing here depends on time units.
  for (auto& w : lines_with(compiled.err + "\n" + compiled.out, {"warning:", "Warning:"}))
    if (w.find("timescale") == std::string::npos) r.warnings.push_back(std::move(w));
  Process s;
  s.argv = {find("vvp").path.string(), "-n", "icarus.vvp"};  // -n: $stop ends instead of asking
  for (const auto& a : plusargs) s.argv.push_back("+" + a);
  s.folder = work.path();
  s.seconds = seconds;
  s.trust = trust;
  r.run = s.run(cancel);
  return r;
}

}  // namespace tandem::tool
