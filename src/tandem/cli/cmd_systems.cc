#include "tandem/cli/command.h"

namespace tandem::cli {
namespace {

Run setup(Options&) {
  return [](Context& c) {
    if (c.json) {
      c.print(JsonWriter().object().key("systems").array().end().end());
    } else {
      Table t;
      t.columns = {{"system"}, {"claim"}, {"published"}, {"ours"}, {"fidelity"}};
      c.print(t);
      c.note("no published system is reproduced yet: the registry is empty");
    }
    return Exit::done;
  };
}

}  // namespace

extern const Command cmd_systems;
const Command cmd_systems{
    .name = "systems",
    .group = "What exists",
    .summary = "Published systems that tandem reproduces (none yet)",
    .description = "Lists the published systems that are reproduced, with claim, published figure, our figure and its fidelity. The registry is empty.",
    .examples = {{"tandem systems"}, {"tandem systems --json"}},
    .setup = setup,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["systems"], "additionalProperties": false, "properties": {"systems": {"type": "array", "items": {"type": "object"}}}
}
)"};

}  // namespace tandem::cli
