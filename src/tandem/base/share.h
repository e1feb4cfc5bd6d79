// Files that ship with Tandem (the small data set, ...): found beside the program, never by a path fixed at
// build time, so that an installed tree can be moved.
#pragma once
#include <filesystem>
#include <string_view>

namespace tandem {

// The file or folder `relative` ("data/digits.npz"): in $TANDEM_SHARE when that is set, else in share/tandem of
// the prefix that libtandem or the program lies in, else in share/ of the source tree that holds the build folder.
// Error(bad_input) lists the places looked at.
std::filesystem::path share_file(std::string_view relative);

}  // namespace tandem
