// The durable store of a study: one SQLite file. What is committed survives kill -9 and a power cut; damage is noticed.
//
// - WAL, synchronous=FULL, BEGIN IMMEDIATE, busy timeout of 60 s: concurrent processes wait for each other, none is lost.
// - Every row carries a checksum over its columns, a trial's also over its metrics and artefacts, the study's over the number
//   of trials and the sum of theirs: a changed, lost or doubled row is an Error(bad_input) when it is read.
// - One writer at a time: a process takes the study with an epoch; whoever was overtaken is refused at its next write.
// - An empty file, a file of a newer version, a network file system are refused by name.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tandem/search/environment.h"
#include "tandem/search/searcher.h"

namespace tandem::search {

struct StudyRow {
  std::string name;
  std::string text;                 // the user's study, canonical
  std::string environment;          // Environment::version()
  std::string searcher;
  std::uint64_t seed = 0;
  std::int64_t generation = 0;      // told generations
  bool finished = false;
};
struct TrialRow {
  std::int64_t id = 0;              // Trial::id + fidelity * 10^9
  std::string point;                // canonical text
  int fidelity = 0;
  std::uint64_t seed = 0;
  std::vector<std::int64_t> parents;
  std::string note;
  std::int64_t generation = 0;
  Result result;
};

class Store {
 public:
  // Creates `file` with one study, whole or not at all. Error(bad_input) when it exists.
  static void create(const std::filesystem::path& file, const StudyRow& study);
  // Error(bad_input): missing, empty, no store of ours, damaged, newer, on a network file system.
  explicit Store(const std::filesystem::path& file);
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  ~Store();

  StudyRow study() const;
  std::vector<TrialRow> trials() const;             // by id; every checksum verified
  std::string searcher_state() const;               // "" before the first
  std::vector<std::pair<double, std::string>> events() const;  // seconds since 1970, text

  // Takes the study for `seconds`. Error(no) when another live process holds it. A holder that ended, or that let its lease
  // run out, is overtaken. The lease runs on the boot clock: setting the time of day does not touch it.
  void take(double seconds);
  void renew(double seconds);                       // Error(no) when overtaken
  void release();

  // All write in one transaction and refuse with Error(no) when overtaken. A trial whose (point, fidelity, seed) is there
  // already is ignored: the first result counts. Returns how many were new.
  std::size_t add(std::span<const TrialRow> trials);
  // What one generation brings: the results not yet added, the searcher's state, the number of the generation.
  std::size_t finish_generation(std::span<const TrialRow> trials, std::string_view searcher_state, std::int64_t generation);
  void finish();                                    // the study is complete
  void reopen(std::string_view text);               // more trials are wanted
  void event(std::string_view text);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Whether files of this file system are reached over a network (statfs f_type).
bool is_network_file_system(long type);

}  // namespace tandem::search
