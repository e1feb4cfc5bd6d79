// The space of a search: ordered parameters, conditions between them, a rule that points must obey.
//
// A point has one value per parameter; a parameter whose condition does not hold is inactive and has none.
// The canonical text of a point is JSON with the active parameters in the order of the space; two points are
// equal exactly when their texts are, and the 128-bit key is a hash of the text.
#pragma once
#include <gmpxx.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tandem/base/error.h"
#include "tandem/base/rng.h"

namespace tandem::search {

enum class Kind {
  categorical,  // one of `words`, no order
  ordinal,      // one of `words`, neighbours are alike
  integer,      // lo, lo + step, ... up to hi
  real,         // [low, high], on a logarithmic scale when `log`
  permutation,  // of 0 .. length - 1
  sequence,     // at most `length` of `words`, each as often as wanted
};
std::string_view to_string(Kind k);

struct Parameter {
  std::string name;                // unique; letters, digits, _ . -
  Kind kind = Kind::categorical;
  std::vector<std::string> words;
  std::int64_t lo = 0, hi = 0, step = 1;
  double low = 0, high = 1;
  bool log = false;
  int length = 0;
  // Active only if the earlier parameter `parent` is active and has one of these values. `when` holds, of a
  // categorical or ordinal parent, indices of words; of an integer parent, values. No parent: always active.
  std::string parent;
  std::vector<std::int64_t> when;
};

// Inactive: monostate. Categorical, ordinal: index of the word. Integer: the value. Permutation, sequence: the list.
using Value = std::variant<std::monostate, std::int64_t, double, std::vector<std::int32_t>>;
struct Point {
  std::vector<Value> at;           // one per parameter
  bool operator==(const Point&) const = default;
};
struct Key {
  std::uint64_t hi = 0, lo = 0;
  auto operator<=>(const Key&) const = default;
  std::string hex() const;         // 32 digits
};
Key key_of_text(std::string_view canonical);

class Space {
 public:
  Space() = default;
  // Error(bad_input) names the parameter: no name or a name used twice, no values, lo > hi, a parent that does not come
  // earlier, is no word or integer, or never has the value. `valid` sees points whose structure is right.
  explicit Space(std::vector<Parameter> parameters, std::function<bool(const Point&)> valid = {});

  const std::vector<Parameter>& parameters() const { return parameters_; }
  std::size_t dimensions() const { return parameters_.size(); }
  int index(std::string_view name) const;              // -1: none
  bool active(const Point& p, std::size_t i) const;    // by the values of its parents

  // Values in range, active exactly where they should be, and valid.
  bool contains(const Point& p) const;

  std::string text(const Point& p) const;              // canonical JSON on one line
  Point parse(std::string_view json) const;            // its inverse; Error(bad_input) for anything else
  Key key(const Point& p) const { return key_of_text(text(p)); }
  std::string value_text(const Point& p, std::size_t i) const;  // for people: "4", "relu", "2 0 1"; "" when inactive

  // Points, the rule `valid` apart; nullopt with an active real parameter.
  std::optional<mpz_class> size() const;
  // Every valid point in lexicographic order of values; stops when `visit` returns false. Error(bad_input) with a real.
  void enumerate(const std::function<bool(const Point&)>& visit) const;

  // All throw Error(no) when 10,000 draws find no valid point.
  Point sample(Rng& rng) const;                                   // each parameter uniform (real: on its scale)
  // Changes at least one active parameter where one can be changed; each with probability `rate`. Parameters that become
  // active are drawn.
  Point mutate(const Point& p, Rng& rng, double rate) const;
  // Each active parameter from one of the two; reals between or beyond them (simulated binary crossover, eta 15),
  // permutations by order crossover, sequences by one cut.
  Point crossover(const Point& a, const Point& b, Rng& rng) const;
  // Valid points that differ in one parameter: other word; next or previous level or integer; swap of two neighbours of a
  // permutation; one element of a sequence changed, added at the end or taken away there; reals a hundredth of their range up
  // or down. Parameters that become active get their first value.
  std::vector<Point> neighbours(const Point& p) const;

  // --- encoders. Width is fixed by the space; inactive parts are -1 (index), 0 (others).
  // Index vector: level of each value; permutation: its elements; sequence: its length and elements. Not for reals.
  std::vector<std::int64_t> indices(const Point& p) const;
  Point from_indices(std::span<const std::int64_t> v) const;
  // For predictors: words and elements one-hot, integers and reals scaled to [0, 1], each preceded by 1 when it is
  // conditional and active.
  std::vector<double> one_hot(const Point& p) const;
  std::size_t one_hot_width() const;
  // [0, 1)^d: level (i + 0.5) / n; permutation: ranks; sequence: length, then elements. from_unit takes any point of the
  // cube to a point of the structure (not necessarily valid); from_unit(unit(p)) is p, reals within 1e-12 of their range.
  std::vector<double> unit(const Point& p) const;
  Point from_unit(std::span<const double> u) const;
  std::size_t unit_width() const;

 private:
  std::int64_t levels(std::size_t i) const;            // of words and integers
  bool on(const Point& p, std::size_t i) const;
  Value draw(std::size_t i, Rng& rng) const;
  Value first(std::size_t i) const;
  // Makes active what must be, with `fill`, and inactive the rest.
  void settle(Point& p, const std::function<Value(std::size_t)>& fill) const;
  bool valid(const Point& p) const { return !valid_ || valid_(p); }

  std::vector<Parameter> parameters_;
  std::vector<int> parent_;                            // index or -1
  std::function<bool(const Point&)> valid_;
};

}  // namespace tandem::search
