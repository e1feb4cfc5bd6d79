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
  o.option("--scale", a->scale, "Share of the epochs: 0.1 for a quick look");
  o.flag("--no-place", a->no_place, "Stop after verification: no synthesis, placement, bitstream");
  return [a](Context& c) {
    if (!(a->scale > 0 && a->scale <= 10)) throw bad_input("--scale {} is outside (0, 10]", a->scale);
    flow::DemoParams p;
    p.target = a->target;
    p.out = c.out.empty() ? "out/demo" : c.out;
    p.seed = c.seed;
    p.scale = a->scale;
    p.place = !a->no_place;
    p.say = [&](std::string_view s) { c.note(s); };
    const flow::DemoResult r = flow::demo(p, *c.cancel);
    if (c.json) {
      JsonWriter j;
      j.object().field("seed", c.seed).field("seconds", r.seconds).key("candidates").array();
      for (const auto& k : r.candidates)
        j.object().field("name", k.name).field("bits", k.bits).field("weights", k.weights).field("validation", k.valid).field("fits", k.fits)
            .field("reason", k.reason).field("interval_estimated", k.interval).field("lut4_estimated", k.lut4).field("bram_estimated", k.bram).end();
      j.end().field("chosen", r.candidates[static_cast<std::size_t>(r.chosen)].name);
      j.field("test_exact", r.software.metric.value).field("test_verilog", r.hardware.metric.value).field("test_unit", r.software.metric.unit);
      j.field("test_n", r.software.n).key("build").raw(flow::to_json(r.build));
      c.print(j.end());
    } else {
      c.print(flow::demo_text(r));
      c.note("written to " + p.out.string());
    }
    return r.build.ok && r.hardware.correct == r.software.correct ? Exit::done : Exit::no;
  };
}

}  // namespace

extern const Command cmd_demo;
const Command cmd_demo{
    .name = "demo",
    .group = "From model to hardware",
    .summary = "From data to placed hardware: the whole path on the shipped digits",
    .description = "Trains a few quantised convolutional networks on the shipped 8x8 digits, takes the best one (by validation) that fits the target,\n"
                   "writes its Verilog, compares every output word with the exact result on the whole test split in Verilator, places and\n"
                   "routes it and packs the bitstream. Everything lies in --out (default out/demo).",
    .examples = {{"tandem demo --scale 0.1 --no-place --out demo", "learn verilator"}, {"tandem demo --scale 0.1 --no-place --out demo2 --json", "learn verilator"}},
    .setup = setup,
    .own_out = true,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["seed", "seconds", "candidates", "chosen", "test_exact", "test_verilog", "build"],
  "properties": {
    "seed": {"type": "integer"}, "seconds": {"type": "number"}, "chosen": {"type": "string"},
    "candidates": {"type": "array", "items": {"type": "object", "required": ["name", "validation", "fits"]}},
    "test_exact": {"type": "number"}, "test_verilog": {"type": "number"}, "test_unit": {"type": "string"}, "test_n": {"type": "integer"},
    "build": {"type": "object"}
  }
}
)"};

}  // namespace tandem::cli
