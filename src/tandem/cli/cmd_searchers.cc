#include "tandem/cli/command.h"
#include "tandem/search/searcher.h"

namespace tandem::cli {
namespace {

Run setup(Options&) {
  return [](Context& c) {
    Table t;
    t.columns = {{"searcher"}, {"what it does"}, {"source"}};
    JsonWriter j;
    j.object().key("searchers").array();
    for (const search::SearcherDef& d : search::all_searchers()) {
      t.add({std::string(d.name), std::string(d.summary), std::string(d.source)});
      j.object().field("name", d.name).field("summary", d.summary).field("source", d.source).end();
    }
    j.end().end();
    if (c.json) c.print(j);
    else c.print(t);
    return Exit::done;
  };
}

}  // namespace

extern const Command cmd_searchers;
const Command cmd_searchers{
    .name = "searchers",
    .group = "What exists",
    .summary = "How `tandem explore` may search",
    .description = "Lists the searchers that a study may name.",
    .examples = {{"tandem searchers"}, {"tandem searchers --json"}},
    .setup = setup,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["searchers"], "additionalProperties": false,
  "properties": {"searchers": {"type": "array", "items": {"type": "object", "required": ["name", "summary", "source"]}}}
}
)"};

}  // namespace tandem::cli
