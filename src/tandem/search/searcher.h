// Ask and tell: a searcher proposes points and hears how they fared. It knows nothing of workers, stores, fidelities.
//
// Determinism: everything random is a pure function of (seed, trial id). A searcher that was told the same trials in any
// order within a batch asks the same next.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/search/environment.h"
#include "tandem/search/space.h"

namespace tandem::search {

struct Trial {
  std::int64_t id = 0;                  // counts from 0 in the order of asking
  Point point;
  std::vector<std::int64_t> parents;    // what it was made from
  std::string note;                     // how: "random", "crossover", ...
};
struct Told {
  std::int64_t id = 0;
  Point point;
  Judged judged;                        // failed and infeasible ones are told too
};

class Searcher {
 public:
  virtual ~Searcher() = default;
  // Up to n new points: never one that was asked before; fewer, at last none, when the space has no more.
  virtual std::vector<Trial> ask(std::size_t n) = 0;
  // Results of asked trials, in any order and grouping.
  virtual void tell(std::span<const Told> completed) = 0;
  // Everything but what was told, as text. A searcher of the same name, space and seed that loads it, with the keys of all
  // trials asked until then, goes on exactly as this one. Save after all asked trials were told.
  virtual std::string save() const = 0;
  virtual void load(std::string_view state, std::span<const Key> asked) = 0;
  // How many trials it likes to be asked for at once.
  virtual std::size_t batch() const = 0;
};

struct SearcherParams {
  std::uint64_t seed = 0;
  std::size_t population = 20;
};
struct SearcherDef {
  std::string_view name, summary, source;
  std::unique_ptr<Searcher> (*make)(const Space& space, std::size_t objectives, const SearcherParams& p);
};
// `space` must outlive the searcher.
std::span<const SearcherDef> all_searchers();
const SearcherDef& find_searcher(std::string_view name);  // Error(bad_input) names the nearest

}  // namespace tandem::search
