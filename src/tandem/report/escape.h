// One writer per format: every name of a user's model, file or study passes through one of these on its way
// into a page. Control characters, invalid UTF-8 and characters that turn the direction of text are made visible
// (tandem::printable) in each of them.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace tandem::report {

// Text between tags, of HTML and of SVG; also safe inside a double-quoted attribute.
std::string html(std::string_view s);
// A double-quoted JSON string that may stand in a script element: no '<', '>', '&', U+2028.
std::string json(std::string_view s);
// The shortest text of `digits` significant digits; null for NaN and infinities.
std::string json(double v, int digits = 7);
// A file below the page's folder as the address of a link, percent-encoded: never another host, scheme or an upper
// folder beyond `up`, a prefix of "../" parts that we made ourselves. nullopt when the path cannot be linked.
std::optional<std::string> link(std::string_view relative_path, std::string_view up = "");
// Lower-case letters, digits and hyphens, from any text; for the id of an element.
std::string slug(std::string_view s);

// A number for people: integers grouped by commas, other values with four significant digits.
std::string number(double v);

}  // namespace tandem::report
