#include <memory>

#include "tandem/base/file.h"
#include "tandem/cli/command.h"
#include "tandem/data/dataset.h"
#include "tandem/cli/model.h"
#include "tandem/flow/build.h"
#include "tandem/flow/quantize.h"
#include "tandem/ir/by_table.h"
#include "tandem/tasks/task.h"
#include "tandem/tensor/npy.h"

namespace tandem::cli {
namespace {

// Arrays of an .npz ("x", or the only one), or the samples of a data set as a model sees them; the first `most`.
std::pair<Tensor, std::string> frames_of(const std::string& data, const Limits& limits, std::int64_t most = 0) {
  if (data.ends_with(".npz")) {
    const Archive a = read_npz(data, limits);
    const auto it = a.size() == 1 ? a.begin() : a.find("x");
    if (it != a.end() && !a.contains("y") && !a.contains("full_scale")) {
      Tensor x = it->second;
      if (most > 0 && x.rank() && x.shape()[0] > most) x = x.rows(0, most);
      return {x, fmt::format("{} ('{}', n = {})", data, it->first, x.rank() ? x.shape()[0] : 0)};
    }
  }
  data::Dataset d = data::open(data, limits);
  bool tested = false;
  for (data::Part p : d.part) tested = tested || p == data::Part::test;
  if (tested) d = data::select(d, data::Part::test);
  Tensor x = d.labelled() ? tasks::find_task("classification").prepare(d) : d.x;
  if (x.size() > 0 && most > 0 && x.shape()[0] > most) x = x.rows(0, most);
  return {x, fmt::format("{}{}, n = {}", d.name, tested ? ", test split" : "", x.shape()[0])};
}

Run setup(Options& o) {
  struct Args {
    ModelArgs model;
    std::string target, input_format, data, folding, objective, quantize;
    double clock = 0, throughput = 0;
    std::int64_t frames = 64, multipliers = 0, seeds = 1;
    double fill = 0;
    bool no_place = false, no_verify = false, dry_run = false, netlist = false, by_table = false;
    std::string writable;
  };
  auto a = std::make_shared<Args>();
  a->model.quantisers = true;
  a->model.declare(o, "Model file of a quantised model");
  o.option("--target", a->target, "Device: a name of `tandem targets` or a YAML file (default up5k)");
  o.option("--clock", a->clock, "Clock in MHz (default: the target's)");
  o.option("--throughput", a->throughput, "Frames per second to reach (default: as many as the device holds)");
  o.option("--multipliers", a->multipliers, "Most multipliers at work at once (default: 64 on xcup and standard cells, else what the device holds)");
  o.option("--input-format", a->input_format, "Codes of the input, where the model has no quantiser there: fixed<16,6>, uint8/255, bipolar");
  o.option("--data", a->data, "Samples to verify on: an .npz or a data set (default: random codes)");
  o.option("--quantize", a->quantize, "Format in which a float model is quantised on the way, for example int8; ranges from --data");
  o.flag("--by-table", a->by_table, "Softmax and LayerNormalization in hardware too: integers with a table, where a quantiser of at most 12 bits stands before them");
  o.option("--writable", a->writable, "What can be written over AXI4-Lite while it runs: weights, thresholds or weights,thresholds; of some nodes only: weights:conv1 fc");
  o.option("--frames", a->frames, "How many frames: of random codes, or the first ones of --data (default 64)");
  o.option("--folding", a->folding, "folding.json with PE and SIMD of each layer, or how to choose it: exact (an integer program) or heuristic (default: the slowest layer is unfolded)");
  o.option("--objective", a->objective, "What the choice makes best: throughput, latency, or resource: least LUTs and block RAMs at --throughput (default throughput)");
  o.option("--fill", a->fill, "Share of the device's LUTs that the folding may plan (default 0.85; xcup and standard cells 0.7)");
  o.option("--seeds", a->seeds, "Placements on iCE40; Fmax is their median, with its range (default 1)");
  o.flag("--netlist", a->netlist, "On iCE40: simulate what synthesis left too (standard cells always do)");
  o.flag("--dry-run", a->dry_run, "Say what would be built, and what that takes; run and write nothing");
  o.flag("--no-place", a->no_place, "Stop before synthesis, placement and routing");
  o.flag("--no-verify", a->no_verify, "Skip the simulation");
  return [a](Context& c) {
    flow::BuildParams p;
    p.target = hardware::find_target(a->target.empty() ? "up5k" : a->target);
    p.name = std::filesystem::path(a->model.file).stem().string();
    p.clock_mhz = a->clock;
    p.throughput = a->throughput;
    p.input_format = a->input_format;
    p.multipliers = a->multipliers;
    p.seed = c.seed;
    p.command = c.command;
    p.place = !a->no_place;
    p.verify = !a->no_verify;
    p.dry_run = a->dry_run;
    p.fill = a->fill;
    if (a->seeds < 1 || a->seeds > 100) throw bad_input("--seeds is {}", a->seeds).expected("1 to 100");
    p.seeds = static_cast<int>(a->seeds);
    p.netlist = a->netlist;
    if (a->fill < 0 || a->fill > 2) throw bad_input("--fill is {}", a->fill).expected("a share, for example 0.85");
    p.out = c.out;
    p.overwrite = c.force;
    if (a->clock < 0 || a->throughput < 0) throw bad_input("--clock and --throughput must be positive").expected("MHz, and frames per second");
    if (a->multipliers < 0) throw bad_input("--multipliers is {}", a->multipliers).expected("1 or more");
    if (a->frames < 1 || a->frames > 1000000) throw bad_input("--frames is {}", a->frames).expected("1 to 1000000");
    p.random_frames = a->frames;
    p.objective = a->objective;
    if (a->folding == "exact" || a->folding == "heuristic") {
      p.method = a->folding;
    } else if (!a->folding.empty()) {
      if (!a->objective.empty()) throw bad_input("--objective with a folding that is given").fix("--folding exact or heuristic, or no --objective");
      p.folding = read_file(a->folding, c.limits);
      p.folding_file = a->folding;
    }
    ir::Graph model = a->quantize.empty() ? a->model.read(c) : a->model.load(c);
    p.model_file = a->model.file;
    p.data = a->data;
    if (!a->quantize.empty()) {
      if (!a->input_format.empty()) throw bad_input("--input-format and --quantize exclude each other").fix("leave --input-format out: --quantize gives the input a format");
      flow::QuantizeParams q;
      q.format = a->quantize;
      q.data = a->data;
      q.by_table = a->by_table;
      q.limits = c.limits;
      q.say = [&](std::string_view s) { c.note(s); };
      flow::QuantizeResult r = flow::quantize(model, q, *c.cancel);
      p.quantised = r.graph.metadata["quantised"];
      if (r.before) p.quantised += fmt::format("; accuracy {:.2f} % float, {:.2f} % exact ({})", r.before->value, r.after->value, r.judged_on);
      model = std::move(r.graph);
      const flow::Samples frames = flow::open_samples(a->data, model, data::Part::test, a->frames, c.limits);
      p.frames = frames.x;
      p.frames_source = frames.source;
    } else if (!a->data.empty()) {
      auto [x, source] = frames_of(a->data, c.limits, a->frames);
      p.frames = std::move(x);
      p.frames_source = source;
    }
    if (a->by_table && a->quantize.empty()) {
      ir::ByTable t;
      model = ir::by_table(model, &t);
      c.note(fmt::format("by table: {} of Softmax and LayerNormalization", t.rewritten));
      for (const std::string& n : t.left) c.note("left to the host: " + n);
    }
    p.writable = a->writable;
    p.say = [&](std::string_view s) { c.note(s); };
    const flow::BuildResult r = flow::build(model, p, *c.cancel);
    if (p.dry_run) c.note("nothing was run or written; it would take " + r.effort.text());
    if (c.json) c.print(flow::to_json(r));
    else c.print(flow::summary_text(r));
    return r.ok ? Exit::done : Exit::no;
  };
}

Run setup_verify(Options& o) {
  struct Args {
    std::string folder, data, expect, waves;
    bool explain = false, float32 = false;
    std::int64_t frames = 64;
  };
  auto a = std::make_shared<Args>();
  o.argument("FOLDER", a->folder, "A folder written by `tandem build`");
  o.option("--data", a->data, "Samples instead of the folder's own: an .npz or a data set");
  o.flag("--explain", a->explain, "Layer by layer: what differs first, by how much, and why");
  o.option("--expect", a->expect, "With --explain: an .npz of expected values, [frames, ...] under the names of the model's values");
  o.flag("--float32", a->float32, "With --explain: also what a float32 runtime computes");
  o.option("--frames", a->frames, "With --explain: how many frames, the first ones (default 64)");
  o.option("--waves", a->waves, "With --explain: folder for first.vcd and first.gtkw (default: explain in FOLDER)");
  return [a](Context& c) {
    std::optional<Tensor> x;
    if (!a->data.empty()) x = frames_of(a->data, c.limits).first;
    if (!a->explain && (!a->expect.empty() || a->float32 || !a->waves.empty())) throw bad_input("--expect, --float32 and --waves need --explain").fix("add --explain");
    if (a->explain) {
      if (a->frames < 1 || a->frames > 1000000) throw bad_input("--frames is {}", a->frames).expected("1 to 1000000");
      flow::ExplainFolderParams p;
      p.frames = std::move(x);
      p.seed = c.seed;
      p.float32 = a->float32;
      p.most_frames = a->frames;
      if (!a->expect.empty()) p.expected = read_npz(a->expect, c.limits);
      const std::vector<proof::Explanation> all = flow::explain_folder(a->folder, p, *c.cancel);
      bool equal = true;
      std::string json;
      for (const proof::Explanation& e : all) {
        if (e.against != "float32") equal = equal && e.equal();  // a float runtime may round
        if (e.against == "Verilog") {  // for the design's page
          std::filesystem::create_directories(std::filesystem::path(a->folder) / "explain");
          write_file(std::filesystem::path(a->folder) / "explain" / "verilog.json", proof::to_json(e));
        }
        std::string files;
        for (const auto& f : proof::write_waves(e, a->waves.empty() ? std::filesystem::path(a->folder) / "explain" : std::filesystem::path(a->waves))) files += (files.empty() ? "signals: " : ", ") + f.string();
        if (c.json) json += (json.empty() ? "" : ",\n") + proof::to_json(e);
        else c.print(e.text() + (files.empty() ? "" : files + "\n") + "\n");
        if (c.json && !files.empty()) c.note(files);
      }
      if (c.json) c.print(JsonWriter().object().field("ok", equal).key("explained").raw("[" + json + "]").end());
      return equal ? Exit::done : Exit::no;
    }
    const proof::VerifyResult r = flow::verify_folder(a->folder, x, c.seed, *c.cancel);
    if (c.json) {
      JsonWriter j;
      j.object().field("ok", r.ok).field("frames", r.frames).field("words", r.words).field("mismatches", r.mismatches).field("fault", r.fault);
      j.field("cycles_per_frame", r.interval).field("latency_cycles", r.latency).field("tool", r.tool);
      if (r.first)
        j.key("first").object().field("frame", r.first->frame).field("element", r.first->element).field("expected", r.first->expected).field("actual", r.first->actual).end();
      c.print(j.end());
    } else {
      c.print(fmt::format("{}: {}\n", r.ok ? "equal" : "DIFFERENT", r.text()));
      if (!r.ok) c.note("which layer, which element, why: tandem verify " + a->folder + " --explain");
    }
    return r.ok ? Exit::done : Exit::no;
  };
}

}  // namespace

extern const Command cmd_build;
const Command cmd_build{
    .name = "build",
    .group = "Hardware",
    .summary = "Verified hardware for a quantised model",
    .description = "Lowers the model to integers, folds it to the target, writes Verilog, compares every output word with the exact result in "
                   "Verilator under random back-pressure, and on iCE40 places, routes and packs it inside the shell serial8. "
                   "Standard cells (asic45, osu018) get area, timing by OpenSTA and power by toggles. --out receives the "
                   "design: rtl/, bench/, model.onnx, folding.json, driver.md, build.json, report.html. A model or target that cannot is answered with the "
                   "smallest reason (exit code 1).",
    .examples = {{"tandem build model.onnx --target up5k --dry-run"},
                 {"tandem build model.onnx --target up5k --throughput 5000 --folding heuristic --objective resource --dry-run"},
                 {"tandem build model.onnx --target up5k --no-place --json", "verilator"},
                 {"tandem build model.onnx --target up5k --clock 12 --out design --force", "verilator yosys nextpnr-ice40"}},
    .setup = setup,
    .own_out = true,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["format", "version", "name", "target", "design", "ok", "reason", "layers", "metrics", "limit", "frames", "host"],
  "properties": {
    "format": {"const": "tandem.build"}, "version": {"type": "integer"}, "ok": {"type": "boolean"}, "reason": {"type": "string"},
    "layers": {"type": "array", "items": {"type": "object", "required": ["name", "kind", "pe", "simd", "cycles"]}},
    "metrics": {"type": "array", "items": {"type": "object", "required": ["name", "value", "unit", "fidelity", "source"]}}
  }
}
)"};

