#include "tandem/cli/command.h"
#include "tandem/cli/describe.h"

namespace tandem::cli {
namespace {

Run setup_completion(Options& o) {
  struct Args { std::string shell; };
  auto a = std::make_shared<Args>();
  o.argument("SHELL", a->shell, "bash or zsh");
  return [a](Context& c) {
    if (a->shell != "bash" && a->shell != "zsh") throw bad_input("no completion for '{}'", a->shell).at("tandem completion").expected("bash or zsh").fix("tandem completion bash");
    const std::string text = a->shell == "bash" ? bash_completion() : zsh_completion();
    if (c.json) c.print(JsonWriter().object().field("shell", a->shell).field("text", text).end());
    else c.print(text);
    return Exit::done;
  };
}

Run setup_man(Options&) {
  return [](Context& c) {
    const std::string text = man_page();
    if (c.json) c.print(JsonWriter().object().field("section", 1).field("text", text).end());
    else c.print(text);
    return Exit::done;
  };
}

}  // namespace

extern const Command cmd_completion;
const Command cmd_completion{
    .name = "completion",
    .group = "Machine",
    .summary = "Completion of commands, options and names for bash and zsh",
    .description = "Prints a script: in ~/.bashrc, `eval \"$(tandem completion bash)\"`; for zsh, a file _tandem in a folder of $fpath. An installed "
                   "tandem brings both.",
    .examples = {{"tandem completion bash"}, {"tandem completion zsh --out _tandem"}},
    .setup = setup_completion,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["shell", "text"], "additionalProperties": false,
  "properties": {"shell": {"enum": ["bash", "zsh"]}, "text": {"type": "string"}}
}
)"};

extern const Command cmd_man;
const Command cmd_man{
    .name = "man",
    .group = "Machine",
    .summary = "The manual page, written from the table of commands",
    .description = "Prints the page tandem(1) as roff; an installed tandem brings it: `man tandem`.",
    .examples = {{"tandem man"}, {"tandem man --out tandem.1"}},
    .setup = setup_man,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["section", "text"], "additionalProperties": false,
  "properties": {"section": {"const": 1}, "text": {"type": "string"}}
}
)"};

}  // namespace tandem::cli
