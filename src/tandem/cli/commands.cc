#include "tandem/cli/command.h"

namespace tandem::cli {

extern const Command cmd_schema;

// One line per command, in the order of --help.
std::span<const Command* const> all_commands() {
  static const Command* const table[] = {
      &cmd_schema,
  };
  return table;
}

}  // namespace tandem::cli