extern const Command cmd_verify;
const Command cmd_verify{
    .name = "verify",
    .group = "Trust",
    .summary = "Compare a design's Verilog with the exact result",
    .description = "Simulates the Verilog of a folder written by `tandem build` as it lies there and compares every output word with the model's "
                   "exact result: without stalls and under random back-pressure, while every stream inside is watched (AXI4-Stream rules, TLAST). The first "
                   "difference is reported with frame, element and both values. --explain compares every stream between two layers: a table of the "
                   "differences per layer, the cause (rounding, saturation, order, range, width) found by experiments on the elements that differ, and the signals "
                   "around the first one as first.vcd and first.gtkw for GTKWave. --expect compares the values you expect, by name, with the exact ones in the same way.",
    .examples = {{"tandem verify design", "verilator"}, {"tandem verify design --seed 3 --json", "verilator"}, {"tandem verify design --explain --float32", "verilator"}},
    .setup = setup_verify,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["ok"],
  "properties": {"ok": {"type": "boolean"}, "frames": {"type": "integer"}, "words": {"type": "integer"}, "mismatches": {"type": "integer"}, "first": {"type": "object"},
    "explained": {"type": "array", "items": {"type": "object", "required": ["against", "equal", "frames", "layers", "fault"]}}}
}
)"};

}  // namespace tandem::cli
