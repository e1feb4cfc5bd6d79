// "Did you mean ...?": the known word nearest to what was typed.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tandem {

// Optimal string alignment distance (insert, delete, replace, swap of neighbours), ASCII case ignored.
int edit_distance(std::string_view a, std::string_view b);
// The candidate of least distance (the first of equals), or "" when nothing is near: the distance is more than
// half of the longer word and neither word begins with the other.
std::string nearest(std::string_view word, std::span<const std::string_view> candidates);
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

// "did you mean 'Conv'?", or "known: a, b, c" (at most twelve) when nothing is near: for Error::fix.
std::string suggest(std::string_view word, const std::vector<std::string>& known);

}  // namespace tandem
