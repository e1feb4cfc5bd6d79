// What a command accepts, as data: the completions and the manual page are written from it.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "tandem/cli/command.h"

namespace tandem::cli {

struct OptionDoc {
  std::vector<std::string> names;  // "--out", "-o"; of an argument its name: "MODEL"
  std::string value;               // what follows it: TEXT, INT, NUMBER ...; empty: a flag or an argument
  std::string help;
  bool required = false, repeated = false;
};
struct CommandDoc {
  const Command* command = nullptr;
  std::vector<OptionDoc> arguments, options;  // without the common options
};
CommandDoc describe(const Command& c);
// Those of every command.
const std::vector<OptionDoc>& common_options();

// Words that complete an argument or the value of an option; empty: file names. Only words that no shell interprets.
std::vector<std::string> words_for(const Command& c, const OptionDoc& o);

std::string bash_completion();  // sourced by bash, without any package
std::string zsh_completion();   // a file _tandem on $fpath
std::string man_page();         // roff, section 1

}  // namespace tandem::cli
