#include "tandem/cli/command.h"
#include "tandem/tasks/task.h"

namespace tandem::cli {
namespace {

Run setup(Options&) {
  return [](Context& c) {
    Table t;
    t.columns = {{"task"}, {"what it is"}};
    JsonWriter j;
    j.object().key("tasks").array();
    for (const tasks::Task* x : tasks::list_tasks()) {
      t.add({std::string(x->name()), std::string(x->doc())});
      j.object().field("name", x->name()).field("doc", x->doc()).end();
    }
    j.end().end();
    if (c.json) c.print(j);
    else c.print(t);
    return Exit::done;
  };
}

}  // namespace

extern const Command cmd_tasks;
const Command cmd_tasks{
    .name = "tasks",
    .group = "What exists",
    .summary = "What a model can be trained and judged for",
    .description = "Lists the tasks: how samples are prepared and how outputs are scored.",
    .examples = {{"tandem tasks"}, {"tandem tasks --table md"}},
    .setup = setup,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["tasks"], "additionalProperties": false,
  "properties": {"tasks": {"type": "array", "items": {"type": "object", "required": ["name", "doc"], "additionalProperties": false,
    "properties": {"name": {"type": "string"}, "doc": {"type": "string"}}}}}
}
)"};

}  // namespace tandem::cli
