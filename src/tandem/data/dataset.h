// Data sets: arrays of samples and labels with their split and where they come from, and the readers of
// public file formats. Everything is deterministic: orders come from names, splits from a seed.
//
// Readers throw Error(bad_input) for malformed, truncated or inconsistent files (file, and line or member, are
// named) and Error(limit) for what exceeds `Limits`, before memory is taken.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/base/limits.h"
#include "tandem/tensor/tensor.h"

namespace tandem::data {

enum class Part : std::uint8_t { train, test, valid };
std::string_view to_string(Part p);
Part parse_part(std::string_view s);  // Error(bad_input) with the known words

struct Dataset {
  std::string name;
  Tensor x;                          // [n, ...] as stored: u8 images [n, height, width] or [n, channel, height, width], f32 tables
  Tensor y;                          // [n] i64 class indices, or f32 targets; size 0: no labels
  std::vector<std::string> classes;  // names by index; empty when y holds targets or there are no labels
  std::vector<std::string> features; // names of the columns of a table, where it has them
  std::vector<Part> part;            // of each sample as the set defines it; empty: none stored
  double full_scale = 0;             // integer samples lie in [0, full_scale] (255 for images, 16 for digits); 0: no such scale
  std::string provenance;            // one paragraph: source, licence, split

  std::int64_t size() const { return x.rank() == 0 ? 0 : x.shape()[0]; }
  bool labelled() const { return !classes.empty(); }
};

// Error(bad_input) unless x, y and part have one length, labels are class indices, samples within full_scale.
void check(const Dataset& d);

// The samples with these indices, in this order.
Dataset select(const Dataset& d, const std::vector<std::int64_t>& index);
// The samples of one stored part. Error(bad_input) when there is none.
Dataset select(const Dataset& d, Part p);

// a then b, with a part for each. Error(bad_input) when samples differ in shape or type.
Dataset concatenate(const Dataset& a, Part pa, const Dataset& b, Part pb);

// Draws `count` of the samples: per class in proportion (largest remainders, ties to the lower class) when the
// set is labelled, at random otherwise. chosen and rest are ascending and disjoint and cover [0, n). A pure
// function of labels, count and seed.
struct Split {
  std::vector<std::int64_t> rest, chosen;
};
Split split(const Dataset& d, std::int64_t count, std::uint64_t seed);
Split split(const Dataset& d, double fraction, std::uint64_t seed);  // count = round(fraction * n)

// ---- readers ----------------------------------------------------------------------------------------------

// One IDX array, plain or gzipped (the format of MNIST: two zero bytes, type, rank, big-endian extents, data).
Tensor read_idx(const std::filesystem::path& path, const Limits& limits = {});
// Images and labels.
Dataset read_idx_pair(const std::filesystem::path& images, const std::filesystem::path& labels, const Limits& limits = {});

struct CsvParams {
  std::string label;      // name or 0-based index of the label column; empty: "label", "class", "target" or "y", else the last
  bool no_label = false;  // every column is a feature
  char separator = ',';
};
// A table of numbers with one label column; gzipped or not. The first line is a header when none of its fields is
// a number. Quotes as in RFC 4180. Labels that are integers >= 0 are class indices, other integers and fractions are targets,
// words are classes in alphabetical order.
Dataset read_csv(const std::filesystem::path& path, const CsvParams& params = {}, const Limits& limits = {});

// Arrays x and, where there are labels, y; optionally split (integers: 0 train, 1 test, 2 valid) and full_scale. Or
// x_train, y_train, x_test, y_test.
Dataset read_npz_dataset(const std::filesystem::path& path, const Limits& limits = {});

// folder/<class>/<image>, or folder/{train,test,valid}/<class>/<image>: PNG and JPEG of one size, 8 bits a channel (alpha
// dropped, 16 bits cut to 8), grey only when all are. Classes and files in byte order of their names; hidden
// files are skipped, anything else is an error.
Dataset read_image_folder(const std::filesystem::path& folder, const Limits& limits = {});
// One image: u8 [channels (1 or 3), height, width].
Tensor read_image(const std::filesystem::path& path, const Limits& limits = {});

// ---- by name ----------------------------------------------------------------------------------------------

struct NamedSet {
  std::string name, doc;
};
const std::vector<NamedSet>& list_datasets();
// A named set, or a path: .npz, .csv, .csv.gz, IDX images (*images-idx3-ubyte[.gz], labels beside them), a folder of images.
//   digits  shipped with Tandem
//   mnist   in $TANDEM_DATA/mnist, or ../shared/data/mnist
//   speech_commands   in $TANDEM_DATA/speech_commands_v2; samples [10 coefficients, 49 frames]
Dataset open(const std::string& name_or_path, const Limits& limits = {});

}  // namespace tandem::data
