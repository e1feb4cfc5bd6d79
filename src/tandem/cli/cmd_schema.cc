#include "tandem/base/nearest.h"
#include "tandem/cli/command.h"

namespace tandem::cli {
namespace {

Run setup(Options& o) {
  struct Args { std::string name; };
  auto a = std::make_shared<Args>();
  o.argument("NAME", a->name, "A command; without it, the commands that have a schema are listed", false);
  return [a](Context& c) {
    std::vector<std::string> known;
    for (const Command* x : all_commands()) {
      if (x->schema.empty()) continue;
      known.emplace_back(x->name);
      if (x->name != a->name) continue;
      c.print(x->schema);
      return Exit::done;
    }
    if (!a->name.empty()) throw bad_input("there is no schema '{}'", a->name).fix(suggest(a->name, known));
    if (c.json) {
      c.print(JsonWriter().object().field("schemas", known).end());
    } else {
      Table t;
      t.columns = {{"schema"}};
      for (const std::string& k : known) t.add({k});
      c.print(t);
    }
    return Exit::done;
  };
}

}  // namespace

extern const Command cmd_schema;
const Command cmd_schema{
    .name = "schema",
    .group = "What exists",
    .summary = "JSON Schema of a command's --json document",
    .description = "Prints the JSON Schema (draft 2020-12) of the document that `tandem NAME --json` writes.",
    .examples = {{"tandem schema ops"}, {"tandem schema --json"}},
    .setup = setup,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "description": "The list of commands that have a schema; with NAME the schema itself",
  "type": "object",
  "properties": {"schemas": {"type": "array", "items": {"type": "string"}}}
}
)"};

}  // namespace tandem::cli
