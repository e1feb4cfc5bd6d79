#include <unistd.h>

#include "tandem/base/parallel.h"
#include "tandem/cli/command.h"
#include "tandem/tool/find.h"
#include "tandem/tool/process.h"

namespace tandem::cli {
namespace {

Run setup(Options&) {
  return [](Context& c) {
    struct Row { std::string name, state, version, package, use; };
    std::vector<Row> rows;
    std::string missing;
    for (const tool::KnownTool& k : tool::known_tools()) {
      const std::optional<tool::Tool> t = tool::try_find(k.name);
      rows.push_back({std::string(k.name), t ? "found" : "missing", t ? t->version : "", std::string(k.package), std::string(k.used_for)});
      if (!t && missing.find(k.package) == std::string::npos) missing += " " + std::string(k.package);
    }
    const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE)) / (1ull << 30);
    const bool sandbox = tool::sandbox_available();
    if (c.json) {
      JsonWriter j;
      j.object().field("processors", ThreadBudget::jobs()).field("memory_gib", memory).field("sandbox", sandbox).key("tools").array();
      for (const Row& r : rows)
        j.object().field("name", r.name).field("found", r.state == "found").field("version", r.version).field("package", r.package).field("used_for", r.use).end();
      c.print(j.end().end());
    } else {
      Table t;
      t.columns = {{"tool"}, {"state"}, {"version"}, {"package"}, {"used for"}};
      for (const Row& r : rows) t.add({r.name, r.state, r.version, r.package, r.use});
      c.print(t);
      c.print(fmt::format("\nprocessors lent to us: {}   memory: {:.1f} GiB   sandbox: {}\n", ThreadBudget::jobs(), memory, sandbox ? "works" : tool::sandbox_reason()));
      if (!missing.empty()) c.print("missing: apt-get install" + missing + "\n");
    }
    return missing.empty() ? Exit::done : Exit::tool_missing;
  };
}

}  // namespace

extern const Command cmd_doctor;
const Command cmd_doctor{
    .name = "doctor",
    .group = "Machine",
    .summary = "Which external tools are here, and which package brings a missing one",
    .description = "Looks for the external tools, their versions and the sandbox. Exit code 3 when a tool is missing.",
    .examples = {{"tandem doctor", "yosys nextpnr-ice40 icepack verilator iverilog vvp g++ bwrap"},
                 {"tandem doctor --json", "yosys nextpnr-ice40 icepack verilator iverilog vvp g++ bwrap"}},
    .setup = setup,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["processors", "memory_gib", "sandbox", "tools"], "additionalProperties": false,
  "properties": {"processors": {"type": "integer"}, "memory_gib": {"type": "number"}, "sandbox": {"type": "boolean"},
    "tools": {"type": "array", "items": {"type": "object", "required": ["name", "found", "version", "package", "used_for"], "additionalProperties": false,
      "properties": {"name": {"type": "string"}, "found": {"type": "boolean"}, "version": {"type": "string"}, "package": {"type": "string"}, "used_for": {"type": "string"}}}}}
}
)"};

}  // namespace tandem::cli
