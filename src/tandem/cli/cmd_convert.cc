#include "tandem/base/file.h"
#include "tandem/cli/model.h"
#include "tandem/ir/by_table.h"
#include "tandem/ir/dump.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/model_file.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"
#include "tandem/ir/qdq.h"
#include "tandem/ir/streamline.h"
#include "tandem/tensor/safetensors.h"

namespace tandem::cli {
namespace {
using namespace ir;

Run setup(Options& o) {
  struct Args {
    ModelArgs model;
    std::string quantisers;
    std::int64_t opset = 0;
    bool fold = false, streamline = false, bind = false, by_table = false;
  };
  auto a = std::make_shared<Args>();
  a->model.declare(o, "Model file");
  o.option("--opset", a->opset, "ONNX opset of the result: 6 to 24 (default 17, or the first that has what the model uses)");
  o.option("--quantisers", a->quantisers, "How quantisers are spelt: qonnx (Quant) or qdq (QuantizeLinear and DequantizeLinear)");
  o.flag("--fold", a->fold, "Compute constant sub-graphs; put BatchNormalization into the weights before it (float models)");
  o.flag("--streamline", a->streamline, "Integer weights and thresholds in place of scales, normalisations and quantisers; implies --bind");
  o.flag("--by-table", a->by_table, "Softmax and LayerNormalization as integers with a table, where a quantiser of at most 12 bits stands before them");
  o.flag("--bind", a->bind, "Bind the free extents that --dim does not name to 1, and state the extents of every value");
  return [a](Context& c) {
    if (c.out.empty()) throw bad_input("there is no place for the result").at("tandem convert").expected("--out y.onnx (or .npz, .safetensors: the weights alone)");
    if (!c.force && std::filesystem::exists(c.out)) throw bad_input("'{}' exists", c.out).at("--out").fix("--force overwrites it");
    if (!a->quantisers.empty() && a->quantisers != "qonnx" && a->quantisers != "qdq") throw bad_input("quantisers cannot be spelt '{}'", a->quantisers).at("--quantisers").expected("qonnx or qdq");
    if (a->opset < 0 || a->opset > 1000) throw bad_input("opset {}", a->opset).at("--opset").expected("6 to 24");
    const bool arrays = c.out.ends_with(".npz") || c.out.ends_with(".safetensors");
    if (!arrays && !c.out.ends_with(".onnx")) throw bad_input("'{}' names no format that is written", c.out).at("--out").expected(".onnx for the model, .npz or .safetensors for its weights");
    const bool changes = a->fold || a->streamline || a->bind || a->by_table || !a->quantisers.empty();
    Graph g = changes ? a->model.load(c) : a->model.read(c);
    std::vector<std::string> notes;
    const std::size_t before = g.nodes.size();
    try {
      if (a->bind || a->streamline || a->quantisers == "qdq") {
        std::vector<std::string> bound;
        g = bind_free(g, &bound);
        for (const std::string& s : bound) notes.push_back("bound: " + s);
      }
      if (a->fold) {
        FoldStats s;
        g = folded(g, &s);
        notes.push_back(fmt::format("folded: {} constant node{}, {} BatchNormalization", s.constants, s.constants == 1 ? "" : "s", s.batch_normalisations));
      }
      if (a->by_table) {
        ByTable t;
        g = by_table(g, &t);
        notes.push_back(fmt::format("by table: {} of Softmax and LayerNormalization", t.rewritten));
        for (const std::string& n : t.left) notes.push_back("left as it is: " + n);
      }
      if (a->streamline) g = streamlined(lower_exact(g));
      if (!a->quantisers.empty()) {
        QdqStats s;
        g = a->quantisers == "qdq" ? to_qdq(g, &s, a->opset >= 21) : from_qdq(g, &s);
        notes.push_back(fmt::format("quantisers rewritten: {}", s.rewritten));
        notes.insert(notes.end(), s.notes.begin(), s.notes.end());
      }
    } catch (Error& e) {
      e.at(a->model.file + (e.where().empty() ? "" : ": " + e.where()));
      throw;
    }
    if (c.out.ends_with(".npz")) write_npz(c.out, weights_of(g), c.force);
    else if (c.out.ends_with(".safetensors")) write_safetensors(c.out, weights_of(g), c.force);
    else write_onnx(g, c.out, {.opset = static_cast<int>(a->opset), .overwrite = c.force});
    std::uint64_t bytes = 0;
    for (const auto& [v, t] : g.initialisers) bytes += t.bytes();
    if (c.json) {
      JsonWriter j;
      j.object().field("model", a->model.file).field("out", c.out).field("nodes_before", static_cast<std::int64_t>(before)).field("nodes", static_cast<std::int64_t>(g.nodes.size()))
          .field("weights", static_cast<std::int64_t>(g.initialisers.size())).field("weight_bytes", bytes).field("notes", notes).end();
      c.print(j);
      return Exit::done;
    }
    for (const std::string& s : notes) c.note(s);
    c.print(arrays ? fmt::format("{}: {} arrays, {} bytes\n", c.out, g.initialisers.size(), bytes)
                   : fmt::format("{}: {} nodes (from {}), {} weights of {} bytes{}\n", c.out, g.nodes.size(), before, g.initialisers.size(), bytes, a->opset ? fmt::format(", opset {}", a->opset) : std::string()));
    return Exit::done;
  };
}

}  // namespace

extern const Command cmd_convert;
const Command cmd_convert{
    .name = "convert",
    .group = "Models",
    .summary = "A model in another format, opset or spelling, folded or streamlined; or its weights alone",
    .description = "Reads any model file and writes ONNX, or the weights as .npz or .safetensors. What was changed beyond the format is said; a quantiser or node that "
                   "cannot be said in the new form stays, or is refused by name. --streamline writes the integers that hardware computes: in f32 they are exact below 2^24.",
    .examples = {{"tandem convert model.onnx --quantisers qdq --out qdq.onnx"},
                 {"tandem convert float.onnx --fold --opset 13 --dim batch=1 --out folded.onnx"},
                 {"tandem convert model.onnx --streamline --out integers.onnx --json"},
                 {"tandem convert model.onnx --out weights.safetensors"}},
    .setup = setup,
    .own_out = true,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["model", "out", "nodes_before", "nodes", "weights", "weight_bytes", "notes"], "additionalProperties": false,
  "properties": {"model": {"type": "string"}, "out": {"type": "string"}, "nodes_before": {"type": "integer"}, "nodes": {"type": "integer"},
    "weights": {"type": "integer"}, "weight_bytes": {"type": "integer"}, "notes": {"type": "array", "items": {"type": "string"}}}
}
)"};

}  // namespace tandem::cli
