// Pages of `tandem explain`: what an error means, why it is one, and what to do.
#pragma once
#include <span>
#include <string_view>
#include <vector>

#include "tandem/base/error.h"

namespace tandem::cli {

struct Topic {
  std::string_view name;
  std::string_view summary;                // one line
  std::string_view page;                   // a few paragraphs
  std::vector<std::string_view> phrases;   // parts of messages that this page explains
};
std::span<const Topic> topics();
// The page for an error, nullptr when there is none: the last line of a message points to it.
const Topic* topic_of(const Error& e);

}  // namespace tandem::cli
