// From the folder of a design to its page. Nothing is measured: what the folder records is shown.
#pragma once
#include <filesystem>
#include <string>

#include "tandem/report/design.h"
#include "tandem/report/training.h"

namespace tandem::flow {

// Reads the build.json of a folder written by build(), and the sums of its files. Error(bad_input) when it is missing,
// cut short or of another kind.
report::Design load_design(const std::filesystem::path& folder);

// Reads the train.json of a folder written by `tandem train`.
report::Training load_training(const std::filesystem::path& folder);

// The page of the training run, of the design, or of the study (explore.h), in `folder`, for a file in `page_folder` (links to the design's files are relative to it).
std::string report_page(const std::filesystem::path& folder, const std::filesystem::path& page_folder);

}  // namespace tandem::flow
