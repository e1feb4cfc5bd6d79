#include "tandem/cli/command.h"
#include "tandem/hardware/target.h"

namespace tandem::cli {
namespace {

Run setup(Options& o) {
  struct Args { std::string name; };
  auto a = std::make_shared<Args>();
  o.argument("TARGET", a->name, "One target: its budgets with their sources", false);
  return [a](Context& c) {
    std::vector<hardware::Target> targets;
    if (a->name.empty()) targets = hardware::all_targets();
    else targets.push_back(hardware::find_target(a->name));
    if (c.json) {
      JsonWriter j;
      j.object().key("targets").array();
      for (const hardware::Target& t : targets) {
        j.object().field("name", t.name).field("aliases", t.aliases).field("family", t.family).field("summary", t.summary).field("clock_mhz", t.clock_mhz);
        j.key("budget").object();
        for (const auto& [k, r] : t.budget) j.key(k).object().field("count", r.count).field("source", r.source).end();
        j.end().end();
      }
      c.print(j.end().end());
      return Exit::done;
    }
    Table t;
    if (a->name.empty()) {
      t.columns = {{"target"}, {"also"}, {"family"}, {"LUT", true}, {"BRAM", true}, {"DSP", true}, {"MHz", true}, {"what it is"}};
      for (const hardware::Target& x : targets) {
        std::string also;
        for (const std::string& s : x.aliases) also += (also.empty() ? "" : " ") + s;
        t.add({x.name, also, x.family, grouped(x.available("lut4") + x.available("lut6")), grouped(x.available("bram")), grouped(x.available("dsp")), fmt::format("{}", x.clock_mhz), x.summary});
      }
    } else {
      t.columns = {{"resource"}, {"count", true}, {"source"}};
      for (const auto& [k, r] : targets[0].budget) t.add({k, grouped(r.count), r.source});
      t.add({"clock (MHz)", fmt::format("{}", targets[0].clock_mhz), targets[0].clock_source});
    }
    c.print(t);
    return Exit::done;
  };
}

}  // namespace

extern const Command cmd_targets;
const Command cmd_targets{
    .name = "targets",
    .group = "What exists",
    .summary = "Devices a design can be built for, with budgets and their sources",
    .description = "Lists the targets (YAML files of the targets folder); with a name, alias or file, the budgets of one.",
    .examples = {{"tandem targets"}, {"tandem targets up5k"}},
    .setup = setup,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["targets"], "additionalProperties": false,
  "properties": {"targets": {"type": "array", "items": {"type": "object", "additionalProperties": false,
    "required": ["name", "aliases", "family", "summary", "clock_mhz", "budget"],
    "properties": {"name": {"type": "string"}, "aliases": {"type": "array", "items": {"type": "string"}}, "family": {"type": "string"},
      "summary": {"type": "string"}, "clock_mhz": {"type": "number"},
      "budget": {"type": "object", "additionalProperties": {"type": "object", "required": ["count", "source"],
        "properties": {"count": {"type": "integer"}, "source": {"type": "string"}}}}}}}}
}
)"};

}  // namespace tandem::cli
