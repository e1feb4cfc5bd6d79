// What differs between two models, or between two built designs.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "tandem/base/limits.h"
#include "tandem/ir/graph.h"

namespace tandem::flow {

struct Difference {
  std::string kind;  // models: graph, shape, format, attribute, weights; designs: design, layer, metric
  std::string what;  // the node, value, layer or figure
  std::string a, b;  // empty: it is not there
};
struct DiffReport {
  std::string kind;  // models, designs
  std::vector<Difference> differences;  // empty: the two say the same
};
// Nodes, values and initialisers are matched by name. Equal exactly where ir::first_difference() finds nothing.
DiffReport diff_models(const ir::Graph& a, const ir::Graph& b);
// Two folders written by build(), by their build.json and model.onnx; the seconds a build took are not compared.
DiffReport diff_designs(const std::filesystem::path& a, const std::filesystem::path& b, const Limits& limits = {});
// Folders are designs, files are models. Error(bad_input) when one is a folder and the other a file.
DiffReport diff(const std::filesystem::path& a, const std::filesystem::path& b, const Limits& limits = {});

std::string to_json(const DiffReport& r, std::string_view a, std::string_view b);

}  // namespace tandem::flow
