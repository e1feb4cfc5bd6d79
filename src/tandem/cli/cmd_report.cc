#include <filesystem>
#include <memory>

#include "tandem/base/file.h"
#include "tandem/cli/command.h"
#include "tandem/flow/report.h"

namespace tandem::cli {
namespace {

Run setup(Options& o) {
  struct Args { std::string folder; };
  auto a = std::make_shared<Args>();
  o.argument("FOLDER", a->folder, "A folder written by `tandem build`, `tandem explore` or `tandem train`");
  return [a](Context& c) {
    const std::filesystem::path out = c.out.empty() ? std::filesystem::path(a->folder) / "report.html" : std::filesystem::path(c.out);
    if (!c.force && std::filesystem::exists(out)) throw bad_input("the file exists").at(out.string()).fix("another --out, or --force");
    const std::string page = flow::report_page(a->folder, out.parent_path());
    write_file(out, page, c.force);
    if (c.json) c.print(JsonWriter().object().field("report", out.string()).field("bytes", static_cast<std::int64_t>(page.size())).end());
    else c.print(fmt::format("{}: {} bytes\n", printable(out.string()), page.size()));
    return Exit::done;
  };
}

}  // namespace

extern const Command cmd_report;
const Command cmd_report{
    .name = "report",
    .group = "Hardware",
    .summary = "One HTML page about a built design or a study",
    .description = "Writes one self-contained HTML file: folding balance, resources against the part's budget, estimates against what was found, "
                   "layer table, verification, every figure with its source, and the files with their sums. Of a study: the front, how the search "
                   "converged, what each parameter explains, every trial. The page asks nothing of any server, prints, "
                   "and its charts can be saved as SVG and CSV. Without --out it is written into the folder as report.html.",
    .examples = {{"tandem report design --out design.html --force", "verilator"}, {"tandem report design --force --json", "verilator"}},
    .setup = setup,
    .own_out = true,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["report", "bytes"],
  "properties": {"report": {"type": "string"}, "bytes": {"type": "integer"}}
}
)"};

}  // namespace tandem::cli
