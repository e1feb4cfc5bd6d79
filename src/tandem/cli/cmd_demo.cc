#include "tandem/base/parallel.h"
#include "tandem/cli/command.h"
#include "tandem/flow/demo.h"

namespace tandem::cli {
namespace {

Run setup(Options& o) {
  struct Args {
    std::string target = "up5k";
    bool no_place = false;
    double scale = 1;
  };
  auto a = std::make_shared<Args>();
  o.option("--target", a->target, "The part to build for (tandem targets)");
  o.option("--scale", a->scale, "Share of the designs and epochs: 0.1 for a quick look");
  o.flag("--no-place", a->no_place, "Stop after verification: no synthesis, placement, bitstream");
  return [a](Context& c) {
    if (!(a->scale > 0 && a->scale <= 10)) throw bad_input("--scale {} is out of range", a->scale).at("--scale").expected("more than 0, at most 10");
    flow::DemoParams p;
    p.target = a->target;
    p.out = c.out.empty() ? "out/demo" : c.out;
    p.seed = c.seed;
    p.scale = a->scale;
    p.place = !a->no_place;
    p.jobs = ThreadBudget::jobs();
    p.limits = c.limits;
    p.say = [&](std::string_view s) { c.note(s); };
    const flow::DemoResult r = flow::demo(p, *c.cancel);
    c.print(c.json ? flow::demo_json(r) : flow::demo_text(r));
    c.note(fmt::format("written to {}; look at {}", p.out.string(), (p.out / "report.html").string()));
    return r.ok ? Exit::done : Exit::no;
  };
}

}  // namespace

extern const Command cmd_demo;
const Command cmd_demo{
    .name = "demo",
    .group = "From model to hardware",
    .summary = "From data to placed hardware: the whole path on the shipped digits",
    .description = "Explores networks and foldings for the shipped 8x8 digits: dozens of quantised networks are trained, hundreds of designs estimated. The\n"
                   "best design of the Pareto front by validation accuracy is built: Verilog, every output word compared with the exact result on the\n"
                   "whole test split in Verilator, placed, routed, packed. Everything lies in --out (default out/demo), report.html first of all. A demo\n"
                   "that was stopped goes on where it was.",
    .examples = {{"tandem demo --scale 0.03 --no-place --out demo", "learn verilator"}, {"tandem demo --scale 0.03 --no-place --out demo2 --json", "learn verilator"}},
    .setup = setup,
    .own_out = true,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["seed", "seconds", "networks", "designs", "ok", "design", "metrics", "front"],
  "properties": {
    "seed": {"type": "integer"}, "seconds": {"type": "number"}, "networks": {"type": "integer"}, "designs": {"type": "integer"},
    "ok": {"type": "boolean"}, "design": {"type": "string"},
    "metrics": {"type": "object", "additionalProperties": {"type": "object", "required": ["value", "unit", "fidelity", "source"]}},
    "front": {"type": "object", "required": ["trials", "front"]}
  }
}
)"};

}  // namespace tandem::cli
