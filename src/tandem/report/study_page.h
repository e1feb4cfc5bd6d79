// The page of a study: fronts of each pair of objectives, parallel coordinates, convergence, importance, all trials.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tandem/report/study.h"

namespace tandem::report {

// `up` leads from the page's folder to the study's: "" when it lies there; with `linked` false designs are not linked.
std::string study_page(const Study& s, bool linked = true, std::string_view up = "", std::string_view more_script = "");

// After trial i (from 1): the share of the box between the worst and the best feasible value of every objective that
// some trial so far dominates. Two objectives: exact; more: over 4,096 points of a Halton sequence. One objective: the
// best value so far, as it is. Only where it changes, and the last trial. Empty without feasible trials.
std::vector<std::pair<double, double>> convergence(const Study& s);

// Share of the variance of `metric` over the feasible trials that each parameter explains by itself, corrected for
// chance (omega squared, Hays 1963, not below 0), parameters in the order of the space. A parameter of more than 20
// values is cut into ten classes of equal size.
std::vector<std::pair<std::string, double>> importance(const Study& s, std::string_view metric);

}  // namespace tandem::report
