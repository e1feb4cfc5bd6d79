#include "tandem/base/config.h"
#include "tandem/base/nearest.h"
#include "tandem/cli/command.h"
#include "tandem/cli/topics.h"

namespace tandem::cli {
namespace {

Run setup(Options& o) {
  struct Args { std::string topic; };
  auto a = std::make_shared<Args>();
  o.argument("TOPIC", a->topic, "A topic, or the text of an error message in quotes; without it, the topics are listed", false);
  return [a](Context& c) {
    if (a->topic.empty()) {
      if (c.json) {
        JsonWriter j;
        j.object().key("topics").array();
        for (const Topic& t : topics()) j.object().field("name", t.name).field("summary", t.summary).end();
        c.print(j.end().end());
        return Exit::done;
      }
      Table t;
      t.columns = {{"topic"}, {"what it explains"}};
      for (const Topic& x : topics()) t.add({std::string(x.name), std::string(x.summary)});
      c.print(t);
      return Exit::done;
    }
    const Topic* found = nullptr;
    std::vector<std::string> known;
    for (const Topic& t : topics()) {
      known.emplace_back(t.name);
      if (t.name == a->topic) found = &t;
    }
    if (!found && (a->topic.starts_with("exit-") || parse_int(a->topic))) found = &topics()[0];
    if (!found) found = topic_of(Error(Exit::no, a->topic));
    if (!found) throw bad_input("there is no page on '{}'", a->topic).at("tandem explain").expected("a topic, or the text of an error message").fix(suggest(a->topic, known));
    if (c.json) c.print(JsonWriter().object().field("name", found->name).field("summary", found->summary).field("page", found->page).end());
    else c.print(fmt::format("{}\n\n{}", found->summary, found->page));
    return Exit::done;
  };
}

}  // namespace

extern const Command cmd_explain;
const Command cmd_explain{
    .name = "explain",
    .group = "Machine",
    .summary = "What an error means, why it is one, and what to do",
    .description = "Prints the page of a topic, or the page that explains the text of an error message. Without TOPIC the topics are listed.",
    .examples = {{"tandem explain exit-codes"}, {"tandem explain \"node 'conv1' (Conv) works on floats\""}},
    .setup = setup,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "description": "A page, or without TOPIC the list of topics",
  "type": "object", "additionalProperties": false,
  "properties": {"name": {"type": "string"}, "summary": {"type": "string"}, "page": {"type": "string"},
    "topics": {"type": "array", "items": {"type": "object", "required": ["name", "summary"], "additionalProperties": false,
      "properties": {"name": {"type": "string"}, "summary": {"type": "string"}}}}}
}
)"};

}  // namespace tandem::cli
