#include "tandem/cli/command.h"

namespace tandem::cli {

extern const Command cmd_schema;
extern const Command cmd_selftest;
extern const Command cmd_train;

// One line per command, in the order of --help.
std::span<const Command* const> all_commands() {
  static const Command* const table[] = {
      &cmd_selftest,
      &cmd_train,
      &cmd_schema,
  };
  return table;
}

}  // namespace tandem::cli
