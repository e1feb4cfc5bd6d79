#include <unistd.h>

#include "tandem/base/parallel.h"
#include "tandem/cli/model.h"
#include "tandem/flow/doctor.h"
#include "tandem/tool/find.h"
#include "tandem/tool/process.h"

namespace tandem::cli {
namespace {

Exit model_check(Context& c, const ModelArgs& model, const std::string& target, const std::string& format) {
  flow::DoctorParams p;
  if (!target.empty()) p.target = hardware::find_target(target);
  p.input_format = format;
  const flow::DoctorReport r = flow::examine(model.read(c), p);
  if (c.json) c.print(flow::to_json(r, model.file, p.target ? p.target->name : ""));
  else c.print(flow::to_text(r));
  return r.ok() ? Exit::done : Exit::no;
}

Run setup(Options& o) {
  struct Args { ModelArgs model; std::string target, format; };
  auto a = std::make_shared<Args>();
  a->model.look_only = true;
  a->model.declare(o, "Model file: what each engine does with each node; without it, the machine is checked", false);
  o.option("--target", a->target, "Device that shall hold it: a name of `tandem targets` or a YAML file");
  o.option("--input-format", a->format, "Codes of the input and their divisor, where the model has no quantiser there: uint8/255");
  return [a](Context& c) {
    if (!a->model.file.empty()) return model_check(c, a->model, a->target, a->format);
    if (!a->target.empty() || !a->format.empty()) throw bad_input("--target and --input-format need a MODEL").fix("tandem doctor model.onnx --target up5k");
    struct Row { std::string name, state, version, package, use; };
    std::vector<Row> rows;
    std::string missing;
    for (const tool::KnownTool& k : tool::known_tools()) {
      const std::optional<tool::Tool> t = tool::try_find(k.name);
      rows.push_back({std::string(k.name), t ? "found" : k.optional ? "absent, optional" : "missing", t ? t->version : "", std::string(k.package), std::string(k.used_for)});
      if (!t && !k.optional && missing.find(k.package) == std::string::npos) missing += " " + std::string(k.package);
    }
    const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE)) / (1ull << 30);
    const bool sandbox = tool::sandbox_available();
    if (c.json) {
      JsonWriter j;
      j.object().field("processors", ThreadBudget::jobs()).field("memory_gib", memory).field("sandbox", sandbox).key("tools").array();
      for (const Row& r : rows)
        j.object().field("name", r.name).field("found", r.state == "found").field("version", r.version).field("package", r.package).field("used_for", r.use).end();
      c.print(j.end().end());
    } else {
      Table t;
      t.columns = {{"tool"}, {"state"}, {"version"}, {"package"}, {"used for"}};
      for (const Row& r : rows) t.add({r.name, r.state, r.version, r.package, r.use});
      c.print(t);
      c.print(fmt::format("\nprocessors lent to us: {}   memory: {:.1f} GiB   sandbox: {}\n", ThreadBudget::jobs(), memory, sandbox ? "works" : tool::sandbox_reason()));
      if (!missing.empty()) c.print("missing: apt-get install" + missing + "\n");
    }
    return missing.empty() ? Exit::done : Exit::tool_missing;
  };
}

}  // namespace

extern const Command cmd_doctor;
const Command cmd_doctor{
    .name = "doctor",
    .group = "Machine",
    .summary = "What each engine does with a model's nodes; without a model: tools and sandbox of this machine",
    .description = "With a MODEL: for every node what the reference, exec, train and hardware do with it; each refused node with the reason and the "
                   "rewrite that helps. Exit code 1 when exec or hardware refuses (that training refuses a node is listed only). Without one: the "
                   "external tools, their versions, the packages that bring missing ones, the sandbox. Exit code 3 when a tool is missing.",
    .examples = {{"tandem doctor model.onnx"},
                 {"tandem doctor model.onnx --target up5k --json"},
                 {"tandem doctor", "yosys nextpnr-ice40 icepack verilator iverilog vvp g++ bwrap"},
                 {"tandem doctor --json", "yosys nextpnr-ice40 icepack verilator iverilog vvp g++ bwrap"}},
    .setup = setup,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "description": "With MODEL: model, target, ok, nodes, refused, notes, fit. Without: processors, memory_gib, sandbox, tools",
  "type": "object", "additionalProperties": false,
  "properties": {"processors": {"type": "integer"}, "memory_gib": {"type": "number"}, "sandbox": {"type": "boolean"},
    "tools": {"type": "array", "items": {"type": "object", "required": ["name", "found", "version", "package", "used_for"], "additionalProperties": false,
      "properties": {"name": {"type": "string"}, "found": {"type": "boolean"}, "version": {"type": "string"}, "package": {"type": "string"}, "used_for": {"type": "string"}}}},
    "model": {"type": "string"}, "target": {"type": "string"}, "ok": {"type": "boolean"}, "fit": {"type": "string"},
    "notes": {"type": "array", "items": {"type": "string"}},
    "nodes": {"type": "array", "items": {"type": "object", "required": ["node", "op", "ref", "exec", "train", "hardware"], "additionalProperties": false,
      "properties": {"node": {"type": "string"}, "op": {"type": "string"}, "ref": {"enum": ["exact", "f32", "folded", "unknown", "no"]},
        "exec": {"enum": ["exact", "f32", "folded", "unknown", "no"]}, "train": {"enum": ["yes", "no"]}, "hardware": {"type": "string"}}}},
    "refused": {"type": "array", "items": {"type": "object", "required": ["engine", "node", "reason", "fix"], "additionalProperties": false,
      "properties": {"engine": {"enum": ["exec", "train", "hardware", "all"]}, "node": {"type": "string"}, "reason": {"type": "string"}, "fix": {"type": "string"}}}}}
}
)"};

}  // namespace tandem::cli
