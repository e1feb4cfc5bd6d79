#include <memory>

#include "tandem/base/nearest.h"
#include "tandem/cli/command.h"
#include "tandem/flow/explore.h"

namespace tandem::cli {
namespace {

struct Kind {
  std::string_view name, doc;
  std::string_view (*text)();
};
std::string_view recipe() {
  return R"(# A recipe: a network and how it is trained.
#   tandem train recipe.yaml --out run
name: digits
data: digits                        # or mnist, a .npz, a .csv, a folder of images per class
task: classification
validation: 0.15                    # of the training split; the test split is only looked at once, at the end
seed: 0
model:
  input: [1, 8, 8]                  # channels, height, width
  layers:                           # also: maxpool, averagepool, global_average, dropout, clip
    - conv: {channels: 8, kernel: 3, pad: 1}
    - batchnorm
    - relu
    - conv: {channels: 8, kernel: 3, pad: 1, stride: 2}
    - batchnorm
    - relu
    - dense: {features: 10}
quantisation:                       # without it the model stays in float
  input: {bits: 4, signed: false, scale: 0.0625}
  weights: {bits: 4, per: channel, narrow: true, scale: learned}
  activations: {bits: 4, scale: learned}
train:
  epochs: 30
  batch: 32
  optimiser: {name: adam, rate: 0.01}
  schedule: {name: cosine}
  warmup: 1
  threads: 1
)";
}
constexpr Kind kKinds[] = {{"study", "a study for tandem explore", &flow::study_template}, {"recipe", "a recipe for tandem train", &recipe}};

Run setup(Options& o) {
  struct Args { std::string kind; };
  auto a = std::make_shared<Args>();
  o.argument("KIND", a->kind, "What to begin: study, recipe; without it, the list", false);
  return [a](Context& c) {
    std::vector<std::string> known;
    for (const Kind& k : kKinds) {
      known.emplace_back(k.name);
      if (k.name != a->kind) continue;
      if (c.json) c.print(JsonWriter().object().field("kind", k.name).field("text", k.text()).end());
      else c.print(k.text());
      return Exit::done;
    }
    if (!a->kind.empty()) throw bad_input("'{}' is nothing that can be begun", printable(a->kind)).fix(suggest(a->kind, known));
    if (c.json) {
      c.print(JsonWriter().object().field("kinds", known).end());
    } else {
      Table t;
      t.columns = {{"kind"}, {"what it is"}};
      for (const Kind& k : kKinds) t.add({std::string(k.name), std::string(k.doc)});
      c.print(t);
    }
    return Exit::done;
  };
}

}  // namespace

extern const Command cmd_new;
const Command cmd_new{
    .name = "new",
    .group = "From model to hardware",
    .summary = "A commented, working YAML to begin with",
    .description = "Prints a file that works as it is and says in comments what may be changed; --out writes it.",
    .examples = {{"tandem new study --out study.yaml"}, {"tandem new recipe"}, {"tandem new --json"}},
    .setup = setup,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {"kinds": {"type": "array", "items": {"type": "string"}}, "kind": {"type": "string"}, "text": {"type": "string"}}
}
)"};

}  // namespace tandem::cli
