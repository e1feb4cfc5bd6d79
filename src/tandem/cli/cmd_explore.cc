#include <charconv>
#include <memory>

#include "tandem/base/parallel.h"
#include "tandem/cli/command.h"
#include "tandem/flow/explore.h"

namespace tandem::cli {
namespace {

// "90", "90s", "10m", "2h"
double parse_seconds(std::string_view s) {
  double v = 0;
  const auto r = std::from_chars(s.data(), s.data() + s.size(), v);
  const std::string_view unit = s.substr(static_cast<std::size_t>(r.ptr - s.data()));
  const double k = unit.empty() || unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 0;
  if (r.ec != std::errc() || !(v * k > 0) || v * k > 1e9) throw bad_input("'{}' is no time", printable(s)).at("--budget").expected("a number with s, m or h, as in 10m");
  return v * k;
}

Run setup(Options& o) {
  struct Args {
    std::string study, budget;
    bool resume = false, dry = false;
  };
  auto a = std::make_shared<Args>();
  o.argument("STUDY", a->study, "YAML file: networks, space, hardware, objectives (tandem new study)");
  o.flag("--resume", a->resume, "Go on with the study in --out");
  o.option("--budget", a->budget, "Stop after this time: 90s, 10m, 2h");
  o.flag("--dry-run", a->dry, "Only say how large the space is and what the study would take");
  return [a](Context& c) {
    flow::ExploreParams p;
    p.out = c.out;
    p.resume = a->resume;
    p.overwrite = c.force;
    p.jobs = ThreadBudget::jobs();
    p.limits = c.limits;
    if (!a->budget.empty()) p.budget_s = parse_seconds(a->budget);
    if (c.seed_given) p.seed = c.seed;
    p.say = [&](std::string_view s) { c.note(s); };
    if (a->dry) {
      const flow::ExplorePlan plan = flow::plan_study(a->study, p, *c.cancel);
      if (c.json) {
        JsonWriter j;
        j.object().field("name", plan.name).field("space", plan.space_size).field("trials", plan.trials).field("networks", plan.networks);
        j.field("seconds_estimated", plan.seconds).field("bytes_estimated", plan.bytes).key("parameters").object();
        for (const auto& [n, v] : plan.parameters) j.field(n, v);
        j.end().key("figures").object();
        for (const auto& [n, v] : plan.metrics) j.field(n, v);
        c.print(j.end().end());
      } else {
        Table t;
        t.columns = {{"parameter"}, {"values"}};
        for (const auto& [n, v] : plan.parameters) t.add({n, v});
        c.print(t);
        c.print(fmt::format("\nspace: {} points; {} trials{}\nestimated: {:.0f} s with {} workers, {:.1f} MB on disk\n", plan.space_size, plan.trials,
                            plan.networks ? fmt::format(", about {} trainings", plan.networks) : "", plan.seconds, p.jobs, static_cast<double>(plan.bytes) / 1e6));
      }
      return Exit::done;
    }
    if (c.out.empty()) throw bad_input("--out is missing").expected("a folder for the study").fix(fmt::format("tandem explore {} --out found", a->study));
    const flow::ExploreResult r = flow::explore(a->study, p, *c.cancel);
    const bool feasible = r.why_infeasible.empty();
    if (c.json) c.print(flow::front_json(r.study));
    else c.print(flow::front_text(r.study));
    if (!feasible) c.note(r.why_infeasible);
    if (r.out_of_time) c.note(fmt::format("the time was spent; go on with: tandem explore '{}' --out '{}' --resume", a->study, c.out));
    else c.note(fmt::format("{} of {} points in {:.1f} s; written to {}", r.study.trials.size(), r.space_size, r.seconds, c.out));
    if (!feasible) return r.out_of_time ? Exit::limit : Exit::no;
    return Exit::done;
  };
}

}  // namespace

extern const Command cmd_explore;
const Command cmd_explore{
    .name = "explore",
    .group = "From model to hardware",
    .summary = "The best of many: a Pareto front of networks and hardware",
    .description = "Searches the space that a study (YAML) describes: bits, widths, depth of networks that are trained on the way, and folding, clock, target of\n"
                   "their hardware. Closed forms for all, longer training and building only for the front. Everything evaluated is kept in --out\n"
                   "(study.db) at any moment: Ctrl-C or a crash loses at most one evaluation per worker, --resume goes on. The result does not depend\n"
                   "on --jobs. A study that nothing satisfies is answered with the smallest set of limits that conflict (exit code 1).",
    .examples = {{"tandem explore examples/explore-folding.yaml --out found"},
                 {"tandem explore examples/explore-folding.yaml --out found2 --seed 3 --json"},
                 {"tandem explore examples/explore-folding.yaml --dry-run"}},
    .setup = setup,
    .own_out = true,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "description": "The front; with --dry-run: name, space, trials, networks, estimates, parameters, figures",
  "type": "object", "required": ["name"],
  "properties": {
    "format": {"const": "tandem.front"}, "version": {"type": "integer"}, "name": {"type": "string"}, "searcher": {"type": "string"}, "seed": {"type": "integer"},
    "trials": {"type": "integer"}, "feasible": {"type": "integer"},
    "objectives": {"type": "array", "items": {"type": "object", "required": ["metric", "unit", "goal"]}},
    "constraints": {"type": "array", "items": {"type": "object", "required": ["metric", "at_most", "bound"]}},
    "front": {"type": "array", "items": {"type": "object", "required": ["id", "parameters", "metrics", "design"]}},
    "space": {"type": "string"}, "seconds_estimated": {"type": "number"}, "bytes_estimated": {"type": "integer"}
  }
}
)"};

}  // namespace tandem::cli
