#include "tandem/cli/command.h"

namespace tandem::cli {

extern const Command cmd_demo;
extern const Command cmd_show;
extern const Command cmd_run;
extern const Command cmd_convert;
extern const Command cmd_quantize;
extern const Command cmd_eval;
extern const Command cmd_build;
extern const Command cmd_verify;
extern const Command cmd_report;
extern const Command cmd_calibrate;
extern const Command cmd_train;
extern const Command cmd_explore;
extern const Command cmd_new;
extern const Command cmd_searchers;
extern const Command cmd_selftest;
extern const Command cmd_doctor;
extern const Command cmd_ops;
extern const Command cmd_formats;
extern const Command cmd_targets;
extern const Command cmd_tasks;
extern const Command cmd_systems;
extern const Command cmd_schema;
extern const Command cmd_diff;
extern const Command cmd_explain;
extern const Command cmd_completion;
extern const Command cmd_man;

// One line per command, in the order of --help.
std::span<const Command* const> all_commands() {
  static const Command* const table[] = {
      &cmd_demo, &cmd_explore, &cmd_new, &cmd_build, &cmd_verify, &cmd_report, &cmd_train, &cmd_show, &cmd_run, &cmd_convert, &cmd_eval, &cmd_quantize, &cmd_diff, &cmd_selftest, &cmd_calibrate, &cmd_doctor, &cmd_explain,
      &cmd_ops, &cmd_formats, &cmd_targets, &cmd_tasks, &cmd_searchers, &cmd_systems, &cmd_schema, &cmd_completion, &cmd_man,
  };
  return table;
}

}  // namespace tandem::cli
